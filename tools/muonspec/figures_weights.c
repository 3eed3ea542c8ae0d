/* Figures of a checkpoint's weights. */
#include "figures.h"
#include "matrix_place.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CURVE_POINTS = 64,
	MOST_CURVES = 32,       /* in a panel */
	MOST_COMPARED = 12,     /* of each side */
	MOST_PAGES = 4,
	MOST_HEAT_KINDS = 40,
	MOST_HEAT_LAYERS = 200,
	HISTOGRAM_BINS = 24
};

/* A matrix of a side's analysis, and where it stands. */
typedef struct placed_row {
	const mspec_row *row;
	matrix_place place;
	size_t kind; /* index of its kind */
} placed_row;

typedef struct weights {
	const subject *subject;
	figure_list *list;
	placed_row *rows[2];
	const char **kinds; /* in order of appearance */
	size_t kind_count;
	int last_layer; /* -1: no name says a layer */
} weights;

/* ---- places --------------------------------------------------------------------------------------- */

static size_t find_kind(weights *w, const char *kind)
{
	size_t k = 0;
	while (k < w->kind_count && strcmp(w->kinds[k], kind))
		k++;
	if (k == w->kind_count)
		w->kinds[w->kind_count++] = kind;
	return k;
}

static int place_rows(weights *w)
{
	size_t total = 0;
	w->last_layer = -1;
	for (int side = 0; side < w->subject->side_count; side++)
		total += w->subject->sides[side].analysis->views.count;
	w->kinds = muon_alloc(total + 1, sizeof *w->kinds);
	if (!w->kinds)
		return MUON_E_MEMORY;
	for (int side = 0; side < w->subject->side_count; side++) {
		const mspec_analysis *a = w->subject->sides[side].analysis;
		w->rows[side] = muon_alloc(a->views.count + 1, sizeof *w->rows[side]);
		if (!w->rows[side])
			return MUON_E_MEMORY;
		for (size_t i = 0; i < a->views.count; i++) {
			placed_row *p = &w->rows[side][i];
			const mspec_matrix *m = a->rows[i].matrix;
			p->row = &a->rows[i];
			matrix_place_of(&p->place, m->name, m->slice);
			p->kind = find_kind(w, p->place.kind);
			if (p->place.layer > w->last_layer)
				w->last_layer = p->place.layer;
		}
	}
	return MUON_OK;
}

static size_t row_count(const weights *w, int side)
{
	return w->subject->sides[side].analysis->views.count;
}

static bool has_spectrum(const mspec_row *row)
{
	return !row->code && row->spectrum.sigma && row->spectrum.count > 1 &&
	       row->spectrum.sigma[0] > 0;
}

/* ---- spectra ---------------------------------------------------------------------------------------- */

static void add_curve(muon_text *data, const placed_row *p)
{
	const mspec_spectrum *s = &p->row->spectrum;
	int64_t before = -1;
	muon_text_format(data, "# layer %d\n", p->place.layer);
	for (int k = 0; k <= CURVE_POINTS; k++) { /* denser where the curve is steep */
		double t = (double)k / CURVE_POINTS;
		int64_t i = (int64_t)((double)(s->count - 1) * t * t + 0.5);
		if (i == before)
			continue;
		before = i;
		muon_text_format(data, "%.4g %.5g %d\n", (double)i / (double)(s->count - 1),
		                 s->sigma[i] / s->sigma[0], p->place.layer);
	}
	muon_text_add_string(data, "\n\n");
}

/* Evenly spread ones among the kind's of this side; their number. */
static int add_curves(const weights *w, int side, size_t kind, int most, muon_text *data)
{
	size_t all = 0, seen = 0, count = row_count(w, side);
	int drawn = 0;
	for (size_t i = 0; i < count; i++)
		all += w->rows[side][i].kind == kind && has_spectrum(w->rows[side][i].row);
	size_t wanted = all < (size_t)most ? all : (size_t)most;
	for (size_t i = 0; i < count; i++) {
		const placed_row *p = &w->rows[side][i];
		if (p->kind != kind || !has_spectrum(p->row))
			continue;
		/* the next of `wanted` places among 0 ... all - 1 */
		size_t place = wanted > 1 ? (size_t)drawn * (all - 1) / (wanted - 1) : 0;
		if (seen++ == place && (size_t)drawn < wanted) {
			add_curve(data, p);
			drawn++;
		}
	}
	return drawn;
}

static void add_side_plot(const weights *w, figure *f, int side, int first, int count,
                          bool *begun)
{
	const subject *s = w->subject;
	if (!count)
		return;
	muon_text_add_string(&f->script, *begun ? ", \\\n  " : "plot ");
	*begun = true;
	muon_text_format(&f->script, "for [i=%d:%d] data index i using 1:2%s with lines lw 1 lc ",
	                 first, first + count - 1,
	                 s->side_count == 1 && w->last_layer > 0 ? ":3" : "");
	if (s->side_count == 1 && w->last_layer > 0)
		muon_text_add_string(&f->script, "palette notitle");
	else if (s->side_count == 1)
		muon_text_format(&f->script, "rgb '%s' notitle", figure_color(0));
	else {
		muon_text_format(&f->script, "rgb '%s' title i == %d ? ",
		                 figure_color((size_t)side), first);
		figure_quote(&f->script, s->sides[side].label, 20, false);
		muon_text_add_string(&f->script, " : ''");
	}
}

static void add_panel(const weights *w, panel_grid *grid, size_t kind, int *next)
{
	int most = w->subject->side_count > 1 ? MOST_COMPARED : MOST_CURVES;
	bool begun = false;
	panels_next(grid, w->kinds[kind]);
	for (int side = 0; side < w->subject->side_count; side++) {
		int count = add_curves(w, side, kind, most, &grid->figure->data);
		add_side_plot(w, grid->figure, side, *next, count, &begun);
		*next += count;
	}
	muon_text_add_string(&grid->figure->script, "\n");
}

static bool kind_has_spectra(const weights *w, size_t kind)
{
	for (int side = 0; side < w->subject->side_count; side++)
		for (size_t i = 0; i < row_count(w, side); i++)
			if (w->rows[side][i].kind == kind && has_spectrum(w->rows[side][i].row))
				return true;
	return false;
}

static int spectra_page(weights *w, const size_t *kinds, int count, size_t page, size_t all)
{
	char name[LONGEST_FIGURE_NAME] = "spectra";
	panel_grid grid;
	int next = 0;
	bool layers = w->subject->side_count == 1 && w->last_layer > 0;
	if (page)
		snprintf(name, sizeof name, "spectra-%zu", page + 1);
	figure *f = figure_add(w->list, name, panel_width(count), panel_height(count));
	if (!f)
		return MUON_E_MEMORY;
	muon_text_format(&f->title, page ? "Spectra (%zu)" : "Spectra", page + 1);
	muon_text_format(&f->words,
	                 "Singular values of each matrix, sorted and divided by the largest, against "
	                 "their place from the first (0) to the last (1). %d of %zu kinds of "
	                 "matrices; up to %d matrices of a kind%s. A curve that falls late means "
	                 "many directions of like size, as Muon leaves them.",
	                 count, all, w->subject->side_count > 1 ? MOST_COMPARED : MOST_CURVES,
	                 layers ? ", coloured by layer" : "");
	if (layers)
		muon_text_format(&f->script,
		                 "set palette maxcolors 32 defined (0 '#0072b2', 1 '#56b4e9', 2 "
		                 "'#e69f00', 3 '#d55e00')\n"
		                 "set cbrange [0:%d]\nset cbtics %d\nset cblabel 'layer'\n",
		                 w->last_layer, (w->last_layer + 4) / 5);
	muon_text_add_string(&f->script, "set xrange [0:1]\nset yrange [0:1]\nset xtics 0.5\n"
	                                 "set ytics 0.5\n");
	panels_begin(&grid, f, count, "place among the singular values",
	             "singular value over the largest", layers);
	for (int k = 0; k < count; k++)
		add_panel(w, &grid, kinds[k], &next);
	panels_end(&grid);
	return MUON_OK;
}

static int add_spectra(weights *w)
{
	size_t *kinds = muon_alloc(w->kind_count + 1, sizeof *kinds), count = 0;
	int code = kinds ? MUON_OK : MUON_E_MEMORY;
	for (size_t k = 0; kinds && k < w->kind_count; k++)
		if (kind_has_spectra(w, k))
			kinds[count++] = k;
	for (size_t page = 0; page < MOST_PAGES && page * PANELS < count && !code; page++) {
		size_t left = count - page * PANELS;
		code = spectra_page(w, kinds + page * PANELS, left < PANELS ? (int)left : PANELS,
		                    page, count);
	}
	muon_free(kinds);
	return code;
}

/* ---- heat maps ---------------------------------------------------------------------------------------- */

/* Sums over the ok matrices of a kind in a layer. */
typedef struct heat_cell {
	double sum, count;
} heat_cell;

typedef struct heat_map {
	size_t metric;
	int layers[MOST_HEAT_LAYERS]; /* ascending; -1 for what has none */
	size_t layer_count, layers_left_out;
	size_t kinds[MOST_HEAT_KINDS];
	size_t kind_count, kinds_left_out;
	double low, high;
	heat_cell *cells[2]; /* of each side: kinds x layers */
} heat_map;

static int compare_layers(const void *x, const void *y)
{
	const int *a = x, *b = y;
	return *a < *b ? -1 : *a > *b;
}

static void find_layers(const weights *w, heat_map *h)
{
	for (size_t i = 0; i < row_count(w, 0); i++) {
		size_t at = 0;
		int layer = w->rows[0][i].place.layer;
		while (at < h->layer_count && h->layers[at] != layer)
			at++;
		if (at < h->layer_count)
			continue;
		if (h->layer_count == MOST_HEAT_LAYERS)
			h->layers_left_out++;
		else
			h->layers[h->layer_count++] = layer;
	}
	qsort(h->layers, h->layer_count, sizeof *h->layers, compare_layers);
}

static size_t find_layer(const heat_map *h, int layer)
{
	const int *found = bsearch(&layer, h->layers, h->layer_count, sizeof layer, compare_layers);
	return found ? (size_t)(found - h->layers) : SIZE_MAX;
}

/* cells[kind * layer_count + layer] */
static void sum_cells(const weights *w, const heat_map *h, int side, heat_cell *cells)
{
	for (size_t i = 0; i < row_count(w, side); i++) {
		const placed_row *p = &w->rows[side][i];
		size_t x = find_layer(h, p->place.layer);
		double value = p->row->values[h->metric];
		if (x == SIZE_MAX || p->row->code || !isfinite(value))
			continue;
		cells[p->kind * h->layer_count + x].sum += value;
		cells[p->kind * h->layer_count + x].count++;
	}
}

/* What the map shows there: the mean, of two sides their difference; NaN: none. */
static double cell_value(const weights *w, const heat_map *h, size_t kind, size_t x)
{
	size_t at = kind * h->layer_count + x;
	double value[2] = {NAN, NAN};
	for (int side = 0; side < w->subject->side_count; side++)
		if (h->cells[side][at].count > 0)
			value[side] = h->cells[side][at].sum / h->cells[side][at].count;
	return w->subject->side_count > 1 ? value[0] - value[1] : value[0];
}

/* Rows of the map, its cells into the data, and the range of values. */
static void add_cells(const weights *w, heat_map *h, muon_text *data)
{
	h->low = INFINITY;
	h->high = -INFINITY;
	for (size_t kind = 0; kind < w->kind_count; kind++) {
		bool any = false, room = h->kind_count < MOST_HEAT_KINDS;
		for (size_t x = 0; x < h->layer_count; x++) {
			double v = cell_value(w, h, kind, x);
			if (isnan(v))
				continue;
			any = true;
			if (!room)
				break;
			h->low = v < h->low ? v : h->low;
			h->high = v > h->high ? v : h->high;
			muon_text_format(data, "%zu %zu %.8g\n", x, h->kind_count, v);
		}
		if (any && room)
			h->kinds[h->kind_count++] = kind;
		else if (any)
			h->kinds_left_out++;
	}
}

static void add_heat_axes(const weights *w, const heat_map *h, figure *f, int left)
{
	size_t every = h->layer_count / 20 + 1;
	muon_text *s = &f->script;
	muon_text_format(s, "set lmargin at screen %.4f\nset rmargin at screen %.4f\n",
	                 (double)left / f->width, 1 - 110.0 / f->width);
	muon_text_format(s, "set xrange [-0.5:%zu.5]\nset yrange [%zu.5:-0.5]\n", h->layer_count - 1,
	                 h->kind_count - 1);
	muon_text_add_string(s, "unset grid\nset border 0\nset tics scale 0\nset ytics (");
	for (size_t k = 0; k < h->kind_count; k++) {
		muon_text_add_string(s, k ? ", " : "");
		figure_quote(s, w->kinds[h->kinds[k]], 38, true);
		muon_text_format(s, " %zu", k);
	}
	muon_text_add_string(s, ")\nset xtics (");
	for (size_t x = 0; x < h->layer_count; x += every) {
		if (h->layers[x] < 0)
			muon_text_format(s, "%s'none' %zu", x ? ", " : "", x);
		else
			muon_text_format(s, "%s'%d' %zu", x ? ", " : "", h->layers[x], x);
	}
	muon_text_add_string(s, ")\nset xlabel 'layer'\n");
}

static void add_heat_colors(const weights *w, const heat_map *h, figure *f)
{
	muon_text *s = &f->script;
	double low = h->low, high = h->high;
	if (w->subject->side_count > 1) {
		high = fmax(fabs(low), fabs(high));
		low = -high;
		muon_text_add_string(s, "set palette maxcolors 33 defined (0 '#d55e00', 1 '#f5f5f5', "
		                        "2 '#0072b2')\n");
	} else {
		muon_text_add_string(s, "set palette maxcolors 32 defined (0 '#1d4e89', 1 '#5b7a9d', "
		                        "2 '#9aa38f', 3 '#d8c36a', 4 '#fee838')\n");
	}
	if (!(high - low > 1e-9 * fabs(high))) { /* gnuplot wants a range */
		double half = high ? 1e-6 * fabs(high) : 1;
		low -= half;
		high += half;
	}
	muon_text_format(s, "set cbrange [%.10g:%.10g]\nset cbtics %.10g\nset format cb '%%.4g'\n", low,
	                 high, figure_tics(high - low, f->height / 45));
}

static int longest_label(const weights *w, const heat_map *h)
{
	size_t longest = 4;
	for (size_t k = 0; k < h->kind_count; k++) {
		size_t length = strlen(w->kinds[h->kinds[k]]);
		longest = length > longest ? length : longest;
	}
	return longest > 38 ? 38 : (int)longest;
}

static void describe_heat_map(const weights *w, const heat_map *h, figure *f, const char *metric)
{
	const subject *s = w->subject;
	if (s->side_count > 1)
		muon_text_format(&f->title, "%s by layer: %s minus %s", metric, s->sides[0].label,
		                 s->sides[1].label);
	else
		muon_text_format(&f->title, "%s by layer", metric);
	muon_text_format(&f->words,
	                 "%s over layer and kind of matrix, the mean where a layer has several; from "
	                 "%.4g to %.4g.",
	                 s->side_count > 1 ? "Difference" : metric, h->low, h->high);
	if (h->kinds_left_out || h->layers_left_out)
		muon_text_format(&f->words, " %zu kinds and %zu layers more are not drawn.",
		                 h->kinds_left_out, h->layers_left_out);
}

static int fill_heat_map(const weights *w, heat_map *h, figure *f)
{
	find_layers(w, h);
	for (int side = 0; side < w->subject->side_count; side++) {
		h->cells[side] = muon_alloc(w->kind_count * h->layer_count + 1, sizeof(heat_cell));
		if (!h->cells[side])
			return MUON_E_MEMORY;
		sum_cells(w, h, side, h->cells[side]);
	}
	add_cells(w, h, &f->data);
	return MUON_OK;
}

static void finish_heat_map(const weights *w, const heat_map *h, figure *f)
{
	const char *name = mspec_metric_at(h->metric)->name;
	int left = 24 + 8 * longest_label(w, h), cell = h->layer_count < 24 ? 26 : 12;
	int width = left + 130 + cell * (int)h->layer_count;
	f->width = width < 480 ? 480 : width;
	f->height = 112 + 22 * (int)h->kind_count;
	f->height = f->height < 200 ? 200 : f->height;
	describe_heat_map(w, h, f, name);
	figure_put_title(f);
	add_heat_axes(w, h, f, left);
	add_heat_colors(w, h, f);
	muon_text_format(&f->script, "set cblabel '%s' offset 1,0\n", name);
	muon_text_add_string(&f->script,
	                     "plot data using 1:2:($1-0.47):($1+0.47):($2-0.46):($2+0.46):3 with "
	                     "boxxyerror fillstyle solid noborder lc palette notitle\n");
}

static int add_heat_map(weights *w, size_t metric)
{
	char name[LONGEST_FIGURE_NAME];
	heat_map *h = muon_alloc(1, sizeof *h);
	snprintf(name, sizeof name, "heatmap-%s", mspec_metric_at(metric)->name);
	figure *f = h ? figure_add(w->list, name, 0, 0) : NULL;
	int code = f ? MUON_OK : MUON_E_MEMORY;
	if (f) {
		h->metric = metric;
		code = fill_heat_map(w, h, f);
		if (!code && h->kind_count)
			finish_heat_map(w, h, f);
		else
			figure_drop(w->list); /* undefined everywhere */
		muon_free(h->cells[0]);
		muon_free(h->cells[1]);
	}
	muon_free(h);
	return code;
}

/* ---- entropies ------------------------------------------------------------------------------------------ */

typedef struct histogram {
	double low, high;
	size_t counts[3][HISTOGRAM_BINS]; /* of each side, of the baseline */
	size_t totals[3];
} histogram;

/* Entropy of a row and of a Gaussian matrix of its shape; false where undefined. */
static bool entropies(const mspec_row *row, double *entropy, double *baseline)
{
	size_t metric = subject_metric("svd_entropy");
	*entropy = row->values[metric];
	*baseline = mspec_gaussian_entropy(row->matrix->rows, row->matrix->cols);
	return !row->code && isfinite(*entropy) && isfinite(*baseline);
}

static void widen(histogram *h, double x)
{
	h->low = x < h->low ? x : h->low;
	h->high = x > h->high ? x : h->high;
}

static void count_value(histogram *h, int which, double x)
{
	int bin = (int)((x - h->low) / (h->high - h->low) * HISTOGRAM_BINS);
	bin = bin < 0 ? 0 : bin >= HISTOGRAM_BINS ? HISTOGRAM_BINS - 1 : bin;
	h->counts[which][bin]++;
	h->totals[which]++;
}

static void fill_histogram(const weights *w, histogram *h)
{
	double entropy, baseline;
	*h = (histogram){.low = INFINITY, .high = -INFINITY};
	for (int pass = 0; pass < 2; pass++) {
		if (pass && !(h->high > h->low))
			h->high = h->low + 1e-6;
		for (int side = 0; side < w->subject->side_count; side++)
			for (size_t i = 0; i < row_count(w, side); i++) {
				if (!entropies(w->rows[side][i].row, &entropy, &baseline))
					continue;
				if (!pass) {
					widen(h, entropy);
					widen(h, baseline);
					continue;
				}
				count_value(h, side, entropy);
				count_value(h, 2, baseline);
			}
	}
}

static void add_bins(figure *f, const histogram *h)
{
	double step = (h->high - h->low) / HISTOGRAM_BINS;
	for (int b = 0; b < HISTOGRAM_BINS; b++) {
		muon_text_format(&f->data, "%.8g", h->low + (b + 0.5) * step);
		for (int which = 0; which < 3; which++)
			muon_text_format(&f->data, " %.6g",
			                 h->totals[which] ? 100.0 * (double)h->counts[which][b] /
			                                        (double)h->totals[which]
			                                  : 0.0);
		muon_text_add_string(&f->data, "\n");
	}
}

static int add_histogram(weights *w)
{
	histogram h;
	fill_histogram(w, &h);
	if (!h.totals[2])
		return MUON_OK;
	figure *f = figure_add(w->list, "entropy-histogram", 640, 360);
	if (!f)
		return MUON_E_MEMORY;
	muon_text_add_string(&f->title, "SVD entropy against a Gaussian matrix");
	muon_text_format(&f->words,
	                 "Share of the %zu matrices at each SVD entropy, from %.4g to %.4g, beside "
	                 "what matrices of the same shapes with independent Gaussian entries have "
	                 "(the line). What lies left of the line has learned directions that stand "
	                 "out.",
	                 h.totals[0] + h.totals[1], h.low, h.high);
	add_bins(f, &h);
	figure_put_title(f);
	double step = (h.high - h.low) / HISTOGRAM_BINS;
	muon_text_format(&f->script,
	                 "set xlabel 'SVD entropy'\nset ylabel 'matrices (%%)'\n"
	                 "set xrange [%.8g:%.8g]\nset yrange [0:*]\nset boxwidth %.8g\n"
	                 "set key top left Left reverse\nplot ",
	                 h.low - step, h.high + step, 0.92 * step);
	for (int side = 0; side < w->subject->side_count; side++) {
		muon_text_format(&f->script,
		                 "data using 1:%d with boxes lc rgb '%s' fillstyle transparent solid "
		                 "0.6 noborder title ",
		                 2 + side, figure_color((size_t)side));
		figure_quote(&f->script,
		             w->subject->side_count > 1 ? w->subject->sides[side].label : "weights",
		             24, false);
		muon_text_add_string(&f->script, ", \\\n  ");
	}
	muon_text_add_string(&f->script, "data using 1:4 with histeps lw 2 lc rgb 'black' title "
	                                 "'Gaussian of the same shape'\n");
	return MUON_OK;
}

/* ---- the whole ---------------------------------------------------------------------------------------------- */

int figures_of_weights(figure_list *list, const subject *s, const size_t *metrics, size_t count,
                       muon_error *err)
{
	weights w = {.subject = s, .list = list};
	int code = place_rows(&w);
	if (!code)
		code = add_spectra(&w);
	for (size_t k = 0; k < count && !code; k++)
		code = add_heat_map(&w, metrics[k]);
	if (!code)
		code = add_histogram(&w);
	muon_free(w.rows[0]);
	muon_free(w.rows[1]);
	muon_free(w.kinds);
	return code ? muon_fail(err, code, NULL, "%s", muon_error_text(code)) : MUON_OK;
}

int figures_make(figure_list *list, const subject *s, const size_t *metrics, size_t count,
                 muon_error *err)
{
	const size_t usual[] = {subject_metric("svd_entropy"), subject_metric("rms")};
	int code = figures_of_steps(list, s, err);
	return code ? code
	            : figures_of_weights(list, s, count ? metrics : usual,
	                                 count ? count : sizeof usual / sizeof *usual, err);
}
