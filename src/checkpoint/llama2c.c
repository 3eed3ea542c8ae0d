/* llama2.c's .bin files (github.com/karpathy/llama2.c, version 0): seven little-endian int32, then
 * float32 arrays stacked over layers. The tensors are listed layer by layer under Hugging Face's
 * names. Rows of q and k are in llama2.c's order: RoPE turns neighbours (2i, 2i + 1). */
#include "checkpoint/reader.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES = 28, LARGEST = 1 << 20 };

typedef struct header {
	int64_t dim, ffn, layers, heads, kv_heads, vocab, context;
	bool own_head; /* the head is not the embedding: vocab is stored negated */
} header;

/* An array of the file, in its order; `layered` ones hold every layer's one after another. */
typedef struct array {
	const char *name; /* after "model.layers.N." where layered; NULL: not listed */
	bool layered;
	int rank;
	int64_t dims[2];
} array;

enum { ARRAYS = 14 };

static void list_arrays(const header *h, array arrays[ARRAYS])
{
	int64_t head_dim = h->dim / h->heads, kv = head_dim * h->kv_heads;
	int64_t rotations = h->context * (head_dim / 2);
	const array list[ARRAYS] = {
	    {"model.embed_tokens.weight", false, 2, {h->vocab, h->dim}},
	    {"input_layernorm.weight", true, 1, {h->dim}},
	    {"self_attn.q_proj.weight", true, 2, {h->dim, h->dim}},
	    {"self_attn.k_proj.weight", true, 2, {kv, h->dim}},
	    {"self_attn.v_proj.weight", true, 2, {kv, h->dim}},
	    {"self_attn.o_proj.weight", true, 2, {h->dim, h->dim}},
	    {"post_attention_layernorm.weight", true, 1, {h->dim}},
	    {"mlp.gate_proj.weight", true, 2, {h->ffn, h->dim}},
	    {"mlp.down_proj.weight", true, 2, {h->dim, h->ffn}},
	    {"mlp.up_proj.weight", true, 2, {h->ffn, h->dim}},
	    {"model.norm.weight", false, 1, {h->dim}},
	    {NULL, false, 1, {rotations}}, /* cosines of RoPE */
	    {NULL, false, 1, {rotations}}, /* sines */
	    {"lm_head.weight", false, 2, {h->own_head ? h->vocab : 0, h->dim}},
	};
	memcpy(arrays, list, sizeof list);
}

static int64_t array_elements(const array *a)
{
	return a->rank == 2 ? a->dims[0] * a->dims[1] : a->dims[0];
}

/* Bytes of a file with this header; in double, where no product overflows. */
static double expected_bytes(const header *h)
{
	array arrays[ARRAYS];
	double elements = 0;
	list_arrays(h, arrays);
	for (int i = 0; i < ARRAYS; i++)
		elements += (double)array_elements(&arrays[i]) *
		            (arrays[i].layered ? (double)h->layers : 1);
	return HEADER_BYTES + 4 * elements;
}

static int64_t little_endian_32(const unsigned char *bytes)
{
	return (int32_t)((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	                 (uint32_t)bytes[3] << 24);
}

static bool sensible(int64_t size)
{
	return size > 0 && size <= LARGEST;
}

/* False unless sizes make sense and the file has exactly the bytes that they ask for: there is no
 * magic number. */
static bool read_header(int fd, header *h)
{
	unsigned char bytes[HEADER_BYTES];
	struct stat st;
	int64_t n[7];
	if (pread(fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes || fstat(fd, &st))
		return false;
	for (int i = 0; i < 7; i++)
		n[i] = little_endian_32(bytes + 4 * i);
	*h = (header){n[0], n[1], n[2], n[3], n[4], n[5] < 0 ? -n[5] : n[5], n[6], n[5] < 0};
	return sensible(h->dim) && sensible(h->ffn) && sensible(h->layers) && sensible(h->heads) &&
	       sensible(h->kv_heads) && sensible(h->vocab) && sensible(h->context) &&
	       h->dim % h->heads == 0 && h->heads % h->kv_heads == 0 &&
	       expected_bytes(h) == (double)st.st_size;
}

static bool sniff(int fd, const char *path)
{
	header h;
	(void)path;
	return read_header(fd, &h);
}

/* ---- the reader ------------------------------------------------------------------------- */

typedef struct llama2c_file {
	int fd;
} llama2c_file;

/* List one tensor whose data starts at byte *position, and move behind it. */
static int add(mspec_checkpoint *checkpoint, const char *name, const array *a, int64_t *position,
               muon_error *err)
{
	int64_t *start = muon_arena_alloc(&checkpoint->arena, 1, sizeof *start);
	mspec_entry *entry = start && name
	                         ? mspec_add_tensor(checkpoint, name, MUON_F32, "float32", a->rank,
	                                            a->dims)
	                         : NULL;
	if (!entry)
		return mspec_out_of_memory(checkpoint->info.path, err);
	entry->source = start;
	*start = *position;
	*position += 4 * array_elements(a);
	return MUON_OK;
}

static int add_array(mspec_checkpoint *checkpoint, const header *h, const array *a,
                     int64_t *position, muon_error *err)
{
	int code = MUON_OK;
	if (!a->name) {
		*position += 4 * array_elements(a);
		return MUON_OK;
	}
	if (!a->layered)
		return array_elements(a) ? add(checkpoint, a->name, a, position, err) : MUON_OK;
	for (int64_t layer = 0; layer < h->layers && !code; layer++)
		code = add(checkpoint,
		           muon_arena_format(&checkpoint->arena, "model.layers.%lld.%s",
		                             (long long)layer, a->name),
		           a, position, err);
	return code;
}

/* What Hugging Face's config.json would say. */
static const char *describe(mspec_checkpoint *checkpoint, const header *h)
{
	return muon_arena_format(
	    &checkpoint->arena,
	    "{\"model_type\": \"llama\", \"hidden_size\": %lld, \"intermediate_size\": %lld, "
	    "\"num_hidden_layers\": %lld, \"num_attention_heads\": %lld, "
	    "\"num_key_value_heads\": %lld, \"vocab_size\": %lld, "
	    "\"max_position_embeddings\": %lld, \"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, "
	    "\"tie_word_embeddings\": %s}",
	    (long long)h->dim, (long long)h->ffn, (long long)h->layers, (long long)h->heads,
	    (long long)h->kv_heads, (long long)h->vocab, (long long)h->context,
	    h->own_head ? "false" : "true");
}

static int open_file(mspec_checkpoint *checkpoint, muon_error *err)
{
	header h;
	array arrays[ARRAYS];
	int64_t position = HEADER_BYTES;
	llama2c_file *f = muon_arena_alloc(&checkpoint->arena, 1, sizeof *f);
	if (!f)
		return mspec_out_of_memory(checkpoint->info.path, err);
	f->fd = open(checkpoint->info.path, O_RDONLY | O_CLOEXEC);
	checkpoint->file = f;
	if (f->fd < 0 || !read_header(f->fd, &h))
		return muon_fail(err, MUON_E_OPEN, checkpoint->info.path, "changed while it was opened");
	checkpoint->info.layout = "llama2.c";
	checkpoint->info.config = describe(checkpoint, &h);
	if (!checkpoint->info.config)
		return mspec_out_of_memory(checkpoint->info.path, err);
	list_arrays(&h, arrays);
	int code = MUON_OK;
	for (int i = 0; i < ARRAYS && !code; i++)
		code = add_array(checkpoint, &h, &arrays[i], &position, err);
	return code;
}

static int read_elements(mspec_checkpoint *checkpoint, size_t index, int64_t first, int64_t count,
                         void *buffer, muon_error *err)
{
	const llama2c_file *f = checkpoint->file;
	const mspec_entry *entry = &checkpoint->entries[index];
	const int64_t *start = entry->source;
	int code = mspec_read_at(f->fd, buffer, (size_t)count * 4, *start + 4 * first,
	                         entry->tensor.name, err);
	if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ && !code)
		mspec_swap_bytes(buffer, (size_t)count, 4);
	return code;
}

static void close_file(mspec_checkpoint *checkpoint)
{
	llama2c_file *f = checkpoint->file;
	if (f && f->fd >= 0)
		close(f->fd);
	checkpoint->file = NULL;
}

const mspec_reader mspec_reader_llama2c = {
    .format = "llama2.c",
    .sniff = sniff,
    .open = open_file,
    .read = read_elements,
    .close = close_file,
};
