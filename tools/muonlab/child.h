/* Programs started as children, each in a process group of its own, so that an interrupt from the
 * terminal reaches them once and through us. */
#ifndef MUONLAB_CHILD_H
#define MUONLAB_CHILD_H

#include <muon/error.h>
#include <sys/types.h>

/* Start argv[0] (searched in PATH; argv ends with NULL) with nothing on its standard input and all
 * it prints appended to the file `output`. It gets SIGTERM should we die.
 * MUON_E_OPEN when it can't be started. */
int child_start(pid_t *pid, char *const *argv, const char *output, muon_error *err);

/* What it printed last, escaped: its last line that begins with "WHO: ", for launchers such as mpirun
 * add paragraphs of their own; where there is none, the last line with a letter in it; else "".
 * `from`: bytes of the output that others have written before. */
void child_last_words(char *line, size_t capacity, const char *output, long from, const char *who);
long child_output_size(const char *output);

/* Send `signal` to its whole group. */
void child_signal(pid_t pid, int signal);

#endif
