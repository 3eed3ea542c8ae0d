/* Runs made here: what belongs to them, what the store keeps and when it is not trusted, track and
 * compare against naive computations. */
#include "analysis/run_store.h"
#include "base/random.h"
#include "checkpoint/writer.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <muonspec/run.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- checkpoints -------------------------------------------------------------------------- */

enum { ROWS = 24, COLS = 16, WIDE_ROWS = 150, WIDE_COLS = 200, LAYERS = 3 };

static const char square_name[] = "model.layers.0.self_attn.q_proj.weight";
static const char wide_name[] = "model.layers.0.mlp.up_proj.weight";

typedef struct made {
	double step;      /* NaN: not said */
	double scale;     /* of the weights, which differ from step to step */
	int64_t cols;     /* of the first matrix, 0: COLS */
	const char *other; /* name of the first matrix, NULL: square_name */
	double bad;       /* entry 5 of the first matrix, if not 0 */
	double tokens;    /* 0: not said */
} made;

/* Weights at a step: a fixed part that grows, and one of the step's own. */
static float weight(uint64_t matrix, size_t i, double scale, double step)
{
	muon_random fixed, own;
	muon_random_seed(&fixed, matrix * 1000003 + i);
	muon_random_seed(&own, matrix * 1000003 + i + 7919 * (uint64_t)(step + 1));
	return (float)(scale * (muon_random_normal(&fixed) + 0.1 * muon_random_normal(&own)));
}

static void add_matrix(mspec_hdf5_writer *w, const char *name, uint64_t matrix, const made *m,
		       int64_t rows, int64_t cols)
{
	const int64_t dims[] = {rows, cols};
	float *x = malloc((size_t)(rows * cols) * sizeof *x);
	for (size_t i = 0; i < (size_t)(rows * cols); i++)
		x[i] = weight(matrix, i, m->scale, isnan(m->step) ? 0 : m->step);
	if (matrix == 1 && m->bad != 0)
		x[5] = (float)m->bad;
	mspec_hdf5_dataset(w, name, MUON_F32, 2, dims, NULL);
	mspec_hdf5_append(w, x, rows * cols, NULL);
	free(x);
}

static void add_output(mspec_hdf5_writer *w, const char *matrix, const char *what, double value)
{
	const int64_t one = 1;
	char name[256];
	snprintf(name, sizeof name, "activations/matrices/%s/%s", matrix, what);
	mspec_hdf5_dataset(w, name, MUON_F64, 1, &one, NULL);
	mspec_hdf5_append(w, &value, 1, NULL);
}

static const char *put(const char *folder, const char *name, const made *m)
{
	const char *path = scratch_path_in(folder, name);
	const int64_t layers = LAYERS, heads[] = {LAYERS, 2};
	double rms[LAYERS], logits[LAYERS * 2];
	mspec_hdf5_writer *w;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&w, path, NULL), MUON_OK);
	mspec_hdf5_attribute_number(w, NULL, "muonspec_format", 1, NULL);
	if (!isnan(m->step))
		mspec_hdf5_attribute_number(w, NULL, "step", m->step, NULL);
	if (m->tokens > 0)
		mspec_hdf5_attribute_number(w, NULL, "tokens", m->tokens, NULL);
	mspec_hdf5_attribute_text(w, NULL, "optimizer", "muon", NULL);
	add_matrix(w, m->other ? m->other : square_name, 1, m, ROWS, m->cols ? m->cols : COLS);
	add_matrix(w, wide_name, 2, m, WIDE_ROWS, WIDE_COLS);
	for (int l = 0; l < LAYERS; l++) {
		rms[l] = m->scale * (l + 1);
		logits[2 * l] = m->step + l;
		logits[2 * l + 1] = m->step + 10 * l;
	}
	mspec_hdf5_dataset(w, "activations/output_rms", MUON_F64, 1, &layers, NULL);
	mspec_hdf5_append(w, rms, LAYERS, NULL);
	mspec_hdf5_dataset(w, "activations/max_attention_logit", MUON_F64, 2, heads, NULL);
	mspec_hdf5_append(w, logits, LAYERS * 2, NULL);
	/* one is of a matrix, one of nothing that we have */
	add_output(w, square_name, "output_rms", 5 * m->scale);
	add_output(w, square_name, "output_max_abs", 20 * m->scale);
	add_output(w, "model.layers.9.none.weight", "output_rms", 1);
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_finish(&w, NULL), MUON_OK);
	return path;
}

static const double steps[] = {10, 20, 40, 80, 160};
enum { STEPS = sizeof steps / sizeof *steps };

static double scale_at(size_t i)
{
	return 0.02 * sqrt(steps[i]);
}

/* Five checkpoints whose weights grow with the root of the steps. */
static const char *put_run(const char *folder)
{
	char name[32];
	for (size_t i = 0; i < STEPS; i++) {
		snprintf(name, sizeof name, "step-%g.h5", steps[i]);
		put(folder, name, &(made){.step = steps[i], .scale = scale_at(i)});
	}
	return scratch_path_in(folder, "");
}

/* ---- tracking ----------------------------------------------------------------------------- */

static mspec_track *track(const char *path, const mspec_track_options *options)
{
	mspec_track *t = NULL;
	muon_error err = {0};
	int code = mspec_track_run(&t, &path, 1, options, &err);
	CU_ASSERT_EQUAL(code, MUON_OK);
	if (code)
		printf("\n    %s: %s\n", err.where, err.message);
	CU_ASSERT_PTR_NOT_NULL_FATAL(t);
	return t;
}

static mspec_track *track_with(const char *path, const char *store)
{
	return track(path, &(mspec_track_options){.run = {.store = store, .align = 1}});
}

static const mspec_series *series_of(const mspec_track *t, const char *name, const char *metric)
{
	for (size_t i = 0; i < t->series_count; i++)
		if (!strcmp(t->series[i].name, name) && !strcmp(t->series[i].metric, metric))
			return &t->series[i];
	CU_FAIL_FATAL("no such series");
	return NULL;
}

/* The same to the last bit. */
static bool same_results(const mspec_track *a, const mspec_track *b)
{
	bool same = a->series_count == b->series_count && a->run->count == b->run->count &&
		    a->run->set_aside_count == b->run->set_aside_count;
	for (size_t i = 0; same && i < a->series_count; i++) {
		const mspec_series *x = &a->series[i], *y = &b->series[i];
		same = !strcmp(x->name, y->name) && !strcmp(x->metric, y->metric) &&
		       x->count == y->count &&
		       !memcmp(x->values, y->values, x->count * sizeof *x->values) &&
		       !memcmp(x->steps, y->steps, x->count * sizeof *x->steps);
		if (!same)
			printf("\n    %s %s differs\n", x->name, x->metric);
	}
	return same && a->trend_count == b->trend_count;
}

/* Root mean square of the step's entries, and of their difference from another step's. */
static double naive_rms(uint64_t matrix, size_t count, size_t at, size_t before)
{
	double sum = 0;
	for (size_t i = 0; i < count; i++) {
		double x = (double)weight(matrix, i, scale_at(at), steps[at]);
		if (before != SIZE_MAX)
			x -= (double)weight(matrix, i, scale_at(before), steps[before]);
		sum += x * x;
	}
	return sqrt(sum / (double)count);
}

static void test_track(void)
{
	mspec_track *t = track_with(put_run("track"), NULL);
	CU_ASSERT_EQUAL_FATAL(t->run->count, STEPS);
	CU_ASSERT_EQUAL(t->run->computed, STEPS);
	CU_ASSERT_EQUAL(t->run->matrix_count, 2);
	CU_ASSERT_FALSE(t->run->positions);
	const mspec_series *rms = series_of(t, square_name, "rms");
	const mspec_series *delta = series_of(t, wide_name, "delta_rms");
	const mspec_series *relative = series_of(t, wide_name, "relative_change");
	const mspec_series *model = series_of(t, "(model)", "rms");
	CU_ASSERT_EQUAL(rms->count, STEPS);
	CU_ASSERT_EQUAL(delta->count, STEPS - 1);
	CU_ASSERT_STRING_EQUAL(rms->group, "AttnQO");
	CU_ASSERT_PTR_NULL(model->group);
	const size_t small = ROWS * COLS, large = WIDE_ROWS * WIDE_COLS;
	for (size_t i = 0; i < STEPS; i++) {
		double a = naive_rms(1, small, i, SIZE_MAX), b = naive_rms(2, large, i, SIZE_MAX);
		CU_ASSERT_EQUAL(rms->steps[i], steps[i]);
		UNIT_CLOSE(rms->values[i], a, 1e-12);
		UNIT_CLOSE(model->values[i],
			   sqrt((a * a * small + b * b * large) / (small + large)), 1e-12);
		if (!i)
			continue;
		double d = naive_rms(2, large, i, i - 1);
		CU_ASSERT_EQUAL(delta->steps[i - 1], steps[i]);
		UNIT_CLOSE(delta->values[i - 1], d, 1e-6); /* differences are float32 */
		UNIT_CLOSE(relative->values[i - 1], d / naive_rms(2, large, i - 1, SIZE_MAX), 1e-6);
	}
	mspec_track_destroy(&t);
	CU_ASSERT_PTR_NULL(t);
}

/* Estimates of changes stand in for decompositions. */
static void test_changes(void)
{
	const char *run = put_run("changes");
	mspec_track *a = track_with(run, NULL);
	mspec_track *b = track(run, &(mspec_track_options){.run = {.changes = MSPEC_CHANGES_EXACT}});
	CU_ASSERT_TRUE(a->estimated);
	CU_ASSERT_FALSE(b->estimated);
	static const char *const names[] = {square_name, wide_name};
	for (size_t n = 0; n < 2; n++)
		for (size_t i = 0; i < STEPS - 1; i++) {
			double tolerance = n ? 0.05 : 1e-12; /* the small one is decomposed in both */
			UNIT_CLOSE(series_of(a, names[n], "delta_stable_rank")->values[i],
				   series_of(b, names[n], "delta_stable_rank")->values[i], tolerance);
			UNIT_CLOSE(series_of(a, names[n], "delta_svd_entropy")->values[i],
				   series_of(b, names[n], "delta_svd_entropy")->values[i],
				   tolerance / 5);
			UNIT_CLOSE(series_of(a, names[n], "delta_rms")->values[i],
				   series_of(b, names[n], "delta_rms")->values[i], 1e-6);
			/* most of each matrix is the same at every step */
			double aligned = series_of(a, names[n], "align_in")->values[i];
			CU_ASSERT_TRUE(aligned > 0.5 && aligned < 1 + 1e-5);
		}
	mspec_track_destroy(&a);
	a = track(run, &(mspec_track_options){.run = {.changes = MSPEC_CHANGES_NONE}});
	CU_ASSERT_EQUAL(a->metric_count, 5);
	mspec_track_destroy(&a);
	mspec_track_destroy(&b);
}

static void test_recorded(void)
{
	mspec_track *t = track_with(put_run("recorded"), NULL);
	for (size_t i = 0; i < STEPS; i++) {
		UNIT_CLOSE(series_of(t, "layer 2", "recorded_output_rms")->values[i],
			   3 * scale_at(i), 1e-12);
		/* of two heads the larger */
		UNIT_CLOSE(series_of(t, "layer 1", "recorded_max_attention_logit")->values[i],
			   steps[i] + 10, 1e-12);
	}
	mspec_track_destroy(&t);
}

static size_t count_kind(const mspec_track *t, mspec_series_kind kind)
{
	size_t count = 0;
	for (size_t i = 0; i < t->series_count; i++)
		count += t->series[i].kind == kind;
	return count;
}

/* Outputs of matrices, from the files and from the store. */
static void test_recorded_outputs(void)
{
	char run[512], store[512];
	snprintf(run, sizeof run, "%s", put_run("outputs"));
	snprintf(store, sizeof store, "%s", scratch_path_in("kept", "outputs.spectra.h5"));
	for (int call = 0; call < 2; call++) {
		mspec_track *t = track_with(run, store);
		const mspec_series *closed = series_of(t, square_name, "output_rms");
		const mspec_series *ratio = series_of(t, square_name, "recorded_output_rms_ratio");
		CU_ASSERT_EQUAL(t->run->reused, call ? STEPS : 0);
		CU_ASSERT_EQUAL(count_kind(t, MSPEC_SERIES_OUTPUT), 3);
		CU_ASSERT_EQUAL(count_kind(t, MSPEC_SERIES_LAYER), 2 * LAYERS);
		CU_ASSERT_EQUAL_FATAL(ratio->count, STEPS);
		for (size_t i = 0; i < STEPS; i++) {
			double rms = 5 * scale_at(i);
			UNIT_CLOSE(series_of(t, square_name, "recorded_output_rms")->values[i],
				   rms, 1e-12);
			UNIT_CLOSE(series_of(t, square_name, "recorded_output_max_abs")->values[i],
				   4 * rms, 1e-12);
			UNIT_CLOSE(ratio->values[i], rms / closed->values[i], 1e-12);
			CU_ASSERT_EQUAL(ratio->steps[i], steps[i]);
		}
		mspec_track_destroy(&t);
	}
	/* no ratio where the closed form is not among the metrics */
	const size_t metric = mspec_metric_find("rms");
	mspec_track *t = track(run, &(mspec_track_options){.metrics = &metric, .metric_count = 1});
	CU_ASSERT_EQUAL(count_kind(t, MSPEC_SERIES_OUTPUT), 2);
	CU_ASSERT_PTR_NULL(t->spectra);
	mspec_track_destroy(&t);
}

static void test_trend_of_run(void)
{
	const mspec_limit limits[] = {{"rms", 0.5}, {"recorded_output_rms", 0.1}};
	const mspec_track_options options = {.limits = limits, .limit_count = 2};
	mspec_track *t = track(put_run("trend"), &options);
	size_t found = 0;
	for (size_t i = 0; i < t->trend_count; i++) {
		const mspec_trend *trend = &t->trends[i];
		if (!strcmp(trend->series->metric, "rms")) {
			found++;
			CU_ASSERT_TRUE(fabs(trend->exponent - 0.5) < 0.02);
			CU_ASSERT_TRUE(trend->crosses && trend->at > 400 && trend->at < 800);
		}
		if (!strcmp(trend->series->name, "layer 0") &&
		    !strcmp(trend->series->metric, "recorded_output_rms")) {
			found++;
			CU_ASSERT_EQUAL(trend->low, 20);
			CU_ASSERT_EQUAL(trend->at, 40);
		}
	}
	CU_ASSERT_EQUAL(found, 6); /* the model, two groups, two matrices; a layer */
	mspec_track_destroy(&t);
	muon_error err = {0};
	const mspec_limit unknown = {"rsm", 1};
	const char *path = scratch_path_in("trend", "");
	CU_ASSERT_EQUAL(mspec_track_run(&t, &path, 1,
					&(mspec_track_options){.limits = &unknown, .limit_count = 1},
					&err),
			MUON_E_USAGE);
	CU_ASSERT_STRING_EQUAL(err.where, "rsm");
}

/* ---- what belongs to a run ---------------------------------------------------------------- */

static void expect_aside(const mspec_run *run, const char *name, const char *reason)
{
	for (size_t i = 0; i < run->set_aside_count; i++)
		if (strstr(run->set_aside[i].path, name)) {
			bool told = strstr(run->set_aside[i].reason, reason) != NULL;
			CU_ASSERT_TRUE(told);
			if (!told)
				printf("\n    %s: %s\n", name, run->set_aside[i].reason);
			return;
		}
	CU_FAIL("is not set aside");
	printf("\n    %s\n", name);
}

static void test_set_aside(void)
{
	const char *run = put_run("aside");
	put("aside", "other-90.h5", &(made){.step = 90, .scale = 1, .cols = 17});
	put("aside", "named-91.h5", &(made){.step = 91, .scale = 1, .other = "model.x.weight"});
	put("aside", "copy.h5", &(made){.step = 40, .scale = scale_at(2)});
	put("aside", "same-step.h5", &(made){.step = 40, .scale = 1});
	put("aside", "plain.h5", &(made){.step = NAN, .scale = 2});
	scratch_write(scratch_path_in("aside", "broken-95.h5"), "no HDF5", 7);
	mspec_track *t = track_with(run, NULL);
	CU_ASSERT_EQUAL(t->run->count, STEPS);
	CU_ASSERT_EQUAL(t->run->set_aside_count, 6);
	expect_aside(t->run, "other-90.h5", "q_proj.weight is 24x17, not 24x16 (1 matrix differs)");
	expect_aside(t->run, "named-91.h5", "has no model.layers.0.self_attn.q_proj.weight");
	/* listed first in natural order, and with the same step: the later one of the two goes */
	expect_aside(t->run, "step-40.h5", "has the same bytes as copy.h5");
	expect_aside(t->run, "same-step.h5", "says step 40, as copy.h5 does");
	expect_aside(t->run, "plain.h5", "says no step");
	expect_aside(t->run, "broken-95.h5", "is not HDF5");
	mspec_track_destroy(&t);
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_track_run(&t, &run, 1, &(mspec_track_options){.run = {.strict = true}},
					&err),
			MUON_E_FORMAT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.where, "broken-95.h5"));
}

static void test_order(void)
{
	/* no steps anywhere: places; in the attribute and in the name: the attribute */
	put("places", "b.h5", &(made){.step = NAN, .scale = 1});
	put("places", "a.h5", &(made){.step = NAN, .scale = 2});
	mspec_track *t = track_with(scratch_path_in("places", ""), NULL);
	CU_ASSERT_TRUE(t->run->positions);
	CU_ASSERT_EQUAL(t->run->count, 2);
	CU_ASSERT_EQUAL(t->run->checkpoints[1].step, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(t->run->checkpoints[0].path, "a.h5"));
	mspec_track_destroy(&t);
	put("attributes", "s1.h5", &(made){.step = 300, .scale = 1});
	put("attributes", "s2.h5", &(made){.step = 200, .scale = 2});
	put("attributes", "s3.h5", &(made){.step = NAN, .scale = 3});
	t = track_with(scratch_path_in("attributes", ""), NULL);
	CU_ASSERT_EQUAL_FATAL(t->run->count, 3);
	CU_ASSERT_EQUAL(t->run->checkpoints[0].step, 3);
	CU_ASSERT_EQUAL(t->run->checkpoints[2].step, 300);
	mspec_track_destroy(&t);
	/* an expression goes before attributes */
	t = track(scratch_path_in("attributes", ""),
		  &(mspec_track_options){.run = {.step_regex = "s([0-9]+)[.]"}});
	CU_ASSERT_EQUAL(t->run->checkpoints[2].step, 3);
	mspec_track_destroy(&t);
}

static void test_nothing(void)
{
	const char *path = scratch_path_in("nothing", "");
	mspec_track *t;
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_track_run(&t, &path, 1, &(mspec_track_options){.level = 0}, &err),
			MUON_E_FORMAT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "no checkpoints"));
	scratch_write(scratch_path_in("nothing", "x.h5"), "x", 1);
	muon_error_clear(&err);
	CU_ASSERT_EQUAL(mspec_track_run(&t, &path, 1, &(mspec_track_options){.level = 0}, &err),
			MUON_E_FORMAT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "x.h5"));
	static const char *const none = "no such*";
	path = put_run("filtered");
	muon_error_clear(&err);
	const mspec_track_options filtered = {
	    .run = {.view = {.include = &none, .include_count = 1}}};
	CU_ASSERT_EQUAL(mspec_track_run(&t, &path, 1, &filtered, &err), MUON_E_FORMAT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "filters"));
}

static void test_bad_matrix(void)
{
	const char *run = put_run("bad");
	put("bad", "step-50.h5", &(made){.step = 50, .scale = 1, .bad = NAN});
	char store[512];
	snprintf(store, sizeof store, "%s", scratch_path("bad.spectra.h5"));
	mspec_track *fresh = track_with(run, NULL), *first = track_with(run, store);
	mspec_track *again = track_with(run, store);
	CU_ASSERT_STRING_EQUAL(fresh->run->checkpoints[3].status, "partial");
	CU_ASSERT_STRING_EQUAL(fresh->run->checkpoints[2].status, "ok");
	const mspec_series *s = series_of(fresh, square_name, "rms");
	CU_ASSERT_TRUE(isnan(s->values[3]) && !isnan(s->values[4]));
	s = series_of(fresh, square_name, "delta_rms"); /* neither to it nor from it */
	CU_ASSERT_TRUE(isnan(s->values[2]) && isnan(s->values[3]) && !isnan(s->values[1]));
	CU_ASSERT_FALSE(isnan(series_of(fresh, "(model)", "rms")->values[3]));
	CU_ASSERT_TRUE(same_results(fresh, first));
	CU_ASSERT_TRUE(same_results(fresh, again));
	CU_ASSERT_EQUAL(again->run->computed, 0); /* NaN is a result, too */
	CU_ASSERT_STRING_EQUAL(again->run->checkpoints[3].status, "partial");
	mspec_track_destroy(&fresh);
	mspec_track_destroy(&first);
	mspec_track_destroy(&again);
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_track_run(&fresh, &run, 1,
					&(mspec_track_options){.run = {.strict = true}}, &err),
			MUON_E_NONFINITE);
}

/* ---- the store ---------------------------------------------------------------------------- */

static char *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fseek(file, 0, SEEK_END);
	*size = (size_t)ftell(file);
	rewind(file);
	char *bytes = malloc(*size);
	CU_ASSERT_EQUAL(fread(bytes, 1, *size, file), *size);
	fclose(file);
	return bytes;
}

/* Track with the store; so many checkpoints must be computed, and the results be `expected`'s. */
static void expect_work(const char *run, const char *store, size_t computed, const char *problem,
			const mspec_track *expected)
{
	mspec_track *t = track_with(run, store);
	CU_ASSERT_EQUAL(t->run->computed, computed);
	CU_ASSERT_EQUAL(t->run->reused, t->run->count - computed);
	CU_ASSERT_TRUE(same_results(t, expected));
	const char *told = t->run->store_problem;
	CU_ASSERT_EQUAL(told != NULL, problem != NULL);
	if (told && problem)
		CU_ASSERT_PTR_NOT_NULL(strstr(told, problem));
	mspec_track_destroy(&t);
}

static void test_store(void)
{
	const char *run = put_run("stored");
	char store[512], late[512];
	snprintf(store, sizeof store, "%s", scratch_path("stored.spectra.h5"));
	snprintf(late, sizeof late, "%s", scratch_path_in("stored", "step-30.h5"));
	mspec_track *fresh = track_with(run, NULL);
	expect_work(run, store, STEPS, NULL, fresh);
	expect_work(run, store, 0, NULL, fresh);
	mspec_track_destroy(&fresh);
	/* one more in the middle: itself, and the change after it */
	put("stored", "step-30.h5", &(made){.step = 30, .scale = 0.1});
	fresh = track_with(run, NULL);
	expect_work(run, store, 2, NULL, fresh);
	expect_work(run, store, 0, NULL, fresh);
	mspec_track_destroy(&fresh);
	/* other content under the same name is not taken for the old */
	put("stored", "step-30.h5", &(made){.step = 30, .scale = 0.2});
	fresh = track_with(run, NULL);
	expect_work(run, store, 2, NULL, fresh);
	mspec_track_destroy(&fresh);
	/* another name or time is no other content */
	char renamed[512];
	snprintf(renamed, sizeof renamed, "%s", scratch_path_in("stored", "renamed.h5"));
	CU_ASSERT_EQUAL(rename(late, renamed), 0);
	fresh = track_with(run, NULL);
	expect_work(run, store, 0, NULL, fresh);
	mspec_track_destroy(&fresh);
}

static void test_damage(void)
{
	const char *run = put_run("damaged");
	char store[512];
	snprintf(store, sizeof store, "%s", scratch_path("damaged.spectra.h5"));
	mspec_track *fresh = track_with(run, store);
	size_t size;
	char *bytes = read_file(store, &size);
	muon_random random;
	muon_random_seed(&random, 1);
	for (int i = 0; i < 12; i++) { /* one bit anywhere, the seal included */
		size_t at = i < 3 ? (size_t)i * 40 : (size_t)(muon_random_uniform(&random) * (double)size);
		bytes[at] ^= 4;
		scratch_write(store, bytes, size);
		bytes[at] ^= 4;
		expect_work(run, store, STEPS, "damaged", fresh);
		expect_work(run, store, 0, NULL, fresh);
	}
	for (size_t keep = 0; keep < size; keep += 1 + size / 7) {
		scratch_write(store, bytes, keep);
		expect_work(run, store, STEPS, "damaged", fresh);
	}
	/* what is no store is not overwritten */
	const char *file = put("foreign", "model.h5", &(made){.step = 1, .scale = 1});
	muon_error err = {0};
	mspec_track *t;
	CU_ASSERT_EQUAL(mspec_track_run(&t, &run, 1, &(mspec_track_options){.run = {.store = file}},
					&err),
			MUON_E_USAGE);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "no store of muonspec"));
	mspec_close(&(mspec_checkpoint *){scratch_open(file)});
	/* a store that can't be written is named, and that is all */
	expect_work(run, "/proc/none.spectra.h5", STEPS, "cannot be written", fresh);
	free(bytes);
	mspec_track_destroy(&fresh);
}

/* Several processes at once on one run: all get the same, and the store is whole. */
static void test_concurrency(void)
{
	enum { PROCESSES = 4 };
	const char *run = put_run("shared");
	char store[512];
	snprintf(store, sizeof store, "%s", scratch_path("shared.spectra.h5"));
	mspec_track *fresh = track_with(run, NULL);
	pid_t children[PROCESSES];
	fflush(stdout);
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (children[i])
			continue;
		mspec_track *t = NULL;
		int code = mspec_track_run(
		    &t, &run, 1,
		    &(mspec_track_options){.run = {.store = store, .align = 1, .threads = 1}}, NULL);
		_exit(code || t->run->store_problem || !same_results(t, fresh));
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status = -1;
		CU_ASSERT_EQUAL(waitpid(children[i], &status, 0), children[i]);
		CU_ASSERT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
	}
	expect_work(run, store, 0, NULL, fresh);
	mspec_track_destroy(&fresh);
}

/* Two with different checkpoints, the second committed while the first was at work: both results
 * are in the store. */
static void test_merging(void)
{
	const char *run = put_run("merged");
	char store[512];
	snprintf(store, sizeof store, "%s", scratch_path("merged.spectra.h5"));
	/* opened before the other has written, so that it knows nothing of it */
	mspec_store *behind;
	CU_ASSERT_EQUAL_FATAL(mspec_store_open(&behind, store, NULL), MUON_OK);
	mspec_track *fresh = track_with(run, store);
	const mspec_listing *kept;
	const char *name = "new.weight", *group = "Other";
	double side = 3;
	const mspec_listing listing = {"00112233", 1, &name, &group, &side, &side};
	CU_ASSERT_EQUAL(mspec_store_add_listing(behind, &listing, &kept), MUON_OK);
	mspec_store_commit(behind, true);
	CU_ASSERT_PTR_NULL(mspec_store_problem(behind));
	mspec_store_close(&behind);
	expect_work(run, store, 0, NULL, fresh);
	CU_ASSERT_EQUAL_FATAL(mspec_store_open(&behind, store, NULL), MUON_OK);
	const mspec_listing *found = mspec_store_listing(behind, "00112233");
	CU_ASSERT_PTR_NOT_NULL_FATAL(found);
	CU_ASSERT_STRING_EQUAL(found->names[0], name);
	mspec_store_close(&behind);
	mspec_track_destroy(&fresh);
}

/* ---- where the store goes ------------------------------------------------------------------ */

static void test_place(void)
{
	char folder[512], expected[600], cache[512];
	snprintf(folder, sizeof folder, "%s", put_run("place"));
	snprintf(cache, sizeof cache, "%s", scratch_path("cache"));
	mkdir(cache, 0777);
	setenv("XDG_CACHE_HOME", cache, 1);
	char real[4096];
	const char *argument = folder, *why = NULL;
	char *path = mspec_run_default_store(&argument, 1, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(path);
	snprintf(expected, sizeof expected, "%s.spectra.h5", folder);
	CU_ASSERT_STRING_EQUAL(path, expected);
	mspec_run_release_path(path);
	argument = scratch_path_in("place", "step-10.h5");
	path = mspec_run_default_store(&argument, 1, &why);
	snprintf(expected, sizeof expected, "%s/run.spectra.h5", folder);
	CU_ASSERT_STRING_EQUAL(path, expected);
	mspec_run_release_path(path);
	/* where nothing can be written, or nobody may, the cache */
	char locked[512];
	snprintf(locked, sizeof locked, "%s", scratch_path_in("locked", ""));
	argument = scratch_path_in("locked", "run");
	mkdir(argument, 0777);
	chmod(locked, 0555);
	path = mspec_run_default_store(&argument, 1, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(path);
	CU_ASSERT_EQUAL(strncmp(path, cache, strlen(cache)), 0);
	mspec_run_release_path(path);
	chmod(locked, 0777);
	argument = "/proc/self";
	path = mspec_run_default_store(&argument, 1, &why);
	snprintf(real, sizeof real, "%s/muonspec/", cache);
	CU_ASSERT_PTR_NOT_NULL_FATAL(path);
	CU_ASSERT_EQUAL(strncmp(path, real, strlen(real)), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(path, ".spectra.h5"));
	mspec_run_release_path(path);
	setenv("XDG_CACHE_HOME", "/proc/none", 1);
	CU_ASSERT_PTR_NULL(mspec_run_default_store(&argument, 1, &why));
	CU_ASSERT_PTR_NOT_NULL(why);
	unsetenv("XDG_CACHE_HOME");
}

/* ---- memory ------------------------------------------------------------------------------- */

/* The k-th allocation fails and all after it: out of memory, or bad rows and a store that can't be
 * written; never a wrong number. */
static void test_memory(void)
{
	const char *run = put_run("memory");
	char store[512];
	snprintf(store, sizeof store, "%s", scratch_path("memory.spectra.h5"));
	mspec_track *fresh = track_with(run, NULL);
	int left = 0;
	const muon_allocator allocator = unit_failing_allocator(&left);
	bool ended = false;
	for (int k = 1; k < 100000 && !ended; k += 1 + k / 12) {
		muon_error err = {0};
		mspec_track *t = NULL;
		unlink(store);
		left = k;
		muon_set_allocator(&allocator);
		int code = mspec_track_run(
		    &t, &run, 1,
		    &(mspec_track_options){.run = {.store = store, .align = 1, .threads = 1}}, &err);
		ended = left >= 0;
		CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
		CU_ASSERT_EQUAL(err.code, code);
		if (ended)
			CU_ASSERT_TRUE(!code && same_results(t, fresh));
		mspec_track_destroy(&t);
		muon_set_allocator(NULL);
	}
	CU_ASSERT_TRUE(ended);
	mspec_track_destroy(&fresh);
}

/* ---- compare ------------------------------------------------------------------------------ */

static mspec_comparison *compare(const char *a, const char *b, mspec_pairing pairing)
{
	mspec_comparison *c = NULL;
	muon_error err = {0};
	int code = mspec_compare(&c, a, b,
				 &(mspec_compare_options){.pairing = pairing,
							  .labels = {"muon", NULL}},
				 &err);
	CU_ASSERT_EQUAL(code, MUON_OK);
	if (code)
		printf("\n    %s: %s\n", err.where, err.message);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	return c;
}

static void test_compare(void)
{
	char a[512], b[512];
	snprintf(a, sizeof a, "%s", put_run("muon"));
	snprintf(b, sizeof b, "%s", scratch_path_in("adamw", ""));
	/* twice as large at 20 and 40, another matrix, a step that only this one has */
	put("adamw", "step-20.h5", &(made){.step = 20, .scale = 2 * scale_at(1)});
	put("adamw", "step-40.h5", &(made){.step = 40, .scale = 2 * scale_at(2)});
	put("adamw", "step-41.h5", &(made){.step = 41, .scale = 1});
	mspec_comparison *c = compare(a, b, MSPEC_PAIR_STEP);
	CU_ASSERT_STRING_EQUAL(c->labels[0], "muon");
	CU_ASSERT_STRING_EQUAL(c->labels[1], "b");
	CU_ASSERT_EQUAL(c->pair_count, 4);  /* two matrices at two steps */
	CU_ASSERT_EQUAL(c->group_count, 6); /* the model and two groups */
	CU_ASSERT_EQUAL(c->unpaired_count, 4);
	CU_ASSERT_EQUAL(c->step, 40);
	UNIT_CLOSE(c->pairs[0].b[0], 2 * c->pairs[0].a[0], 1e-6);
	CU_ASSERT_STRING_EQUAL(c->metrics[0], "rms");
	const mspec_finding *rms = &c->findings[0], *entropy = &c->findings[2];
	CU_ASSERT_EQUAL(rms->count, 2);
	CU_ASSERT_EQUAL(rms->share_higher_b, 1);
	CU_ASSERT_EQUAL(rms->share_higher_a, 0);
	UNIT_CLOSE(rms->sign_test_p, 0.5, 1e-12);
	UNIT_CLOSE(rms->median_difference,
		   -(c->pairs[2].a[0] + c->pairs[3].a[0]) / 2, 1e-6);
	CU_ASSERT_TRUE(rms->low <= rms->median_difference && rms->median_difference <= rms->high);
	CU_ASSERT_STRING_EQUAL(entropy->metric, "svd_entropy");
	CU_ASSERT_TRUE(fabs(entropy->median_difference) < 1e-6); /* of scaling, none */
	/* spectra of the last step only, which scaling leaves as they are */
	CU_ASSERT_PTR_NULL(c->pairs[0].spectrum_a);
	CU_ASSERT_PTR_NULL(c->groups[4].spectrum_a);
	for (int i = 2; i < 4; i++) {
		const double *x = c->pairs[i].spectrum_a, *y = c->pairs[i].spectrum_b;
		CU_ASSERT_EQUAL_FATAL(x && y, true);
		CU_ASSERT_EQUAL(x[0], 1);
		for (int k = 0; k < MSPEC_SPECTRUM_PLACES; k++) {
			UNIT_CLOSE(x[k], y[k], 1e-5);
			CU_ASSERT_TRUE(x[k] > 0 && (!k || x[k] < x[k - 1]));
		}
	}
	mspec_comparison_destroy(&c);
	/* the same run: ties, and nothing to find */
	c = compare(a, a, MSPEC_PAIR_STEP);
	CU_ASSERT_EQUAL(c->findings[0].ties, 1);
	CU_ASSERT_EQUAL(c->findings[0].sign_test_p, 1);
	CU_ASSERT_EQUAL(c->unpaired_count, 0);
	mspec_comparison_destroy(&c);
}

static void test_pairing(void)
{
	char a[512], b[512];
	snprintf(a, sizeof a, "%s", put("one", "x.h5", &(made){.step = 5, .scale = 1}));
	snprintf(b, sizeof b, "%s",
		 put("two", "y.h5", &(made){.step = 9, .scale = 1, .cols = COLS + 1}));
	mspec_comparison *c = compare(a, b, MSPEC_PAIR_STEP); /* single files, whatever their steps */
	CU_ASSERT_EQUAL(c->pair_count, 1);
	CU_ASSERT_STRING_EQUAL(c->pairs[0].name, wide_name);
	CU_ASSERT_EQUAL(c->unpaired_count, 2); /* of another shape, on both sides */
	mspec_comparison_destroy(&c);
	for (int i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof name, "s%d.h5", i + 1);
		put("three", name, &(made){.step = i + 1, .scale = 1, .tokens = 1000 * (i + 1)});
		put("four", name, &(made){.step = 10 * (i + 1), .scale = 2, .tokens = 990 * (i + 1)});
	}
	snprintf(a, sizeof a, "%s", scratch_path_in("three", ""));
	snprintf(b, sizeof b, "%s", scratch_path_in("four", ""));
	c = compare(a, b, MSPEC_PAIR_TOKENS);
	CU_ASSERT_EQUAL(c->pair_count, 6);
	mspec_comparison_destroy(&c);
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_compare(&c, a, b, &(mspec_compare_options){.level = 0}, &err),
			MUON_E_FORMAT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "same step"));
}

/* ---- real runs ---------------------------------------------------------------------------- */

static void test_fer2013(void)
{
	static const double expected[] = {0.1396, 0.1437, 0.1511, 0.1642, 0.1985,
					  0.2474, 0.2779, 0.3155, 0.3158};
	static const double epochs[] = {0, 2, 5, 10, 25, 51, 70, 102, 110};
	const char *path = scratch_shared("series-fer2013");
	if (!path)
		return;
	mspec_track *t = track_with(path, NULL);
	CU_ASSERT_EQUAL_FATAL(t->run->count, 9);
	CU_ASSERT_EQUAL(t->run->set_aside_count, 0);
	const mspec_series *rms = series_of(t, "(model)", "rms");
	for (size_t i = 0; i < 9; i++) {
		CU_ASSERT_EQUAL(rms->steps[i], epochs[i]);
		CU_ASSERT_TRUE(fabs(rms->values[i] - expected[i]) < 0.00005001);
	}
	mspec_track_destroy(&t);
}

static void test_other_series(void)
{
	const char *path = scratch_shared("series-lstm-aiw");
	if (!path)
		return;
	mspec_track *t = track_with(path, NULL);
	CU_ASSERT_EQUAL(t->run->count, 3);
	expect_aside(t->run, "AiW-40.h5", "is 512x42, not 512x45");
	mspec_track_destroy(&t);
	path = scratch_shared("safetensors/mlx-lora");
	t = track_with(path, NULL);
	CU_ASSERT_EQUAL(t->run->count, 2);
	CU_ASSERT_EQUAL(t->run->matrix_count, 16);
	CU_ASSERT_EQUAL(t->run->checkpoints[1].step, 200);
	expect_aside(t->run, "lora/adapters.safetensors",
		     "has the same bytes as 0000200_adapters.safetensors");
	mspec_track_destroy(&t);
}

UNIT_SUITE(run, {"track", test_track}, {"changes", test_changes},
	   {"recorded activations", test_recorded},
	   {"recorded outputs of matrices", test_recorded_outputs}, {"trends and limits", test_trend_of_run},
	   {"set aside", test_set_aside}, {"order", test_order}, {"nothing to track", test_nothing},
	   {"a bad matrix", test_bad_matrix}, {"the store", test_store},
	   {"a damaged store", test_damage}, {"several processes", test_concurrency},
	   {"merging", test_merging}, {"where the store goes", test_place},
	   {"failing allocations", test_memory}, {"compare", test_compare},
	   {"what pairs", test_pairing}, {"series-fer2013", test_fer2013},
	   {"other series", test_other_series})
