/* Baselines and rules from JSON, which may come from anywhere. */
#include "analysis/gate.h"

#include "base/memory.h"
#include "base/text.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- files -------------------------------------------------------------------------------- */

/* `problem` is the code for what is no JSON. */
static int explain(const json_error_t *reason, const char *where, int problem, muon_error *err)
{
	char text[JSON_ERROR_TEXT_LENGTH * 4];
	if (json_error_code(reason) == json_error_out_of_memory)
		return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
	return muon_fail(err, problem, where, "line %d: %s", reason->line,
	                 muon_escape(text, sizeof text, reason->text));
}

static int load(json_t **root, const char *path, int problem, muon_error *err)
{
	enum { MOST_BYTES = 1 << 28 };
	json_error_t reason;
	struct stat st;
	*root = NULL;
	if (!stat(path, &st) && S_ISDIR(st.st_mode))
		return muon_fail(err, MUON_E_OPEN, path, "%s", strerror(EISDIR));
	if (!stat(path, &st) && st.st_size > MOST_BYTES)
		return muon_fail(err, problem, path, "is too large: %lld bytes",
		                 (long long)st.st_size);
	*root = json_load_file(path, JSON_REJECT_DUPLICATES, &reason);
	if (!*root && json_error_code(&reason) == json_error_cannot_open_file) {
		char text[JSON_ERROR_TEXT_LENGTH * 4];
		const char *why = strrchr(reason.text, ':');
		muon_escape(text, sizeof text, why ? why + 2 : reason.text);
		return muon_fail(err, MUON_E_OPEN, path, "%s", text);
	}
	return *root ? MUON_OK : explain(&reason, path, problem, err);
}

static int parse(json_t **root, const char *text, size_t size, const char *where, int problem,
                 muon_error *err)
{
	json_error_t reason;
	*root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &reason);
	return *root ? MUON_OK : explain(&reason, where, problem, err);
}

/* A file being read; the first problem ends it. */
typedef struct reading {
	muon_arena *arena;
	const char *where;
	const char *place; /* "rule 3" */
	int problem;       /* the code for what is wrong in it */
	muon_error *err;
	int code;
} reading;

static void refuse(reading *r, const char *what, const char *key)
{
	char shown[128];
	if (r->code)
		return;
	r->code = muon_fail(r->err, r->problem, r->where, "%s: '%s' %s", r->place,
	                    muon_escape(shown, sizeof shown, key), what);
}

static void out_of_memory(reading *r)
{
	if (!r->code)
		r->code = muon_fail(r->err, MUON_E_MEMORY, r->where, "out of memory");
}

static const char *copy(reading *r, const char *text)
{
	const char *own = muon_arena_string(r->arena, text);
	if (!own)
		out_of_memory(r);
	return own;
}

/* NULL where the key is absent or null. */
static const char *text_of(reading *r, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!value || json_is_null(value))
		return NULL;
	if (json_is_string(value))
		return copy(r, json_string_value(value));
	refuse(r, "is not a text", key);
	return NULL;
}

/* NaN where the key is absent or null. */
static double number_of(reading *r, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (!value || json_is_null(value))
		return NAN;
	if (json_is_number(value))
		return json_number_value(value);
	refuse(r, "is not a number", key);
	return NAN;
}

static bool flag_of(reading *r, const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);
	if (value && !json_is_boolean(value))
		refuse(r, "is neither true nor false", key);
	return json_is_true(value);
}

/* A list of texts; none where the key is absent. */
static const char *const *texts_of(reading *r, const json_t *object, const char *key, size_t *count)
{
	const json_t *list = json_object_get(object, key);
	*count = 0;
	if (!list)
		return NULL;
	if (!json_is_array(list)) {
		refuse(r, "is not a list", key);
		return NULL;
	}
	size_t all = json_array_size(list);
	const char **texts = muon_arena_alloc(r->arena, all + 1, sizeof *texts);
	if (!texts)
		out_of_memory(r);
	for (size_t i = 0; i < all && !r->code; i++) {
		const json_t *value = json_array_get(list, i);
		if (!json_is_string(value))
			refuse(r, "holds what is no text", key);
		else
			texts[(*count)++] = copy(r, json_string_value(value));
	}
	return texts;
}

/* The place of the word in `names`; `none` where the key is absent. */
static int word_of(reading *r, const json_t *object, const char *key, const char *const *names,
                   int count, int none)
{
	const char *word = text_of(r, object, key);
	for (int i = 0; i < count && word; i++)
		if (!strcmp(word, names[i]))
			return i;
	if (word)
		refuse(r, "has a value that it can't have", key);
	return none;
}

static const char *const verdict_names[] = {"ok", "watch", "risk"};

static int verdict_of(reading *r, const json_t *object)
{
	return word_of(r, object, "verdict", verdict_names, MSPEC_VERDICT_RISK + 1, MSPEC_NO_VERDICT);
}

/* ---- baselines ---------------------------------------------------------------------------- */

static void read_measure(reading *r, mspec_measurement *m, mspec_subject *s, const char *metric,
                         const json_t *value)
{
	if (!json_is_number(value) && !json_is_null(value))
		refuse(r, "is not a number", metric);
	else if (mspec_add_measure(m, s, metric, "",
	                           json_is_null(value) ? NAN : json_number_value(value),
	                           MSPEC_NO_VERDICT, NULL))
		out_of_memory(r);
}

static void read_risk(reading *r, mspec_measurement *m, mspec_subject *s, const char *metric,
                      const json_t *risk)
{
	int verdict = verdict_of(r, risk);
	double value = number_of(r, risk, "value");
	if (verdict == MSPEC_NO_VERDICT)
		refuse(r, "has no verdict", metric);
	else if (mspec_add_measure(m, s, metric, "", value, verdict, NULL))
		out_of_memory(r);
}

static void read_measures(reading *r, mspec_measurement *m, mspec_subject *s, json_t *metrics,
                          json_t *risks)
{
	void *at;
	for (at = json_object_iter(metrics); at && !r->code; at = json_object_iter_next(metrics, at))
		read_measure(r, m, s, json_object_iter_key(at), json_object_iter_value(at));
	for (at = json_object_iter(risks); at && !r->code; at = json_object_iter_next(risks, at))
		read_risk(r, m, s, json_object_iter_key(at), json_object_iter_value(at));
}

static void read_subject(reading *r, mspec_measurement *m, mspec_subject_kind kind,
                         const json_t *object)
{
	const char *name = text_of(r, object, "name"), *group = text_of(r, object, "group");
	const char *status = text_of(r, object, "status"), *dtype = text_of(r, object, "dtype");
	json_t *metrics = json_object_get(object, "metrics"), *risks = json_object_get(object, "risks");
	double rows = number_of(r, object, "rows"), cols = number_of(r, object, "cols");
	if (!name || !json_is_object(metrics) || (risks && !json_is_object(risks)))
		refuse(r, "holds an entry without name or metrics", mspec_subject_kind_list(kind));
	if (r->code)
		return;
	mspec_subject *s =
	    mspec_add_subject(m, kind, name, group, json_object_size(metrics) + json_object_size(risks));
	if (!s) {
		out_of_memory(r);
		return;
	}
	s->status = status ? status : "ok";
	s->dtype = dtype;
	s->rows = isnan(rows) ? 0 : rows;
	s->cols = isnan(cols) ? 0 : cols;
	read_measures(r, m, s, metrics, risks);
}

static void read_subjects(reading *r, mspec_measurement *m, const json_t *root)
{
	for (int kind = 0; kind < MSPEC_SUBJECT_KINDS && !r->code; kind++) {
		const char *key = mspec_subject_kind_list((mspec_subject_kind)kind);
		const json_t *list = json_object_get(root, key);
		if (list && !json_is_array(list))
			refuse(r, "is not a list", key);
		for (size_t i = 0; i < json_array_size(list) && !r->code; i++)
			read_subject(r, m, (mspec_subject_kind)kind, json_array_get(list, i));
	}
}

static void read_sources(reading *r, mspec_measurement *m, const json_t *root)
{
	const json_t *list = json_object_get(root, "files");
	size_t count = json_array_size(list);
	m->sources = muon_arena_alloc(r->arena, count + 1, sizeof *m->sources);
	if (!m->sources)
		out_of_memory(r);
	for (size_t i = 0; i < count && !r->code; i++) {
		const json_t *file = json_array_get(list, i);
		m->sources[m->source_count++] = (mspec_source){text_of(r, file, "path"),
		                                               text_of(r, file, "format"),
		                                               text_of(r, file, "layout"),
		                                               text_of(r, file, "optimizer"),
		                                               text_of(r, file, "digest"),
		                                               number_of(r, file, "step")};
	}
}

/* The registry's metrics that are to be computed again. */
static void read_metrics(reading *r, mspec_measurement *m, const json_t *root)
{
	m->metrics = texts_of(r, root, "metrics", &m->metric_count);
	for (size_t i = 0; i < m->metric_count && !r->code; i++)
		if (mspec_metric_find(m->metrics[i]) == SIZE_MAX)
			refuse(r, "is no metric that this version knows", m->metrics[i]);
	if (!m->metric_count)
		refuse(r, "is missing or empty", "metrics");
}

static size_t count_subjects(const json_t *root)
{
	size_t count = 0;
	for (int kind = 0; kind < MSPEC_SUBJECT_KINDS; kind++)
		count += json_array_size(
		    json_object_get(root, mspec_subject_kind_list((mspec_subject_kind)kind)));
	return count;
}

/* Two of one name would hide one another. */
static void refuse_repeated(reading *r, const mspec_measurement *m)
{
	mspec_subject_index index;
	if (mspec_index_subjects(&index, m)) {
		out_of_memory(r);
		return;
	}
	for (size_t i = 1; i < index.count && !r->code; i++)
		if (index.subjects[i - 1]->kind == index.subjects[i]->kind &&
		    !strcmp(index.subjects[i - 1]->name, index.subjects[i]->name))
			refuse(r, "is there twice", index.subjects[i]->name);
	mspec_index_release(&index);
}

static void read_baseline(reading *r, mspec_measurement *m, const json_t *root)
{
	const char *svd;
	read_sources(r, m, root);
	read_metrics(r, m, root);
	m->include = texts_of(r, root, "include", &m->include_count);
	m->exclude = texts_of(r, root, "exclude", &m->exclude_count);
	svd = text_of(r, root, "svd");
	m->svd = svd && !strcmp(svd, "gesdd") ? "gesdd" : "gram";
	read_subjects(r, m, root);
	if (!r->code)
		refuse_repeated(r, m);
	bool any = false;
	for (size_t i = 0; i < m->count; i++)
		any |= m->subjects[i].kind == MSPEC_SUBJECT_MATRIX;
	if (!any)
		refuse(r, "is missing or empty: nothing could be checked", "matrices");
}

static int baseline_of(mspec_measurement **out, const json_t *root, const char *where,
                       muon_error *err)
{
	static const char *const kinds[] = {"checkpoint", "run", "comparison"};
	const char *schema = json_string_value(json_object_get(root, "schema"));
	char shown[128];
	if (!schema || strcmp(schema, MSPEC_BASELINE_SCHEMA))
		return muon_fail(err, MUON_E_FORMAT, where,
		                 "is no baseline: schema %s%s%s, not " MSPEC_BASELINE_SCHEMA,
		                 schema ? "'" : "", schema ? muon_escape(shown, sizeof shown, schema) : "absent",
		                 schema ? "'" : "");
	int code = mspec_measurement_create(out, MSPEC_OF_CHECKPOINT, count_subjects(root));
	if (code)
		return muon_fail(err, code, where, "out of memory");
	reading r = {.arena = (*out)->memory,
	             .where = where,
	             .place = "baseline",
	             .problem = MUON_E_FORMAT,
	             .err = err};
	int kind = word_of(&r, root, "of", kinds, MSPEC_OF_KINDS, -1);
	if (kind < 0)
		refuse(&r, "is missing", "of");
	else
		(*out)->kind = (mspec_measured_kind)kind;
	if (!r.code)
		read_baseline(&r, *out, root);
	if (r.code)
		mspec_measurement_destroy(out);
	return r.code;
}

int mspec_baseline_load(mspec_measurement **out, const char *path, muon_error *err)
{
	json_t *root;
	*out = NULL;
	int code = load(&root, path, MUON_E_FORMAT, err);
	if (!code)
		code = baseline_of(out, root, path, err);
	json_decref(root);
	return code;
}

int mspec_baseline_parse(mspec_measurement **out, const char *text, size_t size, const char *where,
                         muon_error *err)
{
	json_t *root;
	*out = NULL;
	int code = parse(&root, text, size, where, MUON_E_FORMAT, err);
	if (!code)
		code = baseline_of(out, root, where, err);
	json_decref(root);
	return code;
}

/* ---- rules -------------------------------------------------------------------------------- */

static bool is_among(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(word, words[i]))
			return true;
	return false;
}

/* A key that is misspelt must not be a limit that does not hold. */
static void refuse_unknown(reading *r, json_t *object, const char *const *known, size_t count)
{
	void *at;
	for (at = json_object_iter(object); at && !r->code; at = json_object_iter_next(object, at))
		if (!is_among(json_object_iter_key(at), known, count))
			refuse(r, "is not known", json_object_iter_key(at));
}

static mspec_tolerance read_tolerance(reading *r, const json_t *object, bool *given)
{
	static const char *const directions[] = {"both", "up", "down"};
	double relative = number_of(r, object, "relative"), absolute = number_of(r, object, "absolute");
	bool ignore = flag_of(r, object, "ignore"), compared = !isnan(relative) || !isnan(absolute);
	mspec_tolerance t = {isnan(relative) ? 0 : relative, isnan(absolute) ? 0 : absolute,
	                     (mspec_direction)word_of(r, object, "direction", directions, 3, 0), ignore};
	*given = compared || ignore;
	if (!(t.relative >= 0))
		refuse(r, "is below 0", "relative");
	if (!(t.absolute >= 0))
		refuse(r, "is below 0", "absolute");
	if (compared && ignore)
		refuse(r, "goes with no tolerance", "ignore");
	if (!compared && json_object_get(object, "direction"))
		refuse(r, "needs 'relative' or 'absolute'", "direction");
	return t;
}

static void read_rule(reading *r, mspec_gate_rule *rule, json_t *object)
{
	static const char *const known[] = {"metric",   "name",     "group",     "kind",
	                                    "min",      "max",      "relative",  "absolute",
	                                    "ignore",   "verdict",  "direction", "optional",
	                                    "comment"};
	const char *kinds[MSPEC_SUBJECT_KINDS];
	for (int k = 0; k < MSPEC_SUBJECT_KINDS; k++)
		kinds[k] = mspec_subject_kind_name((mspec_subject_kind)k);
	if (!json_is_object(object)) {
		refuse(r, "holds what is no object", "rules");
		return;
	}
	refuse_unknown(r, object, known, sizeof known / sizeof *known);
	*rule = (mspec_gate_rule){.label = r->place,
	                          .metric = text_of(r, object, "metric"),
	                          .name = text_of(r, object, "name"),
	                          .group = text_of(r, object, "group"),
	                          .kind = word_of(r, object, "kind", kinds, MSPEC_SUBJECT_KINDS, -1),
	                          .min = number_of(r, object, "min"),
	                          .max = number_of(r, object, "max"),
	                          .worst = verdict_of(r, object),
	                          .optional = flag_of(r, object, "optional")};
	rule->tolerance = read_tolerance(r, object, &rule->has_tolerance);
	if (!rule->metric)
		refuse(r, "is missing", "metric");
	if (rule->min > rule->max)
		refuse(r, "is above 'max'", "min");
	if (!rule->has_tolerance && isnan(rule->min) && isnan(rule->max) &&
	    rule->worst == MSPEC_NO_VERDICT)
		refuse(r, "has no limit, tolerance or verdict beside it", "metric");
}

static void read_allowances(reading *r, mspec_gate_rules *rules, json_t *allow)
{
	const char *known[MSPEC_ALLOWANCES];
	for (int a = 0; a < MSPEC_ALLOWANCES; a++)
		known[a] = mspec_allowance_name((mspec_allowance)a);
	if (allow && !json_is_object(allow))
		refuse(r, "is no object", "allow");
	refuse_unknown(r, allow, known, MSPEC_ALLOWANCES);
	for (int a = 0; a < MSPEC_ALLOWANCES && !r->code; a++)
		rules->allow[a] = texts_of(r, allow, known[a], &rules->allow_count[a]);
}

static void read_rules(reading *r, mspec_gate_rules *rules, json_t *root)
{
	static const char *const known[] = {"schema", "comment", "rules", "allow"};
	const json_t *list = json_object_get(root, "rules");
	const char *schema = text_of(r, root, "schema");
	if (!json_is_object(root) || !schema || strcmp(schema, MSPEC_RULES_SCHEMA))
		refuse(r, "is not " MSPEC_RULES_SCHEMA, "schema");
	refuse_unknown(r, root, known, sizeof known / sizeof *known);
	if (list && !json_is_array(list))
		refuse(r, "is not a list", "rules");
	if (!json_array_size(list) && !json_object_size(json_object_get(root, "allow")))
		refuse(r, "is missing or empty", "rules");
	read_allowances(r, rules, json_object_get(root, "allow"));
	rules->rules = muon_arena_alloc(r->arena, json_array_size(list) + 1, sizeof *rules->rules);
	if (!rules->rules)
		out_of_memory(r);
	for (size_t i = 0; i < json_array_size(list) && !r->code; i++) {
		r->place = muon_arena_format(r->arena, "rule %zu", i + 1);
		if (r->place)
			read_rule(r, &rules->rules[rules->count++], json_array_get(list, i));
		else
			out_of_memory(r);
	}
}

static int rules_of(mspec_gate_rules *rules, json_t *root, const char *where, muon_error *err)
{
	rules->memory = muon_alloc(1, sizeof(muon_arena));
	if (!rules->memory)
		return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
	reading r = {.arena = rules->memory,
	             .where = where,
	             .place = "rules",
	             .problem = MUON_E_USAGE,
	             .err = err};
	read_rules(&r, rules, root);
	return r.code;
}

int mspec_rules_load(mspec_gate_rules *rules, const char *path, muon_error *err)
{
	json_t *root;
	*rules = (mspec_gate_rules){0};
	int code = load(&root, path, MUON_E_USAGE, err);
	if (!code)
		code = rules_of(rules, root, path, err);
	json_decref(root);
	return code;
}

int mspec_rules_parse(mspec_gate_rules *rules, const char *text, size_t size, const char *where,
                      muon_error *err)
{
	json_t *root;
	*rules = (mspec_gate_rules){0};
	int code = parse(&root, text, size, where, MUON_E_USAGE, err);
	if (!code)
		code = rules_of(rules, root, where, err);
	json_decref(root);
	return code;
}
