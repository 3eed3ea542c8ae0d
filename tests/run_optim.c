/* Runs an optimizer on numbers from files, for optim_torch.py.
 *
 *     run_optim IN OUT KEY=VALUE... -- NAME DTYPE HEADS SPLITS DIMS...
 *
 * Keys: steps, lr, momentum, ema, nesterov, weight_decay, scale, update_rms, coefficients,
 * ns_steps, router (1: AdamW), all_adamw, ratio, beta1, beta2, eps, clip_norm. A parameter
 * is its name, f32, bf16 or f64, the number of heads, splits (3,4,5 or -) and dims (4,6). IN: all
 * values, then all gradients step by step, as float64. OUT: all values at the end, as float64. */
#include <muon/optim.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32 };

typedef struct job {
	muon_options options;
	int steps;
	double lr;
	muon_parameter parameters[MOST];
	void *gradients[MOST]; /* what parameters[].gradient points to */
	int64_t splits[MOST][MUON_MAX_RANK];
	size_t count;
} job;

static void demand(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "run_optim: %s\n", what);
	exit(1);
}

/* ---- the command line ----------------------------------------------------------------------- */

static void set(job *j, const char *setting)
{
	muon_options *o = &j->options;
	const char *text = strchr(setting, '=');
	demand(text, setting);
	const double value = atof(++text);
	const int choice = (int)value;
#define KEY(name, statement)                                                                       \
	if (!strncmp(setting, name "=", sizeof name)) {                                            \
		statement;                                                                         \
		return;                                                                            \
	}
	KEY("steps", j->steps = choice)
	KEY("lr", j->lr = value)
	KEY("momentum", o->momentum = value)
	KEY("ema", o->momentum_kind = choice ? MUON_MOMENTUM_EMA : MUON_MOMENTUM_CLASSICAL)
	KEY("nesterov", o->nesterov = choice)
	KEY("weight_decay", o->weight_decay = o->adamw_weight_decay = value)
	KEY("scale", o->scale = (muon_scale)choice)
	KEY("update_rms", o->update_rms = value)
	KEY("coefficients", o->coefficients = text)
	KEY("ns_steps", o->ns_steps = choice)
	KEY("router", o->router = choice ? MUON_RULE_ADAMW : MUON_RULE_MUON)
	KEY("all_adamw", o->all_adamw = choice)
	KEY("ratio", o->adamw_lr_ratio = value)
	KEY("beta1", o->beta1 = value)
	KEY("beta2", o->beta2 = value)
	KEY("eps", o->eps = value)
	KEY("clip_norm", o->clip_norm = value)
#undef KEY
	demand(false, setting);
}

static int numbers(const char *text, int64_t *to)
{
	int count = 0;
	char *end;
	while (count < MUON_MAX_RANK) {
		to[count++] = strtoll(text, &end, 10);
		if (*end != ',')
			break;
		text = end + 1;
	}
	return count;
}

static int64_t elements(const muon_parameter *p)
{
	int64_t n = 1;
	for (int i = 0; i < p->rank; i++)
		n *= p->dims[i];
	return n;
}

static void add_parameter(job *j, char **words)
{
	demand(j->count < MOST, "too many parameters");
	const size_t k = j->count++;
	muon_parameter *p = &j->parameters[k];
	p->name = words[0];
	p->dtype = !strcmp(words[1], "bf16")  ? MUON_BF16
		   : !strcmp(words[1], "f64") ? MUON_F64
					      : MUON_F32;
	p->gradient_dtype = p->dtype;
	p->heads = atoi(words[2]);
	if (strcmp(words[3], "-")) {
		p->split_count = numbers(words[3], j->splits[k]);
		p->splits = j->splits[k];
	}
	p->rank = numbers(words[4], p->dims);
	const size_t bytes = (size_t)elements(p) * muon_dtype_size(p->dtype);
	p->values = calloc(bytes, 1);
	p->gradient = j->gradients[k] = calloc(bytes, 1);
	demand(p->values && p->gradient, "out of memory");
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void store(muon_dtype dtype, void *entries, int64_t i, double x)
{
	float f = (float)x;
	uint32_t bits;
	memcpy(&bits, &f, sizeof bits);
	if (dtype == MUON_F64)
		((double *)entries)[i] = x;
	else if (dtype == MUON_F32)
		((float *)entries)[i] = f;
	else
		((uint16_t *)entries)[i] = (uint16_t)(bits >> 16); /* given in bf16 already */
}

static void read_entries(FILE *in, const muon_parameter *p, void *entries)
{
	for (int64_t i = 0; i < elements(p); i++) {
		double x;
		demand(fread(&x, sizeof x, 1, in) == 1, "IN is too short");
		store(p->dtype, entries, i, x);
	}
}

static void write_values(FILE *out, const muon_parameter *p)
{
	for (int64_t i = 0; i < elements(p); i++) {
		double x;
		const char *from = (const char *)p->values + (size_t)i * muon_dtype_size(p->dtype);
		muon_convert_f64(p->dtype, from, 1, &x);
		demand(fwrite(&x, sizeof x, 1, out) == 1, "OUT can't be written");
	}
}

static void run(job *j, FILE *in, FILE *out)
{
	muon_optimizer *o;
	muon_error err = {0};
	for (size_t k = 0; k < j->count; k++)
		read_entries(in, &j->parameters[k], j->parameters[k].values);
	demand(!muon_optimizer_create(&o, &j->options, j->parameters, j->count, &err), err.message);
	for (int t = 0; t < j->steps; t++) {
		for (size_t k = 0; k < j->count; k++)
			read_entries(in, &j->parameters[k], j->gradients[k]);
		demand(!muon_optimizer_step(o, j->lr, &err), err.message);
	}
	for (size_t k = 0; k < j->count; k++)
		write_values(out, &j->parameters[k]);
	muon_optimizer_destroy(&o);
}

int main(int argc, char **argv)
{
	static job j = {.options = MUON_OPTIONS_INIT};
	int i = 3;
	demand(argc > 4, "usage: run_optim IN OUT KEY=VALUE... -- NAME DTYPE HEADS SPLITS DIMS...");
	for (; i < argc && strcmp(argv[i], "--"); i++)
		set(&j, argv[i]);
	for (i++; i + 5 <= argc; i += 5)
		add_parameter(&j, argv + i);
	FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
	demand(in && out, "IN or OUT can't be opened");
	run(&j, in, out);
	fclose(in);
	demand(!fclose(out), "OUT can't be written");
	for (size_t k = 0; k < j.count; k++) {
		free(j.parameters[k].values);
		free(j.gradients[k]);
	}
	return 0;
}
