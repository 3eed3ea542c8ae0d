/* The command line of muontrain. */
#ifndef MUONTRAIN_TRAIN_OPTIONS_H
#define MUONTRAIN_TRAIN_OPTIONS_H

#include "common/option_table.h"

#include <muonspec/training.h>
#include <muonspec/model.h>

typedef enum optimizer_kind { OPTIMIZER_MUON, OPTIMIZER_ADAMW } optimizer_kind;

typedef enum train_precision {
	PRECISION_FLOAT32,
	PRECISION_BF16,           /* the model computes in bf16 on float32 weights */
	PRECISION_BF16_NO_MASTER  /* and the weights are kept in bf16 alone */
} train_precision;

typedef enum keep_states { STATES_LAST, STATES_ALL, STATES_NONE } keep_states;

/* Sizes of a model are -1 where the preset's holds. */
typedef struct train_options {
	/* model */
	const char *model, *init_from;
	int64_t hidden, layers, heads, kv_heads, head_dim, ffn, context;
	int64_t dense_layers, experts, shared_experts, top_k, expert_ffn;
	int64_t kv_rank, nope_dim, rope_dim, value_dim;
	double routed_scale, rope_theta, norm_eps, init_std;
	bool tied_head;
	double balance_speed;
	int precision; /* train_precision */
	/* data */
	const char *corpus;
	double held_out_share;
	int64_t batch, length, micro_batches;
	/* optimizer */
	int optimizer; /* optimizer_kind */
	int schedule, momentum_kind, scale, router, ns_precision, ns_form;
	double lr, final_lr_ratio, weight_decay, momentum, update_rms, fixed_width;
	double adamw_lr_ratio, adamw_weight_decay, beta1, beta2, eps;
	double clip_norm, qk_clip;
	bool no_nesterov, per_head;
	const char *coefficients;
	int64_t warmup, decay_steps, ns_steps;
	int placement, gather;
	/* run */
	int64_t steps, seed, eval_every, eval_windows, checkpoint_every, threads;
	const char *out, *checkpoint_steps;
	int states; /* keep_states */
	bool resume;
	/* output */
	int format, progress;
	bool quiet, help, version;
	int verbose;
	char **arguments;
	int argument_count;
} train_options;

extern const command train_command;

/* What the program does without options. */
void default_options(train_options *options);

/* Set `options` from argv (argv[0] is skipped), over what is there. MUON_E_USAGE. */
int parse_train_options(train_options *options, int argc, char **argv, muon_error *err);

/* Check the options against each other and fill in what depends on others: the model's
 * configuration from preset and sizes (or `initial`, that of --init-from), the length, the
 * schedule. MUON_E_USAGE. */
int resolve_options(train_options *options, const mspec_model_config *initial,
                    mspec_model_config *config, muon_error *err);

/* Those options that decide about the bits of a run and what it leaves behind, one word a line ("--lr=0.01\n"), resolved. NULL
 * when out of memory; release with muon_free. */
char *describe_run(const train_options *options);

void print_train_help(FILE *to);

#endif
