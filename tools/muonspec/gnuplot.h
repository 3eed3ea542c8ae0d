/* gnuplot, found at run time and run as a process; nothing else knows how. */
#ifndef MUONSPEC_TOOL_GNUPLOT_H
#define MUONSPEC_TOOL_GNUPLOT_H

#include "base/text.h"

/* Is there a gnuplot: the program that MUONSPEC_GNUPLOT names, else gnuplot in PATH. MUON_E_UNSUPPORTED
 * with what to do about it if not. */
int gnuplot_check(muon_error *err);

/* Run `script` and add what it writes to its standard output to `picture`. No shell is involved, no
 * file is read or made, and nobody's settings are taken. MUON_E_INTERNAL with gnuplot's own message
 * on one line, MUON_E_TIMEOUT, MUON_E_MEMORY. */
int gnuplot_draw(muon_text *picture, const muon_text *script, muon_error *err);

#endif
