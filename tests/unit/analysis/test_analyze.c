/* analyze: checkpoints written here, their reports against naive computations and against each
 * other for any number of threads, any limit of memory and any allocation that fails. */
#include "base/memory.h"
#include "base/random.h"
#include "checkpoint/writer.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <muonspec/report.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the checkpoints ------------------------------------------------------------------ */

typedef struct spec {
	const char *name;
	muon_dtype dtype;
	int rank;
	int64_t dims[4];
	double scale;
} spec;

enum { EXPERTS = 40 };

static const spec small[] = {
    {"conv.weight", MUON_F32, 4, {8, 4, 3, 3}, 1},
    {"model.layers.0.input_layernorm.weight", MUON_F32, 1, {40}, 2},
    {"model.layers.0.mlp.gate_proj.weight", MUON_BF16, 2, {48, 40}, 1},
    {"model.layers.0.mlp.experts.w1", MUON_F32, 3, {EXPERTS, 5, 3}, 1},
    {"model.layers.0.post_attention_layernorm.weight", MUON_BF16, 1, {40}, 1},
    {"model.layers.0.self_attn.k_proj.weight", MUON_F32, 2, {24, 40}, 1},
    {"model.layers.0.self_attn.q_proj.weight", MUON_F32, 2, {60, 40}, 1e-3},
    {"optimizer/momentum/square.weight", MUON_F64, 2, {50, 50}, 1},
    {"row.weight", MUON_F32, 2, {1, 70}, 1},
    {"column.weight", MUON_F16, 2, {70, 1}, 1},
    {"square.weight", MUON_F64, 2, {50, 50}, 1e3},
    {"tiny.weight", MUON_F64, 2, {33, 21}, 0x1p-700},
    {"vast.weight", MUON_F64, 2, {33, 21}, 0x1p700},
    {"transformer.h.0.attn.c_attn.weight", MUON_F32, 2, {24, 72}, 1},
    {"transformer.h.0.ln_1.weight", MUON_F32, 1, {24}, 1},
    {"zero.weight", MUON_F32, 2, {6, 5}, 0},
};

/* Reading takes several blocks for the long ones; the giant's Gram matrix takes several strips. */
static const spec large[] = {
    {"giant.weight", MUON_F32, 2, {640, 600}, 1},
    {"high.weight", MUON_F64, 2, {20000, 64}, 1},
    {"medium.weight", MUON_BF16, 2, {200, 300}, 1},
    {"wide.weight", MUON_F64, 2, {64, 20000}, 1},
};

enum { SMALL = sizeof small / sizeof *small, LARGE = sizeof large / sizeof *large };

static size_t elements_of(const spec *s)
{
	size_t count = 1;
	for (int i = 0; i < s->rank; i++)
		count *= (size_t)s->dims[i];
	return count;
}

static uint16_t top_half(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (uint16_t)(bits >> 16);
}

/* A random element of the type at `place`, and its value. */
static double put_element(muon_dtype dtype, double scale, muon_random *random, void *place)
{
	double x = scale * (2 * muon_random_uniform(random) - 1);
	float single = (float)x;
	uint16_t half;
	switch (dtype) {
	case MUON_F64:
		memcpy(place, &x, sizeof x);
		return x;
	case MUON_F32:
		memcpy(place, &single, sizeof single);
		return (double)single;
	case MUON_BF16:
		half = top_half(single); /* cut off: any bf16 will do */
		memcpy(place, &half, sizeof half);
		single = 0;
		memcpy((char *)&single + 2, &half, sizeof half);
		return (double)single;
	default: /* f16 between 1 and 2 */
		half = (uint16_t)(0x3c00 | (muon_random_bits(random) & 0x3ff));
		memcpy(place, &half, sizeof half);
		return 1 + (half & 0x3ff) / 1024.0;
	}
}

/* The tensor's elements, and their values unless NULL; the same at every call. */
static void *make_elements(const spec *s, double *values)
{
	size_t count = elements_of(s), size = muon_dtype_size(s->dtype);
	char *bytes = malloc(count * size);
	muon_random random;
	muon_random_seed(&random, strlen(s->name) + count);
	for (size_t i = 0; i < count; i++) {
		double x = put_element(s->dtype, s->scale, &random, bytes + i * size);
		if (values)
			values[i] = x;
	}
	return bytes;
}

static void write_file(const char *path, const spec *specs, size_t count)
{
	muon_error err = {0};
	mspec_hdf5_writer *writer;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, &err), MUON_OK);
	mspec_hdf5_attribute_number(writer, NULL, "muonspec_format", 1, &err);
	mspec_hdf5_attribute_number(writer, NULL, "step", 30, &err);
	mspec_hdf5_attribute_text(writer, NULL, "optimizer", "muon", &err);
	for (size_t i = 0; i < count; i++) {
		void *bytes = make_elements(&specs[i], NULL);
		mspec_hdf5_dataset(writer, specs[i].name, specs[i].dtype, specs[i].rank,
				   specs[i].dims, &err);
		mspec_hdf5_append(writer, bytes, (int64_t)elements_of(&specs[i]), &err);
		free(bytes);
	}
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_finish(&writer, &err), MUON_OK);
}

/* Both files are written once, by whichever case comes first. */
static mspec_checkpoint *open_made(const char *name, const spec *specs, size_t count)
{
	char path[512];
	snprintf(path, sizeof path, "%s", scratch_path(name));
	if (access(path, F_OK))
		write_file(path, specs, count);
	return scratch_open(path);
}

static mspec_checkpoint *open_small(void)
{
	return open_made("analyze-small.h5", small, SMALL);
}

static mspec_checkpoint *open_large(void)
{
	return open_made("analyze-large.h5", large, LARGE);
}

/* Values of a tensor of `small` or `large`; to be freed. */
static double *values_of(const char *name, const spec **found)
{
	const spec *s = NULL;
	for (size_t i = 0; i < SMALL; i++)
		s = strcmp(small[i].name, name) ? s : &small[i];
	for (size_t i = 0; i < LARGE; i++)
		s = strcmp(large[i].name, name) ? s : &large[i];
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	double *values = malloc(elements_of(s) * sizeof *values);
	free(make_elements(s, values));
	if (found)
		*found = s;
	return values;
}

/* ---- reports -------------------------------------------------------------------------- */

static mspec_analysis *analyze(mspec_checkpoint *checkpoint, const mspec_analyze_options *options)
{
	mspec_analysis *analysis = NULL;
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_analyze(&analysis, checkpoint, options, &err), MUON_OK);
	CU_ASSERT_EQUAL(err.code, MUON_OK);
	CU_ASSERT_PTR_NOT_NULL_FATAL(analysis);
	return analysis;
}

static void refuse(mspec_checkpoint *checkpoint, const mspec_analyze_options *options, int code,
		   const char *where, const char *message)
{
	mspec_analysis *analysis = NULL;
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_analyze(&analysis, checkpoint, options, &err), code);
	CU_ASSERT_PTR_NULL(analysis);
	CU_ASSERT_EQUAL(err.code, code);
	CU_ASSERT_STRING_EQUAL(err.where, where);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, message));
	mspec_analysis_destroy(&analysis);
}

static const mspec_row *row_of(const mspec_analysis *a, const char *name)
{
	for (size_t i = 0; i < a->views.count; i++)
		if (!strcmp(a->rows[i].matrix->name, name))
			return &a->rows[i];
	CU_FAIL_FATAL("no such row");
	return NULL;
}

static double value_of(const mspec_analysis *a, const mspec_row *row, const char *metric)
{
	for (size_t k = 0; k < a->metric_count; k++)
		if (!strcmp(mspec_metric_at(a->metrics[k])->name, metric))
			return row->values[k];
	CU_FAIL_FATAL("no such metric");
	return NAN;
}

static double value(const mspec_analysis *a, const char *matrix, const char *metric)
{
	return value_of(a, row_of(a, matrix), metric);
}

static bool same_notes(const mspec_row *a, const mspec_row *b)
{
	bool same = a->note_count == b->note_count;
	for (size_t i = 0; same && i < a->note_count; i++)
		same = !strcmp(a->notes[i], b->notes[i]);
	return same;
}

static bool same_row(const mspec_row *a, const mspec_row *b, size_t metrics)
{
	const mspec_spectrum *s = &a->spectrum, *t = &b->spectrum;
	bool same = a->code == b->code && !strcmp(a->status, b->status) && same_notes(a, b) &&
		    !memcmp(a->values, b->values, metrics * sizeof *a->values) &&
		    !memcmp(&s->moments, &t->moments, sizeof s->moments) &&
		    !memcmp(&s->sigma_floor, &t->sigma_floor, sizeof(double)) &&
		    !s->sigma == !t->sigma;
	return same &&
	       (!s->sigma || !memcmp(s->sigma, t->sigma, (size_t)s->count * sizeof(double)));
}

/* The same to the last bit. */
static bool same_analysis(const mspec_analysis *a, const mspec_analysis *b)
{
	bool same = a->views.count == b->views.count && a->metric_count == b->metric_count &&
		    a->group_count == b->group_count;
	for (size_t i = 0; same && i < a->views.count; i++) {
		same = same_row(&a->rows[i], &b->rows[i], a->metric_count);
		if (!same)
			printf("\n    %s differs\n", a->rows[i].matrix->name);
	}
	for (size_t g = 0; same && g < a->group_count; g++)
		same = !memcmp(a->groups[g].summaries, b->groups[g].summaries,
			       a->metric_count * sizeof *a->groups[g].summaries);
	return same;
}

/* ---- allocators ----------------------------------------------------------------------- */

/* Counts bytes, or fails from the k-th allocation on, or only at the k-th. */
typedef struct watched {
	pthread_mutex_t lock;
	size_t live, peak;
	long allocations, fail_at; /* 0: never */
	bool fail_once, failed;
} watched;

enum { HEAD = 16 };

static void *watched_resize(void *state, void *block, size_t bytes)
{
	watched *w = state;
	char *head = block ? (char *)block - HEAD : NULL;
	size_t old = 0;
	if (head)
		memcpy(&old, head, sizeof old);
	pthread_mutex_lock(&w->lock);
	w->allocations++;
	bool fails = w->fail_at &&
		     (w->fail_once ? w->allocations == w->fail_at : w->allocations >= w->fail_at);
	w->failed |= fails;
	char *grown = fails ? NULL : realloc(head, bytes + HEAD);
	if (grown) {
		memcpy(grown, &bytes, sizeof bytes);
		w->live += bytes - old;
		w->peak = w->live > w->peak ? w->live : w->peak;
	}
	pthread_mutex_unlock(&w->lock);
	return grown ? grown + HEAD : NULL;
}

static void watched_release(void *state, void *block)
{
	watched *w = state;
	size_t bytes;
	if (!block)
		return;
	memcpy(&bytes, (char *)block - HEAD, sizeof bytes);
	pthread_mutex_lock(&w->lock);
	w->live -= bytes;
	pthread_mutex_unlock(&w->lock);
	free((char *)block - HEAD);
}

static void start_watching(watched *w)
{
	*w = (watched){.fail_at = w->fail_at, .fail_once = w->fail_once};
	pthread_mutex_init(&w->lock, NULL);
	const muon_allocator allocator = {watched_resize, watched_release, w};
	muon_set_allocator(&allocator);
}

/* Everything must have been released. */
static void stop_watching(watched *w)
{
	muon_set_allocator(NULL);
	pthread_mutex_destroy(&w->lock);
	CU_ASSERT_EQUAL(w->live, 0);
}

/* Bytes that an analysis takes at most, above what keeping the checkpoint open takes. */
static size_t peak_of(mspec_checkpoint *(*open)(void), const mspec_analyze_options *options)
{
	watched w = {0};
	mspec_close(&(mspec_checkpoint *){open()}); /* the file is written outside the count */
	start_watching(&w);
	mspec_checkpoint *checkpoint = open();
	size_t before = w.live;
	w.peak = w.live;
	mspec_analysis *analysis = analyze(checkpoint, options);
	mspec_analysis_destroy(&analysis);
	CU_ASSERT_EQUAL(w.live, before);
	mspec_close(&checkpoint);
	stop_watching(&w);
	return w.peak - before;
}

/* ---- cases ---------------------------------------------------------------------------- */

static void check_threads(mspec_checkpoint *checkpoint, int64_t max_memory)
{
	static const int threads[] = {1, 2, 3, 5};
	mspec_analysis *reference = NULL;
	for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
		const mspec_analyze_options options = {
		    .threads = threads[i], .keep_spectra = true, .max_memory = i ? max_memory : 0};
		mspec_analysis *analysis = analyze(checkpoint, &options);
		CU_ASSERT_EQUAL(analysis->threads, threads[i]);
		if (!reference) {
			reference = analysis;
			continue;
		}
		CU_ASSERT_TRUE(same_analysis(analysis, reference));
		mspec_analysis_destroy(&analysis);
	}
	for (size_t i = 0; i < reference->views.count; i++) {
		CU_ASSERT_STRING_EQUAL(reference->rows[i].status, "ok");
		CU_ASSERT_EQUAL(reference->rows[i].matrix, &reference->views.matrices[i]);
	}
	mspec_analysis_destroy(&reference);
}

static void test_threads(void)
{
	mspec_checkpoint *checkpoint = open_small();
	check_threads(checkpoint, 0);
	mspec_close(&checkpoint);
	/* just enough memory for each: they get all threads, as a matrix does that is alone */
	size_t enough = peak_of(open_large, &(mspec_analyze_options){.threads = 1});
	checkpoint = open_large();
	check_threads(checkpoint, (int64_t)enough);
	mspec_close(&checkpoint);
}

/* sum of x^2, of a matrix' part of the tensor's values */
static double naive_sumsq(const double *x, size_t count)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += x[i] * x[i];
	return sum;
}

/* Every block of the long matrices is read, once. */
static void test_long(void)
{
	mspec_checkpoint *checkpoint = open_large();
	mspec_analysis *a = analyze(checkpoint, &(mspec_analyze_options){.threads = 2});
	for (size_t i = 0; i < LARGE; i++) {
		double *x = values_of(large[i].name, NULL), sum = 0, greatest = 0;
		size_t count = elements_of(&large[i]);
		for (size_t k = 0; k < count; k++) {
			sum += x[k];
			greatest = fabs(x[k]) > greatest ? fabs(x[k]) : greatest;
		}
		double frobenius = sqrt(naive_sumsq(x, count));
		const char *name = large[i].name;
		UNIT_CLOSE(value(a, name, "frobenius_norm"), frobenius, 1e-12);
		UNIT_CLOSE(value(a, name, "mean"), sum / (double)count, 1e-9);
		UNIT_CLOSE(value(a, name, "max_abs"), greatest, 0);
		/* of the singular values: the same sum if the Gram matrix got every block */
		UNIT_CLOSE(value(a, name, "stable_rank"),
			   pow(frobenius / value(a, name, "spectral_norm"), 2), 1e-12);
		free(x);
	}
	mspec_analysis_destroy(&a);
	mspec_close(&checkpoint);
}

static void check_methods(mspec_checkpoint *checkpoint, const char *const *exclude, size_t count)
{
	static const char *const metrics[] = {"spectral_norm",       "nuclear_norm",
					      "svd_entropy",         "stable_rank",
					      "effective_rank",      "condition_number",
					      "participation_ratio", "mp_edge_ratio",
					      "numerical_rank",      "rms",
					      "output_rms"};
	mspec_analyze_options options = {.view = {.exclude = exclude, .exclude_count = count},
					 .threads = 2,
					 .keep_spectra = true};
	mspec_analysis *gram = analyze(checkpoint, &options);
	options.svd = MUON_SVD_GESDD;
	mspec_analysis *gesdd = analyze(checkpoint, &options);
	CU_ASSERT_EQUAL_FATAL(gram->views.count, gesdd->views.count);
	for (size_t i = 0; i < gram->views.count; i++) {
		const mspec_row *a = &gram->rows[i], *b = &gesdd->rows[i];
		CU_ASSERT_EQUAL(b->spectrum.method, MUON_SVD_GESDD);
		CU_ASSERT_STRING_EQUAL(b->status, "ok");
		double worst = 0, first = b->spectrum.sigma[0];
		for (int64_t k = 0; k < a->spectrum.count; k++)
			worst = fmax(worst, fabs(a->spectrum.sigma[k] - b->spectrum.sigma[k]));
		CU_ASSERT_TRUE(worst <= 1e-9 * first);
		for (size_t k = 0; first > 0 && k < sizeof metrics / sizeof *metrics; k++) {
			double x = value_of(gram, a, metrics[k]),
			       y = value_of(gesdd, b, metrics[k]);
			CU_ASSERT_EQUAL(isnan(x), isnan(y));
			if (!isnan(y))
				UNIT_CLOSE(x, y, 1e-9);
		}
	}
	mspec_analysis_destroy(&gram);
	mspec_analysis_destroy(&gesdd);
}

static void test_methods(void)
{
	mspec_checkpoint *checkpoint = open_small();
	check_methods(checkpoint, NULL, 0);
	mspec_close(&checkpoint);
	static const char *const giant = "giant*"; /* slow with gesdd */
	checkpoint = open_large();
	check_methods(checkpoint, &giant, 1);
	mspec_close(&checkpoint);
}

/* Squares of these entries leave the range of float64. */
static void test_extreme_scales(void)
{
	mspec_checkpoint *checkpoint = open_small();
	mspec_analysis *a = analyze(checkpoint, &(mspec_analyze_options){.threads = 1});
	double *x = values_of("tiny.weight", NULL);
	for (size_t i = 0; i < 33 * 21; i++)
		x[i] *= 0x1p700;
	double rms = sqrt(naive_sumsq(x, 33 * 21) / (33 * 21));
	UNIT_CLOSE(value(a, "tiny.weight", "frobenius_norm") * 0x1p700, rms * sqrt(33 * 21), 1e-12);
	UNIT_CLOSE(value(a, "vast.weight", "frobenius_norm") * 0x1p-700, rms * sqrt(33 * 21),
		   1e-12);
	CU_ASSERT_EQUAL(value(a, "tiny.weight", "svd_entropy"),
			value(a, "vast.weight", "svd_entropy"));
	CU_ASSERT_EQUAL(value(a, "tiny.weight", "spectral_norm") * 0x1p700 * 0x1p700,
			value(a, "vast.weight", "spectral_norm"));
	free(x);
	mspec_analysis_destroy(&a);
	mspec_close(&checkpoint);
}

/* The same bits; or none, with the reason, where sums of squares leave the range of float64 and
 * only singular values can tell. */
static void compare_entries_value(const mspec_row *one, double expected)
{
	bool extreme = strstr(one->tensor_name, "tiny") || strstr(one->tensor_name, "vast");
	if (extreme && isnan(one->values[0]))
		CU_ASSERT_EQUAL(one->note_count, 1)
	else
		CU_ASSERT_EQUAL(memcmp(one->values, &expected, sizeof expected), 0)
}

static void check_entries_only(mspec_checkpoint *checkpoint)
{
	mspec_analysis *all = analyze(checkpoint, &(mspec_analyze_options){.threads = 2});
	CU_ASSERT_TRUE(all->flops > 0);
	for (size_t k = 0; k < mspec_metric_count(); k++) {
		const mspec_metric *metric = mspec_metric_at(k);
		if (metric->needs & MSPEC_NEEDS_SIGMA)
			continue;
		const mspec_analyze_options options = {
		    .threads = 2, .metrics = &k, .metric_count = 1};
		mspec_analysis *one = analyze(checkpoint, &options);
		CU_ASSERT_EQUAL(one->flops, 0);
		CU_ASSERT_EQUAL(one->metric_count, 1);
		for (size_t i = 0; i < one->views.count; i++) {
			compare_entries_value(&one->rows[i], all->rows[i].values[k]);
			CU_ASSERT_TRUE(isnan(one->rows[i].spectrum.sigma_floor));
		}
		mspec_analysis_destroy(&one);
	}
	mspec_analysis_destroy(&all);
}

/* Without decomposition where no metric asks for it, and the same bits. */
static void test_entries_only(void)
{
	mspec_checkpoint *checkpoint = open_small();
	check_entries_only(checkpoint);
	const size_t rms = mspec_metric_find("rms");
	const mspec_analyze_options options = {
	    .metrics = &rms, .metric_count = 1, .keep_spectra = true};
	mspec_analysis *a = analyze(checkpoint, &options);
	CU_ASSERT_PTR_NOT_NULL(
	    row_of(a, "square.weight")->spectrum.sigma); /* asked for another way */
	mspec_analysis_destroy(&a);
	mspec_close(&checkpoint);
}

/* In the order asked for. */
static void test_chosen_metrics(void)
{
	const size_t chosen[] = {mspec_metric_find("spectral_norm"), mspec_metric_find("rms")};
	mspec_checkpoint *checkpoint = open_small();
	mspec_analysis *a =
	    analyze(checkpoint, &(mspec_analyze_options){.metrics = chosen, .metric_count = 2});
	mspec_analysis *all = analyze(checkpoint, &(mspec_analyze_options){.threads = 1});
	CU_ASSERT_EQUAL(a->metric_count, 2);
	CU_ASSERT_EQUAL(all->metric_count, mspec_metric_count());
	for (size_t i = 0; i < a->views.count; i++) {
		CU_ASSERT_EQUAL(a->rows[i].values[0], all->rows[i].values[chosen[0]]);
		CU_ASSERT_EQUAL(a->rows[i].values[1], all->rows[i].values[chosen[1]]);
		CU_ASSERT_PTR_NULL(a->rows[i].spectrum.sigma);
	}
	mspec_analysis_destroy(&a);
	mspec_analysis_destroy(&all);
	const size_t wrong = mspec_metric_count();
	refuse(checkpoint, &(mspec_analyze_options){.metrics = &wrong, .metric_count = 1},
	       MUON_E_ARGUMENT, "", "invalid argument");
	mspec_close(&checkpoint);
}

/* a.weight, with 2 NaN and 3 Inf, then b.weight, good; as safetensors. */
static const char *nonfinite_file(void)
{
	static const int64_t dims[] = {9, 7};
	static const mspec_declared tensors[] = {{"a.weight", MUON_F32, 2, dims},
						 {"b.weight", MUON_F32, 2, dims}};
	static const char *const none[] = {NULL};
	const char *path = scratch_path("analyze-nonfinite.safetensors");
	mspec_safetensors_writer *writer;
	float x[2][63];
	for (int i = 0; i < 126; i++)
		x[i / 63][i % 63] = sinf((float)i);
	x[0][5] = x[0][60] = NAN;
	x[0][0] = x[0][30] = INFINITY;
	x[0][62] = -INFINITY;
	CU_ASSERT_EQUAL_FATAL(mspec_safetensors_create(&writer, path, tensors, 2, none, NULL),
			      MUON_OK);
	mspec_safetensors_append(writer, x, sizeof x, NULL);
	CU_ASSERT_EQUAL_FATAL(mspec_safetensors_finish(&writer, NULL), MUON_OK);
	return path;
}

static void test_nonfinite(void)
{
	mspec_checkpoint *checkpoint = scratch_open(nonfinite_file());
	for (int svd = MUON_SVD_GRAM; svd <= MUON_SVD_GESDD; svd++) {
		mspec_analyze_options options = {.svd = (muon_svd_method)svd, .keep_spectra = true};
		mspec_analysis *a = analyze(checkpoint, &options);
		const mspec_row *bad = row_of(a, "a.weight"), *good = row_of(a, "b.weight");
		CU_ASSERT_STRING_EQUAL(bad->status, "nonfinite");
		CU_ASSERT_EQUAL(bad->code, MUON_E_NONFINITE);
		CU_ASSERT_EQUAL_FATAL(bad->note_count, 1);
		CU_ASSERT_STRING_EQUAL(bad->notes[0], "2 NaN and 3 Inf among 63 entries");
		CU_ASSERT_PTR_NULL(bad->spectrum.sigma);
		for (size_t k = 0; k < a->metric_count; k++)
			CU_ASSERT_TRUE(isnan(bad->values[k]));
		CU_ASSERT_STRING_EQUAL(good->status, "ok");
		CU_ASSERT_EQUAL_FATAL(a->group_count, 1);
		CU_ASSERT_EQUAL(a->groups[0].count, 2);
		CU_ASSERT_EQUAL(a->groups[0].ok, 1);
		CU_ASSERT_EQUAL(a->groups[0].summaries[0].mean, good->values[0]);
		mspec_analysis_destroy(&a);
		options.strict = true;
		refuse(checkpoint, &options, MUON_E_NONFINITE, "a.weight", "2 NaN and 3 Inf");
	}
	mspec_close(&checkpoint);
}

/* The file loses its end while it is open. */
static void test_unreadable(void)
{
	const char *path = nonfinite_file();
	mspec_checkpoint *checkpoint = scratch_open(path);
	CU_ASSERT_EQUAL_FATAL(truncate(path, 300), 0);
	mspec_analysis *a = analyze(checkpoint, &(mspec_analyze_options){.threads = 2});
	const mspec_row *row = row_of(a, "b.weight");
	CU_ASSERT_STRING_EQUAL(row->status, "unreadable");
	CU_ASSERT_EQUAL(row->code, MUON_E_READ);
	CU_ASSERT_EQUAL(row->note_count, 1);
	CU_ASSERT_TRUE(isnan(row->values[0]));
	mspec_analysis_destroy(&a);
	static const char *const include[] = {"b*"};
	const mspec_analyze_options strict = {.view = {.include = include, .include_count = 1},
					      .strict = true};
	refuse(checkpoint, &strict, MUON_E_READ, "b.weight", "");
	mspec_close(&checkpoint);
}

/* A limit between the needs of the matrices: those beneath it come out as without one. */
static void test_memory_limit(void)
{
	mspec_checkpoint *checkpoint = open_large();
	mspec_analyze_options options = {.threads = 2, .keep_spectra = true};
	mspec_analysis *all = analyze(checkpoint, &options);
	options.max_memory = 4 << 20; /* the giant's Gram matrix is 3 MB, its panel another */
	mspec_analysis *a = analyze(checkpoint, &options);
	const mspec_row *row = row_of(a, "giant.weight");
	CU_ASSERT_STRING_EQUAL(row->status, "too_large");
	CU_ASSERT_EQUAL(row->code, MUON_E_TOO_LARGE);
	CU_ASSERT_EQUAL_FATAL(row->note_count, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(row->notes[0], "--max-memory allows 4.000"));
	CU_ASSERT_TRUE(isnan(row->values[0]));
	CU_ASSERT_PTR_NULL(row->spectrum.sigma);
	CU_ASSERT_TRUE(
	    same_row(row_of(a, "medium.weight"), row_of(all, "medium.weight"), a->metric_count));
	mspec_analysis_destroy(&a);
	mspec_analysis_destroy(&all);
	options.strict = true;
	options.threads = 1;
	refuse(checkpoint, &options, MUON_E_TOO_LARGE, "giant.weight", "needs ");
	mspec_close(&checkpoint);
}

/* Tall matrices that come first by their flops, and square ones that take more memory. */
static mspec_checkpoint *open_mixed(void)
{
	static const spec mixed[] = {
	    {"a.weight", MUON_BF16, 2, {3800, 200}, 1},
	    {"b.weight", MUON_BF16, 2, {3800, 200}, 1},
	    {"c.weight", MUON_F64, 2, {400, 400}, 1},
	    {"d.weight", MUON_F64, 2, {400, 400}, 1},
	};
	return open_made("analyze-mixed.h5", mixed, sizeof mixed / sizeof *mixed);
}

/* Keeps a worker busy for long enough that the others come as far as they can. */
static bool linger(void *state, const mspec_progress *p)
{
	(void)state;
	(void)p;
	nanosleep(&(struct timespec){0, 5000000}, NULL);
	return true;
}

/* What is in flight at once stays under the limit, whatever the order of the work. */
static void test_memory_in_flight(void)
{
	static const char *const one_each[] = {"a.weight", "c.weight"};
	for (int svd = MUON_SVD_GRAM; svd <= MUON_SVD_GESDD; svd++) {
		mspec_analyze_options options = {.threads = 1, .svd = (muon_svd_method)svd};
		options.view.include_count = 1;
		options.view.include = one_each;
		size_t tall = peak_of(open_mixed, &options);
		options.view.include = one_each + 1;
		size_t square = peak_of(open_mixed, &options);
		size_t enough = square > 2 * tall ? square : 2 * tall;
		options = (mspec_analyze_options){.threads = 2,
						  .svd = (muon_svd_method)svd,
						  .max_memory = (int64_t)enough,
						  .progress = linger};
		size_t peak = peak_of(open_mixed, &options);
		CU_ASSERT_TRUE(peak > enough / 2);
		CU_ASSERT_TRUE(peak <= enough + 50000); /* the report itself comes on top */
	}
}

/* sum over the matrix of (x g)^2, x[i][j] with i the output and j the input */
static double naive_output_rms(const double *x, int64_t rows, int64_t cols, int64_t row_step,
			       int64_t col_step, const double *gain)
{
	double sum = 0;
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < cols; j++) {
			double y = x[i * row_step + j * col_step] * (gain ? gain[j] : 1);
			sum += y * y;
		}
	return sqrt(sum / (double)rows);
}

static void check_output_rms(const mspec_analysis *a, const char *tensor, const char *gain_name)
{
	const spec *s;
	double *x = values_of(tensor, &s), *gain = gain_name ? values_of(gain_name, NULL) : NULL;
	double expected = naive_output_rms(x, s->dims[0], s->dims[1], s->dims[1], 1, gain);
	UNIT_CLOSE(value(a, tensor, "output_rms"), expected, 1e-12);
	CU_ASSERT_EQUAL(row_of(a, tensor)->spectrum.has_gain, gain != NULL);
	free(x);
	free(gain);
}

static void test_gain(void)
{
	static const char layer[] = "model.layers.0.input_layernorm.weight";
	mspec_checkpoint *checkpoint = open_small();
	for (int svd = MUON_SVD_GRAM; svd <= MUON_SVD_GESDD; svd++) {
		const mspec_analyze_options options = {.svd = (muon_svd_method)svd};
		mspec_analysis *a = analyze(checkpoint, &options);
		check_output_rms(a, "model.layers.0.self_attn.q_proj.weight", layer);
		check_output_rms(a, "model.layers.0.self_attn.k_proj.weight", layer);
		check_output_rms(a, "model.layers.0.mlp.gate_proj.weight",
				 "model.layers.0.post_attention_layernorm.weight");
		check_output_rms(a, "square.weight", NULL);
		/* GPT-2: [in, 3 out], so that the gain is along the stored rows */
		double *x = values_of("transformer.h.0.attn.c_attn.weight", NULL);
		double *gain = values_of("transformer.h.0.ln_1.weight", NULL);
		UNIT_CLOSE(value(a, "transformer.h.0.attn.c_attn.weight[k]", "output_rms"),
			   naive_output_rms(x + 24, 24, 24, 1, 72, gain), 1e-12);
		free(x);
		free(gain);
		mspec_analysis_destroy(&a);
	}
	mspec_close(&checkpoint);
}

static void check_group(const mspec_analysis *a, const mspec_group_row *group)
{
	size_t count = 0;
	int64_t parameters = 0;
	for (size_t i = 0; i < a->views.count; i++)
		if (!strcmp(a->rows[i].matrix->group, group->group)) {
			count++;
			parameters += a->rows[i].matrix->rows * a->rows[i].matrix->cols;
		}
	CU_ASSERT_EQUAL(group->count, count);
	CU_ASSERT_EQUAL(group->ok, count);
	CU_ASSERT_EQUAL(group->parameters, parameters);
	for (size_t k = 0; k < a->metric_count; k++) {
		double sum = 0, low = INFINITY, high = -INFINITY;
		size_t defined = 0;
		for (size_t i = 0; i < a->views.count; i++) {
			double x = a->rows[i].values[k];
			if (isnan(x) || strcmp(a->rows[i].matrix->group, group->group))
				continue;
			sum += x;
			low = fmin(low, x);
			high = fmax(high, x);
			defined++;
		}
		const mspec_summary *s = &group->summaries[k];
		if (!defined) {
			CU_ASSERT_TRUE(isnan(s->mean) && isnan(s->min) && isnan(s->max));
			continue;
		}
		UNIT_CLOSE(s->mean, sum / (double)defined, 1e-14);
		CU_ASSERT_EQUAL(s->min, low);
		CU_ASSERT_EQUAL(s->max, high);
	}
}

static void test_groups(void)
{
	static const char *const expected[] = {"AttnQO", "AttnKV", "Experts",
					       "Dense",  "Conv",   "Other"};
	mspec_checkpoint *checkpoint = open_small();
	mspec_analysis *a = analyze(checkpoint, &(mspec_analyze_options){.threads = 2});
	CU_ASSERT_EQUAL_FATAL(a->group_count, sizeof expected / sizeof *expected);
	size_t rows = 0;
	for (size_t g = 0; g < a->group_count; g++) {
		CU_ASSERT_STRING_EQUAL(a->groups[g].group, expected[g]);
		check_group(a, &a->groups[g]);
		rows += a->groups[g].count;
	}
	CU_ASSERT_EQUAL(rows, a->views.count);
	mspec_analysis_destroy(&a);
	mspec_close(&checkpoint);
}

/* Every tensor has rows or a reason; the optimizer's only rows when asked for. */
static void test_rows(void)
{
	static const char name[] = "optimizer/momentum/square.weight";
	mspec_checkpoint *checkpoint = open_small();
	mspec_analysis *a = analyze(checkpoint, &(mspec_analyze_options){.threads = 1});
	CU_ASSERT_EQUAL(a->checkpoint, mspec_info(checkpoint));
	/* 3 gains and the optimizer's are left out; the fused qkv is three */
	CU_ASSERT_EQUAL(a->views.skipped_count, 4);
	CU_ASSERT_EQUAL(a->views.count, SMALL - 4 + (EXPERTS - 1) + 2);
	bool skipped = false;
	for (size_t i = 0; i < a->views.skipped_count; i++)
		skipped |=
		    !strcmp(mspec_tensor_at(checkpoint, a->views.skipped[i].tensor)->name, name);
	CU_ASSERT_TRUE(skipped);
	const mspec_row *conv = row_of(a, "conv.weight");
	CU_ASSERT_EQUAL(conv->matrix->rows, 8);
	CU_ASSERT_EQUAL(conv->matrix->cols, 36);
	CU_ASSERT_STRING_EQUAL(row_of(a, "model.layers.0.mlp.experts.w1[2]")->tensor_name,
			       "model.layers.0.mlp.experts.w1");
	const mspec_row *square = row_of(a, "square.weight");
	double expected = square->values[mspec_metric_find("rms")];
	mspec_analysis_destroy(&a);
	const mspec_analyze_options options = {.view = {.include_optimizer = true}};
	a = analyze(checkpoint, &options);
	CU_ASSERT_EQUAL(a->views.skipped_count, 3);
	CU_ASSERT_STRING_EQUAL(row_of(a, name)->status, "ok");
	CU_ASSERT_NOT_EQUAL(value(a, name, "rms"), expected);
	mspec_analysis_destroy(&a);
	mspec_close(&checkpoint);
}

typedef struct seen {
	mspec_progress last;
	bool ordered;
	size_t calls, stop_at;
} seen;

static bool see(void *state, const mspec_progress *p)
{
	seen *s = state;
	s->ordered = s->ordered && p->done >= s->last.done && p->work_done >= s->last.work_done &&
		     p->seconds >= s->last.seconds;
	s->last = *p;
	return ++s->calls != s->stop_at;
}

static void test_progress(void)
{
	mspec_checkpoint *checkpoint = open_small();
	seen s = {.ordered = true};
	const mspec_analyze_options options = {.threads = 2, .progress = see, .progress_state = &s};
	mspec_analysis *a = analyze(checkpoint, &options);
	CU_ASSERT_TRUE(s.ordered);
	CU_ASSERT_EQUAL(s.last.done, a->views.count);
	CU_ASSERT_EQUAL(s.last.count, a->views.count);
	UNIT_CLOSE(s.last.work_done, s.last.work_total, 1e-9);
	UNIT_CLOSE(s.last.work_total, a->flops, 1e-9);
	mspec_analysis_destroy(&a);
	s = (seen){.ordered = true, .stop_at = 3};
	refuse(checkpoint, &options, MUON_E_INTERNAL, "", "interrupted");
	CU_ASSERT_EQUAL(s.calls, 3);
	mspec_close(&checkpoint);
}

/* ---- the file of spectra -------------------------------------------------------------- */

static void check_column(mspec_checkpoint *file, const char *name, const void *expected,
			 size_t bytes)
{
	char path[128];
	snprintf(path, sizeof path, "matrices/%s", name);
	scratch_content(file, path, expected, bytes);
}

static void check_spectra_file(const mspec_analysis *a, const char *path)
{
	mspec_checkpoint *file = scratch_open(path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	size_t count = a->views.count, total = 0;
	double *numbers = malloc(count * sizeof *numbers);
	int64_t *columns[4];
	for (int c = 0; c < 4; c++)
		columns[c] = malloc(count * sizeof *columns[c]);
	for (size_t i = 0; i < count; i++) {
		const mspec_row *row = &a->rows[i];
		columns[0][i] = row->matrix->rows;
		columns[1][i] = row->matrix->cols;
		columns[2][i] = (int64_t)total;
		columns[3][i] = row->spectrum.sigma ? row->spectrum.count : 0;
		total += (size_t)columns[3][i];
	}
	static const char *const names[] = {"rows", "cols", "offset", "count"};
	for (int c = 0; c < 4; c++) {
		check_column(file, names[c], columns[c], count * sizeof *columns[c]);
	}
	for (size_t k = 0; k < a->metric_count; k++) {
		for (size_t i = 0; i < count; i++)
			numbers[i] = a->rows[i].values[k];
		check_column(file, mspec_metric_at(a->metrics[k])->name, numbers,
			     count * sizeof *numbers);
	}
	double *sigma = malloc((total + 1) * sizeof *sigma);
	for (size_t i = 0; i < count; i++)
		if (columns[3][i])
			memcpy(sigma + columns[2][i], a->rows[i].spectrum.sigma,
			       (size_t)columns[3][i] * sizeof *sigma);
	scratch_content(file, "singular_values", sigma, total * sizeof *sigma);
	/* six columns of strings besides */
	CU_ASSERT_EQUAL(mspec_tensor_count(file), 4 + 6 + a->metric_count + 1);
	CU_ASSERT_EQUAL(mspec_info(file)->step, 30);
	for (int c = 0; c < 4; c++)
		free(columns[c]);
	free(numbers);
	free(sigma);
	mspec_close(&file);
}

static void test_spectra_file(void)
{
	mspec_checkpoint *checkpoint = open_small();
	muon_error err = {0};
	for (int64_t limit = 0; limit < 2;
	     limit++) { /* with 1 byte of memory, no spectrum at all */
		const mspec_analyze_options options = {.keep_spectra = true, .max_memory = limit};
		mspec_analysis *a = analyze(checkpoint, &options);
		const char *path = scratch_path("analyze-spectra.h5");
		CU_ASSERT_EQUAL(mspec_write_spectra(a, path, &err), MUON_OK);
		check_spectra_file(a, path);
		CU_ASSERT_EQUAL(mspec_write_spectra(a, "/nowhere/at/all.h5", &err), MUON_E_WRITE);
		err = (muon_error){0};
		mspec_analysis_destroy(&a);
	}
	mspec_close(&checkpoint);
}

/* ---- memory that runs out ------------------------------------------------------------- */

/* An analysis in which allocations fail must say so, or be as it is without. */
static void judge(int code, const mspec_analysis *a, const mspec_analysis *reference)
{
	CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
	CU_ASSERT_EQUAL(a != NULL, code == MUON_OK);
	if (!a)
		return;
	CU_ASSERT_EQUAL_FATAL(a->views.count, reference->views.count);
	for (size_t i = 0; i < a->views.count; i++) {
		const mspec_row *row = &a->rows[i];
		if (row->code) {
			CU_ASSERT_EQUAL(row->code, MUON_E_MEMORY);
			CU_ASSERT_STRING_EQUAL(row->status, "too_large");
			CU_ASSERT_EQUAL(row->note_count, 1);
			CU_ASSERT_TRUE(isnan(row->values[0]));
		} else {
			CU_ASSERT_TRUE(same_row(row, &reference->rows[i], a->metric_count));
		}
	}
}

static void fail_allocations(const mspec_view_options *view, int threads, bool once, bool write)
{
	const mspec_analyze_options options = {
	    .view = *view, .threads = threads, .keep_spectra = true};
	mspec_checkpoint *checkpoint = open_small();
	mspec_analysis *reference = analyze(checkpoint, &options);
	mspec_close(&checkpoint);
	watched w = {.fail_once = once};
	char path[512];
	snprintf(path, sizeof path, "%s", scratch_path("analyze-memory.h5"));
	do {
		w.fail_at++;
		muon_error err = {0};
		mspec_analysis *a = NULL;
		checkpoint = open_small(); /* its memory is not at issue here */
		start_watching(&w);
		int code = mspec_analyze(&a, checkpoint, &options, &err);
		CU_ASSERT_EQUAL(err.code, code);
		judge(code, a, reference);
		if (a && write) {
			code = mspec_write_spectra(a, path, &err);
			CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
			CU_ASSERT_EQUAL(err.code, code);
		}
		mspec_analysis_destroy(&a);
		stop_watching(&w);
		mspec_close(&checkpoint);
	} while (w.failed && w.fail_at < 5000);
	CU_ASSERT_TRUE(w.fail_at > 50); /* the hook is in use */
	CU_ASSERT_FALSE(w.failed);
	mspec_analysis_destroy(&reference);
}

static void test_allocations(void)
{
	static const char *const exclude[] = {"square*", "tiny*", "vast*", "*experts*"};
	const mspec_view_options many_shapes = {.exclude = exclude, .exclude_count = 4};
	fail_allocations(&many_shapes, 1, false, false);
	fail_allocations(&many_shapes, 2, true, true);
	/* with more rows and notes than one piece of the report's memory holds */
	const mspec_view_options many_rows = {.include = exclude + 3, .include_count = 1};
	fail_allocations(&many_rows, 1, true, false);
}

UNIT_SUITE(analyze, {"threads give the same bits", test_threads},
	   {"long matrices, block by block", test_long}, {"gram and gesdd agree", test_methods},
	   {"extreme scales", test_extreme_scales}, {"entry statistics only", test_entries_only},
	   {"chosen metrics", test_chosen_metrics}, {"NaN and Inf", test_nonfinite},
	   {"unreadable", test_unreadable}, {"a limit of memory", test_memory_limit},
	   {"memory in flight", test_memory_in_flight}, {"gains of norms", test_gain},
	   {"group summaries", test_groups}, {"rows and what is left out", test_rows},
	   {"progress", test_progress}, {"the file of spectra", test_spectra_file},
	   {"failing allocations", test_allocations})
