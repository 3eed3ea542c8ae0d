#include "track_output.h"

#include "common/csv_output.h"

/* Long form: a line per value. */
int track_csv(const mspec_track *t, double after, muon_error *err)
{
	int code = MUON_OK;
	if (after < 0)
		puts("name,group,metric,step,value");
	for (size_t i = 0; i < t->series_count; i++) {
		const mspec_series *s = &t->series[i];
		for (size_t k = 0; k < s->count && !code; k++) {
			if (s->steps[k] <= after)
				continue;
			csv_text(s->name);
			csv_text(s->group);
			csv_text(s->metric);
			csv_number(s->steps[k]);
			csv_number(s->values[k]);
			code = csv_end(err);
		}
	}
	return code;
}
