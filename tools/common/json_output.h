/* JSON values that any file's names and any number can go into. */
#ifndef MUONSPEC_TOOL_JSON_OUTPUT_H
#define MUONSPEC_TOOL_JSON_OUTPUT_H

#include <muonspec/checkpoint.h>

#include <jansson.h>
#include <stdio.h>

/* The text as it is when it is UTF-8, else escaped; null for NULL. */
json_t *json_text(const char *text);
/* Give `value` to the object or array. A value that is NULL, and what else fails for want of
 * memory, is remembered: json_print then fails, so that nothing goes missing in silence. */
void json_put(json_t *object, const char *key, json_t *value);
void json_add(json_t *array, json_t *value);
/* null for NaN and Inf, which JSON can't hold. */
json_t *json_number_or_null(double value);
/* The same of steps and tokens, which are counts: written without a fraction. */
json_t *json_whole_or_null(double value);
/* {"version", "blas", "threads"} */
json_t *json_tool(int threads);
/* {"path", "format", "layout", "step", "optimizer"} */
json_t *json_checkpoint(const mspec_checkpoint_info *info);
/* Print `value` (taken over) to standard output, indented or on one line; ASCII only, so that no
 * name can reach the terminal's control codes. MUON_E_MEMORY if value is NULL or a json_put or
 * json_add has failed. */
int json_print(json_t *value, bool one_line, muon_error *err);
/* The same to a file. */
int json_write(FILE *to, json_t *value, bool one_line, muon_error *err);

#endif
