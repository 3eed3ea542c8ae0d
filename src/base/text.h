/* Strings: growing text, escaping of foreign names, patterns, natural order. */
#ifndef MUON_BASE_TEXT_H
#define MUON_BASE_TEXT_H

#include <muon/error.h>
#include <stdbool.h>

/* Text that grows. Zero-initialise; `failed` is set, and everything after ignored, when out of
 * memory, so that only the end needs a check. */
typedef struct muon_text {
	char *bytes; /* NUL-terminated once anything was added */
	size_t length, capacity;
	bool failed;
} muon_text;

void muon_text_add(muon_text *text, const char *bytes, size_t length);
void muon_text_add_string(muon_text *text, const char *string);
void muon_text_format(muon_text *text, const char *format, ...) MUON_PRINTF(2, 3);
void muon_text_release(muon_text *text);

/* Write `text` into `out` (capacity bytes, NUL-terminated, cut if too long) with control
 * characters, backslashes and bytes that are not valid UTF-8 as \n, \t, \\ or \xNN, and Unicode's
 * invisible direction marks too, so that a terminal, a log line or a CSV cell can hold it. Returns
 * `out`. */
char *muon_escape(char *out, size_t capacity, const char *text);

/* The same, never cut; NULL when out of memory. Release with muon_free. */
char *muon_escape_all(const char *text);

bool muon_is_utf8(const char *text);

/* Does one of the shell patterns match? */
bool muon_matches_any(const char *const *globs, size_t count, const char *name);

/* Order in which runs of digits compare as numbers: "a2" < "a10". Total: equal only for the same
 * bytes. */
int muon_natural_compare(const char *a, const char *b);

#endif
