/* Orthogonalisation of one matrix of each hidden shape of Moonlight-16B, five Jordan steps: this
 * library, a plain Newton-Schulz of three general products a step on the same BLAS, and PyTorch
 * (tests/bench/newton_schulz_torch.py, where python3 has torch), each on all processors.
 *
 *     bench_newton_schulz [--quick] [--threads N]      to be run from the top folder
 *
 * --quick takes the smaller matrices alone, for a few seconds. Of a matrix alone this library's
 * threads share the tiles, BLAS having one; the others use BLAS' threads. They take turns, forwards
 * and backwards by turns, with sgemm before and after. Seconds and rates are medians over the
 * rounds; so is a ratio, of the ratios within each round: what slows the machine for a while slows
 * both sides. With one thread its processor time counts, which a busy machine disturbs less than
 * time by the clock. */
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"

#include <cblas.h>
#include <getopt.h>
#include <math.h>
#include <muon/kernels.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	GEMM = 2048, /* size of the sgemm that sets the rate */
	STEPS = 5,
	ROUNDS = 5,
};

static const double target = 1.3, bf16_target = 3; /* times as fast as the others */

typedef struct shape {
	const char *name;
	int rows, cols; /* out, in */
	bool quick;
} shape;

static const shape shapes[] = {
    {"q_proj", 3072, 2048, false},    {"kv_a", 576, 2048, true},
    {"kv_b", 4096, 512, true},        {"o_proj", 2048, 2048, false},
    {"dense up", 11264, 2048, false}, {"dense down", 2048, 11264, false},
    {"expert up", 1408, 2048, false}, {"expert down", 2048, 1408, false},
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

/* Zeroed, so that its pages are there. */
static void *allocate(size_t count, size_t size)
{
	void *block = muon_alloc_aligned(count, size);
	if (!block)
		fail("out of memory");
	return memset(block, 0, count * size);
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

static double seconds_now(int threads)
{
	struct timespec t;
	if (threads > 1)
		return muon_seconds();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double median(const double *values, int count)
{
	double sorted[ROUNDS];
	memcpy(sorted, values, (size_t)count * sizeof *sorted);
	qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
	return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

/* ---- rate of sgemm -------------------------------------------------------------------------- */

typedef struct gemm {
	float *a, *b, *c;
} gemm;

/* Operations a second. */
static double gemm_rate(const gemm *g, int threads)
{
	openblas_set_num_threads(threads);
	settle();
	const double start = seconds_now(threads);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, GEMM, GEMM, GEMM, 1, g->a, GEMM,
		    g->b, GEMM, 0, g->c, GEMM);
	return 2.0 * GEMM * GEMM * GEMM / (seconds_now(threads) - start);
}

/* ---- this library --------------------------------------------------------------------------- */

typedef struct ours {
	muon_ns_plan *plan;
	void *workspace;
} ours;

static ours ours_setup(const shape *s, muon_precision precision, int threads)
{
	ours u;
	muon_coefficients coefficients;
	if (muon_coefficients_named(&coefficients, "jordan", STEPS) ||
	    muon_ns_plan_create(&u.plan, s->rows, s->cols, &coefficients, precision, MUON_NS_AUTO))
		fail("no plan");
	muon_ns_plan_set_threads(u.plan, threads);
	u.workspace = allocate(muon_ns_workspace(u.plan), 1);
	return u;
}

static void ours_release(ours *u)
{
	muon_ns_plan_destroy(&u->plan);
	muon_free_aligned(u->workspace);
}

static double time_ours(const ours *u, const shape *s, int threads, int times, const float *m,
			float *o)
{
	openblas_set_num_threads(1);
	settle();
	const double start = seconds_now(threads);
	for (int i = 0; i < times; i++)
		if (muon_newton_schulz(u->plan, m, s->cols, o, s->cols, u->workspace))
			fail("muon_newton_schulz");
	return (seconds_now(threads) - start) / times;
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

static void plain_orthogonalise(plain *p, const shape *s, float *m, float *o)
{
	const float norm = cblas_snrm2(s->rows * s->cols, m, 1);
	plain_copy(s, p, m, true, 1 / norm);
	for (int i = 0; i < STEPS; i++)
		plain_step(p);
	plain_copy(s, p, o, false, 1);
}

static double time_plain(plain *p, const shape *s, int threads, int times, float *m, float *o)
{
	openblas_set_num_threads(threads);
	settle();
	const double start = seconds_now(threads);
	for (int i = 0; i < times; i++)
		plain_orthogonalise(p, s, m, o);
	return (seconds_now(threads) - start) / times;
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
		setenv("OPENBLAS_NUM_THREADS", count, 1);
		execl("/bin/sh", "sh", "-c",
		      "exec 2>/dev/null /usr/bin/python3 tests/bench/newton_schulz_torch.py $0",
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

/* Seconds of one of so many orthogonalisations; NAN where there is no PyTorch. */
static double time_torch(torch *t, const shape *s, const char *type, int times)
{
	char answer[64];
	if (!t->questions)
		return NAN;
	settle();
	fprintf(t->questions, "%d %d %s %d\n", s->rows, s->cols, type, times);
	fflush(t->questions);
	return fgets(answer, sizeof answer, t->answers) ? strtod(answer, NULL) : NAN;
}

/* ---- one shape ------------------------------------------------------------------------------ */

typedef struct bench {
	gemm gemm;
	torch torch;
	bool quick;
	int threads;
} bench;

/* In bf16, where there is no plain form, our float32 takes its place. */
enum { OURS, PLAIN, TORCH, CONTESTANTS };

typedef struct contest {
	const shape *shape;
	muon_precision precision;
	ours ours, f32;
	plain plain;
	float *m, *o;
	double flops, plain_flops; /* of one orthogonalisation */
	int rounds, times;         /* times: orthogonalisations at a time */
	double seconds[CONTESTANTS][ROUNDS], rate[ROUNDS];
} contest;

static double time_contestant(contest *c, bench *b, int contestant)
{
	const bool is_bf16 = c->precision == MUON_PRECISION_BF16;
	switch (contestant) {
	case OURS:
		return time_ours(&c->ours, c->shape, b->threads, c->times, c->m, c->o);
	case PLAIN:
		return is_bf16 ? time_ours(&c->f32, c->shape, b->threads, c->times, c->m, c->o)
			       : time_plain(&c->plain, c->shape, b->threads, c->times, c->m, c->o);
	default:
		return time_torch(&b->torch, c->shape, is_bf16 ? "bf16" : "f32", c->times);
	}
}

static void run_contest(contest *c, bench *b, const shape *s, muon_precision precision)
{
	const double long_enough = 1e10, large = 2e11; /* flops: about 0.1 and 2 s on two cores */
	*c = (contest){
	    .shape = s,
	    .precision = precision,
	    .ours = ours_setup(s, precision, b->threads),
	    .f32 = ours_setup(s, MUON_PRECISION_F32, b->threads),
	    .plain = plain_setup(s),
	    .m = gaussian(s->rows, s->cols),
	    .o = gaussian(s->rows, s->cols),
	    .plain_flops = plain_flops(s),
	};
	c->flops = muon_ns_flops(c->ours.plan);
	c->times = 1 + (int)(long_enough / c->plain_flops);
	c->rounds = b->quick || c->plain_flops > large ? 3 : ROUNDS;
	double before = gemm_rate(&b->gemm, b->threads);
	for (int round = 0; round < c->rounds; round++) {
		for (int i = 0; i < CONTESTANTS; i++) {
			const int contestant = round % 2 ? CONTESTANTS - 1 - i : i;
			c->seconds[contestant][round] = time_contestant(c, b, contestant);
		}
		const double after = gemm_rate(&b->gemm, b->threads);
		c->rate[round] = (before + after) / 2;
		before = after;
	}
	plain_release(&c->plain);
	ours_release(&c->f32);
	muon_free_aligned(c->m);
	muon_free_aligned(c->o);
}

/* ---- tables --------------------------------------------------------------------------------- */

typedef struct row {
	const char *name, *form;
	char dims[32];
	double flops, plain_flops, rate; /* rate of sgemm */
	double seconds[CONTESTANTS], ratio[CONTESTANTS];
	double share; /* of sgemm's rate */
} row;

static const char *form_name(muon_ns_form form)
{
	static const char *const names[] = {"auto", "plain", "symmetric", "Gram"};
	return names[form];
}

static row row_of(const contest *c)
{
	row r = {
	    .name = c->shape->name,
	    .form = form_name(muon_ns_plan_form(c->ours.plan)),
	    .flops = c->flops,
	    .plain_flops = c->plain_flops,
	    .rate = median(c->rate, c->rounds),
	};
	double share[ROUNDS], ratio[ROUNDS];
	snprintf(r.dims, sizeof r.dims, "%d x %d", c->shape->rows, c->shape->cols);
	for (int i = 0; i < CONTESTANTS; i++) {
		for (int round = 0; round < c->rounds; round++)
			ratio[round] = c->seconds[i][round] / c->seconds[OURS][round];
		r.ratio[i] = median(ratio, c->rounds);
		r.seconds[i] = median(c->seconds[i], c->rounds);
	}
	for (int round = 0; round < c->rounds; round++)
		share[round] = c->flops / c->seconds[OURS][round] / c->rate[round];
	r.share = median(share, c->rounds);
	return r;
}

static void add_row(row *sum, const row *r)
{
	sum->flops += r->flops;
	sum->plain_flops += r->plain_flops;
	for (int i = 0; i < CONTESTANTS; i++) {
		sum->seconds[i] += r->seconds[i];
		sum->ratio[i] = sum->seconds[i] / sum->seconds[OURS];
	}
	/* the time that sgemm would take for as many operations */
	sum->rate += r->flops / r->rate;
	sum->share = sum->rate / sum->seconds[OURS];
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
	printf("|             |              |           |       s |   GFLOP/s |   GFLOP/s | "
	       "GFLOP/s |       |       s |      vs |       s |      vs |\n"
	       "| matrix      | rows x cols  | form      |    ours |    useful |      done | "
	       "  sgemm | share |   plain |   plain | PyTorch | PyTorch |\n"
	       "|-------------|--------------|-----------|--------:|----------:|----------:|"
	       "--------:|------:|--------:|--------:|--------:|--------:|\n");
}

static void print_row(const row *r)
{
	printf("| %-11s | %-12s | %-9s |", r->name, r->dims, r->form);
	print_number(r->seconds[OURS], 7, 4, "");
	print_number(r->plain_flops / r->seconds[OURS] / 1e9, 9, 1, "");
	print_number(r->flops / r->seconds[OURS] / 1e9, 9, 1, "");
	print_number(r->rate / 1e9, 7, 1, "");
	print_number(100 * r->share, 4, 0, "%");
	print_number(r->seconds[PLAIN], 7, 4, "");
	print_number(r->ratio[PLAIN], 6, 2, "x");
	print_number(r->seconds[TORCH], 7, 4, "");
	print_number(r->ratio[TORCH], 6, 2, "x");
	printf("\n");
	fflush(stdout);
}

/* The least ratio of the table against what was aimed at. */
static void print_verdict(const row *rows, int count, int contestant, const char *name, double aim)
{
	const row *least = rows;
	for (const row *r = rows; r < rows + count; r++)
		if (r->ratio[contestant] < least->ratio[contestant])
			least = r;
	if (isnan(least->ratio[contestant]))
		printf("against %s: not measured, it is not installed\n", name);
	else
		printf("against %s: at least %.2fx (%s); aim %.1fx: %s\n", name,
		       least->ratio[contestant], least->dims, aim,
		       least->ratio[contestant] >= aim ? "met" : "missed");
}

static void run_table(bench *b, muon_precision precision)
{
	const bool is_bf16 = precision == MUON_PRECISION_BF16;
	row rows[SHAPES], sum = {.name = "sum", .form = ""};
	int count = 0;
	print_header();
	for (const shape *s = shapes; s < shapes + SHAPES; s++) {
		if (b->quick && !s->quick)
			continue;
		contest c;
		run_contest(&c, b, s, precision);
		rows[count] = row_of(&c);
		print_row(&rows[count]);
		add_row(&sum, &rows[count]);
		ours_release(&c.ours);
		count++;
	}
	sum.rate = sum.flops / sum.rate;
	print_row(&sum);
	printf("\n");
	print_verdict(rows, count, PLAIN, is_bf16 ? "ours in float32" : "the plain form",
		      is_bf16 ? bf16_target : target);
	print_verdict(rows, count, TORCH, "PyTorch", target);
}

/* Where there are no bf16 products: what PyTorch makes of it here, on shapes that it can do in less
 * than a minute. */
static void compare_torch_bf16(bench *b)
{
	const double most = b->quick ? 1e9 : 2e10;
	for (const shape *s = shapes; s < shapes + SHAPES && b->torch.questions; s++) {
		if (plain_flops(s) > most)
			continue;
		ours u = ours_setup(s, MUON_PRECISION_F32, b->threads);
		float *m = gaussian(s->rows, s->cols), *o = gaussian(s->rows, s->cols);
		const double torch_seconds = time_torch(&b->torch, s, "bf16", 1);
		const double seconds = time_ours(&u, s, b->threads, 1, m, o);
		printf("%d x %d: PyTorch in bf16 %.3f s, ours in float32 %.4f s, %.0fx\n", s->rows,
		       s->cols, torch_seconds, seconds, torch_seconds / seconds);
		muon_free_aligned(m);
		muon_free_aligned(o);
		ours_release(&u);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"quick", no_argument, NULL, 'q'}, {"threads", required_argument, NULL, 't'}, {0}};
	bool quick = false;
	int threads = muon_processor_count();
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
		if (option == 'q')
			quick = true;
		else if (option != 't' || (threads = atoi(optarg)) < 1)
			return 2;
	const char *why = NULL;
	bench b = {
	    .gemm = {gaussian(GEMM, GEMM), gaussian(GEMM, GEMM), gaussian(GEMM, GEMM)},
	    .torch = torch_open(threads),
	    .quick = quick,
	    .threads = threads,
	};
	gemm_rate(&b.gemm, threads);
	printf("Newton-Schulz of Gaussian matrices, %d Jordan steps, %s, %d thread(s), PyTorch %s\n"
	       "%s; useful: operations of the plain form in our time\n\nfloat32\n\n",
	       STEPS, muon_blas_description(), threads,
	       b.torch.questions ? b.torch.version : "not installed, skipped",
	       threads > 1 ? "time by the clock" : "processor time");
	run_table(&b, MUON_PRECISION_F32);
	if (muon_precision_available(MUON_PRECISION_BF16, &why)) {
		printf("\nbf16; \"plain\" is this library in float32\n\n");
		run_table(&b, MUON_PRECISION_BF16);
	} else {
		printf("\nbf16 products are not available: %s\n", why);
		compare_torch_bf16(&b);
	}
	torch_close(&b.torch);
	muon_free_aligned(b.gemm.a);
	muon_free_aligned(b.gemm.b);
	muon_free_aligned(b.gemm.c);
	return 0;
}
