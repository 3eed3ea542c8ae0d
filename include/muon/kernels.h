/* Dense kernels that the optimizer and the diagnostics share: element types, entry statistics,
 * Gram matrices, singular values and Newton-Schulz orthogonalisation.
 *
 * Kernels return a code and nothing else, keep no state, and allocate nothing: the caller passes
 * workspace of the size that the *_workspace function asks for. The exception is muon_gram_add_*
 * with more than one thread: it starts those threads and joins them, and allocates what they need,
 * a few hundred bytes; with less memory it runs on fewer. Call kernels with BLAS at one thread
 * (muon_blas_single_thread) when results must not depend on the machine's thread count. */
#ifndef MUON_KERNELS_H
#define MUON_KERNELS_H

#include <muon/error.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- element types ---------------------------------------------------------------------- */

/* name, label as printed, bytes per element, is it a floating-point type, NumPy's eps (spacing
 * of the type at 1; 0 for integers) */
#define MUON_DTYPE_TABLE(X)                                                                        \
	X(MUON_F64, "f64", 8, true, 0x1p-52)                                                       \
	X(MUON_F32, "f32", 4, true, 0x1p-23)                                                       \
	X(MUON_F16, "f16", 2, true, 0x1p-10)                                                       \
	X(MUON_BF16, "bf16", 2, true, 0x1p-7)                                                      \
	X(MUON_F8_E4M3, "f8_e4m3", 1, true, 0x1p-3)                                                \
	X(MUON_F8_E5M2, "f8_e5m2", 1, true, 0x1p-2)                                                \
	X(MUON_I64, "i64", 8, false, 0)                                                            \
	X(MUON_I32, "i32", 4, false, 0)                                                            \
	X(MUON_I16, "i16", 2, false, 0)                                                            \
	X(MUON_I8, "i8", 1, false, 0)                                                              \
	X(MUON_U64, "u64", 8, false, 0)                                                            \
	X(MUON_U32, "u32", 4, false, 0)                                                            \
	X(MUON_U16, "u16", 2, false, 0)                                                            \
	X(MUON_U8, "u8", 1, false, 0)                                                              \
	X(MUON_BOOL, "bool", 1, false, 0)

#define MUON_DTYPE_ENUM(name, label, size, is_float, eps) name,
typedef enum muon_dtype {
	MUON_DTYPE_TABLE(MUON_DTYPE_ENUM) MUON_DTYPE_COUNT,
	MUON_DTYPE_NONE = MUON_DTYPE_COUNT /* not a number type that we know */
} muon_dtype;
#undef MUON_DTYPE_ENUM

MUON_API const char *muon_dtype_name(muon_dtype type);  /* "f32"; "?" for NONE */
MUON_API size_t muon_dtype_size(muon_dtype type);       /* bytes; 0 for NONE */
MUON_API bool muon_dtype_is_float(muon_dtype type);
MUON_API double muon_dtype_eps(muon_dtype type);        /* 2^-23 for f32 */

/* Convert `count` elements at `src` (native byte order, any alignment) to float64; exact for every
 * floating type, NaN and Inf kept. f8_e4m3 is the "fn" variant of OCP FP8 (no Inf, S.1111.111 is
 * NaN). */
MUON_API int muon_convert_f64(muon_dtype type, const void *src, size_t count, double *dst);

/* Nearest bf16 of x, ties to even, as float64: what storing x in bf16 would keep. */
MUON_API double muon_round_bf16(double x);

/* ---- entry statistics ------------------------------------------------------------------- */

/* Statistics of a matrix' entries, gathered block by block. Non-finite entries are counted and
 * left out of the rest. Central moments after Pebay 2008 (SAND2008-6212). Zero-initialise. Sums
 * that overflow, for float64 entries beyond 1e75 (m4) or 1e153 (m2, sumsq), end as Inf or NaN;
 * every float32 is within range. bf16_error_sq is Inf if an entry is beyond bf16's range. */
typedef struct muon_moments {
	int64_t count;        /* finite entries */
	int64_t nan, inf;     /* entries left out */
	int64_t zeros;        /* entries equal to 0 */
	int64_t bf16_exact;   /* entries that bf16 holds exactly */
	double max_abs;       /* largest |x| */
	double mean;          /* of x */
	double m2, m3, m4;    /* sums of (x - mean)^2, ^3, ^4 */
	double sumsq;         /* sum of x^2 */
	double bf16_error_sq; /* sum of (x - bf16(x))^2 */
} muon_moments;

/* Add `count` float64 entries x to the statistics. Same bits for the same sequence of calls, and
 * however they are divided at multiples of 2048 entries. */
MUON_API void muon_moments_add(muon_moments *moments, const double *x, size_t count);

/* ---- singular values -------------------------------------------------------------------- */

/* The method a spectrum was computed with. */
typedef enum muon_svd_method { MUON_SVD_GRAM, MUON_SVD_GESDD } muon_svd_method;

/* A Gram accumulation in progress: G = A^T A (n x n) for rows >= cols, else G = A A^T (m x m),
 * of the short side k = min(rows, cols), in float64, with the entry statistics gathered in the
 * same pass. Blocks may come in any of the stored types. All buffers are the caller's. */
typedef struct muon_gram {
	int64_t rows, cols;      /* A is rows x cols, row-major */
	int64_t k;               /* min(rows, cols) */
	double scale;            /* power of two that entries are multiplied with, normally 1 */
	const double *gain;      /* optional weights g, see muon_gram_init */
	bool gain_on_rows;
	double gain_sumsq;       /* sum of (x_ij g)^2 with g = gain[j], or gain[i] on rows */
	bool entries_only;       /* gather statistics alone: there is no G */
	int threads;             /* set after init: threads for the product, same bits for any number;
	                            0 means 1 */
	muon_moments moments;    /* of A, unscaled */
	double *g;               /* k x k, column-major, lower triangle valid */
	double *part;            /* k x k, product of one panel; NULL unless k is small */
	double *panel;           /* conversion panel */
} muon_gram;

/* Doubles of workspace for muon_gram_init: k*k, twice that where k is small, and one panel.
 * SIZE_MAX means that the size overflows. */
MUON_API size_t muon_gram_workspace(int64_t rows, int64_t cols);

/* Start an accumulation over A (rows x cols, row-major). `scale` is a power of two, 1 unless the
 * squares of float64 entries could over- or underflow (muon_gram_scale). `gain`, if not NULL, has
 * cols entries (or rows entries when gain_on_rows) and makes gain_sumsq be gathered.
 * MUON_E_ARGUMENT for a non-positive size, MUON_E_TOO_LARGE where the workspace overflows. */
MUON_API int muon_gram_init(muon_gram *gram, int64_t rows, int64_t cols, double scale,
                            const double *gain, bool gain_on_rows, double *workspace);

/* The same for the statistics of the entries alone, with less workspace: one panel.
 * muon_gram_singular_values then answers MUON_E_ARGUMENT. */
MUON_API size_t muon_gram_entries_workspace(int64_t rows, int64_t cols);
MUON_API int muon_gram_init_entries(muon_gram *gram, int64_t rows, int64_t cols, const double *gain,
                                    bool gain_on_rows, double *workspace);

/* Power of two by which entries up to max_abs are scaled so that squares neither over- nor
 * underflow; 1 for everything that float32 can hold. */
MUON_API double muon_gram_scale(double max_abs);

/* Add rows [first, first + count) of A: `block` is count x cols, row-major, leading dimension
 * ld >= cols elements, of type `type`. For matrices with rows >= cols, in increasing order;
 * MUON_E_ARGUMENT for any other block than the next. */
MUON_API int muon_gram_add_rows(muon_gram *gram, muon_dtype type, const void *block, int64_t first,
                                int64_t count, int64_t ld);

/* Add columns [first, first + count) of A: `block` is rows x count, row-major, leading dimension
 * ld >= count elements. For matrices with rows < cols, in increasing order. */
MUON_API int muon_gram_add_cols(muon_gram *gram, muon_dtype type, const void *block, int64_t first,
                                int64_t count, int64_t ld);

/* Rows (columns of a wide matrix) that one call best brings: the panel's depth. Blocks that start
 * at multiples of it give the same bits as one block. */
MUON_API int64_t muon_gram_panel_depth(int64_t rows, int64_t cols);

/* Doubles of workspace for muon_gram_singular_values; SIZE_MAX where the size overflows. */
MUON_API size_t muon_gram_singular_values_workspace(int64_t k);

/* Singular values of A out of its finished Gram matrix, descending, into sigma (k entries).
 * Destroys gram->g. *sigma_floor receives the size under which values are rounding noise; values
 * below it are returned as computed (0 where the eigenvalue came out negative).
 * MUON_E_NONFINITE if entries were NaN or Inf; MUON_E_ARGUMENT if some were not added, or their
 * squares overflowed for want of a scale; MUON_E_NO_CONVERGENCE. */
MUON_API int muon_gram_singular_values(muon_gram *gram, double *sigma, double *sigma_floor,
                                       double *workspace);

/* Doubles of workspace for muon_singular_values_gesdd, the copy of A excluded; SIZE_MAX where
 * LAPACK's 32-bit sizes overflow. */
MUON_API size_t muon_singular_values_gesdd_workspace(int64_t rows, int64_t cols);

/* Singular values of a (rows x cols float64, row-major, contiguous, destroyed), descending, into
 * sigma (min(rows, cols) entries), by LAPACK's dgesdd. Keeps small values that the Gram matrix
 * loses; several times slower. MUON_E_NONFINITE, MUON_E_TOO_LARGE for LAPACK's 32-bit sizes,
 * MUON_E_NO_CONVERGENCE. */
MUON_API int muon_singular_values_gesdd(int64_t rows, int64_t cols, double *a, double *sigma,
                                        double *sigma_floor, double *workspace);

/* Eigenvalues only of a symmetric a (n x n float64, column-major, leading dimension lda, lower
 * triangle read and destroyed, the strict upper untouched), ascending, into w. Two-stage reduction,
 * dense to band to tridiagonal (Bischof, Lang and Sun 2000; Haidar, Ltaief and Dongarra 2011), then
 * the roots of the characteristic polynomial from the sequence of leading minors (Barth, Martin and
 * Wilkinson 1967). Errors are a modest multiple of eps |A|; the same bits on the same machine.
 * MUON_E_NONFINITE, MUON_E_NO_CONVERGENCE. */
MUON_API size_t muon_eigenvalues_workspace(int64_t n);
MUON_API int muon_eigenvalues(int64_t n, double *a, int64_t lda, double *w, double *work);

/* ---- spectra by block Krylov iteration --------------------------------------------------- */

/* What a few products with a matrix tell of its spectrum, at a fraction of a decomposition's cost. */
typedef struct muon_krylov {
	double sumsq;       /* sum of x^2, exact but for rounding */
	double sigma_first; /* largest singular value; from below, 1 or 2 per cent off at the most */
	double entropy;     /* -sum p ln p / ln k with p = sigma^2 / sumsq, within about 0.005; NaN for
	                       k < 2 and for zero matrices */
	int vectors;        /* singular vectors found: the number asked for, or the rank */
} muon_krylov;

/* Doubles of workspace for muon_krylov_spectrum; SIZE_MAX where LAPACK's 32-bit sizes overflow. */
MUON_API size_t muon_krylov_workspace(int64_t rows, int64_t cols);

/* Estimate the spectrum of a (rows x cols float32, row-major, leading dimension ld >= cols), k its
 * short side, by block Lanczos with a fixed random start (Golub and Underwood 1977): Ritz values
 * that have converged are counted once each, the others weighted as in stochastic Lanczos
 * quadrature (Ubaru, Chen and Saad 2017) so that their number and their sum are right. With
 * `vectors` > 0, at most MUON_KRYLOV_VECTORS, iterate on for that many leading singular vectors:
 * left (rows x vectors) and right (cols x vectors), row-major, columns past the rank zero.
 * The same bits for the same matrix. MUON_E_ARGUMENT, MUON_E_NONFINITE, MUON_E_NO_CONVERGENCE. */
enum { MUON_KRYLOV_VECTORS = 8 };
MUON_API int muon_krylov_spectrum(muon_krylov *result, int64_t rows, int64_t cols, const float *a,
                                  int64_t ld, int vectors, float *left, float *right,
                                  double *workspace);

/* ---- Newton-Schulz orthogonalisation ----------------------------------------------------- */

/* One step X <- a X + (b S + c S^2) X with S = X X^T; p(s) = a s + b s^3 + c s^5 acts on each
 * singular value. */
typedef struct muon_quintic {
	double a, b, c;
} muon_quintic;

enum { MUON_NS_MAX_STEPS = 20 };

/* The polynomials of an orthogonalisation, in order, and what the norm is multiplied with first:
 * X_0 = M / (norm_factor |M|_F). */
typedef struct muon_coefficients {
	int steps; /* 1 .. MUON_NS_MAX_STEPS */
	double norm_factor;
	muon_quintic step[MUON_NS_MAX_STEPS];
} muon_coefficients;

/* The table `name` for so many steps (0: as many as its authors use): "jordan", "you5",
 * "polar_express", "cans", "aol", "deepseek_v4". Where a table has fewer rows, the last is repeated;
 * "deepseek_v4" ends on its two last rows whatever the count, and "polar_express" for 5 steps is the
 * table that was made for 5 (norm_factor 1.02). "aol" has norm_factor 1.2: with 1 its first
 * polynomial would turn round singular values above 0.884. MUON_E_USAGE for another name or
 * count. */
MUON_API int muon_coefficients_named(muon_coefficients *coefficients, const char *name, int steps);

/* Names of the tables, NULL-terminated. */
MUON_API const char *const *muon_coefficients_names(void);

/* What the iteration makes of a singular value s of X_0, in float64. */
MUON_API double muon_coefficients_apply(const muon_coefficients *coefficients, double s);

/* Reach of the iteration: the smallest singular value, over |M|_F, from which on all up to 1 end at
 * 0.68 or more (0.0015 for five steps of "jordan"). */
MUON_API double muon_coefficients_reach(const muon_coefficients *coefficients);

/* Arithmetic of the matrix products. */
typedef enum muon_precision {
	MUON_PRECISION_F32,
	MUON_PRECISION_BF16,          /* bf16 operands, float32 accumulation, by oneDNN */
	MUON_PRECISION_BF16_EMULATED, /* the same numbers rounded by hand, in float32 products */
	MUON_PRECISION_F64            /* for reference: input and output are float64 */
} muon_precision;
MUON_API const char *muon_precision_name(muon_precision precision); /* "f32", "bf16", ... */

/* Can products be computed in this precision here? When not, *why (if not NULL) says what is
 * missing: oneDNN at build time, or the CPU's instructions. */
MUON_API bool muon_precision_available(muon_precision precision, const char **why);

/* Which products are formed; all give the same result up to rounding. */
typedef enum muon_ns_form {
	MUON_NS_AUTO,      /* the cheapest by flop count */
	MUON_NS_PLAIN,     /* three general products a step */
	MUON_NS_SYMMETRIC, /* S and S^2 as symmetric products */
	MUON_NS_GRAM       /* iterate on the m x m Gram matrix with restarts; for long matrices; in
	                      float32 1e-5 off in Gaussian matrices as the others are, and up to
	                      1e-3, ten times the others' error, in those of low rank */
} muon_ns_form;

/* How one shape is orthogonalised: form, blocking, oneDNN primitives. Immutable once made, and may
 * be used by several threads at a time, each with its workspace. */
typedef struct muon_ns_plan muon_ns_plan;

/* Plan for rows x cols matrices. MUON_E_ARGUMENT for a bad size, or coefficients that let singular
 * values diverge or become negative; MUON_E_UNSUPPORTED for a precision that is not available here,
 * and for MUON_NS_GRAM in bf16, which it does not survive; MUON_E_TOO_LARGE, MUON_E_MEMORY. */
MUON_API int muon_ns_plan_create(muon_ns_plan **out, int64_t rows, int64_t cols,
                                 const muon_coefficients *coefficients, muon_precision precision,
                                 muon_ns_form form);
MUON_API void muon_ns_plan_destroy(muon_ns_plan **plan);

/* Let each orthogonalisation by this plan use so many threads (1 as created), for a matrix that is
 * alone; the same bits for any number. Call it before muon_ns_workspace, whose answer may depend on
 * it, and before others use the plan. */
MUON_API void muon_ns_plan_set_threads(muon_ns_plan *plan, int threads);

MUON_API size_t muon_ns_workspace(const muon_ns_plan *plan);   /* bytes, to be aligned to 64 */
MUON_API double muon_ns_flops(const muon_ns_plan *plan);       /* multiplications and additions */
MUON_API muon_ns_form muon_ns_plan_form(const muon_ns_plan *plan); /* what AUTO chose */

/* Orthogonalise m (rows x cols, row-major, leading dimension ld >= cols; float32, or float64 for
 * MUON_PRECISION_F64) into o (leading dimension ldo; may be m itself). m is only read otherwise.
 * The norm is formed in float64 with the entries scaled, so no finite non-zero m loses its
 * direction; o = 0 for m = 0. MUON_E_NONFINITE for NaN or Inf in m, with o as it was. Allocates
 * nothing, but for OpenBLAS' buffer at a process' first product, the stacks of more threads than
 * one, and, where oneDNN multiplies, its own records: for each of some hundred blocks about 14, of
 * 20 kB together, released again; five of them are its own and can't be avoided. */
MUON_API int muon_newton_schulz(const muon_ns_plan *plan, const void *m, int64_t ld, void *o,
                                int64_t ldo, void *workspace);

/* |O O^T - I|_F / sqrt(k) over the short side k of o (rows x cols float32, or float64 where
 * is_f64): 0 for an orthogonal factor. Workspace: k * k elements of that type. */
MUON_API double muon_orthogonality_error(int64_t rows, int64_t cols, const void *o, int64_t ldo,
                                         bool is_f64, void *workspace);

/* ---- BLAS ------------------------------------------------------------------------------- */

/* Name and version of the BLAS in use, e.g. "OpenBLAS 0.3.21 (Zen)". */
MUON_API const char *muon_blas_description(void);

/* Is there address space for `threads` threads to call BLAS at a time, beside `bytes` of the
 * caller's? OpenBLAS retries for ever when it can't have the 128 MiB that each of them takes. */
MUON_API bool muon_blas_has_room(int threads, double bytes);

/* GFLOP/s of float32 products of 1024 x 1024 matrices, one on each of `threads` threads at a time
 * (BLAS itself at one): what this machine can reach. The best of a few trials, about a quarter of a
 * second; 0 when out of memory. *processor_rate (may be NULL) is the same by processor time, for
 * machines that are shared with others. */
MUON_API double muon_sgemm_rate(int threads, double *processor_rate);

/* Make BLAS use one thread in this process: parallelism is over matrices (see design rules). */
MUON_API void muon_blas_single_thread(void);

#ifdef __cplusplus
}
#endif
#endif
