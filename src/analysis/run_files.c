#include "analysis/run_files.h"

#include "base/text.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files -------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && !strcasecmp(text + length - tail, end);
}

/* "model-00002-of-00006.safetensors" */
static bool is_shard(const char *name)
{
	const char *of = strstr(name, "-of-");
	return of && of > name && isdigit((unsigned char)of[-1]) && isdigit((unsigned char)of[4]) &&
	       ends_with(name, ".safetensors");
}

static bool is_checkpoint_name(const char *name)
{
	static const char *const endings[] = {".h5",          ".hdf5", ".hdf",
					      ".safetensors", ".npz",  ".safetensors.index.json"};
	if (*name == '.' || ends_with(name, "spectra.h5") || is_shard(name))
		return false;
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (ends_with(name, endings[i]))
			return true;
	return false;
}

static int add_path(mspec_run_files *files, const char *path, muon_error *err)
{
	const char *copy = path ? muon_arena_string(&files->arena, path) : NULL;
	const char **grown =
	    copy ? muon_resize(files->paths, files->count + 1, sizeof *grown) : NULL;
	if (!grown)
		return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
	files->paths = grown;
	grown[files->count++] = copy;
	return MUON_OK;
}

/* The path of what a folder holds under `name`, without a slash too many; NULL when out of
 * memory. */
static const char *join(mspec_run_files *files, const char *folder, const char *name)
{
	size_t length = strlen(folder);
	while (length > 1 && folder[length - 1] == '/')
		length--;
	bool root = length == 1 && *folder == '/';
	return muon_arena_format(&files->arena, "%.*s%s%s", (int)length, folder, root ? "" : "/",
				 name);
}

/* A checkpoint that is a folder of its own, as Hugging Face's trainers write them. */
static int add_subfolder(mspec_run_files *files, const char *path, muon_error *err)
{
	static const char *const inside[] = {"model.safetensors.index.json", "model.safetensors"};
	for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
		const char *file = join(files, path, inside[i]);
		if (!file)
			return muon_fail(err, MUON_E_MEMORY, path, "out of memory");
		if (!access(file, F_OK))
			return add_path(files, file, err);
	}
	return MUON_OK;
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
	return muon_natural_compare((*a)->d_name, (*b)->d_name);
}

static int add_entry(mspec_run_files *files, const char *folder, const char *name, muon_error *err)
{
	struct stat st;
	if (*name == '.')
		return MUON_OK;
	const char *path = join(files, folder, name);
	if (!path)
		return muon_fail(err, MUON_E_MEMORY, folder, "out of memory");
	if (stat(path, &st))
		return MUON_OK; /* gone meanwhile, or a link to nothing */
	if (S_ISDIR(st.st_mode))
		return add_subfolder(files, path, err);
	return S_ISREG(st.st_mode) && is_checkpoint_name(name) ? add_path(files, path, err)
							       : MUON_OK;
}

static int add_folder(mspec_run_files *files, const char *folder, muon_error *err)
{
	struct dirent **entries;
	int count = scandir(folder, &entries, NULL, compare_names), code = MUON_OK;
	if (count < 0)
		return muon_fail(err, MUON_E_OPEN, folder, "%s", strerror(errno));
	for (int i = 0; i < count; i++) {
		if (!code)
			code = add_entry(files, folder, entries[i]->d_name, err);
		free(entries[i]); /* of the C library */
	}
	free(entries);
	return code;
}

int mspec_run_files_find(mspec_run_files *files, const char *const *arguments, size_t count,
			 muon_error *err)
{
	*files = (mspec_run_files){0};
	for (size_t i = 0; i < count; i++) {
		struct stat st;
		if (stat(arguments[i], &st))
			return muon_fail(err, MUON_E_OPEN, arguments[i], "%s", strerror(errno));
		int code = S_ISDIR(st.st_mode) ? add_folder(files, arguments[i], err)
					       : add_path(files, arguments[i], err);
		if (code)
			return code;
	}
	return MUON_OK;
}

void mspec_run_files_release(mspec_run_files *files)
{
	muon_free(files->paths);
	muon_arena_release(&files->arena);
	*files = (mspec_run_files){0};
}

/* ---- steps -------------------------------------------------------------------------------- */

/* The last two components of a path that matter: "runs/checkpoint-500/model.safetensors" has the
 * name "model" in the folder "checkpoint-500". */
typedef struct name_parts {
	const char *folder, *name;
	size_t folder_length, name_length;
} name_parts;

static name_parts split(const char *path)
{
	name_parts p = {.name = path};
	const char *slash = strrchr(path, '/');
	if (slash) {
		const char *start = slash;
		while (start > path && start[-1] != '/')
			start--;
		p.name = slash + 1;
		p.folder = start;
		p.folder_length = (size_t)(slash - start);
	}
	p.name_length = strlen(p.name);
	static const char *const endings[] = {".safetensors.index.json", ".safetensors", ".weights.h5",
					      ".h5", ".hdf5", ".hdf", ".npz", ".npy", ".bin"};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (ends_with(p.name, endings[i])) {
			p.name_length -= strlen(endings[i]);
			break;
		}
	return p;
}

/* Number `index` of the text: a run of digits. NaN if it has fewer. */
static double number_at(const char *text, size_t length, size_t index)
{
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)text[i]))
			continue;
		double value = 0;
		for (; i < length && isdigit((unsigned char)text[i]); i++)
			value = 10 * value + (text[i] - '0');
		if (!index--)
			return value;
	}
	return NAN;
}

/* The number after the word, with a separator between them at the most; NaN if none. The word must
 * begin one: "epoch" is not in "superepoch3". */
static double number_after(const char *text, size_t length, const char *word)
{
	size_t size = strlen(word);
	for (size_t i = 0; i + size < length; i++) {
		if (strncasecmp(text + i, word, size) ||
		    (i && isalpha((unsigned char)text[i - 1])))
			continue;
		size_t at = i + size;
		if (at < length && strchr("-_.= ", text[at]))
			at++;
		if (at < length && isdigit((unsigned char)text[at]))
			return number_at(text + at, length - at, 0);
	}
	return NAN;
}

/* Words before a step's number, the surest first. */
static const char *const step_words[] = {"global_step", "steps", "step",  "iteration", "iters",
					 "iter",        "it",    "update", "checkpoint", "ckpt",
					 "epochs",      "epoch", "ep"};

typedef struct step_names {
	name_parts *parts;
	size_t count;
	bool of_folder;
} step_names;

static const char *text_of(const step_names *n, size_t i, size_t *length)
{
	*length = n->of_folder ? n->parts[i].folder_length : n->parts[i].name_length;
	return n->of_folder ? n->parts[i].folder : n->parts[i].name;
}

static bool differ(const double *steps, size_t count)
{
	double first = NAN;
	for (size_t i = 0; i < count; i++) {
		if (isnan(steps[i]))
			continue;
		if (!isnan(first) && steps[i] != first)
			return true;
		first = steps[i];
	}
	return false;
}

/* Do the steps, found in some way, look like steps: most names have one? */
static bool are_steps(const double *steps, size_t count)
{
	size_t found = 0;
	for (size_t i = 0; i < count; i++)
		found += !isnan(steps[i]);
	return found && 2 * found >= count && (count == 1 || found == 1 || differ(steps, count));
}

static bool steps_by_word(const step_names *n, double *steps)
{
	size_t length;
	for (size_t w = 0; w < sizeof step_words / sizeof *step_words; w++) {
		for (size_t i = 0; i < n->count; i++) {
			const char *text = text_of(n, i, &length);
			steps[i] = number_after(text, length, step_words[w]);
		}
		if (are_steps(steps, n->count))
			return true;
	}
	return false;
}

static bool steps_by_place(const step_names *n, double *steps)
{
	enum { MOST = 32 };
	size_t length;
	const char *only = text_of(n, 0, &length);
	if (n->count == 1 && !isnan(number_at(only, length, 1)))
		return false; /* which of its numbers, nothing tells */
	for (size_t at = 0; at < MOST; at++) {
		for (size_t i = 0; i < n->count; i++) {
			const char *text = text_of(n, i, &length);
			steps[i] = number_at(text, length, at);
		}
		if (are_steps(steps, n->count))
			return true;
	}
	return false;
}

static bool same_names(const step_names *n)
{
	for (size_t i = 1; i < n->count; i++)
		if (n->parts[i].name_length != n->parts[0].name_length ||
		    memcmp(n->parts[i].name, n->parts[0].name, n->parts[0].name_length))
			return false;
	return true;
}

static int steps_by_regex(double *steps, const char *const *paths, size_t count, const char *pattern,
			  muon_error *err)
{
	regex_t regex;
	int failed = regcomp(&regex, pattern, REG_EXTENDED);
	if (failed) {
		char reason[128];
		regerror(failed, &regex, reason, sizeof reason);
		return muon_fail(err, MUON_E_USAGE, pattern, "no regular expression: %s", reason);
	}
	for (size_t i = 0; i < count; i++) {
		regmatch_t match[2];
		steps[i] = NAN;
		if (regexec(&regex, paths[i], 2, match, 0))
			continue;
		const char *from = paths[i] + match[match[1].rm_so >= 0].rm_so;
		size_t length = (size_t)(match[match[1].rm_so >= 0].rm_eo -
					 match[match[1].rm_so >= 0].rm_so);
		steps[i] = number_at(from, length, 0);
	}
	regfree(&regex);
	return MUON_OK;
}

int mspec_run_steps(double *steps, const char *const *paths, size_t count, const char *regex,
		    muon_error *err)
{
	if (regex)
		return steps_by_regex(steps, paths, count, regex, err);
	step_names n = {.parts = muon_alloc(count + 1, sizeof *n.parts), .count = count};
	if (!n.parts)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	bool folders = true;
	for (size_t i = 0; i < count; i++) {
		n.parts[i] = split(paths[i]);
		folders &= n.parts[i].folder != NULL;
	}
	/* one file named model.safetensors is as well told by its folder */
	bool unnumbered =
	    count == 1 && isnan(number_at(n.parts[0].name, n.parts[0].name_length, 0));
	n.of_folder = folders && (count > 1 || unnumbered) && same_names(&n);
	if (!steps_by_word(&n, steps) && !steps_by_place(&n, steps))
		for (size_t i = 0; i < count; i++)
			steps[i] = NAN;
	muon_free(n.parts);
	return MUON_OK;
}
