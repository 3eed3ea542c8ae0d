/* JSON values that any file's names and any number can go into. */
#ifndef MUONSPEC_TOOL_JSON_OUTPUT_H
#define MUONSPEC_TOOL_JSON_OUTPUT_H

#include "options.h"

#include <jansson.h>

/* The text as it is when it is UTF-8, else escaped; null for NULL. */
json_t *json_text(const char *text);
/* null for NaN and Inf, which JSON can't hold. */
json_t *json_number_or_null(double value);
/* {"version", "blas", "threads"} */
json_t *json_tool(int threads);
/* {"path", "format", "layout", "step", "optimizer"} */
json_t *json_checkpoint(const mspec_checkpoint_info *info);
/* Print `value` (taken over) to standard output, indented or on one line; ASCII only, so that no
 * name can reach the terminal's control codes. MUON_E_MEMORY if value is NULL. */
int json_print(json_t *value, bool one_line, muon_error *err);

#endif
