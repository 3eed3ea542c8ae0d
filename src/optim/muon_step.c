/* Muon (Jordan et al. 2024) with the shape factors and the decay of the Moonlight report. */
#include "optim/optim_internal.h"

#include "base/clock.h"
#include "base/pool.h"
#include "kernels/simd.h"
#include "optim/block_statistics.h"

#include <math.h>

/* ---- momentum ------------------------------------------------------------------------------- */

/* a[i] = mu m[i] + weight g[i] */
SIMD_CLONES
static void mix(double mu, double weight, const double *m, const double *g, double *a, size_t count)
{
	for (size_t i = 0; i < count; i++)
		a[i] = mu * m[i] + weight * g[i];
}

void muon_optim_next_momentum(const muon_optimizer *o, muon_dtype type, const double *g, double *m,
			      double *u, size_t count)
{
	const muon_options *p = &o->options;
	const double mu = p->momentum;
	const double weight = p->momentum_kind == MUON_MOMENTUM_EMA ? 1 - mu : 1;
	mix(mu, weight, m, g, m, count);
	muon_optim_round(type, m, count);
	mix(p->nesterov ? mu : 1, p->nesterov ? weight : 0, m, g, u, count);
	muon_optim_round(type, u, count);
}

/* The entries of a piece within a block. */
typedef struct part {
	const muon_optim_piece *piece;
	int64_t begin, end; /* entries of the parameter */
} part;

static part part_of(const muon_optimizer *o, const muon_optim_block *b, size_t piece)
{
	const muon_optim_piece *p = &o->pieces[piece];
	const int64_t end = b->begin + b->rows * b->cols;
	return (part){
	    .piece = p,
	    .begin = p->begin > b->begin ? p->begin : b->begin,
	    .end = p->end < end ? p->end : end,
	};
}

static char *entry_of(const muon_optimizer *o, const muon_optim_block *b, void *matrix, int64_t at)
{
	return (char *)matrix + (size_t)(at - b->begin) * muon_dtype_size(o->plans[b->plan].dtype);
}

/* New momentum of the block's own parts; what is to be orthogonalised of them goes into matrix. */
static void step_momentum(const muon_optimizer *o, muon_optim_block *b, void *matrix)
{
	double g[MUON_OPTIM_CHUNK], m[MUON_OPTIM_CHUNK], u[MUON_OPTIM_CHUNK];
	const muon_dtype type = o->parameters[b->parameter].state_dtype;
	for (size_t i = b->first_piece; i < b->last_piece; i++) {
		const part p = part_of(o, b, i);
		for (int64_t at = p.begin; at < p.end; at += MUON_OPTIM_CHUNK) {
			const size_t count = muon_optim_chunk(at, p.end);
			void *momentum = muon_optim_state(o, p.piece, MUON_OPTIM_FIRST, at);
			muon_optim_load_gradient(o, p.piece, at, count, g);
			muon_optim_clip_gradient(o, p.piece, count, g);
			muon_convert_f64(type, momentum, count, m);
			muon_optim_next_momentum(o, type, g, m, u, count);
			muon_optim_store(type, m, count, momentum);
			muon_optim_store(o->plans[b->plan].dtype, u, count,
					 entry_of(o, b, matrix, at));
			b->sums[MUON_OPTIM_MOMENTUM] += muon_optim_sum_of_squares(m, count);
		}
	}
}

static void clear_sums(muon_optim_block *b)
{
	for (int s = 0; s < MUON_OPTIM_SUMS; s++)
		b->sums[s] = 0;
	b->orthogonality = NAN;
}

static bool step_cut(void *state, size_t task, int worker)
{
	(void)worker;
	const muon_optimizer *o = state;
	muon_optim_block *b = &o->blocks[o->order[task]];
	if (b->whole) {
		clear_sums(b);
		step_momentum(o, b, b->whole);
	}
	return true;
}

void muon_optim_step_cut_momentum(muon_optimizer *o)
{
	if (!o->exchanges)
		return;
	muon_pool_run(o->threads, o->order_count, step_cut, o);
}

/* ---- update --------------------------------------------------------------------------------- */

/* W <- (1 - lr wd) W - lr factor O on the block's own parts. */
static void step_weights(const muon_optimizer *o, muon_optim_block *b, void *matrix)
{
	double update[MUON_OPTIM_CHUNK];
	for (size_t i = b->first_piece; i < b->last_piece; i++) {
		const part p = part_of(o, b, i);
		for (int64_t at = p.begin; at < p.end; at += MUON_OPTIM_CHUNK) {
			const size_t count = muon_optim_chunk(at, p.end);
			muon_convert_f64(o->plans[b->plan].dtype, entry_of(o, b, matrix, at), count,
					 update);
			muon_optim_multiply(update, b->factor, count);
			muon_optim_move(o, p.piece, at, count, o->lr, update, b->sums);
		}
	}
}

/* ---- one block after the other, by workers -------------------------------------------------- */

/* The blocks from `first` on in the order. */
typedef struct run {
	muon_optimizer *o;
	size_t first;
} run;

static int orthogonalise(const muon_optimizer *o, muon_optim_block *b, void *matrix,
			 void *workspace)
{
	const muon_optim_plan *plan = &o->plans[b->plan];
	int code = muon_optim_count_below_reach(o, b, matrix, workspace);
	if (!code)
		code = muon_newton_schulz(plan->ns, matrix, b->cols, matrix, b->cols, workspace);
	if (!code)
		muon_optim_measure_block(o, b, matrix, workspace);
	return code;
}

static bool step_block(void *state, size_t task, int worker)
{
	const run *r = state;
	muon_optimizer *o = r->o;
	muon_optim_worker *w = &o->workers[worker];
	const size_t index = o->order[r->first + task];
	muon_optim_block *b = &o->blocks[index];
	void *matrix = b->whole ? b->whole : w->workspace;
	char *workspace = w->workspace + (b->whole ? 0 : o->plans[b->plan].matrix_bytes);
	const double start = muon_seconds();
	if (!b->whole) {
		clear_sums(b);
		step_momentum(o, b, matrix);
	}
	const double momentum_end = muon_seconds();
	w->code = orthogonalise(o, b, matrix, workspace);
	const double newton_schulz_end = muon_seconds();
	if (w->code)
		w->failed = index;
	else
		step_weights(o, b, matrix);
	w->momentum += momentum_end - start;
	w->newton_schulz += newton_schulz_end - momentum_end;
	w->update += muon_seconds() - newton_schulz_end;
	return !w->code;
}

/* Share the time that passed in the proportions of the workers' time. */
static void add_seconds(muon_optimizer *o, double passed)
{
	muon_optim_worker sum = {0};
	for (int i = 0; i < o->worker_count; i++) {
		sum.momentum += o->workers[i].momentum;
		sum.newton_schulz += o->workers[i].newton_schulz;
		sum.update += o->workers[i].update;
	}
	const double all = sum.momentum + sum.newton_schulz + sum.update;
	const double share = all > 0 ? passed / all : 0;
	o->seconds.momentum += share * sum.momentum;
	o->seconds.newton_schulz += share * sum.newton_schulz;
	o->seconds.update += share * sum.update;
}

static int first_failure(muon_optimizer *o, muon_error *err)
{
	for (int i = 0; i < o->worker_count; i++) {
		const muon_optim_worker *w = &o->workers[i];
		const char *name;
		if (!w->code)
			continue;
		name = o->parameters[o->blocks[w->failed].parameter].given.name;
		return muon_fail(
		    err, w->code, name,
		    "step not completed: Newton-Schulz failed (%s); load a state to go on",
		    muon_error_text(w->code));
	}
	return MUON_OK;
}

int muon_optim_step_muon(muon_optimizer *o, muon_error *err)
{
	const double start = muon_seconds();
	for (int i = 0; i < o->worker_count; i++) {
		muon_optim_worker *w = &o->workers[i];
		*w = (muon_optim_worker){.workspace = w->workspace};
	}
	for (size_t i = 0; i < o->alone_count; i++)
		if (!step_block(&(run){o, 0}, i, 0))
			break;
	int code = first_failure(o, err);
	if (!code) {
		run rest = {o, o->alone_count};
		muon_pool_run(o->worker_count, o->order_count - o->alone_count, step_block, &rest);
		code = first_failure(o, err);
	}
	add_seconds(o, muon_seconds() - start);
	return code;
}
