#include "risk_output.h"

#include "common/csv_output.h"

#include <math.h>

int risk_csv(const mspec_risk_report *r, muon_error *err)
{
	int code = MUON_OK;
	puts("name,group,kind,value,threshold,verdict,reason");
	for (size_t i = 0; i < r->count && !code; i++) {
		const mspec_risk *risk = &r->risks[i];
		csv_text(risk->name);
		csv_text(risk->group);
		csv_text(mspec_risk_kind_name(risk->kind));
		csv_number(risk->value);
		csv_number(risk->threshold);
		csv_text(mspec_verdict_name(risk->verdict));
		csv_text(risk->reason);
		code = csv_end(err);
	}
	for (size_t i = 0; i < r->unjudged_count && !code; i++) {
		csv_text(NULL);
		csv_text(NULL);
		csv_text(mspec_risk_kind_name(r->unjudged[i].kind));
		csv_number(NAN);
		csv_number(NAN);
		csv_text("unjudged");
		csv_text(r->unjudged[i].reason);
		code = csv_end(err);
	}
	return code;
}
