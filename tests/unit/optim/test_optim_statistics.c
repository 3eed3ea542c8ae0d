/* Statistics against sums over what the caller can see. */
#include "unit/optim/optim_fixture.h"

enum { W, HEADS, STACK, B, EMBED };

static void fill(optim_fixture *f)
{
	fixture_start(f, 31);
	FIXTURE_ADD(f, "w", MUON_F32, 20, 12);
	FIXTURE_ADD(f, "heads", MUON_F32, 12, 5)->heads = 2;
	FIXTURE_ADD(f, "stack", MUON_F32, 3, 4, 9);
	FIXTURE_ADD(f, "b", MUON_BF16, 17);
	FIXTURE_ADD(f, "embed.weight", MUON_F32, 30, 3);
}

static muon_statistics statistics_of(const muon_optimizer *o, size_t parameter)
{
	muon_statistics s;
	CU_ASSERT_EQUAL(muon_optimizer_statistics(o, parameter, &s), MUON_OK);
	return s;
}

static double rms(const muon_parameter *p, double (*entry)(const muon_parameter *, int64_t))
{
	double sum = 0;
	for (int64_t i = 0; i < fixture_elements(p); i++)
		sum += entry(p, i) * entry(p, i);
	return sqrt(sum / (double)fixture_elements(p));
}

static void check_parameter(optim_fixture *f, const muon_optimizer *o, size_t k,
			    const double *before, double lr)
{
	const muon_parameter *p = &f->parameters[k];
	const muon_statistics s = statistics_of(o, k);
	const double n = (double)fixture_elements(p);
	double moved = 0;
	UNIT_CLOSE(s.weight_rms, rms(p, fixture_value), 1e-12);
	UNIT_CLOSE(s.gradient_rms, rms(p, fixture_gradient), 1e-12);
	for (int64_t i = 0; i < (int64_t)n; i++) {
		const double d = (before[i] * (1 - lr * 0.1) - fixture_value(p, i)) / lr;
		moved += d * d;
	}
	/* as far as float32, or bf16, lets one see it from outside */
	UNIT_CLOSE(s.update_rms, sqrt(moved / n), p->dtype == MUON_BF16 ? 0.05 : 1e-5);
}

static void test_cheap_ones(void)
{
	const double lr = 0.1;
	const muon_options options = MUON_OPTIONS_INIT;
	optim_fixture f;
	fill(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	double before[5][256];
	for (size_t k = 0; k < f.count; k++)
		for (int64_t i = 0; i < fixture_elements(&f.parameters[k]); i++)
			before[k][i] = fixture_value(&f.parameters[k], i);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, lr, NULL), MUON_OK);
	for (size_t k = 0; k < f.count; k++)
		check_parameter(&f, o, k, before[k], lr);
	/* the first momentum is the gradient; AdamW's is a tenth of it */
	const muon_statistics w = statistics_of(o, W), b = statistics_of(o, B);
	UNIT_CLOSE(w.momentum_norm, w.gradient_rms * sqrt(240), 1e-7);
	UNIT_CLOSE(b.momentum_norm, 0.1 * b.gradient_rms * sqrt(17), 1e-7);
	UNIT_CLOSE(w.effective_lr, lr * 0.2 * sqrt(20), 1e-14);
	UNIT_CLOSE(statistics_of(o, HEADS).effective_lr, lr * 0.2 * sqrt(6), 1e-14);
	UNIT_CLOSE(statistics_of(o, STACK).effective_lr, lr * 0.2 * 3, 1e-14);
	UNIT_CLOSE(b.effective_lr, lr, 1e-14);
	CU_ASSERT(isnan(w.orthogonality_error) && isnan(w.below_reach));
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

static void check_all_nan(const muon_statistics *s)
{
	CU_ASSERT(isnan(s->update_rms) && isnan(s->weight_rms) && isnan(s->gradient_rms));
	CU_ASSERT(isnan(s->effective_lr) && isnan(s->momentum_norm));
	CU_ASSERT(isnan(s->orthogonality_error) && isnan(s->below_reach));
}

static void test_when(void)
{
	const muon_options options = MUON_OPTIONS_INIT;
	const unsigned both = MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH;
	optim_fixture f;
	fill(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	muon_statistics s = statistics_of(o, W);
	check_all_nan(&s);
	CU_ASSERT_EQUAL(muon_optimizer_statistics(o, 5, &s), MUON_E_ARGUMENT);
	fixture_run(&f, o, 1, 0.01);
	CU_ASSERT_EQUAL(muon_optimizer_set_statistics(o, both, NULL), MUON_OK);
	CU_ASSERT(isnan(statistics_of(o, W).orthogonality_error)); /* of the next step */
	fixture_run(&f, o, 1, 0.01);
	CU_ASSERT(statistics_of(o, W).orthogonality_error > 0);
	CU_ASSERT(statistics_of(o, W).below_reach >= 0);
	CU_ASSERT(isnan(statistics_of(o, B).orthogonality_error));
	CU_ASSERT(isnan(statistics_of(o, EMBED).below_reach));
	CU_ASSERT_EQUAL(muon_optimizer_set_statistics(o, 0, NULL), MUON_OK);
	fixture_run(&f, o, 1, 0.01);
	CU_ASSERT(isnan(statistics_of(o, W).orthogonality_error));
	CU_ASSERT_EQUAL(muon_optimizer_set_statistics(o, 128, NULL), MUON_E_USAGE);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* A gradient with chosen singular values on the diagonal of each matrix of a stack. */
static void set_diagonals(muon_parameter *p, const double *first, const double *second)
{
	for (int64_t i = 0; i < 4; i++)
		for (int64_t j = 0; j < 6; j++) {
			fixture_set_gradient(p, i * 6 + j, i == j ? first[i] : 0);
			fixture_set_gradient(p, 24 + i * 6 + j, i == j ? second[i] : 0);
		}
}

/* Jordan's five steps bring singular values s of M/|M| to f5(s), and reach to 0.0015. */
static void test_slow_ones(void)
{
	/* |M| = 1 nearly: f5 of 0.9, 0.05, 0.1, and sqrt(1 - their squares) */
	const double rest = sqrt(1 - .81 - .0025 - .01);
	const double good[] = {.9, .05, .1, rest}, poor[] = {1, 1e-3, 1e-4, 2e-3};
	static const double f5[] = {.682011, .758120, .712120};
	muon_options options = MUON_OPTIONS_INIT;
	options.statistics = MUON_STATISTICS_ORTHOGONALITY | MUON_STATISTICS_REACH;
	muon_coefficients c;
	CU_ASSERT_EQUAL(muon_coefficients_named(&c, "jordan", 5), MUON_OK);
	const double last = muon_coefficients_apply(&c, rest);
	double sum = (last * last - 1) * (last * last - 1);
	for (int i = 0; i < 3; i++)
		sum += (f5[i] * f5[i] - 1) * (f5[i] * f5[i] - 1);
	optim_fixture f;
	fixture_start(&f, 1);
	muon_parameter *p = FIXTURE_ADD(&f, "w", MUON_F32, 2, 4, 6);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	set_diagonals(p, good, good);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0, NULL), MUON_OK);
	UNIT_CLOSE(statistics_of(o, 0).orthogonality_error, sqrt(sum / 4), 1e-5);
	CU_ASSERT_EQUAL(statistics_of(o, 0).below_reach, 0);
	muon_optimizer_destroy(&o);
	/* the worse of two matrices counts for the error; both for the share */
	o = fixture_optimizer(&f, &options);
	set_diagonals(p, good, poor);
	CU_ASSERT_EQUAL(muon_optimizer_step(o, 0, NULL), MUON_OK);
	CU_ASSERT(statistics_of(o, 0).orthogonality_error > 1.05 * sqrt(sum / 4));
	CU_ASSERT_EQUAL(statistics_of(o, 0).below_reach, 2.0 / 8);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

/* The update norm's factor makes the RMS of each block what it is told to be. */
static void test_update_norm(void)
{
	muon_options options = MUON_OPTIONS_INIT;
	options.scale = MUON_SCALE_UPDATE_NORM;
	options.update_rms = 0.37;
	optim_fixture f;
	fill(&f);
	muon_optimizer *o = fixture_optimizer(&f, &options);
	fixture_run(&f, o, 1, 0.01);
	for (size_t k = W; k <= STACK; k++)
		UNIT_CLOSE(statistics_of(o, k).update_rms, 0.37, 1e-12);
	muon_optimizer_destroy(&o);
	fixture_end(&f);
}

UNIT_SUITE(optim_statistics, {"cheap ones", test_cheap_ones}, {"when", test_when},
	   {"slow ones", test_slow_ones}, {"update norm", test_update_norm})
