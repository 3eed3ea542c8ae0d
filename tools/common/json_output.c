#include "json_output.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>

static bool incomplete; /* a value has got lost */

void json_put(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value))
		incomplete = true;
}

void json_add(json_t *array, json_t *value)
{
	if (json_array_append_new(array, value))
		incomplete = true;
}

json_t *json_text(const char *text)
{
	json_error_t reason;
	if (!text)
		return json_null();
	json_t *value = json_pack_ex(&reason, 0, "s", text);
	if (value || json_error_code(&reason) != json_error_invalid_utf8)
		return value;
	char *escaped = muon_escape_all(text);
	value = escaped ? json_string(escaped) : NULL;
	muon_free(escaped);
	return value;
}

json_t *json_number_or_null(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_tool(int threads)
{
	return json_pack("{s:s, s:s, s:i}", "version", muon_version(), "blas",
	                 muon_blas_description(), "threads", threads);
}

json_t *json_whole_or_null(double value)
{
	return isfinite(value) && fabs(value) < 9e15 && value == floor(value)
	           ? json_integer((json_int_t)value)
	           : json_number_or_null(value);
}

json_t *json_checkpoint(const mspec_checkpoint_info *info)
{
	return json_pack("{s:o, s:s, s:s, s:o, s:o}", "path", json_text(info->path), "format",
	                 info->format, "layout", info->layout, "step", json_whole_or_null(info->step),
	                 "optimizer", json_text(info->optimizer));
}

int json_write(FILE *to, json_t *value, bool one_line, muon_error *err)
{
	if (!value || incomplete) {
		json_decref(value);
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	}
	size_t flags = JSON_ENSURE_ASCII | JSON_REAL_PRECISION(17) |
	               (one_line ? JSON_COMPACT : JSON_INDENT(2));
	int failed = json_dumpf(value, to, flags);
	fputc('\n', to);
	json_decref(value);
	/* a failed write is reported where the file is flushed */
	return failed && !ferror(to) ? muon_fail(err, MUON_E_MEMORY, NULL, "out of memory") : MUON_OK;
}

int json_print(json_t *value, bool one_line, muon_error *err)
{
	return json_write(stdout, value, one_line, err);
}
