/* Tensor names as the rules on groups and layouts see them. */
#ifndef MUONSPEC_CHECKPOINT_NAMES_H
#define MUONSPEC_CHECKPOINT_NAMES_H

#include <stdbool.h>

enum { MSPEC_KEY_SIZE = 512 };

/* The name in lower case, its parts between dots whatever separated them ('.', '/', ':'), a dot
 * before and after, TensorFlow's ":0" dropped: "Model/dense_1/kernel:0" becomes
 * ".model.dense_1.kernel.". Of a very long name the end, which is what tells. */
void mspec_name_key(char key[MSPEC_KEY_SIZE], const char *name);

/* Is `text` a part of the key? */
bool mspec_key_has(const char *key, const char *text);

/* Of any text: its end, and characters whatever the locale. */
bool mspec_ends_with(const char *text, const char *end);
bool mspec_is_digit(char c);

#endif
