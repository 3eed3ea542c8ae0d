/* Steps of every kind of parameter against the formulas, written out once more in float64. */
#include "unit/optim/optim_fixture.h"

/* ---- the formulas --------------------------------------------------------------------------- */

enum { MOST_SIDE = 64 };

/* x (rows x cols) <- a x + (b S + c S^2) x, S = x x^T; no short cuts. */
static void quintic_step(int64_t rows, int64_t cols, const muon_quintic *q, double *x)
{
	static double s[MOST_SIDE][MOST_SIDE], t[MOST_SIDE][MOST_SIDE], y[MOST_SIDE];
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < rows; j++) {
			s[i][j] = 0;
			for (int64_t k = 0; k < cols; k++)
				s[i][j] += x[i * cols + k] * x[j * cols + k];
		}
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < rows; j++) {
			t[i][j] = q->b * s[i][j] + (i == j ? q->a : 0);
			for (int64_t k = 0; k < rows; k++)
				t[i][j] += q->c * s[i][k] * s[k][j];
		}
	for (int64_t j = 0; j < cols; j++) {
		for (int64_t i = 0; i < rows; i++) {
			y[i] = 0;
			for (int64_t k = 0; k < rows; k++)
				y[i] += t[i][k] * x[k * cols + j];
		}
		for (int64_t i = 0; i < rows; i++)
			x[i * cols + j] = y[i];
	}
}

static double norm_of(int64_t n, const double *x)
{
	double sum = 0;
	for (int64_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	return sqrt(sum);
}

static void orthogonalise(int64_t rows, int64_t cols, const muon_coefficients *c, double *x)
{
	const double norm = norm_of(rows * cols, x) * c->norm_factor;
	CU_ASSERT_FATAL(rows <= MOST_SIDE);
	for (int64_t i = 0; norm > 0 && i < rows * cols; i++)
		x[i] /= norm;
	for (int i = 0; i < c->steps; i++)
		quintic_step(rows, cols, &c->step[i], x);
}

static double factor_of(int64_t out, int64_t in, const muon_options *p, const double *o)
{
	const double a = (double)out, b = (double)in;
	switch (p->scale) {
	case MUON_SCALE_MATCH_RMS_ADAMW:
		return p->update_rms * sqrt(a > b ? a : b);
	case MUON_SCALE_ORIGINAL:
		return a > b ? sqrt(a / b) : 1;
	case MUON_SCALE_SPECTRAL_NORM:
		return sqrt(a / b);
	case MUON_SCALE_UPDATE_NORM:
		return p->update_rms * sqrt(a * b) / norm_of(out * in, o);
	case MUON_SCALE_FIXED:
		return p->update_rms * sqrt(p->fixed_width);
	default:
		return 1;
	}
}

/* A parameter as the formulas see it: `count` times the blocks of so many rows. */
typedef struct model {
	const muon_parameter *parameter;
	int64_t n, cols, heights[4];
	int blocks; /* 0: AdamW */
	double *w, *m, *v;
} model;

static void muon_step(model *p, const muon_options *options, const muon_coefficients *c, double lr)
{
	const double mu = options->momentum;
	const double weight = options->momentum_kind == MUON_MOMENTUM_EMA ? 1 - mu : 1;
	double *u = p->v;
	for (int64_t i = 0; i < p->n; i++) {
		const double g = fixture_gradient(p->parameter, i);
		p->m[i] = mu * p->m[i] + weight * g;
		u[i] = options->nesterov ? weight * g + mu * p->m[i] : p->m[i];
	}
	int64_t begin = 0;
	for (int k = 0; begin < p->n; k++) {
		const int64_t rows = p->heights[k % p->blocks], count = rows * p->cols;
		orthogonalise(rows, p->cols, c, u + begin);
		const double factor = factor_of(rows, p->cols, options, u + begin);
		const double decay = p->parameter->no_decay ? 0 : options->weight_decay;
		for (int64_t i = begin; i < begin + count; i++)
			p->w[i] = (1 - lr * decay) * p->w[i] - lr * factor * u[i];
		begin += count;
	}
}

static void adamw_step(model *p, const muon_options *options, int t, double lr)
{
	const double decay = p->parameter->no_decay ? 0 : options->adamw_weight_decay;
	const double b1 = options->beta1, b2 = options->beta2;
	lr *= options->all_adamw ? 1 : options->adamw_lr_ratio;
	for (int64_t i = 0; i < p->n; i++) {
		const double g = fixture_gradient(p->parameter, i);
		p->m[i] = b1 * p->m[i] + (1 - b1) * g;
		p->v[i] = b2 * p->v[i] + (1 - b2) * g * g;
		const double mh = p->m[i] / (1 - pow(b1, t)), vh = p->v[i] / (1 - pow(b2, t));
		p->w[i] = (1 - lr * decay) * p->w[i] - lr * mh / (sqrt(vh) + options->eps);
	}
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* What the blocks of fixture_add_all_kinds are. */
static void describe(model *p, const muon_options *options)
{
	static const struct {
		const char *name;
		int64_t cols, heights[4];
		int blocks;
	} kinds[] = {
	    {"wide", 29, {13}, 1},
	    {"tall", 7, {31}, 1},
	    {"experts", 10, {6}, 1},
	    {"conv", 27, {8}, 1},
	    {"heads", 17, {4}, 1},
	    {"fused", 8, {9, 5, 5}, 3},
	    {"layers.0.mlp.gate.weight", 23, {4}, 1},
	};
	for (size_t i = 0; !options->all_adamw && i < sizeof kinds / sizeof *kinds; i++) {
		if (strcmp(kinds[i].name, p->parameter->name))
			continue;
		p->cols = kinds[i].cols;
		p->blocks = kinds[i].blocks;
		memcpy(p->heights, kinds[i].heights, sizeof p->heights);
	}
	if (!strcmp(p->parameter->name, "layers.0.mlp.gate.weight") &&
	    options->router == MUON_RULE_ADAMW)
		p->blocks = 0;
}

static void start_models(model *models, const optim_fixture *f, const muon_options *options)
{
	for (size_t k = 0; k < f->count; k++) {
		model *p = &models[k];
		const muon_parameter *given = &f->parameters[k];
		*p = (model){.parameter = given, .n = fixture_elements(given)};
		p->w = muon_alloc((size_t)p->n, sizeof(double));
		p->m = muon_alloc((size_t)p->n, sizeof(double));
		p->v = muon_alloc((size_t)p->n, sizeof(double));
		for (int64_t i = 0; i < p->n; i++)
			p->w[i] = fixture_value(given, i);
		describe(p, options);
	}
}

static void end_models(model *models, size_t count)
{
	for (size_t k = 0; k < count; k++) {
		muon_free(models[k].w);
		muon_free(models[k].m);
		muon_free(models[k].v);
	}
}

/* Largest difference from the formulas, over the learning rate; bf16 values as they round. */
static double difference(const model *p, double lr)
{
	double worst = 0;
	const bool is_bf16 = p->parameter->dtype == MUON_BF16;
	for (int64_t i = 0; i < p->n; i++) {
		const double x = fixture_value(p->parameter, i);
		double d = fabs(x - p->w[i]);
		if (is_bf16) /* half a bf16 step */
			d = fmax(0, d - 0x1p-8 * fabs(p->w[i]) * 1.001);
		worst = fmax(worst, d / lr);
	}
	return worst;
}

static void run_against_formulas(const muon_options *options, const muon_coefficients *c,
				 double tolerance)
{
	const double lr = 0.02;
	optim_fixture f;
	model models[FIXTURE_MOST];
	fixture_start(&f, 5);
	fixture_add_all_kinds(&f);
	f.parameters[1].no_decay = true;
	start_models(models, &f, options);
	muon_optimizer *o = fixture_optimizer(&f, options);
	for (int t = 1; t <= 3; t++) {
		fixture_run(&f, o, 1, lr);
		for (size_t k = 0; k < f.count; k++)
			if (models[k].blocks)
				muon_step(&models[k], options, c, lr);
			else
				adamw_step(&models[k], options, t, lr);
	}
	for (size_t k = 0; k < f.count; k++) {
		CU_ASSERT_EQUAL(muon_optimizer_rule(o, k),
				models[k].blocks ? MUON_RULE_MUON : MUON_RULE_ADAMW);
		const double d = difference(&models[k], lr);
		if (!(d < tolerance))
			printf("%s: %g\n", f.parameters[k].name, d);
		CU_ASSERT(d < tolerance);
	}
	muon_optimizer_destroy(&o);
	end_models(models, f.count);
	fixture_end(&f);
}

static void run_named(const muon_options *options, double tolerance)
{
	muon_coefficients c;
	CU_ASSERT_EQUAL_FATAL(muon_coefficients_named(&c, options->coefficients, options->ns_steps),
			      MUON_OK);
	run_against_formulas(options, &c, tolerance);
}

/* float32: some 1e-7 of O(1) entries, larger by what Newton-Schulz makes of rounding */
#define TOLERANCE 1e-4

static void test_momentum(void)
{
	for (int kind = 0; kind <= MUON_MOMENTUM_EMA; kind++)
		for (int nesterov = 0; nesterov <= 1; nesterov++) {
			muon_options options = MUON_OPTIONS_INIT;
			options.momentum_kind = (muon_momentum_kind)kind;
			options.nesterov = nesterov;
			options.momentum = 0.8;
			run_named(&options, TOLERANCE);
		}
}

static void test_scales(void)
{
	for (int scale = 0; scale <= MUON_SCALE_FIXED; scale++) {
		muon_options options = MUON_OPTIONS_INIT;
		options.scale = (muon_scale)scale;
		options.fixed_width = 50;
		options.update_rms = 0.3;
		run_named(&options, TOLERANCE);
	}
}

static void test_coefficients(void)
{
	static const int steps[] = {1, 2, 7, 20};
	for (const char *const *name = muon_coefficients_names(); *name; name++) {
		muon_options options = MUON_OPTIONS_INIT;
		options.coefficients = *name;
		run_named(&options, TOLERANCE);
	}
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		muon_options options = MUON_OPTIONS_INIT;
		options.ns_steps = steps[i];
		run_named(&options, TOLERANCE);
	}
}

static void test_custom_coefficients(void)
{
	const muon_coefficients c = {
	    .steps = 2, .norm_factor = 1.1, .step = {{3, -3.5, 1.4}, {1.875, -1.25, 0.375}}};
	muon_options options = MUON_OPTIONS_INIT;
	options.coefficients = NULL;
	options.custom_coefficients = &c;
	run_against_formulas(&options, &c, TOLERANCE);
}

static void test_float64_products(void)
{
	muon_options options = MUON_OPTIONS_INIT;
	options.ns_precision = MUON_PRECISION_F64;
	run_named(&options, 1e-5);
}

static void test_adamw(void)
{
	muon_options options = MUON_OPTIONS_INIT;
	options.adamw_lr_ratio = 0.5;
	options.adamw_weight_decay = 0.3;
	options.weight_decay = 0;
	options.eps = 0.01;
	options.router = MUON_RULE_ADAMW;
	run_named(&options, TOLERANCE);
	options.all_adamw = true;
	run_named(&options, TOLERANCE);
}

UNIT_SUITE(optim_formulas, {"momentum", test_momentum}, {"scales", test_scales},
	   {"coefficients", test_coefficients}, {"custom coefficients", test_custom_coefficients},
	   {"float64 products", test_float64_products}, {"AdamW", test_adamw})
