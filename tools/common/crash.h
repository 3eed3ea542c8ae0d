/* Child processes that work on files of unknown origin, on which libhdf5 may crash. */
#ifndef MUONSPEC_TOOL_CRASH_H
#define MUONSPEC_TOOL_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* First thing in the child: it ends with its parent and leaves no core; libhdf5 and the C library,
 * which print to standard error when they break, do so to /dev/null. messages() stays where it was. */
void child_of_unknown_files(pid_t parent);

/* Is the signal one of a program that breaks? */
bool is_crash(int signal);

enum { CRASH_TEXT = 120 };
/* "malformed: the library that reads it crashed (Segmentation fault)"; returns `text`. */
const char *explain_crash(char text[CRASH_TEXT], int signal);

#endif
