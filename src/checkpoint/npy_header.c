#include "checkpoint/npy_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t prefix_size(const unsigned char *prefix)
{
	return prefix[6] == 1 ? 10 : 12;
}

size_t mspec_npy_header_size(const unsigned char *prefix, const char **problem)
{
	if (memcmp(prefix, "\x93NUMPY", 6)) {
		*problem = "is not a .npy array";
		return 0;
	}
	if (prefix[6] < 1 || prefix[6] > 3 || prefix[7]) {
		*problem = "unknown version of the .npy format";
		return 0;
	}
	size_t text = prefix[8] | (size_t)prefix[9] << 8;
	if (prefix[6] > 1)
		text |= (size_t)prefix[10] << 16 | (size_t)prefix[11] << 24;
	if (text > MSPEC_NPY_MAX_HEADER) {
		*problem = "the .npy header is longer than any header";
		return 0;
	}
	return prefix_size(prefix) + text;
}

/* The part of Python's literals that NumPy writes; every function skips blanks before what it
 * takes, and nothing is taken when it returns false. */
typedef struct parser {
	const char *at, *end;
} parser;

static void skip_blanks(parser *p)
{
	while (p->at < p->end && strchr(" \t\r\n", *p->at) && *p->at)
		p->at++;
}

static bool take(parser *p, const char *token)
{
	size_t length = strlen(token);
	skip_blanks(p);
	if ((size_t)(p->end - p->at) < length || memcmp(p->at, token, length))
		return false;
	p->at += length;
	return true;
}

/* 'text' or "text" without escapes, cut to the capacity of `out`. */
static bool take_string(parser *p, char *out, size_t capacity)
{
	skip_blanks(p);
	if (p->at == p->end || (*p->at != '\'' && *p->at != '"'))
		return false;
	char quote = *p->at;
	const char *start = p->at + 1, *s = start;
	while (s < p->end && *s != quote && *s != '\\' && *s)
		s++;
	if (s == p->end || *s != quote)
		return false;
	snprintf(out, capacity, "%.*s", (int)(s - start), start);
	p->at = s + 1;
	return true;
}

/* A list or tuple of anything, which has no meaning for us. */
static bool skip_sequence(parser *p)
{
	skip_blanks(p);
	const char *s = p->at;
	if (s == p->end || (*s != '[' && *s != '('))
		return false;
	int depth = 0;
	char quote = 0;
	for (; s < p->end; s++) {
		if (quote && *s == '\\' && s + 1 < p->end)
			s++;
		else if (quote)
			quote = *s == quote ? 0 : quote;
		else if (*s == '\'' || *s == '"')
			quote = *s;
		else if (*s == '[' || *s == '(')
			depth++;
		else if ((*s == ']' || *s == ')') && !--depth)
			break;
	}
	if (s == p->end)
		return false;
	p->at = s + 1;
	return true;
}

static bool take_bool(parser *p, bool *value)
{
	*value = take(p, "True");
	return *value || take(p, "False");
}

/* A size too large for any tensor comes out as INT64_MAX. */
static bool take_size(parser *p, int64_t *value)
{
	skip_blanks(p);
	const char *s = p->at;
	*value = 0;
	for (; s < p->end && *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, *s - '0', value))
			*value = INT64_MAX;
	if (s == p->at)
		return false;
	p->at = s;
	if (p->at < p->end && *p->at == 'L') /* Python 2 */
		p->at++;
	return true;
}

/* (), (3,), (3, 4), (3, 4,) */
static bool take_shape(parser *p, mspec_npy_header *header)
{
	header->rank = 0;
	if (!take(p, "("))
		return false;
	bool comma = true;
	int64_t size;
	while (comma && take_size(p, &size)) {
		if (header->rank < MSPEC_MAX_RANK)
			header->dims[header->rank] = size;
		header->rank++;
		comma = take(p, ",");
	}
	return take(p, ")") && (header->rank != 1 || comma);
}

static muon_dtype find_number_type(char kind, int size)
{
	static const struct {
		char kind;
		int size;
		muon_dtype dtype;
	} types[] = {
	    {'f', 8, MUON_F64}, {'f', 4, MUON_F32}, {'f', 2, MUON_F16}, {'i', 8, MUON_I64},
	    {'i', 4, MUON_I32}, {'i', 2, MUON_I16}, {'i', 1, MUON_I8},  {'u', 8, MUON_U64},
	    {'u', 4, MUON_U32}, {'u', 2, MUON_U16}, {'u', 1, MUON_U8},  {'b', 1, MUON_BOOL},
	};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (types[i].kind == kind && types[i].size == size)
			return types[i].dtype;
	return MUON_DTYPE_NONE;
}

/* "<f4", "|u1", ... A void type ("|V2") is never taken for bf16: the file does not say so. */
static void set_type(mspec_npy_header *header, const char *descr)
{
	header->dtype = MUON_DTYPE_NONE;
	header->big_endian = *descr == '>';
	snprintf(header->type_name, sizeof header->type_name, "%s", descr);
	if (!*descr || !strchr("<>|=", *descr) || !descr[1])
		return;
	size_t digits = strspn(descr + 2, "0123456789");
	bool sized = digits && digits < 6 && !descr[2 + digits];
	int size = sized ? atoi(descr + 2) : 0;
	const char *word = NULL;
	switch (descr[1]) {
	case 'O':
		word = "object";
		break;
	case 'U':
	case 'S':
	case 'a':
		word = "text";
		break;
	case 'c':
		word = "complex";
		break;
	case 'V':
		word = descr + 1;
		break;
	case 'f':
		word = size == 16 ? "float128" : NULL;
		break;
	}
	header->dtype = find_number_type(descr[1], size);
	if (word)
		snprintf(header->type_name, sizeof header->type_name, "%s", word);
}

static bool take_type(parser *p, mspec_npy_header *header)
{
	char descr[sizeof header->type_name];
	if (take_string(p, descr, sizeof descr)) {
		set_type(header, descr);
		return true;
	}
	header->dtype = MUON_DTYPE_NONE;
	header->big_endian = false;
	strcpy(header->type_name, "structured");
	return skip_sequence(p);
}

/* One "key: value" of the dict; `seen` has a bit for each key met. */
static bool take_item(parser *p, mspec_npy_header *header, unsigned *seen)
{
	char key[16];
	if (!take_string(p, key, sizeof key) || !take(p, ":"))
		return false;
	unsigned bit = !strcmp(key, "descr")           ? 1
	               : !strcmp(key, "fortran_order") ? 2
	               : !strcmp(key, "shape")         ? 4
	                                               : 0;
	if (!bit || *seen & bit)
		return false;
	*seen |= bit;
	return bit == 1   ? take_type(p, header)
	       : bit == 2 ? take_bool(p, &header->fortran_order)
	                  : take_shape(p, header);
}

bool mspec_npy_header_parse(const unsigned char *bytes, size_t size, mspec_npy_header *header,
                            const char **problem)
{
	const char *text = (const char *)bytes;
	parser p = {text + prefix_size(bytes), text + size};
	unsigned seen = 0;
	*header = (mspec_npy_header){0};
	bool valid = take(&p, "{"), comma = true;
	while (valid && !take(&p, "}")) {
		valid = comma && take_item(&p, header, &seen);
		comma = take(&p, ",");
	}
	skip_blanks(&p);
	if (valid && seen == 7 && p.at == p.end)
		return true;
	*problem = "the .npy header is malformed";
	return false;
}
