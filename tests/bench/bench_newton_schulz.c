/* Orthogonalisation of one matrix of each hidden shape of Moonlight-16B, five Jordan steps: this
 * library, a plain Newton-Schulz of three general products a step on the same BLAS, and PyTorch
 * (tests/bench/newton_schulz_torch.py, where python3 has torch), all on all processors.
 *
 *     bench_newton_schulz [--quick]        to be run from the top folder; --quick leaves out large
 *                                          matrices
 *
 * Of a matrix alone this library's threads share the tiles, BLAS having one; the others use BLAS'
 * threads. A whole step is what an optimizer does: this library's workers take one matrix each,
 * the longest first. Least of three times (of two for large matrices); the rate of sgemm is
 * measured around each of them and its median counts. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"

#include <cblas.h>
#include <math.h>
#include <muon/kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GEMM = 2048, /* size of the sgemm that sets the rate */ RATES = 64, STEPS = 5 };

typedef struct shape {
	const char *name;
	int rows, cols; /* out, in */
	bool quick;
} shape;

static const shape shapes[] = {
    {"q_proj", 3072, 2048, false},    {"kv_a", 576, 2048, true},
    {"kv_b", 4096, 512, true},        {"o_proj", 2048, 2048, false},
    {"dense up", 11264, 2048, false}, {"dense down", 2048, 11264, false},
    {"expert up", 1408, 2048, true},  {"expert down", 2048, 1408, true},
    {"shared up", 2816, 2048, false}, {"shared down", 2048, 2816, false},
    {"router", 64, 2048, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const muon_quintic jordan = {3.4445, -4.7750, 2.0315};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "bench_newton_schulz: %s\n", what);
	exit(5);
}

static void *allocate(size_t count, size_t size)
{
	void *block = muon_alloc_aligned(count, size);
	if (!block)
		fail("out of memory");
	return block;
}

static float *gaussian(int rows, int cols)
{
	const size_t count = (size_t)rows * (size_t)cols;
	float *a = allocate(count, sizeof *a);
	muon_random random;
	muon_random_seed(&random, 1);
	for (size_t i = 0; i < count; i++)
		a[i] = (float)muon_random_normal(&random);
	return a;
}

/* Idle threads of BLAS and OpenMP spin for some 30 ms before they sleep, on the processors that the
 * next to be timed needs. */
static void settle(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
}

/* ---- rate of sgemm -------------------------------------------------------------------------- */

typedef struct gemm {
	float *a, *b, *c;
	double rate[RATES];
	int count;
} gemm;

static void gemm_measure(gemm *g, int threads)
{
	openblas_set_num_threads(threads);
	settle();
	const double start = muon_seconds();
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM, GEMM, GEMM, 1, g->a, GEMM,
		    g->b, GEMM, 0, g->c, GEMM);
	const double seconds = muon_seconds() - start;
	if (g->count < RATES)
		g->rate[g->count++] = 2.0 * GEMM * GEMM * GEMM / seconds;
}

static int compare_doubles(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double gemm_median(gemm *g)
{
	qsort(g->rate, (size_t)g->count, sizeof *g->rate, compare_doubles);
	return (g->rate[(g->count - 1) / 2] + g->rate[g->count / 2]) / 2;
}

/* ---- this library --------------------------------------------------------------------------- */

static muon_ns_plan *make_plan(const shape *s, muon_precision precision, int threads)
{
	muon_coefficients coefficients;
	muon_ns_plan *plan;
	if (muon_coefficients_named(&coefficients, "jordan", STEPS) ||
	    muon_ns_plan_create(&plan, s->rows, s->cols, &coefficients, precision, MUON_NS_AUTO))
		fail("no plan");
	muon_ns_plan_set_threads(plan, threads);
	return plan;
}

static double time_ours(const muon_ns_plan *plan, const shape *s, const float *m, float *o)
{
	void *workspace = allocate(muon_ns_workspace(plan), 1);
	openblas_set_num_threads(1);
	memset(workspace, 0, muon_ns_workspace(plan));
	settle();
	const double start = muon_seconds();
	if (muon_newton_schulz(plan, m, s->cols, o, s->cols, workspace))
		fail("muon_newton_schulz");
	const double seconds = muon_seconds() - start;
	muon_free_aligned(workspace);
	return seconds;
}

/* ---- the plain form ------------------------------------------------------------------------- */

typedef struct plain {
	int k, longest;
	float *x, *next, *s, *p;
} plain;

static plain plain_setup(const shape *matrix)
{
	plain p = {.k = matrix->rows < matrix->cols ? matrix->rows : matrix->cols,
		   .longest = matrix->rows < matrix->cols ? matrix->cols : matrix->rows};
	const size_t size = (size_t)p.k * (size_t)p.longest, square = (size_t)p.k * (size_t)p.k;
	p.x = allocate(size, sizeof *p.x);
	p.next = allocate(size, sizeof *p.x);
	p.s = allocate(square, sizeof *p.x);
	p.p = allocate(square, sizeof *p.x);
	memset(p.x, 0, size * sizeof *p.x);
	memset(p.next, 0, size * sizeof *p.x);
	memset(p.s, 0, square * sizeof *p.x);
	memset(p.p, 0, square * sizeof *p.x);
	return p;
}

static void plain_release(plain *p)
{
	muon_free_aligned(p->x);
	muon_free_aligned(p->next);
	muon_free_aligned(p->s);
	muon_free_aligned(p->p);
}

/* P = b S + c S S and X = a X + P X, with the copies that BLAS asks for. */
static void plain_step(plain *p)
{
	const int k = p->k, n = p->longest;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k, k, n, 1, p->x, n, p->x, n, 0, p->s,
		    k);
	memcpy(p->p, p->s, (size_t)k * (size_t)k * sizeof *p->s);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, k, k, k, (float)jordan.c, p->s, k,
		    p->s, k, (float)jordan.b, p->p, k);
	memcpy(p->next, p->x, (size_t)k * (size_t)n * sizeof *p->x);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, k, n, k, 1, p->p, k, p->x, n,
		    (float)jordan.a, p->next, n);
	float *x = p->x;
	p->x = p->next;
	p->next = x;
}

/* Copy between m and X, which is m^T when m is tall. */
static void plain_copy(const shape *s, plain *p, float *m, bool to_x, float factor)
{
	const size_t rows = (size_t)s->rows, cols = (size_t)s->cols, tile = 32;
	const bool tall = rows > cols;
	for (size_t i0 = 0; i0 < rows; i0 += tile)
		for (size_t j0 = 0; j0 < cols; j0 += tile)
			for (size_t i = i0; i < rows && i < i0 + tile; i++)
				for (size_t j = j0; j < cols && j < j0 + tile; j++) {
					float *x = &p->x[tall ? j * rows + i : i * cols + j];
					if (to_x)
						*x = m[i * cols + j] * factor;
					else
						m[i * cols + j] = *x;
				}
}

static double time_plain(plain *p, const shape *s, float *m, float *o, int threads)
{
	openblas_set_num_threads(threads);
	settle();
	const double start = muon_seconds();
	const float norm = cblas_snrm2(s->rows * s->cols, m, 1);
	plain_copy(s, p, m, true, 1 / norm);
	for (int i = 0; i < STEPS; i++)
		plain_step(p);
	plain_copy(s, p, o, false, 1);
	return muon_seconds() - start;
}

static double plain_flops(const shape *s)
{
	const double k = s->rows < s->cols ? s->rows : s->cols;
	const double n = s->rows < s->cols ? s->cols : s->rows;
	return STEPS * (4 * k * k * n + 2 * k * k * k);
}

/* ---- PyTorch, in a process that answers one question at a time ------------------------------ */

typedef struct torch {
	FILE *questions, *answers; /* NULL where there is no PyTorch */
	pid_t process;
	char version[64];
} torch;

static void torch_close(torch *t)
{
	if (!t->questions)
		return;
	fclose(t->questions);
	fclose(t->answers);
	waitpid(t->process, NULL, 0);
	t->questions = NULL;
}

static torch torch_open(int threads)
{
	torch t = {0};
	int to[2], from[2];
	char count[16];
	snprintf(count, sizeof count, "%d", threads);
	if (access("tests/bench/newton_schulz_torch.py", R_OK) || pipe(to) || pipe(from))
		return t;
	t.process = fork();
	if (t.process == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		close(from[0]);
		execl("/bin/sh", "sh", "-c",
		      "OMP_WAIT_POLICY=passive exec 2>/dev/null /usr/bin/python3 "
		      "tests/bench/newton_schulz_torch.py $0",
		      count, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	t.questions = fdopen(to[1], "w");
	t.answers = fdopen(from[0], "r");
	if (t.process < 0 || !t.questions || !t.answers)
		fail("no process for PyTorch");
	if (!fgets(t.version, sizeof t.version, t.answers))
		torch_close(&t);
	t.version[strcspn(t.version, "\n")] = '\0';
	return t;
}

/* Seconds; NAN where there is no PyTorch. */
static double time_torch(torch *t, const shape *s, const char *type)
{
	char answer[64];
	if (!t->questions)
		return NAN;
	settle();
	fprintf(t->questions, "%d %d %s 1\n", s->rows, s->cols, type);
	fflush(t->questions);
	return fgets(answer, sizeof answer, t->answers) ? strtod(answer, NULL) : NAN;
}

/* ---- tables --------------------------------------------------------------------------------- */

typedef struct totals {
	double ours, plain, torch, flops, plain_flops;
} totals;

static const char *form_name(muon_ns_form form)
{
	static const char *const names[] = {"auto", "plain", "symmetric", "Gram"};
	return names[form];
}

/* Right-aligned, "-" for NAN. */
static void print_number(double x, int width, int digits, const char *unit)
{
	if (isnan(x))
		printf(" %*s |", width + (int)strlen(unit), "-");
	else
		printf(" %*.*f%s |", width, digits, x, unit);
}

static void print_header(void)
{
	printf(
	    "| matrix      | rows x cols  | form      | GFLOP, plain |   done |    ours | GFLOP/s "
	    "| "
	    "sgemm's | share |   plain | vs plain | PyTorch | vs PyTorch |\n"
	    "|-------------|--------------|-----------|-------------:|-------:|--------:|--------:|"
	    "--------:|------:|--------:|---------:|--------:|-----------:|\n");
}

static void print_row(const char *name, const char *dims, const char *form, const totals *t,
		      double rate)
{
	printf("| %-11s | %-12s | %-9s |", name, dims, form);
	print_number(t->plain_flops / 1e9, 12, 1, "");
	print_number(t->flops / 1e9, 6, 1, "");
	print_number(t->ours, 7, 3, "");
	print_number(t->flops / t->ours / 1e9, 7, 1, "");
	print_number(rate / 1e9, 7, 1, "");
	print_number(100 * t->flops / t->ours / rate, 4, 0, "%");
	print_number(t->plain, 7, 3, "");
	print_number(t->plain / t->ours, 7, 2, "x");
	print_number(t->torch, 7, 3, "");
	print_number(t->torch / t->ours, 9, 2, "x");
	printf("\n");
	fflush(stdout);
}

/* One matrix alone. In bf16, where there is no plain form, our float32 takes its place. */
static void run_alone(gemm *g, torch *py, const shape *s, muon_precision precision, int threads,
		      totals *sum)
{
	const bool is_bf16 = precision == MUON_PRECISION_BF16;
	float *m = gaussian(s->rows, s->cols), *o = gaussian(s->rows, s->cols);
	muon_ns_plan *plan = make_plan(s, precision, threads);
	muon_ns_plan *f32 = make_plan(s, MUON_PRECISION_F32, threads);
	plain p = plain_setup(s);
	totals t = {INFINITY, INFINITY, INFINITY, muon_ns_flops(plan), plain_flops(s)};
	const int repeats = t.plain_flops > 5e11 ? 2 : 3;
	g->count = 0;
	for (int i = 0; i < repeats; i++) {
		gemm_measure(g, threads);
		t.ours = fmin(t.ours, time_ours(plan, s, m, o));
		gemm_measure(g, threads);
		t.plain = fmin(t.plain, is_bf16 ? time_ours(f32, s, m, o)
						: time_plain(&p, s, m, o, threads));
		const double torch_seconds = time_torch(py, s, is_bf16 ? "bf16" : "f32");
		t.torch = isnan(torch_seconds) ? NAN : fmin(t.torch, torch_seconds);
	}
	gemm_measure(g, threads);
	char dims[32];
	snprintf(dims, sizeof dims, "%d x %d", s->rows, s->cols);
	print_row(s->name, dims, form_name(muon_ns_plan_form(plan)), &t, gemm_median(g));
	sum->ours += t.ours;
	sum->plain += t.plain;
	sum->torch += t.torch;
	sum->flops += t.flops;
	sum->plain_flops += t.plain_flops;
	muon_ns_plan_destroy(&plan);
	muon_ns_plan_destroy(&f32);
	plain_release(&p);
	muon_free_aligned(m);
	muon_free_aligned(o);
}

/* ---- the whole step: workers over matrices -------------------------------------------------- */

typedef struct job {
	const shape *shape;
	muon_ns_plan *plan;
	float *m;
} job;

typedef struct step {
	job jobs[SHAPES];
	size_t count;
	void *workspace[SHAPES]; /* of each worker */
} step;

static bool run_job(void *state, size_t index, int worker)
{
	step *s = state;
	const job *j = &s->jobs[index];
	if (muon_newton_schulz(j->plan, j->m, j->shape->cols, j->m, j->shape->cols,
			       s->workspace[worker]))
		fail("muon_newton_schulz");
	return true;
}

static int compare_jobs(const void *a, const void *b)
{
	const double x = muon_ns_flops(((const job *)a)->plan);
	const double y = muon_ns_flops(((const job *)b)->plan);
	return (x < y) - (x > y);
}

/* Seconds of one step over the matrices. */
static double time_step(bool quick, muon_precision precision, int threads)
{
	step s = {.count = 0};
	size_t largest = 1;
	for (int i = 0; i < SHAPES; i++) {
		if (quick && !shapes[i].quick)
			continue;
		job *j = &s.jobs[s.count++];
		*j = (job){&shapes[i], make_plan(&shapes[i], precision, 1),
			   gaussian(shapes[i].rows, shapes[i].cols)};
		const size_t size = muon_ns_workspace(j->plan);
		largest = size > largest ? size : largest;
	}
	qsort(s.jobs, s.count, sizeof *s.jobs, compare_jobs);
	for (int i = 0; i < threads && i < SHAPES; i++)
		memset(s.workspace[i] = allocate(largest, 1), 0, largest);
	openblas_set_num_threads(1);
	settle();
	const double start = muon_seconds();
	muon_pool_run(threads < SHAPES ? threads : SHAPES, s.count, run_job, &s);
	const double seconds = muon_seconds() - start;
	for (size_t i = 0; i < s.count; i++) {
		muon_ns_plan_destroy(&s.jobs[i].plan);
		muon_free_aligned(s.jobs[i].m);
	}
	for (int i = 0; i < SHAPES; i++)
		muon_free_aligned(s.workspace[i]);
	return seconds;
}

static void run_table(gemm *g, torch *py, bool quick, muon_precision precision, int threads)
{
	totals sum = {0};
	print_header();
	for (int i = 0; i < SHAPES; i++)
		if (!quick || shapes[i].quick)
			run_alone(g, py, &shapes[i], precision, threads, &sum);
	g->count = 0;
	gemm_measure(g, threads);
	double together = INFINITY;
	for (int i = 0; i < 2; i++) {
		together = fmin(together, time_step(quick, precision, threads));
		gemm_measure(g, threads);
	}
	print_row("sum", "", "", &sum, gemm_median(g));
	sum.ours = together;
	print_row("whole step", "", "", &sum, gemm_median(g));
}

int main(int argc, char **argv)
{
	const bool quick = argc == 2 && !strcmp(argv[1], "--quick");
	if (argc > 1 && !quick) {
		fprintf(stderr, "usage: bench_newton_schulz [--quick]\n");
		return 2;
	}
	const int threads = muon_processor_count();
	const char *why = NULL;
	torch py = torch_open(threads);
	gemm g = {.a = gaussian(GEMM, GEMM), .b = gaussian(GEMM, GEMM), .c = gaussian(GEMM, GEMM)};
	gemm_measure(&g, threads);
	printf("Newton-Schulz of Gaussian matrices, %d Jordan steps, %s, %d threads, PyTorch %s. "
	       "Seconds.\n\nfloat32\n\n",
	       STEPS, muon_blas_description(), threads, py.questions ? py.version : "absent");
	run_table(&g, &py, quick, MUON_PRECISION_F32, threads);
	if (muon_precision_available(MUON_PRECISION_BF16, &why)) {
		printf("\nbf16; \"plain\" is this library in float32\n\n");
		run_table(&g, &py, quick, MUON_PRECISION_BF16, threads);
	} else {
		printf("\nbf16: not here: %s\n", why);
	}
	torch_close(&py);
	muon_free_aligned(g.a);
	muon_free_aligned(g.b);
	muon_free_aligned(g.c);
	return 0;
}
