#include "base/text.h"

#include "base/memory.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool reserve(muon_text *text, size_t more)
{
	if (text->failed || more >= SIZE_MAX / 4 - text->length)
		text->failed = true;
	else if (text->length + more + 1 > text->capacity) {
		size_t capacity = text->capacity ? text->capacity : 256;
		while (capacity < text->length + more + 1)
			capacity *= 2;
		char *bytes = muon_resize(text->bytes, capacity, 1);
		if (bytes) {
			text->bytes = bytes;
			text->capacity = capacity;
		} else {
			text->failed = true;
		}
	}
	return !text->failed;
}

void muon_text_add(muon_text *text, const char *bytes, size_t length)
{
	if (!reserve(text, length))
		return;
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	text->bytes[text->length] = 0;
}

void muon_text_add_string(muon_text *text, const char *string)
{
	muon_text_add(text, string, strlen(string));
}

void muon_text_format(muon_text *text, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length >= 0 && reserve(text, (size_t)length)) {
		vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
		text->length += (size_t)length;
	}
	va_end(again);
}

void muon_text_release(muon_text *text)
{
	muon_free(text->bytes);
	*text = (muon_text){0};
}

/* Length of the valid UTF-8 sequence at s, its code point in *code; 0 if there is none. */
static int utf8_sequence(const unsigned char *s, unsigned *code)
{
	static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
	int length = s[0] < 0x80   ? 1
	             : s[0] < 0xc0 ? 0
	             : s[0] < 0xe0 ? 2
	             : s[0] < 0xf0 ? 3
	             : s[0] < 0xf8 ? 4
	                           : 0;
	if (length < 2) {
		*code = s[0];
		return length;
	}
	unsigned c = s[0] & (0xffu >> (length + 1));
	for (int i = 1; i < length; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	*code = c;
	bool surrogate = c >= 0xd800 && c <= 0xdfff;
	return c < least[length] || c > 0x10ffff || surrogate ? 0 : length;
}

static bool is_invisible(unsigned code)
{
	return code < 0x20 || code == 0x7f || (code >= 0x80 && code < 0xa0) || /* C0, C1 controls */
	       (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2060 && code <= 0x206f) || code == 0xfeff; /* direction and joining marks */
}

char *muon_escape(char *out, size_t capacity, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t used = 0;
	if (!capacity)
		return out;
	while (*s) {
		unsigned code;
		int length = utf8_sequence(s, &code);
		char piece[24];
		if (length && !is_invisible(code) && code != '\\') {
			memcpy(piece, s, (size_t)length);
			piece[length] = 0;
		} else if (*s == '\n' || *s == '\t' || *s == '\r' || *s == '\\') {
			snprintf(piece, sizeof piece, "\\%c",
			         *s == '\n'   ? 'n'
			         : *s == '\t' ? 't'
			         : *s == '\r' ? 'r'
			                      : '\\');
			length = 1;
		} else {
			if (!length)
				length = 1;
			for (int i = 0; i < length; i++)
				snprintf(piece + 4 * i, 5, "\\x%02x", s[i]);
		}
		size_t need = strlen(piece);
		if (used + need + 1 > capacity)
			break;
		memcpy(out + used, piece, need);
		used += need;
		s += length;
	}
	out[used] = 0;
	return out;
}

char *muon_escape_all(const char *text)
{
	size_t length = strlen(text), longest = strlen("\\xNN"); /* that a byte becomes */
	if (length > SIZE_MAX / longest - 1)
		return NULL;
	size_t capacity = longest * length + 1;
	char *out = muon_alloc(capacity, 1);
	return out ? muon_escape(out, capacity, text) : NULL;
}

bool muon_is_utf8(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	while (*s) {
		unsigned code;
		int length = utf8_sequence(s, &code);
		if (!length)
			return false;
		s += length;
	}
	return true;
}

int muon_natural_compare(const char *a, const char *b)
{
	const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
	while (*x && *y) {
		if (isdigit(*x) && isdigit(*y)) {
			while (*x == '0')
				x++;
			while (*y == '0')
				y++;
			size_t nx = 0, ny = 0;
			while (isdigit(x[nx]))
				nx++;
			while (isdigit(y[ny]))
				ny++;
			if (nx != ny)
				return nx < ny ? -1 : 1;
			int order = memcmp(x, y, nx);
			if (order)
				return order;
			x += nx;
			y += ny;
		} else if (*x != *y) {
			return *x < *y ? -1 : 1;
		} else {
			x++;
			y++;
		}
	}
	if (*x || *y)
		return *x ? 1 : -1;
	return strcmp(a, b); /* "a01" and "a1" differ all the same */
}

/* ---- patterns -------------------------------------------------------------------------------- */

bool muon_matches_any(const char *const *globs, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!fnmatch(globs[i], name, 0))
			return true;
	return false;
}
