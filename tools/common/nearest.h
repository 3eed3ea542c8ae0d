/* What a mistyped word was meant to be. */
#ifndef MUONSPEC_TOOL_NEAREST_H
#define MUONSPEC_TOOL_NEAREST_H

#include <stddef.h>

/* The candidate most like `word`, or NULL when none is near. */
const char *nearest(const char *word, const char *const *candidates, size_t count);

#endif
