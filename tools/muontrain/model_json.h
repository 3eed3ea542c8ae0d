/* A model's configuration as the JSON that Hugging Face's LlamaConfig or DeepseekV3Config reads. */
#ifndef MUONTRAIN_MODEL_JSON_H
#define MUONTRAIN_MODEL_JSON_H

#include <muonspec/model.h>

/* NULL when out of memory; release with free. */
char *model_json(const mspec_model_config *config);

#endif
