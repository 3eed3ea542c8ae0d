#include "plan.h"

#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AXES = 8, MOST_VALUES = 256, MOST_STAGES = 32, MOST_PLAN_BYTES = 1 << 20 };

/* Where we are, for messages: the file and the place in it, "stages[1].axes[0]". */
typedef struct reading {
	lab_plan *plan;
	json_t *scale_rules;
	double scale;
	const char *stage; /* of the place, or NULL */
	muon_error *err;
} reading;

static int no_memory(muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}

/* The plan is wrong at `place`, in the stage being read. */
static int wrong(reading *r, const char *place, const char *what)
{
	char shown[128], stage[160] = "", name[100];
	muon_escape(shown, sizeof shown, place);
	if (r->stage) {
		muon_escape(name, sizeof name, r->stage);
		snprintf(stage, sizeof stage, "stage '%s': ", name);
	}
	return muon_fail(r->err, MUON_E_USAGE, r->plan->path, "%s%s %s", stage, shown, what);
}

/* ---- words ------------------------------------------------------------------------------- */

/* Names become parts of folder names. */
static bool is_word(const char *text)
{
	size_t length = strlen(text);
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("._+-", text[i]))
			return false;
	return length > 0 && length <= 60 && isalnum((unsigned char)*text);
}

static int read_word(reading *r, const json_t *object, const char *key, const char **word)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_string(value) || !is_word(json_string_value(value)))
		return wrong(r, key, "must be a word of letters, digits and . _ + -");
	*word = json_string_value(value);
	return MUON_OK;
}

/* Unknown keys are mistakes: a misspelt one would change the experiment in silence. */
static int check_keys(reading *r, json_t *object, const char *place, const char *allowed)
{
	const char *key;
	json_t *value;
	if (!json_is_object(object))
		return wrong(r, place, "must be an object");
	json_object_foreach(object, key, value) {
		char padded[100];
		snprintf(padded, sizeof padded, " %s ", key);
		if (!strstr(allowed, padded))
			return wrong(r, key, "is not a key of a plan here");
	}
	return MUON_OK;
}

/* ---- options ----------------------------------------------------------------------------- */

const lab_option *lab_options_find(const lab_options *options, const char *name)
{
	for (size_t i = 0; i < options->count; i++)
		if (!strcmp(options->items[i].name, name))
			return &options->items[i];
	return NULL;
}

bool lab_options_set(lab_options *options, muon_arena *memory, const char *name, const char *value)
{
	size_t place = 0;
	while (place < options->count && strcmp(options->items[place].name, name) < 0)
		place++;
	bool there = place < options->count && !strcmp(options->items[place].name, name);
	lab_option *items = muon_arena_alloc(memory, options->count + 1, sizeof *items);
	if (!items)
		return false;
	if (options->count)
		memcpy(items, options->items, options->count * sizeof *items);
	if (!there)
		memmove(items + place + 1, items + place,
		        (options->count++ - place) * sizeof *items);
	items[place] = (lab_option){name, value};
	options->items = items;
	return true;
}

/* The shortest text that reads back as the number. */
static const char *number_text(muon_arena *memory, double value)
{
	char text[40];
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	if (value == floor(value) && fabs(value) < 1e15)
		snprintf(text, sizeof text, "%.0f", value);
	return muon_arena_string(memory, text);
}

static double scaled(const reading *r, const char *name, double value)
{
	const json_t *rule = json_object_get(r->scale_rules, name);
	if (!rule || r->scale == 1)
		return value;
	double multiple = json_number_value(json_object_get(rule, "multiple"));
	double larger = value * pow(r->scale, json_number_value(json_object_get(rule, "power")));
	if (value != floor(value))
		return larger;
	multiple = multiple >= 1 ? multiple : 1;
	return fmax(multiple, multiple * floor(larger / multiple + 0.5));
}

/* The text of a string or number; NULL when out of memory. */
static const char *option_text(reading *r, const char *name, const json_t *value)
{
	muon_arena *memory = &r->plan->memory;
	if (json_is_string(value))
		return json_string_value(value);
	return number_text(memory, scaled(r, name, json_number_value(value)));
}

static int set_option(reading *r, lab_options *options, const char *name, const json_t *value)
{
	if (!is_word(name))
		return wrong(r, name, "is not the name of an option");
	if (!json_is_string(value) && !json_is_number(value) && !json_is_true(value))
		return wrong(r, name, "must be a number, a string or true");
	const char *text = json_is_true(value) ? NULL : option_text(r, name, value);
	if ((!text && !json_is_true(value)) ||
	    !lab_options_set(options, &r->plan->memory, name, text))
		return no_memory(r->err);
	return MUON_OK;
}

static int read_options(reading *r, json_t *object, lab_options *options)
{
	const char *name;
	json_t *value;
	if (!object)
		return MUON_OK;
	if (!json_is_object(object))
		return wrong(r, "options", "must be an object");
	json_object_foreach(object, name, value) {
		int code = set_option(r, options, name, value);
		if (code)
			return code;
	}
	return MUON_OK;
}

/* ---- axes -------------------------------------------------------------------------------- */

static int read_plain_value(reading *r, const char *axis, const json_t *from, lab_axis_value *value)
{
	int code = set_option(r, &value->options, axis, from);
	if (code)
		return code;
	value->label = value->options.items[0].value;
	return value->label && is_word(value->label)
	           ? MUON_OK
	           : wrong(r, axis, "has a value that is no word: give it a label");
}

static int read_axis_value(reading *r, const char *axis, json_t *from, lab_axis_value *value)
{
	if (!json_is_object(from))
		return read_plain_value(r, axis, from, value);
	int code = check_keys(r, from, axis, " label options ");
	if (!code)
		code = read_word(r, from, "label", &value->label);
	return code ? code : read_options(r, json_object_get(from, "options"), &value->options);
}

static int read_axis(reading *r, json_t *from, lab_axis *axis)
{
	int code = check_keys(r, from, "axes", " name values ");
	if (!code)
		code = read_word(r, from, "name", &axis->name);
	if (code)
		return code;
	const json_t *values = json_object_get(from, "values");
	axis->count = json_array_size(values);
	if (!axis->count || axis->count > MOST_VALUES)
		return wrong(r, axis->name, "must have a list of 1 to 256 values");
	axis->values = muon_arena_alloc(&r->plan->memory, axis->count, sizeof *axis->values);
	if (!axis->values)
		return no_memory(r->err);
	for (size_t i = 0; i < axis->count && !code; i++) {
		code = read_axis_value(r, axis->name, json_array_get(values, i), &axis->values[i]);
		for (size_t k = 0; k < i && !code; k++)
			if (!strcmp(axis->values[k].label, axis->values[i].label))
				code = wrong(r, axis->name, "has the same label twice");
	}
	return code;
}

size_t lab_stage_axis(const lab_stage *stage, const char *name)
{
	size_t i = 0;
	while (i < stage->axis_count && strcmp(stage->axes[i].name, name))
		i++;
	return i;
}

static int read_axes(reading *r, const json_t *from, lab_stage *stage)
{
	size_t count = json_array_size(from);
	if (from && (!json_is_array(from) || count > MOST_AXES))
		return wrong(r, "axes", "must be a list of at most 8 axes");
	stage->axes = muon_arena_alloc(&r->plan->memory, count + 1, sizeof *stage->axes);
	if (!stage->axes)
		return no_memory(r->err);
	for (size_t i = 0; i < count; i++) {
		int code = read_axis(r, json_array_get(from, i), &stage->axes[i]);
		if (code)
			return code;
		if (lab_stage_axis(stage, stage->axes[i].name) < stage->axis_count)
			return wrong(r, stage->axes[i].name, "is an axis twice");
		stage->axis_count++;
	}
	return MUON_OK;
}

/* ---- references -------------------------------------------------------------------------- */

const lab_stage *lab_plan_stage(const lab_plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->stage_count; i++)
		if (!strcmp(plan->stages[i].name, name))
			return &plan->stages[i];
	return NULL;
}

static int add_match(reading *r, const lab_stage *stage, lab_reference *to, const char *theirs,
                     const json_t *ours)
{
	const lab_stage *from = lab_plan_stage(r->plan, to->stage);
	const char *name = json_string_value(ours);
	if (!name || lab_stage_axis(stage, name) == stage->axis_count)
		return wrong(r, theirs, "of match: this stage has no such axis");
	if (lab_stage_axis(from, theirs) == from->axis_count)
		return wrong(r, theirs, "of match: the stage referred to has no such axis");
	to->theirs[to->count] = theirs;
	to->ours[to->count++] = name;
	return MUON_OK;
}

static int read_match(reading *r, const lab_stage *stage, json_t *match, lab_reference *to)
{
	size_t count = json_is_object(match) ? json_object_size(match) : json_array_size(match);
	to->theirs = muon_arena_alloc(&r->plan->memory, count + 1, sizeof *to->theirs);
	to->ours = muon_arena_alloc(&r->plan->memory, count + 1, sizeof *to->ours);
	if (!to->theirs || !to->ours)
		return no_memory(r->err);
	const char *key;
	json_t *value;
	int code = MUON_OK;
	json_object_foreach(match, key, value)
		if (!code)
			code = add_match(r, stage, to, key, value);
	if (json_is_array(match))
		for (size_t i = 0; i < count && !code; i++) {
			value = json_array_get(match, i);
			code = json_is_string(value)
			           ? add_match(r, stage, to, json_string_value(value), value)
			           : wrong(r, "match", "must hold names of axes");
		}
	return code;
}

static int read_reference(reading *r, const lab_stage *stage, const char *key, json_t *from,
                          bool best, lab_reference *to)
{
	if (!from)
		return MUON_OK;
	int code = check_keys(r, from, key, best ? " stage match option metric " : " stage match ");
	if (!code)
		code = read_word(r, from, "stage", &to->stage);
	if (!code && best)
		code = read_word(r, from, "option", &to->option);
	to->metric = "held_out_loss";
	if (!code && json_object_get(from, "metric"))
		code = read_word(r, from, "metric", &to->metric);
	if (!code && !lab_plan_stage(r->plan, to->stage))
		code = wrong(r, key, "must refer to an earlier stage");
	return code ? code : read_match(r, stage, json_object_get(from, "match"), to);
}

/* ---- stages ------------------------------------------------------------------------------ */

static int read_spectra(reading *r, const json_t *from, lab_stage *stage)
{
	if (!from)
		return MUON_OK;
	stage->spectra_count = json_array_size(from);
	stage->spectra = muon_arena_alloc(&r->plan->memory, stage->spectra_count + 1,
	                                  sizeof *stage->spectra);
	if (!stage->spectra)
		return no_memory(r->err);
	for (size_t i = 0; i < stage->spectra_count; i++) {
		const char *name = json_string_value(json_array_get(from, i));
		if (!name || !is_word(name))
			return wrong(r, "spectra", "must be a list of metrics");
		stage->spectra[i] = name;
	}
	return stage->spectra_count ? MUON_OK : wrong(r, "spectra", "must be a list of metrics");
}

/* Does the axis have the label? */
static bool has_label(const lab_stage *stage, const char *axis, const char *label)
{
	size_t at = lab_stage_axis(stage, axis);
	for (size_t i = 0; at < stage->axis_count && i < stage->axes[at].count; i++)
		if (!strcmp(stage->axes[at].values[i].label, label))
			return true;
	return false;
}

static int read_except(reading *r, const json_t *from, lab_stage *stage)
{
	if (from && !json_is_array(from))
		return wrong(r, "except", "must be a list of objects");
	for (size_t i = 0; i < json_array_size(from); i++) {
		json_t *hole = json_array_get(from, i), *label;
		const char *axis;
		if (!json_object_size(hole))
			return wrong(r, "except", "must hold objects of axes and labels");
		json_object_foreach(hole, axis, label)
			if (!json_is_string(label) ||
			    !has_label(stage, axis, json_string_value(label)))
				return wrong(r, axis, "of except: no such axis or label");
	}
	stage->except = from;
	return MUON_OK;
}

static int read_ranks(reading *r, const json_t *ranks, lab_stage *stage)
{
	if (!ranks)
		return MUON_OK;
	return json_is_integer(ranks) && json_integer_value(ranks) > 0
	           ? set_option(r, &stage->options, "ranks", ranks)
	           : wrong(r, "ranks", "must be a whole number from 1");
}

static int read_stage(reading *r, json_t *from, lab_stage *stage)
{
	int code = check_keys(r, from, "stages",
	                      " name options axes except best start spectra ranks ");
	if (!code)
		code = read_word(r, from, "name", &stage->name);
	if (code)
		return code;
	r->stage = stage->name;
	if (lab_plan_stage(r->plan, stage->name))
		return wrong(r, "name", "is that of another stage");
	code = read_options(r, json_object_get(r->plan->root, "options"), &stage->options);
	if (!code)
		code = read_options(r, json_object_get(from, "options"), &stage->options);
	if (!code)
		code = read_ranks(r, json_object_get(from, "ranks"), stage);
	if (!code)
		code = read_axes(r, json_object_get(from, "axes"), stage);
	if (!code)
		code = read_except(r, json_object_get(from, "except"), stage);
	if (!code)
		code = read_reference(r, stage, "best", json_object_get(from, "best"), true,
		                      &stage->best);
	if (!code)
		code = read_reference(r, stage, "start", json_object_get(from, "start"), false,
		                      &stage->start);
	if (!code)
		code = read_spectra(r, json_object_get(from, "spectra"), stage);
	r->stage = NULL;
	return code;
}

static int read_stages(reading *r, const json_t *from)
{
	lab_plan *plan = r->plan;
	size_t count = json_array_size(from);
	if (!count || count > MOST_STAGES)
		return wrong(r, "stages", "must be a list of 1 to 32 stages");
	plan->stages = muon_arena_alloc(&plan->memory, count, sizeof *plan->stages);
	if (!plan->stages)
		return no_memory(r->err);
	for (size_t i = 0; i < count; i++) {
		int code = read_stage(r, json_array_get(from, i), &plan->stages[i]);
		if (code)
			return code;
		plan->stage_count++;
	}
	return MUON_OK;
}

/* ---- the rest ---------------------------------------------------------------------------- */

static int read_corpus(reading *r, const char *name, json_t *from, lab_corpus *corpus)
{
	int code = check_keys(r, from, name, " files bytes ");
	if (code)
		return code;
	*corpus = (lab_corpus){name, json_string_value(json_object_get(from, "files")),
	                       json_integer_value(json_object_get(from, "bytes"))};
	if (!is_word(name) || !corpus->files || corpus->bytes < 1)
		return wrong(r, name, "must have `files`, a pattern, and `bytes`, from 1");
	return MUON_OK;
}

static int read_corpora(reading *r, json_t *from)
{
	lab_plan *plan = r->plan;
	const char *name;
	json_t *value;
	if (!from)
		return MUON_OK;
	if (!json_is_object(from))
		return wrong(r, "corpora", "must be an object");
	plan->corpora = muon_arena_alloc(&plan->memory, json_object_size(from) + 1,
	                                 sizeof *plan->corpora);
	if (!plan->corpora)
		return no_memory(r->err);
	json_object_foreach(from, name, value) {
		int code = read_corpus(r, name, value, &plan->corpora[plan->corpus_count++]);
		if (code)
			return code;
	}
	return MUON_OK;
}

static int check_scale(reading *r, json_t *rules)
{
	const char *name;
	json_t *rule;
	if (!rules)
		return r->scale == 1 ? MUON_OK
		                     : wrong(r, "scale", "is missing: this plan has one size only");
	if (!json_is_object(rules))
		return wrong(r, "scale", "must be an object");
	json_object_foreach(rules, name, rule) {
		int code = check_keys(r, rule, name, " power multiple ");
		if (code)
			return code;
		const json_t *multiple = json_object_get(rule, "multiple");
		if (!json_is_number(json_object_get(rule, "power")) ||
		    (multiple && !(json_number_value(multiple) >= 1)))
			return wrong(r, name, "of scale must have a power, and a multiple from 1");
	}
	return MUON_OK;
}

static int read_root(reading *r)
{
	lab_plan *plan = r->plan;
	const json_t *title = json_object_get(plan->root, "title");
	int code = check_keys(r, plan->root, "a plan",
	                      " experiment title corpora options scale stages fits ");
	if (!code)
		code = read_word(r, plan->root, "experiment", &plan->experiment);
	if (!code && title && !json_is_string(title))
		code = wrong(r, "title", "must be a string");
	if (code)
		return code;
	plan->title = title ? json_string_value(title) : plan->experiment;
	plan->fits = json_object_get(plan->root, "fits");
	if (plan->fits && !json_is_array(plan->fits))
		return wrong(r, "fits", "must be a list");
	r->scale_rules = json_object_get(plan->root, "scale");
	code = check_scale(r, r->scale_rules);
	if (!code)
		code = read_corpora(r, json_object_get(plan->root, "corpora"));
	return code ? code : read_stages(r, json_object_get(plan->root, "stages"));
}

/* The whole file, so that a folder or a disk that fails is told from bad JSON. */
static int load(lab_plan *plan, muon_error *err)
{
	json_error_t problem;
	char shown[JSON_ERROR_TEXT_LENGTH];
	FILE *file = fopen(plan->path, "rb");
	if (!file)
		return muon_fail(err, MUON_E_OPEN, plan->path, "%s", strerror(errno));
	char *bytes = muon_alloc(MOST_PLAN_BYTES, 1);
	size_t length = bytes ? fread(bytes, 1, MOST_PLAN_BYTES, file) : 0;
	int failed = ferror(file) ? errno : 0;
	fclose(file);
	int code = MUON_OK;
	if (!bytes)
		code = no_memory(err);
	else if (failed)
		code = muon_fail(err, MUON_E_READ, plan->path, "%s", strerror(failed));
	else if (length == MOST_PLAN_BYTES)
		code = muon_fail(err, MUON_E_FORMAT, plan->path, "not a plan: over a megabyte");
	else if (!(plan->root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &problem)))
		code = muon_fail(err, MUON_E_FORMAT, plan->path, "line %d: %s", problem.line,
		                 muon_escape(shown, sizeof shown, problem.text));
	muon_free(bytes);
	return code;
}

int lab_plan_read(lab_plan *plan, const char *path, double scale, muon_error *err)
{
	*plan = (lab_plan){.path = path};
	reading r = {.plan = plan, .scale = scale, .err = err};
	int code = load(plan, err);
	return code ? code : read_root(&r);
}

void lab_plan_release(lab_plan *plan)
{
	json_decref(plan->root);
	plan->root = plan->fits = NULL;
	muon_arena_release(&plan->memory);
}
