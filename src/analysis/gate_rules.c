/* What rules say, and what holds where they say nothing. */
#include "analysis/gate.h"

#include "base/memory.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* ---- default tolerances ------------------------------------------------------------------- */

typedef struct tolerance_row {
	const char *metric; /* glob */
	mspec_tolerance tolerance;
} tolerance_row;

/* First match. Meant to let pass what another BLAS does to these numbers, and what storing weights
 * in bf16 does to those that baselines hold by default; and to stop what training does. */
static const tolerance_row defaults[] = {
    /* a comparison's values are compared themselves; a difference of two numbers that are nearly
     * equal has no scale of its own */
    {"*difference", {.ignore = true}},
    {"*.share_higher_?", {.absolute = 0.05}},
    {"*.exponent", {.absolute = 0.1}},
    {"checkpoints", {.absolute = 0}},
    {"last_step", {.absolute = 0}},
    {"set_aside", {.absolute = 0}},
    {"not_ok", {.absolute = 0}},
    {"pairs", {.absolute = 0}},
    {"unpaired", {.absolute = 0}},
    /* entropies and shares are between 0 and 1 */
    {"svd_entropy*", {.absolute = 0.005}},
    {"ww_entropy*", {.absolute = 0.005}},
    {"zero_fraction*", {.absolute = 0.01}},
    {"bf16_exact_fraction*", {.absolute = 0.01}},
    {"bf16_rel_error*", {.relative = 0.1, .absolute = 2e-4}},
    {"excess_kurtosis*", {.relative = 0.05, .absolute = 0.05}},
    {"mean", {.relative = 0.05}},
    {"mean.*", {.relative = 0.05}},
    /* counts */
    {"numerical_rank*", {.relative = 0.01, .absolute = 1}},
    {"mp_spikes*", {.relative = 0.05, .absolute = 2}},
    /* what hangs on the smallest singular values, or on a fit of the tail */
    {"sigma_min*", {.relative = 0.1}},
    {"sigma_floor*", {.relative = 0.1}},
    {"condition_number*", {.relative = 0.1}},
    {"alpha_xmin*", {.relative = 0.25}},
    {"alpha_tail*", {.relative = 0.25}},
    {"alpha*", {.relative = 0.05}},
    {"*", {.relative = 0.01}},
};

mspec_tolerance mspec_default_tolerance(const char *metric)
{
	size_t i = 0;
	while (fnmatch(defaults[i].metric, metric, 0))
		i++;
	return defaults[i].tolerance;
}

/* ---- rules -------------------------------------------------------------------------------- */

const char *mspec_allowance_name(mspec_allowance allowance)
{
	static const char *const names[] = {"missing", "new", "undefined", "not_ok"};
	return names[allowance];
}

bool mspec_rules_want(const mspec_gate_rules *rules, const char *metric)
{
	static const char *const suffixes[] = {
	    "", ".mean", ".min", ".max", ".exponent", ".a", ".b", ".difference", ".median_difference",
	    ".share_higher_a", ".share_higher_b"};
	char name[128];
	for (size_t i = 0; i < rules->count; i++)
		for (size_t k = 0; k < sizeof suffixes / sizeof *suffixes; k++) {
			snprintf(name, sizeof name, "%s%s", metric, suffixes[k]);
			if (!fnmatch(rules->rules[i].metric, name, 0))
				return true;
		}
	return false;
}

void mspec_gate_rules_release(mspec_gate_rules *rules)
{
	if (rules->memory)
		muon_arena_release(rules->memory);
	muon_free(rules->memory);
	*rules = (mspec_gate_rules){0};
}
