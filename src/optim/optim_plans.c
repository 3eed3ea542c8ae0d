/* How each block is orthogonalised, in which order, and the room for it. Equal shapes share a plan;
 * workspaces are as many as threads, not as matrices. */
#include "optim/optim_internal.h"

#include "optim/block_statistics.h"

#include <stdlib.h>

/* ---- plans ---------------------------------------------------------------------------------- */

static int plan_failed(const muon_optimizer *o, const muon_optim_block *b, int code,
		       muon_error *err)
{
	return muon_fail(err, code, o->parameters[b->parameter].given.name,
			 "no Newton-Schulz of %lld x %lld matrices in %s%s: %s", (long long)b->rows,
			 (long long)b->cols, muon_precision_name(o->options.ns_precision),
			 o->options.ns_form == MUON_NS_GRAM ? ", in the Gram form" : "",
			 muon_error_text(code));
}

static size_t aligned(size_t bytes)
{
	const size_t alignment = 64;
	return (bytes + alignment - 1) / alignment * alignment;
}

/* float64 parameters are the reference, whatever the precision of the others. */
static int set_plan(const muon_optimizer *o, muon_optim_plan *plan, const muon_optim_block *b,
		    int threads)
{
	const bool is_f64 = o->parameters[b->parameter].state_dtype == MUON_F64;
	const muon_precision precision = is_f64 ? MUON_PRECISION_F64 : o->options.ns_precision;
	*plan = (muon_optim_plan){
	    .rows = b->rows,
	    .cols = b->cols,
	    .dtype = precision == MUON_PRECISION_F64 ? MUON_F64 : MUON_F32,
	    .threads = threads,
	};
	int code = muon_ns_plan_create(&plan->ns, b->rows, b->cols, &o->coefficients, precision,
				       o->options.ns_form);
	if (code)
		return code;
	muon_ns_plan_set_threads(plan->ns, threads);
	plan->matrix_bytes = aligned((size_t)(b->rows * b->cols) * muon_dtype_size(plan->dtype));
	plan->workspace_bytes = muon_ns_workspace(plan->ns);
	return MUON_OK;
}

static bool is_plan_for(const muon_optimizer *o, const muon_optim_plan *plan,
			const muon_optim_block *b, int threads)
{
	const bool needs_f64 = o->parameters[b->parameter].state_dtype == MUON_F64 ||
			       o->options.ns_precision == MUON_PRECISION_F64;
	return plan->rows == b->rows && plan->cols == b->cols && plan->threads == threads &&
	       (plan->dtype == MUON_F64) == needs_f64;
}

/* Plan of a block, made if no block before had its like. */
static int find_plan(muon_optimizer *o, muon_optim_block *b, int threads, muon_error *err)
{
	for (b->plan = 0; b->plan < o->plan_count; b->plan++)
		if (is_plan_for(o, &o->plans[b->plan], b, threads))
			return MUON_OK;
	muon_optim_plan *plans = muon_resize(o->plans, o->plan_count + 1, sizeof *plans);
	if (!plans)
		return muon_optim_out_of_memory(NULL, err);
	o->plans = plans;
	int code = set_plan(o, &plans[o->plan_count], b, threads);
	if (code)
		return plan_failed(o, b, code, err);
	o->plan_count++;
	return MUON_OK;
}

static int plan_blocks(muon_optimizer *o, muon_error *err)
{
	int code = MUON_OK;
	for (size_t i = 0; !code && i < o->order_count; i++) {
		muon_optim_block *b = &o->blocks[o->order[i]];
		code = find_plan(o, b, 1, err);
		if (!code)
			b->flops = muon_ns_flops(o->plans[b->plan].ns);
	}
	return code;
}

/* ---- order ---------------------------------------------------------------------------------- */

typedef struct cost {
	double flops;
	size_t block;
} cost;

static int dearest_first(const void *a, const void *b)
{
	const cost *x = a, *y = b;
	if (x->flops != y->flops)
		return x->flops > y->flops ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

static int sort_blocks(muon_optimizer *o, muon_error *err)
{
	cost *costs = muon_alloc(o->order_count, sizeof *costs);
	if (!costs)
		return muon_optim_out_of_memory(NULL, err);
	for (size_t i = 0; i < o->order_count; i++)
		costs[i] = (cost){o->blocks[o->order[i]].flops, o->order[i]};
	qsort(costs, o->order_count, sizeof *costs, dearest_first);
	for (size_t i = 0; i < o->order_count; i++)
		o->order[i] = costs[i].block;
	muon_free(costs);
	return MUON_OK;
}

/* A block dearer than a thread's share of it and all that follow would keep one thread busy while
 * the others wait: it gets all of them, unless starting threads would take longer. */
static bool is_alone(const muon_optimizer *o, const muon_optim_block *b, double left)
{
	const double worth_threads = 2e8;
	return b->flops > worth_threads && b->flops * o->threads > left;
}

static int choose_alone(muon_optimizer *o, muon_error *err)
{
	double left = 0;
	int code = MUON_OK;
	if (o->threads < 2)
		return MUON_OK;
	for (size_t i = 0; i < o->order_count; i++)
		left += o->blocks[o->order[i]].flops;
	for (size_t i = 0; !code && i < o->order_count; i++) {
		muon_optim_block *b = &o->blocks[o->order[i]];
		if (!is_alone(o, b, left))
			break;
		left -= b->flops;
		o->alone_count++;
		code = find_plan(o, b, o->threads, err);
	}
	return code;
}

static int list_own_blocks(muon_optimizer *o, muon_error *err)
{
	o->order = muon_alloc(o->block_count, sizeof *o->order);
	if (!o->order)
		return muon_optim_out_of_memory(NULL, err);
	for (size_t i = 0; i < o->block_count; i++)
		if (o->blocks[i].first_piece < o->blocks[i].last_piece)
			o->order[o->order_count++] = i;
	return MUON_OK;
}

/* ---- room: what cut blocks are gathered in, and workspaces of workers ------------------------ */

static int allocate_whole(muon_optimizer *o, muon_error *err)
{
	for (size_t i = 0; i < o->order_count; i++) {
		muon_optim_block *b = &o->blocks[o->order[i]];
		if (!b->is_cut)
			continue;
		b->whole = muon_alloc_aligned(o->plans[b->plan].matrix_bytes, 1);
		if (!b->whole)
			return muon_optim_out_of_memory(o->parameters[b->parameter].given.name,
							err);
	}
	return MUON_OK;
}

static size_t workspace_of(const muon_optimizer *o, const muon_optim_block *b, unsigned statistics)
{
	const muon_optim_plan *plan = &o->plans[b->plan];
	const size_t measuring =
	    muon_optim_statistics_workspace(statistics, b->rows, b->cols, plan->dtype);
	const size_t working =
	    plan->workspace_bytes > measuring ? plan->workspace_bytes : measuring;
	return working + (b->whole ? 0 : plan->matrix_bytes);
}

static void release_workers(muon_optim_worker *workers, int count)
{
	for (int i = 0; workers && i < count; i++)
		muon_free_aligned(workers[i].workspace);
	muon_free(workers);
}

/* The largest workspace of the blocks [first, last) in the order. */
static size_t most_workspace(const muon_optimizer *o, size_t first, size_t last,
			     unsigned statistics)
{
	size_t most = 0;
	for (size_t i = first; i < last; i++) {
		const size_t bytes = workspace_of(o, &o->blocks[o->order[i]], statistics);
		most = bytes > most ? bytes : most;
	}
	return most;
}

/* One worker a thread, but no more than there are blocks to share; the first has room for those
 * that are alone, too. Fewer where BLAS would have no room. */
static int count_workers(const muon_optimizer *o, size_t bytes)
{
	const size_t shared = o->order_count - o->alone_count;
	int count = (size_t)o->threads < shared ? o->threads : (int)shared;
	while (count > 1 && !muon_blas_has_room(count, (double)bytes * count))
		count--;
	return count > 1 ? count : 1;
}

int muon_optim_make_workers(muon_optimizer *o, unsigned statistics, muon_error *err)
{
	const size_t alone = most_workspace(o, 0, o->alone_count, statistics);
	const size_t shared = most_workspace(o, o->alone_count, o->order_count, statistics);
	const int count = count_workers(o, shared);
	muon_optim_worker *workers = muon_alloc((size_t)count, sizeof *workers);
	bool good = workers != NULL;
	for (int i = 0; good && i < count; i++) {
		const size_t bytes = i == 0 && alone > shared ? alone : shared;
		workers[i].workspace = muon_alloc_aligned(bytes, 1);
		good = workers[i].workspace != NULL;
	}
	if (!good) {
		release_workers(workers, count);
		return muon_fail(err, MUON_E_MEMORY, NULL,
				 "out of memory: orthogonalising takes %zu bytes in each of %d "
				 "threads",
				 alone > shared ? alone : shared, count);
	}
	release_workers(o->workers, o->worker_count);
	o->workers = workers;
	o->worker_count = count;
	return MUON_OK;
}

int muon_optim_make_plans(muon_optimizer *o, muon_error *err)
{
	int code = list_own_blocks(o, err);
	if (!code)
		code = plan_blocks(o, err);
	if (!code)
		code = sort_blocks(o, err);
	if (!code)
		code = choose_alone(o, err);
	if (!code)
		code = allocate_whole(o, err);
	return code ? code : muon_optim_make_workers(o, o->options.statistics, err);
}

void muon_optim_release_plans(muon_optimizer *o)
{
	release_workers(o->workers, o->worker_count);
	for (size_t i = 0; o->blocks && i < o->block_count; i++)
		muon_free_aligned(o->blocks[i].whole);
	for (size_t i = 0; i < o->plan_count; i++)
		muon_ns_plan_destroy(&o->plans[i].ns);
	muon_free(o->plans);
	muon_free(o->order);
}
