/* Parameters that make sense, copied. */
#include "optim/optim_internal.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define MOST_ENTRIES ((int64_t)1 << 56) /* 8 bytes each can be counted */

static int refuse(const muon_parameter *p, muon_error *err, const char *what)
{
	return muon_fail(err, MUON_E_USAGE, p->name, "parameter: %s", what);
}

static int check_shape(const muon_parameter *p, int64_t *elements, muon_error *err)
{
	*elements = 1;
	if (p->rank < 0 || p->rank > MUON_MAX_RANK)
		return muon_fail(err, MUON_E_USAGE, p->name, "parameter: rank %d is not 0 to %d",
				 p->rank, MUON_MAX_RANK);
	for (int i = 0; i < p->rank; i++) {
		if (p->dims[i] <= 0)
			return muon_fail(err, MUON_E_USAGE, p->name,
					 "parameter: dimension %d is %lld", i,
					 (long long)p->dims[i]);
		if (p->dims[i] > MOST_ENTRIES / *elements)
			return refuse(p, err, "too many entries");
		*elements *= p->dims[i];
	}
	return MUON_OK;
}

static int check_types(const muon_parameter *p, muon_error *err)
{
	const bool is_f64 = p->dtype == MUON_F64;
	if (p->dtype != MUON_F32 && p->dtype != MUON_BF16 && !is_f64)
		return refuse(p, err, "values must be float32, bf16 or float64");
	if (is_f64 != (p->gradient_dtype == MUON_F64))
		return refuse(p, err, "float64 values and gradients go together");
	if (!is_f64 && p->gradient_dtype != MUON_F32 && p->gradient_dtype != MUON_BF16)
		return refuse(p, err, "the gradient must be float32 or bf16");
	if (!p->values || !p->gradient)
		return refuse(p, err, p->values ? "its gradient is NULL" : "its values are NULL");
	return MUON_OK;
}

static int check_choices(const muon_parameter *p, muon_error *err)
{
	if ((unsigned)p->role > MUON_ROLE_VECTOR)
		return refuse(p, err, "unknown role");
	if ((unsigned)p->stack > MUON_STACK_CONVOLUTION)
		return refuse(p, err, "unknown kind of stack");
	return MUON_OK;
}

static muon_stack stack_of(const muon_parameter *p)
{
	if (p->stack != MUON_STACK_AUTO || p->rank < 3)
		return p->stack;
	return p->rank == 3 ? MUON_STACK_EXPERTS : MUON_STACK_CONVOLUTION;
}

/* The matrices of a parameter under Muon. */
static int find_matrices(muon_optim_parameter *to, muon_error *err)
{
	const muon_parameter *p = &to->given;
	if (p->rank < 2)
		return refuse(p, err, "Muon needs two dimensions");
	if (p->rank > 5 && p->stack == MUON_STACK_AUTO)
		return refuse(p, err, "of this rank, say whether it is experts or a convolution");
	const bool is_stack = stack_of(p) == MUON_STACK_EXPERTS && p->rank > 2;
	to->rows = is_stack ? p->dims[p->rank - 2] : p->dims[0];
	to->cols = p->dims[p->rank - 1];
	if (!is_stack)
		to->cols = to->elements / to->rows;
	to->matrices = to->elements / (to->rows * to->cols);
	return MUON_OK;
}

static int check_splits(const muon_optim_parameter *to, muon_error *err)
{
	const muon_parameter *p = &to->given;
	int64_t rows = 0;
	if (p->split_count <= 0)
		return refuse(p, err, "splits without a count");
	for (int i = 0; i < p->split_count; i++) {
		if (p->splits[i] <= 0 || p->splits[i] > to->rows - rows)
			return refuse(p, err, "its splits are not its rows");
		rows += p->splits[i];
	}
	return rows == to->rows ? MUON_OK : refuse(p, err, "its splits are not its rows");
}

static int check_heads(const muon_optim_parameter *to, muon_error *err)
{
	const muon_parameter *p = &to->given;
	if (p->heads < 0 || (p->heads && to->rows % p->heads))
		return muon_fail(err, MUON_E_USAGE, p->name,
				 "parameter: %lld rows can't be cut into %d heads",
				 (long long)to->rows, p->heads);
	return MUON_OK;
}

static int copy_texts(muon_optimizer *o, muon_optim_parameter *to, muon_error *err)
{
	static const char *const muon_names[] = {"momentum", NULL, "master"};
	static const char *const adamw_names[] = {"exp_avg", "exp_avg_sq", "master"};
	const char *const *names = to->rule == MUON_RULE_MUON ? muon_names : adamw_names;
	muon_parameter *p = &to->given;
	bool copied = (p->name = muon_arena_string(&o->arena, p->name)) != NULL;
	for (int k = 0; copied && k < MUON_OPTIM_KINDS; k++) {
		if (!names[k] || (k == MUON_OPTIM_MASTER && p->dtype != MUON_BF16))
			continue;
		to->state_name[k] = muon_arena_format(&o->arena, "%s/%s", p->name, names[k]);
		copied = to->state_name[k] != NULL;
	}
	if (copied && p->splits) {
		int64_t *splits =
		    muon_arena_alloc(&o->arena, (size_t)p->split_count, sizeof *splits);
		if (splits)
			memcpy(splits, p->splits, (size_t)p->split_count * sizeof *splits);
		p->splits = splits;
		copied = splits != NULL;
	}
	return copied ? MUON_OK : muon_optim_out_of_memory(NULL, err);
}

static int set_parameter(muon_optimizer *o, muon_optim_parameter *to, const muon_parameter *p,
			 muon_error *err)
{
	const muon_options *options = &o->options;
	if (!p->name || !*p->name)
		return muon_fail(err, MUON_E_USAGE, NULL, "parameter %zu has no name",
				 (size_t)(to - o->parameters));
	int code = check_shape(p, &to->elements, err);
	if (!code)
		code = check_types(p, err);
	if (!code)
		code = check_choices(p, err);
	if (code)
		return code;
	to->given = *p;
	to->rule = options->all_adamw
		       ? MUON_RULE_ADAMW
		       : muon_route(p->name, p->rank, p->dims, p->role, options->router);
	to->state_dtype = p->dtype == MUON_F64 ? MUON_F64 : MUON_F32;
	const bool is_muon = to->rule == MUON_RULE_MUON;
	to->decay = is_muon ? options->weight_decay : options->adamw_weight_decay;
	if (p->no_decay)
		to->decay = 0;
	to->lr_ratio = is_muon || options->all_adamw ? 1 : options->adamw_lr_ratio;
	if (is_muon)
		code = find_matrices(to, err);
	else
		to->given.splits = NULL; /* there are no matrices to cut */
	if (is_muon && !code)
		code = p->splits ? check_splits(to, err) : check_heads(to, err);
	return code ? code : copy_texts(o, to, err);
}

static int compare_names(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;
	return strcmp(*x, *y);
}

static int check_names(const muon_optimizer *o, muon_error *err)
{
	const char **names = muon_alloc(o->count, sizeof *names);
	int code = MUON_OK;
	if (!names)
		return muon_optim_out_of_memory(NULL, err);
	for (size_t i = 0; i < o->count; i++)
		names[i] = o->parameters[i].given.name;
	qsort(names, o->count, sizeof *names, compare_names);
	for (size_t i = 1; !code && i < o->count; i++)
		if (!strcmp(names[i - 1], names[i]))
			code =
			    muon_fail(err, MUON_E_USAGE, names[i], "parameter: two have this name");
	muon_free(names);
	return code;
}

/* ---- buffers -------------------------------------------------------------------------------- */

typedef struct buffer {
	const muon_parameter *parameter;
	uintptr_t begin, end;
	bool is_gradient;
} buffer;

static int compare_buffers(const void *a, const void *b)
{
	const buffer *x = a, *y = b;
	return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1)
				    : (int)y->is_gradient - (int)x->is_gradient;
}

static buffer buffer_of(const muon_optim_parameter *p, bool is_gradient)
{
	const muon_parameter *g = &p->given;
	const uintptr_t begin = (uintptr_t)(is_gradient ? g->gradient : g->values);
	const size_t size = muon_dtype_size(is_gradient ? g->gradient_dtype : g->dtype);
	return (buffer){g, begin, begin + (size_t)p->elements * size, is_gradient};
}

static int refuse_overlap(const buffer *b, const buffer *before, muon_error *err)
{
	const bool swaps = b->is_gradient; /* then `before` has the values */
	const buffer *values = swaps ? before : b, *other = swaps ? b : before;
	char name[128];
	return muon_fail(err, MUON_E_USAGE, values->parameter->name,
			 "parameter: its values overlap %s of %s",
			 other->is_gradient ? "the gradient" : "those",
			 muon_escape(name, sizeof name, other->parameter->name));
}

/* What is read of one buffer must not have been written to as another. Values have one owner: tied
 * weights are one parameter, or they would be moved twice. Gradients are only read, and may overlap
 * each other. */
static int check_overlap(const muon_optimizer *o, muon_error *err)
{
	const size_t count = 2 * o->count;
	buffer *list = muon_alloc(count, sizeof *list);
	const buffer *values = NULL, *gradient = NULL; /* that end last, of those before */
	int code = MUON_OK;
	if (!list)
		return muon_optim_out_of_memory(NULL, err);
	for (size_t i = 0; i < count; i++)
		list[i] = buffer_of(&o->parameters[i / 2], i % 2);
	qsort(list, count, sizeof *list, compare_buffers);
	for (size_t i = 0; !code && i < count; i++) {
		const buffer *b = &list[i], **last = b->is_gradient ? &gradient : &values;
		if (values && values->end > b->begin)
			code = refuse_overlap(b, values, err);
		else if (!b->is_gradient && gradient && gradient->end > b->begin)
			code = refuse_overlap(b, gradient, err);
		if (!*last || (*last)->end < b->end)
			*last = b;
	}
	muon_free(list);
	return code;
}

int muon_optim_set_parameters(muon_optimizer *o, const muon_parameter *parameters, size_t count,
			      muon_error *err)
{
	if (!parameters || !count)
		return muon_fail(err, MUON_E_USAGE, NULL, "an optimizer needs parameters");
	o->parameters = muon_alloc(count, sizeof *o->parameters);
	if (!o->parameters)
		return muon_optim_out_of_memory(NULL, err);
	o->count = count;
	int code = MUON_OK;
	for (size_t i = 0; !code && i < count; i++) {
		muon_optim_parameter *p = &o->parameters[i];
		code = set_parameter(o, p, &parameters[i], err);
		p->begin = o->entries;
		if (!code && p->elements > MOST_ENTRIES - o->entries)
			code = refuse(&parameters[i], err, "too many entries in all");
		o->entries += code ? 0 : p->elements;
	}
	if (!code)
		code = check_names(o, err);
	return code ? code : check_overlap(o, err);
}
