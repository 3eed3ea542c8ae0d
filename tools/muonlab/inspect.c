#include "inspect.h"

#include "common/csv_table.h"

#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <muonspec/forward.h>
#include <muonspec/report.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}

/* ---- the folder -------------------------------------------------------------------------- */

typedef struct file_list {
	char **paths;
	size_t count;
} file_list;

static void release_files(file_list *files)
{
	for (size_t i = 0; i < files->count; i++)
		muon_free(files->paths[i]);
	muon_free(files->paths);
	*files = (file_list){0};
}

static bool is_checkpoint(const char *name)
{
	size_t length = strlen(name);
	return *name != '.' && length > 3 && !strcmp(name + length - 3, ".h5");
}

static bool add_file(file_list *files, const char *folder, const char *name)
{
	size_t capacity = strlen(folder) + strlen(name) + 2;
	char **paths = muon_resize(files->paths, files->count + 1, sizeof *paths);
	char *path = muon_alloc(capacity, 1);
	if (paths)
		files->paths = paths;
	if (!paths || !path) {
		muon_free(path);
		return false;
	}
	snprintf(path, capacity, "%s/%s", folder, name);
	files->paths[files->count++] = path;
	return true;
}

static int compare_paths(const void *a, const void *b)
{
	return muon_natural_compare(*(char *const *)a, *(char *const *)b);
}

static int list_checkpoints(file_list *files, const char *folder, muon_error *err)
{
	*files = (file_list){0};
	DIR *opened = opendir(folder);
	if (!opened)
		return muon_fail(err, MUON_E_OPEN, folder, "%s", strerror(errno));
	bool good = true;
	for (struct dirent *entry; good && (entry = readdir(opened));)
		if (is_checkpoint(entry->d_name))
			good = add_file(files, folder, entry->d_name);
	closedir(opened);
	if (!good)
		return no_memory(err);
	if (!files->count)
		return muon_fail(err, MUON_E_OPEN, folder, "holds no checkpoint");
	qsort(files->paths, files->count, sizeof *files->paths, compare_paths);
	return MUON_OK;
}

char *last_checkpoint(const char *folder, muon_error *err)
{
	file_list files;
	char *last = NULL;
	if (!list_checkpoints(&files, folder, err)) {
		last = files.paths[files.count - 1];
		files.paths[files.count - 1] = NULL;
	}
	release_files(&files);
	return last;
}

/* ---- digest ------------------------------------------------------------------------------ */

/* FNV-1a over 64 bits: finds differences, and is no defence. */
static void digest_bytes(uint64_t *digest, const void *bytes, size_t count)
{
	const unsigned char *at = bytes;
	for (size_t i = 0; i < count; i++)
		*digest = (*digest ^ at[i]) * UINT64_C(1099511628211);
}

static int digest_tensor(uint64_t *digest, mspec_checkpoint *checkpoint, size_t index,
                         muon_error *err)
{
	const mspec_tensor *tensor = mspec_tensor_at(checkpoint, index);
	size_t bytes = (size_t)tensor->elements * muon_dtype_size(tensor->dtype);
	void *values = muon_alloc_aligned(bytes + 1, 1);
	if (!values)
		return no_memory(err);
	int code = mspec_read(checkpoint, index, 0, tensor->elements, values, err);
	digest_bytes(digest, tensor->name, strlen(tensor->name) + 1);
	digest_bytes(digest, tensor->dims, (size_t)tensor->rank * sizeof *tensor->dims);
	if (!code)
		digest_bytes(digest, values, bytes);
	muon_free_aligned(values);
	return code;
}

static int digest_checkpoint(uint64_t *digest, mspec_checkpoint *checkpoint, muon_error *err)
{
	int code = MUON_OK;
	*digest = UINT64_C(14695981039346656037);
	for (size_t i = 0; i < mspec_tensor_count(checkpoint) && !code; i++) {
		const mspec_tensor *tensor = mspec_tensor_at(checkpoint, i);
		if (tensor->role != MSPEC_ROLE_ACTIVATION && tensor->dtype != MUON_DTYPE_NONE)
			code = digest_tensor(digest, checkpoint, i, err);
	}
	return code;
}

/* ---- the model --------------------------------------------------------------------------- */

static int describe_model(csv_table *table, const mspec_checkpoint *checkpoint, muon_error *err)
{
	mspec_model_config config;
	mspec_model *model = NULL;
	int code = mspec_model_config_read(&config, checkpoint, err);
	if (!code)
		code = mspec_model_create(&model, &config, err);
	if (!code &&
	    (!csv_table_set_number(table, 0, "parameters",
	                           (double)mspec_model_parameter_count(model)) ||
	     !csv_table_set_number(table, 0, "active_parameters",
	                           (double)mspec_model_active_parameters(model))))
		code = no_memory(err);
	mspec_model_destroy(&model);
	return code;
}

static int describe_last(csv_table *table, const char *path, size_t count, muon_error *err)
{
	mspec_checkpoint *checkpoint = NULL;
	uint64_t digest;
	char text[24];
	if (csv_table_add_row(table) == SIZE_MAX ||
	    !csv_table_set_number(table, 0, "checkpoints", (double)count))
		return no_memory(err);
	int code = mspec_open(&checkpoint, path, NULL, err);
	if (code)
		return code;
	code = describe_model(table, checkpoint, err);
	if (!code)
		code = digest_checkpoint(&digest, checkpoint, err);
	if (!code) {
		snprintf(text, sizeof text, "x%016" PRIx64, digest);
		code = csv_table_set(table, 0, "digest", text) ? MUON_OK : no_memory(err);
	}
	mspec_close(&checkpoint);
	return code;
}

/* ---- spectra ----------------------------------------------------------------------------- */

enum { MOST_METRICS = 64, MOST_LAYERS = 4096 };

typedef struct metric_choice {
	size_t metrics[MOST_METRICS], count;
} metric_choice;

static int choose_metrics(metric_choice *choice, const char *list, muon_error *err)
{
	choice->count = 0;
	while (*list) {
		char name[64];
		size_t length = strcspn(list, ",");
		snprintf(name, sizeof name, "%.*s", (int)length, list);
		size_t metric = mspec_metric_find(name);
		if (metric >= mspec_metric_count() || choice->count == MOST_METRICS)
			return muon_fail(err, MUON_E_USAGE, NULL,
			                 "no metric is called '%s'; see 'muonspec metrics'", name);
		choice->metrics[choice->count++] = metric;
		list += length + (list[length] == ',');
	}
	return MUON_OK;
}

static size_t add_row(csv_table *table, double step, const char *matrix, const char *group)
{
	size_t row = csv_table_add_row(table);
	char name[256];
	bool good = row != SIZE_MAX && csv_table_set_number(table, row, "step", step) &&
	            csv_table_set(table, row, "matrix", muon_escape(name, sizeof name, matrix)) &&
	            csv_table_set(table, row, "group", group);
	return good ? row : SIZE_MAX;
}

static bool add_matrix(csv_table *table, double step, const mspec_row *from,
                       const metric_choice *choice)
{
	size_t row = add_row(table, step, from->matrix->name, from->matrix->group);
	bool good = row != SIZE_MAX &&
	            csv_table_set_number(table, row, "rows", (double)from->matrix->rows) &&
	            csv_table_set_number(table, row, "cols", (double)from->matrix->cols);
	for (size_t k = 0; k < choice->count && good; k++)
		good = csv_table_set_number(table, row, mspec_metric_at(choice->metrics[k])->name,
		                            from->values[k]);
	return good;
}

/* An array with an entry a layer? "activations/matrices/..." are outputs of single ones. */
static bool is_of_layers(const mspec_tensor *tensor, size_t layers)
{
	static const char matrices[] = "activations/matrices/";
	bool number = tensor->dtype == MUON_F32 || tensor->dtype == MUON_F64;
	return number && tensor->rank == 1 && tensor->elements <= MOST_LAYERS &&
	       (!layers || (size_t)tensor->elements == layers) &&
	       strncmp(tensor->name, matrices, strlen(matrices)) != 0;
}

/* A recorded array with an entry a layer: "activations/output_rms" is column recorded_output_rms of
 * rows "layer 0", ..., which begin at `first`. */
static int add_activations(csv_table *table, double step, mspec_checkpoint *checkpoint,
                           size_t index, size_t *first, size_t *layers, muon_error *err)
{
	const mspec_tensor *tensor = mspec_tensor_at(checkpoint, index);
	const char *slash = strrchr(tensor->name, '/');
	char column[100], layer[32];
	double stored[MOST_LAYERS], values[MOST_LAYERS];
	if (!is_of_layers(tensor, *layers))
		return MUON_OK;
	int code = mspec_read(checkpoint, index, 0, tensor->elements, stored, err);
	if (!code)
		muon_convert_f64(tensor->dtype, stored, (size_t)tensor->elements, values);
	for (size_t i = 0; i < (size_t)tensor->elements && !code && !*layers; i++) {
		snprintf(layer, sizeof layer, "layer %zu", i);
		size_t row = add_row(table, step, layer, "Layer");
		*first = i ? *first : row;
		code = row == SIZE_MAX ? no_memory(err) : MUON_OK;
	}
	*layers = (size_t)tensor->elements;
	snprintf(column, sizeof column, "recorded_%s", slash ? slash + 1 : tensor->name);
	for (size_t i = 0; i < *layers && !code; i++)
		if (!csv_table_set_number(table, *first + i, column, values[i]))
			code = no_memory(err);
	return code;
}

static int analyze_checkpoint(csv_table *table, mspec_checkpoint *checkpoint,
                              const metric_choice *choice, muon_error *err)
{
	const mspec_analyze_options options = {
	    .metrics = choice->metrics, .metric_count = choice->count, .threads = 1};
	double step = mspec_info(checkpoint)->step;
	mspec_analysis *analysis;
	size_t first = 0, layers = 0;
	int code = mspec_analyze(&analysis, checkpoint, &options, err);
	if (code)
		return code;
	for (size_t i = 0; i < analysis->views.count && !code; i++)
		if (!add_matrix(table, step, &analysis->rows[i], choice))
			code = no_memory(err);
	mspec_analysis_destroy(&analysis);
	for (size_t i = 0; i < mspec_tensor_count(checkpoint) && !code; i++)
		if (mspec_tensor_at(checkpoint, i)->role == MSPEC_ROLE_ACTIVATION)
			code = add_activations(table, step, checkpoint, i, &first, &layers, err);
	return code;
}

bool step_is_listed(const char *steps, double step)
{
	char *end;
	for (const char *at = steps; *at; at = end + (*end == ',')) {
		if (strtod(at, &end) == step && end != at)
			return true;
		if (end == at)
			return false;
	}
	return false;
}

static int analyze_files(csv_table *table, const file_list *files, const char *metrics,
                         const char *steps, muon_error *err)
{
	metric_choice choice;
	int code = choose_metrics(&choice, metrics, err);
	for (size_t i = 0; i < files->count && !code; i++) {
		mspec_checkpoint *checkpoint = NULL;
		code = mspec_open(&checkpoint, files->paths[i], NULL, err);
		bool wanted = !code && (!steps || i + 1 == files->count ||
		                        step_is_listed(steps, mspec_info(checkpoint)->step));
		if (wanted)
			code = analyze_checkpoint(table, checkpoint, &choice, err);
		mspec_close(&checkpoint);
	}
	return code;
}

static int write_table(const csv_table *table, const char *folder, const char *name,
                       muon_error *err)
{
	char path[4200];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return csv_table_write(table, path, err);
}

int inspect_run(const char *folder, const char *metrics, const char *steps, muon_error *err)
{
	file_list files;
	csv_table inspection = {0}, spectra = {0};
	int code = list_checkpoints(&files, folder, err);
	if (!code)
		code = describe_last(&inspection, files.paths[files.count - 1], files.count, err);
	if (!code && metrics)
		code = analyze_files(&spectra, &files, metrics, steps, err);
	if (!code && metrics)
		code = write_table(&spectra, folder, "spectra.csv", err);
	if (!code)
		code = write_table(&inspection, folder, "inspect.csv", err);
	csv_table_release(&inspection);
	csv_table_release(&spectra);
	release_files(&files);
	return code;
}
