#include "base/random.h"

#include <math.h>

void muon_random_seed(muon_random *random, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15u;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		random->s[i] = z ^ (z >> 31);
	}
}

static uint64_t rotate(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t muon_random_bits(muon_random *random)
{
	uint64_t *s = random->s;
	uint64_t result = rotate(s[0] + s[3], 23) + s[0];
	uint64_t t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

double muon_random_uniform(muon_random *random)
{
	return (double)(muon_random_bits(random) >> 11) * 0x1p-53;
}

double muon_random_normal(muon_random *random)
{
	const double two_pi = 6.283185307179586;
	double u = 1.0 - muon_random_uniform(random); /* (0, 1], so that the log is finite */
	return sqrt(-2.0 * log(u)) * cos(two_pi * muon_random_uniform(random));
}
