/* A program outside the tree, on libmuonspec: the SVD entropy of a matrix. */
#include <math.h>
#include <muonspec/metric.h>
#include <stdio.h>

int main(void)
{
	const double sigma[] = {4, 3}, entries[] = {4, 0, 0, 3};
	mspec_spectrum spectrum = {
	    .rows = 2, .cols = 2, .dtype = MUON_F64, .sigma = sigma, .count = 2};
	muon_moments_add(&spectrum.moments, entries, 4);
	const mspec_metric *entropy = mspec_metric_at(mspec_metric_find("svd_entropy"));
	const mspec_metric_input input = {&spectrum, NULL};
	const double value = entropy->value(&input).value;
	printf("%s = %.9f\n", entropy->name, value);
	return fabs(value - 0.942683189) < 1e-9 ? 0 : 1;
}
