/* The order of rows in tables. */
#ifndef MUONSPEC_COMMON_RANKING_H
#define MUONSPEC_COMMON_RANKING_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ranked {
	const void *item; /* all items are of one array */
	double value;     /* NaN: unknown */
} ranked;

/* By value, the largest first unless ascending; unknown ones last, equal ones as in their array. */
void rank_items(ranked *items, size_t count, bool ascending);

#endif
