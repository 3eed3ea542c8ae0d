#include "unit/optim/optim_fixture.h"

static void save(muon_optimizer *o, saved_state *s)
{
	saved_state_release(s);
	CU_ASSERT_EQUAL_FATAL(muon_optimizer_save(o, saved_state_put, s, NULL), MUON_OK);
}

static int load(muon_optimizer *o, saved_state *s, int64_t steps, muon_error *err)
{
	s->read = 0;
	s->tensors = 0;
	return muon_optimizer_load(o, saved_state_get, s, steps, err);
}

static void check_same(const unsigned char *a, size_t na, const unsigned char *b, size_t nb)
{
	CU_ASSERT_EQUAL_FATAL(na, nb);
	CU_ASSERT(!memcmp(a, b, na));
}

static void check_same_values(const optim_fixture *f, const optim_fixture *g)
{
	for (size_t k = 0; k < f->count; k++) {
		const muon_parameter *p = &f->parameters[k];
		CU_ASSERT(!memcmp(p->values, g->parameters[k].values,
				  (size_t)fixture_elements(p) * muon_dtype_size(p->dtype)));
	}
}

/* ---- names and shapes ----------------------------------------------------------------------- */

typedef struct listing {
	char text[2048];
	size_t bytes;
} listing;

static int list(void *context, const muon_state_tensor *tensor, muon_error *err)
{
	(void)err;
	listing *l = context;
	const size_t used = strlen(l->text);
	snprintf(l->text + used, sizeof l->text - used, "%s %s %lld [%d]\n", tensor->name,
		 muon_dtype_name(tensor->dtype), (long long)tensor->elements, tensor->rank);
	l->bytes += (size_t)tensor->elements * muon_dtype_size(tensor->dtype);
	return MUON_OK;
}

static void test_tensors(void)
{
	optim_fixture f;
	listing l = {.bytes = 0};
	fixture_start(&f, 1);
	FIXTURE_ADD(&f, "embed.weight", MUON_F32, 5, 3);
	FIXTURE_ADD(&f, "w", MUON_F32, 4, 3);
	FIXTURE_ADD(&f, "b", MUON_BF16, 2, 3, 2);
	FIXTURE_ADD(&f, "c", MUON_BF16, 7);
	FIXTURE_ADD(&f, "d", MUON_F64, 2, 2);
	const muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *o = fixture_optimizer(&f, &options);
	CU_ASSERT_EQUAL(muon_optimizer_save(o, list, &l, NULL), MUON_OK);
	CU_ASSERT_STRING_EQUAL(l.text, "embed.weight/exp_avg f32 15 [2]\n"
				       "embed.weight/exp_avg_sq f32 15 [2]\n"
				       "w/momentum f32 12 [2]\n"
				       "b/momentum f32 12 [3]\n"
				       "b/master f32 12 [3]\n"
				       "c/exp_avg f32 7 [1]\n"
				       "c/exp_avg_sq f32 7 [1]\n"
				       "c/master f32 7 [1]\n"
				       "d/momentum f64 4 [2]\n");
	CU_ASSERT_EQUAL(muon_optimizer_state_bytes(o), l.bytes);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* ---- going on with the same bits ------------------------------------------------------------ */

static void test_resume(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f, g;
	saved_state middle = {.fail_at = -1}, end = middle, resumed = middle;
	size_t n, m;
	fixture_start(&f, 3);
	fixture_add_all_kinds(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 3, 0.01);
	save(o, &middle);
	/* the same parameters elsewhere; bf16 values will come out of the masters */
	fixture_start(&g, 4);
	fixture_add_all_kinds(&g);
	for (size_t k = 0; k < f.count; k++)
		if (f.parameters[k].dtype == MUON_F32)
			memcpy(g.parameters[k].values, f.parameters[k].values,
			       4 * (size_t)fixture_elements(&f.parameters[k]));
	muon_optimizer *p = fixture_optimizer(&g, &options);
	fixture_run(&g, p, 0, 0);
	CU_ASSERT_EQUAL(load(p, &middle, muon_optimizer_steps(o), NULL), MUON_OK);
	CU_ASSERT_EQUAL(muon_optimizer_steps(p), 3);
	check_same_values(&f, &g);
	g.random = f.random;
	fixture_run(&f, o, 3, 0.01);
	fixture_run(&g, p, 3, 0.01);
	unsigned char *a = fixture_bytes(&f, &n), *b = fixture_bytes(&g, &m);
	check_same(a, n, b, m);
	save(o, &end);
	save(p, &resumed);
	check_same(end.bytes, end.used, resumed.bytes, resumed.used);
	CU_ASSERT_EQUAL(muon_optimizer_steps(p), 6);
	muon_free(a);
	muon_free(b);
	saved_state_release(&middle);
	saved_state_release(&end);
	saved_state_release(&resumed);
	muon_optimizer_destroy(&o);
	muon_optimizer_destroy(&p);
	fixture_end(&f);
	fixture_end(&g);
}

/* ---- failures leave it as it was ------------------------------------------------------------ */

typedef struct spoiler {
	saved_state *state;
	const char *tensor;
	float value;
} spoiler;

static int get_spoilt(void *context, const muon_state_tensor *tensor, muon_error *err)
{
	const spoiler *s = context;
	int code = saved_state_get(s->state, tensor, err);
	if (!strcmp(tensor->name, s->tensor))
		((float *)tensor->data)[tensor->elements - 1] = s->value;
	return code;
}

static void test_failed_load(void)
{
	static const struct {
		const char *tensor;
		float value;
		int code;
	} spoilt[] = {
	    {"wide/momentum", NAN, MUON_E_NONFINITE},
	    {"tall/master", INFINITY, MUON_E_NONFINITE},
	    {"lm_head.weight/exp_avg_sq", -1, MUON_E_FORMAT},
	    {"bias/master", NAN, MUON_E_NONFINITE},
	};
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	saved_state before = {.fail_at = -1}, after = before, other = before;
	size_t n, m;
	fixture_start(&f, 6);
	fixture_add_all_kinds(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 1, 0.01);
	save(o, &other);
	fixture_run(&f, o, 1, 0.01);
	save(o, &before);
	unsigned char *a = fixture_bytes(&f, &n);
	for (other.fail_at = 0; other.fail_at < other.tensors; other.fail_at += 5) {
		muon_error err = {0};
		const int tensors = other.tensors;
		CU_ASSERT_EQUAL(load(o, &other, 1, &err), MUON_E_READ);
		CU_ASSERT_EQUAL(err.code, MUON_E_READ);
		other.tensors = tensors;
	}
	other.fail_at = -1;
	for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
		muon_error err = {0};
		spoiler s = {&other, spoilt[i].tensor, spoilt[i].value};
		other.read = 0;
		CU_ASSERT_EQUAL(muon_optimizer_load(o, get_spoilt, &s, 1, &err), spoilt[i].code);
		CU_ASSERT_STRING_EQUAL(err.where, spoilt[i].tensor);
	}
	CU_ASSERT_EQUAL(load(o, &other, -1, NULL), MUON_E_ARGUMENT);
	save(o, &after);
	unsigned char *b = fixture_bytes(&f, &m);
	check_same(before.bytes, before.used, after.bytes, after.used);
	check_same(a, n, b, m);
	CU_ASSERT_EQUAL(muon_optimizer_steps(o), 2);
	after.fail_at = 3;
	after.tensors = 0;
	CU_ASSERT_EQUAL(muon_optimizer_save(o, saved_state_put, &after, NULL), MUON_E_WRITE);
	muon_free(a);
	muon_free(b);
	saved_state_release(&before);
	saved_state_release(&after);
	saved_state_release(&other);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

UNIT_SUITE(optim_state, {"tensors", test_tensors}, {"resume", test_resume},
	   {"failed load", test_failed_load})
