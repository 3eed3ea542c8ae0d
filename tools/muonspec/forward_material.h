/* A checkpoint's model and the tokens to run it on: of forward, and of risk --tokens. */
#ifndef MUONSPEC_TOOL_FORWARD_MATERIAL_H
#define MUONSPEC_TOOL_FORWARD_MATERIAL_H

#include "options.h"

#include <muonspec/forward.h>

typedef struct forward_material {
	mspec_model *model;
	float *parameters;
	int32_t *tokens;
	int64_t count;
} forward_material;

/* The checkpoint's model and options->tokens. Release also after a failure. */
int load_forward(forward_material *material, mspec_checkpoint *checkpoint,
                 const tool_options *options, muon_error *err);
void release_forward(forward_material *material);

/* Run it, as the options say, with a progress line. *forward is NULL after a failure; the material
 * must outlive it. */
int run_forward_material(mspec_forward **forward, const forward_material *material,
                         bool keep_logits, const tool_options *options, muon_error *err);

#endif
