/* Reading a checkpoint in a child process first. */
#ifndef MUONTRAIN_TRIAL_READ_H
#define MUONTRAIN_TRIAL_READ_H

#include <muon/error.h>

/* Would libhdf5 crash or hang on the file? MUON_E_FORMAT, MUON_E_TIMEOUT, naming what in it did.
 * What else may be wrong with it is for who reads it then. */
int trial_read(const char *path, muon_error *err);

#endif
