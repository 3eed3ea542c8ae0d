/* risk: each kind's value, verdict and reason on checkpoints that are built for it, and the
 * equilibrium on a simulated random walk. */
#include "base/memory.h"
#include "base/random.h"
#include "checkpoint/writer.h"
#include "unit/analysis/model_file.h"
#include "unit/checkpoint/scratch.h"

#include <muonspec/risk.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- checkpoints and reports --------------------------------------------------------------- */

enum { ROWS = 40, COLS = 50, ENTRIES = ROWS * COLS };

/* One matrix "a.weight", and a second "b.weight" unless NULL. */
typedef struct pair_file {
	const double *a, *b;
	double step, lr, weight_decay; /* NaN: not stated */
} pair_file;

static void write_matrix(mspec_hdf5_writer *writer, const char *name, const double *w)
{
	const int64_t dims[] = {ROWS, COLS};
	CU_ASSERT_EQUAL(mspec_hdf5_dataset(writer, name, MUON_F64, 2, dims, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_hdf5_append(writer, w, ENTRIES, NULL), MUON_OK);
}

static mspec_checkpoint *write_pair(const char *name, const pair_file *file)
{
	const char *path = scratch_path(name);
	mspec_hdf5_writer *writer;
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_create(&writer, path, NULL), MUON_OK);
	mspec_hdf5_attribute_number(writer, NULL, "muonspec_format", 1, NULL);
	if (!isnan(file->step))
		mspec_hdf5_attribute_number(writer, NULL, "step", file->step, NULL);
	if (!isnan(file->lr))
		mspec_hdf5_attribute_number(writer, NULL, "lr", file->lr, NULL);
	if (!isnan(file->weight_decay))
		mspec_hdf5_attribute_number(writer, NULL, "weight_decay", file->weight_decay, NULL);
	write_matrix(writer, "a.weight", file->a);
	if (file->b)
		write_matrix(writer, "b.weight", file->b);
	CU_ASSERT_EQUAL_FATAL(mspec_hdf5_finish(&writer, NULL), MUON_OK);
	return scratch_open(path);
}

static mspec_risk_options plain_options(void)
{
	mspec_risk_options options = {.lr = NAN, .weight_decay = NAN, .update_rms = NAN};
	for (int k = 0; k < MSPEC_RISK_KINDS; k++)
		options.limits[k] = (mspec_risk_limits){NAN, NAN};
	return options;
}

/* `options` NULL: plain ones. */
static mspec_risk_report *judge(mspec_checkpoint *checkpoint, mspec_checkpoint *earlier,
                                const mspec_risk_options *options)
{
	const mspec_risk_options plain = plain_options();
	mspec_risk_report *report = NULL;
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(
	    mspec_risk_judge(&report, checkpoint, earlier, options ? options : &plain, &err),
	    MUON_OK);
	return report;
}

static const mspec_risk *find(const mspec_risk_report *r, mspec_risk_kind kind, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->risks[i].kind == kind && !strcmp(r->risks[i].name, name))
			return &r->risks[i];
	return NULL;
}

/* The finding must be there with this verdict and `text` in its reason. */
static double check(const mspec_risk_report *r, mspec_risk_kind kind, const char *name,
                    mspec_verdict verdict, const char *text)
{
	const mspec_risk *risk = find(r, kind, name);
	CU_ASSERT_PTR_NOT_NULL_FATAL(risk);
	bool right = risk->verdict == verdict && strstr(risk->reason, text);
	CU_ASSERT_TRUE(right);
	if (!right)
		printf("\n    %s %s: %s: %s\n", mspec_risk_kind_name(kind), name,
		       mspec_verdict_name(risk->verdict), risk->reason);
	return risk->value;
}

static bool is_unjudged(const mspec_risk_report *r, mspec_risk_kind kind, const char *text)
{
	for (size_t i = 0; i < r->unjudged_count; i++)
		if (r->unjudged[i].kind == kind && strstr(r->unjudged[i].reason, text))
			return true;
	return false;
}

static void fill(double *w, double value)
{
	for (int i = 0; i < ENTRIES; i++)
		w[i] = i % 2 ? value : -value;
}

/* ---- range --------------------------------------------------------------------------------- */

/* One entry of this size among small ones. */
static void check_range(double largest, double value, mspec_verdict verdict, const char *text)
{
	double w[ENTRIES];
	fill(w, 1e-3);
	w[77] = -largest;
	mspec_checkpoint *c = write_pair("risk-range.h5", &(pair_file){w, NULL, NAN, NAN, NAN});
	mspec_risk_report *r = judge(c, NULL, NULL);
	UNIT_CLOSE(check(r, MSPEC_RISK_RANGE, "a.weight", verdict, text), value, 1e-12);
	mspec_risk_destroy(&r);
	mspec_close(&c);
}

static void test_range(void)
{
	check_range(0x1.fep0, 127, MSPEC_VERDICT_OK, "15.0 below fp16's");
	check_range(0x1.fep17, 110, MSPEC_VERDICT_OK, "2.0 above fp16's");
	check_range(0x1.fep112, 15, MSPEC_VERDICT_WATCH, "15.0 powers of two below bf16's");
	check_range(0x1.fep124, 3, MSPEC_VERDICT_RISK, "3.0 powers of two below");
	check_range(0x1.fep130, -3, MSPEC_VERDICT_RISK, "3.0 powers of two above bf16's");
}

static void test_not_finite(void)
{
	double a[ENTRIES], b[ENTRIES] = {0};
	fill(a, 1);
	a[3] = NAN;
	a[4] = a[5] = INFINITY;
	mspec_checkpoint *c = write_pair("risk-nan.h5", &(pair_file){a, b, NAN, 1e-3, 0.1});
	mspec_risk_report *r = judge(c, NULL, NULL);
	CU_ASSERT_TRUE(isnan(check(r, MSPEC_RISK_RANGE, "a.weight", MSPEC_VERDICT_RISK,
	                           "1 entries of 2000 are NaN and 2 Inf")));
	CU_ASSERT_TRUE(
	    isnan(check(r, MSPEC_RISK_RANGE, "b.weight", MSPEC_VERDICT_OK, "every weight is 0")));
	CU_ASSERT_PTR_NULL(find(r, MSPEC_RISK_GROWTH, "a.weight"));
	CU_ASSERT_EQUAL(r->verdict, MSPEC_VERDICT_RISK);
	CU_ASSERT_EQUAL(r->binades.zeros, 1);
	mspec_risk_destroy(&r);

	mspec_risk_options strict = plain_options();
	muon_error err = {0};
	strict.strict = true;
	CU_ASSERT_EQUAL(mspec_risk_judge(&r, c, NULL, &strict, &err), MUON_E_NONFINITE);
	CU_ASSERT_STRING_EQUAL(err.where, "a.weight");
	CU_ASSERT_PTR_NULL(r);
	mspec_close(&c);
}

/* ---- precision and lost updates -------------------------------------------------------------- */

/* At RMS 1.5 half a step is 2^-8; increments are lr * update RMS. */
static void test_precision(void)
{
	double w[ENTRIES];
	fill(w, 1.5);
	mspec_checkpoint *c = write_pair("risk-precision.h5", &(pair_file){w, NULL, NAN, NAN, NAN});
	mspec_risk_options options = plain_options();
	const struct {
		double lr, update_rms;
		mspec_verdict verdict;
	} cases[] = {{0x1p-4, 0.5, MSPEC_VERDICT_OK},     /* 2^-3 of the increment */
	             {0x1p-4, 0.25, MSPEC_VERDICT_WATCH}, /* at the limit of 1/4 */
	             {0x1p-6, 0.25, MSPEC_VERDICT_RISK},
	             {0x1p-7, NAN, MSPEC_VERDICT_RISK}};
	for (int i = 0; i < 4; i++) {
		options.lr = cases[i].lr;
		options.update_rms = cases[i].update_rms;
		double rms = isnan(cases[i].update_rms) ? 0.2 : cases[i].update_rms;
		mspec_risk_report *r = judge(c, NULL, &options);
		UNIT_CLOSE(check(r, MSPEC_RISK_PRECISION, "a.weight", cases[i].verdict,
		                 "half a bf16 step is 0.0039 at the RMS 1.5"),
		           0x1p-8 / (cases[i].lr * rms), 1e-12);
		CU_ASSERT_EQUAL(r->update_rms, rms);
		mspec_risk_destroy(&r);
	}
	mspec_close(&c);
}

/* A third of the entries move by 0.4 of a step, the rest by a whole one. */
static void test_lost_updates(void)
{
	double before[ENTRIES], after[ENTRIES];
	fill(before, 1.25);
	for (int i = 0; i < ENTRIES; i++)
		after[i] = before[i] + (i < ENTRIES / 4 ? 0.4 : 1) * 0x1p-7;
	mspec_checkpoint *first =
	    write_pair("risk-first.h5", &(pair_file){before, before, 10, NAN, NAN});
	mspec_checkpoint *second =
	    write_pair("risk-second.h5", &(pair_file){after, NULL, 20, NAN, NAN});
	mspec_risk_report *r = judge(second, first, NULL);
	CU_ASSERT_EQUAL(check(r, MSPEC_RISK_LOST_UPDATES, "a.weight", MSPEC_VERDICT_WATCH,
	                      "500 of 2000 entries changed by less than half a bf16 step"),
	                0.25);
	CU_ASSERT_EQUAL(r->checkpoint->step, 20);
	CU_ASSERT_EQUAL(r->earlier->step, 10);
	mspec_risk_destroy(&r);

	r = judge(first, second, NULL); /* b is new */
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_LOST_UPDATES, "1 of 2 matrices are not in"));
	mspec_risk_destroy(&r);
	r = judge(first, first, NULL);
	CU_ASSERT_EQUAL(check(r, MSPEC_RISK_LOST_UPDATES, "a.weight", MSPEC_VERDICT_RISK,
	                      "2000 of them not at all"),
	                1);
	mspec_risk_destroy(&r);
	r = judge(first, NULL, NULL);
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_LOST_UPDATES, "--lr"));
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_PRECISION, "--lr"));
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_GROWTH, "--weight-decay"));
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_ATTENTION_LOGITS, "what model it is"));
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_RANGE, "no recorded activations"));
	mspec_risk_destroy(&r);
	mspec_close(&first);
	mspec_close(&second);
}

/* From the learning rate alone: against updates that are drawn, added in bf16 and lost. */
static void test_predicted_losses(void)
{
	double w[ENTRIES];
	muon_random random;
	int lost = 0, all = 0;
	muon_random_seed(&random, 12);
	for (int i = 0; i < ENTRIES; i++)
		w[i] = muon_round_bf16(0.05 * muon_random_normal(&random));
	for (int k = 0; k < 50; k++)
		for (int i = 0; i < ENTRIES; i++, all++) {
			/* decay is far under half a step: alone, it would all be lost */
			double update = 1e-3 * (0.2 * muon_random_normal(&random) + 0.1 * w[i]);
			lost += muon_round_bf16(w[i] - update) == w[i];
		}
	mspec_checkpoint *c =
	    write_pair("risk-predicted.h5", &(pair_file){w, NULL, NAN, 1e-3, 0.1});
	mspec_risk_report *r = judge(c, NULL, NULL);
	double share = check(r, MSPEC_RISK_LOST_UPDATES, "a.weight", MSPEC_VERDICT_WATCH,
	                     "would lose a step of RMS 0.0002");
	/* rounding towards the smaller binade at its edge is finer: some in a hundred entries */
	CU_ASSERT_TRUE(fabs(share - (double)lost / all) < 0.01);
	mspec_risk_destroy(&r);
	mspec_close(&c);
}

/* ---- growth -------------------------------------------------------------------------------- */

/* W <- (1 - lr decay) W - lr u with independent u, as many steps as it takes to settle. */
static void test_equilibrium(void)
{
	const double lr = 0.02, decay = 1.5, update_rms = 0.2;
	static double w[4096];
	enum { WIDTH = sizeof w / sizeof *w, SETTLE = 250, MEAN = 60 };
	muon_random random;
	double sumsq = 0;
	muon_random_seed(&random, 3);
	for (int i = 0; i < WIDTH; i++)
		w[i] = 0;
	for (int step = 0; step < SETTLE + MEAN; step++)
		for (int i = 0; i < WIDTH; i++) {
			w[i] =
			    (1 - lr * decay) * w[i] - lr * update_rms * muon_random_normal(&random);
			sumsq += step < SETTLE ? 0 : w[i] * w[i];
		}
	double rms = sqrt(sumsq / ((double)WIDTH * MEAN));
	/* the spread of the mean: MEAN steps are some two independent ones of 4096 entries */
	UNIT_CLOSE(rms, mspec_equilibrium_rms(lr, decay, update_rms), 0.02);
	/* the exact fixed point, and the formula of the usual setting for small lr decay */
	double fixed = mspec_equilibrium_rms(lr, decay, update_rms);
	UNIT_CLOSE(pow((1 - lr * decay) * fixed, 2) + pow(lr * update_rms, 2), fixed * fixed,
	           1e-12);
	UNIT_CLOSE(mspec_equilibrium_rms(4.2e-4, 0.1, 0.2), 0.2 * sqrt(4.2e-4 / 0.2), 1e-4);
	UNIT_CLOSE(mspec_equilibrium_rms(4.2e-4, 0.1, 0.2), 9.2e-3, 0.005);
}

/* Checkpoints with RMS `before` (NaN: none) and `now`, in units of the equilibrium. */
static void check_growth(double before, double now, double decay, mspec_verdict verdict,
                         const char *text)
{
	double w[ENTRIES], unit = decay > 0 ? mspec_equilibrium_rms(1e-2, decay, 0.2) : 0.01;
	mspec_checkpoint *first = NULL;
	if (!isnan(before)) {
		fill(w, before * unit);
		first = write_pair("risk-before.h5", &(pair_file){w, NULL, 1, 1e-2, decay});
	}
	fill(w, now * unit);
	mspec_checkpoint *second = write_pair("risk-now.h5", &(pair_file){w, NULL, 2, 1e-2, decay});
	mspec_risk_report *r = judge(second, first, NULL);
	double value = check(r, MSPEC_RISK_GROWTH, "a.weight", verdict, text);
	if (decay > 0)
		UNIT_CLOSE(value, now, 1e-9);
	else
		CU_ASSERT_TRUE(isnan(value));
	mspec_risk_destroy(&r);
	mspec_close(&first);
	mspec_close(&second);
}

static void test_growth(void)
{
	check_growth(NAN, 1.2, 0.1, MSPEC_VERDICT_OK, "1.2 times");
	check_growth(NAN, 2, 0.1, MSPEC_VERDICT_WATCH, "2 times");
	check_growth(NAN, 9, 0.1, MSPEC_VERDICT_WATCH, "9 times"); /* it may be coming down */
	check_growth(8.5, 9, 0.1, MSPEC_VERDICT_RISK, "decay does not hold it yet");
	check_growth(1.9, 2, 0.1, MSPEC_VERDICT_WATCH, "decay does not hold it yet");
	check_growth(9.5, 9, 0.1, MSPEC_VERDICT_OK, "decay holds it");
	/* a step of decay takes a thousandth: growth by less than a tenth of that is level */
	check_growth(9 / (1 + 0.9e-4), 9, 0.1, MSPEC_VERDICT_OK, "decay holds it");
	check_growth(9 / (1 + 1.1e-4), 9, 0.1, MSPEC_VERDICT_RISK, "decay does not hold it yet");
	check_growth(NAN, 1, 0, MSPEC_VERDICT_WATCH, "no weight decay");
	check_growth(1, 1.1, 0, MSPEC_VERDICT_RISK, "no weight decay");
	check_growth(1.1, 1, 0, MSPEC_VERDICT_WATCH, "no weight decay");
}

/* ---- layers -------------------------------------------------------------------------------- */

static void test_recorded(void)
{
	const mspec_model_config config = fixture_llama();
	const double rms[] = {4, 4.001}, largest[] = {3e4, 1e36}, logits[] = {49.5, 101};
	float *parameters = model_file_parameters(&config, 2);
	model_file file = MODEL_FILE(&config, parameters);
	file.output_rms = rms;
	file.output_max_abs = largest;
	file.max_attention_logit = logits;
	const char *path = scratch_path("risk-recorded.h5");
	model_file_write(path, &file);
	mspec_checkpoint *c = scratch_open(path);
	mspec_risk_report *r = judge(c, NULL, NULL);
	check(r, MSPEC_RISK_RANGE, "layers.0", MSPEC_VERDICT_OK, "the largest output, 3e+04");
	check(r, MSPEC_RISK_RANGE, "layers.1", MSPEC_VERDICT_WATCH, "the largest output, 1e+36");
	/* 4.001^2 - 4^2 = 0.008: 0.0894 is added where half a step is 1/64 */
	UNIT_CLOSE(check(r, MSPEC_RISK_PRECISION, "layers.1", MSPEC_VERDICT_OK, "adds 0.089"),
	           0x1p-6 / sqrt(0.008001), 1e-6);
	CU_ASSERT_EQUAL(check(r, MSPEC_RISK_ATTENTION_LOGITS, "layers.0.self_attn",
	                      MSPEC_VERDICT_OK, "the weights of head"),
	                49.5);
	CU_ASSERT_EQUAL(check(r, MSPEC_RISK_ATTENTION_LOGITS, "layers.1.self_attn",
	                      MSPEC_VERDICT_RISK, "the largest logit recorded is 101"),
	                101);
	CU_ASSERT_EQUAL(r->attention_count, 2);
	CU_ASSERT_EQUAL(r->heads, config.heads);
	CU_ASSERT_TRUE(r->attention[1].head_bounds && r->attention[1].recorded == 101);
	mspec_risk_destroy(&r);
	mspec_close(&c);
	muon_free(parameters);
}

/* Measured activations take the place of recorded ones. */
static void test_measured(void)
{
	const mspec_model_config config = fixture_llama();
	const double never[] = {1e30, 1e30};
	float *parameters = model_file_parameters(&config, 2);
	model_file file = MODEL_FILE(&config, parameters);
	file.output_rms = file.output_max_abs = file.max_attention_logit = never;
	int32_t tokens[50];
	for (int i = 0; i < 50; i++)
		tokens[i] = i * 7 % 37;
	const char *path = scratch_path("risk-measured.h5");
	model_file_write(path, &file);
	mspec_checkpoint *c = scratch_open(path);
	mspec_model *model;
	float *loaded;
	mspec_forward *f;
	CU_ASSERT_EQUAL_FATAL(mspec_model_load(&model, &loaded, c, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(mspec_forward_run_model(&f, model, loaded, tokens, 50,
	                                              &(mspec_forward_options){0}, NULL),
	                      MUON_OK);
	mspec_risk_options options = plain_options();
	options.measured = f;
	mspec_risk_report *r = judge(c, NULL, &options);
	const mspec_forward_layer *layer = &f->runs[0].layers[1];
	CU_ASSERT_EQUAL(check(r, MSPEC_RISK_ATTENTION_LOGITS, "layers.1.self_attn",
	                      MSPEC_VERDICT_OK, "the largest logit measured is"),
	                layer->max_attention_logit);
	UNIT_CLOSE(check(r, MSPEC_RISK_RANGE, "layers.1", MSPEC_VERDICT_OK, "the largest output"),
	           log2(0x1.fep127 / layer->output_max_abs), 1e-12);
	double added = INFINITY; /* of the two blocks the one that adds less */
	for (int64_t i = 0; i < f->matrices; i++)
		if (!strcmp(f->runs[0].matrices[i].name,
		            "model.layers.1.self_attn.o_proj.weight") ||
		    !strcmp(f->runs[0].matrices[i].name, "model.layers.1.mlp.down_proj.weight"))
			added = fmin(added, f->runs[0].matrices[i].output_rms);
	double value = find(r, MSPEC_RISK_PRECISION, "layers.1")->value;
	double half = exp2(floor(log2(layer->output_rms)) - 8);
	UNIT_CLOSE(value, half / added, 1e-12);
	mspec_risk_destroy(&r);
	mspec_forward_destroy(&f);
	mspec_parameters_destroy(&loaded);
	mspec_model_destroy(&model);
	mspec_close(&c);
	muon_free(parameters);
}

/* A bound is no measurement: it is watched at worst. */
static void test_bounds(void)
{
	const mspec_model_config config = fixture_llama();
	float *parameters = model_file_parameters(&config, 2);
	model_file file = MODEL_FILE(&config, parameters);
	const char *path = scratch_path("risk-bounds.h5");
	float *q = model_file_tensor(&config, parameters, "model.layers.1.self_attn.q_proj.weight");
	for (int64_t i = 0; i < config.heads * config.head_dim * config.hidden; i++)
		q[i] *= i / (config.head_dim * config.hidden) == 2 ? 1000 : 1;
	model_file_tensor(&config, parameters, "model.layers.0.input_layernorm.weight")[2] =
	    INFINITY;
	model_file_write(path, &file);
	mspec_checkpoint *c = scratch_open(path);
	mspec_risk_report *r = judge(c, NULL, NULL);
	double bound = check(r, MSPEC_RISK_ATTENTION_LOGITS, "layers.1.self_attn",
	                     MSPEC_VERDICT_WATCH, "the weights of head 2 allow");
	CU_ASSERT_TRUE(bound > 1000);
	CU_ASSERT_EQUAL(bound, r->attention[1].head_bounds[2]);
	CU_ASSERT_PTR_NULL(find(r, MSPEC_RISK_ATTENTION_LOGITS, "layers.0.self_attn"));
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_ATTENTION_LOGITS,
	                           "model.layers.0.input_layernorm.weight: holds NaN or Inf"));
	mspec_risk_destroy(&r);
	mspec_close(&c);
	muon_free(parameters);
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void test_limits(void)
{
	double w[ENTRIES];
	fill(w, 1);
	mspec_checkpoint *c = write_pair("risk-limits.h5", &(pair_file){w, NULL, NAN, NAN, NAN});
	mspec_risk_options options = plain_options();
	options.limits[MSPEC_RISK_RANGE] = (mspec_risk_limits){200, 100};
	mspec_risk_report *r = judge(c, NULL, &options);
	check(r, MSPEC_RISK_RANGE, "a.weight", MSPEC_VERDICT_WATCH, "");
	CU_ASSERT_EQUAL(find(r, MSPEC_RISK_RANGE, "a.weight")->threshold, 200);
	CU_ASSERT_EQUAL(r->verdict, MSPEC_VERDICT_WATCH);
	mspec_risk_destroy(&r);
	options.limits[MSPEC_RISK_RANGE] = (mspec_risk_limits){300, 200};
	r = judge(c, NULL, &options);
	check(r, MSPEC_RISK_RANGE, "a.weight", MSPEC_VERDICT_RISK, "");
	CU_ASSERT_EQUAL(find(r, MSPEC_RISK_RANGE, "a.weight")->threshold, 200);
	mspec_risk_destroy(&r);
	r = judge(c, NULL, NULL);
	CU_ASSERT_EQUAL(find(r, MSPEC_RISK_RANGE, "a.weight")->threshold, 16);
	CU_ASSERT_EQUAL(r->verdict, MSPEC_VERDICT_OK);
	mspec_risk_destroy(&r);
	mspec_close(&c);
}

static void test_binades(void)
{
	double w[ENTRIES];
	for (int i = 0; i < ENTRIES; i++)
		w[i] = i % 4 ? ldexp(1.5, -(i % 4)) : 0;
	mspec_checkpoint *c = write_pair("risk-binades.h5", &(pair_file){w, w, NAN, NAN, NAN});
	mspec_risk_report *r = judge(c, NULL, NULL);
	CU_ASSERT_EQUAL(r->binades.first, -3);
	CU_ASSERT_EQUAL(r->binades.count, 3);
	for (size_t i = 0; i < r->binades.count; i++)
		CU_ASSERT_EQUAL(r->binades.share[i], 0.25);
	CU_ASSERT_EQUAL(r->binades.zeros, 0.25);
	mspec_risk_destroy(&r);

	static const char *const none[] = {"c*"};
	mspec_risk_options options = plain_options();
	options.view = (mspec_view_options){.include = none, .include_count = 1};
	r = judge(c, NULL, &options);
	CU_ASSERT_EQUAL(r->binades.count, 0);
	CU_ASSERT_TRUE(isnan(r->binades.zeros));
	CU_ASSERT_TRUE(is_unjudged(r, MSPEC_RISK_RANGE, "no matrices"));
	mspec_risk_destroy(&r);
	mspec_close(&c);
}

static bool same_report(const mspec_risk_report *a, const mspec_risk_report *b)
{
	bool same = a->count == b->count && a->unjudged_count == b->unjudged_count &&
	            a->binades.count == b->binades.count && a->verdict == b->verdict;
	for (size_t i = 0; same && i < a->count; i++)
		same = !memcmp(&a->risks[i].value, &b->risks[i].value, sizeof(double)) &&
		       !strcmp(a->risks[i].name, b->risks[i].name) &&
		       !strcmp(a->risks[i].reason, b->risks[i].reason);
	return same;
}

static void test_threads(void)
{
	const mspec_model_config config = fixture_deepseek();
	float *parameters = model_file_parameters(&config, 2);
	model_file file = MODEL_FILE(&config, parameters);
	file.lr = 1e-3;
	file.weight_decay = 0.1;
	const char *path = scratch_path("risk-threads.h5");
	model_file_write(path, &file);
	mspec_checkpoint *c = scratch_open(path);
	mspec_risk_options options = plain_options();
	options.threads = 1;
	mspec_risk_report *one = judge(c, c, &options);
	options.threads = 4;
	mspec_risk_report *four = judge(c, c, &options);
	CU_ASSERT_EQUAL(four->threads, 4);
	CU_ASSERT_TRUE(one->count > 20 && same_report(one, four));
	mspec_risk_destroy(&one);
	mspec_risk_destroy(&four);
	mspec_close(&c);
	muon_free(parameters);
}

static void test_exhausted_memory(void)
{
	const mspec_model_config config = fixture_llama();
	const double record[] = {1, 2};
	float *parameters = model_file_parameters(&config, 2);
	model_file file = MODEL_FILE(&config, parameters);
	file.output_rms = file.output_max_abs = file.max_attention_logit = record;
	file.lr = 1e-3;
	const char *path = scratch_path("risk-memory.h5");
	model_file_write(path, &file);
	mspec_checkpoint *c = scratch_open(path);
	mspec_risk_options options = plain_options();
	options.threads = 1;
	int left;
	const muon_allocator allocator = unit_failing_allocator(&left);
	int code = MUON_E_MEMORY;
	for (long k = 0; k < 5000 && code; k++) {
		mspec_risk_report *r;
		muon_error err = {0};
		left = k;
		muon_set_allocator(&allocator);
		code = mspec_risk_judge(&r, c, c, &options, &err);
		mspec_risk_destroy(&r);
		muon_set_allocator(NULL);
		CU_ASSERT_TRUE(code == MUON_OK || code == MUON_E_MEMORY);
		CU_ASSERT_EQUAL(err.code, code);
	}
	CU_ASSERT_EQUAL(code, MUON_OK);
	mspec_close(&c);
	muon_free(parameters);
}

UNIT_SUITE(risk, {"range", test_range}, {"not_finite", test_not_finite},
           {"precision", test_precision}, {"lost_updates", test_lost_updates},
           {"predicted_losses", test_predicted_losses}, {"equilibrium", test_equilibrium},
           {"growth", test_growth}, {"recorded", test_recorded}, {"measured", test_measured},
           {"bounds", test_bounds}, {"limits", test_limits}, {"binades", test_binades},
           {"threads", test_threads}, {"exhausted_memory", test_exhausted_memory})
