/* In long form: a line a value. */
#include "forward_output.h"

#include "common/csv_output.h"

/* What a value belongs to. */
typedef struct place {
	const mspec_forward_run *run;
	const char *name;    /* "", "layers.3", or a matrix */
	int64_t layer, head; /* -1: none */
} place;

static void print_index(int64_t index)
{
	if (index < 0)
		csv_text(NULL);
	else
		csv_integer(index);
}

/* The first failure stays in *code. */
static void print_value(const place *at, const char *metric, double value, int *code,
                        muon_error *err)
{
	if (*code)
		return;
	csv_text(forward_arithmetic(at->run));
	csv_text(at->name);
	print_index(at->layer);
	print_index(at->head);
	csv_text(metric);
	csv_number(value);
	*code = csv_end(err);
}

static void print_layer(const mspec_forward *f, place at, int *code, muon_error *err)
{
	const mspec_forward_layer *l = &at.run->layers[at.layer];
	char name[32];
	snprintf(name, sizeof name, "layers.%lld", (long long)at.layer);
	at.name = name;
	print_value(&at, "output_rms", l->output_rms, code, err);
	print_value(&at, "output_max_abs", l->output_max_abs, code, err);
	print_value(&at, "max_attention_logit", l->max_attention_logit, code, err);
	print_value(&at, "share_logits_over_100", l->share_logits_over_100, code, err);
	print_value(&at, "bf16_error", l->bf16_error, code, err);
	for (at.head = 0; at.head < f->heads; at.head++)
		print_value(&at, "max_attention_logit",
		            at.run->head_max_logits[at.layer * f->heads + at.head], code, err);
}

int forward_csv(const mspec_forward *f, muon_error *err)
{
	int code = MUON_OK;
	puts("arithmetic,name,layer,head,metric,value");
	for (int r = 0; r < 2; r++) {
		const mspec_forward_run *run = &f->runs[r];
		const place whole = {run, NULL, -1, -1};
		print_value(&whole, "loss", run->loss, &code, err);
		print_value(&whole, "logits_error", run->logits_error, &code, err);
		for (int64_t l = 0; l < f->layers; l++)
			print_layer(f, (place){run, NULL, l, -1}, &code, err);
		for (int64_t m = 0; m < f->matrices; m++) {
			const mspec_forward_matrix *matrix = &run->matrices[m];
			const place at = {run, matrix->name, -1, -1};
			print_value(&at, "output_rms", matrix->output_rms, &code, err);
			print_value(&at, "output_max_abs", matrix->output_max_abs, &code, err);
		}
	}
	return code;
}
