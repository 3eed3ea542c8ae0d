/* Scaling laws L = a C^b of loss over compute, and what two of them say of each other. */
#ifndef MUONSPEC_ANALYSIS_SCALING_LAW_H
#define MUONSPEC_ANALYSIS_SCALING_LAW_H

#include "base/statistics.h"

/* ln L = ln a + b ln C. */
typedef struct mspec_scaling_law {
	muon_line line;
} mspec_scaling_law;

/* By least squares in logarithms, as straight lines in a log-log plot are. False for fewer than two
 * different computes, or a value that is not positive and finite. MUON_E_MEMORY is false too. */
bool mspec_scaling_law_fit(mspec_scaling_law *law, const double *compute, const double *loss,
                           size_t count);
/* A law that somebody else has fitted: no intervals. */
mspec_scaling_law mspec_scaling_law_given(double scale, double exponent);

/* Table 3 of the Moonlight report; compute in PFLOP/s-days, C = 6 N D. */
mspec_scaling_law mspec_scaling_law_report_muon(void);
mspec_scaling_law mspec_scaling_law_report_adamw(void);

muon_interval mspec_scaling_law_scale(const mspec_scaling_law *law, double level);    /* a */
muon_interval mspec_scaling_law_exponent(const mspec_scaling_law *law, double level); /* b */
muon_interval mspec_scaling_law_loss(const mspec_scaling_law *law, double compute, double level);

/* Compute with which `law` reaches the loss that `base` has at `compute`, over `compute`: below 1,
 * `law` needs less. The interval is Fieller's for the point at which a line reaches the other's
 * value, with Welch's degrees of freedom for the two variances. */
muon_interval mspec_compute_ratio(const mspec_scaling_law *law, const mspec_scaling_law *base,
                                  double compute, double level);

#endif
