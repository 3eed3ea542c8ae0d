/* Which rank owns which entries. */
#include "dist/placement.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* First entry of part `index` of `count` entries in `parts` even parts: index count / parts,
 * without forming the product. */
static int64_t even_cut(int64_t count, int parts, int index)
{
	return count / parts * index + count % parts * index / parts;
}

static bool are_items(const muon_item *items, size_t count)
{
	int64_t at = 0;
	for (size_t i = 0; i < count; i++) {
		const muon_item *item = &items[i];
		if (item->begin != at || item->end < at || !(item->cost >= 0) || isinf(item->cost))
			return false;
		at = item->end;
	}
	return true;
}

static void add_segment(muon_ownership *ownership, int64_t begin, int64_t end, int rank)
{
	if (begin == end)
		return;
	muon_segment *last = ownership->segments + ownership->count;
	if (ownership->count && last[-1].rank == rank)
		last[-1].end = end;
	else
		ownership->segments[ownership->count++] = (muon_segment){begin, end, rank};
}

static void cut_flat(muon_ownership *ownership)
{
	const int64_t entries = ownership->entries;
	const int ranks = ownership->ranks;
	for (int r = 0; r < ranks; r++)
		add_segment(ownership, even_cut(entries, ranks, r), even_cut(entries, ranks, r + 1),
			    r);
}

/* ---- whole matrices ------------------------------------------------------------------------- */

typedef struct whole {
	const muon_item **order; /* Muon's items, dearest first */
	int *owner;              /* of each item */
	double *load;            /* of each rank */
	int *heap;               /* ranks, the least loaded on top */
} whole;

static int compare_items(const void *a, const void *b)
{
	const muon_item *x = *(const muon_item *const *)a, *y = *(const muon_item *const *)b;
	if (x->cost != y->cost)
		return x->cost < y->cost ? 1 : -1;
	return (x > y) - (x < y);
}

static bool is_before(const whole *w, int a, int b)
{
	return w->load[a] < w->load[b] || (w->load[a] == w->load[b] && a < b);
}

/* The top has become heavier: let it sink. */
static void sink(whole *w, int ranks)
{
	for (int i = 0, child; (child = 2 * i + 1) < ranks; i = child) {
		if (child + 1 < ranks && is_before(w, w->heap[child + 1], w->heap[child]))
			child++;
		if (!is_before(w, w->heap[child], w->heap[i]))
			return;
		const int rank = w->heap[i];
		w->heap[i] = w->heap[child];
		w->heap[child] = rank;
	}
}

static void assign(whole *w, const muon_item *items, size_t count, int ranks)
{
	size_t matrices = 0;
	for (size_t i = 0; i < count; i++)
		if (items[i].rule == MUON_RULE_MUON)
			w->order[matrices++] = &items[i];
	qsort(w->order, matrices, sizeof(const muon_item *), compare_items);
	for (int r = 0; r < ranks; r++)
		w->heap[r] = r;
	for (size_t i = 0; i < matrices; i++) {
		const int rank = w->heap[0];
		w->owner[w->order[i] - items] = rank;
		w->load[rank] += w->order[i]->cost;
		sink(w, ranks);
	}
}

static int64_t adamw_entries(const muon_item *items, size_t count)
{
	int64_t entries = 0;
	for (size_t i = 0; i < count; i++)
		if (items[i].rule != MUON_RULE_MUON)
			entries += items[i].end - items[i].begin;
	return entries;
}

static void cut_whole(muon_ownership *ownership, const whole *w, const muon_item *items,
		      size_t count)
{
	const int64_t all = adamw_entries(items, count);
	int64_t before = 0; /* AdamW's entries so far */
	int rank = 0;
	for (size_t i = 0; i < count; i++) {
		const muon_item *item = &items[i];
		if (item->rule == MUON_RULE_MUON) {
			add_segment(ownership, item->begin, item->end, w->owner[i]);
			continue;
		}
		for (int64_t at = item->begin; at < item->end;) {
			const int64_t left = even_cut(all, ownership->ranks, rank + 1) - before;
			const int64_t some = left < item->end - at ? left : item->end - at;
			add_segment(ownership, at, at + some, rank);
			at += some;
			before += some;
			rank += some == left;
		}
	}
}

static int place_whole(muon_ownership *ownership, const muon_item *items, size_t count)
{
	const size_t ranks = (size_t)ownership->ranks;
	whole w = {
	    .order = muon_alloc(count, sizeof(const muon_item *)),
	    .owner = muon_alloc(count, sizeof *w.owner),
	    .load = muon_alloc(ranks, sizeof *w.load),
	    .heap = muon_alloc(ranks, sizeof *w.heap),
	};
	int code = MUON_E_MEMORY;
	if (w.order && w.owner && w.load && w.heap) {
		assign(&w, items, count, ownership->ranks);
		cut_whole(ownership, &w, items, count);
		code = MUON_OK;
	}
	muon_free(w.order);
	muon_free(w.owner);
	muon_free(w.load);
	muon_free(w.heap);
	return code;
}

/* ---- ownership ------------------------------------------------------------------------------ */

int muon_ownership_create(muon_ownership *ownership, muon_placement placement,
			  const muon_item *items, size_t count, int ranks)
{
	*ownership = (muon_ownership){.ranks = ranks};
	if (ranks < 1 || (unsigned)placement > MUON_PLACEMENT_WHOLE || !are_items(items, count))
		return MUON_E_ARGUMENT;
	ownership->entries = count ? items[count - 1].end : 0;
	/* an item's end or a rank's cut ends a segment */
	ownership->segments = muon_alloc(count + (size_t)ranks, sizeof *ownership->segments);
	if (!ownership->segments)
		return MUON_E_MEMORY;
	int code = MUON_OK;
	if (placement == MUON_PLACEMENT_FLAT)
		cut_flat(ownership);
	else
		code = place_whole(ownership, items, count);
	if (code)
		muon_ownership_release(ownership);
	return code;
}

void muon_ownership_release(muon_ownership *ownership)
{
	muon_free(ownership->segments);
	*ownership = (muon_ownership){0};
}

/* Segments that end at or before `entry`. */
static size_t segments_until(const muon_ownership *ownership, int64_t entry)
{
	size_t low = 0, high = ownership->count;
	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		if (ownership->segments[middle].end <= entry)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void muon_ownership_find(const muon_ownership *ownership, int64_t begin, int64_t end, size_t *first,
			 size_t *last)
{
	*first = *last = segments_until(ownership, begin);
	while (*last < ownership->count && ownership->segments[*last].begin < end)
		++*last;
}
