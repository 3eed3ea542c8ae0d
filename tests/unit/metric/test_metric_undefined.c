/* Values that do not exist are NaN and say why; values to be wary of carry a note. */
#include "unit/metric/spectra.h"
#include "unit/unit.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void undefined(const char *name, const mspec_spectrum *spectrum, const char *note)
{
	mspec_metric_value value = metric_of(name, spectrum);
	CU_ASSERT(isnan(value.value));
	CU_ASSERT_PTR_NOT_NULL_FATAL(value.note);
	if (note && !strstr(value.note, note))
		fprintf(stderr, "%s: '%s', expected '%s'\n", name, value.note, note);
	CU_ASSERT(!note || strstr(value.note, note));
}

static void valued(const char *name, const mspec_spectrum *spectrum, double expected,
                   const char *note)
{
	mspec_metric_value value = metric_of(name, spectrum);
	unit_close(value.value, expected, 1e-13, name, __FILE__, __LINE__);
	CU_ASSERT(note ? value.note && strstr(value.note, note) : !value.note);
}

/* Every row: a value that is not finite never goes without a note, and Inf never appears. */
static void check_all(const mspec_spectrum *spectrum)
{
	for (size_t i = 0; i < mspec_metric_count(); i++) {
		const char *name = mspec_metric_at(i)->name;
		mspec_metric_value value = metric_of(name, spectrum);
		if (isinf(value.value) || (isnan(value.value) && !value.note))
			fprintf(stderr, "%s is %g without a note\n", name, value.value);
		CU_ASSERT(isfinite(value.value) || (isnan(value.value) && value.note && *value.note));
	}
}

static void test_zero_matrix(void)
{
	static const double a[6] = {0}, sigma[2] = {0};
	test_spectrum t = spectrum_of(2, 3, a, sigma);
	const mspec_spectrum *s = &t.spectrum;
	check_all(s);
	static const char *const zeros[] = {
		"rms", "max_abs", "mean", "std", "frobenius_norm", "spectral_norm", "nuclear_norm",
		"sigma_min", "sigma_floor", "numerical_rank", "output_rms", "output_rms_max"};
	for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++)
		valued(zeros[i], s, 0, NULL);
	static const char *const none[] = {
		"condition_number", "svd_entropy", "svd_entropy_excess", "effective_rank", "stable_rank",
		"participation_ratio", "mp_edge_ratio", "mp_spikes", "alpha", "ww_entropy",
		"bf16_rel_error"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		undefined(none[i], s, "zero matrix");
	valued("zero_fraction", s, 1, NULL);
	valued("bf16_exact_fraction", s, 1, NULL);
	undefined("excess_kurtosis", s, "equal");
}

static void test_one_value(void)
{
	static const double a[] = {3, 4}, sigma[] = {5};
	test_spectrum t = spectrum_of(1, 2, a, sigma);
	const mspec_spectrum *s = &t.spectrum;
	check_all(s);
	undefined("svd_entropy", s, "0/0");
	undefined("svd_entropy_excess", s, "0/0");
	undefined("ww_entropy", s, "ln 1 = 0");
	valued("effective_rank", s, 1, NULL);
	valued("stable_rank", s, 1, NULL);
	valued("participation_ratio", s, 1, NULL);
	valued("numerical_rank", s, 1, NULL);
	valued("condition_number", s, 1, NULL);
}

static void test_constant(void)
{
	/* as the mean of a million entries 0.1 would leave it */
	static const double a[] = {0.1, 0.1, 0.1, 0.1}, sigma[] = {0.2, 0};
	test_spectrum t = spectrum_of(2, 2, a, sigma);
	t.spectrum.moments.m2 = 4e-34;
	t.spectrum.moments.m4 = 4e-68;
	valued("std", &t.spectrum, 0, NULL);
	undefined("excess_kurtosis", &t.spectrum, "equal");
	undefined("mp_edge_ratio", &t.spectrum, "equal");
	undefined("mp_spikes", &t.spectrum, "equal");
	check_all(&t.spectrum);
}

static void test_nonfinite(void)
{
	static const double a[] = {1, 2, 3, 4};
	test_spectrum t = spectrum_of(2, 2, a, NULL);
	for (int k = 0; k < 2; k++) {
		mspec_spectrum bad = t.spectrum;
		*(k ? &bad.moments.inf : &bad.moments.nan) = 1;
		for (size_t i = 0; i < mspec_metric_count(); i++)
			undefined(mspec_metric_at(i)->name, &bad, "NaN or Inf");
	}
	spectrum_release(&t);
}

/* Rank 2 of 4, with what a Gram matrix leaves of the zeros. */
static void test_noise(void)
{
	static const double sigma[] = {4, 3, 2e-8, 0};
	test_spectrum t = spectrum_of_sigma(4, 5, sigma);
	mspec_spectrum *s = &t.spectrum;
	s->sigma_floor = 5e-8;
	s->method = MUON_SVD_GRAM;
	check_all(s);
	valued("nuclear_norm", s, 7, "taken as 0");
	valued("effective_rank", s, exp(-4 / 7.0 * log(4 / 7.0) - 3 / 7.0 * log(3 / 7.0)), "taken as 0");
	valued("sigma_min", s, 0, "noise");
	undefined("condition_number", s, "gesdd");
	valued("numerical_rank", s, 2, NULL);
	double entropy = -0.64 * log(0.64) - 0.36 * log(0.36);
	valued("svd_entropy", s, entropy / log(4), NULL);
	valued("stable_rank", s, 1.5625, NULL);
	valued("ww_entropy", s, entropy / log(4), "counted in the rank");
	s->dtype = MUON_F64;
	valued("numerical_rank", s, 2, "decided by sigma_floor");

	/* gesdd sees them for what they are */
	s->method = MUON_SVD_GESDD;
	s->sigma_floor = 4e-15;
	valued("numerical_rank", s, 3, NULL);
	valued("nuclear_norm", s, 7 + 2e-8, "taken as 0");
	valued("ww_entropy", s,
	       metric_of("svd_entropy", s).value * log(4) / log(3), NULL);
	undefined("condition_number", s, "working precision");

	/* the floor itself counts as noise */
	s->sigma_floor = 3;
	valued("nuclear_norm", s, 4, "taken as 0");
	s->count = 2;
	undefined("condition_number", s, "working precision");
	valued("sigma_min", s, 3, "noise");
	s->count = 4;

	/* nothing but noise */
	s->sigma_floor = 5;
	check_all(s);
	undefined("svd_entropy", s, "above sigma_floor");
	valued("nuclear_norm", s, 0, "taken as 0");
}

/* NumPy's rule with the eps of the stored type. */
static void test_numerical_rank(void)
{
	static const double sigma[] = {1, 0.5, 0.02, 1e-6};
	test_spectrum t = spectrum_of_sigma(4, 4, sigma);
	mspec_spectrum *s = &t.spectrum;
	valued("numerical_rank", s, 4, NULL); /* float32: 4.8e-7 */
	s->dtype = MUON_F16;
	valued("numerical_rank", s, 3, NULL); /* 3.9e-3 */
	s->dtype = MUON_BF16;
	valued("numerical_rank", s, 2, NULL); /* 0.031 */
	s->cols = 100;
	valued("numerical_rank", s, 1, NULL); /* 0.78 */
	s->cols = 128;
	undefined("numerical_rank", s, "too coarse");
	s->dtype = MUON_F8_E5M2;
	s->cols = 4;
	undefined("numerical_rank", s, "too coarse");
	s->dtype = MUON_I32; /* no rounding of its own */
	valued("numerical_rank", s, 4, NULL);
}

/* float64 weights whose squares leave the range: right, or undefined with a note. */
static void test_extreme_scales(void)
{
	static const double a[] = {4, 0, 0, 3};
	for (int sign = -1; sign <= 1; sign += 2) {
		double scale = ldexp(1, sign * 700), sigma[] = {4 * scale, 3 * scale};
		test_spectrum t = spectrum_of(2, 2, a, sigma);
		mspec_spectrum *s = &t.spectrum;
		double overflow = sign > 0 ? INFINITY : 0;
		s->moments.max_abs *= scale;
		s->moments.mean *= scale;
		s->moments.sumsq = s->moments.m2 = s->moments.m4 = overflow;
		s->moments.bf16_error_sq = overflow;
		check_all(s);
		valued("frobenius_norm", s, 5 * scale, NULL);
		valued("rms", s, 2.5 * scale, NULL);
		valued("output_rms", s, 5 / sqrt(2) * scale, NULL);
		valued("stable_rank", s, 1.5625, NULL);
		valued("participation_ratio", s, 625.0 / 337, NULL);
		valued("condition_number", s, 4 / 3.0, NULL);
		undefined("std", s, "range");
		undefined("excess_kurtosis", s, "range");
		undefined("mp_edge_ratio", s, "range");
		undefined("bf16_rel_error", s, sign > 0 ? "largest bf16" : "range");
		s->sigma = NULL;
		undefined("rms", s, "range");
		s->has_gain = true;
		s->gain_sumsq = overflow;
		undefined("output_rms", s, "range");
	}
}

/* float64 weights near the largest: what leaves the range is never Inf, nor another number. */
static void test_overflow(void)
{
	static const double infinite[] = {INFINITY, 1e308}, large[] = {1.5e308, 1e308};
	test_spectrum t = spectrum_of_sigma(2, 2, infinite);
	t.spectrum.moments.max_abs = 1.7e308;
	check_all(&t.spectrum);
	for (size_t i = 0; i < mspec_metric_count(); i++)
		if (mspec_metric_at(i)->needs & MSPEC_NEEDS_SIGMA)
			undefined(mspec_metric_at(i)->name, &t.spectrum, "range");
	t = spectrum_of_sigma(2, 8, large);
	check_all(&t.spectrum);
	valued("spectral_norm", &t.spectrum, 1.5e308, NULL);
	undefined("nuclear_norm", &t.spectrum, "range");
	undefined("output_rms_max", &t.spectrum, "range");
}

static void test_gain(void)
{
	static const double a[] = {1, 2, 3, 4}, sigma[] = {5.4, 0.3};
	test_spectrum t = spectrum_of(2, 2, a, sigma);
	t.spectrum.has_gain = true;
	t.spectrum.gain_sumsq = NAN;
	undefined("output_rms", &t.spectrum, "gain of the norm before the matrix holds NaN or Inf");
	t.spectrum.gain_sumsq = INFINITY;
	undefined("output_rms", &t.spectrum, "range");
	t.spectrum.gain_sumsq = 8;
	valued("output_rms", &t.spectrum, 2, NULL);
}

/* One value holds nearly all: no digits may be lost to 1 - p. */
static void test_nearly_rank_one(void)
{
	static const double sigma[] = {1, 1e-5, 1e-7, 1e-160};
	test_spectrum t = spectrum_of_sigma(4, 4, sigma);
	long double p2 = 1e-10L, p3 = 1e-14L, total = 1 + p2 + p3;
	long double h = log1pl(p2 + p3) - (p2 * logl(p2) + p3 * logl(p3)) / total;
	UNIT_CLOSE(metric_of("svd_entropy", &t.spectrum).value, (double)(h / logl(4)), 1e-14);
	check_all(&t.spectrum);
	static const double far[] = {1e200, 1e-200}; /* the ratio itself is 0 */
	t = spectrum_of_sigma(2, 2, far);
	valued("svd_entropy", &t.spectrum, 0, NULL);
	valued("effective_rank", &t.spectrum, 1, NULL);
}

/* 1e-9 relative for 1e5 values: sums must not drift. The reference is long double, which valgrind
 * computes in 64 bits. */
static void test_many_values(void)
{
	enum { N = 100000 };
	double *sigma = malloc(N * sizeof *sigma);
	long double sum = 0, squares = 0, fourth = 0, s_log = 0, q_log = 0;
	for (int i = 0; i < N; i++) {
		sigma[i] = exp(-8.0 * i / N);
		long double s = sigma[i];
		sum += s;
		squares += s * s;
		fourth += s * s * s * s;
		s_log += s * s * logl(s * s);
		q_log += s * logl(s);
	}
	test_spectrum t = spectrum_of_sigma(N, N, sigma);
	const mspec_spectrum *s = &t.spectrum;
	UNIT_CLOSE(metric_of("nuclear_norm", s).value, (double)sum, 1e-12);
	UNIT_CLOSE(metric_of("stable_rank", s).value, (double)squares, 1e-12);
	UNIT_CLOSE(metric_of("participation_ratio", s).value, (double)(squares * squares / fourth), 1e-12);
	UNIT_CLOSE(metric_of("svd_entropy", s).value,
	           (double)((logl(squares) - s_log / squares) / logl(N)), 1e-12);
	UNIT_CLOSE(metric_of("effective_rank", s).value, (double)expl(logl(sum) - q_log / sum), 1e-13);
	free(sigma);
}

UNIT_SUITE(metric_undefined, {"zero matrix", test_zero_matrix}, {"one value", test_one_value},
           {"constant matrix", test_constant}, {"NaN and Inf", test_nonfinite},
           {"noise", test_noise}, {"numerical rank", test_numerical_rank},
           {"extreme scales", test_extreme_scales},
           {"overflow", test_overflow}, {"gain", test_gain}, {"nearly rank one", test_nearly_rank_one},
           {"many values", test_many_values})
