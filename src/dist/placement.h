/* Which rank owns which entries of the flat list of all parameters, and which ranks need which
 * matrix whole. Pure arithmetic: the optimizer and the plan on paper use the same. */
#ifndef MUON_DIST_PLACEMENT_H
#define MUON_DIST_PLACEMENT_H

#include <muon/dist.h>

/* One orthogonalised matrix, or a run of AdamW's entries, in the flat list. Items are in order of
 * begin and cover the list without gaps. */
typedef struct muon_item {
	int64_t begin, end;   /* entries [begin, end) of the flat list */
	double cost;          /* flops of Newton-Schulz; 0 under AdamW */
	muon_rule rule;
} muon_item;

/* Entries that belong to one rank, contiguous in the flat list. */
typedef struct muon_segment {
	int64_t begin, end;
	int rank;
} muon_segment;

typedef struct muon_ownership {
	int ranks;
	int64_t entries;
	muon_segment *segments; /* ascending, covering the list; empty ranks have none */
	size_t count;
} muon_ownership;

/* Cut the items over ranks. FLAT: rank r owns [r N / ranks, (r+1) N / ranks). WHOLE: every Muon item
 * on one rank, dearest first to the rank with the least cost so far (Graham 1969), ties by lower
 * rank; AdamW's entries evenly. Same result on every rank. MUON_E_MEMORY, MUON_E_ARGUMENT. */
int muon_ownership_create(muon_ownership *ownership, muon_placement placement,
                          const muon_item *items, size_t count, int ranks);
void muon_ownership_release(muon_ownership *ownership);

/* First and one past the last segment that meet [begin, end); the same where it is empty. */
void muon_ownership_find(const muon_ownership *ownership, int64_t begin, int64_t end,
                         size_t *first, size_t *last);

/* Cost of a step with float32 values, gathered entries of gather_bytes each: what the optimizer's
 * ranks send, in total, is exactly this. MUON_E_MEMORY. */
int muon_ownership_costs(const muon_ownership *ownership, const muon_item *items, size_t count,
                         size_t gather_bytes, muon_placement_costs *costs);

#endif
