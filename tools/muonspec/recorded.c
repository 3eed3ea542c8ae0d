#include "recorded.h"

#include <math.h>
#include <string.h>

static const char recorded_prefix[] = "recorded_", forward_prefix[] = "forward_";

static bool is_activation(const mspec_series *s)
{
	return s->kind == MSPEC_SERIES_LAYER || s->kind == MSPEC_SERIES_FORWARD;
}

/* The name without where it comes from. */
static const char *bare_name(const char *metric)
{
	if (!strncmp(metric, recorded_prefix, strlen(recorded_prefix)))
		return metric + strlen(recorded_prefix);
	if (!strncmp(metric, forward_prefix, strlen(forward_prefix)))
		return metric + strlen(forward_prefix);
	return metric;
}

static void take(recorded_statistics *r, const mspec_series *s)
{
	const char *name = bare_name(s->metric);
	if (!strcmp(name, "head_max_logits")) /* max_attention_logit, head by head */
		return;
	for (int i = 0; i < r->count; i++)
		if (!strcmp(bare_name(r->metrics[i]), name))
			return;
	if (r->count < MOST_STATISTICS)
		r->metrics[r->count++] = s->metric;
}

static void take_tracks(recorded_statistics *r, const subject *s, mspec_series_kind kind)
{
	for (int side = 0; side < s->side_count; side++) {
		const mspec_track *t = subject_track(s, side);
		for (size_t i = 0; t && i < t->series_count; i++)
			if (t->series[i].kind == kind)
				take(r, &t->series[i]);
	}
}

recorded_statistics recorded_of(const subject *s)
{
	recorded_statistics r = {.count = 0};
	take_tracks(&r, s, MSPEC_SERIES_LAYER);
	take_tracks(&r, s, MSPEC_SERIES_FORWARD);
	return r;
}

bool is_recorded_series(const recorded_statistics *r, const mspec_series *series)
{
	for (int i = 0; i < r->count && is_activation(series); i++)
		if (!strcmp(r->metrics[i], series->metric))
			return true;
	return false;
}

const char *recorded_words(const char *metric)
{
	static const char *const words[][2] = {
	    {"output_rms", "output RMS"},
	    {"output_max_abs", "largest activation"},
	    {"max_attention_logit", "largest attention logit"},
	    {"share_logits_over_100", "share of logits over 100"},
	    {"bf16_error", "error of bf16"},
	    {"loss", "loss"}};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcmp(words[i][0], bare_name(metric)))
			return words[i][1];
	return metric;
}

static double value_at(const mspec_series *s, double step)
{
	for (size_t k = 0; k < s->count; k++)
		if (s->steps[k] == step)
			return s->values[k];
	return NAN;
}

recorded_range recorded_at(const mspec_track *track, const char *metric, double step)
{
	recorded_range r = {.low = INFINITY, .high = -INFINITY};
	double sum = 0;
	for (size_t i = 0; i < track->series_count; i++) {
		const mspec_series *s = &track->series[i];
		if (!is_activation(s) || strcmp(s->metric, metric))
			continue;
		double value = value_at(s, step);
		if (!isfinite(value))
			continue;
		r.count++;
		sum += value;
		r.low = fmin(r.low, value);
		if (value > r.high) {
			r.high = value;
			r.highest = s->name;
		}
	}
	r.mean = r.count ? sum / (double)r.count : NAN;
	return r;
}
