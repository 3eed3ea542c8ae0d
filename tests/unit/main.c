/* Runs the registered suites; `unit NAME...` runs only those. Exits with 1 on any failure. */
#include "unit/unit.h"

#include <CUnit/Basic.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unit_suite *suites;
static int skipped;

void unit_register(unit_suite *suite)
{
	unit_suite **place = &suites;
	while (*place && strcmp((*place)->name, suite->name) < 0)
		place = &(*place)->next;
	suite->next = *place;
	*place = suite;
}

void unit_skip(const char *why)
{
	printf(" [skipped: %s] ", why);
	skipped++;
}

void unit_close(double a, double b, double relative, const char *what, const char *file, int line)
{
	char condition[256];
	bool close = fabs(a - b) <= relative * fabs(b) || a == b;
	snprintf(condition, sizeof condition, "%s is %.17g, expected %.17g to %g", what, a, b,
	         relative);
	CU_assertImplementation(close, (unsigned)line, condition, file, "", CU_FALSE);
}

static void *failing_resize(void *state, void *block, size_t bytes)
{
	int *left = state;
	return --*left < 0 ? NULL : realloc(block, bytes);
}

void unit_release(void *state, void *block)
{
	(void)state;
	free(block);
}

muon_allocator unit_failing_allocator(int *left)
{
	return (muon_allocator){failing_resize, unit_release, left};
}

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	size_t cases = 0;
	for (unit_suite *s = suites; s; s = s->next) {
		if (!wanted(s->name, argc, argv))
			continue;
		CU_pSuite suite = CU_add_suite(s->name, NULL, NULL);
		for (size_t i = 0; i < s->count; i++, cases++)
			if (!suite || !CU_add_test(suite, s->cases[i].name, s->cases[i].run))
				return 1;
	}
	if (!cases) {
		fprintf(stderr, "unit: no such suite\n");
		return 1;
	}
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	unsigned failures = CU_get_number_of_failures();
	if (skipped)
		printf("\n%d cases skipped in part or whole for want of data or programs\n", skipped);
	CU_cleanup_registry();
	return failures ? 1 : 0; /* CU_basic_run_tests itself returns 0 with failures */
}
