/* Monotonic time, and processor time. */
#ifndef MUON_BASE_CLOCK_H
#define MUON_BASE_CLOCK_H

/* Seconds since an arbitrary fixed moment. */
double muon_seconds(void);

/* Processor time of all threads of this process, and of the calling thread. */
double muon_processor_seconds(void);
double muon_thread_seconds(void);

#endif
