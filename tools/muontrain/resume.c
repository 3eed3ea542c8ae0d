#include "resume.h"

#include "run_folder.h"
#include "trial_read.h"

#include "base/memory.h"
#include "base/text.h"

#include <muonspec/forward.h>
#include <stdlib.h>
#include <string.h>

static char *copy_text(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = muon_alloc(size, 1);
	return copy ? memcpy(copy, text, size) : NULL;
}

static bool holds_state(const mspec_checkpoint *checkpoint)
{
	for (size_t i = 0; i < mspec_tensor_count(checkpoint); i++)
		if (mspec_tensor_at(checkpoint, i)->role == MSPEC_ROLE_OPTIMIZER)
			return true;
	return false;
}

static int read_point(resume_point *point, mspec_checkpoint *checkpoint, muon_error *err)
{
	const char *where = mspec_info(checkpoint)->path;
	const char *described = mspec_attribute_text(checkpoint, "options");
	const char *corpus = mspec_attribute_text(checkpoint, "corpus");
	const char *hash = mspec_attribute_text(checkpoint, "corpus_hash");
	double step = mspec_info(checkpoint)->step;
	if (!described || !corpus || !hash || !(step >= 0 && step <= 1e9))
		return muon_fail(err, MUON_E_FORMAT, where, "was not written by muontrain");
	point->step = (int64_t)step;
	point->corpus_hash = strtoull(hash, NULL, 16);
	point->described = copy_text(described);
	point->words = copy_text(described);
	point->corpus = copy_text(corpus);
	if (!point->described || !point->words || !point->corpus)
		return muon_fail(err, MUON_E_MEMORY, where, "out of memory");
	return mspec_model_config_read(&point->config, checkpoint, err);
}

/* Is the checkpoint one to go on from? *found says so. */
static int try_checkpoint(resume_point *point, const char *folder, int64_t step, bool *found,
                          muon_error *err)
{
	mspec_checkpoint *checkpoint;
	char *path = folder_checkpoint(folder, step);
	if (!path)
		return muon_fail(err, MUON_E_MEMORY, folder, "out of memory");
	int code = trial_read(path, err);
	if (code) {
		muon_free(path);
		return code;
	}
	code = mspec_open(&checkpoint, path, NULL, err);
	*found = !code && holds_state(checkpoint);
	if (*found)
		code = read_point(point, checkpoint, err);
	mspec_close(&checkpoint);
	if (*found)
		point->path = path;
	else
		muon_free(path);
	return code;
}

int resume_find(resume_point *point, const char *folder, muon_error *err)
{
	int64_t *steps;
	size_t count;
	bool found = false;
	*point = (resume_point){0};
	int code = folder_steps(folder, &steps, &count, err);
	for (size_t i = count; i-- > 0 && !code && !found;)
		code = try_checkpoint(point, folder, steps[i], &found, err);
	muon_free(steps);
	if (!code && !found)
		code = muon_fail(err, MUON_E_USAGE, folder,
		                 "holds no checkpoint with an optimizer's state to resume from");
	return code;
}

int resume_options(train_options *options, resume_point *point, muon_error *err)
{
	enum { MOST = 128 };
	char *argv[MOST + 1] = {(char *)"muontrain"};
	int argc = 1;
	for (char *word = point->words; *word && argc < MOST; argc++) {
		size_t length = strcspn(word, "\n");
		char *next = word + length + (word[length] != 0);
		word[length] = 0;
		argv[argc] = word;
		word = next;
	}
	default_options(options);
	int code = parse_train_options(options, argc, argv, err);
	options->corpus = point->corpus;
	return code;
}

int resume_check(const train_options *options, const resume_point *point, muon_error *err)
{
	char *now = describe_run(options);
	if (!now)
		return muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	const char *a = point->described, *b = now;
	while (*a && *a == *b) {
		a++;
		b++;
	}
	int code = MUON_OK;
	if (*a || *b) {
		char was[200], is[200];
		while (a > point->described && a[-1] != '\n') {
			a--;
			b--;
		}
		snprintf(was, sizeof was, "%.*s", (int)strcspn(a, "\n"), a);
		snprintf(is, sizeof is, "%.*s", (int)strcspn(b, "\n"), b);
		code = muon_fail(err, MUON_E_USAGE, point->path,
		                 "the run was started with '%s', not '%s'; leave options out that "
		                 "it was started with",
		                 was, is);
	}
	muon_free(now);
	return code;
}

void resume_release(resume_point *point)
{
	muon_free(point->path);
	muon_free(point->described);
	muon_free(point->words);
	muon_free(point->corpus);
	*point = (resume_point){0};
}
