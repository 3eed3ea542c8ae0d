/* What the names of a checkpoint's tensors tell, whatever the file format. */
#ifndef MUONSPEC_CHECKPOINT_LAYOUT_H
#define MUONSPEC_CHECKPOINT_LAYOUT_H

#include "checkpoint/reader.h"

/* The layout called `word`, as static text, or NULL if there is none (see
 * mspec_checkpoint_info.layout). */
const char *mspec_known_layout(const char *word);

/* "keras3" or "pytorch" where the names of the parameters are theirs, else "custom". */
const char *mspec_layout_from_names(const mspec_checkpoint *checkpoint);

/* Order tensors by their layer's place in `layers` (Keras' layer_names); names of tensors start
 * with `folder`, then the layer. MUON_E_MEMORY. */
int mspec_order_by_layers(mspec_checkpoint *checkpoint, const char *folder, char *const *layers,
                          size_t count);

#endif
