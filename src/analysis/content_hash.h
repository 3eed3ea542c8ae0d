/* Hashes that tell contents apart: XXH3, 128 bits, of Debian's libxxhash. Not a defence against
 * contents made to collide. */
#ifndef MUONSPEC_ANALYSIS_CONTENT_HASH_H
#define MUONSPEC_ANALYSIS_CONTENT_HASH_H

#include <muon/error.h>
#include <stdint.h>

enum { MSPEC_HASH_DIGITS = 32 };

typedef struct mspec_hash {
	char hex[MSPEC_HASH_DIGITS + 1];
} mspec_hash;

/* Of the file's bytes from `first` on. MUON_E_OPEN, MUON_E_READ, MUON_E_MEMORY. */
int mspec_hash_file(mspec_hash *hash, const char *path, int64_t first, muon_error *err);

/* Of all the bytes that the checkpoint at `path` consists of: the file's, and for the index of a
 * sharded one those of every safetensors file beside it. */
int mspec_hash_checkpoint(mspec_hash *hash, const char *path, muon_error *err);

mspec_hash mspec_hash_bytes(const void *bytes, size_t count);

#endif
