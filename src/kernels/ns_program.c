#include "kernels/ns_program.h"

#include <string.h>

/* Errors of the Gram matrix' small eigenvalues grow by a^2 a step until it is formed anew; where
 * they have grown this much, it is: with Jordan's coefficients after every third step. */
static const double growth_limit = 2000;

typedef struct writer {
	muon_ns_program *program;
	int rows, cols, k; /* X is rows x cols; k is the short side */
	bool tall;         /* X^T X takes the place of X X^T, and X P that of P X */
	bool symmetric;    /* symmetric products as such */
	bool adds_x;       /* P X + a X rather than (P + a I) X: bf16 would round a I away */
	muon_arithmetic arithmetic;
	int x; /* buffer of X */
} writer;

static void add(writer *w, const muon_product *product)
{
	muon_ns_program *p = w->program;
	p->products[p->count++] = *product;
	p->used[product->left] = p->used[product->right] = p->used[product->out] = true;
	p->flops += muon_product_flops(product, w->arithmetic);
}

/* S = X X^T */
static void add_gram(writer *w, int s)
{
	const muon_product gram = {
	    .rows = w->k,
	    .cols = w->k,
	    .depth = w->tall ? w->rows : w->cols,
	    .left = w->x,
	    .right = w->x,
	    .out = s,
	    .left_transposed = w->tall,
	    .right_transposed = !w->tall,
	    .symmetric = w->symmetric,
	    .alpha = 1,
	};
	add(w, &gram);
}

/* P = c S^2 + b S + a I, the last unless a X is added to P X */
static void add_polynomial(writer *w, int p, int s, const muon_quintic *step)
{
	const muon_product polynomial = {
	    .rows = w->k,
	    .cols = w->k,
	    .depth = w->k,
	    .left = s,
	    .right = s,
	    .out = p,
	    .addend = s,
	    .right_transposed = true,
	    .symmetric = w->symmetric,
	    .alpha = step->c,
	    .beta = step->b,
	    .diagonal = w->adds_x ? 0 : step->a,
	};
	add(w, &polynomial);
}

/* C = A B of polynomials in the same S, which commute */
static void add_commuting(writer *w, int c, int a, int b)
{
	const muon_product commuting = {
	    .rows = w->k,
	    .cols = w->k,
	    .depth = w->k,
	    .left = a,
	    .right = b,
	    .out = c,
	    .symmetric = true,
	    .alpha = 1,
	};
	add(w, &commuting);
}

/* X = P X, or P X + a X */
static void add_update(writer *w, int p, double a)
{
	const int next = w->x == NS_X ? NS_Y : NS_X;
	const muon_product update = {
	    .rows = w->rows,
	    .cols = w->cols,
	    .depth = w->k,
	    .left = w->tall ? w->x : p,
	    .right = w->tall ? p : w->x,
	    .out = next,
	    .addend = w->x,
	    .alpha = 1,
	    .beta = w->adds_x ? a : 0,
	};
	add(w, &update);
	w->x = next;
}

static void write_steps(writer *w, const muon_coefficients *coefficients)
{
	enum { S = NS_SQUARES, P };
	for (int i = 0; i < coefficients->steps; i++) {
		add_gram(w, S);
		add_polynomial(w, P, S, &coefficients->step[i]);
		add_update(w, P, coefficients->step[i].a);
	}
}

/* The first step, from `first` on, that works with a new Gram matrix. */
static int next_restart(const muon_coefficients *c, int first)
{
	double growth = 1;
	int i = first;
	do {
		growth *= c->step[i].a * c->step[i].a;
		i++;
	} while (i < c->steps && growth * c->step[i].a * c->step[i].a <= growth_limit);
	return i;
}

static void swap(int *a, int *b)
{
	const int c = *a;
	*a = *b;
	*b = c;
}

/* Steps first .. end - 1 on the Gram matrix S alone: each makes it S P^2, and X is multiplied with
 * Q, the product of all P, in the end. */
static void write_gram_steps(writer *w, const muon_coefficients *coefficients, int first, int end)
{
	int s = NS_SQUARES, p = s + 1, q = s + 2, t = s + 3;
	add_gram(w, s);
	for (int i = first; i < end; i++) {
		int polynomial = p;
		add_polynomial(w, polynomial, s, &coefficients->step[i]);
		if (i == first) {
			swap(&q, &p);
		} else {
			add_commuting(w, t, q, polynomial);
			swap(&q, &t);
		}
		if (i + 1 < end) {
			add_commuting(w, t, s, polynomial);
			add_commuting(w, s, t, polynomial);
		}
	}
	add_update(w, q, 0);
}

void muon_ns_program_write(muon_ns_program *program, int rows, int cols,
			   const muon_coefficients *coefficients, muon_arithmetic arithmetic,
			   muon_ns_form form)
{
	memset(program, 0, sizeof *program);
	writer w = {
	    .program = program,
	    .rows = rows,
	    .cols = cols,
	    .k = rows < cols ? rows : cols,
	    .tall = rows > cols,
	    .symmetric = form != MUON_NS_PLAIN,
	    .adds_x = arithmetic != MUON_ARITHMETIC_F32 && arithmetic != MUON_ARITHMETIC_F64,
	    .arithmetic = arithmetic,
	    .x = NS_X,
	};
	if (form == MUON_NS_GRAM) {
		for (int i = 0, end; i < coefficients->steps; i = end) {
			end = next_restart(coefficients, i);
			write_gram_steps(&w, coefficients, i, end);
		}
	} else {
		write_steps(&w, coefficients);
	}
	program->result = w.x;
}
