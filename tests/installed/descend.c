#include <muon/optim.h>
#include <stdio.h>

enum { OUT = 2, IN = 3, STEPS = 200 };

int main(void)
{
	const float target[OUT][IN] = {{1, -2, 3}, {0, 1, 1}};
	float w[OUT][IN] = {{0}}, w_gradient[OUT][IN], b[OUT] = {0}, b_gradient[OUT];
	const muon_parameter parameters[] = {
	    {.name = "layer.weight", .rank = 2, .dims = {OUT, IN}, .dtype = MUON_F32,
	     .values = w, .gradient_dtype = MUON_F32, .gradient = w_gradient},
	    {.name = "layer.bias", .rank = 1, .dims = {OUT}, .dtype = MUON_F32,
	     .values = b, .gradient_dtype = MUON_F32, .gradient = b_gradient},
	};
	const muon_schedule schedule = {
	    .kind = MUON_SCHEDULE_COSINE, .lr = 0.5, .steps = STEPS, .warmup_steps = 10};
	muon_options options = MUON_OPTIONS_INIT;
	muon_optimizer *optimizer;
	muon_error err = {0};
	options.weight_decay = options.adamw_weight_decay = 0;
	int code = muon_optimizer_create(&optimizer, &options, parameters, 2, &err);
	for (int step = 0; !code && step < STEPS; step++) {
		for (int i = 0; i < OUT; i++) {
			b_gradient[i] = b[i] - 1;
			for (int j = 0; j < IN; j++)
				w_gradient[i][j] = w[i][j] - target[i][j];
		}
		code = muon_optimizer_step(optimizer, muon_schedule_lr(&schedule, step), &err);
	}
	if (code)
		fprintf(stderr, "%s: %s\n", err.where, err.message);
	else
		printf("%.2f %.2f %.2f, %.2f\n", w[0][0], w[0][1], w[0][2], b[0]);
	muon_optimizer_destroy(&optimizer);
	return muon_exit_status(code);
}
