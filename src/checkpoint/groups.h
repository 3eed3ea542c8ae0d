/* Which part of a model a weight belongs to, by its name. */
#ifndef MUONSPEC_CHECKPOINT_GROUPS_H
#define MUONSPEC_CHECKPOINT_GROUPS_H

#include <muon/error.h>
#include <stdbool.h>

typedef struct mspec_group_rules mspec_group_rules;

/* The built-in rules, with those of the file at `path` (may be NULL) before them: lines
 * "GROUP GLOB", '#' at the start of a line for a comment. MUON_E_USAGE, MUON_E_MEMORY. */
int mspec_group_rules_create(mspec_group_rules **out, const char *path, muon_error *err);
void mspec_group_rules_destroy(mspec_group_rules **rules);

/* The group of a matrix; never NULL. `key` is the tensor's mspec_name_key, `slice` that of the
 * matrix or NULL, `convolution` whether its shape is a convolution's. One of mspec_groups. */
const char *mspec_group_of(mspec_group_rules *rules, const char *tensor_name,
			   const char *matrix_name, const char *key, const char *slice,
			   bool convolution);

#endif
