/* How muontrain is started for a run. */
#ifndef MUONLAB_LAUNCH_H
#define MUONLAB_LAUNCH_H

#include "grid.h"

typedef struct lab_trainer {
	const char *program; /* muontrain */
	const char *runs;    /* folder of the experiment's runs */
} lab_trainer;

/* The arguments, NULL-terminated, in `memory`: mpirun first where the run has ranks. `folder` is
 * the run's; `resume`: go on with what is in it. MUON_E_MEMORY, and MUON_E_OPEN if the checkpoint
 * to start from is gone. */
int launch_arguments(char ***arguments, const lab_trainer *trainer, const lab_run *run,
                      const char *folder, bool resume, muon_arena *memory, muon_error *err);

/* The arguments as one line that a shell takes, `program` without its folder; NULL when out of
 * memory. */
const char *launch_line(char *const *arguments, const char *program, muon_arena *memory);

/* Make the run's folder ready. *resume: the same settings left a checkpoint there to go on from;
 * anything else that a run left is removed. */
int launch_prepare(const lab_run *run, const char *folder, bool *resume, muon_error *err);

/* What is in the folder is not to be gone on with. */
void launch_forget(const char *folder);

/* Model flops of the run, to tell how long it takes among others; at least 1. */
double launch_cost(const lab_run *run);

#endif
