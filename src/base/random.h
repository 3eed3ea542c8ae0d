/* Reproducible random numbers: xoshiro256++ (Blackman and Vigna 2021), seeded by splitmix64. */
#ifndef MUON_BASE_RANDOM_H
#define MUON_BASE_RANDOM_H

#include <stdint.h>

typedef struct muon_random {
	uint64_t s[4];
} muon_random;

void muon_random_seed(muon_random *random, uint64_t seed);
uint64_t muon_random_bits(muon_random *random);
double muon_random_uniform(muon_random *random); /* [0, 1) */
double muon_random_normal(muon_random *random);  /* mean 0, variance 1 */

#endif
