/* Small sets of parameters with random values and gradients. */
#ifndef TESTS_UNIT_OPTIM_FIXTURE_H
#define TESTS_UNIT_OPTIM_FIXTURE_H

#include "base/memory.h"
#include "base/random.h"
#include "unit/unit.h"

#include <math.h>
#include <muon/optim.h>
#include <stdio.h>
#include <string.h>

enum { FIXTURE_MOST = 16 };

/* Parameters whose buffers are the fixture's. */
typedef struct optim_fixture {
	muon_parameter parameters[FIXTURE_MOST];
	char names[FIXTURE_MOST][32];
	size_t count;
	muon_random random;
} optim_fixture;

void fixture_start(optim_fixture *f, uint64_t seed);
/* Add a parameter of these dims (0 ends the list), its values normal / 10, its gradient normal. */
muon_parameter *fixture_add(optim_fixture *f, const char *name, muon_dtype dtype,
			    const int64_t *dims);
#define FIXTURE_ADD(f, name, dtype, ...)                                                           \
	fixture_add((f), (name), (dtype), (const int64_t[]){__VA_ARGS__, 0})
/* New normal gradients times `scale`. */
void fixture_draw_gradients(optim_fixture *f, double scale);
void fixture_end(optim_fixture *f);

int64_t fixture_elements(const muon_parameter *p);
double fixture_value(const muon_parameter *p, int64_t i);
double fixture_gradient(const muon_parameter *p, int64_t i);
void fixture_set_value(muon_parameter *p, int64_t i, double x);
void fixture_set_gradient(muon_parameter *p, int64_t i, double x);
/* Values (and gradients) of all parameters, byte for byte; release with muon_free. */
unsigned char *fixture_bytes(const optim_fixture *f, size_t *count);

/* A mixed bag: matrices both ways, stacks, heads, splits, a convolution, bf16, vectors. */
void fixture_add_all_kinds(optim_fixture *f);

muon_optimizer *fixture_optimizer(optim_fixture *f, const muon_options *options);
/* Steps with new gradients each. */
void fixture_run(optim_fixture *f, muon_optimizer *o, int steps, double lr);

/* State of an optimizer, tensor by tensor, in memory. */
typedef struct saved_state {
	unsigned char *bytes;
	size_t used, capacity, read;
	int tensors;
	int fail_at; /* answer MUON_E_READ at this tensor; -1: never */
} saved_state;

int saved_state_put(void *context, const muon_state_tensor *tensor, muon_error *err);
int saved_state_get(void *context, const muon_state_tensor *tensor, muon_error *err);
void saved_state_release(saved_state *s);

#endif
