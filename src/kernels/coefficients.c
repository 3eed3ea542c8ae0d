/* The polynomials that people orthogonalise with, each table as its authors publish it. */
#include <muon/kernels.h>

#include <math.h>
#include <string.h>

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

/* Jordan et al. 2024 */
static const muon_quintic jordan[] = {{3.4445, -4.7750, 2.0315}};

/* You Jiacheng 2024 */
static const muon_quintic you5[] = {
    {4.0848, -6.8946, 2.9270}, {3.9505, -6.3029, 2.6377}, {3.7418, -5.5913, 2.3037},
    {2.8769, -3.1427, 1.2046}, {2.8366, -3.0525, 1.2012},
};

/* Amsel et al. 2025, before their safety factor, by which all but the last row are
 * scaled and the norm is multiplied */
static const muon_quintic polar_express[] = {
    {8.28721201814563, -23.595886519098837, 17.300387312530933},
    {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
    {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
    {3.3184196573706015, -2.488488024314874, 0.51004894012372},
    {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
    {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
    {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
    {1.875, -1.25, 0.375},
};

/* The same method for exactly five steps, with a cushion and a safety of 2% in the numbers; dion
 * and modded-nanogpt */
static const muon_quintic polar_express_5[] = {
    {8.156554524902461, -22.48329292557795, 15.878769915207462},
    {4.042929935166739, -2.808917465908714, 0.5000178451051316},
    {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
    {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
    {2.3465413258596377, -1.7097828382687081, 0.42323551169305323},
};

/* Grishina et al. 2025 */
static const muon_quintic cans[] = {
    {8.4703, -25.1081, 18.6293}, {4.1828, -3.1087, 0.5806}, {3.9619, -2.9541, 0.5630},
    {3.2866, -2.4647, 0.5074},   {2.2737, -1.6447, 0.4162},
};

/* Boissin et al. 2025, who rescale rows rather than divide by |M|_F: the first polynomial is
 * negative from 0.884 on, which would turn round a matrix of rank one. A larger norm keeps below
 * that. */
static const muon_quintic aol[] = {
    {4.0098, -7.0585, 2.4635},
    {3.4585, -5.5479, 2.5959},
    {2.7573, -3.2939, 1.4254},
    {2.7215, -3.0494, 1.3169},
};

/* DeepSeek-V4: Jordan's, then these two */
static const muon_quintic deepseek_v4[] = {{2.0, -1.5, 0.5}, {2.0, -1.5, 0.5}};

typedef struct table {
	const char *name;
	int steps; /* as many as its authors use */
	double norm_factor;
	int rows;
	const muon_quintic *row;
} table;

static const table tables[] = {
    {"jordan", 5, 1, COUNT(jordan), jordan},
    {"you5", 5, 1, COUNT(you5), you5},
    {"polar_express", 5, 1.01, COUNT(polar_express), polar_express},
    {"cans", 5, 1, COUNT(cans), cans},
    {"aol", 4, 1.2, COUNT(aol), aol},
    {"deepseek_v4", 10, 1, COUNT(deepseek_v4), deepseek_v4},
};

static const char *const names[] = {
    "jordan", "you5", "polar_express", "cans", "aol", "deepseek_v4", NULL,
};

const char *const *muon_coefficients_names(void)
{
	return names;
}

/* The first rows, the last of them repeated. */
static void fill(muon_coefficients *c, const muon_quintic *row, int rows)
{
	for (int i = 0; i < c->steps; i++)
		c->step[i] = row[i < rows ? i : rows - 1];
}

static void fill_polar_express(muon_coefficients *c)
{
	if (c->steps == COUNT(polar_express_5)) {
		c->norm_factor = 1.02;
		fill(c, polar_express_5, COUNT(polar_express_5));
		return;
	}
	const double f = c->norm_factor;
	fill(c, polar_express, COUNT(polar_express));
	for (int i = 0; i < c->steps && i < COUNT(polar_express) - 1; i++) {
		c->step[i].a /= f;
		c->step[i].b /= f * f * f;
		c->step[i].c /= f * f * f * f * f;
	}
}

static void fill_deepseek_v4(muon_coefficients *c)
{
	fill(c, jordan, COUNT(jordan));
	for (int i = 0; i < COUNT(deepseek_v4) && i < c->steps; i++)
		c->step[c->steps - 1 - i] = deepseek_v4[i];
}

int muon_coefficients_named(muon_coefficients *coefficients, const char *name, int steps)
{
	const table *t = tables;
	while (t < tables + COUNT(tables) && strcmp(t->name, name))
		t++;
	if (t == tables + COUNT(tables) || steps < 0 || steps > MUON_NS_MAX_STEPS)
		return MUON_E_USAGE;
	*coefficients =
	    (muon_coefficients){.steps = steps ? steps : t->steps, .norm_factor = t->norm_factor};
	if (t->row == polar_express)
		fill_polar_express(coefficients);
	else if (t->row == deepseek_v4)
		fill_deepseek_v4(coefficients);
	else
		fill(coefficients, t->row, t->rows);
	return MUON_OK;
}

double muon_coefficients_apply(const muon_coefficients *coefficients, double s)
{
	for (int i = 0; i < coefficients->steps; i++) {
		const muon_quintic *p = &coefficients->step[i];
		s *= p->a + s * s * (p->b + s * s * p->c);
	}
	return s;
}

/* Does a singular value s of M, over |M|_F, end where orthogonalised ones do? */
static bool is_reached(const muon_coefficients *c, double s)
{
	const double orthogonal = 0.68; /* the least that Jordan's leave of larger values */
	return muon_coefficients_apply(c, s / c->norm_factor) >= orthogonal;
}

double muon_coefficients_reach(const muon_coefficients *coefficients)
{
	const double ratio = 0.999, smallest = 1e-16; /* of a scan downwards, then bisection */
	if (!is_reached(coefficients, 1))
		return INFINITY;
	double good = 1, bad = ratio;
	while (bad > smallest && is_reached(coefficients, bad)) {
		good = bad;
		bad *= ratio;
	}
	for (int i = 0; i < 64; i++) {
		const double middle = 0.5 * (good + bad);
		if (is_reached(coefficients, middle))
			good = middle;
		else
			bad = middle;
	}
	return good;
}
