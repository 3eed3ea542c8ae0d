#include "analysis/content_hash.h"

#include "base/memory.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PIECE = 1 << 17 };

static mspec_hash to_text(XXH128_hash_t digest)
{
	static const char digits[] = "0123456789abcdef";
	XXH128_canonical_t bytes;
	mspec_hash hash;
	XXH128_canonicalFromHash(&bytes, digest);
	for (size_t i = 0; i < sizeof bytes.digest; i++) {
		hash.hex[2 * i] = digits[bytes.digest[i] >> 4];
		hash.hex[2 * i + 1] = digits[bytes.digest[i] & 15];
	}
	hash.hex[MSPEC_HASH_DIGITS] = 0;
	return hash;
}

mspec_hash mspec_hash_bytes(const void *bytes, size_t count)
{
	return to_text(XXH3_128bits(bytes, count));
}

static int add_descriptor(XXH3_state_t *state, int fd, void *piece, const char *where,
			  muon_error *err)
{
	for (;;) {
		ssize_t got = read(fd, piece, PIECE);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return muon_fail(err, MUON_E_READ, where, "%s", strerror(errno));
		if (!got)
			return MUON_OK;
		XXH3_128bits_update(state, piece, (size_t)got);
	}
}

static int add_file(XXH3_state_t *state, const char *path, int64_t first, void *piece,
		    muon_error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
	if (fd < 0)
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(errno));
	int code = MUON_OK;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		code = muon_fail(err, MUON_E_FORMAT, path, "is not a regular file");
	else if (lseek(fd, (off_t)first, SEEK_SET) < 0)
		code = muon_fail(err, MUON_E_READ, path, "%s", strerror(errno));
	else
		code = add_descriptor(state, fd, piece, path, err);
	close(fd);
	return code;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && !strcmp(text + length - tail, end);
}

/* The shards beside an index, in the order of their names. */
static int add_shards(XXH3_state_t *state, const char *path, void *piece, muon_error *err)
{
	const char *slash = strrchr(path, '/');
	char folder[4096] = ".", shard[4400];
	if (slash && (size_t)(slash - path) < sizeof folder) {
		memcpy(folder, path, (size_t)(slash + 1 - path));
		folder[slash + 1 - path] = 0;
	}
	struct dirent **entries;
	int count = scandir(folder, &entries, NULL, alphasort), code = MUON_OK;
	if (count < 0)
		return muon_fail(err, MUON_E_OPEN, folder, "%s", strerror(errno));
	for (int i = 0; i < count; i++) {
		if (!code && ends_with(entries[i]->d_name, ".safetensors")) {
			snprintf(shard, sizeof shard, "%s/%s", folder, entries[i]->d_name);
			code = add_file(state, shard, 0, piece, err);
		}
		free(entries[i]); /* of the C library */
	}
	free(entries);
	return code;
}

static int hash_from(mspec_hash *hash, const char *path, int64_t first, bool shards,
		     muon_error *err)
{
	XXH3_state_t *state = XXH3_createState();
	void *piece = muon_alloc_aligned(PIECE, 1);
	int code = state && piece ? MUON_OK : muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	if (!code) {
		XXH3_128bits_reset(state);
		code = add_file(state, path, first, piece, err);
	}
	if (!code && shards)
		code = add_shards(state, path, piece, err);
	if (!code)
		*hash = to_text(XXH3_128bits_digest(state));
	muon_free_aligned(piece);
	XXH3_freeState(state);
	return code;
}

int mspec_hash_file(mspec_hash *hash, const char *path, int64_t first, muon_error *err)
{
	return hash_from(hash, path, first, false, err);
}

int mspec_hash_checkpoint(mspec_hash *hash, const char *path, muon_error *err)
{
	return hash_from(hash, path, 0, ends_with(path, ".index.json"), err);
}
