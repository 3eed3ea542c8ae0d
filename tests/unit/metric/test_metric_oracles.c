/* Published and independently computed values: entropies and ranks of simple spectra, and the
 * Gaussian baseline. */
#include "unit/metric/spectra.h"
#include "unit/unit.h"

#include <math.h>
#include <stdlib.h>

static double flat(int i) { return i < 8; }
static double single(int i) { return i == 0; }
static double pair(int i) { return i < 2; }
static double four_three(int i) { return 4 - i; }
static double halving(int i) { return ldexp(1, -i); }
static double zipf(int i) { return 1 / (i + 1.0); }
static double slow(int i) { return pow(0.99, i); }

/* To the digits given, of which the last may be cut rather than rounded. */
static void test_spectra(void)
{
	static const struct {
		double (*sigma)(int i);
		int n;
		double entropy, effective_rank, perplexity, stable_rank;
	} oracles[] = {
		{flat, 8, 1, 8, 8, 8},
		{single, 8, 0, 1, 1, 1},
		{pair, 8, 1.0 / 3, 2, 2, 2},
		{four_three, 2, .942683189, 1.979626330, 1.922099724, 1.5625},
		{halving, 8, .360479336, 3.898666875, 2.116144299, 1.333312988},
		{zipf, 8, .561582132, 6.146285629, 3.214838795, 1.527422052},
		{zipf, 1000, .235690345, 179.650093, 5.094141849, 1.643934567},
		{slow, 1000, .710363735, 270.338900, 135.235654, 50.251256188},
	};
	for (size_t i = 0; i < sizeof oracles / sizeof *oracles; i++) {
		int n = oracles[i].n;
		double *sigma = malloc((size_t)n * sizeof *sigma);
		for (int k = 0; k < n; k++)
			sigma[k] = oracles[i].sigma(k);
		test_spectrum t = spectrum_of_sigma(n, n, sigma);
		double entropy = metric_of("svd_entropy", &t.spectrum).value;
		CU_ASSERT_DOUBLE_EQUAL(entropy, oracles[i].entropy, 1e-9);
		CU_ASSERT_DOUBLE_EQUAL(metric_of("effective_rank", &t.spectrum).value,
		                       oracles[i].effective_rank, n < 1000 ? 1e-9 : 1e-6);
		CU_ASSERT_DOUBLE_EQUAL(exp(entropy * log(n)), oracles[i].perplexity,
		                       oracles[i].sigma == slow ? 1e-6 : 1e-9);
		CU_ASSERT_DOUBLE_EQUAL(metric_of("stable_rank", &t.spectrum).value,
		                       oracles[i].stable_rank, 1e-9);
		free(sigma);
	}
}

/* Moonlight's matrices, to the five digits of the table. */
static void test_baseline_table(void)
{
	static const struct {
		int rows, cols;
		double entropy;
	} shapes[] = {{3072, 2048, .95628}, {576, 2048, .97788}, {4096, 512, .98998},
	              {2048, 2048, .93442}, {11264, 2048, .98808}, {1408, 2048, .95259},
	              {2816, 2048, .95231}, {64, 2048, .99624}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		double entropy = mspec_gaussian_entropy(shapes[i].rows, shapes[i].cols);
		CU_ASSERT_DOUBLE_EQUAL(entropy, shapes[i].entropy, 0.5001e-5);
		CU_ASSERT_EQUAL(entropy, mspec_gaussian_entropy(shapes[i].cols, shapes[i].rows));
	}
	CU_ASSERT(isnan(mspec_gaussian_entropy(1, 5)));
	CU_ASSERT(isnan(mspec_gaussian_entropy(5, 1)));
	CU_ASSERT(isnan(mspec_gaussian_entropy(0, 0)));
}

/* Random matrices are where the formulas say: entropy excess 0, stable rank mn/(sqrt m + sqrt n)^2,
 * s_1 at the Marchenko-Pastur edge, or slightly below it. */
static void test_gaussian_draws(void)
{
	static const int shapes[][2] = {{256, 256}, {96, 384}, {400, 150}, {160, 224}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		int rows = shapes[i][0], cols = shapes[i][1];
		double *a = gaussian_matrix(rows, cols, 200 + i);
		test_spectrum t = spectrum_of(rows, cols, a, NULL);
		double edge = sqrt(rows) + sqrt(cols);
		CU_ASSERT_DOUBLE_EQUAL(metric_of("svd_entropy_excess", &t.spectrum).value, 0, 4e-3);
		UNIT_CLOSE(metric_of("stable_rank", &t.spectrum).value, rows * cols / (edge * edge),
		           0.08);
		UNIT_CLOSE(metric_of("mp_edge_ratio", &t.spectrum).value, 0.985, 0.025);
		CU_ASSERT(metric_of("mp_spikes", &t.spectrum).value <= 1);
		CU_ASSERT_DOUBLE_EQUAL(metric_of("excess_kurtosis", &t.spectrum).value, 0, 0.1);
		/* a planted direction is seen */
		for (int k = 0; k < rows * cols; k++)
			a[k] += (k / cols % 2 ? 3 : -3) * edge / sqrt(rows * cols);
		test_spectrum spiked = spectrum_of(rows, cols, a, NULL);
		CU_ASSERT_EQUAL(metric_of("mp_spikes", &spiked.spectrum).value, 1);
		CU_ASSERT(metric_of("mp_edge_ratio", &spiked.spectrum).value > 2);
		spectrum_release(&spiked);
		spectrum_release(&t);
		free(a);
	}
}

UNIT_SUITE(metric_oracles, {"simple spectra", test_spectra},
           {"Gaussian baseline of Moonlight's shapes", test_baseline_table},
           {"Gaussian matrices", test_gaussian_draws})
