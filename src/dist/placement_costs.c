/* What a placement costs: of the optimizer's items, and of a list of shapes on paper. */
#include "dist/placement.h"

#include "base/memory.h"

enum { VALUE_BYTES = 4, MUON_STATE = 1, ADAMW_STATE = 2 /* float32 values an entry */ };

/* ---- of items ------------------------------------------------------------------------------- */

typedef struct load {
	double state, flops;
} load;

static int64_t overlap(const muon_segment *segment, const muon_item *item)
{
	const int64_t begin = segment->begin > item->begin ? segment->begin : item->begin;
	const int64_t end = segment->end < item->end ? segment->end : item->end;
	return end - begin;
}

/* Every rank with a piece of a matrix needs all of it and orthogonalises it. */
static void add_item(const muon_ownership *ownership, const muon_item *item, size_t gather_bytes,
		     load *loads, muon_placement_costs *costs)
{
	const bool is_matrix = item->rule == MUON_RULE_MUON;
	const double size = (double)(item->end - item->begin);
	size_t first, last;
	muon_ownership_find(ownership, item->begin, item->end, &first, &last);
	for (size_t i = first; i < last; i++) {
		const muon_segment *segment = &ownership->segments[i];
		load *owner = &loads[segment->rank];
		owner->state += (double)overlap(segment, item) * VALUE_BYTES *
				(is_matrix ? MUON_STATE : ADAMW_STATE);
		owner->flops += is_matrix ? item->cost : 0;
	}
	if (!is_matrix)
		return;
	costs->matrices++;
	costs->parameters += item->end - item->begin;
	costs->gathered_matrices += last - first > 1;
	if (last > first)
		costs->gather_bytes += (double)(last - first - 1) * size * (double)gather_bytes;
}

static void add_loads(const load *loads, int ranks, muon_placement_costs *costs)
{
	for (int r = 0; r < ranks; r++) {
		costs->state_bytes_mean += loads[r].state / ranks;
		costs->flops_mean += loads[r].flops / ranks;
		if (loads[r].state > costs->state_bytes_max)
			costs->state_bytes_max = loads[r].state;
		if (loads[r].flops > costs->flops_max)
			costs->flops_max = loads[r].flops;
	}
}

int muon_ownership_costs(const muon_ownership *ownership, const muon_item *items, size_t count,
			 size_t gather_bytes, muon_placement_costs *costs)
{
	const int ranks = ownership->ranks;
	const double entries = (double)ownership->entries;
	*costs = (muon_placement_costs){.entries = ownership->entries};
	load *loads = muon_alloc((size_t)ranks, sizeof *loads);
	if (!loads)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < count; i++)
		add_item(ownership, &items[i], gather_bytes, loads, costs);
	add_loads(loads, ranks, costs);
	muon_free(loads);
	/* a rank sends each of the others its share */
	costs->reduce_bytes = costs->all_gather_bytes = (ranks - 1) * entries * VALUE_BYTES;
	const double adamw = costs->reduce_bytes + costs->all_gather_bytes;
	costs->traffic_ratio = adamw > 0 ? (adamw + costs->gather_bytes) / adamw : 1;
	costs->adamw_state_bytes_mean = entries * VALUE_BYTES * ADAMW_STATE / ranks;
	return MUON_OK;
}

/* ---- on paper ------------------------------------------------------------------------------- */

static bool multiply(int64_t *product, int64_t factor)
{
	if (factor < 1 || *product > INT64_MAX / factor)
		return false;
	*product *= factor;
	return true;
}

/* Items of all parameters; MUON_E_ARGUMENT if a size makes no sense. */
static int count_items(const muon_planned *parameters, size_t count, size_t *items)
{
	int64_t all = 0;
	*items = 0;
	for (size_t i = 0; i < count; i++) {
		const muon_planned *p = &parameters[i];
		int64_t entries = 1;
		if ((unsigned)p->rule > MUON_RULE_ADAMW || !multiply(&entries, p->rows) ||
		    !multiply(&entries, p->cols) || !multiply(&entries, p->count) ||
		    entries > INT64_MAX - all)
			return MUON_E_ARGUMENT;
		all += entries;
		*items += p->rule == MUON_RULE_MUON ? (size_t)p->count : 1;
	}
	return MUON_OK;
}

static int ns_cost(const muon_planned *p, const muon_coefficients *coefficients, double *cost)
{
	muon_ns_plan *plan;
	const int code = muon_ns_plan_create(&plan, p->rows, p->cols, coefficients,
					     MUON_PRECISION_F32, MUON_NS_AUTO);
	if (code)
		return code;
	*cost = muon_ns_flops(plan);
	muon_ns_plan_destroy(&plan);
	return MUON_OK;
}

static int write_items(const muon_planned *parameters, size_t count,
		       const muon_coefficients *coefficients, muon_item *items)
{
	int64_t at = 0;
	for (size_t i = 0; i < count; i++) {
		const muon_planned *p = &parameters[i];
		const bool is_muon = p->rule == MUON_RULE_MUON;
		const int64_t size = p->rows * p->cols * (is_muon ? 1 : p->count);
		double cost = 0;
		const int code = is_muon ? ns_cost(p, coefficients, &cost) : MUON_OK;
		if (code)
			return code;
		for (int64_t k = 0; k < (is_muon ? p->count : 1); k++, at += size)
			*items++ = (muon_item){at, at + size, cost, p->rule};
	}
	return MUON_OK;
}

int muon_placement_plan(muon_placement placement, const muon_planned *parameters, size_t count,
			int ranks, muon_dtype gather_dtype, int ns_steps,
			muon_placement_costs *costs)
{
	muon_coefficients coefficients;
	size_t item_count;
	*costs = (muon_placement_costs){0};
	if ((gather_dtype != MUON_F32 && gather_dtype != MUON_BF16) ||
	    muon_coefficients_named(&coefficients, "jordan", ns_steps) ||
	    count_items(parameters, count, &item_count))
		return MUON_E_ARGUMENT;
	muon_item *items = muon_alloc(item_count, sizeof *items);
	if (!items)
		return MUON_E_MEMORY;
	muon_ownership ownership = {0};
	int code = write_items(parameters, count, &coefficients, items);
	if (!code)
		code = muon_ownership_create(&ownership, placement, items, item_count, ranks);
	if (!code)
		code = muon_ownership_costs(&ownership, items, item_count,
					    muon_dtype_size(gather_dtype), costs);
	muon_ownership_release(&ownership);
	muon_free(items);
	return code;
}
