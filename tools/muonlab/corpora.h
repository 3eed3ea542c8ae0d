/* The corpora that a plan puts together from files of the machine. */
#ifndef MUONLAB_CORPORA_H
#define MUONLAB_CORPORA_H

#include "plan.h"

/* Write FOLDER/NAME.corpus for each corpus of the plan: the files that match, in the order of their
 * names, cut at so many bytes. MUON_E_OPEN if none does. */
int corpora_make(const lab_plan *plan, const char *folder, muon_error *err);

/* mkdir -p. MUON_E_WRITE. */
int make_folders(const char *path, muon_error *err);

#endif
