/* Blocks of products by oneDNN's matmul primitive, for bf16. Each shape of block has a primitive,
 * made when the plan is, for one thread: blocks are what threads share out. The version 2 and 3
 * interfaces differ in how descriptors are held and how a product is scaled. */
#include "kernels/products.h"

#ifndef MUON_WITH_ONEDNN

static const char absent[] = "built without oneDNN";

bool muon_onednn_available(muon_arithmetic arithmetic, const char **why)
{
	(void)arithmetic;
	if (why)
		*why = absent;
	return false;
}

int muon_onednn_create(struct muon_onednn **out, muon_arithmetic arithmetic)
{
	(void)arithmetic;
	*out = NULL;
	return MUON_E_UNSUPPORTED;
}

void muon_onednn_destroy(struct muon_onednn *onednn)
{
	(void)onednn;
}

int muon_onednn_prepare(struct muon_onednn *onednn, const muon_product *product, const int64_t *ld,
			const muon_block *block)
{
	(void)onednn, (void)product, (void)ld, (void)block;
	return MUON_E_UNSUPPORTED;
}

size_t muon_onednn_scratch(const struct muon_onednn *onednn)
{
	(void)onednn;
	return 0;
}

int muon_onednn_block(const struct muon_onednn *onednn, const muon_product *product,
		      const muon_buffer *buffers, const muon_block *block, void *scratch)
{
	(void)onednn, (void)product, (void)buffers, (void)block, (void)scratch;
	return MUON_E_UNSUPPORTED;
}

#else

#include "base/memory.h"

#include <dnnl.h>
#include <string.h>

/* ---- where versions 2 and 3 differ ---------------------------------------------------------- */

#if DNNL_VERSION_MAJOR < 3

typedef const dnnl_memory_desc_t *descriptor_handle;
enum { SCALE_ARGUMENT = 0 }; /* a scale is an attribute */

static dnnl_status_t describe(dnnl_memory_desc_t *descriptor, dnnl_data_type_t type, int rank,
			      const dnnl_dims_t dims, const dnnl_dims_t strides)
{
	return dnnl_memory_desc_init_by_strides(descriptor, rank, dims, type, strides);
}

static void forget(dnnl_memory_desc_t *descriptor)
{
	(void)descriptor;
}

static descriptor_handle handle(const dnnl_memory_desc_t *descriptor)
{
	return descriptor;
}

static dnnl_status_t describe_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
				     descriptor_handle left, descriptor_handle right,
				     descriptor_handle product, dnnl_primitive_attr_t attr)
{
	dnnl_matmul_desc_t matmul;
	dnnl_status_t status = dnnl_matmul_desc_init(&matmul, left, right, NULL, product);
	return status ? status : dnnl_primitive_desc_create(out, &matmul, attr, engine, NULL);
}

static dnnl_status_t set_scale(dnnl_primitive_attr_t attr, const float *scale)
{
	return dnnl_primitive_attr_set_output_scales(attr, 1, 0, scale);
}

static dnnl_status_t append_sum(dnnl_post_ops_t post_ops, float scale)
{
	return dnnl_post_ops_append_sum(post_ops, scale);
}

#else

typedef const_dnnl_memory_desc_t descriptor_handle;
enum { SCALE_ARGUMENT = DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS };

static dnnl_status_t describe(dnnl_memory_desc_t *descriptor, dnnl_data_type_t type, int rank,
			      const dnnl_dims_t dims, const dnnl_dims_t strides)
{
	return dnnl_memory_desc_create_with_strides(descriptor, rank, dims, type, strides);
}

static void forget(dnnl_memory_desc_t *descriptor)
{
	dnnl_memory_desc_destroy(*descriptor);
}

static descriptor_handle handle(const dnnl_memory_desc_t *descriptor)
{
	return *descriptor;
}

static dnnl_status_t describe_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
				     descriptor_handle left, descriptor_handle right,
				     descriptor_handle product, dnnl_primitive_attr_t attr)
{
	return dnnl_matmul_primitive_desc_create(out, engine, left, right, NULL, product, attr);
}

/* The scale itself is an argument of the execution. */
static dnnl_status_t set_scale(dnnl_primitive_attr_t attr, const float *scale)
{
	(void)scale;
	return dnnl_primitive_attr_set_scales_mask(attr, DNNL_ARG_WEIGHTS, 0);
}

static dnnl_status_t append_sum(dnnl_post_ops_t post_ops, float scale)
{
	return dnnl_post_ops_append_sum(post_ops, scale, 0, dnnl_data_type_undef);
}

#endif

/* ---- one thread: oneDNN's own would multiply with those that call it ------------------------ */

#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP

/* of libgomp, which libdnnl is built on; clang comes without <omp.h> */
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);

static int use_one_thread(void)
{
	const int before = omp_get_max_threads();
	omp_set_num_threads(1);
	return before;
}

static void use_threads(int threads)
{
	omp_set_num_threads(threads);
}

#else

static int use_one_thread(void)
{
	return 1;
}

static void use_threads(int threads)
{
	(void)threads;
}

#endif

/* ---- primitives ----------------------------------------------------------------------------- */

enum { LEFT, RIGHT, OUT, MATRICES };

/* What a primitive is made for. Compared as bytes, so zeroed before it is filled in. */
typedef struct shape {
	dnnl_dims_t dims[MATRICES], strides[MATRICES];
	float alpha, beta;
} shape;

typedef struct primitive {
	shape shape;
	dnnl_memory_desc_t matrix[MATRICES];
	dnnl_primitive_desc_t descriptor;
	dnnl_primitive_t matmul;
} primitive;

struct muon_onednn {
	dnnl_engine_t engine;
	dnnl_data_type_t type;
	dnnl_memory_desc_t scalar; /* one float32 */
	primitive *primitives;
	size_t count, scratch;
};

static int code_of(dnnl_status_t status)
{
	switch (status) {
	case dnnl_success:
		return MUON_OK;
	case dnnl_out_of_memory:
		return MUON_E_MEMORY;
	case dnnl_unimplemented:
		return MUON_E_UNSUPPORTED;
	default:
		return MUON_E_INTERNAL;
	}
}

/* Matrix `m`, rows x cols as it enters the product, stored with leading dimension ld. */
static void set_matrix(shape *s, int m, int rows, int cols, int64_t ld, bool transposed)
{
	s->dims[m][0] = rows;
	s->dims[m][1] = cols;
	s->strides[m][0] = transposed ? 1 : ld;
	s->strides[m][1] = transposed ? ld : 1;
}

static shape shape_of(const muon_product *p, int64_t ld_left, int64_t ld_right, int64_t ld_out,
		      const muon_block *block)
{
	shape s;
	memset(&s, 0, sizeof s);
	set_matrix(&s, LEFT, block->rows, p->depth, ld_left, p->left_transposed);
	set_matrix(&s, RIGHT, p->depth, block->cols, ld_right, p->right_transposed);
	set_matrix(&s, OUT, block->rows, block->cols, ld_out, false);
	s.alpha = (float)p->alpha;
	s.beta = (float)p->beta;
	return s;
}

static const primitive *find(const struct muon_onednn *onednn, const shape *s)
{
	for (size_t i = 0; i < onednn->count; i++)
		if (!memcmp(&onednn->primitives[i].shape, s, sizeof *s))
			return &onednn->primitives[i];
	return NULL;
}

/* alpha A B + beta C with scratch memory of the caller's. */
static dnnl_status_t make_attributes(dnnl_primitive_attr_t *out, const shape *s)
{
	dnnl_post_ops_t post_ops = NULL;
	dnnl_status_t status = dnnl_primitive_attr_create(out);
	if (status)
		return status;
	status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
	if (!status && s->alpha != 1)
		status = set_scale(*out, &s->alpha);
	if (!status && s->beta != 0) {
		status = dnnl_post_ops_create(&post_ops);
		if (!status)
			status = append_sum(post_ops, s->beta);
		if (!status)
			status = dnnl_primitive_attr_set_post_ops(*out, post_ops);
		dnnl_post_ops_destroy(post_ops);
	}
	if (status)
		dnnl_primitive_attr_destroy(*out);
	return status;
}

/* oneDNN's reference code, for what it has nothing better, is slower than float32 by far. */
static bool is_reference(const primitive *p)
{
	const char *name = NULL;
	return dnnl_primitive_desc_query(p->descriptor, dnnl_query_impl_info_str, 0, &name) ||
	       !name || !strncmp(name, "ref", 3);
}

static void destroy_primitive(primitive *p)
{
	dnnl_primitive_destroy(p->matmul);
	dnnl_primitive_desc_destroy(p->descriptor);
	for (int i = 0; i < MATRICES; i++)
		forget(&p->matrix[i]);
}

static dnnl_status_t make_matmul(primitive *p, dnnl_engine_t engine)
{
	dnnl_primitive_attr_t attributes;
	dnnl_status_t status = make_attributes(&attributes, &p->shape);
	if (status)
		return status;
	status = describe_matmul(&p->descriptor, engine, handle(&p->matrix[LEFT]),
				 handle(&p->matrix[RIGHT]), handle(&p->matrix[OUT]), attributes);
	dnnl_primitive_attr_destroy(attributes);
	if (!status && is_reference(p))
		status = dnnl_unimplemented;
	return status ? status : dnnl_primitive_create(&p->matmul, p->descriptor);
}

static dnnl_status_t make_primitive(primitive *p, const struct muon_onednn *onednn, const shape *s)
{
	*p = (primitive){.shape = *s};
	dnnl_status_t status = dnnl_success;
	for (int i = 0; !status && i < MATRICES; i++)
		status = describe(&p->matrix[i], onednn->type, 2, s->dims[i], s->strides[i]);
	const int threads = use_one_thread();
	if (!status)
		status = make_matmul(p, onednn->engine);
	use_threads(threads);
	if (status)
		destroy_primitive(p);
	return status;
}

static size_t scratch_size(const primitive *p)
{
	const size_t size = dnnl_memory_desc_get_size(
	    dnnl_primitive_desc_query_md(p->descriptor, dnnl_query_scratchpad_md, 0));
	return (size + 63) / 64 * 64;
}

static int add_shape(struct muon_onednn *onednn, const shape *s)
{
	if (find(onednn, s))
		return MUON_OK;
	primitive *more =
	    muon_resize(onednn->primitives, onednn->count + 1, sizeof *onednn->primitives);
	if (!more)
		return MUON_E_MEMORY;
	onednn->primitives = more;
	primitive *p = &more[onednn->count];
	const dnnl_status_t status = make_primitive(p, onednn, s);
	if (status)
		return code_of(status);
	onednn->count++;
	const size_t scratch = scratch_size(p);
	if (scratch > onednn->scratch)
		onednn->scratch = scratch;
	return MUON_OK;
}

int muon_onednn_prepare(struct muon_onednn *onednn, const muon_product *product, const int64_t *ld,
			const muon_block *block)
{
	const shape s =
	    shape_of(product, ld[product->left], ld[product->right], ld[product->out], block);
	return add_shape(onednn, &s);
}

void muon_onednn_destroy(struct muon_onednn *onednn)
{
	if (!onednn)
		return;
	for (size_t i = 0; i < onednn->count; i++)
		destroy_primitive(&onednn->primitives[i]);
	forget(&onednn->scalar);
	dnnl_engine_destroy(onednn->engine);
	muon_free(onednn->primitives);
	muon_free(onednn);
}

int muon_onednn_create(struct muon_onednn **out, muon_arithmetic arithmetic)
{
	*out = NULL;
	struct muon_onednn *onednn = muon_alloc(1, sizeof *onednn);
	if (!onednn)
		return MUON_E_MEMORY;
	onednn->type = arithmetic == MUON_ARITHMETIC_BF16 ? dnnl_bf16 : dnnl_f32;
	const dnnl_dims_t one = {1};
	dnnl_status_t status = dnnl_engine_create(&onednn->engine, dnnl_cpu, 0);
	if (!status)
		status = describe(&onednn->scalar, dnnl_f32, 1, one, one);
	if (status) {
		muon_onednn_destroy(onednn);
		return code_of(status);
	}
	*out = onednn;
	return MUON_OK;
}

/* Tried rather than read from the CPU's flags: which of them a version of oneDNN needs varies. */
bool muon_onednn_available(muon_arithmetic arithmetic, const char **why)
{
	struct muon_onednn *onednn;
	const muon_product product = {.depth = 64, .alpha = 2, .beta = 3};
	const muon_block block = {.rows = 64, .cols = 64};
	const shape s = shape_of(&product, 96, 96, 96, &block);
	int code = muon_onednn_create(&onednn, arithmetic);
	if (!code)
		code = add_shape(onednn, &s);
	muon_onednn_destroy(onednn);
	if (code && why)
		*why = code == MUON_E_UNSUPPORTED ? "oneDNN has no such matrix product for this "
						    "CPU (bf16 takes AVX-512 or AMX)"
						  : "oneDNN failed to make a matrix product";
	return !code;
}

size_t muon_onednn_scratch(const struct muon_onednn *onednn)
{
	return onednn->scratch;
}

/* ---- execution ------------------------------------------------------------------------------ */

/* Of one execution; oneDNN keeps small records of them on its heap. */
typedef struct arguments {
	dnnl_exec_arg_t list[MATRICES + 2];
	int count;
	dnnl_status_t status;
} arguments;

static void add_argument(arguments *a, dnnl_engine_t engine, int role, descriptor_handle descriptor,
			 void *entries)
{
	dnnl_memory_t memory;
	if (!a->status)
		a->status = dnnl_memory_create(&memory, descriptor, engine, entries);
	if (!a->status)
		a->list[a->count++] = (dnnl_exec_arg_t){role, memory};
}

static void *entry_at(const struct muon_onednn *onednn, const muon_buffer *buffer, int64_t row,
		      int64_t col)
{
	const int64_t size = onednn->type == dnnl_bf16 ? 2 : 4;
	return (char *)buffer->entries + (row * buffer->ld + col) * size;
}

/* C = D, to which the product is added. */
static void copy_addend(const struct muon_onednn *onednn, const muon_buffer *from,
			const muon_buffer *to, const muon_block *block)
{
	const size_t size = onednn->type == dnnl_bf16 ? 2 : 4;
	for (int i = block->row; i < block->row + block->rows; i++)
		memcpy(entry_at(onednn, to, i, block->col), entry_at(onednn, from, i, block->col),
		       (size_t)block->cols * size);
}

static dnnl_status_t execute(const struct muon_onednn *onednn, const primitive *p, arguments *a)
{
	dnnl_stream_t stream;
	dnnl_status_t status =
	    dnnl_stream_create(&stream, onednn->engine, dnnl_stream_default_flags);
	if (status)
		return status;
	const int threads = use_one_thread();
	status = dnnl_primitive_execute(p->matmul, stream, a->count, a->list);
	if (!status)
		status = dnnl_stream_wait(stream);
	use_threads(threads);
	dnnl_stream_destroy(stream);
	return status;
}

int muon_onednn_block(const struct muon_onednn *onednn, const muon_product *product,
		      const muon_buffer *buffers, const muon_block *block, void *scratch)
{
	const muon_buffer *left = &buffers[product->left], *right = &buffers[product->right],
			  *out = &buffers[product->out];
	const shape s = shape_of(product, left->ld, right->ld, out->ld, block);
	const primitive *p = find(onednn, &s);
	if (!p)
		return MUON_E_INTERNAL;
	if (product->beta != 0)
		copy_addend(onednn, &buffers[product->addend], out, block);
	const int64_t row = block->row, col = block->col;
	dnnl_engine_t engine = onednn->engine;
	arguments a = {.count = 0};
	add_argument(&a, engine, DNNL_ARG_SRC, handle(&p->matrix[LEFT]),
		     product->left_transposed ? entry_at(onednn, left, 0, row)
					      : entry_at(onednn, left, row, 0));
	add_argument(&a, engine, DNNL_ARG_WEIGHTS, handle(&p->matrix[RIGHT]),
		     product->right_transposed ? entry_at(onednn, right, col, 0)
					       : entry_at(onednn, right, 0, col));
	add_argument(&a, engine, DNNL_ARG_DST, handle(&p->matrix[OUT]),
		     entry_at(onednn, out, row, col));
	add_argument(&a, engine, DNNL_ARG_SCRATCHPAD,
		     dnnl_primitive_desc_query_md(p->descriptor, dnnl_query_scratchpad_md, 0),
		     scratch);
	float scale = s.alpha;
	if (SCALE_ARGUMENT != 0 && scale != 1)
		add_argument(&a, engine, SCALE_ARGUMENT, handle(&onednn->scalar), &scale);
	if (!a.status)
		a.status = execute(onednn, p, &a);
	for (int i = 0; i < a.count; i++)
		dnnl_memory_destroy(a.list[i].memory);
	return code_of(a.status);
}

#endif
