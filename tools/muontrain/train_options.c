#include "train_options.h"

#include "base/memory.h"
#include "base/text.h"
#include "common/nearest.h"

#include <string.h>

/* Sections of the help, and which options are the run's own: those that decide about its bits and
 * what it leaves behind. */
enum {
	MODEL = 1,
	DATA = 2,
	OPTIMIZER = 4,
	RUN = 8,
	OUTPUT = 16,
	ANY = 31,
	BITS = 32
};

#define FIELD(name) offsetof(train_options, name)

static const option_row option_rows[] = {
    {"model", 0, OPTION_TEXT, MODEL | BITS, FIELD(model), "PRESET",
     "llama-tiny, llama-1m, llama-10m, moe-tiny, moe-2m (default: llama-1m)"},
    {"init-from", 0, OPTION_TEXT, MODEL | BITS, FIELD(init_from), "CKPT",
     "start from this checkpoint's weights and configuration, with a new optimizer (fine-tuning)"},
    {"hidden", 0, OPTION_INTEGER, MODEL | BITS, FIELD(hidden), "N",
     "width of the residual stream; this and the sizes below replace the preset's"},
    {"layers", 0, OPTION_INTEGER, MODEL | BITS, FIELD(layers), "N", "layers"},
    {"heads", 0, OPTION_INTEGER, MODEL | BITS, FIELD(heads), "N", "attention heads"},
    {"kv-heads", 0, OPTION_INTEGER, MODEL | BITS, FIELD(kv_heads), "N",
     "llama: key and value heads"},
    {"head-dim", 0, OPTION_INTEGER, MODEL | BITS, FIELD(head_dim), "N",
     "llama: width of a head (default with --hidden or --heads: hidden / heads)"},
    {"ffn", 0, OPTION_INTEGER, MODEL | BITS, FIELD(ffn), "N", "width of a dense MLP"},
    {"context", 0, OPTION_INTEGER, MODEL | BITS, FIELD(context), "N", "longest sequence, in tokens"},
    {"rope-theta", 0, OPTION_NUMBER, MODEL | BITS, FIELD(rope_theta), "X",
     "base of the rotary positions"},
    {"norm-eps", 0, OPTION_NUMBER, MODEL | BITS, FIELD(norm_eps), "X", "epsilon of RMSNorm"},
    {"init-std", 0, OPTION_NUMBER, MODEL | BITS, FIELD(init_std), "X",
     "standard deviation of the random start"},
    {"tied-head", 0, OPTION_FLAG, MODEL | BITS, FIELD(tied_head), NULL,
     "the head is the embedding"},
    {"dense-layers", 0, OPTION_WHOLE, MODEL | BITS, FIELD(dense_layers), "N",
     "moe: the first N layers have a dense MLP"},
    {"experts", 0, OPTION_INTEGER, MODEL | BITS, FIELD(experts), "N", "moe: routed experts"},
    {"shared-experts", 0, OPTION_WHOLE, MODEL | BITS, FIELD(shared_experts), "N",
     "moe: shared experts"},
    {"top-k", 0, OPTION_INTEGER, MODEL | BITS, FIELD(top_k), "N", "moe: experts a token goes to"},
    {"expert-ffn", 0, OPTION_INTEGER, MODEL | BITS, FIELD(expert_ffn), "N",
     "moe: width of an expert"},
    {"routed-scale", 0, OPTION_NUMBER, MODEL | BITS, FIELD(routed_scale), "X",
     "moe: factor on the gates"},
    {"kv-rank", 0, OPTION_INTEGER, MODEL | BITS, FIELD(kv_rank), "N",
     "moe: rank of the latent of keys and values"},
    {"nope-dim", 0, OPTION_INTEGER, MODEL | BITS, FIELD(nope_dim), "N",
     "moe: width of a head that does not rotate"},
    {"rope-dim", 0, OPTION_INTEGER, MODEL | BITS, FIELD(rope_dim), "N",
     "moe: width of a head that rotates"},
    {"value-dim", 0, OPTION_INTEGER, MODEL | BITS, FIELD(value_dim), "N",
     "moe: width of a head's values"},
    {"balance-speed", 0, OPTION_NUMBER, MODEL | BITS, FIELD(balance_speed), "X",
     "moe: what an expert's bias moves by in a step (default: 0.01)"},
    {"precision", 0, OPTION_CHOICE, MODEL | BITS, FIELD(precision), "float32|bf16|bf16-no-master",
     "bf16: weights and the result of every operation are rounded to bf16, the weights that are "
     "updated stay float32; bf16-no-master: those are rounded too, after every step"},

    {"corpus", 'c', OPTION_TEXT, DATA, FIELD(corpus), "FILE",
     "text to learn, byte by byte (default: build/corpus/kjv.txt, which 'make corpus' prepares)"},
    {"held-out-share", 0, OPTION_SHARE, DATA | BITS, FIELD(held_out_share), "X",
     "share at the end of the corpus that is not trained on (default: 0.05)"},
    {"batch", 'b', OPTION_INTEGER, DATA | BITS, FIELD(batch), "N",
     "sequences of a step (default: 16)"},
    {"length", 'l', OPTION_INTEGER, DATA | BITS, FIELD(length), "N",
     "tokens of a sequence (default: the context)"},
    {"micro-batches", 0, OPTION_INTEGER, DATA | BITS, FIELD(micro_batches), "N",
     "parts of a batch, each computed by one thread; their gradients are added in pairs, so any "
     "number of threads gives the same bits, and 1, 2, 4... ranks do when N is a power of two that "
     "they divide (default: 8, or the largest power of two within the batch)"},

    {"optimizer", 'o', OPTION_CHOICE, OPTIMIZER | BITS, FIELD(optimizer), "muon|adamw",
     "muon: Muon for hidden matrices, AdamW for the rest (default); adamw: AdamW for all"},
    {"lr", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(lr), "X",
     "highest learning rate (default: 0.008)"},
    {"schedule", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(schedule), "constant|cosine|wsd",
     "of the learning rate after warm-up (default: cosine)"},
    {"warmup", 0, OPTION_WHOLE, OPTIMIZER | BITS, FIELD(warmup), "N",
     "steps of linear warm-up (default: a twentieth of the run)"},
    {"decay-steps", 0, OPTION_WHOLE, OPTIMIZER | BITS, FIELD(decay_steps), "N",
     "wsd: the last N steps decay (default: a fifth of the run)"},
    {"final-lr-ratio", 0, OPTION_SHARE, OPTIMIZER | BITS, FIELD(final_lr_ratio), "X",
     "last learning rate over --lr (default: 0.1)"},
    {"weight-decay", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(weight_decay), "X",
     "decoupled, on the learning rate (default: 0.1)"},
    {"momentum", 0, OPTION_SHARE, OPTIMIZER | BITS, FIELD(momentum), "X", "Muon's (default: 0.95)"},
    {"momentum-kind", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(momentum_kind), "classical|ema",
     "form of the momentum (default: classical)"},
    {"no-nesterov", 0, OPTION_FLAG, OPTIMIZER | BITS, FIELD(no_nesterov), NULL,
     "Muon without Nesterov's form"},
    {"scale", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(scale),
     "match-rms-adamw|original|spectral-norm|none|update-norm|fixed",
     "factor on the orthogonalised matrix (default: match-rms-adamw)"},
    {"update-rms", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(update_rms), "X",
     "RMS of an update over lr, of match-rms-adamw, update-norm and fixed (default: 0.2)"},
    {"fixed-width", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(fixed_width), "X",
     "width that --scale fixed takes for every matrix (default: hidden)"},
    {"coefficients", 0, OPTION_TEXT, OPTIMIZER | BITS, FIELD(coefficients), "TABLE",
     "of Newton-Schulz: jordan, you5, polar_express, cans, aol, deepseek_v4 (default: jordan)"},
    {"ns-steps", 0, OPTION_WHOLE, OPTIMIZER | BITS, FIELD(ns_steps), "N",
     "Newton-Schulz steps (default: 0, as many as the table's authors use)"},
    {"ns-precision", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(ns_precision),
     "float32|bf16|bf16-emulated", "of its matrix products (default: float32)"},
    {"ns-form", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(ns_form), "auto|plain|symmetric|gram",
     "which products it forms (default: auto)"},
    {"per-head", 0, OPTION_FLAG, OPTIMIZER | BITS, FIELD(per_head), NULL,
     "orthogonalise the query, key and value matrices head by head"},
    {"clip-norm", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(clip_norm), "X",
     "scale a step's gradient down to this norm, over all parameters, where it is above (default: "
     "0, never)"},
    {"qk-clip", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(qk_clip), "X",
     "after a step, scale the queries and keys of heads that had an attention logit above X (Kimi "
     "K2; default: 0, never)"},
    {"router", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(router), "muon|adamw",
     "who updates the experts' routers (default: muon)"},
    {"adamw-lr-ratio", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(adamw_lr_ratio), "X",
     "AdamW's learning rate over Muon's, beside Muon (default: 1)"},
    {"adamw-weight-decay", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(adamw_weight_decay), "X",
     "(default: that of --weight-decay)"},
    {"beta1", 0, OPTION_SHARE, OPTIMIZER | BITS, FIELD(beta1), "X", "AdamW's (default: 0.9)"},
    {"beta2", 0, OPTION_SHARE, OPTIMIZER | BITS, FIELD(beta2), "X", "AdamW's (default: 0.95)"},
    {"eps", 0, OPTION_NUMBER, OPTIMIZER | BITS, FIELD(eps), "X", "AdamW's (default: 1e-8)"},
    {"placement", 0, OPTION_CHOICE, OPTIMIZER, FIELD(placement), "flat|whole",
     "under mpirun: how the optimizer's state is cut over ranks (default: flat)"},
    {"gather", 0, OPTION_CHOICE, OPTIMIZER | BITS, FIELD(gather), "float32|bf16",
     "under mpirun: how matrices that a cut goes through travel (default: float32)"},

    {"steps", 'n', OPTION_INTEGER, RUN | BITS, FIELD(steps), "N", "steps (default: 300)"},
    {"seed", 's', OPTION_WHOLE, RUN | BITS, FIELD(seed), "N",
     "of the start and the batches (default: 1)"},
    {"out", 'O', OPTION_TEXT, RUN, FIELD(out), "FOLDER",
     "for checkpoints and log.csv (default: runs/MODEL-OPTIMIZER)"},
    {"resume", 0, OPTION_FLAG, RUN, FIELD(resume), NULL,
     "go on with the run in --out, with the same bits as if it had not stopped; its options are "
     "taken from it"},
    {"checkpoint-steps", 0, OPTION_TEXT, RUN | BITS, FIELD(checkpoint_steps), "LIST",
     "after which steps to write a checkpoint, such as 0,10,100; the last is always written "
     "(default: 0, 1, 2, 5, 10, 20, 50, ...)"},
    {"checkpoint-every", 0, OPTION_INTEGER, RUN | BITS, FIELD(checkpoint_every), "N",
     "write one every N steps instead, or beside --checkpoint-steps"},
    {"states", 0, OPTION_CHOICE, RUN | BITS, FIELD(states), "last|all|none",
     "which checkpoints hold the optimizer's state, without which they can't be resumed from "
     "(default: last, the newest)"},
    {"eval-every", 0, OPTION_INTEGER, RUN | BITS, FIELD(eval_every), "N",
     "steps between evaluations on the held-out text (default: a tenth of the run)"},
    {"eval-windows", 0, OPTION_INTEGER, RUN | BITS, FIELD(eval_windows), "N",
     "held-out sequences of an evaluation, at most (default: 64)"},
    {"threads", 't', OPTION_INTEGER, RUN, FIELD(threads), "N",
     "threads (default: one per processor, shared out over ranks); results are the same bits"},

    {"format", 'f', OPTION_CHOICE, OUTPUT, FIELD(format), "table|json",
     "of the summary at the end (default: table)"},
    {"progress", 0, OPTION_CHOICE, OUTPUT, FIELD(progress), "auto|always|never",
     "progress on standard error (default: on a terminal)"},
    {"quiet", 'q', OPTION_FLAG, OUTPUT, FIELD(quiet), NULL, "no messages but errors"},
    {"verbose", 'v', OPTION_COUNTER, OUTPUT, FIELD(verbose), NULL, "a line for every step"},
    {"help", 'h', OPTION_FLAG, OUTPUT, FIELD(help), NULL, "this text"},
    {"version", 0, OPTION_FLAG, OUTPUT, FIELD(version), NULL, "version"},
};

static const option_section sections[] = {{"Model", MODEL}, {"Data", DATA},
                                          {"Optimizer", OPTIMIZER}, {"Run", RUN},
                                          {"Output", OUTPUT}};

static const char notes[] =
    "Into the folder go step-N.h5, the checkpoints (parameters, activations of the\n"
    "held-out text, the newest with the optimizer's state); held_out.txt, the text\n"
    "that evaluations use; and log.csv with one row a step:\n"
    "  step, tokens, lr, loss    loss of the step's own batch, in nats a token\n"
    "  held_out_loss             after the step, where it was evaluated\n"
    "  gradient_norm             of all parameters, before --clip-norm\n"
    "  update_rms, weight_rms    of the hidden matrices: what lr multiplies; the\n"
    "                            weights\n"
    "  output_rms, output_max_abs, max_attention_logit, share_logits_over_100\n"
    "                            on the held-out text, of all layers\n"
    "  expert_load_min, expert_load_max\n"
    "                            tokens of an expert over the mean of its layer\n"
    "  clipped_heads             by --qk-clip\n"
    "  tokens_per_second         of the step\n"
    "  step_seconds, optimizer_seconds\n"
    "                            of the step, and the optimizer's part of it\n"
    "  reduce_seconds, momentum_seconds, gather_seconds, newton_schulz_seconds,\n"
    "  update_seconds, all_gather_seconds\n"
    "                            of the optimizer's; the first, third and last\n"
    "                            between ranks\n"
    "\n"
    "SIGINT, SIGTERM and SIGHUP let the step end and write a checkpoint first. mpirun\n"
    "gives its ranks the time for that with --mca odls_base_sigkill_timeout 60.\n";

const command train_command = {
    .program = "muontrain",
    .summary = "Trains a small language model on the bytes of a text and writes checkpoints",
    .arguments = "",
    .more_usage = "mpirun -n N muontrain [options]",
    .rows = option_rows,
    .count = sizeof option_rows / sizeof *option_rows,
    .verb_bit = ANY,
    .sections = sections,
    .section_count = sizeof sections / sizeof *sections,
    .notes = notes};

void default_options(train_options *o)
{
	*o = (train_options){
	    .hidden = -1, .layers = -1, .heads = -1, .kv_heads = -1, .head_dim = -1, .ffn = -1,
	    .context = -1, .dense_layers = -1, .experts = -1, .shared_experts = -1, .top_k = -1,
	    .expert_ffn = -1, .kv_rank = -1, .nope_dim = -1, .rope_dim = -1, .value_dim = -1,
	    .routed_scale = -1, .rope_theta = -1, .norm_eps = -1, .init_std = -1,
	    .balance_speed = 0.01, .held_out_share = 0.05, .batch = 16, .length = -1,
	    .micro_batches = -1, .schedule = MUON_SCHEDULE_COSINE, .lr = 0.008,
	    .final_lr_ratio = 0.1, .weight_decay = 0.1, .momentum = 0.95, .update_rms = 0.2,
	    .fixed_width = -1, .adamw_lr_ratio = 1, .adamw_weight_decay = -1, .beta1 = 0.9,
	    .beta2 = 0.95, .eps = 1e-8, .clip_norm = -1, .warmup = -1, .decay_steps = -1, .steps = 300, .seed = 1,
	    .eval_every = -1, .eval_windows = 64, .checkpoint_every = -1, .threads = -1};
}

int parse_train_options(train_options *options, int argc, char **argv, muon_error *err)
{
	int code = parse_command(&train_command, options, argc, argv, &options->arguments,
	                         &options->argument_count, err);
	if (!code && !options->help && !options->version)
		code = check_arguments(&train_command, options->arguments, options->argument_count,
		                       err);
	return code;
}

/* ---- the model's sizes --------------------------------------------------------------------- */

/* Where an option's size goes in the configuration, and of which family it is. */
typedef struct size_row {
	const char *option;
	size_t from, to;
	int family; /* -1: both */
} size_row;

#define SIZE(name, family) {#name, FIELD(name), offsetof(mspec_model_config, name), family}

static const size_row sizes[] = {
    SIZE(hidden, -1),
    SIZE(layers, -1),
    SIZE(heads, -1),
    SIZE(kv_heads, MSPEC_FAMILY_LLAMA),
    SIZE(head_dim, MSPEC_FAMILY_LLAMA),
    SIZE(ffn, -1),
    SIZE(context, -1),
    SIZE(dense_layers, MSPEC_FAMILY_DEEPSEEK),
    SIZE(experts, MSPEC_FAMILY_DEEPSEEK),
    SIZE(shared_experts, MSPEC_FAMILY_DEEPSEEK),
    SIZE(top_k, MSPEC_FAMILY_DEEPSEEK),
    SIZE(expert_ffn, MSPEC_FAMILY_DEEPSEEK),
    SIZE(kv_rank, MSPEC_FAMILY_DEEPSEEK),
    SIZE(nope_dim, MSPEC_FAMILY_DEEPSEEK),
    SIZE(rope_dim, MSPEC_FAMILY_DEEPSEEK),
    SIZE(value_dim, MSPEC_FAMILY_DEEPSEEK),
};

static const size_row factors[] = {
    SIZE(rope_theta, -1),
    SIZE(norm_eps, -1),
    SIZE(init_std, -1),
    SIZE(routed_scale, MSPEC_FAMILY_DEEPSEEK),
};

/* The option's name as on the command line. */
static const char *option_name(const size_row *row, char *name, size_t capacity)
{
	snprintf(name, capacity, "--%s", row->option);
	for (char *c = name; *c; c++)
		*c = *c == '_' ? '-' : *c;
	return name;
}

static int unknown_preset(const char *name, muon_error *err)
{
	const char *const *presets = mspec_model_presets();
	size_t count = 0;
	char shown[128];
	while (presets[count])
		count++;
	const char *near = nearest(name, presets, count);
	muon_escape(shown, sizeof shown, name);
	return near ? muon_fail(err, MUON_E_USAGE, NULL, "unknown model '%s'; did you mean '%s'?",
	                        shown, near)
	            : muon_fail(err, MUON_E_USAGE, NULL,
	                        "unknown model '%s'; 'muontrain --help' lists them", shown);
}

/* Options that were given replace the configuration's sizes, and the other way round. */
static int apply_sizes(train_options *o, mspec_model_config *config, muon_error *err)
{
	char name[40];
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int64_t *given = (void *)((char *)o + sizes[i].from);
		int64_t *size = (void *)((char *)config + sizes[i].to);
		bool applies = sizes[i].family < 0 || sizes[i].family == (int)config->family;
		if (*given >= 0 && !applies)
			return muon_fail(err, MUON_E_USAGE, NULL, "%s does not apply to this model",
			                 option_name(&sizes[i], name, sizeof name));
		*size = *given >= 0 ? *given : *size;
		*given = applies ? *size : -1;
	}
	for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
		double *given = (void *)((char *)o + factors[i].from);
		double *size = (void *)((char *)config + factors[i].to);
		bool applies = factors[i].family < 0 || factors[i].family == (int)config->family;
		if (*given >= 0 && !applies)
			return muon_fail(err, MUON_E_USAGE, NULL, "%s does not apply to this model",
			                 option_name(&factors[i], name, sizeof name));
		*size = *given >= 0 ? *given : *size;
		*given = applies ? *size : -1;
	}
	config->tied_head |= o->tied_head;
	o->tied_head = config->tied_head;
	return mspec_model_config_check(config, err);
}

/* Does an option change what --init-from brings? */
static bool changes_sizes(const train_options *o, const mspec_model_config *initial)
{
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int64_t given = *(const int64_t *)((const char *)o + sizes[i].from);
		int64_t size = *(const int64_t *)((const char *)initial + sizes[i].to);
		if (given >= 0 && given != size)
			return true;
	}
	return false;
}

static int resolve_model(train_options *o, const mspec_model_config *initial,
                         mspec_model_config *config, muon_error *err)
{
	if (initial) {
		if (changes_sizes(o, initial))
			return muon_fail(err, MUON_E_USAGE, NULL,
			                 "--init-from brings the model's sizes; leave them out");
		*config = *initial;
	} else {
		o->model = o->model ? o->model : "llama-1m";
		if (mspec_model_preset(config, o->model))
			return unknown_preset(o->model, err);
		bool other_heads = o->hidden >= 0 || o->heads >= 0;
		if (config->family == MSPEC_FAMILY_LLAMA && other_heads) {
			int64_t hidden = o->hidden >= 0 ? o->hidden : config->hidden;
			int64_t heads = o->heads >= 0 ? o->heads : config->heads;
			o->head_dim = o->head_dim >= 0 ? o->head_dim : hidden / heads;
			o->kv_heads = o->kv_heads >= 0 ? o->kv_heads : heads;
		}
	}
	if (config->vocab != 256)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "the model's vocabulary has %lld entries; muontrain learns bytes",
		                 (long long)config->vocab);
	if (config->family == MSPEC_FAMILY_DEEPSEEK)
		config->kv_heads = o->heads >= 0 ? o->heads : config->heads;
	return apply_sizes(o, config, err);
}

/* ---- everything else ----------------------------------------------------------------------- */

/* The largest power of two that is at most x. */
static int64_t power_of_two_within(int64_t x)
{
	int64_t power = 1;
	while (2 * power <= x)
		power *= 2;
	return power;
}

static int64_t or_else(int64_t given, int64_t otherwise)
{
	return given >= 0 ? given : otherwise;
}

static int check_ranges(const train_options *o, const mspec_model_config *config, muon_error *err)
{
	if (o->length > config->context)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "--length is %lld, but the model's context is %lld tokens",
		                 (long long)o->length, (long long)config->context);
	if (o->micro_batches > o->batch || o->batch % o->micro_batches)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "a batch of %lld can't be cut into %lld equal --micro-batches",
		                 (long long)o->batch, (long long)o->micro_batches);
	if (o->warmup > o->steps || o->decay_steps > o->steps)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "--warmup and --decay-steps must be within the run of %lld steps",
		                 (long long)o->steps);
	if (o->momentum >= 1 || o->beta1 >= 1 || o->beta2 >= 1)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "--momentum, --beta1 and --beta2 must be below 1");
	if (!(o->held_out_share > 0) || o->held_out_share >= 1)
		return muon_fail(err, MUON_E_USAGE, NULL,
		                 "--held-out-share must be between 0 and 1");
	return MUON_OK;
}

int resolve_options(train_options *o, const mspec_model_config *initial, mspec_model_config *config,
                    muon_error *err)
{
	int code = resolve_model(o, initial, config, err);
	if (code)
		return code;
	int64_t parts = power_of_two_within(o->batch);
	while (o->batch % parts)
		parts /= 2;
	o->micro_batches = or_else(o->micro_batches, parts < 8 ? parts : 8);
	o->length = or_else(o->length, config->context);
	o->warmup = or_else(o->warmup, o->steps / 20);
	o->decay_steps = or_else(o->decay_steps, o->steps / 5);
	o->eval_every = or_else(o->eval_every, o->steps < 10 ? 1 : o->steps / 10);
	if (o->adamw_weight_decay < 0)
		o->adamw_weight_decay = o->weight_decay;
	if (o->fixed_width < 0)
		o->fixed_width = (double)config->hidden;
	if (o->clip_norm == 0) /* as in runs that are older than the option */
		o->clip_norm = -1;
	o->coefficients = o->coefficients ? o->coefficients : "jordan";
	o->corpus = o->corpus ? o->corpus : "build/corpus/kjv.txt";
	return check_ranges(o, config, err);
}

char *describe_run(const train_options *options)
{
	muon_text text = {0};
	char word[4200];
	for (size_t i = 0; i < train_command.count; i++)
		if ((option_rows[i].verbs & BITS) &&
		    option_word(word, sizeof word, &option_rows[i], options)) {
			muon_text_add_string(&text, word);
			muon_text_add_string(&text, "\n");
		}
	if (text.failed)
		muon_text_release(&text);
	return text.bytes;
}

void print_train_help(FILE *to)
{
	print_command_help(to, &train_command);
	fputs("\n"
	      "Exit status: 0 done, 2 usage, 3 a file cannot be read or written, 4 the training\n"
	      "has diverged, 5 internal error or out of memory.\n",
	      to);
}
