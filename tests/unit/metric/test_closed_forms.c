/* Every metric against a value that can be worked out on paper. */
#include "unit/metric/spectra.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The matrices. Singular values are given where they are exact. */
enum form { DIAG, FLAT, ONES, COUNTING, GEOMETRIC, BF16_STEPS, AT_EDGE, QUANTILES };

enum { TAIL = 64 };
static double quantiles[TAIL];

static test_spectrum make(enum form form)
{
	static const double diag[] = {4, 0, 0, 3}, diag_sigma[] = {4, 3};
	static const double flat[] = {2, 0, 0,  0, 0, 0, 0, 2, 0, 0, 0, 0,
	                              0, 0, -2, 0, 0, 0, 0, 0, 0, 2, 0, 0};
	static const double flat_sigma[] = {2, 2, 2, 2};
	static const double ones[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	static const double ones_sigma[] = {3.4641016151377544, 0, 0};
	static const double counting[] = {1, 2, 3, 4, 5, 6};
	static const double geometric[] = {8, 0, 0, 0, 0, -4, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1};
	static const double geometric_sigma[] = {8, 4, 2, 1};
	/* 257/256 is half-way between two bf16 numbers, and ties go to the even one, 1 */
	static const double steps[] = {1, 1.00390625, -1.00390625, 0.5};
	static const double at_edge[] = {2, 0, 0, 0};
	test_spectrum t;
	switch (form) {
	case DIAG:
		return spectrum_of(2, 2, diag, diag_sigma);
	case FLAT: /* 4 x 6, four orthogonal rows of norm 2 */
		return spectrum_of(4, 6, flat, flat_sigma);
	case ONES: /* 3 x 4 */
		t = spectrum_of(3, 4, ones, ones_sigma);
		t.spectrum.sigma_floor = 1e-15;
		return t;
	case COUNTING: /* A A^T = [14 32; 32 77], of eigenvalues (91 +- sqrt 8065)/2 */
		return spectrum_of(2, 3, counting, NULL);
	case GEOMETRIC:
		t = spectrum_of(4, 4, geometric, geometric_sigma);
		t.spectrum.has_gain = true;
		t.spectrum.gain_sumsq = 8 * 8 + 4 * 4 * 4 + 2 * 2 * 9 + 1 * 16; /* g = 1, 2, 3, 4 */
		return t;
	case BF16_STEPS:
		return spectrum_of(1, 4, steps, NULL);
	case AT_EDGE: /* std = 1/2, so the edge of 4 x 4 is 2 */
		return spectrum_of_sigma(4, 4, at_edge);
	default: /* y_i = ln(TAIL/i): quantiles of a power law with alpha = 2, lambda from 1 on */
		for (int i = 0; i < TAIL; i++)
			quantiles[i] = sqrt(TAIL / (i + 1.0));
		return spectrum_of_sigma(TAIL, TAIL, quantiles);
	}
}

/* mean of y = ln TAIL - ln(TAIL!)/TAIL, so alpha is known; so is the KS distance, term by term */
static double quantile_rate(void)
{
	return TAIL / (TAIL * log(TAIL) - lgamma(TAIL + 1.0));
}

static double quantile_ks(void)
{
	double ks = 0;
	for (int i = 1; i <= TAIL; i++) {
		double model = pow(i / (double)TAIL, quantile_rate());
		ks = fmax(ks, fmax(i / (double)TAIL - model, model - (i - 1) / (double)TAIL));
	}
	return ks;
}

typedef struct closed_form {
	const char *metric;
	enum form form;
	double value;
} closed_form;

static void test_table(void)
{
	const double s1 = sqrt((91 + sqrt(8065)) / 2), s2 = sqrt((91 - sqrt(8065)) / 2), ln2 = log(2);
	const double rate = quantile_rate(), e2 = 0.00390625 * 0.00390625;
	/* p = 64, 16, 4, 1 of 85: -sum p ln p = ln 85 - (64*6 + 16*4 + 4*2) ln 2/85 */
	const double geometric_entropy = log(85) - 456 * ln2 / 85;
	/* q = 8, 4, 2, 1 of 15 */
	const double geometric_effective = 15 * exp(-(8 * 3 + 4 * 2 + 2) * ln2 / 15);
	const closed_form table[] = {
		{"rms", COUNTING, sqrt(91.0 / 6)},
		{"rms", DIAG, 2.5},
		{"max_abs", GEOMETRIC, 8},
		{"max_abs", FLAT, 2},
		{"mean", COUNTING, 3.5},
		{"mean", GEOMETRIC, 7.0 / 16},
		{"std", COUNTING, sqrt(35.0 / 12)},
		{"std", ONES, 0},
		{"excess_kurtosis", COUNTING, -1.2 * 37 / 35}, /* of uniform integers 1..6 */
		{"excess_kurtosis", DIAG, -534.0 / 289}, /* m2 = 51/16, m4 = 2997/256 */
		{"zero_fraction", DIAG, 0.5},
		{"zero_fraction", GEOMETRIC, 0.75},
		{"frobenius_norm", DIAG, 5},
		{"frobenius_norm", COUNTING, sqrt(91)},
		{"spectral_norm", COUNTING, s1},
		{"nuclear_norm", COUNTING, s1 + s2},
		{"nuclear_norm", GEOMETRIC, 15},
		{"sigma_min", COUNTING, s2},
		{"condition_number", COUNTING, s1 / s2},
		{"condition_number", GEOMETRIC, 8},
		{"sigma_floor", ONES, 1e-15},
		{"svd_entropy", FLAT, 1},
		{"svd_entropy", ONES, 0},
		{"svd_entropy", GEOMETRIC, geometric_entropy / log(4)},
		{"svd_entropy_excess", FLAT, 4.0 / 12 / log(4)}, /* 4 x 6 */
		{"effective_rank", FLAT, 4},
		{"effective_rank", ONES, 1},
		{"effective_rank", GEOMETRIC, geometric_effective},
		{"stable_rank", DIAG, 1.5625},
		{"stable_rank", GEOMETRIC, 85.0 / 64},
		{"participation_ratio", FLAT, 4},
		{"participation_ratio", GEOMETRIC, 85.0 * 85 / (4096 + 256 + 16 + 1)},
		{"numerical_rank", ONES, 1},
		{"numerical_rank", GEOMETRIC, 4},
		{"mp_edge_ratio", COUNTING, s1 / (sqrt(35.0 / 12) * (sqrt(2) + sqrt(3)))},
		{"mp_edge_ratio", AT_EDGE, 1},
		{"mp_spikes", AT_EDGE, 0},
		{"mp_spikes", COUNTING, 1},
		{"mp_spikes", FLAT, 0},
		{"alpha", QUANTILES, 1 + rate},
		{"alpha_xmin", QUANTILES, 1},
		{"alpha_ks", QUANTILES, quantile_ks()},
		{"alpha_tail", QUANTILES, TAIL},
		{"alpha_sigma", QUANTILES, rate / 8},
		{"ww_entropy", GEOMETRIC, geometric_entropy / log(4)},
		{"output_rms", FLAT, 2},
		{"output_rms", COUNTING, sqrt(91.0 / 2)},
		{"output_rms", GEOMETRIC, sqrt(180.0 / 4)}, /* with a gain */
		{"output_rms_max", FLAT, sqrt(6)}, /* 2 sqrt(6/4) */
		{"output_rms_max", COUNTING, s1 * sqrt(1.5)},
		{"bf16_rel_error", BF16_STEPS, sqrt(2 * e2 / (1.25 + 2 * 1.00390625 * 1.00390625))},
		{"bf16_rel_error", DIAG, 0},
		{"bf16_exact_fraction", BF16_STEPS, 0.5},
		{"bf16_exact_fraction", COUNTING, 1},
	};
	const size_t count = sizeof table / sizeof *table;
	for (size_t i = 0; i < count; i++) {
		test_spectrum t = make(table[i].form);
		mspec_metric_value value = metric_of(table[i].metric, &t.spectrum);
		unit_close(value.value, table[i].value, 1e-13, table[i].metric, __FILE__, __LINE__);
		spectrum_release(&t);
	}
	/* no row of the registry without a case */
	for (size_t m = 0; m < mspec_metric_count(); m++) {
		size_t found = 0;
		while (found < count && strcmp(table[found].metric, mspec_metric_at(m)->name))
			found++;
		if (found == count)
			fprintf(stderr, "no closed form for %s\n", mspec_metric_at(m)->name);
		CU_ASSERT(found < count);
	}
}

UNIT_SUITE(metric_closed_forms, {"every row of the registry", test_table})
