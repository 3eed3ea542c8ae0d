/* A forward run in each output format, to standard output. */
#ifndef MUONSPEC_TOOL_FORWARD_OUTPUT_H
#define MUONSPEC_TOOL_FORWARD_OUTPUT_H

#include "options.h"

#include <muonspec/forward.h>

int forward_table(const mspec_forward *forward, const mspec_checkpoint_info *checkpoint,
                  const tool_options *options, muon_error *err);
int forward_json(const mspec_forward *forward, const mspec_checkpoint_info *checkpoint,
                 const tool_options *options, muon_error *err);
int forward_jsonl(const mspec_forward *forward, const mspec_checkpoint_info *checkpoint,
                  const tool_options *options, muon_error *err);
int forward_csv(const mspec_forward *forward, muon_error *err);

/* "float32" or "bf16" */
const char *forward_arithmetic(const mspec_forward_run *run);

#endif
