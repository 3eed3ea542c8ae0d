#include "base/random.h"
#include "dist/placement.h"
#include "moonlight.h"
#include "unit/unit.h"

#include <math.h>

enum { MOST_ITEMS = 200, MOST_RANKS = 70 };

/* ---- any list of items ---------------------------------------------------------------------- */

typedef struct list {
	muon_item items[MOST_ITEMS];
	size_t count;
} list;

static void append(list *l, int64_t size, double cost, muon_rule rule)
{
	const int64_t at = l->count ? l->items[l->count - 1].end : 0;
	l->items[l->count++] = (muon_item){at, at + size, cost, rule};
}

static list random_list(uint64_t seed)
{
	list l = {.count = 0};
	muon_random random;
	muon_random_seed(&random, seed);
	const size_t count = muon_random_bits(&random) % MOST_ITEMS;
	while (l.count < count) {
		const int64_t size = (int64_t)(muon_random_bits(&random) % 50);
		if (muon_random_bits(&random) % 3)
			append(&l, size + 1, (double)(size * size + 1), MUON_RULE_MUON);
		else
			append(&l, size, 0, MUON_RULE_ADAMW);
	}
	return l;
}

static int owner_of(const muon_ownership *o, int64_t entry)
{
	for (size_t i = 0; i < o->count; i++)
		if (o->segments[i].begin <= entry && entry < o->segments[i].end)
			return o->segments[i].rank;
	return -1;
}

/* Every entry has one owner, and no two segments that touch have the same. */
static bool covers(const muon_ownership *o, int64_t entries)
{
	int64_t at = 0;
	for (size_t i = 0; i < o->count; i++) {
		const muon_segment *s = &o->segments[i];
		if (s->begin != at || s->end <= at || s->rank < 0 || s->rank >= o->ranks)
			return false;
		if (i && s->rank == s[-1].rank)
			return false;
		at = s->end;
	}
	return at == entries && o->entries == entries;
}

static int segments_by_search(const muon_ownership *o, int64_t begin, int64_t end, size_t *first)
{
	int found = 0;
	*first = o->count;
	for (size_t i = o->count; i-- > 0;)
		if (o->segments[i].begin < end && begin < o->segments[i].end) {
			*first = i;
			found++;
		}
	return found;
}

static bool finds(const muon_ownership *o, int64_t begin, int64_t end)
{
	size_t first, last, expected;
	muon_ownership_find(o, begin, end, &first, &last);
	const int found = segments_by_search(o, begin, end, &expected);
	return last - first == (size_t)found && (!found || first == expected);
}

static void check_flat(const list *l, int ranks, int64_t entries)
{
	muon_ownership o;
	CU_ASSERT_EQUAL_FATAL(
	    muon_ownership_create(&o, MUON_PLACEMENT_FLAT, l->items, l->count, ranks), MUON_OK);
	CU_ASSERT(covers(&o, entries));
	int64_t end[MOST_RANKS] = {0};
	for (size_t i = 0; i < o.count; i++)
		end[o.segments[i].rank] = o.segments[i].end;
	int wrong = 0;
	for (int r = 0; r < ranks; r++) {
		const int64_t cut = r * entries / ranks, next = (r + 1) * entries / ranks;
		wrong += end[r] != (cut < next ? next : 0);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	for (int64_t begin = 0; begin <= entries; begin += 13)
		wrong += !finds(&o, begin, begin + begin % 40);
	CU_ASSERT_EQUAL(wrong, 0);
	muon_ownership_release(&o);
	CU_ASSERT_PTR_NULL(o.segments);
}

static void check_whole(const list *l, int ranks, int64_t entries)
{
	muon_ownership o;
	CU_ASSERT_EQUAL_FATAL(
	    muon_ownership_create(&o, MUON_PLACEMENT_WHOLE, l->items, l->count, ranks), MUON_OK);
	CU_ASSERT(covers(&o, entries));
	double cost[MOST_RANKS] = {0}, dearest = 0, all = 0;
	int64_t adamw[MOST_RANKS] = {0}, adamw_all = 0;
	int cut = 0, uneven = 0, descending = 0, previous = 0;
	for (size_t i = 0; i < l->count; i++) {
		const muon_item *item = &l->items[i];
		const int owner = owner_of(&o, item->begin);
		for (int64_t e = item->begin; e < item->end; e++) {
			const int rank = owner_of(&o, e);
			if (item->rule == MUON_RULE_MUON) {
				cut += rank != owner;
				continue;
			}
			adamw[rank]++;
			adamw_all++;
			descending += rank < previous;
			previous = rank;
		}
		if (item->rule == MUON_RULE_MUON) {
			cost[owner] += item->cost;
			all += item->cost;
			dearest = fmax(dearest, item->cost);
		}
	}
	for (int r = 0; r < ranks; r++) {
		uneven += adamw[r] < adamw_all / ranks || adamw[r] > adamw_all / ranks + 1;
		/* the last to come found this rank the least loaded (Graham 1966) */
		uneven += cost[r] > all / ranks + dearest;
	}
	CU_ASSERT_EQUAL(cut, 0);
	CU_ASSERT_EQUAL(uneven, 0);
	CU_ASSERT_EQUAL(descending, 0);
	muon_ownership_release(&o);
}

static void test_any_list(void)
{
	const int ranks[] = {1, 2, 3, 7, 16, MOST_RANKS};
	for (uint64_t seed = 0; seed < 12; seed++) {
		const list l = random_list(seed);
		const int64_t entries = l.count ? l.items[l.count - 1].end : 0;
		for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
			check_flat(&l, ranks[i], entries);
			check_whole(&l, ranks[i], entries);
		}
	}
}

/* ---- worked out by hand --------------------------------------------------------------------- */

static void check_owners(muon_placement placement, const list *l, int ranks, const int *owners)
{
	muon_ownership o;
	CU_ASSERT_EQUAL_FATAL(muon_ownership_create(&o, placement, l->items, l->count, ranks),
			      MUON_OK);
	for (int64_t e = 0; e < o.entries; e++)
		CU_ASSERT_EQUAL(owner_of(&o, e), owners[e]);
	muon_ownership_release(&o);
}

static void test_flat(void)
{
	list l = {.count = 0};
	append(&l, 6, 1, MUON_RULE_MUON);
	append(&l, 4, 0, MUON_RULE_ADAMW);
	check_owners(MUON_PLACEMENT_FLAT, &l, 4, (int[]){0, 0, 1, 1, 1, 2, 2, 3, 3, 3});
	list few = {.count = 0};
	append(&few, 3, 1, MUON_RULE_MUON);
	check_owners(MUON_PLACEMENT_FLAT, &few, 5, (int[]){1, 3, 4}); /* 0 and 2 own nothing */
}

static void test_whole(void)
{
	/* Graham's worst case: 5 + 3 + 3 on one of three ranks, where 9 could be had */
	list worst = {.count = 0};
	const double costs[] = {3, 4, 5, 3, 4, 5, 3};
	for (int i = 0; i < 7; i++)
		append(&worst, 1, costs[i], MUON_RULE_MUON);
	check_owners(MUON_PLACEMENT_WHOLE, &worst, 3, (int[]){0, 2, 0, 1, 2, 1, 0});
}

static void test_ties(void)
{
	list l = {.count = 0};
	for (int i = 0; i < 7; i++)
		append(&l, 1, 1, MUON_RULE_MUON);
	check_owners(MUON_PLACEMENT_WHOLE, &l, 3, (int[]){0, 1, 2, 0, 1, 2, 0});
}

static void test_few_matrices(void)
{
	list l = {.count = 0};
	append(&l, 2, 0, MUON_RULE_ADAMW);
	append(&l, 2, 1, MUON_RULE_MUON);
	append(&l, 2, 9, MUON_RULE_MUON);
	append(&l, 1, 0, MUON_RULE_ADAMW);
	check_owners(MUON_PLACEMENT_WHOLE, &l, 5, (int[]){1, 3, 1, 1, 0, 0, 4});
	check_owners(MUON_PLACEMENT_WHOLE, &l, 1, (int[]){0, 0, 0, 0, 0, 0, 0});
}

/* ---- costs ---------------------------------------------------------------------------------- */

static const muon_planned small[] = {{"two", 2, 3, 2, MUON_RULE_MUON},
				     {"bias", 1, 4, 1, MUON_RULE_ADAMW}};

/* Flops of one 2 x 3 matrix in five steps. */
static double small_flops(void)
{
	muon_coefficients coefficients;
	muon_ns_plan *plan;
	CU_ASSERT_EQUAL_FATAL(muon_coefficients_named(&coefficients, "jordan", 5), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(
	    muon_ns_plan_create(&plan, 2, 3, &coefficients, MUON_PRECISION_F32, MUON_NS_AUTO),
	    MUON_OK);
	const double flops = muon_ns_flops(plan);
	muon_ns_plan_destroy(&plan);
	return flops;
}

/* 6 + 6 entries of Muon, 4 of AdamW; a cut at 8 goes through the second matrix. */
static void test_costs_flat(void)
{
	muon_placement_costs c;
	const double flops = small_flops();
	CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_FLAT, small, 2, 2, MUON_F32, 0, &c),
			MUON_OK);
	CU_ASSERT_EQUAL(c.matrices, 2);
	CU_ASSERT_EQUAL(c.parameters, 12);
	CU_ASSERT_EQUAL(c.entries, 16);
	CU_ASSERT_EQUAL(c.gathered_matrices, 1);
	CU_ASSERT_EQUAL(c.reduce_bytes, 64);
	CU_ASSERT_EQUAL(c.gather_bytes, 24); /* 2 entries one way, 4 the other */
	CU_ASSERT_EQUAL(c.all_gather_bytes, 64);
	CU_ASSERT_EQUAL(c.traffic_ratio, 152.0 / 128);
	CU_ASSERT_EQUAL(c.state_bytes_mean, 40);
	CU_ASSERT_EQUAL(c.state_bytes_max, 4 * 4 + 4 * 8);
	CU_ASSERT_EQUAL(c.adamw_state_bytes_mean, 64);
	CU_ASSERT_EQUAL(c.flops_mean, 1.5 * flops);
	CU_ASSERT_EQUAL(c.flops_max, 2 * flops);
	CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_FLAT, small, 2, 2, MUON_BF16, 5, &c),
			MUON_OK);
	CU_ASSERT_EQUAL(c.gather_bytes, 12);
	/* cuts at 2, 4, 6, 8 ..: three ranks have a piece of each matrix */
	CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_FLAT, small, 2, 8, MUON_BF16, 5, &c),
			MUON_OK);
	CU_ASSERT_EQUAL(c.gathered_matrices, 2);
	CU_ASSERT_EQUAL(c.gather_bytes, 2 * 2 * 6 * 2);
	CU_ASSERT_EQUAL(c.reduce_bytes, 7 * 16 * 4);
	CU_ASSERT_EQUAL(c.flops_max, flops);
}

static void test_costs_whole(void)
{
	muon_placement_costs c;
	const double flops = small_flops();
	CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_WHOLE, small, 2, 3, MUON_F32, 5, &c),
			MUON_OK);
	CU_ASSERT_EQUAL(c.gathered_matrices, 0);
	CU_ASSERT_EQUAL(c.gather_bytes, 0);
	CU_ASSERT_EQUAL(c.reduce_bytes, 128);
	CU_ASSERT_EQUAL(c.traffic_ratio, 1);
	CU_ASSERT_EQUAL(c.state_bytes_max, 6 * 4 + 8); /* 4 entries of AdamW over 3: 1, 1, 2 */
	UNIT_CLOSE(c.flops_mean, 2 * flops / 3, 1e-12);
	CU_ASSERT_EQUAL(c.flops_max, flops);
	CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_WHOLE, small, 2, 1, MUON_F32, 5, &c),
			MUON_OK);
	CU_ASSERT_EQUAL(c.reduce_bytes, 0);
	CU_ASSERT_EQUAL(c.traffic_ratio, 1);
}

/* The report: between 1 and 1.25 times AdamW's traffic, state over 1/2 by the embeddings alone. */
static void test_moonlight(void)
{
	const int ranks[] = {8, 64, 512};
	muon_planned planned[MOONLIGHT_PLANNED];
	moonlight_planned(planned);
	for (int i = 0; i < 3; i++) {
		muon_placement_costs flat, whole;
		CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_FLAT, planned, MOONLIGHT_PLANNED,
						    ranks[i], MUON_BF16, 5, &flat),
				MUON_OK);
		CU_ASSERT_EQUAL(muon_placement_plan(MUON_PLACEMENT_WHOLE, planned,
						    MOONLIGHT_PLANNED, ranks[i], MUON_BF16, 5,
						    &whole),
				MUON_OK);
		CU_ASSERT_EQUAL(flat.matrices, 5207);
		CU_ASSERT_EQUAL(flat.parameters, 15288893440);
		CU_ASSERT_EQUAL(flat.entries, 15288893440 + 671088640);
		CU_ASSERT(flat.gathered_matrices <= ranks[i] - 1);
		CU_ASSERT(flat.traffic_ratio > 1 && flat.traffic_ratio < 1.25);
		CU_ASSERT_EQUAL(whole.matrices, 5207);
		CU_ASSERT_EQUAL(whole.traffic_ratio, 1);
		const double state = (15288893440 * 4.0 + 671088640 * 8.0) / ranks[i];
		UNIT_CLOSE(flat.state_bytes_mean, state, 1e-12);
		UNIT_CLOSE(whole.state_bytes_mean, state, 1e-12);
		CU_ASSERT(whole.flops_mean <= whole.flops_max);
		CU_ASSERT(whole.flops_mean < flat.flops_mean); /* nothing is done twice */
	}
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void test_refusals(void)
{
	muon_ownership o;
	const muon_placement flat = MUON_PLACEMENT_FLAT;
	const muon_item gap[] = {{0, 2, 1, MUON_RULE_MUON}, {3, 4, 1, MUON_RULE_MUON}};
	const muon_item late[] = {{1, 2, 1, MUON_RULE_MUON}}, back[] = {{0, -1, 1, MUON_RULE_MUON}};
	const muon_item nan[] = {{0, 2, NAN, MUON_RULE_MUON}};
	CU_ASSERT_EQUAL(muon_ownership_create(&o, flat, gap, 2, 2), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ownership_create(&o, flat, late, 1, 2), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ownership_create(&o, flat, back, 1, 2), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ownership_create(&o, flat, nan, 1, 2), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ownership_create(&o, flat, gap, 1, 0), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_ownership_create(&o, (muon_placement)2, gap, 1, 1), MUON_E_ARGUMENT);

	muon_placement_costs c;
	const int64_t large = (int64_t)1 << 31;
	const muon_planned overflow[] = {{"a", large, large, 4, MUON_RULE_ADAMW}};
	const muon_planned sum[] = {{"a", large, large, 1, MUON_RULE_ADAMW},
				    {"b", large, large, 1, MUON_RULE_ADAMW}};
	const muon_planned none[] = {{"a", 3, 0, 1, MUON_RULE_MUON}};
	CU_ASSERT_EQUAL(muon_placement_plan(flat, overflow, 1, 2, MUON_F32, 5, &c),
			MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_placement_plan(flat, sum, 2, 2, MUON_F32, 5, &c), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_placement_plan(flat, none, 1, 2, MUON_F32, 5, &c), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_placement_plan(flat, small, 2, 2, MUON_F64, 5, &c), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_placement_plan(flat, small, 2, 2, MUON_F32, 21, &c), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_placement_plan(flat, small, 2, 0, MUON_F32, 5, &c), MUON_E_ARGUMENT);
}

static void test_memory(void)
{
	int left;
	const muon_allocator failing = unit_failing_allocator(&left);
	muon_placement_costs c;
	int code = MUON_E_MEMORY, count = 0;
	muon_set_allocator(&failing);
	for (; code == MUON_E_MEMORY && count < 100; count++) {
		left = count;
		code = muon_placement_plan(MUON_PLACEMENT_WHOLE, small, 2, 2, MUON_F32, 5, &c);
	}
	muon_set_allocator(NULL);
	CU_ASSERT_EQUAL(code, MUON_OK);
	CU_ASSERT(count > 5 && count < 100);
}

UNIT_SUITE(placement, {"any list", test_any_list}, {"flat", test_flat}, {"whole", test_whole},
	   {"ties", test_ties}, {"few matrices", test_few_matrices},
	   {"costs, flat", test_costs_flat}, {"costs, whole", test_costs_whole},
	   {"Moonlight-16B", test_moonlight}, {"refusals", test_refusals}, {"memory", test_memory})
