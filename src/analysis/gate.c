#include "analysis/gate.h"

#include "base/memory.h"
#include "base/text.h"

#include <fnmatch.h>
#include <math.h>
#include <string.h>

const char *mspec_gate_cause_name(mspec_gate_cause cause)
{
#define CAUSE_NAME(id, name) [id] = name,
	static const char *const names[] = {MSPEC_CAUSE_TABLE(CAUSE_NAME)};
	return names[cause];
}

/* A report in the making. */
typedef struct checking {
	mspec_gate_report *report;
	muon_arena *arena;
	size_t capacity; /* of report->gates */
	const mspec_measurement *now, *baseline;
	const mspec_gate_rules *rules;
	size_t *uses;    /* of each rule */
	mspec_subject_index now_index, baseline_index;
	muon_error *err;
	int code; /* the first failure */
} checking;

static void out_of_memory(checking *c)
{
	if (!c->code)
		c->code = muon_fail(c->err, MUON_E_MEMORY, NULL, "out of memory");
}

/* Add a gate; `gate.reason` comes from the arena: NULL means that memory is out. */
static void add_gate(checking *c, mspec_gate gate)
{
	mspec_gate_report *r = c->report;
	if (!gate.reason) {
		out_of_memory(c);
		return;
	}
	if (r->count == c->capacity) {
		size_t capacity = c->capacity ? 2 * c->capacity : 256;
		mspec_gate *grown = muon_resize(r->gates, capacity, sizeof *grown);
		if (!grown) {
			out_of_memory(c);
			return;
		}
		r->gates = grown;
		c->capacity = capacity;
	}
	r->gates[r->count++] = gate;
	r->failed += gate.failed;
}

/* A gate about the subject itself, or about one of its values that is not there. */
static mspec_gate plain_gate(const mspec_subject *s, const char *metric, mspec_gate_cause cause)
{
	return (mspec_gate){s->name, s->group, metric, NAN, NAN, NAN, cause, false, NULL};
}

/* ---- names -------------------------------------------------------------------------------- */

static bool is_allowed(const checking *c, mspec_allowance allowance, const char *name)
{
	return muon_matches_any(c->rules->allow[allowance], c->rules->allow_count[allowance], name);
}

static bool is_undefined_allowed(checking *c, const mspec_subject *s, const char *metric)
{
	if (!c->rules->allow_count[MSPEC_ALLOW_UNDEFINED])
		return false;
	const char *both = muon_arena_format(c->arena, "%s:%s", s->name, metric);
	if (!both)
		out_of_memory(c);
	return is_allowed(c, MSPEC_ALLOW_UNDEFINED, s->name) ||
	       (both && is_allowed(c, MSPEC_ALLOW_UNDEFINED, both));
}

static bool rule_matches(const mspec_gate_rule *rule, const mspec_subject *s, const char *metric)
{
	return (rule->kind < 0 || rule->kind == (int)s->kind) && !fnmatch(rule->metric, metric, 0) &&
	       (!rule->name || !fnmatch(rule->name, s->name, 0)) &&
	       (!rule->group || (s->group && !fnmatch(rule->group, s->group, 0)));
}

/* Counts as a gate that failed, unless it is allowed. `what` NULL: memory is out. */
static void judge_absence(checking *c, mspec_gate gate, bool allowed, const char *what)
{
	gate.failed = !allowed;
	gate.reason = allowed && what
	                  ? muon_arena_format(c->arena, "%s, which is allowed", what)
	                  : what;
	add_gate(c, gate);
}

/* ---- limits ------------------------------------------------------------------------------- */

static void check_limit(checking *c, const mspec_subject *s, const mspec_measure *m,
                        const mspec_gate_rule *rule, double limit, bool least)
{
	mspec_gate gate = plain_gate(s, m->metric, MSPEC_CAUSE_LIMIT);
	gate.value = m->value;
	gate.limit = limit;
	gate.failed = least ? m->value < limit : m->value > limit;
	gate.reason = muon_arena_format(c->arena, "%.6g is %s%s %.6g (%s)", m->value,
	                                gate.failed ? "" : "not ", least ? "below" : "above", limit,
	                                rule->label);
	add_gate(c, gate);
}

static void check_worst(checking *c, const mspec_subject *s, const mspec_measure *m, int worst,
                        const char *who)
{
	mspec_gate gate = plain_gate(s, m->metric, MSPEC_CAUSE_VERDICT);
	gate.value = m->value;
	gate.failed = m->verdict > worst;
	gate.reason = muon_arena_format(
	    c->arena, "the verdict is %s, %s %s%s%s", mspec_verdict_name((mspec_verdict)m->verdict),
	    who, mspec_verdict_name((mspec_verdict)worst), gate.failed && m->note ? ": " : "",
	    gate.failed && m->note ? m->note : "");
	add_gate(c, gate);
}

static void report_undefined(checking *c, const mspec_subject *s, const char *metric,
                             double baseline, const char *note)
{
	mspec_gate gate = plain_gate(s, metric, MSPEC_CAUSE_UNDEFINED);
	gate.baseline = baseline;
	judge_absence(c, gate, is_undefined_allowed(c, s, metric),
	              muon_arena_format(c->arena, "is undefined%s%s%s",
	                                isnan(baseline) ? "" : " and was not", note ? ": " : "",
	                                note ? note : ""));
}

static void check_rule(checking *c, const mspec_subject *s, const mspec_measure *m,
                       const mspec_gate_rule *rule)
{
	bool limited = !isnan(rule->min) || !isnan(rule->max);
	bool judged = rule->worst != MSPEC_NO_VERDICT && m->verdict != MSPEC_NO_VERDICT;
	if (limited && isnan(m->value))
		report_undefined(c, s, m->metric, NAN, m->note);
	if (!isnan(rule->min) && !isnan(m->value))
		check_limit(c, s, m, rule, rule->min, true);
	if (!isnan(rule->max) && !isnan(m->value))
		check_limit(c, s, m, rule, rule->max, false);
	if (judged)
		check_worst(c, s, m, rule->worst, "the worst allowed");
}

/* A rule of limits or verdicts is of use where it has something to look at. */
static bool looks_at(const mspec_gate_rule *rule, const mspec_measure *m)
{
	return !isnan(rule->min) || !isnan(rule->max) ||
	       (rule->worst != MSPEC_NO_VERDICT && m->verdict != MSPEC_NO_VERDICT);
}

static void check_limits(checking *c, const mspec_subject *s)
{
	for (size_t k = 0; k < s->count; k++)
		for (size_t i = 0; i < c->rules->count; i++) {
			const mspec_gate_rule *rule = &c->rules->rules[i];
			if (!looks_at(rule, &s->measures[k]) ||
			    !rule_matches(rule, s, s->measures[k].metric))
				continue;
			c->uses[i]++;
			check_rule(c, s, &s->measures[k], rule);
		}
}

/* ---- against the baseline ----------------------------------------------------------------- */

/* The value of a risk is compared only where a rule says "risk": what counts is its verdict. */
static bool is_tolerance_for(const mspec_gate_rule *rule, const mspec_measure *m)
{
	return rule->has_tolerance && (m->verdict == MSPEC_NO_VERDICT || rule->tolerance.ignore ||
	                               !strncmp(rule->metric, "risk", strlen("risk")));
}

/* The last rule that matches; NULL: none. Every one that matches is of use. */
static const mspec_gate_rule *tolerance_rule(checking *c, const mspec_subject *s,
                                             const mspec_measure *m)
{
	const mspec_gate_rule *last = NULL;
	for (size_t i = 0; i < c->rules->count; i++) {
		const mspec_gate_rule *rule = &c->rules->rules[i];
		if (!is_tolerance_for(rule, m) || !rule_matches(rule, s, m->metric))
			continue;
		c->uses[i]++;
		last = rule;
	}
	return last;
}

static void check_tolerance(checking *c, const mspec_subject *s, const mspec_measure *m,
                            double baseline, const mspec_tolerance *t, const char *label)
{
	mspec_gate gate = plain_gate(s, m->metric, MSPEC_CAUSE_TOLERANCE);
	double room = fmax(t->absolute, t->relative * fabs(baseline));
	double low = baseline - room, high = baseline + room;
	bool rises = t->direction != MSPEC_DOWN && (t->direction == MSPEC_UP || m->value >= baseline);
	gate.baseline = baseline;
	gate.value = m->value;
	gate.limit = rises ? high : low;
	gate.failed = rises ? m->value > high : m->value < low;
	gate.reason = muon_arena_format(c->arena, "%.6g is %s%s %.6g, the baseline's %.6g %s %.3g (%s)",
	                                m->value, gate.failed ? "" : "not ",
	                                rises ? "above" : "below", gate.limit, baseline,
	                                rises ? "+" : "-", room, label);
	add_gate(c, gate);
}

static void compare_measure(checking *c, const mspec_subject *s, const mspec_measure *before)
{
	const mspec_measure *m = mspec_find_measure(s, before->metric);
	const mspec_gate_rule *rule = tolerance_rule(c, s, before);
	mspec_tolerance t = rule ? rule->tolerance : mspec_default_tolerance(before->metric);
	bool judged = before->verdict != MSPEC_NO_VERDICT;
	if (t.ignore)
		return;
	if (judged ? !m || m->verdict == MSPEC_NO_VERDICT
	           : !isnan(before->value) && (!m || isnan(m->value))) {
		report_undefined(c, s, before->metric, before->value, m ? m->note : NULL);
		return;
	}
	if (judged)
		check_worst(c, s, m, before->verdict, "the baseline's is");
	if ((rule || !judged) && m && !isnan(m->value) && !isnan(before->value))
		check_tolerance(c, s, m, before->value, &t, rule ? rule->label : "default");
	else if (rule && judged && !isnan(before->value) && isnan(m->value))
		report_undefined(c, s, before->metric, before->value, m->note);
}

static void check_same(checking *c, const mspec_subject *s, const mspec_subject *before)
{
	const char *group = s->group ? s->group : "", *was = before->group ? before->group : "";
	if (before->rows != s->rows || before->cols != s->cols) {
		mspec_gate gate = plain_gate(s, "shape", MSPEC_CAUSE_CHANGED);
		gate.failed = true;
		gate.reason = muon_arena_format(c->arena, "is %.0fx%.0f and was %.0fx%.0f", s->rows,
		                                s->cols, before->rows, before->cols);
		add_gate(c, gate);
	}
	if (strcmp(group, was)) {
		char a[128], b[128];
		mspec_gate gate = plain_gate(s, "group", MSPEC_CAUSE_CHANGED);
		gate.failed = true;
		gate.reason = muon_arena_format(c->arena, "is in the group '%s' and was in '%s'",
		                                muon_escape(a, sizeof a, group),
		                                muon_escape(b, sizeof b, was));
		add_gate(c, gate);
	}
}

/* A group comes and goes with its matrices, which tell. */
static bool may_come_and_go(const mspec_subject *s)
{
	return s->kind == MSPEC_SUBJECT_GROUP;
}

/* ---- subjects ----------------------------------------------------------------------------- */

/* Without values there is nothing to compare; rules that would have matched are not at fault. */
static void check_status(checking *c, const mspec_subject *s)
{
	char status[64];
	judge_absence(c, plain_gate(s, "status", MSPEC_CAUSE_STATUS),
	              is_allowed(c, MSPEC_ALLOW_NOT_OK, s->name),
	              muon_arena_format(c->arena, "is not ok: %s",
	                                muon_escape(status, sizeof status, s->status)));
	for (size_t k = 0; k < s->count; k++)
		for (size_t i = 0; i < c->rules->count; i++)
			c->uses[i] += rule_matches(&c->rules->rules[i], s, s->measures[k].metric);
}

static void check_subject(checking *c, const mspec_subject *s)
{
	const mspec_subject *before =
	    c->baseline ? mspec_index_find(&c->baseline_index, s->kind, s->name) : NULL;
	if (c->baseline && !before && !may_come_and_go(s))
		judge_absence(c, plain_gate(s, s->kind == MSPEC_SUBJECT_MATRIX ? "matrix" : "values",
		                            MSPEC_CAUSE_NEW),
		              is_allowed(c, MSPEC_ALLOW_NEW, s->name), "is not in the baseline");
	if (before)
		check_same(c, s, before);
	if (strcmp(s->status, "ok")) {
		check_status(c, s);
		return;
	}
	for (size_t k = 0; before && k < before->count; k++)
		compare_measure(c, s, &before->measures[k]);
	check_limits(c, s);
}

static void check_missing(checking *c)
{
	for (size_t i = 0; i < c->baseline->count && !c->code; i++) {
		const mspec_subject *s = &c->baseline->subjects[i];
		if (may_come_and_go(s) || mspec_index_find(&c->now_index, s->kind, s->name))
			continue;
		judge_absence(c, plain_gate(s, s->kind == MSPEC_SUBJECT_MATRIX ? "matrix" : "values",
		                            MSPEC_CAUSE_MISSING),
		              is_allowed(c, MSPEC_ALLOW_MISSING, s->name),
		              "is in the baseline and is not there now");
	}
}

/* ---- the whole ---------------------------------------------------------------------------- */

static void fail_for_nothing(checking *c, const char *name, const char *metric, const char *reason)
{
	add_gate(c, (mspec_gate){name, NULL, metric, NAN, NAN, NAN, MSPEC_CAUSE_NOTHING, true,
	                         muon_arena_string(c->arena, reason)});
}

static void check_emptiness(checking *c)
{
	size_t matrices = 0;
	for (size_t i = 0; i < c->now->count; i++)
		matrices += c->now->subjects[i].kind == MSPEC_SUBJECT_MATRIX;
	if (!matrices)
		fail_for_nothing(c, "(matrices)", "count", "there are no matrices");
	for (size_t i = 0; i < c->rules->count; i++)
		if (!c->uses[i] && !c->rules->rules[i].optional)
			fail_for_nothing(c, c->rules->rules[i].label, c->rules->rules[i].metric,
			                 "the rule matches nothing");
	if (!c->report->count)
		fail_for_nothing(c, "(gates)", "count", "nothing was checked");
}

int mspec_gate_fit(mspec_measured_kind kind, const mspec_measurement *baseline,
                   const mspec_gate_rules *rules, muon_error *err)
{
	if (baseline && baseline->kind != kind)
		return muon_fail(err, MUON_E_USAGE, NULL, "the baseline is of a %s, this is a %s",
		                 mspec_measured_kind_name(baseline->kind),
		                 mspec_measured_kind_name(kind));
	for (size_t i = 0; rules && i < rules->count && !baseline; i++)
		if (rules->rules[i].has_tolerance)
			return muon_fail(err, MUON_E_USAGE, NULL,
			                 "%s compares with a baseline, and none is given",
			                 rules->rules[i].label);
	return MUON_OK;
}

static int check_all(checking *c)
{
	c->code = mspec_gate_fit(c->now->kind, c->baseline, c->rules, c->err);
	if (c->code)
		return c->code;
	c->uses = muon_arena_alloc(c->arena, c->rules->count + 1, sizeof *c->uses);
	if (!c->uses || mspec_index_subjects(&c->now_index, c->now) ||
	    (c->baseline && mspec_index_subjects(&c->baseline_index, c->baseline)))
		out_of_memory(c);
	for (size_t i = 0; i < c->now->count && !c->code; i++)
		check_subject(c, &c->now->subjects[i]);
	if (c->baseline && !c->code)
		check_missing(c);
	if (!c->code)
		check_emptiness(c);
	return c->code;
}

int mspec_gate_check(mspec_gate_report **out, const mspec_measurement *now,
                     const mspec_measurement *baseline, const mspec_gate_rules *rules,
                     muon_error *err)
{
	mspec_gate_report *report = *out = muon_alloc(1, sizeof *report);
	checking c = {.report = report, .now = now, .baseline = baseline, .rules = rules, .err = err};
	if (report)
		c.arena = report->memory = muon_alloc(1, sizeof *c.arena);
	if (c.arena)
		check_all(&c);
	else
		out_of_memory(&c);
	mspec_index_release(&c.now_index);
	mspec_index_release(&c.baseline_index);
	if (c.code)
		mspec_gate_report_destroy(out);
	return c.code;
}

void mspec_gate_report_destroy(mspec_gate_report **report)
{
	mspec_gate_report *r = *report;
	*report = NULL;
	if (!r)
		return;
	muon_free(r->gates);
	if (r->memory)
		muon_arena_release(r->memory);
	muon_free(r->memory);
	muon_free(r);
}
