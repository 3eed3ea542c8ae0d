#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct error_row {
	int code, status;
	const char *text;
} error_row;

static const error_row error_rows[] = {
#define MUON_ERROR_ROW(name, code, status, text) {code, status, text},
    MUON_ERROR_TABLE(MUON_ERROR_ROW)
#undef MUON_ERROR_ROW
};

static const error_row *find_row(int code)
{
	for (size_t i = 0; i < sizeof error_rows / sizeof *error_rows; i++)
		if (error_rows[i].code == code)
			return &error_rows[i];
	return NULL;
}

const char *muon_error_text(int code)
{
	const error_row *row = find_row(code);
	return row ? row->text : "unknown error";
}

int muon_exit_status(int code)
{
	const error_row *row = find_row(code);
	return row ? row->status : muon_exit_status(MUON_E_INTERNAL);
}

int muon_fail(muon_error *err, int code, const char *where, const char *fmt, ...)
{
	if (!err || err->code)
		return code;
	err->code = code;
	muon_escape(err->where, sizeof err->where, where ? where : "");
	va_list args;
	va_start(args, fmt);
	vsnprintf(err->message, sizeof err->message, fmt, args);
	va_end(args);
	return code;
}

void muon_error_clear(muon_error *err)
{
	if (err)
		*err = (muon_error){0};
}

const char *muon_version(void)
{
	return MUON_VERSION;
}
