/* The report for people: losses, a line a layer, and with -v heads and matrices. */
#include "forward_output.h"

#include "common/screen.h"

#include "base/text.h"

#include <math.h>
#include <string.h>

static void print_head(const mspec_forward *f, const mspec_checkpoint_info *info,
                       const tool_options *options)
{
	char text[1024], a[32], b[32];
	printf("%s: %s, %s layout", muon_escape(text, sizeof text, info->path), info->format,
	       info->layout);
	if (isfinite(info->step))
		printf(", step %.0f", info->step);
	printf("\n%s parameters, %lld layers of %lld heads, %s\n",
	       grouped_integer(a, sizeof a, f->parameters), (long long)f->layers,
	       (long long)f->heads, f->config->family == MSPEC_FAMILY_LLAMA ? "Llama" : "DeepSeek");
	printf("%s: %s targets in %s window%s of %lld tokens\n",
	       muon_escape(text, sizeof text, options->tokens),
	       grouped_integer(a, sizeof a, f->tokens), grouped_integer(b, sizeof b, f->windows),
	       f->windows == 1 ? "" : "s", (long long)f->length);
}

static void number_cell(screen_table *table, double value)
{
	char text[32];
	table_cell(table, isinf(value) ? "-" : short_number(text, sizeof text, value));
}

/* Print and release; false when out of memory. */
static bool finish_table(screen_table *table, const tool_options *options)
{
	putchar('\n');
	table_print(stdout, table, screen_width(options->width), screen_colors(options->color));
	bool failed = table->failed;
	table_release(table);
	return !failed;
}

static void header(screen_table *table, const char *const *headers)
{
	for (int i = 0; i < table->columns; i++)
		table_cell(table, headers[i]);
}

static bool print_layers(const mspec_forward *f, const tool_options *options)
{
	static const bool left[8] = {true};
	static const char *const headers[] = {"layer",     "output_rms", "max_abs",  "bf16's",
	                                      "max_logit", "bf16's",     "over 100", "bf16_error"};
	screen_table table = {.columns = 8, .left = left};
	header(&table, headers);
	for (int64_t i = 0; i < f->layers; i++) {
		const mspec_forward_layer *l = &f->runs[0].layers[i], *b = &f->runs[1].layers[i];
		char name[32];
		snprintf(name, sizeof name, "%lld", (long long)i);
		table_cell(&table, name);
		number_cell(&table, l->output_rms);
		number_cell(&table, l->output_max_abs);
		number_cell(&table, b->output_max_abs);
		number_cell(&table, l->max_attention_logit);
		number_cell(&table, b->max_attention_logit);
		number_cell(&table, l->share_logits_over_100);
		number_cell(&table, b->bf16_error);
	}
	return finish_table(&table, options);
}

/* Largest attention logits, a line a layer and a column a head. */
static void print_heads(const mspec_forward *f)
{
	char text[32];
	puts("\nLargest attention logits by layer and head:");
	for (int64_t l = 0; l < f->layers; l++) {
		printf("  %-4lld", (long long)l);
		for (int64_t h = 0; h < f->heads; h++)
			printf(" %9s", short_number(text, sizeof text,
			                            f->runs[0].head_max_logits[l * f->heads + h]));
		putchar('\n');
	}
}

static bool print_matrices(const mspec_forward *f, const tool_options *options)
{
	static const bool left[5] = {true};
	static const char *const headers[] = {"matrix", "output_rms", "bf16's", "max_abs",
	                                      "bf16's"};
	screen_table table = {.columns = 5, .left = left};
	header(&table, headers);
	for (int64_t i = 0; i < f->matrices; i++) {
		const mspec_forward_matrix *m = &f->runs[0].matrices[i],
					   *b = &f->runs[1].matrices[i];
		char name[1024];
		table_cell(&table, muon_escape(name, sizeof name, m->name));
		number_cell(&table, m->output_rms);
		number_cell(&table, b->output_rms);
		number_cell(&table, m->output_max_abs);
		number_cell(&table, b->output_max_abs);
	}
	return finish_table(&table, options);
}

static void print_losses(const mspec_forward *f)
{
	const mspec_forward_run *plain = &f->runs[0], *rounded = &f->runs[1];
	char error[32];
	printf("\nloss %.6f nats a token in float32, %.6f in bf16; logits differ by up to %s\n",
	       plain->loss, rounded->loss,
	       short_number(error, sizeof error, rounded->logits_error));
	for (int64_t i = 0; i < f->layers; i++)
		if (!isfinite(plain->layers[i].output_rms)) {
			printf("Outputs are not finite from layer %lld on.\n", (long long)i);
			return;
		}
}

int forward_table(const mspec_forward *f, const mspec_checkpoint_info *checkpoint,
                  const tool_options *options, muon_error *err)
{
	print_head(f, checkpoint, options);
	print_losses(f);
	bool ok = print_layers(f, options);
	if (ok && options->verbose) {
		print_heads(f);
		ok = print_matrices(f, options);
		printf("\n%.2f s, %d threads\n", f->seconds, f->threads);
	}
	return ok ? MUON_OK : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}
