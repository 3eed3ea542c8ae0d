#include "ranking.h"

#include <math.h>
#include <stdlib.h>

static int ascending_order(const void *x, const void *y)
{
	const ranked *a = x, *b = y;
	bool na = isnan(a->value), nb = isnan(b->value);
	if (na != nb)
		return na ? 1 : -1;
	if (!na && a->value != b->value)
		return a->value < b->value ? -1 : 1;
	return a->item < b->item ? -1 : a->item > b->item;
}

static int descending_order(const void *x, const void *y)
{
	const ranked *a = x, *b = y;
	if (a->value < b->value || a->value > b->value)
		return ascending_order(y, x);
	return ascending_order(x, y);
}

void rank_items(ranked *items, size_t count, bool ascending)
{
	qsort(items, count, sizeof *items, ascending ? ascending_order : descending_order);
}
