/* Products of few terms, so that matrices of many tiles are quick to multiply. */
#include "unit/kernels/matrix.h"

#include "kernels/products.h"

enum { LEFT, RIGHT, ADDEND, OUT, BUFFERS };

typedef struct setting {
	muon_arithmetic arithmetic;
	double tolerance;
} setting;

static const setting settings[] = {
    {MUON_ARITHMETIC_F64, 1e-14},
    {MUON_ARITHMETIC_F32, 2e-6},
    {MUON_ARITHMETIC_BF16_EMULATED, 0x1p-8},
    {MUON_ARITHMETIC_ONEDNN_F32, 2e-6},
    {MUON_ARITHMETIC_BF16, 0x1p-8},
};

static bool is_available(muon_arithmetic arithmetic)
{
	return !muon_arithmetic_is_onednn(arithmetic) || muon_onednn_available(arithmetic, NULL);
}

static muon_dtype type_of(muon_arithmetic arithmetic)
{
	if (arithmetic == MUON_ARITHMETIC_F64)
		return MUON_F64;
	return arithmetic == MUON_ARITHMETIC_BF16 ? MUON_BF16 : MUON_F32;
}

/* rows x cols entries of op(buffer), as they are stored; they become what the type keeps. */
static void fill(muon_buffer *buffer, muon_arithmetic arithmetic, int rows, int cols,
		 bool transposed, double *values)
{
	const int lines = transposed ? cols : rows, width = transposed ? rows : cols;
	double *stored = matrix_alloc(lines, width);
	for (int i = 0; i < lines; i++)
		for (int j = 0; j < width; j++) {
			double x = values[transposed ? j * cols + i : i * cols + j];
			if (arithmetic == MUON_ARITHMETIC_BF16_EMULATED)
				x = muon_round_bf16(x);
			stored[i * width + j] = x;
		}
	buffer->ld = width + 7;
	buffer->entries = matrix_store(stored, lines, width, type_of(arithmetic), buffer->ld);
	for (int i = 0; i < lines; i++)
		for (int j = 0; j < width; j++)
			values[transposed ? j * cols + i : i * cols + j] = stored[i * width + j];
	muon_free(stored);
}

/* alpha A B + beta D + diagonal I */
static double *expected_of(const muon_product *p, const double *a, const double *b, const double *d)
{
	double *c = matrix_alloc(p->rows, p->cols);
	memcpy(c, d, (size_t)p->rows * (size_t)p->cols * sizeof *c);
	cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, p->rows, p->cols, p->depth, p->alpha,
		    a, p->depth, b, p->cols, p->beta, c, p->cols);
	for (int i = 0; p->diagonal != 0 && i < p->rows; i++)
		c[i * p->cols + i] += p->diagonal;
	return c;
}

/* Compute with one thread and with three: the same bits. */
static void compute(const muon_product *p, muon_arithmetic arithmetic, muon_buffer *buffers)
{
	const size_t bytes =
	    (size_t)(p->rows * buffers[OUT].ld) * muon_dtype_size(type_of(arithmetic));
	muon_multiplier multiplier = {.arithmetic = arithmetic, .threads = 3};
	int64_t ld[BUFFERS];
	for (int i = 0; i < BUFFERS; i++)
		ld[i] = buffers[i].ld;
	if (muon_arithmetic_is_onednn(arithmetic))
		CU_ASSERT_EQUAL_FATAL(muon_onednn_create(&multiplier.onednn, arithmetic), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(muon_product_prepare(&multiplier, p, ld), MUON_OK);
	void *scratch = muon_alloc_aligned(muon_multiplier_scratch(&multiplier), 1);
	void *first = muon_alloc(bytes, 1);
	CU_ASSERT_FATAL(scratch && first);
	CU_ASSERT_EQUAL(muon_product_run(&multiplier, p, buffers, scratch), MUON_OK);
	memcpy(first, buffers[OUT].entries, bytes);
	memset(buffers[OUT].entries, 0xff, bytes);
	multiplier.threads = 1;
	CU_ASSERT_EQUAL(muon_product_run(&multiplier, p, buffers, scratch), MUON_OK);
	CU_ASSERT_EQUAL(memcmp(first, buffers[OUT].entries, bytes), 0);
	muon_onednn_destroy(multiplier.onednn);
	muon_free_aligned(scratch);
	muon_free(first);
}

/* Against the expected entries; what lies between the lines is still NaN. */
static void compare(const muon_product *p, const setting *s, const muon_buffer *out,
		    const double *expected)
{
	const muon_dtype type = type_of(s->arithmetic);
	double worst = 0, largest = 0, *line = matrix_alloc(1, out->ld);
	int64_t touched = 0;
	for (int i = 0; i < p->rows; i++) {
		const char *stored = out->entries;
		muon_convert_f64(type, stored + (size_t)(i * out->ld) * muon_dtype_size(type),
				 (size_t)out->ld, line);
		for (int j = 0; j < p->cols; j++) {
			const double e = expected[i * p->cols + j], error = fabs(line[j] - e);
			worst = isnan(worst) || error <= worst ? worst : error;
			largest = fmax(largest, fabs(e));
		}
		for (int64_t j = p->cols; j < out->ld; j++)
			touched += !isnan(line[j]);
	}
	CU_ASSERT(worst <= s->tolerance * largest);
	CU_ASSERT_EQUAL(touched, 0);
	muon_free(line);
}

/* The product of A and B, which are released, in every arithmetic. Diagonals are not for oneDNN. */
static void check(const muon_product *product, double *a, double *b, double *d)
{
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
		const muon_arithmetic arithmetic = settings[i].arithmetic;
		if (!is_available(arithmetic))
			continue;
		muon_product p = *product;
		if (muon_arithmetic_is_onednn(arithmetic))
			p.diagonal = 0;
		muon_buffer buffers[BUFFERS];
		fill(&buffers[LEFT], arithmetic, p.rows, p.depth, p.left_transposed, a);
		fill(&buffers[RIGHT], arithmetic, p.depth, p.cols, p.right_transposed, b);
		fill(&buffers[ADDEND], arithmetic, p.rows, p.cols, false, d);
		fill(&buffers[OUT], arithmetic, p.rows, p.cols, false, d);
		double *expected = expected_of(&p, a, b, d);
		compute(&p, arithmetic, buffers);
		compare(&p, &settings[i], &buffers[OUT], expected);
		muon_free(expected);
		for (int j = 0; j < BUFFERS; j++)
			muon_free(buffers[j].entries);
	}
	muon_free(a);
	muon_free(b);
	muon_free(d);
}

static void test_general(void)
{
	static const int shapes[][3] = {{1, 1, 1},     {1, 700, 3},   {700, 1, 3},  {17, 5, 40},
					{256, 250, 8}, {30, 1200, 9}, {1100, 40, 9}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int op = 0; op < 4; op++) {
			const int rows = shapes[i][0], cols = shapes[i][1], depth = shapes[i][2];
			const muon_product p = {
			    .rows = rows,
			    .cols = cols,
			    .depth = depth,
			    .left = LEFT,
			    .right = RIGHT,
			    .out = OUT,
			    .addend = ADDEND,
			    .left_transposed = op & 1,
			    .right_transposed = op & 2,
			    .alpha = op ? 1.5 : 1,
			    .beta = op == 3 ? 0 : -0.75,
			    .diagonal = rows == cols ? 3 : 0,
			};
			check(&p, matrix_normal(rows, depth, i), matrix_normal(depth, cols, ~i),
			      matrix_normal(rows, cols, i + 9));
		}
}

/* rows x rows, symmetric */
static double *symmetric_matrix(int rows, uint64_t seed)
{
	double *d = matrix_normal(rows, rows, seed);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < i; j++)
			d[j * rows + i] = d[i * rows + j];
	return d;
}

/* Sizes about those of leaves and tiles, and of several tiles. */
static const int sizes[] = {1, 2, 63, 64, 65, 129, 191, 192, 385, 780};

static void check_symmetric(int right, bool transposed, double beta)
{
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		const int rows = sizes[i], depth = 11;
		/* B is A^T, as the same buffer read transposed or as another one */
		const muon_product p = {
		    .rows = rows,
		    .cols = rows,
		    .depth = depth,
		    .left = LEFT,
		    .right = right,
		    .out = OUT,
		    .addend = ADDEND,
		    .left_transposed = transposed,
		    .right_transposed = !transposed,
		    .symmetric = true,
		    .alpha = -2.5,
		    .beta = beta,
		    .diagonal = beta != 0 ? 4 : 0,
		};
		double *a = matrix_normal(rows, depth, i), *b = matrix_alloc(depth, rows);
		for (int j = 0; j < rows * depth; j++)
			b[j % depth * rows + j / depth] = a[j];
		check(&p, a, b, symmetric_matrix(rows, i));
	}
}

static void test_square(void)
{
	check_symmetric(LEFT, false, 0);
	check_symmetric(LEFT, true, 0.5);
}

static void test_commuting(void)
{
	check_symmetric(RIGHT, false, 0.5);
	check_symmetric(RIGHT, true, 0);
}

static void test_flops(void)
{
	muon_product p = {.rows = 2048, .cols = 2048, .depth = 500, .symmetric = true};
	const double half = 2048.0 * 2048 * 500;
	p.right_transposed = true;
	UNIT_CLOSE(muon_product_flops(&p, MUON_ARITHMETIC_F32), half * 2049 / 2048, 1e-12);
	UNIT_CLOSE(muon_product_flops(&p, MUON_ARITHMETIC_BF16), half, 0.05);
	p.right = 1;
	UNIT_CLOSE(muon_product_flops(&p, MUON_ARITHMETIC_F32), half, 0.03);
	p.symmetric = false;
	UNIT_CLOSE(muon_product_flops(&p, MUON_ARITHMETIC_F32), 2 * half, 1e-12);
}

UNIT_SUITE(products, {"general", test_general}, {"of a matrix and its transpose", test_square},
	   {"of commuting matrices", test_commuting}, {"flops", test_flops})
