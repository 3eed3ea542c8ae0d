/* A training's checkpoint: what is saved comes back, and nothing is lost when that fails. */
#include "base/random.h"
#include "unit/checkpoint/scratch.h"
#include "unit/unit.h"

#include <math.h>
#include <muonspec/training.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 12, COLUMNS = 20, VECTOR = 20, RECORDS = 3 };

/* A model of a matrix and a vector, in training. */
typedef struct example {
	float matrix[ROWS * COLUMNS], vector[VECTOR];
	float matrix_gradient[ROWS * COLUMNS], vector_gradient[VECTOR];
	double records[RECORDS];
	muon_optimizer *optimizer;
	mspec_training_tensor tensors[3];
	mspec_training_number numbers[3];
	mspec_training_text texts[2];
	mspec_training training;
} example;

static void draw_gradients(example *e, uint64_t seed)
{
	muon_random random;
	muon_random_seed(&random, seed);
	for (int i = 0; i < ROWS * COLUMNS; i++)
		e->matrix_gradient[i] = (float)muon_random_normal(&random);
	for (int i = 0; i < VECTOR; i++)
		e->vector_gradient[i] = (float)muon_random_normal(&random);
}

static int train(example *e, int from, int to)
{
	int code = MUON_OK;
	for (int step = from; step < to && !code; step++) {
		draw_gradients(e, (uint64_t)step);
		code = muon_optimizer_step(e->optimizer, 0.01, NULL);
	}
	return code;
}

static void setup(example *e, int steps)
{
	muon_options options = MUON_OPTIONS_INIT;
	*e = (example){0};
	for (int i = 0; i < ROWS * COLUMNS; i++)
		e->matrix[i] = (float)i / 100;
	for (int i = 0; i < VECTOR; i++)
		e->vector[i] = 1 + (float)i / 10;
	const muon_parameter parameters[] = {
	    {.name = "model.layers.0.mlp.up_proj.weight", .rank = 2, .dims = {ROWS, COLUMNS},
	     .dtype = MUON_F32, .values = e->matrix, .gradient_dtype = MUON_F32,
	     .gradient = e->matrix_gradient},
	    {.name = "model.norm.weight", .rank = 1, .dims = {VECTOR}, .dtype = MUON_F32,
	     .values = e->vector, .gradient_dtype = MUON_F32, .gradient = e->vector_gradient}};
	options.threads = 1;
	CU_ASSERT_EQUAL_FATAL(
	    muon_optimizer_create(&e->optimizer, &options, parameters, 2, NULL), MUON_OK);
	CU_ASSERT_EQUAL_FATAL(train(e, 0, steps), MUON_OK);
	for (int i = 0; i < RECORDS; i++)
		e->records[i] = 0.5 + steps + i;
	e->tensors[0] = (mspec_training_tensor){parameters[0].name, MUON_F32, 2, {ROWS, COLUMNS},
	                                        e->matrix};
	e->tensors[1] = (mspec_training_tensor){parameters[1].name, MUON_F32, 1, {VECTOR}, e->vector};
	e->tensors[2] = (mspec_training_tensor){"activations/output_rms", MUON_F64, 1, {RECORDS},
	                                        e->records};
	e->numbers[0] = (mspec_training_number){"step", steps};
	e->numbers[1] = (mspec_training_number){"loss", 2.25 + 0x1p-40};
	e->numbers[2] = (mspec_training_number){"lr", 0.01};
	e->texts[0] = (mspec_training_text){"optimizer", "muon"};
	e->texts[1] = (mspec_training_text){"options", "--lr=0.01\n"};
	e->training = (mspec_training){e->tensors, 3, e->numbers, 3, e->texts, 2, e->optimizer, NULL};
}

static void save(example *e, const char *path)
{
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_training_save(path, &e->training, &err), MUON_OK);
}

static bool same_weights(const example *a, const example *b)
{
	return !memcmp(a->matrix, b->matrix, sizeof a->matrix) &&
	       !memcmp(a->vector, b->vector, sizeof a->vector);
}

/* Going on from a checkpoint is going on without one. */
static void test_go_on(void)
{
	example a, b;
	double values[4];
	muon_error err = {0};
	const char *path = scratch_path("training.h5");
	setup(&a, 3);
	save(&a, path);
	setup(&b, 0);
	const mspec_training_number numbers[] = {{"loss", 0}, {"absent", 0}, {"step", 0}, {"lr", 0}};
	b.training.numbers = numbers;
	b.training.number_count = 4;
	CU_ASSERT_EQUAL_FATAL(mspec_training_load(path, &b.training, values, &err), MUON_OK);
	CU_ASSERT_EQUAL(values[0], 2.25 + 0x1p-40);
	CU_ASSERT(isnan(values[1]));
	CU_ASSERT_EQUAL(values[2], 3);
	CU_ASSERT_EQUAL(values[3], 0.01);
	CU_ASSERT(same_weights(&a, &b));
	CU_ASSERT_EQUAL(b.records[2], 5.5);
	CU_ASSERT_EQUAL(muon_optimizer_steps(b.optimizer), 3);
	CU_ASSERT_EQUAL(train(&a, 3, 5), MUON_OK);
	CU_ASSERT_EQUAL(train(&b, 3, 5), MUON_OK);
	CU_ASSERT(same_weights(&a, &b));
	muon_optimizer_destroy(&a.optimizer);
	muon_optimizer_destroy(&b.optimizer);
}

/* What the readers make of it. */
static void test_as_checkpoint(void)
{
	example e;
	mspec_views views;
	const char *path = scratch_path("listed.h5");
	setup(&e, 2);
	save(&e, path);
	mspec_checkpoint *c = scratch_open(path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "muonspec");
	CU_ASSERT_STRING_EQUAL(mspec_info(c)->optimizer, "muon");
	CU_ASSERT_EQUAL(mspec_info(c)->step, 2);
	CU_ASSERT_STRING_EQUAL(mspec_attribute_text(c, "options"), "--lr=0.01\n");
	CU_ASSERT_PTR_NULL(mspec_attribute_text(c, "step"));
	CU_ASSERT_PTR_NULL(mspec_attribute_text(c, "absent"));
	CU_ASSERT(isnan(mspec_attribute_number(c, "options")));
	CU_ASSERT_EQUAL(mspec_attribute_number(c, "optimizer_steps"), 2);
	scratch_content(c, "model.norm.weight", e.vector, sizeof e.vector);
	scratch_content(c, "activations/output_rms", e.records, sizeof e.records);
	size_t state = scratch_find(c, "optimizer/model.layers.0.mlp.up_proj.weight/momentum");
	CU_ASSERT_FATAL(state < mspec_tensor_count(c));
	CU_ASSERT_EQUAL(mspec_tensor_at(c, state)->role, MSPEC_ROLE_OPTIMIZER);
	CU_ASSERT_EQUAL_FATAL(mspec_views_create(&views, c, NULL, NULL), MUON_OK);
	CU_ASSERT_EQUAL(views.count, 1); /* the matrix alone: neither state nor records */
	mspec_views_destroy(&views);
	mspec_close(&c);
	muon_optimizer_destroy(&e.optimizer);
}

static void test_strip(void)
{
	example e, other;
	muon_error err = {0};
	const char *path = scratch_path("strip.h5");
	setup(&e, 2);
	save(&e, path);
	for (int again = 0; again < 2; again++) {
		CU_ASSERT_EQUAL(mspec_training_strip(path, &err), MUON_OK);
		mspec_checkpoint *c = scratch_open(path);
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		CU_ASSERT_EQUAL(mspec_tensor_count(c), 3);
		scratch_content(c, "model.norm.weight", e.vector, sizeof e.vector);
		scratch_content(c, "model.layers.0.mlp.up_proj.weight", e.matrix, sizeof e.matrix);
		scratch_content(c, "activations/output_rms", e.records, sizeof e.records);
		CU_ASSERT_STRING_EQUAL(mspec_info(c)->layout, "muonspec");
		CU_ASSERT_STRING_EQUAL(mspec_attribute_text(c, "options"), "--lr=0.01\n");
		CU_ASSERT_EQUAL(mspec_info(c)->loss, 2.25 + 0x1p-40);
		mspec_close(&c);
	}
	setup(&other, 1);
	CU_ASSERT_EQUAL(mspec_training_load(path, &other.training, (double[3]){0}, &err),
	                MUON_E_FORMAT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "no optimizer state"));
	CU_ASSERT_EQUAL(muon_optimizer_steps(other.optimizer), 1);
	other.training.optimizer = NULL;
	CU_ASSERT_EQUAL(mspec_training_load(path, &other.training, (double[3]){0}, NULL), MUON_OK);
	CU_ASSERT_EQUAL(mspec_training_strip(scratch_path("none.h5"), NULL), MUON_E_OPEN);
	muon_optimizer_destroy(&e.optimizer);
	muon_optimizer_destroy(&other.optimizer);
}

static void refuse(const char *path, const example *e, const char *where, const char *text)
{
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_training_load(path, &e->training, (double[3]){0}, &err),
	                MUON_E_FORMAT);
	CU_ASSERT_STRING_EQUAL(err.where, where);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, text));
}

static void test_other_model(void)
{
	example e, other;
	const char *path = scratch_path("other.h5");
	const char *matrix = "model.layers.0.mlp.up_proj.weight";
	setup(&e, 1);
	save(&e, path);
	setup(&other, 0);
	other.tensors[0].dims[1]--;
	refuse(path, &other, matrix, "another shape");
	other.tensors[0].rank = 1;
	refuse(path, &other, matrix, "another shape");
	other.tensors[0] = e.tensors[0];
	other.tensors[0].dtype = MUON_I32;
	refuse(path, &other, matrix, "type");
	other.tensors[0] = e.tensors[0];
	other.tensors[0].name = "model.layers.1.mlp.up_proj.weight";
	refuse(path, &other, other.tensors[0].name, "missing");
	CU_ASSERT_EQUAL(muon_optimizer_steps(other.optimizer), 0);
	muon_optimizer_destroy(&e.optimizer);
	muon_optimizer_destroy(&other.optimizer);
}

/* Cut off anywhere it is refused, and the optimizer stays as it was. */
static void test_truncated(void)
{
	static char bytes[1 << 16];
	example e, other;
	const char *path = scratch_path("whole.h5"), *cut = scratch_path("cut.h5");
	setup(&e, 1);
	save(&e, path);
	FILE *file = fopen(path, "rb");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	size_t size = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	CU_ASSERT_FATAL(size > 1000 && size < sizeof bytes);
	setup(&other, 0);
	for (size_t length = 0; length < size; length += 97) {
		muon_error err = {0};
		scratch_write(cut, bytes, length);
		int code = mspec_training_load(cut, &other.training, (double[3]){0}, &err);
		CU_ASSERT(code == MUON_E_FORMAT || code == MUON_E_READ);
		CU_ASSERT(*err.message);
		CU_ASSERT_EQUAL(muon_optimizer_steps(other.optimizer), 0);
	}
	muon_optimizer_destroy(&e.optimizer);
	muon_optimizer_destroy(&other.optimizer);
}

/* A disk that is full after `limit` bytes, in a process of its own since libhdf5 doesn't forget.
 * 0: saved; 1: refused as it should be. */
static int save_on_full_disk(example *e, const char *path, rlim_t limit, bool strip)
{
	fflush(NULL);
	pid_t child = fork();
	if (!child) {
		struct rlimit most = {limit, limit};
		muon_error err = {0};
		signal(SIGXFSZ, SIG_IGN);
		int code = setrlimit(RLIMIT_FSIZE, &most) ? 99
		           : strip                        ? mspec_training_strip(path, &err)
		                   : mspec_training_save(path, &e->training, &err);
		_exit(code == MUON_E_WRITE && *err.message && *err.where ? 1 : code ? 2 : 0);
	}
	int status;
	CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
	char temporary[600];
	snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)child);
	CU_ASSERT(access(temporary, F_OK) != 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_full_disk(void)
{
	static const rlim_t limits[] = {0, 50, 1000, 3000, 6000};
	example e, other;
	const char *path = scratch_path("full.h5");
	setup(&e, 1);
	save(&e, path);
	setup(&other, 2);
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		CU_ASSERT_EQUAL(save_on_full_disk(&other, path, limits[i], false), 1);
		CU_ASSERT_EQUAL(save_on_full_disk(&other, path, limits[i] / 2, true), 1);
	}
	mspec_checkpoint *c = scratch_open(path); /* the old one is still there */
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(mspec_info(c)->step, 1);
	CU_ASSERT_EQUAL(mspec_attribute_number(c, "optimizer_steps"), 1);
	mspec_close(&c);
	CU_ASSERT_EQUAL(save_on_full_disk(&other, path, 1 << 20, false), 0);
	muon_optimizer_destroy(&e.optimizer);
	muon_optimizer_destroy(&other.optimizer);
}

typedef int (*action_fn)(const char *path, example *e, muon_error *err);

static int save_again(const char *path, example *e, muon_error *err)
{
	return mspec_training_save(path, &e->training, err);
}

static int load_again(const char *path, example *e, muon_error *err)
{
	return mspec_training_load(path, &e->training, (double[3]){0}, err);
}

static int strip_again(const char *path, example *e, muon_error *err)
{
	(void)e;
	return mspec_training_strip(path, err);
}

static void test_no_memory(void)
{
	static const action_fn actions[] = {save_again, load_again, strip_again};
	int left = 0;
	const muon_allocator allocator = unit_failing_allocator(&left);
	const char *path = scratch_path("memory.h5");
	example e;
	setup(&e, 1);
	save(&e, path);
	for (size_t a = 0; a < sizeof actions / sizeof *actions; a++) {
		int code = MUON_E_MEMORY;
		for (int k = 0; k < 1000 && code; k++) {
			muon_error err = {0};
			left = k;
			muon_set_allocator(&allocator);
			code = actions[a](path, &e, &err);
			muon_set_allocator(NULL);
			CU_ASSERT(code == MUON_OK || code == MUON_E_MEMORY);
			CU_ASSERT_EQUAL(err.code, code);
		}
		CU_ASSERT_EQUAL(code, MUON_OK);
	}
	muon_optimizer_destroy(&e.optimizer);
}

UNIT_SUITE(training, {"go on", test_go_on}, {"as a checkpoint", test_as_checkpoint},
           {"strip", test_strip}, {"another model", test_other_model},
           {"truncated", test_truncated}, {"full disk", test_full_disk},
           {"no memory", test_no_memory})
