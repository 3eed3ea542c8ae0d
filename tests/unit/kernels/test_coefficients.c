#include "unit/unit.h"

#include <math.h>
#include <muon/kernels.h>
#include <string.h>

static muon_coefficients named(const char *name, int steps)
{
	muon_coefficients c;
	CU_ASSERT_EQUAL_FATAL(muon_coefficients_named(&c, name, steps), MUON_OK);
	return c;
}

static void check_step(const muon_coefficients *c, int step, double a, double b, double c5)
{
	UNIT_CLOSE(c->step[step].a, a, 1e-14);
	UNIT_CLOSE(c->step[step].b, b, 1e-14);
	UNIT_CLOSE(c->step[step].c, c5, 1e-14);
}

/* Values of Jordan's five steps, as published and recomputed, to their six digits. */
static void test_jordan_values(void)
{
	static const double table[][2] = {
	    {1, 0.696436},     {0.9, 0.682011},
	    {0.75, 1.046693},  {0.5, 0.765439},
	    {0.25, 0.714526},  {0.1, 0.712120},
	    {0.05, 0.758120},  {0.02, 0.681832},
	    {0.01, 0.698917},  {0.005, 1.154366},
	    {0.002, 0.860039}, {0.001, 0.470544},
	    {1e-4, 0.048473},  {0, 0},
	};
	const muon_coefficients jordan = named("jordan", 0);
	CU_ASSERT_EQUAL(jordan.steps, 5);
	CU_ASSERT_EQUAL(jordan.norm_factor, 1);
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&jordan, table[i][0]), table[i][1],
				       5.1e-7);
}

/* Values computed apart from this code, with Python, from the tables as published: a wrong digit of
 * any row shows. */
static void test_table_values(void)
{
	static const double at[] = {0.8, 0.5, 0.1, 0.01, 0.001};
	static const struct {
		const char *name;
		int steps;
		double value[5];
	} tables[] = {
	    {"polar_express",
	     3,
	     {1.75946034866, 1.0973263124, 1.57976868296, 1.19673591588, 0.130333917378}},
	    {"polar_express",
	     6,
	     {1.00027419346, 1.00106266669, 0.997907608372, 0.998853915861, 0.994406733444}},
	    {"polar_express",
	     7,
	     {0.999997808836, 0.999998302308, 0.999995778938, 0.999996696374, 0.999990946074}},
	    {"jordan",
	     5,
	     {1.11920392992, 0.765438530454, 0.712120081658, 0.698917063322, 0.470543951216}},
	    {"you5",
	     5,
	     {1.00563219438, 0.985869354097, 1.01904988875, 1.01802522497, 0.474981563989}},
	    {"polar_express",
	     5,
	     {1.03375027212, 0.910610875741, 1.05916113796, 1.02711017843, 0.858872643527}},
	    {"cans",
	     5,
	     {0.923786128038, 1.09641445897, 0.916308780136, 1.11316922764, 0.886527524503}},
	    {"aol", 4, {1.00223087164, 1.00748737214, 1.00387934713, 0.86588442261, 0.10386753752}},
	    {"deepseek_v4",
	     10,
	     {1.00045635425, 1.00016322869, 1.00006070635, 1.00001916167, 1.00000120575}},
	};
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		const muon_coefficients c = named(tables[i].name, tables[i].steps);
		for (int j = 0; j < 5; j++)
			UNIT_CLOSE(muon_coefficients_apply(&c, at[j]), tables[i].value[j], 1e-11);
	}
}

static void test_jordan_step(void)
{
	const muon_coefficients one = named("jordan", 1), five = named("jordan", 5);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&one, 1), 0.7010, 5.1e-5);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&one, 0.868026), 0.868026, 2e-6);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&one, 1.263729), 1.263729, 2e-6);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&one, 0.554529), 1.202369, 5.1e-7);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&one, 1.050136), 0.681831, 5.1e-7);
	for (int side = -1; side <= 1; side += 2) { /* a maximum and a minimum */
		CU_ASSERT(muon_coefficients_apply(&one, 0.554529 + side * 1e-3) < 1.202369);
		CU_ASSERT(muon_coefficients_apply(&one, 1.050136 + side * 1e-3) > 0.681831);
	}
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&five, 1e-9) / 1e-9, 484.88, 5.1e-3);
}

/* Range of what singular values of X_0 from `smallest` to 1 become, against its four digits. */
static void check_range(const char *name, int steps, double smallest, double least, double most)
{
	enum { SAMPLES = 400000 };
	const muon_coefficients c = named(name, steps);
	double low = INFINITY, high = -INFINITY;
	for (int i = 0; i <= SAMPLES; i++) {
		/* even in the logarithm: small ones change fastest */
		const double s = smallest * pow(1 / smallest, (double)i / SAMPLES);
		const double y = muon_coefficients_apply(&c, s);
		low = fmin(low, y);
		high = fmax(high, y);
	}
	CU_ASSERT_DOUBLE_EQUAL(low, least, 5.1e-5);
	CU_ASSERT_DOUBLE_EQUAL(high, most, 5.1e-5);
}

static void test_ranges(void)
{
	check_range("jordan", 5, 0.01, 0.6818, 1.1344);
	check_range("jordan", 5, 0.005, 0.6818, 1.1544);
	check_range("jordan", 5, 0.002, 0.6818, 1.2024);
	check_range("jordan", 5, 1e-9, 0, 1.2024); /* of all */
	check_range("jordan", 10, 0.001, 0.6818, 1.1344);
	check_range("you5", 5, 0.005, 0.9778, 1.1115);
	check_range("you5", 5, 0.01, 0.9778, 1.0318);
	check_range("polar_express", 5, 0.001, 0.8589, 1.1411);
	check_range("cans", 5, 0.001, 0.8844, 1.1198);
	check_range("deepseek_v4", 10, 0.001, 1.0000, 1.0005);
}

/* The first polynomial of AOL is negative from 0.884 on, where its authors' rescaling leaves few
 * singular values and |M|_F leaves that of every matrix of rank one. */
static void test_aol_keeps_direction(void)
{
	const muon_coefficients aol = named("aol", 0);
	for (double s = 0.02; s <= 1; s += 1e-5) {
		const double y = muon_coefficients_apply(&aol, s / aol.norm_factor);
		CU_ASSERT_FATAL(y > 0.98 && y < 1.09);
	}
	check_step(&aol, 0, 4.0098, -7.0585, 2.4635);
}

static void test_reach(void)
{
	const muon_coefficients jordan = named("jordan", 5);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_reach(&jordan), 0.0015005, 6e-8);
	CU_ASSERT_DOUBLE_EQUAL(muon_coefficients_apply(&jordan, 0.001067), 0.5, 2.5e-4);
	for (const char *const *name = muon_coefficients_names(); *name; name++) {
		const muon_coefficients c = named(*name, 0);
		const double reach = muon_coefficients_reach(&c), factor = c.norm_factor;
		CU_ASSERT(reach > 0 && reach < 0.02);
		CU_ASSERT(muon_coefficients_apply(&c, reach * 0.999 / factor) < 0.68);
		for (double s = reach; s <= 1; s *= 1.001)
			CU_ASSERT_FATAL(muon_coefficients_apply(&c, s / factor) >= 0.68);
	}
	/* the reach counts |M|_F, which the factor divides */
	muon_coefficients doubled = jordan;
	doubled.norm_factor = 2;
	UNIT_CLOSE(muon_coefficients_reach(&doubled), 2 * muon_coefficients_reach(&jordan), 1e-9);
	/* a dip below 0.68 at 0.892 decides; then 1 itself is not reached */
	muon_coefficients one = {.steps = 1, .norm_factor = 1, .step = {{3, -5.5, 3.2}}};
	UNIT_CLOSE(muon_coefficients_apply(&one, muon_coefficients_reach(&one)), 0.68, 1e-9);
	CU_ASSERT(muon_coefficients_reach(&one) > 0.892);
	CU_ASSERT(muon_coefficients_apply(&one, 0.5) > 0.68);
	one.step[0] = (muon_quintic){0.5, 0, 0};
	CU_ASSERT(isinf(muon_coefficients_reach(&one)));
}

static void test_steps(void)
{
	static const int usual[] = {5, 5, 5, 5, 4, 10};
	const char *const *names = muon_coefficients_names();
	int count = 0;
	for (; names[count]; count++) {
		CU_ASSERT_EQUAL(named(names[count], 0).steps, usual[count]);
		for (int steps = 1; steps <= MUON_NS_MAX_STEPS; steps++)
			CU_ASSERT_EQUAL(named(names[count], steps).steps, steps);
		muon_coefficients c;
		CU_ASSERT_EQUAL(muon_coefficients_named(&c, names[count], -1), MUON_E_USAGE);
		CU_ASSERT_EQUAL(muon_coefficients_named(&c, names[count], 21), MUON_E_USAGE);
	}
	CU_ASSERT_EQUAL(count, 6);
	muon_coefficients c;
	CU_ASSERT_EQUAL(muon_coefficients_named(&c, "Jordan", 5), MUON_E_USAGE);
	CU_ASSERT_EQUAL(muon_coefficients_named(&c, "", 5), MUON_E_USAGE);
}

static void test_rows(void)
{
	const muon_coefficients cans = named("cans", 7);
	check_step(&cans, 4, 2.2737, -1.6447, 0.4162);
	check_step(&cans, 6, 2.2737, -1.6447, 0.4162); /* the last repeated */
	const muon_coefficients aol = named("aol", 2);
	check_step(&aol, 1, 3.4585, -5.5479, 2.5959);

	const muon_coefficients six = named("polar_express", 6);
	CU_ASSERT_EQUAL(six.norm_factor, 1.01);
	check_step(&six, 0, 8.28721201814563 / 1.01, -23.595886519098837 / pow(1.01, 3),
		   17.300387312530933 / pow(1.01, 5));
	const muon_coefficients twenty = named("polar_express", 20);
	check_step(&twenty, 6, 1.8750014808534479 / 1.01, -1.2500016453999487 / pow(1.01, 3),
		   0.3750001645474248 / pow(1.01, 5));
	check_step(&twenty, 7, 1.875, -1.25, 0.375); /* the limit has no safety factor */
	check_step(&twenty, 19, 1.875, -1.25, 0.375);
	UNIT_CLOSE(muon_coefficients_apply(&twenty, 1e-4), 1, 1e-12);
	const muon_coefficients five = named("polar_express", 5);
	CU_ASSERT_EQUAL(five.norm_factor, 1.02);
	check_step(&five, 0, 8.156554524902461, -22.48329292557795, 15.878769915207462);

	const muon_coefficients deepseek = named("deepseek_v4", 3);
	check_step(&deepseek, 0, 3.4445, -4.7750, 2.0315);
	check_step(&deepseek, 1, 2, -1.5, 0.5);
	check_step(&deepseek, 2, 2, -1.5, 0.5);
	const muon_coefficients single = named("deepseek_v4", 1);
	check_step(&single, 0, 2, -1.5, 0.5);
}

UNIT_SUITE(coefficients, {"values of five Jordan steps", test_jordan_values},
	   {"values of every table", test_table_values}, {"one Jordan step", test_jordan_step},
	   {"ranges", test_ranges}, {"AOL", test_aol_keeps_direction}, {"reach", test_reach},
	   {"steps", test_steps}, {"rows", test_rows})
