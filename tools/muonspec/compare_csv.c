#include "compare_output.h"

#include "common/csv_output.h"

static int print_pairs(const mspec_comparison *c, const mspec_pair *pairs, size_t count,
                       muon_error *err)
{
	int code = MUON_OK;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < c->metric_count && !code; k++) {
			csv_text(pairs[i].name);
			csv_text(pairs[i].group);
			csv_number(pairs[i].step);
			csv_text(c->metrics[k]);
			csv_number(pairs[i].a[k]);
			csv_number(pairs[i].b[k]);
			csv_number(pairs[i].a[k] - pairs[i].b[k]);
			code = csv_end(err);
		}
	return code;
}

/* Singular values over the largest: metric "relative_sigma_at_0.25" and the like. */
static int print_spectra(const mspec_comparison *c, muon_error *err)
{
	char metric[48];
	int code = MUON_OK;
	for (size_t i = 0; i < c->pair_count; i++)
		for (int k = 0; c->pairs[i].spectrum_a && k < MSPEC_SPECTRUM_PLACES && !code; k++) {
			const mspec_pair *p = &c->pairs[i];
			snprintf(metric, sizeof metric, "relative_sigma_at_%g",
			         mspec_spectrum_places()[k]);
			csv_text(p->name);
			csv_text(p->group);
			csv_number(p->step);
			csv_text(metric);
			csv_number(p->spectrum_a[k]);
			csv_number(p->spectrum_b[k]);
			csv_number(p->spectrum_a[k] - p->spectrum_b[k]);
			code = csv_end(err);
		}
	return code;
}

/* Long form: a line per pair and metric, groups before matrices, spectra last. */
int compare_csv(const mspec_comparison *c, muon_error *err)
{
	puts("name,group,step,metric,a,b,difference");
	int code = print_pairs(c, c->groups, c->group_count, err);
	if (!code)
		code = print_pairs(c, c->pairs, c->pair_count, err);
	return code ? code : print_spectra(c, err);
}
