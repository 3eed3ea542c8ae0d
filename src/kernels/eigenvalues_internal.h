/*
 * What the files of the eigenvalue solver share: its three stages, and the table of inner loops.
 */
#ifndef MUON_EIGENVALUES_INTERNAL_H
#define MUON_EIGENVALUES_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

enum {
	EIG_TILE = 96,     /* side of the tiles of the trailing matrix; a multiple of 24 */
	EIG_MAX_BAND = 32, /* bandwidths are 16 or this: chase_step is compiled for each */
	EIG_LANES = 16,    /* shifts per evaluation of the minors */
	EIG_PAD = 16       /* doubles after a buffer that the inner loops may read but do not use */
};

/* a vector with a smaller squared norm is zero; entries are scaled to 1e-60..1e60 */
#define EIG_TINY_SQUARE 1e-290

/* described in eigenvalues_simd.c */
struct eig_kernels {
	void (*product_rows)(int64_t m, int64_t n, int64_t depth, const double *p, int64_t ldp,
			     const double *x, int64_t ldx, double *y, int64_t ldy);
	void (*product_columns)(int64_t m, int64_t n, int64_t depth, const double *p, int64_t ldp,
				const double *x, int64_t ldx, double *y, int64_t ldy);
	void (*update_tile)(int64_t m, int64_t n, int64_t depth, const double *left,
			    const double *right, double *a, int64_t lda, int write_back, int lower,
			    double *dst, int64_t ldd);
	void (*transpose)(int64_t m, int64_t n, const double *src, int64_t lds, const double *scale,
			  double *dst, int64_t ldd);
	void (*panel_qr)(int64_t m, int64_t b, double *p, int64_t ld, double *tau, double *scale,
			 double *x, double *u);
	void (*chase_step)(int64_t b, double *d, int64_t s, double *v, double *tau);
	void (*minors_value)(int64_t n, const double *d, const double *e2, const double *shift,
			     double *value, int64_t *exponent);
	void (*minors_count)(int64_t n, const double *d, const double *e2, const double *shift,
			     double *value, int64_t *exponent, int64_t *count);
};

/* the table for this machine, or NULL if it lacks the vector instructions */
const struct eig_kernels *muon_eig_kernels(void);

/*
 * Band storage: a(i, j), j <= i, at band[j*stride + i], with stride = 2b + 8: room for the bulges
 * (2b - 1 subdiagonals) and the padding that chase_step writes.  Rows and columns n to n + 3b are
 * zero, so that every block is a full one.
 */
static inline int64_t muon_band_stride(int64_t b)
{
	return 2 * b + 8;
}

size_t muon_band_size(int64_t n, int64_t b);

/* a: n x n, lower triangle, destroyed; band: muon_band_size doubles, zero on entry */
size_t muon_band_reduction_workspace(int64_t n, int64_t b);
void muon_band_reduction(const struct eig_kernels *k, int64_t n, int64_t b, double *a, int64_t lda,
			 double *band, double *work);

/* band, bandwidth b, to tridiagonal: d n diagonal, e n - 1 off-diagonal */
void muon_bulge_chasing(const struct eig_kernels *k, int64_t n, int64_t b, double *band, double *d,
			double *e);

/* w: eigenvalues, ascending, of the tridiagonal matrix d, e; d is destroyed */
size_t muon_tridiagonal_workspace(int64_t n);
void muon_tridiagonal_eigenvalues(const struct eig_kernels *k, int64_t n, double *d,
				  const double *e, double *w, double *work);

#endif
