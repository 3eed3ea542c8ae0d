#include "unit/optim/optim_fixture.h"

#include "kernels/bf16.h"

#include <stdlib.h>

void fixture_start(optim_fixture *f, uint64_t seed)
{
	*f = (optim_fixture){.count = 0};
	muon_random_seed(&f->random, seed);
}

static void set(muon_dtype dtype, void *entries, int64_t i, double x)
{
	if (dtype == MUON_F64)
		((double *)entries)[i] = x;
	else if (dtype == MUON_F32)
		((float *)entries)[i] = (float)x;
	else
		((uint16_t *)entries)[i] = muon_bf16_from_float((float)x);
}

static double entry(muon_dtype dtype, const void *entries, int64_t i)
{
	double x;
	const char *at = (const char *)entries + (size_t)i * muon_dtype_size(dtype);
	muon_convert_f64(dtype, at, 1, &x);
	return x;
}

int64_t fixture_elements(const muon_parameter *p)
{
	int64_t n = 1;
	for (int i = 0; i < p->rank; i++)
		n *= p->dims[i];
	return n;
}

double fixture_value(const muon_parameter *p, int64_t i)
{
	return entry(p->dtype, p->values, i);
}

double fixture_gradient(const muon_parameter *p, int64_t i)
{
	return entry(p->gradient_dtype, p->gradient, i);
}

static void *gradient_of(const muon_parameter *p)
{
	union {
		const void *constant;
		void *buffer;
	} gradient = {.constant = p->gradient}; /* the fixture allocated it */
	return gradient.buffer;
}

void fixture_set_value(muon_parameter *p, int64_t i, double x)
{
	set(p->dtype, p->values, i, x);
}

void fixture_set_gradient(muon_parameter *p, int64_t i, double x)
{
	set(p->gradient_dtype, gradient_of(p), i, x);
}

void fixture_draw_gradients(optim_fixture *f, double scale)
{
	for (size_t k = 0; k < f->count; k++) {
		muon_parameter *p = &f->parameters[k];
		for (int64_t i = 0; i < fixture_elements(p); i++)
			fixture_set_gradient(p, i, scale * muon_random_normal(&f->random));
	}
}

muon_parameter *fixture_add(optim_fixture *f, const char *name, muon_dtype dtype,
			    const int64_t *dims)
{
	CU_ASSERT_FATAL(f->count < FIXTURE_MOST);
	muon_parameter *p = &f->parameters[f->count];
	char *copy = f->names[f->count];
	strncpy(copy, name, sizeof f->names[0] - 1);
	*p = (muon_parameter){.name = copy, .dtype = dtype, .gradient_dtype = dtype};
	while (dims[p->rank]) {
		p->dims[p->rank] = dims[p->rank];
		p->rank++;
	}
	const size_t n = (size_t)fixture_elements(p);
	p->values = muon_alloc(n, muon_dtype_size(dtype));
	p->gradient = muon_alloc(n, muon_dtype_size(dtype));
	CU_ASSERT_FATAL(p->values && p->gradient);
	for (size_t i = 0; i < n; i++) {
		fixture_set_value(p, (int64_t)i, 0.1 * muon_random_normal(&f->random));
		fixture_set_gradient(p, (int64_t)i, muon_random_normal(&f->random));
	}
	f->count++;
	return p;
}

void fixture_end(optim_fixture *f)
{
	for (size_t k = 0; k < f->count; k++) {
		muon_free(f->parameters[k].values);
		muon_free(gradient_of(&f->parameters[k]));
	}
	f->count = 0;
}

unsigned char *fixture_bytes(const optim_fixture *f, size_t *count)
{
	size_t total = 0;
	unsigned char *bytes = NULL;
	for (int pass = 0; pass < 2; pass++) {
		total = 0;
		for (size_t k = 0; k < f->count; k++) {
			const muon_parameter *p = &f->parameters[k];
			const size_t n = (size_t)fixture_elements(p) * muon_dtype_size(p->dtype);
			if (pass) {
				memcpy(bytes + total, p->values, n);
				memcpy(bytes + total + n, p->gradient, n);
			}
			total += 2 * n;
		}
		if (!pass)
			bytes = muon_alloc(total, 1);
		CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
	}
	*count = total;
	return bytes;
}

void fixture_add_all_kinds(optim_fixture *f)
{
	static const int64_t qkv[] = {9, 5, 5};
	FIXTURE_ADD(f, "model.embed_tokens.weight", MUON_F32, 37, 11);
	FIXTURE_ADD(f, "wide", MUON_F32, 13, 29);
	FIXTURE_ADD(f, "tall", MUON_BF16, 31, 7);
	FIXTURE_ADD(f, "norm.weight", MUON_F32, 11);
	FIXTURE_ADD(f, "experts", MUON_F32, 3, 6, 10);
	FIXTURE_ADD(f, "conv", MUON_F32, 8, 3, 3, 3);
	FIXTURE_ADD(f, "heads", MUON_F32, 12, 17)->heads = 3;
	muon_parameter *fused = FIXTURE_ADD(f, "fused", MUON_BF16, 19, 8);
	fused->splits = qkv;
	fused->split_count = 3;
	FIXTURE_ADD(f, "layers.0.mlp.gate.weight", MUON_F32, 4, 23);
	FIXTURE_ADD(f, "bias", MUON_BF16, 5);
	FIXTURE_ADD(f, "lm_head.weight", MUON_F32, 37, 11);
}

muon_optimizer *fixture_optimizer(optim_fixture *f, const muon_options *options)
{
	muon_error err = {0};
	muon_optimizer *o = NULL;
	int code = muon_optimizer_create(&o, options, f->parameters, f->count, &err);
	if (code)
		fprintf(stderr, "%s: %s\n", err.where, err.message);
	CU_ASSERT_EQUAL_FATAL(code, MUON_OK);
	return o;
}

void fixture_run(optim_fixture *f, muon_optimizer *o, int steps, double lr)
{
	for (int i = 0; i < steps; i++) {
		fixture_draw_gradients(f, 1);
		CU_ASSERT_EQUAL(muon_optimizer_step(o, lr, NULL), MUON_OK);
	}
}

/* ---- state in memory ------------------------------------------------------------------------ */

int saved_state_put(void *context, const muon_state_tensor *tensor, muon_error *err)
{
	saved_state *s = context;
	if (s->tensors++ == s->fail_at)
		return muon_fail(err, MUON_E_WRITE, tensor->name, "as told");
	const size_t bytes = (size_t)tensor->elements * muon_dtype_size(tensor->dtype);
	while (s->used + bytes > s->capacity) {
		s->capacity = s->capacity ? 2 * s->capacity : 4096;
		s->bytes = realloc(s->bytes, s->capacity);
		CU_ASSERT_PTR_NOT_NULL_FATAL(s->bytes);
	}
	memcpy(s->bytes + s->used, tensor->data, bytes);
	s->used += bytes;
	return MUON_OK;
}

int saved_state_get(void *context, const muon_state_tensor *tensor, muon_error *err)
{
	saved_state *s = context;
	if (s->tensors++ == s->fail_at)
		return muon_fail(err, MUON_E_READ, tensor->name, "as told");
	const size_t bytes = (size_t)tensor->elements * muon_dtype_size(tensor->dtype);
	CU_ASSERT_FATAL(s->read + bytes <= s->used);
	memcpy(tensor->data, s->bytes + s->read, bytes);
	s->read += bytes;
	return MUON_OK;
}

void saved_state_release(saved_state *s)
{
	free(s->bytes);
	*s = (saved_state){.fail_at = -1};
}
