#include "corpus.h"

#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 1 << 20 };

static int read_all(corpus *c, FILE *file, const char *path, muon_error *err)
{
	int64_t capacity = 0;
	for (;;) {
		if (c->count == capacity) {
			capacity = capacity ? 2 * capacity : BLOCK;
			unsigned char *grown = muon_resize(c->bytes, (size_t)capacity, 1);
			if (!grown)
				return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
			c->bytes = grown;
		}
		size_t got = fread(c->bytes + c->count, 1, (size_t)(capacity - c->count), file);
		c->count += (int64_t)got;
		if (ferror(file))
			return muon_fail(err, MUON_E_READ, path, "%s", strerror(errno));
		if (!got)
			return MUON_OK;
	}
}

static void measure(corpus *c)
{
	int64_t counts[256] = {0};
	c->hash = 0xcbf29ce484222325;
	for (int64_t i = 0; i < c->count; i++) {
		counts[c->bytes[i]]++;
		c->hash = (c->hash ^ c->bytes[i]) * 0x100000001b3;
	}
	c->entropy = 0;
	for (int i = 0; i < 256; i++) {
		double p = (double)counts[i] / (double)c->count;
		c->entropy -= counts[i] ? p * log(p) : 0;
	}
}

int corpus_read(corpus *c, const char *path, double held_out_share, int64_t length, muon_error *err)
{
	*c = (corpus){0};
	FILE *file = fopen(path, "rb");
	if (!file)
		return muon_fail(err, MUON_E_OPEN, path, "%s; --corpus names a text, 'make corpus' "
		                 "prepares the default one", strerror(errno));
	int code = read_all(c, file, path, err);
	fclose(file);
	if (code)
		return code;
	if (!c->count)
		return muon_fail(err, MUON_E_FORMAT, path, "is empty: there is nothing to learn");
	measure(c);
	int64_t held_out = (int64_t)((double)c->count * held_out_share);
	c->train = c->count - held_out;
	if (held_out <= length || c->train <= length)
		return muon_fail(err, MUON_E_FORMAT, path,
		                 "too short: of %lld bytes %lld are held out, and either part must "
		                 "be longer than a sequence of %lld tokens",
		                 (long long)c->count, (long long)held_out, (long long)length);
	return MUON_OK;
}

void corpus_release(corpus *c)
{
	muon_free(c->bytes);
	*c = (corpus){0};
}

/* Of splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static void copy_window(const unsigned char *from, int64_t length, int32_t *tokens,
                        int32_t *targets)
{
	for (int64_t i = 0; i < length; i++) {
		tokens[i] = from[i];
		targets[i] = from[i + 1];
	}
}

void corpus_sample(const corpus *c, uint64_t seed, int64_t step, int64_t sequence, int64_t length,
                   int32_t *tokens, int32_t *targets)
{
	uint64_t places = (uint64_t)(c->train - length);
	uint64_t draw = mix(mix(mix(seed) ^ (uint64_t)step) ^ (uint64_t)sequence);
	copy_window(c->bytes + draw % places, length, tokens, targets);
}

void corpus_held_out(const corpus *c, int64_t window, int64_t length, int32_t *tokens,
                     int32_t *targets)
{
	copy_window(c->bytes + c->train + window * length, length, tokens, targets);
}

int64_t corpus_windows(const corpus *c, int64_t length)
{
	return (c->count - c->train - 1) / length;
}
