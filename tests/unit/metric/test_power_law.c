#include "base/random.h"
#include "unit/metric/spectra.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The scan as the definition has it: each distinct value as xmin, each point of each tail. */
static mspec_power_law naive_fit(const double *sigma, int64_t count)
{
	mspec_power_law best = {.ks = INFINITY};
	double sum = 0;
	for (int64_t tail = 1; tail <= count; tail++) {
		double last = 2 * log(sigma[tail - 1] / sigma[0]), distance = 0;
		sum += last;
		double excess = sum / (double)tail - last;
		if (tail < 50 || (tail < count && sigma[tail] == sigma[tail - 1]) || !(excess > 0))
			continue;
		double rate = 1 / excess, step = 1 / (double)tail;
		for (int64_t i = 0; i < tail; i++) {
			double model = exp(-rate * (2 * log(sigma[i] / sigma[0]) - last));
			distance = fmax(distance, fmax((double)(i + 1) * step - model,
			                               model - (double)i * step));
		}
		if (distance <= best.ks) {
			best.alpha = 1 + rate;
			best.xmin = sigma[tail - 1] * sigma[tail - 1];
			best.ks = distance;
			best.tail = tail;
		}
	}
	return best;
}

static mspec_power_law fit_of(const double *sigma, int64_t count)
{
	double *workspace = malloc((size_t)count * sizeof *workspace);
	test_spectrum spectrum = spectrum_of_sigma(count, count, sigma);
	mspec_power_law fit;
	mspec_fit_power_law(&spectrum.spectrum, workspace, &fit);
	free(workspace);
	CU_ASSERT_EQUAL(fit.good, !fit.reason);
	return fit;
}

/* `tail` singular values with squares of density ~ lambda^-alpha from 1 on, `body` below. */
static double *sample(int64_t tail, int64_t body, double alpha, uint64_t seed)
{
	double *sigma = malloc((size_t)(tail + body) * sizeof *sigma);
	muon_random random;
	muon_random_seed(&random, seed);
	for (int64_t i = 0; i < tail + body; i++) {
		double u = 1 - muon_random_uniform(&random);
		sigma[i] = i < tail ? pow(u, -0.5 / (alpha - 1)) : pow(u, 0.35);
	}
	qsort(sigma, (size_t)(tail + body), sizeof *sigma, descending);
	return sigma;
}

static void check_naive(const double *sigma, int64_t count)
{
	mspec_power_law fit = fit_of(sigma, count), naive = naive_fit(sigma, count);
	CU_ASSERT_EQUAL(fit.tail, naive.tail);
	CU_ASSERT_EQUAL(fit.alpha, naive.alpha);
	CU_ASSERT_EQUAL(fit.xmin, naive.xmin);
	CU_ASSERT_EQUAL(fit.ks, naive.ks);
}

/* The scan skips most of the work; its result must be the same to the last bit. */
static void test_same_as_naive(void)
{
	for (uint64_t seed = 1; seed <= 12; seed++) {
		int64_t tail = 50 + 20 * (int64_t)seed, body = seed % 3 ? 150 : 0;
		double *sigma = sample(tail, body, 1.5 + (double)(seed % 4), seed);
		check_naive(sigma, tail + body);
		free(sigma);
	}
	double *a = gaussian_matrix(100, 140, 7);
	test_spectrum gaussian = spectrum_of(100, 140, a, NULL);
	check_naive(gaussian.sigma, 100);
	spectrum_release(&gaussian);
	free(a);
	/* ties, as in stacked copies of a matrix */
	double *ties = sample(100, 100, 2.5, 99);
	for (int i = 0; i < 200; i++)
		ties[i] = ties[i / 4 * 4];
	check_naive(ties, 200);
	free(ties);
}

/* True power laws, alone and over a body, are accepted with the right exponent. */
static void test_recovers(void)
{
	static const struct {
		int64_t tail, body;
		double alpha;
	} laws[] = {{300, 0, 2}, {300, 0, 3}, {300, 0, 4}, {100, 400, 2},
	            {200, 600, 3}, {200, 600, 4}, {600, 0, 1.5}};
	enum { LAWS = sizeof laws / sizeof *laws, DRAWS = 12 };
	int accepted = 0, within = 0;
	for (int i = 0; i < LAWS; i++)
		for (int draw = 0; draw < DRAWS; draw++) {
			double *sigma = sample(laws[i].tail, laws[i].body, laws[i].alpha, 1000u * i + draw);
			mspec_power_law fit = fit_of(sigma, laws[i].tail + laws[i].body);
			accepted += fit.good;
			within += fabs(fit.alpha - laws[i].alpha) <= 3 * fit.sigma;
			free(sigma);
		}
	CU_ASSERT(accepted >= 0.93 * LAWS * DRAWS);
	CU_ASSERT(within >= 0.93 * LAWS * DRAWS);
}

/* A Marchenko-Pastur spectrum is no power law: no exponent for fresh Gaussian matrices. */
static void test_gaussian_refused(void)
{
	static const int shapes[][2] = {{192, 192}, {64, 512}, {512, 128}, {55, 200}, {128, 128},
	                                {100, 300}, {64, 64}, {256, 96}, {160, 240}, {80, 80},
	                                {50, 400}, {224, 224}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		double *a = gaussian_matrix(shapes[i][0], shapes[i][1], 40 + i);
		test_spectrum t = spectrum_of(shapes[i][0], shapes[i][1], a, NULL);
		mspec_metric_value alpha = metric_of("alpha", &t.spectrum);
		CU_ASSERT(isnan(alpha.value));
		CU_ASSERT(alpha.note && !strncmp(alpha.note, "no power law", 12));
		CU_ASSERT(isnan(metric_of("alpha_sigma", &t.spectrum).value));
		/* the best fit found is still described */
		CU_ASSERT(metric_of("alpha_tail", &t.spectrum).value >= 50);
		CU_ASSERT(metric_of("alpha_ks", &t.spectrum).value > 0.05);
		CU_ASSERT(metric_of("alpha_xmin", &t.spectrum).value > 0);
		spectrum_release(&t);
		free(a);
	}
}

/* Independent entries with Pareto tails do have power-law spectra, with alpha around 1 + mu/2. */
static void test_heavy_tails_accepted(void)
{
	enum { N = 256, DRAWS = 6 };
	int accepted = 0;
	for (int draw = 0; draw < DRAWS; draw++) {
		muon_random random;
		muon_random_seed(&random, 70 + (uint64_t)draw);
		double *a = malloc(N * N * sizeof *a), mu = draw % 2 ? 2 : 1.5;
		for (int i = 0; i < N * N; i++) {
			double sign = muon_random_bits(&random) >> 63 ? 1 : -1;
			a[i] = sign * pow(1 - muon_random_uniform(&random), -1 / mu);
		}
		test_spectrum t = spectrum_of(N, N, a, NULL);
		mspec_metric_value alpha = metric_of("alpha", &t.spectrum);
		accepted += alpha.value > 1.5 && alpha.value < 3.5;
		spectrum_release(&t);
		free(a);
	}
	CU_ASSERT(accepted >= DRAWS - 1);
}

/* Spectra that other shapes describe. */
static void test_other_shapes_refused(void)
{
	enum { N = 1000 };
	double *sigma = malloc(N * sizeof *sigma);
	for (int i = 0; i < N; i++)
		sigma[i] = pow(0.99, i); /* geometric: ln lambda is uniform */
	CU_ASSERT(!fit_of(sigma, N).good);
	for (int i = 0; i < N; i++)
		sigma[i] = 2 - i / (double)N; /* linear */
	CU_ASSERT(!fit_of(sigma, N).good);
	muon_random random;
	muon_random_seed(&random, 5);
	for (int i = 0; i < N; i++)
		sigma[i] = 1 + 1e-8 * muon_random_normal(&random); /* an orthogonal matrix, rounded */
	qsort(sigma, N, sizeof *sigma, descending);
	CU_ASSERT(!fit_of(sigma, N).good);
	for (int i = 0; i < N; i++)
		sigma[i] = 1 / sqrt(i + 1.0); /* lambda = 1/i: alpha = 2, as good as it gets */
	mspec_power_law fit = fit_of(sigma, N);
	CU_ASSERT(fit.good);
	UNIT_CLOSE(fit.alpha, 2, 0.01);
	free(sigma);
}

/* Each condition decides somewhere: two clusters as one law (KS), and a tail that ends, too
 * close to the law for KS to tell (variation). */
static void test_conditions(void)
{
	enum { N = 80 };
	double sigma[N];
	for (int i = 0; i < N; i++)
		sigma[i] = i < N / 3 ? 10 - i * 1e-3 : 1 - i * 1e-3;
	mspec_power_law fit = fit_of(sigma, N);
	CU_ASSERT(fit.reason && strstr(fit.reason, "KS distance"));
	for (int i = 0; i < N; i++) /* density of ln lambda falls linearly to 0 */
		sigma[i] = exp((1 - sqrt((i + 0.5) / N)) / 2);
	fit = fit_of(sigma, N);
	CU_ASSERT(fit.reason && strstr(fit.reason, "ends sooner"));
}

/* xmin takes all eigenvalues that are equal to it, even if fewer would fit better. */
static void test_ties(void)
{
	enum { N = 60, COPIES = 30 };
	double sigma[N + COPIES];
	for (int i = 0; i < N + COPIES; i++)
		sigma[i] = i < N ? sqrt(N / (i + 1.0)) : 1;
	mspec_power_law fit = fit_of(sigma, N);
	CU_ASSERT_EQUAL(fit.tail, N);
	fit = fit_of(sigma, N + COPIES);
	CU_ASSERT(fit.tail == N + COPIES || fit.tail < N);
}

static void check_none(const mspec_power_law *fit)
{
	CU_ASSERT(isnan(fit->alpha) && isnan(fit->xmin) && isnan(fit->ks) && isnan(fit->sigma));
	CU_ASSERT(fit->tail == 0 && !fit->good && fit->reason);
}

static void test_too_little(void)
{
	double *sigma = sample(60, 0, 2, 1), workspace[60];
	mspec_power_law fit = fit_of(sigma, 49);
	check_none(&fit);
	CU_ASSERT_PTR_NOT_NULL_FATAL(fit.reason);
	CU_ASSERT_STRING_EQUAL(fit.reason, "fewer than 50 eigenvalues above the noise");
	fit = fit_of(sigma, 50);
	CU_ASSERT(fit.tail == 50);

	/* values below the floor are no eigenvalues */
	test_spectrum t = spectrum_of_sigma(60, 60, sigma);
	t.spectrum.sigma_floor = sigma[55];
	mspec_fit_power_law(&t.spectrum, workspace, &fit);
	CU_ASSERT(fit.tail >= 50 && fit.tail <= 55);
	t.spectrum.sigma_floor = sigma[40];
	mspec_fit_power_law(&t.spectrum, workspace, &fit);
	check_none(&fit);

	t.spectrum.sigma = NULL;
	mspec_fit_power_law(&t.spectrum, workspace, &fit);
	check_none(&fit);
	for (int i = 0; i < 60; i++)
		sigma[i] = 3;
	fit = fit_of(sigma, 60);
	check_none(&fit);
	for (int i = 0; i < 60; i++)
		sigma[i] = 0;
	fit = fit_of(sigma, 60);
	check_none(&fit);
	free(sigma);
}

/* Squares of float64 weights may leave the range; the fit itself does not square. */
static void test_extreme_scales(void)
{
	double *sigma = sample(200, 0, 2.5, 8);
	mspec_power_law fit = fit_of(sigma, 200);
	for (int i = 0; i < 200; i++)
		sigma[i] = ldexp(sigma[i], 600);
	mspec_power_law large = fit_of(sigma, 200);
	UNIT_CLOSE(large.alpha, fit.alpha, 1e-12);
	UNIT_CLOSE(large.ks, fit.ks, 1e-12);
	test_spectrum t = spectrum_of_sigma(200, 200, sigma);
	mspec_metric_value xmin = metric_of("alpha_xmin", &t.spectrum);
	CU_ASSERT(isnan(xmin.value) && xmin.note);
	free(sigma);
}

UNIT_SUITE(power_law, {"same bits as the naive scan", test_same_as_naive},
           {"recovers true exponents", test_recovers},
           {"Gaussian matrices have none", test_gaussian_refused},
           {"heavy-tailed matrices have one", test_heavy_tails_accepted},
           {"other shapes have none", test_other_shapes_refused},
           {"each condition decides", test_conditions}, {"ties", test_ties},
           {"too few values", test_too_little}, {"extreme scales", test_extreme_scales})
