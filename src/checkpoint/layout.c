#include "checkpoint/layout.h"

#include "checkpoint/names.h"

#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(bytes) muon_alloc(bytes, 1)
#define uthash_free(block, bytes) muon_free(block)
#include <uthash.h>

const char *mspec_known_layout(const char *word)
{
	static const char *const known[] = {"muonspec", "keras1",   "keras2", "keras3",
	                                    "pytorch",  "llama2.c", "custom"};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(word, known[i]))
			return known[i];
	return NULL;
}

/* Is `piece` a whole component of the path? */
static bool has_component(const char *path, const char *piece)
{
	size_t length = strlen(piece);
	for (const char *at = path; at; at = strchr(at, '/')) {
		at += *at == '/';
		if (!strncmp(at, piece, length) && (!at[length] || at[length] == '/'))
			return true;
	}
	return false;
}

/* ".../vars/0": how Keras 3 names every variable. */
static bool is_keras3_name(const char *name)
{
	const char *last = strrchr(name, '/');
	if (!last || !mspec_is_digit(last[1]) ||
	    last[1 + strspn(last + 1, "0123456789")])
		return false;
	size_t folder = (size_t)(last - name);
	return folder >= 4 && !memcmp(last - 4, "vars", 4) && (folder == 4 || last[-5] == '/');
}

static bool is_pytorch_name(const char *name)
{
	const char *last = strrchr(name, '/');
	last = last ? last + 1 : name;
	return (last == name && strchr(name, '.')) || mspec_ends_with(last, "weight") ||
	       mspec_ends_with(last, "bias");
}

const char *mspec_layout_from_names(const mspec_checkpoint *checkpoint)
{
	size_t parameters = 0, pytorch = 0;
	for (size_t i = 0; i < checkpoint->count; i++) {
		const mspec_tensor *t = &checkpoint->entries[i].tensor;
		if (is_keras3_name(t->name) ||
		    has_component(t->name, "_layer_checkpoint_dependencies"))
			return "keras3";
		if (t->role == MSPEC_ROLE_PARAMETER && t->dtype != MUON_DTYPE_NONE) {
			parameters++;
			pytorch += is_pytorch_name(t->name);
		}
	}
	return pytorch && 2 * pytorch >= parameters ? "pytorch" : "custom";
}

typedef struct layer {
	const char *name;
	int64_t place;
	UT_hash_handle hh;
} layer;

/* Place of the layer that the path starts with; layer names may hold slashes: longest wins. */
static int64_t layer_place(layer *known, const char *path, int64_t none)
{
	int64_t place = none;
	for (const char *end = strchr(path, '/'); end; end = strchr(end + 1, '/')) {
		layer *found;
		HASH_FIND(hh, known, path, (size_t)(end - path), found);
		if (found)
			place = found->place;
	}
	return place;
}

int mspec_order_by_layers(mspec_checkpoint *checkpoint, const char *folder, char *const *layers,
                          size_t count)
{
	int code = MUON_OK;
	layer *known = NULL, *nodes = muon_alloc(count, sizeof *nodes);
	if (!nodes)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < count && !code; i++) {
		layer *twin;
		size_t length = strlen(layers[i]);
		nodes[i].name = layers[i];
		nodes[i].place = (int64_t)i;
		HASH_FIND(hh, known, layers[i], length, twin);
		if (twin)
			continue;
		HASH_ADD_KEYPTR(hh, known, nodes[i].name, length, &nodes[i]);
		if (!nodes[i].hh.tbl)
			code = MUON_E_MEMORY;
	}
	for (size_t i = 0; i < checkpoint->count && !code; i++) {
		mspec_entry *entry = &checkpoint->entries[i];
		entry->order = (int64_t)count;
		if (!strncmp(entry->tensor.name, folder, strlen(folder)))
			entry->order = layer_place(known, entry->tensor.name + strlen(folder),
			                           (int64_t)count);
	}
	HASH_CLEAR(hh, known);
	muon_free(nodes);
	return code;
}
