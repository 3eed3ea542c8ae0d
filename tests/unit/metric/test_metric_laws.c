/* What must happen to each metric when its matrix is scaled, transposed or rotated. */
#include "unit/metric/spectra.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How a value changes for W -> -W/8 (a power of two: all bits are kept), for W^T, and for Q W with
 * an orthogonal Q. */
typedef struct scaling_law {
	const char *metric;
	int degree;      /* value of cW is |c|^degree times that of W */
	bool odd;        /* and changes sign with c */
	bool transpose;  /* the same for W^T; else multiplied with (cols/rows)^(+-1/2), see below */
	bool rotation;   /* the same for Q W */
} scaling_law;

static const scaling_law laws[] = {
	{"rms", 1, false, true, true},
	{"max_abs", 1, false, true, false},
	{"mean", 1, true, true, false},
	{"std", 1, false, true, false},
	{"excess_kurtosis", 0, false, true, false},
	{"zero_fraction", 0, false, true, false},
	{"frobenius_norm", 1, false, true, true},
	{"spectral_norm", 1, false, true, true},
	{"nuclear_norm", 1, false, true, true},
	{"sigma_min", 1, false, true, true},
	{"condition_number", 0, false, true, true},
	{"sigma_floor", 1, false, true, true},
	{"svd_entropy", 0, false, true, true},
	{"svd_entropy_excess", 0, false, true, true},
	{"effective_rank", 0, false, true, true},
	{"stable_rank", 0, false, true, true},
	{"participation_ratio", 0, false, true, true},
	{"numerical_rank", 0, false, true, true},
	{"mp_edge_ratio", 0, false, true, false}, /* std of the entries: the mean may change */
	{"mp_spikes", 0, false, true, false},
	{"alpha", 0, false, true, true},
	{"alpha_xmin", 2, false, true, true},
	{"alpha_ks", 0, false, true, true},
	{"alpha_tail", 0, false, true, true},
	{"alpha_sigma", 0, false, true, true},
	{"ww_entropy", 0, false, true, true},
	{"output_rms", 1, false, false, true},
	{"output_rms_max", 1, false, false, true},
	{"bf16_rel_error", 0, false, true, false},
	{"bf16_exact_fraction", 0, false, true, false},
};
enum { LAWS = sizeof laws / sizeof *laws, ROWS = 90, COLS = 70 };

/* Rows and columns of falling size, so that the spectrum has a power-law tail; a few zeros. */
static double *matrix(void)
{
	double *a = gaussian_matrix(ROWS, COLS, 12);
	for (int i = 0; i < ROWS; i++)
		for (int j = 0; j < COLS; j++)
			a[i * COLS + j] *= (i * j) % 11 == 5 ? 0 : 1.0 / (j + 1);
	return a;
}

static void check(const char *what, const scaling_law *law, const mspec_spectrum *changed,
                  const mspec_spectrum *original, double factor, double tolerance)
{
	mspec_metric_value a = metric_of(law->metric, changed), b = metric_of(law->metric, original);
	char label[80];
	CU_ASSERT_FATAL(isfinite(b.value)); /* or the law would say nothing */
	snprintf(label, sizeof label, "%s of the %s matrix", law->metric, what);
	unit_close(a.value, b.value * factor, tolerance, label, __FILE__, __LINE__);
	CU_ASSERT_PTR_EQUAL(a.note, b.note);
}

static void test_complete(void)
{
	CU_ASSERT_EQUAL_FATAL((size_t)LAWS, mspec_metric_count());
	for (size_t i = 0; i < LAWS; i++)
		CU_ASSERT_STRING_EQUAL(laws[i].metric, mspec_metric_at(i)->name);
}

static void test_scale(void)
{
	double *a = matrix();
	test_spectrum original = spectrum_of(ROWS, COLS, a, NULL);
	for (int i = 0; i < ROWS * COLS; i++)
		a[i] *= -0.125;
	test_spectrum scaled = spectrum_of(ROWS, COLS, a, NULL);
	for (int i = 0; i < LAWS; i++) {
		double factor = pow(0.125, laws[i].degree) * (laws[i].odd ? -1 : 1);
		check("scaled", &laws[i], &scaled.spectrum, &original.spectrum, factor, 1e-12);
	}
	spectrum_release(&scaled);
	spectrum_release(&original);
	free(a);
}

static void test_transpose(void)
{
	double *a = matrix(), *t = malloc(ROWS * COLS * sizeof *t);
	for (int i = 0; i < ROWS; i++)
		for (int j = 0; j < COLS; j++)
			t[j * ROWS + i] = a[i * COLS + j];
	test_spectrum original = spectrum_of(ROWS, COLS, a, NULL);
	test_spectrum transposed = spectrum_of(COLS, ROWS, t, NULL);
	for (int i = 0; i < LAWS; i++) {
		/* ||W||/sqrt(rows) and s_1 sqrt(cols/rows) know which side is the output */
		double side = ROWS / (double)COLS;
		double factor = laws[i].transpose                        ? 1
		                : !strcmp(laws[i].metric, "output_rms") ? sqrt(side)
		                                                         : side;
		check("transposed", &laws[i], &transposed.spectrum, &original.spectrum, factor, 1e-11);
	}
	spectrum_release(&transposed);
	spectrum_release(&original);
	free(t);
	free(a);
}

/* A Householder reflection from the left. The others must really change, or the table is wrong. */
static void test_rotation(void)
{
	double *a = matrix(), *v = gaussian_matrix(ROWS, 1, 3), norm = 0;
	test_spectrum original = spectrum_of(ROWS, COLS, a, NULL);
	for (int i = 0; i < ROWS; i++)
		norm += v[i] * v[i];
	for (int j = 0; j < COLS; j++) {
		double dot = 0;
		for (int i = 0; i < ROWS; i++)
			dot += v[i] * a[i * COLS + j];
		for (int i = 0; i < ROWS; i++)
			a[i * COLS + j] -= 2 * v[i] * dot / norm;
	}
	test_spectrum rotated = spectrum_of(ROWS, COLS, a, NULL);
	for (int i = 0; i < LAWS; i++)
		if (laws[i].rotation)
			check("rotated", &laws[i], &rotated.spectrum, &original.spectrum, 1, 1e-11);
	static const char *const changing[] = {"max_abs", "mean", "excess_kurtosis", "zero_fraction",
	                                       "bf16_rel_error"};
	for (size_t i = 0; i < sizeof changing / sizeof *changing; i++)
		CU_ASSERT(metric_of(changing[i], &rotated.spectrum).value !=
		          metric_of(changing[i], &original.spectrum).value);
	spectrum_release(&rotated);
	spectrum_release(&original);
	free(v);
	free(a);
}

/* Metrics that don't ask for the entries may not look at them. */
static void test_sigma_alone(void)
{
	double *a = matrix();
	test_spectrum original = spectrum_of(ROWS, COLS, a, NULL);
	mspec_spectrum bare = original.spectrum;
	bare.moments = (muon_moments){0};
	for (size_t i = 0; i < mspec_metric_count(); i++)
		if (!(mspec_metric_at(i)->needs & MSPEC_NEEDS_ENTRIES))
			check("bare", &laws[i], &bare, &original.spectrum, 1, 0);
	spectrum_release(&original);
	free(a);
}

UNIT_SUITE(metric_laws, {"a law for every metric", test_complete}, {"scale", test_scale},
           {"transpose", test_transpose}, {"rotation", test_rotation},
           {"spectrum alone", test_sigma_alone})
