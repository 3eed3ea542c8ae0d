/*
 * Eigenvalues, without vectors, of a dense real symmetric matrix, on one thread.
 *
 * Dense -> band -> tridiagonal by successive band reduction (Bischof, Lang, Sun 2000; Haidar,
 * Ltaief, Dongarra 2011), then the roots of the characteristic polynomial from the sequence of
 * leading minors (Barth, Martin, Wilkinson 1967).  Errors are a modest multiple of eps |A|.
 */
#ifndef MUON_KERNELS_EIGENVALUES_H
#define MUON_KERNELS_EIGENVALUES_H

#include <stddef.h>
#include <stdint.h>

/* doubles of workspace that muon_eigenvalues needs for an n x n matrix: O(n) columns of a band */
size_t muon_eigenvalues_workspace(int64_t n);

/*
 * a: n x n, column-major, leading dimension lda >= n; the lower triangle is read and destroyed, the
 *    strict upper triangle neither read nor written
 * w: n eigenvalues, ascending
 * work: muon_eigenvalues_workspace(n) doubles
 *
 * The same input gives the same bits on the same machine.  Reentrant.  Returns 0, or
 * MUON_E_NO_CONVERGENCE when an entry is infinite or not a number.
 */
int muon_eigenvalues(int64_t n, double *a, int64_t lda, double *w, double *work);

#endif
