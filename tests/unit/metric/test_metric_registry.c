#include "unit/unit.h"

#include <muonspec/metric.h>
#include <string.h>

/* The names and their order are a contract: CSV headers and gates depend on them. */
static const char *const names[] = {
	"rms", "max_abs", "mean", "std", "excess_kurtosis", "zero_fraction",
	"frobenius_norm", "spectral_norm", "nuclear_norm", "sigma_min", "condition_number",
	"sigma_floor", "svd_entropy", "svd_entropy_excess", "effective_rank", "stable_rank",
	"participation_ratio", "numerical_rank", "mp_edge_ratio", "mp_spikes",
	"alpha", "alpha_xmin", "alpha_ks", "alpha_tail", "alpha_sigma",
	"ww_entropy", "output_rms", "output_rms_max", "bf16_rel_error", "bf16_exact_fraction",
};

static void test_names(void)
{
	CU_ASSERT_EQUAL_FATAL(mspec_metric_count(), sizeof names / sizeof *names);
	for (size_t i = 0; i < mspec_metric_count(); i++) {
		CU_ASSERT_STRING_EQUAL(mspec_metric_at(i)->name, names[i]);
		CU_ASSERT_EQUAL(mspec_metric_find(names[i]), i);
	}
	CU_ASSERT_EQUAL(mspec_metric_find("rm"), SIZE_MAX);
	CU_ASSERT_EQUAL(mspec_metric_find(""), SIZE_MAX);
	CU_ASSERT_PTR_NULL(mspec_metric_at(mspec_metric_count()));
	CU_ASSERT_PTR_NULL(mspec_metric_at(SIZE_MAX));
}

static void test_rows(void)
{
	const unsigned all = MSPEC_NEEDS_ENTRIES | MSPEC_NEEDS_SIGMA | MSPEC_NEEDS_POWER_LAW |
	                     MSPEC_NEEDS_GAIN;
	for (size_t i = 0; i < mspec_metric_count(); i++) {
		const mspec_metric *metric = mspec_metric_at(i);
		const char *unit = metric->unit;
		CU_ASSERT(!strcmp(unit, "1") || !strcmp(unit, "weight") || !strcmp(unit, "weight^2") ||
		          !strcmp(unit, "count"));
		CU_ASSERT(metric->needs && !(metric->needs & ~all));
		CU_ASSERT(*metric->formula && *metric->source);
		CU_ASSERT_PTR_NOT_NULL(metric->value);
		/* the fit is made from the singular values */
		if (metric->needs & MSPEC_NEEDS_POWER_LAW)
			CU_ASSERT(metric->needs & MSPEC_NEEDS_SIGMA);
		CU_ASSERT_EQUAL(!(metric->needs & MSPEC_NEEDS_GAIN), strcmp(metric->name, "output_rms") != 0);
	}
}

/* A row that asks for the entries alone must do without singular values, and any row must say why
 * when what it asks for is absent. */
static void test_needs(void)
{
	mspec_spectrum spectrum = {.rows = 2, .cols = 3, .dtype = MUON_F32};
	spectrum.moments = (muon_moments){.count = 6, .max_abs = 1, .sumsq = 3, .m2 = 3, .m4 = 2};
	mspec_metric_input input = {&spectrum, NULL};
	for (size_t i = 0; i < mspec_metric_count(); i++) {
		const mspec_metric *metric = mspec_metric_at(i);
		mspec_metric_value value = metric->value(&input);
		if (!(metric->needs & MSPEC_NEEDS_SIGMA))
			CU_ASSERT(value.value == value.value)
		else
			CU_ASSERT(value.value != value.value && value.note)
	}
}

UNIT_SUITE(metric_registry, {"names and order", test_names}, {"rows", test_rows},
           {"needs", test_needs})
