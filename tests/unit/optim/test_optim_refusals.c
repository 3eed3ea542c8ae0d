/* Nothing fails in silence: what makes no sense is refused, and then nothing has changed. */
#include "unit/optim/optim_fixture.h"

#include <float.h>

/* ---- creation ------------------------------------------------------------------------------- */

static muon_parameter sound(void)
{
	static float values[24], gradient[24];
	return (muon_parameter){.name = "w",
				.rank = 2,
				.dims = {4, 6},
				.dtype = MUON_F32,
				.values = values,
				.gradient_dtype = MUON_F32,
				.gradient = gradient};
}

static void refuses(const muon_options *options, const muon_parameter *parameters, size_t count,
		    int code, const char *where, const char *message)
{
	muon_error err = {0};
	muon_optimizer *o = NULL;
	CU_ASSERT_EQUAL(muon_optimizer_create(&o, options, parameters, count, &err), code);
	CU_ASSERT_PTR_NULL(o);
	CU_ASSERT_STRING_EQUAL(err.where, where);
	if (!strstr(err.message, message))
		printf("'%s' has no '%s'\n", err.message, message);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, message));
	muon_optimizer_destroy(&o);
}

#define REFUSED(change, message)                                                                   \
	do {                                                                                       \
		const muon_options options = MUON_OPTIONS_INIT;                                    \
		muon_parameter p = sound();                                                        \
		change;                                                                            \
		refuses(&options, &p, 1, MUON_E_USAGE, p.name &&*p.name ? p.name : "", message);   \
	} while (0)

static void test_parameters(void)
{
	static const int64_t short_splits[] = {1, 2}, long_splits[] = {3, 2}, negative[] = {5, -1};
	REFUSED(p.name = NULL, "has no name");
	REFUSED(p.name = "", "has no name");
	REFUSED(p.rank = -1, "rank -1");
	REFUSED(p.rank = 9, "rank 9");
	REFUSED(p.dims[1] = 0, "dimension 1 is 0");
	REFUSED(p.dims[0] = -4, "dimension 0 is -4");
	REFUSED((p.dims[0] = p.dims[1] = (int64_t)1 << 40), "too many entries");
	REFUSED(p.dtype = MUON_F16, "values must be");
	REFUSED(p.gradient_dtype = MUON_F16, "gradient must be");
	REFUSED(p.gradient_dtype = MUON_F64, "go together");
	REFUSED(p.dtype = MUON_F64, "go together");
	REFUSED(p.values = NULL, "values are NULL");
	REFUSED(p.gradient = NULL, "gradient is NULL");
	REFUSED(p.gradient = p.values, "overlap the gradient of w");
	REFUSED(p.gradient = (float *)p.values + 23, "overlap the gradient of w");
	REFUSED(p.values = (float *)(uintptr_t)p.gradient + 23, "overlap the gradient of w");
	REFUSED(p.role = (muon_role)17, "role");
	REFUSED(p.stack = (muon_stack)17, "stack");
	REFUSED(p.heads = 3, "3 heads");
	REFUSED(p.heads = -1, "-1 heads");
	REFUSED((p.splits = short_splits, p.split_count = 2), "splits");
	REFUSED((p.splits = long_splits, p.split_count = 2), "splits");
	REFUSED((p.splits = negative, p.split_count = 2), "splits");
	REFUSED((p.splits = short_splits, p.split_count = 0), "splits");
	REFUSED((p.role = MUON_ROLE_HIDDEN, p.rank = 1), "two dimensions");
	REFUSED((p.rank = 6, p.dims[2] = p.dims[3] = p.dims[4] = p.dims[5] = 1),
		"experts or a convolution");
}

static void test_names(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	muon_parameter p[4] = {sound(), sound(), sound(), sound()};
	p[0].name = "b";
	p[1].name = "a";
	p[2].name = "c";
	p[3].name = "a";
	refuses(&options, p, 4, MUON_E_USAGE, "a", "two have this name");
	p[3].name = "d"; /* tied weights, given twice */
	refuses(&options, p, 2, MUON_E_USAGE, "a", "overlap those of b");
	p[1].values = (float *)p[0].values + 23;
	refuses(&options, p, 2, MUON_E_USAGE, "a", "overlap those of b");
	float apart[3][24], gradients[24];
	for (int i = 0; i < 3; i++) {
		p[i].values = apart[i];
		p[i].gradient = gradients; /* one for all is no harm */
	}
	muon_optimizer *o;
	CU_ASSERT_EQUAL(muon_optimizer_create(&o, &options, p, 3, NULL), MUON_OK);
	muon_optimizer_destroy(&o);
	p[2].gradient = (float *)p[0].values + 23; /* another's values */
	refuses(&options, p, 3, MUON_E_USAGE, "b", "overlap the gradient of c");
	refuses(&options, p, 0, MUON_E_USAGE, "", "needs parameters");
	refuses(&options, NULL, 3, MUON_E_USAGE, "", "needs parameters");
	refuses(NULL, p, 1, MUON_E_USAGE, "", "none given");
}

#define OPTION_REFUSED(change, message)                                                            \
	do {                                                                                       \
		muon_options options = MUON_OPTIONS_INIT;                                          \
		const muon_parameter p = sound();                                                  \
		change;                                                                            \
		refuses(&options, &p, 1, MUON_E_USAGE, "", message);                               \
	} while (0)

static void test_options(void)
{
	const muon_coefficients diverging = {
	    .steps = 3, .norm_factor = 1, .step = {{5, 0, 0}, {5, 0, 0}, {50, 0, 0}}};
	const muon_coefficients good = {.steps = 1, .norm_factor = 1, .step = {{1.5, -0.5, 0}}};
	OPTION_REFUSED(options.momentum = 1, "momentum");
	OPTION_REFUSED(options.momentum = -0.1, "momentum");
	OPTION_REFUSED(options.momentum = NAN, "momentum");
	OPTION_REFUSED(options.weight_decay = -1, "decay");
	OPTION_REFUSED(options.adamw_weight_decay = INFINITY, "decay");
	OPTION_REFUSED(options.update_rms = 0, "update_rms");
	OPTION_REFUSED(options.scale = MUON_SCALE_FIXED, "fixed_width");
	OPTION_REFUSED(options.scale = (muon_scale)9, "scale");
	OPTION_REFUSED(options.beta1 = 1, "beta1");
	OPTION_REFUSED(options.beta2 = NAN, "beta2");
	OPTION_REFUSED(options.eps = 0, "eps");
	OPTION_REFUSED(options.clip_norm = -1, "clip_norm");
	OPTION_REFUSED(options.clip_norm = NAN, "clip_norm");
	OPTION_REFUSED(options.adamw_lr_ratio = -1, "adamw_lr_ratio");
	OPTION_REFUSED(options.momentum_kind = (muon_momentum_kind)5, "momentum");
	OPTION_REFUSED(options.ns_form = (muon_ns_form)9, "form");
	OPTION_REFUSED(options.ns_precision = (muon_precision)9, "precision");
	OPTION_REFUSED(options.router = (muon_rule)2, "router");
	OPTION_REFUSED(options.statistics = 64, "statistics");
	OPTION_REFUSED(options.threads = -1, "threads");
	OPTION_REFUSED(options.coefficients = "gordon", "'gordon'");
	OPTION_REFUSED(options.ns_steps = 21, "ns_steps 21");
	OPTION_REFUSED(options.ns_steps = -1, "ns_steps -1");
	OPTION_REFUSED(options.coefficients = NULL, "coefficients");
	OPTION_REFUSED(options.custom_coefficients = &good, "coefficients");
	OPTION_REFUSED((options.coefficients = NULL, options.custom_coefficients = &diverging),
		       "diverge");
	OPTION_REFUSED((options.coefficients = NULL, options.custom_coefficients = &good,
			options.ns_steps = 2),
		       "ns_steps");
}

static void test_unsupported(void)
{
	muon_options options = MUON_OPTIONS_INIT;
	const muon_parameter p = sound();
	options.ns_precision = MUON_PRECISION_BF16_EMULATED;
	options.ns_form = MUON_NS_GRAM;
	refuses(&options, &p, 1, MUON_E_UNSUPPORTED, "w", "Gram");
	options.ns_form = MUON_NS_AUTO;
	options.ns_precision = MUON_PRECISION_BF16;
	if (!muon_precision_available(MUON_PRECISION_BF16, NULL))
		refuses(&options, &p, 1, MUON_E_UNSUPPORTED, "", "bf16");
}

/* ---- steps ---------------------------------------------------------------------------------- */

typedef struct snapshot {
	saved_state state;
	unsigned char *bytes;
	size_t count;
} snapshot;

static snapshot take(const optim_fixture *f, muon_optimizer *o)
{
	snapshot s = {.state = {.fail_at = -1}};
	s.bytes = fixture_bytes(f, &s.count);
	CU_ASSERT_EQUAL(muon_optimizer_save(o, saved_state_put, &s.state, NULL), MUON_OK);
	return s;
}

static void release(snapshot *s)
{
	muon_free(s->bytes);
	saved_state_release(&s->state);
}

/* A step that is refused for parameter `bad`; nothing changed, gradients included. */
static void check_refused(optim_fixture *f, muon_optimizer *o, size_t bad, const char *message)
{
	muon_error err = {0};
	const int64_t steps = muon_optimizer_steps(o);
	snapshot before = take(f, o);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, &err), MUON_E_NONFINITE);
	CU_ASSERT_STRING_EQUAL(err.where, f->parameters[bad].name);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, message));
	CU_ASSERT_EQUAL(muon_optimizer_steps(o), steps);
	snapshot after = take(f, o);
	CU_ASSERT_EQUAL(before.count, after.count);
	CU_ASSERT(!memcmp(before.bytes, after.bytes, before.count));
	CU_ASSERT_EQUAL(before.state.used, after.state.used);
	CU_ASSERT(!memcmp(before.state.bytes, after.state.bytes, before.state.used));
	release(&before);
	release(&after);
}

static void test_nonfinite(void)
{
	static const double bad[] = {NAN, INFINITY, -INFINITY};
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 8);
	fixture_add_all_kinds(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 2, 0.1);
	for (size_t k = 0; k < f.count; k++) {
		muon_parameter *p = &f.parameters[k];
		const int64_t at[] = {0, fixture_elements(p) - 1};
		for (int i = 0; i < 2; i++) {
			const double good = fixture_gradient(p, at[i]);
			fixture_set_gradient(p, at[i], bad[(k + (size_t)i) % 3]);
			check_refused(&f, o, k, "NaN or Inf");
			fixture_set_gradient(p, at[i], good);
		}
	}
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_OK); /* it goes on */
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* A NaN far inside a long parameter, behind what one worker checks. */
static void test_nonfinite_inside(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 8);
	FIXTURE_ADD(&f, "first", MUON_F32, 3, 3);
	muon_parameter *p = FIXTURE_ADD(&f, "long", MUON_F32, 200001);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_set_gradient(p, 131072 + 7, NAN);
	check_refused(&f, o, 1, "NaN or Inf");
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void test_overflow(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 9);
	muon_parameter *w = FIXTURE_ADD(&f, "w", MUON_F32, 5, 4);
	muon_parameter *b = FIXTURE_ADD(&f, "b", MUON_F32, 5);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 1, 0.1);
	/* momentum: 0.95 M + g */
	fixture_set_gradient(w, 3, 0.7 * FLT_MAX);
	check_refused(&f, o, 0, "would overflow"); /* g + mu M already does, with Nesterov */
	fixture_set_gradient(w, 3, 0.4 * FLT_MAX);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_E_NONFINITE);
	check_refused(&f, o, 0, "would overflow");
	fixture_set_gradient(w, 3, 1);
	fixture_set_gradient(b, 2, 1e21); /* its square is beyond float32 */
	check_refused(&f, o, 1, "moment of AdamW");
	fixture_set_gradient(b, 2, 1e19);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.1, NULL), MUON_OK);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void test_learning_rate(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fixture_start(&f, 9);
	FIXTURE_ADD(&f, "w", MUON_F32, 5, 4);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, NAN, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, INFINITY, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, -1e-3, NULL), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_optimizer_steps(o), 0);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0, NULL), MUON_OK);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* ---- any size of gradient ------------------------------------------------------------------- */

/* The step of a gradient of this norm, in the direction that the seed draws. */
static void step_of_norm(double norm, double *moved)
{
	enum { ENTRIES = 30 };
	muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	double sum = 0, before[ENTRIES];
	options.weight_decay = 0;
	fixture_start(&f, 77);
	muon_parameter *p = FIXTURE_ADD(&f, "w", MUON_F32, 5, 6);
	for (int i = 0; i < ENTRIES; i++)
		sum += fixture_gradient(p, i) * fixture_gradient(p, i);
	for (int i = 0; i < ENTRIES; i++) {
		fixture_set_gradient(p, i, fixture_gradient(p, i) * norm / sqrt(sum));
		before[i] = fixture_value(p, i);
	}
	muon_optimizer *o = fixture_optimizer(&f, &options);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 1, NULL), MUON_OK);
	for (int i = 0; i < ENTRIES; i++)
		moved[i] = fixture_value(p, i) - before[i];
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void test_any_norm(void)
{
	static const double norms[] = {1e-30, 1e-20, 1e-9, 1e9, 1e30};
	double expected[30], moved[30], worst = 0;
	step_of_norm(1, expected);
	for (size_t k = 0; k < sizeof norms / sizeof *norms; k++) {
		step_of_norm(norms[k], moved);
		for (int i = 0; i < 30; i++)
			worst = fmax(worst, fabs(moved[i] - expected[i]));
	}
	CU_ASSERT(worst < 2e-6); /* of entries up to 0.3 */
	CU_ASSERT(fabs(expected[0]) > 1e-3);
}

static void test_zero_gradient(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	muon_statistics s;
	fixture_start(&f, 77);
	muon_parameter *p = FIXTURE_ADD(&f, "w", MUON_F32, 5, 6);
	FIXTURE_ADD(&f, "b", MUON_F32, 5);
	fixture_draw_gradients(&f, 0);
	const double before = fixture_value(p, 7);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0.5, NULL), MUON_OK);
	UNIT_CLOSE(fixture_value(p, 7), before * (1 - 0.5 * 0.1), 1e-7); /* decay alone */
	CU_ASSERT_EQUAL(muon_optimizer_statistics(o, 1, &s), MUON_OK);
	CU_ASSERT_EQUAL(s.update_rms, 0);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* Who did not look at what creation answered. */
static void test_no_optimizer(void)
{
	const muon_qk_layer layer = {0};
	const double logits[] = {1};
	muon_error err = {0};
	CU_ASSERT_EQUAL(muon_optimizer_step(NULL, 0.1, &err), MUON_E_USAGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "no optimizer"));
	CU_ASSERT_EQUAL(muon_optimizer_save(NULL, saved_state_put, NULL, NULL), MUON_E_USAGE);
	CU_ASSERT_EQUAL(muon_optimizer_load(NULL, saved_state_get, NULL, 1, NULL), MUON_E_USAGE);
	CU_ASSERT_EQUAL(muon_optimizer_set_statistics(NULL, 0, NULL), MUON_E_USAGE);
	CU_ASSERT_EQUAL(muon_optimizer_qk_clip(NULL, &layer, logits, 100, 0.5, NULL, NULL),
			MUON_E_USAGE);
	muon_optimizer_destroy(NULL);
}

UNIT_SUITE(optim_refusals, {"parameters", test_parameters}, {"names", test_names},
	   {"options", test_options}, {"unsupported", test_unsupported},
	   {"NaN and Inf", test_nonfinite}, {"NaN inside", test_nonfinite_inside},
	   {"overflow", test_overflow}, {"learning rate", test_learning_rate},
	   {"any norm", test_any_norm}, {"zero gradient", test_zero_gradient},
	   {"no optimizer", test_no_optimizer})
