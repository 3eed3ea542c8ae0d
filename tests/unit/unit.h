/* A unit test file defines its cases as functions and ends with
 *     UNIT_SUITE(gram, {"tall", test_tall}, {"wide", test_wide})
 * which registers them with main.c. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <CUnit/CUnit.h>
#include <muon/error.h>

typedef struct unit_case {
	const char *name;
	void (*run)(void);
} unit_case;

typedef struct unit_suite {
	const char *name;
	const unit_case *cases;
	size_t count;
	struct unit_suite *next;
} unit_suite;

void unit_register(unit_suite *suite);

/* Leave the case, counted as skipped, because something it needs is absent from the machine. */
void unit_skip(const char *why);

/* For muon_set_allocator: succeeds *left times, then fails for good. */
muon_allocator unit_failing_allocator(int *left);
void unit_release(void *state, void *block); /* what it releases with */

#define UNIT_SUITE(id, ...)                                                                        \
	static const unit_case unit_cases_##id[] = {__VA_ARGS__};                                  \
	static unit_suite unit_suite_##id = {#id, unit_cases_##id,                                 \
	                                     sizeof unit_cases_##id / sizeof(unit_case), NULL};    \
	__attribute__((constructor)) static void unit_register_##id(void)                          \
	{                                                                                          \
		unit_register(&unit_suite_##id);                                                   \
	}

/* |a - b| <= relative * |b|, with both shown on failure. */
#define UNIT_CLOSE(a, b, relative) unit_close((a), (b), (relative), #a, __FILE__, __LINE__)
void unit_close(double a, double b, double relative, const char *what, const char *file, int line);

#endif
