#include "launch.h"

#include "corpora.h"
#include "inspect.h"

#include "base/text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <muonspec/model.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int no_memory(muon_error *err)
{
	return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
}

/* ---- arguments --------------------------------------------------------------------------- */

typedef struct argument_list {
	char **items;
	size_t count;
	muon_arena *memory;
	bool failed;
} argument_list;

static void add(argument_list *list, const char *text)
{
	char *copy = text ? muon_arena_string(list->memory, text) : NULL;
	list->failed |= !copy;
	list->items[list->count++] = copy;
}

static void add_option(argument_list *list, const char *name, const char *value)
{
	add(list, muon_arena_format(list->memory, "--%s", name));
	if (value)
		add(list, value);
}

/* "@code" is a corpus of the plan. */
static const char *corpus_path(const lab_trainer *trainer, const char *value, muon_arena *memory)
{
	return *value == '@' ? muon_arena_format(memory, "%s/corpora/%s.corpus", trainer->runs,
	                                         value + 1)
	                     : value;
}

static void add_launcher(argument_list *list, const char *ranks)
{
	add(list, "mpirun");
	add(list, "--oversubscribe");
	add(list, "--bind-to"); /* or two runs at a time would share the first core */
	add(list, "none");
	if (!geteuid())
		add(list, "--allow-run-as-root");
	add(list, "-n");
	add(list, ranks);
}

static int add_start(argument_list *list, const lab_trainer *trainer, const lab_run *run,
                     muon_error *err)
{
	char folder[4200];
	snprintf(folder, sizeof folder, "%s/%s", trainer->runs, run->start->name);
	char *path = last_checkpoint(folder, err);
	if (!path)
		return MUON_E_OPEN;
	add_option(list, "init-from", path);
	muon_free(path);
	return MUON_OK;
}

/* A run that goes on takes its options from what it left. */
static bool is_given(const lab_option *option, bool resume)
{
	return strcmp(option->name, "ranks") &&
	       (!resume || !strcmp(option->name, "corpus") || !strcmp(option->name, "threads"));
}

int launch_arguments(char ***arguments, const lab_trainer *trainer, const lab_run *run,
                      const char *folder, bool resume, muon_arena *memory, muon_error *err)
{
	argument_list list = {.memory = memory};
	list.items = muon_arena_alloc(memory, 2 * run->options.count + 24, sizeof *list.items);
	if (!list.items)
		return no_memory(err);
	const char *ranks = lab_run_option(run, "ranks");
	if (ranks)
		add_launcher(&list, ranks);
	add(&list, trainer->program);
	for (size_t i = 0; i < run->options.count; i++) {
		const lab_option *option = &run->options.items[i];
		bool corpus = option->value && !strcmp(option->name, "corpus");
		if (is_given(option, resume))
			add_option(&list, option->name,
			           corpus ? corpus_path(trainer, option->value, memory)
			                  : option->value);
	}
	if (!lab_options_find(&run->options, "threads"))
		add_option(&list, "threads", "1");
	int code = run->start && !resume ? add_start(&list, trainer, run, err) : MUON_OK;
	add_option(&list, "out", folder);
	if (resume)
		add_option(&list, "resume", NULL);
	list.items[list.count] = NULL;
	*arguments = list.items;
	return code ? code : list.failed ? no_memory(err) : MUON_OK;
}

static void add_quoted(muon_text *line, const char *word)
{
	bool plain = *word != 0;
	for (const char *c = word; *c; c++)
		plain = plain && (isalnum((unsigned char)*c) || strchr("_-./=+,:@%", *c));
	if (plain) {
		muon_text_add_string(line, word);
		return;
	}
	muon_text_add(line, "'", 1);
	for (const char *c = word; *c; c++)
		muon_text_add(line, *c == '\'' ? "'\\''" : c, *c == '\'' ? 4 : 1);
	muon_text_add(line, "'", 1);
}

const char *launch_line(char *const *arguments, const char *program, muon_arena *memory)
{
	muon_text line = {0};
	for (size_t i = 0; arguments[i]; i++) {
		const char *slash = strrchr(arguments[i], '/');
		bool trainer = !strcmp(arguments[i], program) && slash;
		if (i)
			muon_text_add(&line, " ", 1);
		add_quoted(&line, trainer ? slash + 1 : arguments[i]);
	}
	muon_text_add(&line, "", 0);
	const char *copy = line.failed ? NULL : muon_arena_string(memory, line.bytes);
	muon_text_release(&line);
	return copy;
}

/* ---- the run's folder -------------------------------------------------------------------- */

/* The first line of FOLDER/settings says what made the rest. */
static bool has_settings(const char *folder, const char *settings)
{
	char path[4300];
	snprintf(path, sizeof path, "%s/settings", folder);
	FILE *file = fopen(path, "rb");
	bool same = file != NULL;
	for (const char *c = settings; same && *c; c++)
		same = getc(file) == (unsigned char)*c;
	same = same && getc(file) == '\n';
	if (file)
		fclose(file);
	return same;
}

/* Files that a run leaves; anything else in the folder is not ours to remove. */
static bool is_of_run(const char *name)
{
	static const char *const endings[] = {".h5", ".csv", ".tmp", ".txt", ".json"};
	size_t length = strlen(name);
	if (!strcmp(name, "settings"))
		return true;
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		size_t ending = strlen(endings[i]);
		if (length > ending && !strcmp(name + length - ending, endings[i]))
			return true;
	}
	return false;
}

static int empty_folder(const char *folder, muon_error *err)
{
	char path[4600];
	struct stat st;
	DIR *opened = opendir(folder);
	int code = opened ? MUON_OK : muon_fail(err, MUON_E_OPEN, folder, "%s", strerror(errno));
	for (struct dirent *entry; !code && (entry = readdir(opened));) {
		snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
		if (!is_of_run(entry->d_name) || lstat(path, &st) || !S_ISREG(st.st_mode))
			continue;
		if (unlink(path))
			code = muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	}
	if (opened)
		closedir(opened);
	return code;
}

int launch_prepare(const lab_run *run, const char *folder, bool *resume, muon_error *err)
{
	char path[4300];
	int code = make_folders(folder, err);
	if (code)
		return code;
	char *left = has_settings(folder, run->settings) ? last_checkpoint(folder, NULL) : NULL;
	*resume = left != NULL;
	muon_free(left);
	if (!*resume)
		code = empty_folder(folder, err);
	if (code || *resume)
		return code;
	snprintf(path, sizeof path, "%s/settings", folder);
	FILE *file = fopen(path, "wb");
	bool good = file && fprintf(file, "%s\n", run->settings) > 0;
	good = file && !fclose(file) && good;
	return good ? MUON_OK : muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
}

void launch_forget(const char *folder)
{
	char path[4300];
	snprintf(path, sizeof path, "%s/settings", folder);
	unlink(path);
}

/* ---- cost -------------------------------------------------------------------------------- */

typedef struct size_option {
	const char *name;
	size_t field; /* int64_t of the configuration */
} size_option;

double launch_cost(const lab_run *run)
{
#define SIZE(name, field) {name, offsetof(mspec_model_config, field)}
	static const size_option sizes[] = {
	    SIZE("hidden", hidden), SIZE("layers", layers),     SIZE("heads", heads),
	    SIZE("kv-heads", kv_heads), SIZE("head-dim", head_dim), SIZE("ffn", ffn),
	    SIZE("experts", experts), SIZE("top-k", top_k), SIZE("expert-ffn", expert_ffn)};
#undef SIZE
	const lab_run *sized = run->start ? run->start : run; /* who has the model's sizes */
	double sequences = lab_run_number(run, "steps", 300) * lab_run_number(run, "batch", 16);
	mspec_model_config config;
	mspec_model *model = NULL;
	const char *preset = lab_run_option(sized, "model");
	if (!preset || mspec_model_preset(&config, preset))
		return fmax(1, 128 * sequences);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		double value = lab_run_number(sized, sizes[i].name, NAN);
		int64_t *field = (int64_t *)(void *)((char *)&config + sizes[i].field);
		*field = isnan(value) ? *field : (int64_t)value;
	}
	if (lab_run_option(sized, "hidden") || lab_run_option(sized, "heads")) { /* as muontrain */
		config.head_dim = config.heads > 0 ? config.hidden / config.heads : 0;
		config.kv_heads = config.heads;
	}
	if (mspec_model_create(&model, &config, NULL))
		return fmax(1, 128 * sequences);
	double length = lab_run_number(run, "length", (double)config.context);
	double flops = length * mspec_model_token_flops(model, (int64_t)length);
	mspec_model_destroy(&model);
	return fmax(1, sequences * flops);
}
