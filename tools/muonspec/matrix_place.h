/* Where in a model a matrix stands, by its name: its layer, and what it is in it. */
#ifndef MUONSPEC_TOOL_MATRIX_PLACE_H
#define MUONSPEC_TOOL_MATRIX_PLACE_H

#include <stddef.h>

enum { LONGEST_KIND = 36 /* bytes: what fits over a panel */ };

typedef struct matrix_place {
	int layer;               /* the first number that stands by itself in the name; -1: none */
	char kind[LONGEST_KIND]; /* the name without layer, slice and the word for weights, further
	                            numbers as "*"; not escaped, shortened in its middle */
} matrix_place;

/* "model.layers.3.mlp.experts.5.w1.weight" is "mlp.experts.*.w1" in layer 3. `slice` is the
 * matrix', or NULL. */
void matrix_place_of(matrix_place *place, const char *name, const char *slice);

#endif
