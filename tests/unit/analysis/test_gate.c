/* Gates: values at and beyond their limits, each way to fail closed and what allows it, and what
 * files of baselines and rules may not say. */
#include "analysis/gate.h"
#include "base/memory.h"
#include "unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- measurements ------------------------------------------------------------------------- */

/* A matrix "NAME" of the group "Dense" with rms, and with a risk unless `verdict` is none. */
static mspec_subject *add_matrix(mspec_measurement *m, const char *name, double rms, int verdict)
{
	mspec_subject *s = mspec_add_subject(m, MSPEC_SUBJECT_MATRIX, name, "Dense", 3);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	s->rows = 3;
	s->cols = 4;
	CU_ASSERT_EQUAL(mspec_add_measure(m, s, "rms", "", rms, MSPEC_NO_VERDICT, NULL), MUON_OK);
	if (verdict != MSPEC_NO_VERDICT)
		CU_ASSERT_EQUAL(mspec_add_measure(m, s, "risk.", "range", 9, verdict, "why"),
		                MUON_OK);
	return s;
}

static mspec_measurement *measured(void)
{
	mspec_measurement *m;
	CU_ASSERT_EQUAL_FATAL(mspec_measurement_create(&m, MSPEC_OF_CHECKPOINT, 8), MUON_OK);
	return m;
}

static mspec_measurement *one(double rms, int verdict)
{
	mspec_measurement *m = measured();
	add_matrix(m, "a", rms, verdict);
	return m;
}

/* ---- checks ------------------------------------------------------------------------------- */

static mspec_gate_rules parsed(const char *text)
{
	mspec_gate_rules rules = {0};
	muon_error err = {0};
	if (text) {
		int code = mspec_rules_parse(&rules, text, strlen(text), "rules.json", &err);
		CU_ASSERT_EQUAL(code, MUON_OK);
		if (code)
			fprintf(stderr, "%s: %s\n", text, err.message);
	}
	return rules;
}

/* Rules in the list, and what is allowed. */
#define RULES(list, allowed)                                                                       \
	"{\"schema\": \"muonspec/rules/1\", \"rules\": [" list "], \"allow\": {" allowed "}}"

/* The report on `now`; it, `before` and the rules live until `end`. */
typedef struct checked {
	mspec_measurement *now, *before;
	mspec_gate_rules rules;
	mspec_gate_report *report;
} checked;

static checked begin(mspec_measurement *now, mspec_measurement *before, const char *rules)
{
	checked c = {.now = now, .before = before, .rules = parsed(rules)};
	muon_error err = {0};
	CU_ASSERT_EQUAL_FATAL(mspec_gate_check(&c.report, now, before, &c.rules, &err), MUON_OK);
	return c;
}

static void end(checked *c)
{
	mspec_gate_report_destroy(&c->report);
	mspec_gate_rules_release(&c->rules);
	mspec_measurement_destroy(&c->now);
	mspec_measurement_destroy(&c->before);
}

/* The number of gates that failed, all of this cause. Releases both. */
static size_t failures(mspec_measurement *now, mspec_measurement *before, const char *rules,
                       mspec_gate_cause cause)
{
	checked c = begin(now, before, rules);
	size_t count = 0;
	for (size_t i = 0; i < c.report->count; i++) {
		const mspec_gate *g = &c.report->gates[i];
		CU_ASSERT_PTR_NOT_NULL(g->reason);
		count += g->failed;
		if (g->failed)
			CU_ASSERT_EQUAL(g->cause, cause);
	}
	CU_ASSERT_EQUAL(count, c.report->failed);
	CU_ASSERT_TRUE(c.report->count > 0);
	end(&c);
	return count;
}

static void test_tolerances(void)
{
	static const struct row {
		const char *rules;
		double before, now;
		size_t failed;
	} rows[] = {
	    {NULL, 1, 1, 0},
	    {NULL, 1, 1.0099, 0},
	    {NULL, 1, 1.0101, 1},
	    {NULL, 1, 0.9899, 1},
	    {NULL, -1, -1.0101, 1},
	    {NULL, -1, -1.0099, 0},
	    {NULL, 0, 0, 0},
	    {NULL, 0, 1e-300, 1},
	    /* the limit itself holds */
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5}", ""), 1, 1.5, 0},
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5}", ""), 1, 0.5, 0},
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5}", ""), 1, 1.5000000000000002, 1},
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5}", ""), 1, 0.49999999999999994, 1},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0}", ""), 1, 1, 0},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0}", ""), 1, 1.0000000000000002, 1},
	    /* the larger of the two */
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5, \"relative\": 0.25}", ""), 8, 10, 0},
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5, \"relative\": 0.25}", ""), 1, 1.5, 0},
	    {RULES("{\"metric\": \"rms\", \"absolute\": 0.5, \"relative\": 0.25}", ""), 1, 1.6, 1},
	    /* directions */
	    {RULES("{\"metric\": \"rms\", \"relative\": 0.5, \"direction\": \"up\"}", ""), 1, 1.6, 1},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0.5, \"direction\": \"up\"}", ""), 1, 0.1, 0},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0.5, \"direction\": \"down\"}", ""), 1, 9, 0},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0.5, \"direction\": \"down\"}", ""), 1, 0.1, 1},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0.5, \"direction\": \"both\"}", ""), 1, 0.1, 1},
	    /* the last rule that matches */
	    {RULES("{\"metric\": \"*\", \"relative\": 9}, {\"metric\": \"rms\", \"relative\": 0}", ""),
	     1, 2, 1},
	    {RULES("{\"metric\": \"rms\", \"relative\": 0}, {\"metric\": \"*\", \"relative\": 9}", ""),
	     1, 2, 0},
	    /* rules on other names leave the default */
	    {RULES("{\"metric\": \"rms\", \"name\": \"b\", \"relative\": 9, \"optional\": true}", ""),
	     1, 2, 1},
	    {RULES("{\"metric\": \"rms\", \"group\": \"D*\", \"relative\": 9}", ""), 1, 2, 0},
	    {RULES("{\"metric\": \"rms\", \"kind\": \"matrix\", \"relative\": 9}", ""), 1, 2, 0},
	    {RULES("{\"metric\": \"rms\", \"kind\": \"group\", \"relative\": 9, \"optional\": true}", ""),
	     1, 2, 1},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t failed = failures(one(rows[i].now, MSPEC_NO_VERDICT),
		                         one(rows[i].before, MSPEC_NO_VERDICT), rows[i].rules,
		                         MSPEC_CAUSE_TOLERANCE);
		CU_ASSERT_EQUAL(failed, rows[i].failed);
		if (failed != rows[i].failed)
			fprintf(stderr, "row %zu\n", i);
	}
}

static void test_limits(void)
{
	static const char both[] = RULES("{\"metric\": \"rms\", \"min\": 1, \"max\": 2}", "");
	const double values[] = {0.99, 1, 1.5, 2, 2.01};
	const size_t failed[] = {1, 0, 0, 0, 1};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		CU_ASSERT_EQUAL(failures(one(values[i], MSPEC_NO_VERDICT), NULL, both,
		                         MSPEC_CAUSE_LIMIT),
		                failed[i]);
	/* every rule holds, with a baseline too, and the limit is named */
	checked c = begin(one(3, MSPEC_NO_VERDICT), one(3, MSPEC_NO_VERDICT),
	                  RULES("{\"metric\": \"rms\", \"max\": 2.5}, {\"metric\": \"r*\", \"max\": 4}, "
	                        "{\"metric\": \"rms\", \"min\": 3.5}",
	                        ""));
	CU_ASSERT_EQUAL(c.report->count, 4);
	CU_ASSERT_EQUAL(c.report->failed, 2);
	const mspec_gate *g = &c.report->gates[1];
	CU_ASSERT_TRUE(g->failed && g->limit == 2.5 && g->value == 3 && isnan(g->baseline));
	CU_ASSERT_STRING_EQUAL(g->reason, "3 is above 2.5 (rule 1)");
	end(&c);
}

static void test_verdicts(void)
{
	enum { OK = MSPEC_VERDICT_OK, WATCH = MSPEC_VERDICT_WATCH, RISK = MSPEC_VERDICT_RISK };
	static const char watch[] = RULES("{\"metric\": \"risk.*\", \"verdict\": \"watch\"}", "");
	CU_ASSERT_EQUAL(failures(one(1, WATCH), NULL, watch, MSPEC_CAUSE_VERDICT), 0);
	CU_ASSERT_EQUAL(failures(one(1, RISK), NULL, watch, MSPEC_CAUSE_VERDICT), 1);
	/* they must not get worse, and may get better; their values are not compared */
	CU_ASSERT_EQUAL(failures(one(1, WATCH), one(1, OK), NULL, MSPEC_CAUSE_VERDICT), 1);
	CU_ASSERT_EQUAL(failures(one(1, OK), one(1, RISK), NULL, MSPEC_CAUSE_VERDICT), 0);
	/* a risk that is no longer judged is undefined */
	CU_ASSERT_EQUAL(failures(one(1, MSPEC_NO_VERDICT), one(1, OK), NULL, MSPEC_CAUSE_UNDEFINED), 1);
	mspec_measurement *now = one(1, OK);
	now->subjects[0].measures[1].value = 5;
	CU_ASSERT_EQUAL(failures(now, one(1, OK), NULL, MSPEC_CAUSE_VERDICT), 0);
	/* unless a rule says so */
	now = one(1, OK);
	now->subjects[0].measures[1].value = 5;
	CU_ASSERT_EQUAL(failures(now, one(1, OK), RULES("{\"metric\": \"risk.*\", \"relative\": 0.1}", ""),
	                         MSPEC_CAUSE_TOLERANCE),
	                1);
}

/* ---- failing closed ----------------------------------------------------------------------- */

static void test_missing_and_new(void)
{
	mspec_measurement *two = one(1, MSPEC_NO_VERDICT);
	add_matrix(two, "b.weight", 1, MSPEC_NO_VERDICT);
	CU_ASSERT_EQUAL(failures(one(1, MSPEC_NO_VERDICT), two, NULL, MSPEC_CAUSE_MISSING), 1);
	two = one(1, MSPEC_NO_VERDICT);
	add_matrix(two, "b.weight", 1, MSPEC_NO_VERDICT);
	CU_ASSERT_EQUAL(failures(one(1, MSPEC_NO_VERDICT), two, RULES("", "\"missing\": [\"b.*\"]"),
	                         MSPEC_CAUSE_MISSING),
	                0);
	two = one(1, MSPEC_NO_VERDICT);
	add_matrix(two, "b.weight", 1, MSPEC_NO_VERDICT);
	CU_ASSERT_EQUAL(failures(two, one(1, MSPEC_NO_VERDICT), RULES("", "\"missing\": [\"b.*\"]"),
	                         MSPEC_CAUSE_NEW),
	                1);
	two = one(1, MSPEC_NO_VERDICT);
	add_matrix(two, "b.weight", 1, MSPEC_NO_VERDICT);
	CU_ASSERT_EQUAL(failures(two, one(1, MSPEC_NO_VERDICT), RULES("", "\"new\": [\"b.*\"]"),
	                         MSPEC_CAUSE_NEW),
	                0);
}

static void test_undefined(void)
{
	static const char limit[] = RULES("{\"metric\": \"rms\", \"max\": 1}", "");
	CU_ASSERT_EQUAL(failures(one(NAN, MSPEC_NO_VERDICT), one(1, MSPEC_NO_VERDICT), NULL,
	                         MSPEC_CAUSE_UNDEFINED),
	                1);
	CU_ASSERT_EQUAL(failures(one(INFINITY, MSPEC_NO_VERDICT), one(1, MSPEC_NO_VERDICT), NULL,
	                         MSPEC_CAUSE_UNDEFINED),
	                1);
	CU_ASSERT_EQUAL(failures(one(NAN, MSPEC_NO_VERDICT), NULL, limit, MSPEC_CAUSE_UNDEFINED), 1);
	CU_ASSERT_EQUAL(failures(one(NAN, MSPEC_NO_VERDICT), one(1, MSPEC_NO_VERDICT),
	                         RULES("", "\"undefined\": [\"a:rms\"]"), MSPEC_CAUSE_UNDEFINED),
	                0);
	CU_ASSERT_EQUAL(failures(one(NAN, MSPEC_NO_VERDICT), one(1, MSPEC_NO_VERDICT),
	                         RULES("", "\"undefined\": [\"a:rm\", \"A\"]"), MSPEC_CAUSE_UNDEFINED),
	                1);
	CU_ASSERT_EQUAL(failures(one(NAN, MSPEC_NO_VERDICT), NULL,
	                         RULES("{\"metric\": \"rms\", \"max\": 1}", "\"undefined\": [\"a\"]"),
	                         MSPEC_CAUSE_UNDEFINED),
	                0);
	/* undefined before and now is nothing that could be compared: something else has to be */
	CU_ASSERT_EQUAL(failures(one(NAN, MSPEC_NO_VERDICT), one(NAN, MSPEC_NO_VERDICT), NULL,
	                         MSPEC_CAUSE_NOTHING),
	                1);
}

static mspec_measurement *not_ok(void)
{
	mspec_measurement *m = one(NAN, MSPEC_NO_VERDICT);
	m->subjects[0].status = "nonfinite";
	return m;
}

static void test_status(void)
{
	static const char limit[] = RULES("{\"metric\": \"rms\", \"max\": 1}", "");
	CU_ASSERT_EQUAL(failures(not_ok(), one(1, MSPEC_NO_VERDICT), NULL, MSPEC_CAUSE_STATUS), 1);
	CU_ASSERT_EQUAL(failures(not_ok(), not_ok(), NULL, MSPEC_CAUSE_STATUS), 1);
	/* a rule that would have looked at it is no rule that matches nothing */
	CU_ASSERT_EQUAL(failures(not_ok(), NULL, limit, MSPEC_CAUSE_STATUS), 1);
	CU_ASSERT_EQUAL(failures(not_ok(), NULL,
	                         RULES("{\"metric\": \"rms\", \"max\": 1}", "\"not_ok\": [\"a\"]"),
	                         MSPEC_CAUSE_STATUS),
	                0);
}

static void test_nothing(void)
{
	static const char limit[] = RULES("{\"metric\": \"rms\", \"max\": 1, \"optional\": true}", "");
	/* no matrices; and there is no gate left to hold but that one */
	CU_ASSERT_EQUAL(failures(measured(), NULL, limit, MSPEC_CAUSE_NOTHING), 1);
	/* rules that match nothing, each for itself */
	CU_ASSERT_EQUAL(failures(one(1, MSPEC_NO_VERDICT), NULL,
	                         RULES("{\"metric\": \"rms\", \"max\": 1}, {\"metric\": \"rsm\", \"max\": "
	                               "1}, {\"metric\": \"rms\", \"name\": \"b*\", \"max\": 1}",
	                               ""),
	                         MSPEC_CAUSE_NOTHING),
	                2);
	/* a verdict is asked of what has none */
	CU_ASSERT_EQUAL(failures(one(1, MSPEC_NO_VERDICT), one(1, MSPEC_NO_VERDICT),
	                         RULES("{\"metric\": \"rms\", \"verdict\": \"ok\"}", ""),
	                         MSPEC_CAUSE_NOTHING),
	                1);
	/* everything ignored */
	CU_ASSERT_EQUAL(failures(one(1, MSPEC_NO_VERDICT), one(2, MSPEC_NO_VERDICT),
	                         RULES("{\"metric\": \"*\", \"ignore\": true}", ""),
	                         MSPEC_CAUSE_NOTHING),
	                1);
}

static void test_changed(void)
{
	mspec_measurement *now = one(1, MSPEC_NO_VERDICT);
	now->subjects[0].rows = 4;
	now->subjects[0].cols = 3;
	CU_ASSERT_EQUAL(failures(now, one(1, MSPEC_NO_VERDICT), NULL, MSPEC_CAUSE_CHANGED), 1);
	now = one(1, MSPEC_NO_VERDICT);
	now->subjects[0].group = "Head";
	CU_ASSERT_EQUAL(failures(now, one(1, MSPEC_NO_VERDICT), NULL, MSPEC_CAUSE_CHANGED), 1);
}

static void test_refusals(void)
{
	mspec_gate_report *report;
	mspec_measurement *now = one(1, MSPEC_NO_VERDICT), *before = one(1, MSPEC_NO_VERDICT);
	mspec_gate_rules rules = parsed(RULES("{\"metric\": \"rms\", \"relative\": 1}", ""));
	muon_error err = {0};
	CU_ASSERT_EQUAL(mspec_gate_check(&report, now, NULL, &rules, &err), MUON_E_USAGE);
	CU_ASSERT_PTR_NULL(report);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.message, "rule 1 compares with a baseline"));
	before->kind = MSPEC_OF_RUN;
	CU_ASSERT_EQUAL(mspec_gate_check(&report, now, before, &rules, NULL), MUON_E_USAGE);
	mspec_gate_rules_release(&rules);
	mspec_measurement_destroy(&now);
	mspec_measurement_destroy(&before);
}

/* ---- files -------------------------------------------------------------------------------- */

static void test_bad_rules(void)
{
	static const struct row {
		const char *text, *message;
	} rows[] = {
	    {"", "line 1"},
	    {"[]", "schema"},
	    {"{\"schema\": \"muonspec/rules/2\", \"rules\": [{\"metric\": \"a\", \"min\": 1}]}", "schema"},
	    {"{\"schema\": \"muonspec/rules/1\"}", "'rules' is missing or empty"},
	    {"{\"schema\": \"muonspec/rules/1\", \"rules\": [], \"rules\": []}", "duplicate"},
	    {"{\"schema\": \"muonspec/rules/1\", \"rules\": {}}", "'rules' is not a list"},
	    {"{\"schema\": \"muonspec/rules/1\", \"rule\": []}", "'rule' is not known"},
	    {RULES("3", ""), "no object"},
	    {RULES("{\"min\": 1}", ""), "rule 1: 'metric' is missing"},
	    {RULES("{\"metric\": \"a\"}", ""), "has no limit"},
	    {RULES("{\"metric\": \"a\", \"min\": 1}, {\"metric\": \"a\", \"mim\": 1}", ""),
	     "rule 2: 'mim' is not known"},
	    {RULES("{\"metric\": \"a\\nb\", \"m\\u001b\": 1}", ""), "'m\\x1b' is not known"},
	    {RULES("{\"metric\": \"a\", \"min\": \"1\"}", ""), "'min' is not a number"},
	    {RULES("{\"metric\": \"a\", \"min\": 2, \"max\": 1}", ""), "above 'max'"},
	    {RULES("{\"metric\": \"a\", \"relative\": -0.1}", ""), "below 0"},
	    {RULES("{\"metric\": \"a\", \"relative\": 1, \"ignore\": true}", ""), "no tolerance"},
	    {RULES("{\"metric\": \"a\", \"ignore\": 1}", ""), "neither true nor false"},
	    {RULES("{\"metric\": \"a\", \"min\": 1, \"direction\": \"up\"}", ""), "needs 'relative'"},
	    {RULES("{\"metric\": \"a\", \"relative\": 1, \"direction\": \"sideways\"}", ""), "'direction'"},
	    {RULES("{\"metric\": \"a\", \"verdict\": \"bad\"}", ""), "'verdict'"},
	    {RULES("{\"metric\": \"a\", \"kind\": \"tensor\", \"min\": 1}", ""), "'kind'"},
	    {RULES("", "\"misssing\": []"), "'misssing' is not known"},
	    {RULES("", "\"missing\": \"a\""), "'missing' is not a list"},
	    {RULES("", "\"missing\": [1]"), "no text"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		mspec_gate_rules rules;
		muon_error err = {0};
		const char *text = rows[i].text;
		CU_ASSERT_EQUAL(mspec_rules_parse(&rules, text, strlen(text), "r.json", &err),
		                MUON_E_USAGE);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.message, rows[i].message));
		if (!strstr(err.message, rows[i].message))
			fprintf(stderr, "%s: %s\n", text, err.message);
		mspec_gate_rules_release(&rules);
	}
}

#define BASELINE(head, matrices)                                                                   \
	"{\"schema\": \"muonspec/baseline/1\", \"of\": \"checkpoint\", " head                      \
	"\"matrices\": [" matrices "]}"
#define METRICS "\"metrics\": [\"rms\"], "
#define MATRIX(name, more)                                                                         \
	"{\"name\": \"" name "\", \"rows\": 3, \"cols\": 4, \"group\": \"Dense\", \"metrics\": "   \
	"{\"rms\": 1}" more "}"

static void test_bad_baselines(void)
{
	static const struct row {
		const char *text, *message;
	} rows[] = {
	    {"", "line 1"},
	    {"{", "line 1"},
	    {"[1]", "schema absent"},
	    {"{\"schema\": 1}", "schema absent"},
	    {"{\"schema\": \"muonspec/analyze/1\"}", "schema 'muonspec/analyze/1'"},
	    {"{\"schema\": \"muonspec/baseline/1\"}", "'of' is missing"},
	    {"{\"schema\": \"muonspec/baseline/1\", \"of\": \"model\"}", "'of'"},
	    {BASELINE("", ""), "'metrics' is missing or empty"},
	    {BASELINE(METRICS, ""), "'matrices' is missing or empty"},
	    {BASELINE("\"metrics\": [\"rsm\"], ", MATRIX("a", "")), "'rsm' is no metric"},
	    {BASELINE(METRICS, "1"), "without name"},
	    {BASELINE(METRICS, "{\"name\": \"a\"}"), "without name or metrics"},
	    {BASELINE(METRICS, "{\"name\": 1, \"metrics\": {}}"), "'name' is not a text"},
	    {BASELINE(METRICS, "{\"name\": \"a\", \"metrics\": {\"rms\": \"1\"}}"), "'rms' is not a number"},
	    {BASELINE(METRICS, MATRIX("a", ", \"risks\": 1")), "without name or metrics"},
	    {BASELINE(METRICS, MATRIX("a", ", \"risks\": {\"risk.range\": {\"value\": 1}}")), "no verdict"},
	    {BASELINE(METRICS, MATRIX("a", "") "," MATRIX("a", "")), "'a' is there twice"},
	    {BASELINE(METRICS "\"groups\": 1, ", MATRIX("a", "")), "'groups' is not a list"},
	    {BASELINE(METRICS, "{\"name\": \"a\", \"metrics\": {\"rms\": 1e999}}"), "line 1"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		mspec_measurement *m;
		muon_error err = {0};
		const char *text = rows[i].text;
		CU_ASSERT_EQUAL(mspec_baseline_parse(&m, text, strlen(text), "b.json", &err),
		                MUON_E_FORMAT);
		CU_ASSERT_PTR_NULL(m);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.message, rows[i].message));
		if (!strstr(err.message, rows[i].message))
			fprintf(stderr, "%s: %s\n", text, err.message);
	}
}

static const char good_baseline[] = BASELINE(
    METRICS "\"include\": [\"a*\"], \"files\": [{\"path\": \"x.h5\", \"step\": 7}], "
            "\"groups\": [{\"name\": \"(Dense)\", \"metrics\": {\"rms.mean\": 1, \"rms.min\": null}}], ",
    MATRIX("a", ", \"risks\": {\"risk.range\": {\"value\": 9, \"verdict\": \"watch\"}}"));

static void test_baseline(void)
{
	mspec_measurement *m;
	CU_ASSERT_EQUAL_FATAL(
	    mspec_baseline_parse(&m, good_baseline, strlen(good_baseline), "b.json", NULL), MUON_OK);
	CU_ASSERT_EQUAL(m->count, 2);
	CU_ASSERT_EQUAL(m->include_count, 1);
	CU_ASSERT_EQUAL(m->sources[0].step, 7);
	CU_ASSERT_EQUAL(m->subjects[0].kind, MSPEC_SUBJECT_GROUP);
	CU_ASSERT_TRUE(isnan(mspec_find_measure(&m->subjects[0], "rms.min")->value));
	const mspec_subject *a = &m->subjects[1];
	CU_ASSERT_TRUE(a->rows == 3 && a->cols == 4 && !strcmp(a->group, "Dense"));
	CU_ASSERT_EQUAL(mspec_find_measure(a, "rms")->value, 1);
	CU_ASSERT_EQUAL(mspec_find_measure(a, "risk.range")->verdict, MSPEC_VERDICT_WATCH);
	CU_ASSERT_PTR_NULL(mspec_find_measure(a, "svd_entropy"));
	mspec_measurement_destroy(&m);
}

static void test_wanted_metrics(void)
{
	mspec_gate_rules rules = parsed(RULES("{\"metric\": \"rms\", \"min\": 0}, {\"metric\": "
	                                      "\"alpha.m?x\", \"min\": 0}, {\"metric\": \"risk.*\", "
	                                      "\"verdict\": \"ok\"}",
	                                      ""));
	CU_ASSERT_TRUE(mspec_rules_want(&rules, "rms"));
	CU_ASSERT_TRUE(mspec_rules_want(&rules, "alpha"));
	CU_ASSERT_FALSE(mspec_rules_want(&rules, "output_rms"));
	CU_ASSERT_FALSE(mspec_rules_want(&rules, "alpha_ks"));
	mspec_gate_rules_release(&rules);
}

/* ---- memory ------------------------------------------------------------------------------- */

static int read_and_check(void)
{
	static const char text[] = RULES("{\"metric\": \"rms\", \"max\": 0.5}", "\"new\": [\"x\"]");
	mspec_measurement *now = NULL, *before = NULL;
	mspec_gate_rules rules = {0};
	mspec_gate_report *report = NULL;
	size_t size = strlen(good_baseline);
	int code = mspec_baseline_parse(&before, good_baseline, size, "b.json", NULL);
	if (!code)
		code = mspec_baseline_parse(&now, good_baseline, size, "b.json", NULL);
	if (!code)
		code = mspec_rules_parse(&rules, text, strlen(text), "r.json", NULL);
	if (!code)
		code = mspec_gate_check(&report, now, before, &rules, NULL);
	if (!code)
		CU_ASSERT_EQUAL(report->failed, 1);
	mspec_gate_report_destroy(&report);
	mspec_gate_rules_release(&rules);
	mspec_measurement_destroy(&now);
	mspec_measurement_destroy(&before);
	return code;
}

static void test_memory(void)
{
	int left;
	const muon_allocator failing = unit_failing_allocator(&left);
	int code = MUON_E_MEMORY, k = 0;
	for (; k < 1000 && code; k++) {
		left = k;
		muon_set_allocator(&failing);
		code = read_and_check();
		muon_set_allocator(NULL);
		CU_ASSERT_TRUE(!code || code == MUON_E_MEMORY);
	}
	CU_ASSERT_TRUE(k > 10 && k < 1000);
}

UNIT_SUITE(gate, {"tolerances", test_tolerances}, {"limits", test_limits},
           {"verdicts", test_verdicts}, {"missing and new", test_missing_and_new},
           {"undefined", test_undefined}, {"status", test_status}, {"nothing", test_nothing},
           {"changed", test_changed}, {"refusals", test_refusals}, {"bad rules", test_bad_rules},
           {"bad baselines", test_bad_baselines}, {"baseline", test_baseline},
           {"wanted metrics", test_wanted_metrics}, {"memory", test_memory})
