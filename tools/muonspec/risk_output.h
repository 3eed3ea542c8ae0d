/* A risk report in each output format, to standard output. */
#ifndef MUONSPEC_TOOL_RISK_OUTPUT_H
#define MUONSPEC_TOOL_RISK_OUTPUT_H

#include "options.h"

#include <muonspec/risk.h>

int risk_table(const mspec_risk_report *report, const mspec_risk_options *how,
               const tool_options *options, muon_error *err);
int risk_json(const mspec_risk_report *report, const mspec_risk_options *how, muon_error *err);
int risk_jsonl(const mspec_risk_report *report, const mspec_risk_options *how, muon_error *err);
int risk_csv(const mspec_risk_report *report, muon_error *err);

#endif
