#include "matrix_place.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_NAME = 1024 };

static bool is_border(char c)
{
	return !c || strchr("./_-", c);
}

/* Digits between borders at `at`; their number, or 0. */
static size_t number_at(const char *name, size_t at)
{
	size_t length = 0;
	if (at && !is_border(name[at - 1]))
		return 0;
	while (isdigit((unsigned char)name[at + length]))
		length++;
	return length && is_border(name[at + length]) ? length : 0;
}

static void cut_ending(char *name, const char *ending)
{
	size_t length = strlen(name), size = strlen(ending);
	if (length > size && !strcmp(name + length - size, ending))
		name[length - size] = 0;
}

/* The name without its slice, and the words before and after that all weights have. */
static void strip(char *out, size_t capacity, const char *name, const char *slice)
{
	static const char folder[] = "model_weights/"; /* of Keras */
	bool keras = !strncmp(name, folder, sizeof folder - 1);
	snprintf(out, capacity, "%s", keras ? name + sizeof folder - 1 : name);
	char ending[LONGEST_NAME];
	if (slice && snprintf(ending, sizeof ending, "[%s]", slice) < LONGEST_NAME)
		cut_ending(out, ending);
	cut_ending(out, ":0");
	static const char *const words[] = {".weight", "/weight", "/kernel", "/gamma", "_weight"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		cut_ending(out, words[i]);
}

/* "conv2d/conv2d", which Keras writes, is "conv2d". */
static void drop_repetition(char *name)
{
	char *slash = strchr(name, '/');
	size_t length = slash ? (size_t)(slash - name) : 0;
	if (slash && !strncmp(name, slash + 1, length) &&
	    (!slash[1 + length] || slash[1 + length] == '/'))
		memmove(name, slash + 1, strlen(slash + 1) + 1);
}

static size_t back_to_character(const char *text, size_t at)
{
	while (at && ((unsigned char)text[at] & 0xc0) == 0x80)
		at--;
	return at;
}

static void shorten(char *out, size_t capacity, const char *text)
{
	const char gap[] = "\xe2\x80\xa6"; /* an ellipsis */
	size_t length = strlen(text), room = capacity - sizeof gap;
	if (length < capacity) {
		memcpy(out, text, length + 1);
		return;
	}
	size_t head = back_to_character(text, room / 3); /* ends tell more */
	size_t tail = back_to_character(text, length - (room - room / 3));
	if (length - tail > room - head)
		for (tail++; ((unsigned char)text[tail] & 0xc0) == 0x80;)
			tail++;
	snprintf(out, capacity, "%.*s%s%s", (int)head, text, gap, text + tail);
}

void matrix_place_of(matrix_place *place, const char *name, const char *slice)
{
	char whole[LONGEST_NAME], kind[LONGEST_NAME];
	size_t used = 0;
	place->layer = -1;
	strip(whole, sizeof whole, name, slice);
	for (size_t i = 0; whole[i];) {
		size_t digits = number_at(whole, i);
		if (!digits) {
			kind[used++] = whole[i++];
			continue;
		}
		bool first = place->layer < 0 && digits < 6;
		bool part = first && i && strchr("./", whole[i - 1]) && whole[i + digits];
		if (first)
			place->layer = atoi(whole + i);
		i += digits;
		if (part) { /* "model.layers.3.": what stands before is the same for all */
			used = 0;
			i++;
		} else if (used && strchr("_-", kind[used - 1])) { /* "conv2d_3" */
			used--;
		} else {
			kind[used++] = '*';
		}
	}
	kind[used] = 0;
	drop_repetition(kind);
	shorten(place->kind, sizeof place->kind, *kind ? kind : whole);
}
