/* What the kinds of fits have in common. */
#include "fit.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fit_wrong(fit_context *c, const char *what)
{
	char shown[128];
	muon_escape(shown, sizeof shown, c->name);
	return muon_fail(c->err, MUON_E_USAGE, c->plan->path, "fit '%s': %s", shown, what);
}

int fit_no_memory(fit_context *c)
{
	return muon_fail(c->err, MUON_E_MEMORY, NULL, "out of memory");
}

const char *fit_text(fit_context *c, const char *key, const char *otherwise)
{
	const json_t *value = json_object_get(c->fit, key);
	char what[100];
	if (json_is_string(value))
		return json_string_value(value);
	if (!value && otherwise)
		return otherwise;
	snprintf(what, sizeof what, "'%s' must be a string", key);
	fit_wrong(c, what);
	return NULL;
}

const char **fit_list(fit_context *c, const char *key, size_t *count)
{
	const json_t *value = json_object_get(c->fit, key);
	char what[100];
	*count = json_array_size(value);
	const char **list = muon_arena_alloc(&c->memory, *count + 1, sizeof *list);
	if (!list) {
		fit_no_memory(c);
		return NULL;
	}
	bool good = !value || json_is_array(value);
	for (size_t i = 0; i < *count && good; i++) {
		list[i] = json_string_value(json_array_get(value, i));
		good = list[i] != NULL;
	}
	if (good)
		return list;
	snprintf(what, sizeof what, "'%s' must be a list of strings", key);
	fit_wrong(c, what);
	return NULL;
}

/* ---- runs -------------------------------------------------------------------------------- */

bool fit_counts(const fit_context *c, const lab_run *run)
{
	return run->stage == c->stage && run->state == LAB_DONE && !run->diverged;
}

const char *fit_label(const lab_run *run, const char *axis)
{
	size_t at = lab_stage_axis(run->stage, axis);
	return at < run->stage->axis_count ? run->labels[at] : NULL;
}

const char *fit_item(fit_context *c, const lab_run *run, const char *const *by, size_t count)
{
	const char *item = count ? fit_label(run, by[0]) : "all";
	for (size_t i = 1; i < count && item; i++)
		item = muon_arena_format(&c->memory, "%s/%s", item, fit_label(run, by[i]));
	return item;
}

const char **fit_items(fit_context *c, const char *const *by, size_t by_count, size_t *count)
{
	const char **items = muon_arena_alloc(&c->memory, c->grid->count + 1, sizeof *items);
	*count = 0;
	for (size_t i = 0; i < c->grid->count && items; i++) {
		const lab_run *run = &c->grid->runs[i];
		if (!fit_counts(c, run))
			continue;
		const char *item = fit_item(c, run, by, by_count);
		size_t k = 0;
		while (item && k < *count && strcmp(items[k], item))
			k++;
		if (!item)
			return NULL;
		if (k == *count)
			items[(*count)++] = item;
	}
	return items;
}

const lab_run *fit_partner(const fit_context *c, const lab_run *run, const char *axis,
                           const char *b)
{
	for (size_t i = 0; i < c->grid->count; i++) {
		const lab_run *other = &c->grid->runs[i];
		bool same = fit_counts(c, other);
		for (size_t k = 0; k < c->stage->axis_count && same; k++) {
			const char *wanted =
			    strcmp(c->stage->axes[k].name, axis) ? run->labels[k] : b;
			same = !strcmp(other->labels[k], wanted);
		}
		if (same)
			return other;
	}
	return NULL;
}

int fit_check_axes(fit_context *c, const char *const *names, size_t count)
{
	char what[200], shown[100];
	for (size_t i = 0; i < count; i++)
		if (lab_stage_axis(c->stage, names[i]) == c->stage->axis_count) {
			snprintf(what, sizeof what, "stage %s has no axis '%s'", c->stage->name,
			         muon_escape(shown, sizeof shown, names[i]));
			return fit_wrong(c, what);
		}
	return MUON_OK;
}

/* ---- results ----------------------------------------------------------------------------- */

muon_interval fit_plain(double value)
{
	return (muon_interval){value, NAN, NAN};
}

static bool set_rounded(csv_table *table, size_t row, const char *column, double value)
{
	char text[40] = "";
	if (!isnan(value))
		snprintf(text, sizeof text, "%.6g", value);
	return csv_table_set(table, row, column, text);
}

bool fit_add(fit_context *c, const char *item, const char *quantity, muon_interval value,
             size_t count)
{
	size_t row = csv_table_add_row(&c->rows);
	return row != SIZE_MAX && csv_table_set(&c->rows, row, "fit", c->name) &&
	       csv_table_set(&c->rows, row, "item", item) &&
	       csv_table_set(&c->rows, row, "quantity", quantity) &&
	       set_rounded(&c->rows, row, "value", value.value) &&
	       set_rounded(&c->rows, row, "low", value.low) &&
	       set_rounded(&c->rows, row, "high", value.high) &&
	       csv_table_set_number(&c->rows, row, "count", (double)count);
}

/* ---- points ------------------------------------------------------------------------------ */

void fit_point_add(fit_points *points, double x, double y)
{
	if (isnan(x) || isnan(y) || points->failed)
		return;
	if (points->count == points->capacity) {
		size_t capacity = points->capacity ? 2 * points->capacity : 256;
		struct fit_point *items = muon_resize(points->items, capacity, sizeof *items);
		points->failed = !items;
		if (!items)
			return;
		points->items = items;
		points->capacity = capacity;
	}
	points->items[points->count++] = (struct fit_point){x, y};
}

static int compare_points(const void *a, const void *b)
{
	const struct fit_point *p = a, *q = b;
	if (p->x != q->x)
		return p->x < q->x ? -1 : 1;
	return (p->y > q->y) - (p->y < q->y);
}

void fit_block(fit_context *c, fit_points *points, const char *format, ...)
{
	char name[300];
	va_list args;
	va_start(args, format);
	vsnprintf(name, sizeof name, format, args);
	va_end(args);
	c->figures.failed |= points->failed;
	if (!points->count)
		return;
	qsort(points->items, points->count, sizeof *points->items, compare_points);
	muon_text_format(&c->figures, "# %s\n", name);
	for (size_t i = 0, next; i < points->count; i = next) {
		double sum = 0;
		for (next = i; next < points->count && points->items[next].x == points->items[i].x;
		     next++)
			sum += points->items[next].y;
		muon_text_format(&c->figures, "%.8g %.6g %.6g %.6g\n", points->items[i].x,
		                 sum / (double)(next - i), points->items[i].y,
		                 points->items[next - 1].y);
	}
	muon_text_add_string(&c->figures, "\n\n");
}

void fit_points_release(fit_points *points)
{
	muon_free(points->items);
	*points = (fit_points){0};
}
