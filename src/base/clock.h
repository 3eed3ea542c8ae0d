/* Monotonic time. */
#ifndef MUON_BASE_CLOCK_H
#define MUON_BASE_CLOCK_H

/* Seconds since an arbitrary fixed moment. */
double muon_seconds(void);

#endif
