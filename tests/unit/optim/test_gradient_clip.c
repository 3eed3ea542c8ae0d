/* Clipping of the gradient by its norm: optim_torch.py compares it with PyTorch's. */
#include "unit/dist/thread_ranks.h"
#include "unit/optim/optim_fixture.h"

#include "optim/optim_internal.h"

#include <stdlib.h>

enum { RANKS = 16 };

static double norm_of(const optim_fixture *f)
{
	double sum = 0;
	for (size_t k = 0; k < f->count; k++)
		for (int64_t i = 0; i < fixture_elements(&f->parameters[k]); i++)
			sum += pow(fixture_gradient(&f->parameters[k], i), 2);
	return sqrt(sum);
}

/* The first momentum is the gradient as the step has used it. */
static void check_momentum(const optim_fixture *f, muon_optimizer *o, double factor)
{
	for (size_t k = 0; k < f->count; k++) {
		const muon_optim_parameter *p = &o->parameters[k];
		const muon_optim_piece *piece = &o->pieces[p->first_piece];
		const double weight = p->rule == MUON_RULE_MUON ? 1 : 1 - o->options.beta1;
		for (int64_t i = 0; i < p->elements; i++) {
			double m;
			muon_convert_f64(p->state_dtype,
					 muon_optim_state(o, piece, MUON_OPTIM_FIRST, i), 1, &m);
			UNIT_CLOSE(m, weight * factor * fixture_gradient(&f->parameters[k], i),
				   2e-7);
		}
	}
}

static void step_once(double limit, double scale)
{
	muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	muon_statistics s;
	double sum = 0;
	fixture_start(&f, 3);
	fixture_add_all_kinds(&f);
	fixture_draw_gradients(&f, scale);
	const double norm = norm_of(&f), factor = fmin(1, limit * norm / (norm + 1e-6));
	options.clip_norm = limit * norm;
	muon_optimizer *o = fixture_optimizer(&f, &options);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_OK);
	UNIT_CLOSE(o->clip, factor, 1e-14);
	check_momentum(&f, o, factor);
	for (size_t k = 0; k < f.count; k++) {
		muon_optimizer_statistics(o, k, &s);
		sum += s.gradient_rms * s.gradient_rms * (double)o->parameters[k].elements;
	}
	UNIT_CLOSE(sqrt(sum), norm, 1e-13); /* what is reported is not clipped */
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void test_factor(void)
{
	step_once(0.25, 1);
	step_once(0.999, 1);
	step_once(2, 1);
	step_once(1e-25, 1e30); /* its square is beyond float32 */
	step_once(0.5, 1e-18);
}

static unsigned char *bytes_after(double limit, size_t *count)
{
	muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	options.clip_norm = limit;
	fixture_start(&f, 4);
	fixture_add_all_kinds(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 2, 0.1);
	unsigned char *bytes = fixture_bytes(&f, count);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
	return bytes;
}

/* A limit that no gradient reaches changes no bits. */
static void test_out_of_reach(void)
{
	size_t count, same;
	unsigned char *a = bytes_after(0, &count), *b = bytes_after(1e6, &same);
	unsigned char *c = bytes_after(1, &same);
	CU_ASSERT(!memcmp(a, b, count));
	CU_ASSERT(memcmp(a, c, count));
	muon_free(a);
	muon_free(b);
	muon_free(c);
}

/* Gradients of zeros, of numbers at the ends of float64, and of what is no number. */
static void test_extremes(void)
{
	static const double gradients[] = {0, 1e300, 4e-320, NAN, INFINITY};
	muon_options options = MUON_OPTIONS_INIT;
	options.clip_norm = 1;
	for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++) {
		const double g = gradients[i];
		optim_fixture f;
		fixture_start(&f, 3);
		FIXTURE_ADD(&f, "w", MUON_F64, 2, 2);
		fixture_draw_gradients(&f, 0);
		fixture_set_gradient(&f.parameters[0], 2, g);
		muon_optimizer *o = fixture_optimizer(&f, &options);
		CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL),
				isfinite(g) ? MUON_OK : MUON_E_NONFINITE);
		if (isfinite(g))
			UNIT_CLOSE(o->clip, g > 1 ? 1 / g : 1, 1e-15);
		muon_optimizer_destroy(&o);
		fixture_end(&f);
	}
}

/* ---- the same bits ------------------------------------------------------------------------- */

typedef struct ranks_run {
	optim_fixture fixtures[RANKS];
	muon_placement placement;
	int threads;
	double clip[RANKS];
} ranks_run;

/* All of the gradient is on the first rank, so that its sum over ranks is exact. */
static int run_rank(muon_comm *comm, void *context, muon_error *err)
{
	ranks_run *r = context;
	const int rank = muon_comm_rank(comm);
	const muon_distributed_options distributed = {r->placement, MUON_F32, 0};
	optim_fixture *f = &r->fixtures[rank];
	muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *o;
	options.threads = r->threads;
	options.clip_norm = 1.7;
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
						     &distributed, err);
	if (rank)
		fixture_draw_gradients(f, 0);
	if (!code)
		code = muon_optimizer_step(o, 0.1, err);
	r->clip[rank] = code ? 0 : o->clip;
	muon_optimizer_destroy(&o);
	return code;
}

static void run(ranks_run *r, int ranks, muon_placement placement, int threads)
{
	for (int i = 0; i < ranks; i++) {
		fixture_start(&r->fixtures[i], 5);
		fixture_add_all_kinds(&r->fixtures[i]);
		FIXTURE_ADD(&r->fixtures[i], "long", MUON_F32, 150001);
	}
	r->placement = placement;
	r->threads = threads;
	CU_ASSERT_EQUAL(thread_ranks_run(ranks, run_rank, r, NULL), MUON_OK);
	for (int i = 0; i < ranks; i++)
		fixture_end(&r->fixtures[i]);
}

static void test_same_bits(void)
{
	static const int counts[] = {1, 2, 3, 5, RANKS};
	ranks_run *r = calloc(1, sizeof *r);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r);
	run(r, 1, MUON_PLACEMENT_FLAT, 1);
	const double clip = r->clip[0];
	CU_ASSERT(clip > 0 && clip < 0.1);
	for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
		for (int p = MUON_PLACEMENT_FLAT; p <= MUON_PLACEMENT_WHOLE; p++) {
			run(r, counts[c], (muon_placement)p, 1 + counts[c] % 3);
			for (int i = 0; i < counts[c]; i++)
				CU_ASSERT_EQUAL(r->clip[i], clip);
		}
	free(r);
}

UNIT_SUITE(gradient_clip, {"factor", test_factor}, {"out of reach", test_out_of_reach},
	   {"extremes", test_extremes}, {"same bits", test_same_bits})
