/* Newton-Schulz orthogonalisation: a plan holds the products for one shape; executing it is
 * normalising the matrix, then computing them one after the other. */
#include "kernels/newton_schulz_internal.h"

#include "base/memory.h"
#include "kernels/ns_entries.h"
#include "kernels/ns_program.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum { ALIGNMENT = 64 };

struct muon_ns_plan {
	int64_t rows, cols;
	double norm_factor;
	muon_ns_form form;
	muon_multiplier multiplier;
	bool in_place;                 /* the result is computed where the caller wants it */
	int64_t ld[NS_BUFFERS];        /* of buffers in the workspace */
	size_t offset[NS_BUFFERS + 1]; /* bytes; the last one is scratch memory's */
	muon_ns_program program;
};

/* ---- precisions ----------------------------------------------------------------------------- */

const char *muon_precision_name(muon_precision precision)
{
	static const char *const names[] = {
	    [MUON_PRECISION_F32] = "f32",
	    [MUON_PRECISION_BF16] = "bf16",
	    [MUON_PRECISION_BF16_EMULATED] = "bf16_emulated",
	    [MUON_PRECISION_F64] = "f64",
	};
	const size_t count = sizeof names / sizeof *names;
	return (size_t)precision < count ? names[precision] : "?";
}

static bool find_arithmetic(muon_precision precision, muon_arithmetic *arithmetic)
{
	switch (precision) {
	case MUON_PRECISION_F32:
		*arithmetic = MUON_ARITHMETIC_F32;
		return true;
	case MUON_PRECISION_BF16:
		*arithmetic = MUON_ARITHMETIC_BF16;
		return true;
	case MUON_PRECISION_BF16_EMULATED:
		*arithmetic = MUON_ARITHMETIC_BF16_EMULATED;
		return true;
	case MUON_PRECISION_F64:
		*arithmetic = MUON_ARITHMETIC_F64;
		return true;
	}
	return false;
}

bool muon_precision_available(muon_precision precision, const char **why)
{
	muon_arithmetic arithmetic;
	if (!find_arithmetic(precision, &arithmetic)) {
		if (why)
			*why = "unknown precision";
		return false;
	}
	return !muon_arithmetic_is_onednn(arithmetic) || muon_onednn_available(arithmetic, why);
}

/* ---- plans ---------------------------------------------------------------------------------- */

/* The iteration must keep every singular value that it may meet bounded, or it would end in NaN,
 * and its sign, or the matrix would come out turned round. */
static bool are_sound(const muon_coefficients *c)
{
	enum { SAMPLES = 4096 };
	const double large = 1000;
	if (c->steps < 1 || c->steps > MUON_NS_MAX_STEPS || !isfinite(c->norm_factor) ||
	    !(c->norm_factor > 0))
		return false;
	for (int i = 0; i <= SAMPLES; i++) {
		const double y = muon_coefficients_apply(c, (double)i / SAMPLES / c->norm_factor);
		if (!(y >= 0 && y <= large))
			return false;
	}
	return true;
}

/* Leading dimension in the workspace: lines start on 64 bytes, and an odd number of 64 bytes apart,
 * so that a column doesn't fall on a few sets of the cache. */
static int64_t padded(int64_t entries, size_t size)
{
	const int64_t per_line = ALIGNMENT / (int64_t)size;
	return ((entries + per_line - 1) / per_line | 1) * per_line;
}

/* Offsets of the buffers in the workspace; false where their sum overflows. */
static bool lay_out(muon_ns_plan *plan)
{
	const muon_ns_program *p = &plan->program;
	const size_t size = muon_arithmetic_size(plan->multiplier.arithmetic);
	const int64_t k = plan->rows < plan->cols ? plan->rows : plan->cols;
	const int64_t width[] = {k, plan->cols};
	size_t total = 0;
	for (int i = 0; i < NS_BUFFERS; i++) {
		const bool is_square = i >= NS_SQUARES;
		plan->offset[i] = total;
		plan->ld[i] = padded(width[is_square ? 0 : 1], size);
		if (!p->used[i] || (plan->in_place && i == p->result))
			continue;
		const size_t lines = (size_t)(is_square ? k : plan->rows);
		const size_t bytes = (size_t)plan->ld[i] * size;
		if (lines > (SIZE_MAX / 2 - total) / bytes)
			return false;
		total += lines * bytes;
	}
	plan->offset[NS_BUFFERS] = total;
	return true;
}

/* Write the program of the form, or of the cheaper one. Rounding to bf16 would ruin the Gram form:
 * what it restarts for has grown 2000 times as large. */
static int choose_form(muon_ns_plan *plan, const muon_coefficients *coefficients, muon_ns_form form)
{
	const muon_arithmetic arithmetic = plan->multiplier.arithmetic;
	const bool can_gram =
	    arithmetic == MUON_ARITHMETIC_F32 || arithmetic == MUON_ARITHMETIC_F64;
	const int rows = (int)plan->rows, cols = (int)plan->cols;
	if (form == MUON_NS_GRAM && !can_gram)
		return MUON_E_UNSUPPORTED;
	plan->form = form == MUON_NS_AUTO ? MUON_NS_SYMMETRIC : form;
	muon_ns_program *program = &plan->program;
	muon_ns_program_write(program, rows, cols, coefficients, arithmetic, plan->form);
	if (form != MUON_NS_AUTO || !can_gram)
		return MUON_OK;
	const double flops = program->flops;
	muon_ns_program_write(program, rows, cols, coefficients, arithmetic, MUON_NS_GRAM);
	if (program->flops < flops)
		plan->form = MUON_NS_GRAM;
	else
		muon_ns_program_write(program, rows, cols, coefficients, arithmetic, plan->form);
	return MUON_OK;
}

static int prepare(muon_ns_plan *plan)
{
	muon_multiplier *multiplier = &plan->multiplier;
	int code = MUON_OK;
	if (muon_arithmetic_is_onednn(multiplier->arithmetic))
		code = muon_onednn_create(&multiplier->onednn, multiplier->arithmetic);
	for (int i = 0; !code && i < plan->program.count; i++)
		code = muon_product_prepare(multiplier, &plan->program.products[i], plan->ld);
	return code;
}

int muon_ns_plan_create_with(muon_ns_plan **out, int64_t rows, int64_t cols,
			     const muon_coefficients *coefficients, muon_arithmetic arithmetic,
			     muon_ns_form form)
{
	*out = NULL;
	if (rows <= 0 || cols <= 0 || (unsigned)form > MUON_NS_GRAM || !are_sound(coefficients))
		return MUON_E_ARGUMENT;
	if (rows > INT_MAX / 2 || cols > INT_MAX / 2) /* BLAS counts in int */
		return MUON_E_TOO_LARGE;
	muon_ns_plan *plan = muon_alloc(1, sizeof *plan);
	if (!plan)
		return MUON_E_MEMORY;
	plan->rows = rows;
	plan->cols = cols;
	plan->norm_factor = coefficients->norm_factor;
	plan->multiplier = (muon_multiplier){.arithmetic = arithmetic, .threads = 1};
	plan->in_place = !muon_arithmetic_is_onednn(arithmetic);
	int code = choose_form(plan, coefficients, form);
	if (!code && !lay_out(plan))
		code = MUON_E_TOO_LARGE;
	if (!code)
		code = prepare(plan);
	*out = plan;
	if (code)
		muon_ns_plan_destroy(out);
	return code;
}

int muon_ns_plan_create(muon_ns_plan **out, int64_t rows, int64_t cols,
			const muon_coefficients *coefficients, muon_precision precision,
			muon_ns_form form)
{
	muon_arithmetic arithmetic;
	*out = NULL;
	if (!find_arithmetic(precision, &arithmetic))
		return MUON_E_ARGUMENT;
	return muon_ns_plan_create_with(out, rows, cols, coefficients, arithmetic, form);
}

void muon_ns_plan_destroy(muon_ns_plan **plan)
{
	if (!*plan)
		return;
	muon_onednn_destroy((*plan)->multiplier.onednn);
	muon_free(*plan);
	*plan = NULL;
}

void muon_ns_plan_set_threads(muon_ns_plan *plan, int threads)
{
	plan->multiplier.threads = threads > 1 ? threads : 1;
}

size_t muon_ns_workspace(const muon_ns_plan *plan)
{
	return plan->offset[NS_BUFFERS] + muon_multiplier_scratch(&plan->multiplier);
}

double muon_ns_flops(const muon_ns_plan *plan)
{
	return plan->program.flops;
}

muon_ns_form muon_ns_plan_form(const muon_ns_plan *plan)
{
	return plan->form;
}

/* ---- execution ------------------------------------------------------------------------------ */

static void fill_zero(const muon_ns_plan *plan, const muon_buffer *o)
{
	const size_t size =
	    plan->multiplier.arithmetic == MUON_ARITHMETIC_F64 ? sizeof(double) : sizeof(float);
	for (int64_t i = 0; i < plan->rows; i++)
		memset((char *)o->entries + (size_t)(i * o->ld) * size, 0,
		       (size_t)plan->cols * size);
}

static int iterate(const muon_ns_plan *plan, const muon_buffer *buffers, void *scratch)
{
	int code = MUON_OK;
	for (int i = 0; !code && i < plan->program.count; i++)
		code = muon_product_run(&plan->multiplier, &plan->program.products[i], buffers,
					scratch);
	return code;
}

int muon_newton_schulz(const muon_ns_plan *plan, const void *m, int64_t ld, void *o, int64_t ldo,
		       void *workspace)
{
	if (ld < plan->cols || ldo < plan->cols || ldo > INT_MAX || (m == o && ld != ldo))
		return MUON_E_ARGUMENT;
	const muon_arithmetic arithmetic = plan->multiplier.arithmetic;
	const muon_ns_matrix matrix = {plan->rows, plan->cols, ld, m};
	const muon_buffer result = {o, ldo};
	const int last = plan->program.result;
	double norm, scale;
	int code = muon_ns_norm(&matrix, arithmetic, &norm, &scale);
	if (code)
		return code;
	if (norm == 0) {
		fill_zero(plan, &result);
		return MUON_OK;
	}
	char *bytes = workspace;
	muon_buffer buffers[NS_BUFFERS];
	for (int i = 0; i < NS_BUFFERS; i++)
		buffers[i] = (muon_buffer){bytes + plan->offset[i], plan->ld[i]};
	if (plan->in_place)
		buffers[last] = result;
	muon_ns_load(&matrix, arithmetic, scale, 1 / (plan->norm_factor * norm), &buffers[NS_X]);
	code = iterate(plan, buffers, bytes + plan->offset[NS_BUFFERS]);
	if (!code && !plan->in_place)
		muon_ns_store(&buffers[last], arithmetic, plan->rows, plan->cols, &result);
	return code;
}

/* ---- distance from orthogonality ------------------------------------------------------------ */

/* |S - I|_F of the k x k matrix whose lower triangle s holds. */
#define DISTANCE_FROM_IDENTITY(name, type)                                                         \
	static double name(const type *s, int64_t k)                                               \
	{                                                                                          \
		double sum = 0;                                                                    \
		for (int64_t i = 0; i < k; i++) {                                                  \
			for (int64_t j = 0; j < i; j++)                                            \
				sum += 2 * (double)s[i * k + j] * (double)s[i * k + j];            \
			const double d = (double)s[i * k + i] - 1;                                 \
			sum += d * d;                                                              \
		}                                                                                  \
		return sqrt(sum);                                                                  \
	}
DISTANCE_FROM_IDENTITY(distance_f32, float)
DISTANCE_FROM_IDENTITY(distance_f64, double)
#undef DISTANCE_FROM_IDENTITY

double muon_orthogonality_error(int64_t rows, int64_t cols, const void *o, int64_t ldo, bool is_f64,
				void *workspace)
{
	const CBLAS_TRANSPOSE op = rows > cols ? CblasTrans : CblasNoTrans;
	const int k = (int)(rows > cols ? cols : rows), depth = (int)(rows > cols ? rows : cols);
	if (is_f64)
		cblas_dsyrk(CblasRowMajor, CblasLower, op, k, depth, 1, o, (int)ldo, 0, workspace,
			    k);
	else
		cblas_ssyrk(CblasRowMajor, CblasLower, op, k, depth, 1, o, (int)ldo, 0, workspace,
			    k);
	const double distance = is_f64 ? distance_f64(workspace, k) : distance_f32(workspace, k);
	return distance / sqrt(k);
}
