/* Checkpoints of small models, written for the tests of what reads them. */
#ifndef TESTS_ANALYSIS_MODEL_FILE_H
#define TESTS_ANALYSIS_MODEL_FILE_H

#include "unit/model/fixture.h"

#include <muonspec/forward.h>

typedef struct model_file {
	const mspec_model_config *config;
	const float *parameters;
	const char *json;              /* instead of the configuration's own; "": none at all */
	const char *without;           /* a tensor that is left out */
	double step, lr, weight_decay; /* NaN: not stated */
	/* recorded activations, one a layer; NULL: none */
	const double *output_rms, *output_max_abs, *max_attention_logit;
} model_file;

#define MODEL_FILE(config, parameters)                                                             \
	{                                                                                          \
		config, parameters, NULL, NULL, NAN, NAN, NAN, NULL, NULL, NULL                    \
	}

void model_file_write(const char *path, const model_file *file);
/* The configuration in the keys of Hugging Face. */
const char *model_file_json(const mspec_model_config *config);
/* Random parameters, norms about 1; release with muon_free. */
float *model_file_parameters(const mspec_model_config *config, uint64_t seed);
/* Entries of a tensor in the array. */
float *model_file_tensor(const mspec_model_config *config, float *parameters, const char *name);

#endif
