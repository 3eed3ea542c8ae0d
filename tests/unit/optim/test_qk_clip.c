/* QK-clip: what it does to the logits, which are formed here from the weights. */
#include "unit/dist/thread_ranks.h"
#include "unit/optim/optim_fixture.h"

enum { IN = 6, MOST_ROWS = 24 };

static double *values_of(const muon_parameter *p)
{
	const int64_t n = fixture_elements(p);
	double *x = muon_alloc((size_t)n, sizeof *x);
	for (int64_t i = 0; i < n; i++)
		x[i] = fixture_value(p, i);
	return x;
}

/* Largest relative change of rows [row, row + rows) from `factor` times what they were. */
static double off(const muon_parameter *p, const double *before, int64_t row, int64_t rows,
		  double factor)
{
	const int64_t cols = p->dims[1];
	double worst = 0;
	for (int64_t i = row * cols; i < (row + rows) * cols; i++)
		worst = fmax(worst, fabs(fixture_value(p, i) / (before[i] * factor) - 1));
	return worst;
}

/* ---- one head a key ------------------------------------------------------------------------- */

static void test_heads(void)
{
	/* NaN and what is not positive clip nothing: the NaN trap */
	const double logits[] = {50, 400, -3, 0, NAN, 101};
	const double alpha = 0.3;
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 2);
	const muon_parameter *q = FIXTURE_ADD(&f, "q_proj.weight", MUON_F32, 24, IN);
	const muon_parameter *k = FIXTURE_ADD(&f, "k_proj.weight", MUON_F32, 24, IN);
	const muon_qk_layer layer = {
	    .query = 0, .key = 1, .heads = 6, .kv_heads = 6, .head_dim = 4};
	muon_optimizer *o = fixture_optimizer(&f, &options);
	double *q0 = values_of(q), *k0 = values_of(k);
	int clipped = -1;
	CU_ASSERT_EQUAL(muon_optimizer_qk_clip(o, &layer, logits, 100, alpha, &clipped, NULL), 0);
	CU_ASSERT_EQUAL(clipped, 2);
	for (int h = 0; h < 6; h++) {
		const double g = logits[h] > 100 ? 100 / logits[h] : 1;
		CU_ASSERT(off(q, q0, 4 * h, 4, pow(g, alpha)) < (g < 1 ? 1e-7 : 1e-300));
		CU_ASSERT(off(k, k0, 4 * h, 4, pow(g, 1 - alpha)) < (g < 1 ? 1e-7 : 1e-300));
	}
	muon_free(q0);
	muon_free(k0);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* ---- grouped queries ------------------------------------------------------------------------ */

static void test_grouped(void)
{
	const double logits[] = {250, 110, 40, 90}; /* two groups of two */
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 2);
	const muon_parameter *q = FIXTURE_ADD(&f, "q_proj.weight", MUON_F32, 12, IN);
	const muon_parameter *k = FIXTURE_ADD(&f, "k_proj.weight", MUON_F32, 6, IN);
	const muon_qk_layer layer = {
	    .query = 0, .key = 1, .heads = 4, .kv_heads = 2, .head_dim = 3};
	muon_optimizer *o = fixture_optimizer(&f, &options);
	double *q0 = values_of(q), *k0 = values_of(k);
	int clipped;
	CU_ASSERT_EQUAL(muon_optimizer_qk_clip(o, &layer, logits, 100, 0.5, &clipped, NULL), 0);
	CU_ASSERT_EQUAL(clipped, 2);
	const double key = sqrt(100.0 / 250);
	CU_ASSERT(off(k, k0, 0, 3, key) < 1e-7);
	CU_ASSERT(off(k, k0, 3, 3, 1) < 1e-300);
	/* head 1 needs less than its key head got, and takes it back */
	CU_ASSERT(off(q, q0, 0, 3, 100.0 / 250 / key) < 1e-7);
	CU_ASSERT(off(q, q0, 3, 3, 100.0 / 110 / key) < 1e-7);
	CU_ASSERT(off(q, q0, 6, 6, 1) < 1e-300);
	muon_free(q0);
	muon_free(k0);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* ---- multi-head latent attention ------------------------------------------------------------ */

static void test_latent(void)
{
	enum { NOPE = 3, ROPE = 2, VALUE = 4, HEADS = 3 };
	const double logits[] = {20, 1000, 200}, alpha = 0.25;
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 2);
	const muon_parameter *q =
	    FIXTURE_ADD(&f, "q_proj.weight", MUON_F32, HEADS * (NOPE + ROPE), IN);
	const muon_parameter *k =
	    FIXTURE_ADD(&f, "kv_b_proj.weight", MUON_F32, HEADS * (NOPE + VALUE), IN);
	const muon_qk_layer layer = {.query = 0,
				     .key = 1,
				     .heads = HEADS,
				     .kv_heads = HEADS,
				     .head_dim = NOPE + ROPE,
				     .rope_dim = ROPE,
				     .value_dim = VALUE};
	muon_optimizer *o = fixture_optimizer(&f, &options);
	double *q0 = values_of(q), *k0 = values_of(k);
	CU_ASSERT_EQUAL(muon_optimizer_qk_clip(o, &layer, logits, 100, alpha, NULL, NULL), 0);
	for (int h = 0; h < HEADS; h++) {
		const double g = logits[h] > 100 ? 100 / logits[h] : 1;
		const int64_t query = h * (NOPE + ROPE), key = h * (NOPE + VALUE);
		CU_ASSERT(off(q, q0, query, NOPE, pow(g, alpha)) < 1e-7);
		CU_ASSERT(off(q, q0, query + NOPE, ROPE, g) < 1e-7);
		CU_ASSERT(off(k, k0, key, NOPE, pow(g, 1 - alpha)) < 1e-7);
		CU_ASSERT(off(k, k0, key + NOPE, VALUE, 1) < 1e-300);
	}
	muon_free(q0);
	muon_free(k0);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* ---- masters -------------------------------------------------------------------------------- */

static const muon_qk_layer two_heads = {
    .query = 0, .key = 1, .heads = 2, .kv_heads = 2, .head_dim = 5};

static void fill_bf16(optim_fixture *f)
{
	fixture_start(f, 5);
	FIXTURE_ADD(f, "q_proj.weight", MUON_BF16, 10, IN);
	FIXTURE_ADD(f, "k_proj.weight", MUON_BF16, 10, IN);
}

/* The master is scaled, and the value rounded from it: a further step without gradient or decay
 * must not bring the old weights back. */
static void test_masters(void)
{
	const double logits[] = {400, 10};
	muon_options options = MUON_OPTIONS_INIT;
	options.weight_decay = 0;
	optim_fixture f;
	fill_bf16(&f);
	fixture_draw_gradients(&f, 0);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	double *q0 = values_of(&f.parameters[0]), *k0 = values_of(&f.parameters[1]);
	CU_ASSERT_EQUAL(muon_optimizer_qk_clip(o, &two_heads, logits, 100, 0.5, NULL, NULL), 0);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_OK);
	CU_ASSERT(off(&f.parameters[0], q0, 0, 5, 0.5) < 1e-300); /* exact in bf16 */
	CU_ASSERT(off(&f.parameters[1], k0, 0, 5, 0.5) < 1e-300);
	CU_ASSERT(off(&f.parameters[0], q0, 5, 5, 1) < 1e-300);
	muon_free(q0);
	muon_free(k0);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* ---- ranks: each has seen another part of the batch ----------------------------------------- */

typedef struct ranks {
	optim_fixture fixtures[3];
	int clipped[3];
} ranks;

static int clip_on_rank(muon_comm *comm, void *context, muon_error *err)
{
	ranks *r = context;
	const int rank = muon_comm_rank(comm);
	const double logits[][2] = {{10, -INFINITY}, {400, NAN}, {NAN, 99}};
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture *f = &r->fixtures[rank];
	muon_optimizer *o;
	int code = muon_optimizer_create_distributed(&o, &options, f->parameters, f->count, comm,
						     NULL, err);
	if (!code)
		code = muon_optimizer_qk_clip(o, &two_heads, logits[rank], 100, 0.5,
					      &r->clipped[rank], err);
	muon_optimizer_destroy(&o);
	return code;
}

static void test_ranks(void)
{
	ranks r;
	for (int i = 0; i < 3; i++)
		fill_bf16(&r.fixtures[i]);
	double *q0 = values_of(&r.fixtures[0].parameters[0]);
	CU_ASSERT_EQUAL(thread_ranks_run(3, clip_on_rank, &r, NULL), MUON_OK);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(r.clipped[i], 1);
		CU_ASSERT(off(&r.fixtures[i].parameters[0], q0, 0, 5, 0.5) < 1e-300);
		CU_ASSERT(off(&r.fixtures[i].parameters[0], q0, 5, 5, 1) < 1e-300);
		fixture_end(&r.fixtures[i]);
	}
	muon_free(q0);
}

/* ---- what makes no sense -------------------------------------------------------------------- */

static int try(muon_optimizer *o, muon_qk_layer layer, const double *logits, double threshold,
	       double alpha)
{
	int clipped = -1;
	int code = muon_optimizer_qk_clip(o, &layer, logits, threshold, alpha, &clipped, NULL);
	CU_ASSERT_EQUAL(clipped, code ? 0 : clipped);
	return code;
}

static void test_refusals(void)
{
	const double logits[] = {400, 10}, infinite[] = {10, INFINITY};
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	size_t n, m;
	fill_bf16(&f);
	FIXTURE_ADD(&f, "b", MUON_F32, 10);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	unsigned char *before = fixture_bytes(&f, &n);
	muon_qk_layer l = two_heads;
	CU_ASSERT_EQUAL(try(o, l, infinite, 100, 0.5), MUON_E_NONFINITE);
	CU_ASSERT_EQUAL(try(o, l, logits, 0, 0.5), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(try(o, l, logits, NAN, 0.5), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 1.5), MUON_E_ARGUMENT);
	l.query = 3;
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 0.5), MUON_E_ARGUMENT);
	l.query = 1;
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 0.5), MUON_E_ARGUMENT);
	l.query = 2;
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 0.5), MUON_E_USAGE);
	l = two_heads;
	l.head_dim = 4;
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 0.5), MUON_E_USAGE);
	l = two_heads;
	l.kv_heads = 0;
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 0.5), MUON_E_ARGUMENT);
	l = two_heads;
	l.rope_dim = 5;
	CU_ASSERT_EQUAL(try(o, l, logits, 100, 0.5), MUON_E_ARGUMENT);
	unsigned char *after = fixture_bytes(&f, &m);
	CU_ASSERT(!memcmp(before, after, n));
	muon_free(before);
	muon_free(after);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

UNIT_SUITE(qk_clip, {"heads", test_heads}, {"grouped", test_grouped}, {"latent", test_latent},
	   {"masters", test_masters}, {"ranks", test_ranks}, {"refusals", test_refusals})
