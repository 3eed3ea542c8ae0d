/* Distributed Muon: on paper for Moonlight-16B on 8, 64 and 512 ranks, and measured on 1, 2, 4 and
 * 8 ranks of this machine, which share its processors.
 *
 *     bench_distributed [--quick]        starts itself under mpirun; --quick takes a smaller model
 *
 * Measured: a Llama of 5 layers, width 256 (4.2 million entries), gradients at hand, median of 3
 * steps. Phases are means over ranks, and waiting for others counts as the phase waited in. Bytes
 * are what all ranks together send, as the library counts them. */
#include "base/pool.h"
#include "base/random.h"
#include "moonlight.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { STEPS = 3, MOST_PARAMETERS = 64, PHASES = 7 };

extern char **environ;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "bench_distributed: %s\n", what);
	exit(5);
}

/* ---- on paper ------------------------------------------------------------------------------- */

static void print_plan(const muon_planned *planned, muon_placement placement, muon_dtype gather,
		       int ranks)
{
	muon_placement_costs c;
	if (muon_placement_plan(placement, planned, MOONLIGHT_PLANNED, ranks, gather, 5, &c))
		fail("no plan");
	printf("%5d  %-5s  %-4s  %8lld  %8.1f %8.4f %8.1f  %8.6f  %6.3f %6.3f %6.2f  %7.3f %7.3f "
	       "%6.3f\n",
	       ranks, placement == MUON_PLACEMENT_FLAT ? "flat" : "whole", muon_dtype_name(gather),
	       (long long)c.gathered_matrices, c.reduce_bytes / 1e9, c.gather_bytes / 1e9,
	       c.all_gather_bytes / 1e9, c.traffic_ratio, c.state_bytes_mean / 1e9,
	       c.state_bytes_max / 1e9, c.state_bytes_mean / c.adamw_state_bytes_mean,
	       c.flops_mean / 1e12, c.flops_max / 1e12, c.flops_max / c.flops_mean);
}

static void print_plans(void)
{
	static const int ranks[] = {8, 64, 512};
	muon_planned planned[MOONLIGHT_PLANNED];
	muon_placement_costs all;
	moonlight_planned(planned);
	if (muon_placement_plan(MUON_PLACEMENT_FLAT, planned, MOONLIGHT_PLANNED, 1, MUON_F32, 5,
				&all))
		fail("no plan");
	const double adamw = (double)(all.entries - all.parameters);
	printf("Moonlight-16B on paper: %lld matrices, %lld parameters under Muon, %.0f under "
	       "AdamW.\n",
	       (long long)all.matrices, (long long)all.parameters, adamw);
	printf(
	    "Traffic over AdamW's; the report says 1 to 1.25. Were every matrix in pieces on all "
	    "ranks: %.3f in bf16.\n\n",
	    1 + 2.0 * (double)all.parameters / (8.0 * (double)all.entries));
	printf(
	    "                      matrices       GB sent, all ranks        traffic     state GB "
	    "a rank      Newton-Schulz TF a rank\n");
	printf("ranks  place  piece       cut    reduce   gather all-gath  /AdamW      mean    max "
	       "/AdamW     mean     max    /mean\n");
	for (int p = 0; p < 4; p++)
		for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
			const bool is_whole = p >= 2;
			if (p < 3) /* whole matrices have no pieces to gather */
				print_plan(planned,
					   is_whole ? MUON_PLACEMENT_WHOLE : MUON_PLACEMENT_FLAT,
					   p == 1 ? MUON_F32 : MUON_BF16, ranks[i]);
		}
	printf("\n");
}

/* ---- a model -------------------------------------------------------------------------------- */

typedef struct model {
	size_t count;
	int64_t entries;
	muon_parameter parameters[MOST_PARAMETERS];
	char names[MOST_PARAMETERS][32];
} model;

static void add(model *m, const char *name, int layer, int64_t rows, int64_t cols)
{
	muon_parameter *p = &m->parameters[m->count];
	const size_t entries = (size_t)(rows * cols);
	float *values = malloc(entries * sizeof *values);
	float *gradient = malloc(entries * sizeof *gradient);
	if (!values || !gradient || m->count == MOST_PARAMETERS)
		fail("out of memory");
	snprintf(m->names[m->count], sizeof m->names[0], "layers.%d.%s", layer, name);
	muon_random random;
	muon_random_seed(&random, m->count);
	for (size_t i = 0; i < entries; i++) {
		values[i] = (float)(0.02 * muon_random_normal(&random));
		gradient[i] = (float)muon_random_normal(&random);
	}
	*p = (muon_parameter){.name = m->names[m->count],
			      .rank = 2,
			      .dims = {rows, cols},
			      .dtype = MUON_F32,
			      .values = values,
			      .gradient_dtype = MUON_F32,
			      .gradient = gradient,
			      .role = layer < 0 ? MUON_ROLE_EMBEDDING : MUON_ROLE_HIDDEN};
	m->entries += rows * cols;
	m->count++;
}

static model *make_model(bool quick)
{
	const int layers = quick ? 2 : 5;
	const int64_t width = quick ? 96 : 256, hidden = quick ? 256 : 704;
	model *m = calloc(1, sizeof *m);
	if (!m)
		fail("out of memory");
	add(m, "embedding", -1, 256, width);
	for (int layer = 0; layer < layers; layer++) {
		add(m, "query", layer, width, width);
		add(m, "key", layer, width, width);
		add(m, "value", layer, width, width);
		add(m, "output", layer, width, width);
		add(m, "gate", layer, hidden, width);
		add(m, "up", layer, hidden, width);
		add(m, "down", layer, width, hidden);
	}
	add(m, "head", -2, 256, width);
	return m;
}

static void free_model(model *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->parameters[i].values);
		free((void *)(uintptr_t)m->parameters[i].gradient);
	}
	free(m);
}

/* ---- measured ------------------------------------------------------------------------------- */

typedef struct way {
	const char *update, *placement, *pieces;
	bool all_adamw;
	muon_distributed_options options;
} way;

static const way ways[] = {
    {"AdamW", "flat", "-", true, {MUON_PLACEMENT_FLAT, MUON_F32, 0}},
    {"Muon", "flat", "f32", false, {MUON_PLACEMENT_FLAT, MUON_F32, 0}},
    {"Muon", "flat", "bf16", false, {MUON_PLACEMENT_FLAT, MUON_BF16, 0}},
    {"Muon", "whole", "-", false, {MUON_PLACEMENT_WHOLE, MUON_F32, 0}},
};
enum { WAYS = sizeof ways / sizeof *ways };

typedef struct measured {
	double total, phases[PHASES];   /* seconds */
	double bytes[MUON_PHASE_OTHER]; /* of a step, all ranks */
	double state_mean, state_max;   /* bytes a rank */
} measured;

static void require(int code, const muon_error *err)
{
	if (code)
		fail(err->message);
}

static int compare_totals(const void *a, const void *b)
{
	const muon_step_seconds *x = a, *y = b;
	return (x->total > y->total) - (x->total < y->total);
}

/* The median step of this rank. */
static muon_step_seconds time_steps(muon_optimizer *optimizer)
{
	muon_step_seconds seconds[STEPS];
	muon_error err = {0};
	require(muon_optimizer_step(optimizer, 1e-3, &err), &err);
	for (int i = 0; i < STEPS; i++) {
		require(muon_optimizer_step(optimizer, 1e-3, &err), &err);
		muon_optimizer_seconds(optimizer, &seconds[i]);
	}
	qsort(seconds, STEPS, sizeof *seconds, compare_totals);
	return seconds[STEPS / 2];
}

static measured measure(muon_comm *comm, const way *w, bool quick)
{
	muon_options options = MUON_OPTIONS_INIT;
	const int ranks = muon_comm_size(comm);
	const int threads = muon_processor_count() / ranks;
	options.threads = threads > 1 ? threads : 1;
	options.all_adamw = w->all_adamw;
	model *m = make_model(quick);
	muon_optimizer *optimizer;
	muon_error err = {0};
	require(muon_optimizer_create_distributed(&optimizer, &options, m->parameters, m->count,
						  comm, &w->options, &err),
		&err);
	measured result;
	double before[MUON_PHASE_OTHER];
	for (int p = 0; p < MUON_PHASE_OTHER; p++)
		before[p] = (double)muon_comm_bytes_sent(comm, (muon_phase)p);
	const muon_step_seconds s = time_steps(optimizer);
	for (int p = 0; p < MUON_PHASE_OTHER; p++)
		result.bytes[p] =
		    ((double)muon_comm_bytes_sent(comm, (muon_phase)p) - before[p]) / (STEPS + 1);
	const double state = (double)muon_optimizer_state_bytes(optimizer);
	double mean[PHASES + 1] = {s.check,         s.reduce, s.momentum,   s.gather,
				   s.newton_schulz, s.update, s.all_gather, state};
	double largest[] = {s.total, state};
	require(muon_comm_sum(comm, mean, PHASES + 1, &err), &err);
	require(muon_comm_sum(comm, result.bytes, MUON_PHASE_OTHER, &err), &err);
	require(muon_comm_max(comm, largest, 2, &err), &err);
	for (int p = 0; p < PHASES; p++)
		result.phases[p] = mean[p] / ranks;
	result.state_mean = mean[PHASES] / ranks;
	result.total = largest[0];
	result.state_max = largest[1];
	muon_optimizer_destroy(&optimizer);
	free_model(m);
	return result;
}

static void print_measured(int ranks, const way *w, const measured *m, double adamw_bytes)
{
	double bytes = 0;
	printf("%5d  %-5s  %-5s  %-4s  %7.1f ", ranks, w->update, w->placement, w->pieces,
	       1e3 * m->total);
	for (int p = 0; p < PHASES; p++)
		printf(" %6.1f", 1e3 * m->phases[p]);
	printf(" ");
	for (int p = 0; p < MUON_PHASE_OTHER; p++) {
		bytes += m->bytes[p];
		printf(" %7.2f", m->bytes[p] / 1e6);
	}
	if (adamw_bytes > 0)
		printf("  %7.4f", bytes / adamw_bytes);
	else
		printf("  %7s", "-");
	printf("  %6.2f %6.2f\n", m->state_mean / 1e6, m->state_max / 1e6);
}

static int run_rank(bool quick)
{
	muon_comm *comm;
	muon_error err = {0};
	require(muon_comm_create_mpi(&comm, NULL, NULL, &err), &err);
	muon_blas_single_thread();
	double adamw_bytes = 0;
	for (size_t i = 0; i < WAYS; i++) {
		const measured m = measure(comm, &ways[i], quick);
		for (int p = 0; i == 0 && p < MUON_PHASE_OTHER; p++)
			adamw_bytes += m.bytes[p];
		if (muon_comm_rank(comm) == 0)
			print_measured(muon_comm_size(comm), &ways[i], &m, adamw_bytes);
	}
	muon_comm_destroy(&comm);
	return 0;
}

static bool start_ranks(const char *program, int ranks, bool quick)
{
	char count[8], path[4096];
	snprintf(count, sizeof count, "%d", ranks);
	snprintf(path, sizeof path, "%s", program);
	char *arguments[] = {"mpirun",
			     "--allow-run-as-root",
			     "--oversubscribe",
			     "--bind-to",
			     "none",
			     "--mca",
			     "btl",
			     "self,vader",
			     "-n",
			     count,
			     path,
			     "--quick",
			     NULL};
	if (!quick)
		arguments[11] = NULL;
	pid_t pid;
	int status;
	if (posix_spawnp(&pid, "mpirun", NULL, NULL, arguments, environ) ||
	    waitpid(pid, &status, 0) != pid)
		return false;
	if (!WIFEXITED(status) || (WEXITSTATUS(status) && WEXITSTATUS(status) != 127))
		fail("a run under mpirun failed");
	return WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
	static const int ranks[] = {1, 2, 4, 8};
	const bool quick = argc > 1 && !strcmp(argv[1], "--quick");
	if (muon_comm_launched_by_mpi())
		return run_rank(quick);
	print_plans();
	if (!muon_comm_has_mpi()) {
		printf("Distributed steps are not measured: built without MPI (make MPI=1)\n");
		return 0;
	}
	model *m = make_model(quick);
	printf("Measured: %.1f million entries on %d processors; the figures of a step\n\n",
	       (double)m->entries / 1e6, muon_processor_count());
	free_model(m);
	printf(
	    "                                  phases, ms                                          "
	    "  MB sent, all ranks       traffic  state MB a rank\n"
	    "ranks  update place  piece step ms   check reduce moment gather     NS update all-ga"
	    "   reduce  gather  all-ga   /AdamW    mean    max\n");
	fflush(stdout);
	for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
		if (!start_ranks(argv[0], ranks[i], quick)) {
			printf("Distributed steps are not measured: no mpirun (Debian's "
			       "openmpi-bin)\n");
			break;
		}
	return 0;
}
