#include "checkpoint/names.h"

#include <string.h>

bool mspec_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Length of the name without a final ":0". */
static size_t bare_length(const char *name)
{
	size_t length = strlen(name), digits = length;
	while (digits && mspec_is_digit(name[digits - 1]))
		digits--;
	return digits < length && digits && name[digits - 1] == ':' ? digits - 1 : length;
}

void mspec_name_key(char key[MSPEC_KEY_SIZE], const char *name)
{
	size_t length = bare_length(name), room = MSPEC_KEY_SIZE - 3;
	if (length > room) {
		name += length - room;
		length = room;
	}
	char *out = key;
	*out++ = '.';
	for (size_t i = 0; i < length; i++) {
		char c = name[i];
		if (c >= 'A' && c <= 'Z') /* tolower would depend on the locale */
			c = (char)(c - 'A' + 'a');
		*out++ = c == '/' || c == ':' ? '.' : c;
	}
	*out++ = '.';
	*out = 0;
}

bool mspec_key_has(const char *key, const char *text)
{
	return strstr(key, text) != NULL;
}

bool mspec_ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), want = strlen(end);
	return length >= want && !memcmp(text + length - want, end, want);
}
