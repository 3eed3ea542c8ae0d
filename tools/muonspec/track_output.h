/* A tracked run in each output format, to standard output. */
#ifndef MUONSPEC_TOOL_TRACK_OUTPUT_H
#define MUONSPEC_TOOL_TRACK_OUTPUT_H

#include "options.h"

#include <muonspec/run.h>

/* What a series recorded_output_rms_ratio means: one line. */
extern const char track_ratio_note[];

/* Is it such a series? */
bool is_ratio_series(const mspec_series *series);

int track_table(const mspec_track *track, const tool_options *options, muon_error *err);
int track_json(const mspec_track *track, const tool_options *options, muon_error *err);
/* Only values of steps above `after`, and without the head unless `after` is negative: what --watch
 * has to add. */
int track_jsonl(const mspec_track *track, const tool_options *options, double after,
                muon_error *err);
int track_csv(const mspec_track *track, double after, muon_error *err);

#endif
