/* For the tests of the models: a small float64 model ready to run, its operators too, and gradients
 * by finite differences. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include "model/float32.h"
#include "model/float64.h"
#include "unit/unit.h"

typedef struct fixture {
	mspec_model *model;
	mspec_workspace_f64 workspace;
	mspec_run_f64 run; /* with what mspec_model_run_f64 sets, so that operators may be called */
	double *parameters, *gradient;
	int32_t *tokens, *targets;
} fixture;

/* A small Llama: 2 layers, 4 query and 2 key heads, widths that are no multiple of 32. */
mspec_model_config fixture_llama(void);

/* A small DeepSeek: a dense layer, then one of 2 shared experts and 6 routed, of which 2 a token. */
mspec_model_config fixture_deepseek(void);

/* Random parameters (norms about 1), tokens and targets, some of them -1; loss_scale 0.7. */
void fixture_open(fixture *f, const mspec_model_config *config, int64_t sequences, int64_t length);
void fixture_close(fixture *f);

/* Zero the gradient, as a run does before operators add to it. */
void fixture_clear_gradient(fixture *f);

/* `count` normal numbers; release with muon_free. */
double *fixture_normal(int64_t count, uint64_t seed);

/* The largest |difference quotient of f by x[i] - gradient[i]|, over the largest |gradient[i]|, for
 * `samples` of the `count` entries of x (all, if fewer). x is left as it was. */
double fixture_gradient_error(double (*f)(void *state), void *state, double *x,
                              const double *gradient, int64_t count, int64_t samples);

/* Gradients of the whole model against difference quotients: the worst tensor's error. A tensor with
 * no gradient at all counts as 1, unless it is not trained. */
double fixture_model_error(fixture *f, int64_t samples);

#endif
