/* Tokens for a model, from a file. */
#include "base/memory.h"
#include "base/text.h"

#include <muonspec/forward.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTE_VOCAB = 256, BLOCK = 65536 };

/* Tokens gathered so far. */
typedef struct gathering {
	int32_t *tokens;
	int64_t count, capacity, limit, vocab;
	const char *path;
	muon_error *err;
} gathering;

static int add_token(gathering *g, double value)
{
	if (!(value >= 0 && value < (double)g->vocab))
		return muon_fail(g->err, MUON_E_FORMAT, g->path,
		                 "token %lld is %.17g, and the model's vocabulary has %lld",
		                 (long long)g->count, value, (long long)g->vocab);
	if (g->count == g->capacity) {
		int64_t capacity = g->capacity ? 2 * g->capacity : BLOCK;
		int32_t *grown = muon_resize(g->tokens, (size_t)capacity, sizeof *grown);
		if (!grown)
			return muon_fail(g->err, MUON_E_MEMORY, g->path, "out of memory");
		g->tokens = grown;
		g->capacity = capacity;
	}
	g->tokens[g->count++] = (int32_t)value;
	return MUON_OK;
}

/* Does it start as .npy files do? MUON_E_READ for what can't be read from the start again. */
static int sniff(gathering *g, FILE *file, bool *is_npy)
{
	char start[6];
	*is_npy = fread(start, 1, sizeof start, file) == sizeof start &&
	          !memcmp(start, "\x93NUMPY", sizeof start);
	if (ferror(file) || fseek(file, 0, SEEK_SET))
		return muon_fail(g->err, MUON_E_READ, g->path, "%s", strerror(errno));
	return MUON_OK;
}

static int read_bytes(gathering *g, FILE *file)
{
	int code = MUON_OK, c;
	while (!code && g->count < g->limit && (c = getc(file)) != EOF)
		code = add_token(g, c);
	return code;
}

static int read_numbers(gathering *g, FILE *file)
{
	char word[32], shown[4 * sizeof word];
	int start, stop, code = MUON_OK;
	while (!code && g->count < g->limit &&
	       fscanf(file, " %n%31s%n", &start, word, &stop) == 1) {
		char *end;
		long long value = strtoll(word, &end, 10);
		code = end == word + (stop - start)
		           ? add_token(g, (double)value)
		           : muon_fail(g->err, MUON_E_FORMAT, g->path,
		                       "token %lld, '%s', is not a whole number",
		                       (long long)g->count, muon_escape(shown, sizeof shown, word));
	}
	return code;
}

static int read_array(gathering *g, mspec_checkpoint *array)
{
	const mspec_tensor *t = mspec_tensor_at(array, 0);
	if (t->status)
		return muon_fail(g->err, t->status, g->path, "%s", t->problem);
	if (t->rank != 1 || t->dtype == MUON_DTYPE_NONE || muon_dtype_is_float(t->dtype))
		return muon_fail(g->err, MUON_E_FORMAT, g->path,
		                 "is not a one-dimensional array of integers");
	int64_t *block = muon_alloc(BLOCK, sizeof *block);
	double *values = muon_alloc(BLOCK, sizeof *values);
	int64_t count = t->elements < g->limit ? t->elements : g->limit;
	int code =
	    block && values ? MUON_OK : muon_fail(g->err, MUON_E_MEMORY, g->path, "out of memory");
	for (int64_t first = 0, n; first < count && !code; first += n) {
		n = count - first < BLOCK ? count - first : BLOCK;
		code = mspec_read(array, 0, first, n, block, g->err);
		if (!code)
			code = muon_convert_f64(t->dtype, block, (size_t)n, values);
		for (int64_t i = 0; i < n && !code; i++)
			code = add_token(g, values[i]);
	}
	muon_free(block);
	muon_free(values);
	return code;
}

static int read_npy(gathering *g)
{
	mspec_checkpoint *array;
	int code = mspec_open(&array, g->path, NULL, g->err);
	if (!code)
		code = read_array(g, array);
	mspec_close(&array);
	return code;
}

int mspec_tokens_read(int32_t **tokens, int64_t *count, const char *path, int64_t vocab,
                      int64_t limit, muon_error *err)
{
	gathering g = {.limit = limit, .vocab = vocab, .path = path, .err = err};
	*tokens = NULL;
	*count = 0;
	FILE *file = fopen(path, "rb");
	if (!file)
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(errno));
	bool is_npy;
	int code = sniff(&g, file, &is_npy);
	if (!code)
		code = is_npy                ? read_npy(&g)
		       : vocab == BYTE_VOCAB ? read_bytes(&g, file)
		                             : read_numbers(&g, file);
	if (!code && ferror(file))
		code = muon_fail(err, MUON_E_READ, path, "%s", strerror(errno));
	fclose(file);
	if (!code && g.count < 2)
		code = muon_fail(err, MUON_E_FORMAT, path, "has %lld tokens; two are the least",
		                 (long long)g.count);
	*tokens = g.tokens;
	*count = g.count;
	if (code)
		mspec_tokens_destroy(tokens);
	return code;
}

void mspec_tokens_destroy(int32_t **tokens)
{
	muon_free(*tokens);
	*tokens = NULL;
}
