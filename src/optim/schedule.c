#include <muon/optim.h>

#include <math.h>

double muon_schedule_lr(const muon_schedule *s, int64_t step)
{
	const double pi = 3.14159265358979323846;
	if (step < 0)
		step = 0;
	if (step < s->warmup_steps)
		return s->lr * (double)(step + 1) / (double)s->warmup_steps;
	const int64_t decay =
	    s->kind == MUON_SCHEDULE_COSINE ? s->steps - s->warmup_steps : s->decay_steps;
	const int64_t into = step - (s->steps - decay);
	if (s->kind == MUON_SCHEDULE_CONSTANT || decay <= 0 || into <= 0)
		return s->lr;
	const double t = into < decay ? (double)into / (double)decay : 1;
	const double way = s->kind == MUON_SCHEDULE_COSINE ? (1 - cos(pi * t)) / 2 : t;
	return s->lr + (s->final_lr - s->lr) * way;
}
