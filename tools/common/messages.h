/* The standard files of a program. */
#ifndef MUONSPEC_TOOL_MESSAGES_H
#define MUONSPEC_TOOL_MESSAGES_H

#include <muon/error.h>

#include <stdio.h>

/* Make sure that standard input, output and error are open; first thing in main. */
void open_standard_files(void);

/* Where messages and progress go: standard error, unless set_messages has said otherwise. */
FILE *messages(void);
void set_messages(FILE *file);

/* Flush what has been printed to standard output. 0, or the exit status after a message that begins
 * with `who`; a reader that has seen enough (`| head -1`) is no failure. */
int flush_results(const char *who);

#endif
