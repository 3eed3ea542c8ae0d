/* The distributed optimizer, for tests/mpi.py: each rank runs
 *
 *     mpi_optimizer FOLDER LOAD      20 steps of each case beside a single-process optimizer of its
 *                                    own, whose bits it must have; state after 10 steps is written
 *                                    to FOLDER/<case>.<ranks>, and that of a run on LOAD ranks
 *                                    (0: none) is read back and ends the same way
 *     mpi_optimizer kill             steps without end, until the last rank is killed
 *
 * The gradient of a step is whole numbers times a power of two, split over the ranks: so the sum is
 * exact, and the same global gradient for any number of ranks. */
#include <math.h>
#include <muon/dist.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 20, SAVED = 10, REFUSED = 13, MOST_PARAMETERS = 16 };

static const double lr = 0.02;

static int rank, ranks;
static muon_comm *comm;

static void require(bool holds, const char *name, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "mpi_optimizer: rank %d of %d: %s: %s\n", rank, ranks, name, what);
	muon_comm_abort(comm, 1);
}

static void check(int code, const char *name, const muon_error *err)
{
	require(!code, name, err->message);
}

static void *allocate(size_t bytes)
{
	void *block = calloc(bytes ? bytes : 1, 1);
	require(block, "memory", "out of memory");
	return block;
}

/* ---- models --------------------------------------------------------------------------------- */

typedef struct shape {
	const char *name;
	muon_role role;
	int rank;
	int64_t dims[4];
	int heads, split_count;
	bool is_bf16;
} shape;

static const int64_t qkv[] = {4, 2, 3};

/* sizes that divide by nothing; every way to split a tensor into matrices */
static const shape awkward[] = {
    {"embedding", MUON_ROLE_EMBEDDING, 2, {17, 3}, 0, 0, false},
    {"query", MUON_ROLE_HIDDEN, 2, {8, 6}, 2, 0, false},
    {"qkv", MUON_ROLE_HIDDEN, 2, {9, 7}, 0, 3, false},
    {"up", MUON_ROLE_HIDDEN, 2, {31, 5}, 0, 0, false},
    {"experts", MUON_ROLE_HIDDEN, 3, {3, 5, 9}, 0, 0, false},
    {"convolution", MUON_ROLE_HIDDEN, 4, {4, 3, 3, 3}, 0, 0, false},
    {"norm", MUON_ROLE_VECTOR, 1, {11}, 0, 0, false},
    {"large", MUON_ROLE_HIDDEN, 2, {67, 43}, 0, 0, false},
    {"scalar", MUON_ROLE_VECTOR, 1, {1}, 0, 0, false},
};
/* bf16 with float32 masters, and float32 between them */
static const shape half[] = {
    {"half embedding", MUON_ROLE_EMBEDDING, 2, {5, 3}, 0, 0, true},
    {"half", MUON_ROLE_HIDDEN, 2, {13, 7}, 0, 0, true},
    {"float", MUON_ROLE_HIDDEN, 2, {7, 9}, 0, 0, false},
    {"half norm", MUON_ROLE_VECTOR, 1, {3}, 0, 0, true},
};
/* more ranks than matrices */
static const shape few[] = {
    {"only", MUON_ROLE_HIDDEN, 2, {3, 2}, 0, 0, false},
    {"bias", MUON_ROLE_VECTOR, 1, {3}, 0, 0, false},
};
/* ranks that own nothing */
static const shape tiny[] = {
    {"two entries", MUON_ROLE_HIDDEN, 2, {1, 2}, 0, 0, false},
};

typedef struct run_case {
	const char *name;
	const shape *shapes;
	size_t count;
	muon_placement placement;
	muon_dtype gather;
	bool all_adamw;
	double factor; /* on the sum of gradients */
} run_case;

#define SHAPES(s) s, sizeof s / sizeof *s
static const run_case cases[] = {
    {"awkward-flat", SHAPES(awkward), MUON_PLACEMENT_FLAT, MUON_F32, false, 0},
    {"awkward-whole", SHAPES(awkward), MUON_PLACEMENT_WHOLE, MUON_BF16, false, 0.25},
    {"awkward-bf16", SHAPES(awkward), MUON_PLACEMENT_FLAT, MUON_BF16, false, 0},
    {"awkward-adamw", SHAPES(awkward), MUON_PLACEMENT_FLAT, MUON_F32, true, 0},
    {"half-flat", SHAPES(half), MUON_PLACEMENT_FLAT, MUON_F32, false, 0},
    {"half-whole", SHAPES(half), MUON_PLACEMENT_WHOLE, MUON_F32, false, 0},
    {"few-flat", SHAPES(few), MUON_PLACEMENT_FLAT, MUON_F32, false, 0},
    {"few-whole", SHAPES(few), MUON_PLACEMENT_WHOLE, MUON_F32, false, 0},
    {"tiny-flat", SHAPES(tiny), MUON_PLACEMENT_FLAT, MUON_F32, false, 0},
    {"tiny-whole", SHAPES(tiny), MUON_PLACEMENT_WHOLE, MUON_F32, false, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Does nothing travel in bf16 on so many ranks? */
static bool is_exact(const run_case *c, int most_ranks)
{
	return c->placement == MUON_PLACEMENT_WHOLE || c->gather == MUON_F32 || most_ranks == 1;
}

typedef struct model {
	size_t count;
	muon_parameter parameters[MOST_PARAMETERS];
	void *gradients[MOST_PARAMETERS];
	int64_t elements[MOST_PARAMETERS];
} model;

static uint64_t mix(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t x = a * 0x9e3779b97f4a7c15 + b * 0xbf58476d1ce4e5b9 + c * 0x94d049bb133111eb + d;
	for (int i = 0; i < 3; i++)
		x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93;
	return x ^ (x >> 32);
}

/* A whole number in [-40, 40]. */
static int small(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return (int)(mix(a, b, c, d) % 81) - 40;
}

/* x, which bf16 holds exactly where that is asked for. */
static void put(void *to, int64_t i, bool is_bf16, float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	if (is_bf16)
		((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
	else
		((float *)to)[i] = x;
}

static size_t entry_size(const muon_parameter *p)
{
	return muon_dtype_size(p->dtype);
}

static model *make_model(const run_case *c)
{
	model *m = allocate(sizeof *m);
	m->count = c->count;
	for (size_t i = 0; i < c->count; i++) {
		const shape *s = &c->shapes[i];
		muon_parameter *p = &m->parameters[i];
		const muon_dtype type = s->is_bf16 ? MUON_BF16 : MUON_F32;
		int64_t n = 1;
		for (int d = 0; d < s->rank; d++)
			n *= p->dims[d] = s->dims[d];
		m->elements[i] = n;
		m->gradients[i] = allocate((size_t)n * muon_dtype_size(type));
		p->name = s->name;
		p->rank = s->rank;
		p->dtype = p->gradient_dtype = type;
		p->values = allocate((size_t)n * muon_dtype_size(type));
		p->gradient = m->gradients[i];
		p->role = s->role;
		p->heads = s->heads;
		p->splits = s->split_count ? qkv : NULL;
		p->split_count = s->split_count;
		for (int64_t k = 0; k < n; k++)
			put(p->values, k, s->is_bf16, (float)small(1000, i, (uint64_t)k, 0) / 64);
	}
	return m;
}

static void free_model(model *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->parameters[i].values);
		free(m->gradients[i]);
	}
	free(m);
}

/* This rank's share of the gradient of a step; shares of all ranks add up to that of one. */
static void set_gradients(model *m, int step, int share, int shares)
{
	for (size_t i = 0; i < m->count; i++)
		for (int64_t k = 0; k < m->elements[i]; k++) {
			const uint64_t s = (uint64_t)step, e = (uint64_t)k;
			int g = share + 1 < shares ? small(s, i, e, (uint64_t)share + 1)
						   : small(s, i, e, 0);
			for (int r = 0; share + 1 == shares && r < share; r++)
				g -= small(s, i, e, (uint64_t)r + 1);
			put(m->gradients[i], k, m->parameters[i].dtype == MUON_BF16, (float)g / 64);
		}
}

static void scale_gradients(model *m, double factor)
{
	for (size_t i = 0; i < m->count; i++) /* powers of two, float32 only */
		for (int64_t k = 0; k < m->elements[i]; k++)
			((float *)m->gradients[i])[k] *= (float)factor;
}

/* ---- optimizers ----------------------------------------------------------------------------- */

static muon_options options_of(const run_case *c)
{
	muon_options options = MUON_OPTIONS_INIT;
	options.threads = 1;
	options.all_adamw = c->all_adamw;
	return options;
}

static muon_optimizer *make_alone(const run_case *c, const model *m)
{
	const muon_options options = options_of(c);
	muon_optimizer *optimizer;
	muon_error err = {0};
	check(muon_optimizer_create(&optimizer, &options, m->parameters, m->count, &err), c->name,
	      &err);
	return optimizer;
}

static muon_optimizer *make_distributed(const run_case *c, const model *m)
{
	const muon_options options = options_of(c);
	const muon_distributed_options distributed = {c->placement, c->gather, c->factor};
	muon_optimizer *optimizer;
	muon_error err = {0};
	check(muon_optimizer_create_distributed(&optimizer, &options, m->parameters, m->count, comm,
						&distributed, &err),
	      c->name, &err);
	return optimizer;
}

static void step_alone(const run_case *c, muon_optimizer *optimizer, model *m, int step)
{
	muon_error err = {0};
	set_gradients(m, step, 0, 1);
	if (c->factor)
		scale_gradients(m, c->factor);
	check(muon_optimizer_step(optimizer, lr, &err), c->name, &err);
}

/* A NaN in the share of one rank: all refuse the step, and nothing has changed. */
static void step_refused(const run_case *c, muon_optimizer *optimizer, model *m)
{
	muon_error err = {0};
	if (rank == ranks - 1)
		put(m->gradients[0], 0, m->parameters[0].dtype == MUON_BF16, NAN);
	require(muon_optimizer_step(optimizer, lr, &err) == MUON_E_NONFINITE, c->name,
		"a NaN was not refused");
	require(!strcmp(err.where, m->parameters[0].name), c->name, "a NaN without its name");
}

static void step_distributed(const run_case *c, muon_optimizer *optimizer, model *m, int step)
{
	muon_error err = {0};
	set_gradients(m, step, rank, ranks);
	if (step == REFUSED)
		step_refused(c, optimizer, m);
	set_gradients(m, step, rank, ranks);
	check(muon_optimizer_step(optimizer, lr, &err), c->name, &err);
}

/* ---- state ---------------------------------------------------------------------------------- */

/* Parameters and state, one after the other. */
typedef struct record {
	char *bytes;
	size_t length, at;
} record;

static void append(record *r, const void *data, size_t bytes)
{
	r->bytes = realloc(r->bytes, r->length + bytes + 1);
	require(r->bytes, "memory", "out of memory");
	memcpy(r->bytes + r->length, data, bytes);
	r->length += bytes;
}

static int append_tensor(void *context, const muon_state_tensor *tensor, muon_error *err)
{
	(void)err;
	append(context, tensor->name, strlen(tensor->name) + 1);
	append(context, tensor->data, (size_t)tensor->elements * muon_dtype_size(tensor->dtype));
	return MUON_OK;
}

static int take_tensor(void *context, const muon_state_tensor *tensor, muon_error *err)
{
	record *r = context;
	const size_t name = strlen(tensor->name) + 1;
	const size_t bytes = (size_t)tensor->elements * muon_dtype_size(tensor->dtype);
	if (r->length - r->at < name + bytes || strcmp(r->bytes + r->at, tensor->name))
		return muon_fail(err, MUON_E_READ, tensor->name, "not what was saved");
	memcpy(tensor->data, r->bytes + r->at + name, bytes);
	r->at += name + bytes;
	return MUON_OK;
}

static record save(const run_case *c, muon_optimizer *optimizer, const model *m)
{
	record r = {0};
	muon_error err = {0};
	for (size_t i = 0; i < m->count; i++)
		append(&r, m->parameters[i].values,
		       (size_t)m->elements[i] * entry_size(&m->parameters[i]));
	check(muon_optimizer_save(optimizer, append_tensor, &r, &err), c->name, &err);
	return r;
}

static void load(const run_case *c, muon_optimizer *optimizer, const model *m, record *r)
{
	muon_error err = {0};
	for (size_t i = 0; i < m->count; i++) {
		const size_t bytes = (size_t)m->elements[i] * entry_size(&m->parameters[i]);
		require(r->length - r->at >= bytes, c->name, "the file is too short");
		memcpy(m->parameters[i].values, r->bytes + r->at, bytes);
		r->at += bytes;
	}
	check(muon_optimizer_load(optimizer, take_tensor, r, SAVED, &err), c->name, &err);
	require(muon_optimizer_steps(optimizer) == SAVED, c->name, "steps are not restored");
}

static void file_name(char *path, size_t capacity, const char *folder, const run_case *c, int of)
{
	snprintf(path, capacity, "%s/%s.%d", folder, c->name, of);
}

static void write_record(const record *r, const char *folder, const run_case *c)
{
	char path[4096];
	file_name(path, sizeof path, folder, c, ranks);
	FILE *file = fopen(path, "wb");
	require(file && fwrite(r->bytes, 1, r->length, file) == r->length && !fclose(file), c->name,
		"cannot write the state");
}

static record read_record(const char *folder, const run_case *c, int of)
{
	char path[4096], block[4096];
	record r = {0};
	size_t got;
	file_name(path, sizeof path, folder, c, of);
	FILE *file = fopen(path, "rb");
	require(file, c->name, "cannot read the state");
	while ((got = fread(block, 1, sizeof block, file)) > 0)
		append(&r, block, got);
	fclose(file);
	return r;
}

/* ---- what must hold ------------------------------------------------------------------------- */

static double value(const muon_parameter *p, int64_t i)
{
	double x;
	muon_convert_f64(p->dtype, (const char *)p->values + (size_t)i * entry_size(p), 1, &x);
	return x;
}

/* Same bits as the optimizer that is alone; with pieces in bf16, nearly. */
static void compare_values(const run_case *c, const model *m, const model *alone, bool exact)
{
	double difference = 0, size = 0;
	for (size_t i = 0; i < m->count; i++) {
		const muon_parameter *p = &m->parameters[i], *q = &alone->parameters[i];
		const size_t bytes = (size_t)m->elements[i] * entry_size(p);
		if (exact)
			require(!memcmp(p->values, q->values, bytes), c->name,
				"parameters differ from those of one process");
		for (int64_t k = 0; k < m->elements[i]; k++) {
			difference += pow(value(p, k) - value(q, k), 2);
			size += pow(value(q, k), 2);
		}
	}
	require(difference <= 1e-4 * size, c->name, "parameters are far from one process'");
	require(exact || difference > 0, c->name, "bf16 pieces can't leave every bit alone");
}

/* And the same as rank 0. */
static void compare_ranks(const run_case *c, const model *m)
{
	muon_error err = {0};
	for (size_t i = 0; i < m->count; i++) {
		const size_t bytes = (size_t)m->elements[i] * entry_size(&m->parameters[i]);
		char *first = allocate(bytes);
		memcpy(first, m->parameters[i].values, bytes);
		check(muon_comm_broadcast(comm, first, bytes, 0, &err), c->name, &err);
		require(!memcmp(first, m->parameters[i].values, bytes), c->name, "ranks differ");
		free(first);
	}
}

static void compare_state(const run_case *c, muon_optimizer *optimizer, const model *m,
			  muon_optimizer *single, const model *alone)
{
	record mine = save(c, optimizer, m), one = save(c, single, alone);
	if (rank == 0 && is_exact(c, ranks))
		require(mine.length == one.length && !memcmp(mine.bytes, one.bytes, one.length),
			c->name, "state differs from that of one process");
	free(mine.bytes);
	free(one.bytes);
}

/* Bytes that cross in the gather of one step, for entries of `entry` bytes: a matrix in k pieces
 * goes to each of their k owners, who has his own. Cuts are at r N / ranks. */
static double gathered_bytes(const run_case *c, const model *m, double entry)
{
	int64_t entries = 0, at = 0;
	double bytes = 0;
	for (size_t i = 0; i < m->count; i++)
		entries += m->elements[i];
	for (size_t i = 0; i < m->count; at += m->elements[i], i++) {
		const shape *s = &c->shapes[i];
		const bool is_stack = s->rank == 3;
		const int64_t width =
		    m->elements[i] / (is_stack ? s->dims[0] * s->dims[1] : s->dims[0]);
		int64_t rows = is_stack ? s->dims[1] : s->dims[0], begin = at;
		if (s->role != MUON_ROLE_HIDDEN || c->all_adamw)
			continue;
		for (int block = 0; begin < at + m->elements[i]; block++) {
			if (s->heads)
				rows = s->dims[0] / s->heads;
			if (s->split_count)
				rows = qkv[block];
			const int64_t end = begin + rows * width;
			int64_t cuts = 0, last = begin; /* where it goes through the block */
			for (int r = 1; r < ranks; r++) {
				const int64_t cut = entries * r / ranks;
				cuts += cut > last && cut < end;
				last = cut > last ? cut : last;
			}
			bytes += (double)cuts * (double)(end - begin) * entry;
			begin = end;
		}
	}
	return bytes;
}

/* Bytes of all ranks since `before`, by phase. */
static void total_bytes(const run_case *c, const uint64_t before[MUON_PHASE_COUNT],
			double bytes[MUON_PHASE_COUNT])
{
	muon_error err = {0};
	for (int p = 0; p < MUON_PHASE_COUNT; p++)
		bytes[p] = (double)(muon_comm_bytes_sent(comm, (muon_phase)p) - before[p]);
	check(muon_comm_sum(comm, bytes, MUON_PHASE_COUNT, &err), c->name, &err);
}

static void note_bytes(uint64_t bytes[MUON_PHASE_COUNT])
{
	for (int p = 0; p < MUON_PHASE_COUNT; p++)
		bytes[p] = muon_comm_bytes_sent(comm, (muon_phase)p);
}

/* The report's algorithm: reduce-scatter and all-gather of all entries in float32, and the gather.
 */
static void check_bytes(const run_case *c, muon_optimizer *optimizer, model *m, int step)
{
	uint64_t before[MUON_PHASE_COUNT];
	double bytes[MUON_PHASE_COUNT], entries = 0;
	note_bytes(before);
	step_distributed(c, optimizer, m, step);
	total_bytes(c, before, bytes);
	for (size_t i = 0; i < m->count; i++) {
		entries += (double)m->elements[i];
		if (m->parameters[i].dtype != MUON_F32)
			return; /* fewer bytes */
	}
	const double gather = c->placement == MUON_PLACEMENT_WHOLE
				  ? 0
				  : gathered_bytes(c, m, c->gather == MUON_BF16 ? 2 : 4);
	require(bytes[MUON_PHASE_REDUCE] == (ranks - 1) * entries * 4, c->name, "bytes of reduce");
	require(bytes[MUON_PHASE_ALL_GATHER] == (ranks - 1) * entries * 4, c->name,
		"bytes of all-gather");
	require(bytes[MUON_PHASE_GATHER] == gather, c->name, "bytes of gather");
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void run_from_saved(const run_case *c, const char *folder, int of, const model *alone)
{
	model *m = make_model(c);
	record r = read_record(folder, c, of);
	muon_optimizer *optimizer = make_distributed(c, m);
	load(c, optimizer, m, &r);
	for (int step = SAVED; step < STEPS; step++)
		step_distributed(c, optimizer, m, step);
	compare_values(c, m, alone, is_exact(c, of > ranks ? of : ranks));
	compare_ranks(c, m);
	muon_optimizer_destroy(&optimizer);
	free(r.bytes);
	free_model(m);
}

static void run(const run_case *c, const char *folder, int loaded)
{
	model *m = make_model(c), *alone = make_model(c);
	muon_optimizer *optimizer = make_distributed(c, m), *single = make_alone(c, alone);
	for (int step = 0; step < STEPS; step++) {
		step_alone(c, single, alone, step);
		if (step == STEPS / 2 + 1)
			check_bytes(c, optimizer, m, step);
		else
			step_distributed(c, optimizer, m, step);
		if (step + 1 != SAVED)
			continue;
		record r = save(c, optimizer, m);
		if (rank == 0)
			write_record(&r, folder, c);
		free(r.bytes);
	}
	compare_values(c, m, alone, is_exact(c, ranks));
	compare_ranks(c, m);
	compare_state(c, optimizer, m, single, alone);
	if (loaded)
		run_from_saved(c, folder, loaded, alone);
	muon_optimizer_destroy(&optimizer);
	muon_optimizer_destroy(&single);
	free_model(m);
	free_model(alone);
}

/* Parameters that are not the same on all ranks are refused by all. */
static void check_different_parameters(void)
{
	const run_case *c = &cases[0];
	const muon_options options = options_of(c);
	const muon_distributed_options distributed = {.gather_dtype = MUON_F32};
	model *m = make_model(c);
	muon_optimizer *optimizer = NULL;
	muon_error err = {0};
	if (rank == ranks - 1)
		m->parameters[3].name = "another";
	const int code = muon_optimizer_create_distributed(&optimizer, &options, m->parameters,
							   m->count, comm, &distributed, &err);
	require(ranks == 1 || (code && !optimizer), c->name, "other parameters were accepted");
	muon_optimizer_destroy(&optimizer);
	free_model(m);
}

static int kill_in_loop(void)
{
	const run_case *c = &cases[0];
	model *m = make_model(c);
	muon_optimizer *optimizer = make_distributed(c, m);
	muon_error err = {0};
	for (int step = 0; !err.code; step++) {
		if (step == 10 && rank == ranks - 1)
			raise(SIGKILL);
		set_gradients(m, step, rank, ranks);
		muon_optimizer_step(optimizer, lr, &err);
	}
	fprintf(stderr, "mpi_optimizer: rank %d: %s\n", rank, err.message);
	return muon_exit_status(err.code);
}

int main(int argc, char **argv)
{
	muon_error err = {0};
	int code = muon_comm_create_mpi(&comm, &argc, &argv, &err);
	if (code) {
		fprintf(stderr, "mpi_optimizer: %s\n", err.message);
		return muon_exit_status(code);
	}
	rank = muon_comm_rank(comm);
	ranks = muon_comm_size(comm);
	muon_blas_single_thread();
	if (argc == 2 && !strcmp(argv[1], "kill"))
		return kill_in_loop();
	require(argc == 3, "usage", "mpi_optimizer FOLDER LOAD | kill");
	for (size_t i = 0; i < CASES; i++)
		run(&cases[i], argv[1], atoi(argv[2]));
	check_different_parameters();
	muon_comm_destroy(&comm);
	return 0;
}
