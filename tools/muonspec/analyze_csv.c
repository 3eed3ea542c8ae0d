#include "analyze_output.h"

#include "common/csv_output.h"

int analyze_csv(const mspec_analysis *a, const mspec_checkpoint *checkpoint, muon_error *err)
{
	int code = MUON_OK;
	printf("name,tensor,slice,group,rows,cols,dtype,status");
	for (size_t k = 0; k < a->metric_count; k++)
		printf(",%s", mspec_metric_at(a->metrics[k])->name);
	puts(",notes");
	for (size_t i = 0; i < a->views.count && !code; i++) {
		const mspec_row *row = &a->rows[i];
		const mspec_matrix *m = row->matrix;
		csv_text(m->name);
		csv_text(row->tensor_name);
		csv_text(m->slice);
		csv_text(m->group);
		csv_integer(m->rows);
		csv_integer(m->cols);
		csv_text(muon_dtype_name(m->dtype));
		csv_text(row->status);
		for (size_t k = 0; k < a->metric_count; k++)
			csv_number(row->values[k]);
		csv_list(row->notes, row->note_count);
		code = csv_end(err);
	}
	for (size_t i = 0; i < a->views.skipped_count && !code; i++) {
		const mspec_skip *skip = &a->views.skipped[i];
		const mspec_tensor *t = mspec_tensor_at(checkpoint, skip->tensor);
		csv_text(t->name);
		csv_text(t->name);
		for (int empty = 0; empty < 4; empty++)
			csv_text(NULL);
		csv_text(t->dtype == MUON_DTYPE_NONE ? t->type_name : muon_dtype_name(t->dtype));
		csv_text("skipped");
		for (size_t k = 0; k < a->metric_count; k++)
			csv_text(NULL);
		csv_text(skip->reason);
		code = csv_end(err);
	}
	return code;
}
