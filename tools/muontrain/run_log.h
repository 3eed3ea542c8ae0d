/* log.csv: one row a step. */
#ifndef MUONTRAIN_RUN_LOG_H
#define MUONTRAIN_RUN_LOG_H

#include <muon/error.h>

#include <stdint.h>
#include <stdio.h>

/* Column, and its field in log_row. NaN is an empty cell. */
#define LOG_COLUMNS(X)                                                                             \
	X(tokens) X(lr) X(loss) X(held_out_loss) X(gradient_norm) X(update_rms) X(weight_rms)      \
	X(output_rms) X(output_max_abs) X(max_attention_logit) X(share_logits_over_100)            \
	X(expert_load_min) X(expert_load_max) X(tokens_per_second) X(step_seconds)                 \
	X(optimizer_seconds) X(reduce_seconds) X(momentum_seconds) X(gather_seconds)               \
	X(newton_schulz_seconds) X(update_seconds) X(all_gather_seconds) X(clipped_heads)

#define LOG_FIELD(name) double name;
typedef struct log_row {
	int64_t step;
	LOG_COLUMNS(LOG_FIELD)
} log_row;
#undef LOG_FIELD

typedef struct run_log {
	FILE *file;
	char *path;
} run_log;

/* Begin a log, or go on with the one that is there: rows behind `step` are cut off. Only one process
 * at a time may have it. MUON_E_WRITE, MUON_E_READ, MUON_E_FORMAT. */
int run_log_create(run_log *log, const char *path, muon_error *err);
int run_log_continue(run_log *log, const char *path, int64_t step, muon_error *err);

void log_row_clear(log_row *row, int64_t step); /* every cell empty */
int run_log_write(run_log *log, const log_row *row, muon_error *err);
/* Everything is on the disk after this. */
int run_log_flush(run_log *log, muon_error *err);
void run_log_close(run_log *log);

#endif
