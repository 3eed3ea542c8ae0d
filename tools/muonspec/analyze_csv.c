#include "analyze_output.h"
#include "csv_output.h"

#include "base/text.h"

/* All notes in one cell. */
static void notes_cell(const mspec_row *row)
{
	muon_text text = {0};
	for (size_t i = 0; i < row->note_count; i++)
		muon_text_format(&text, "%s%s", i ? "; " : "", row->notes[i]);
	csv_text(text.bytes);
	muon_text_release(&text);
}

int analyze_csv(const mspec_analysis *a, const mspec_checkpoint *checkpoint)
{
	printf("name,tensor,slice,group,rows,cols,dtype,status");
	for (size_t k = 0; k < a->metric_count; k++)
		printf(",%s", mspec_metric_at(a->metrics[k])->name);
	puts(",notes");
	for (size_t i = 0; i < a->views.count; i++) {
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
		notes_cell(row);
		csv_end();
	}
	for (size_t i = 0; i < a->views.skipped_count; i++) {
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
		csv_end();
	}
	return MUON_OK;
}
