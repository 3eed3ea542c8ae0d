/* Sums of doubles and of their products to about twice double precision, as reference. Not long
 * double, which is a plain double under valgrind. */
#ifndef TESTS_KERNELS_EXACT_SUM_H
#define TESTS_KERNELS_EXACT_SUM_H

#include <math.h>

typedef struct exact_sum {
	double high, low;
} exact_sum;

static inline void exact_add(exact_sum *sum, double x)
{
	double total = sum->high + x, part = total - sum->high;
	sum->low += (sum->high - (total - part)) + (x - part);
	sum->high = total;
}

static inline void exact_add_product(exact_sum *sum, double x, double y)
{
	double product = x * y;
	exact_add(sum, product);
	exact_add(sum, fma(x, y, -product));
}

static inline double exact_value(const exact_sum *sum)
{
	return sum->high + sum->low;
}

#endif
