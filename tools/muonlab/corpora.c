#include "corpora.h"

#include "base/output.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int make_folders(const char *path, muon_error *err)
{
	char part[4200];
	size_t length = strlen(path);
	if (length >= sizeof part)
		return muon_fail(err, MUON_E_WRITE, path, "too long a path");
	for (size_t i = 1; i <= length; i++) {
		if (path[i] && path[i] != '/')
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		if (mkdir(part, 0777) && errno != EEXIST)
			return muon_fail(err, MUON_E_WRITE, part, "%s", strerror(errno));
	}
	return MUON_OK;
}

/* Append a file, at most `left` bytes of it. Folders and what can't be read are passed over: a
 * pattern may match them. */
static bool append_file(FILE *to, const char *path, int64_t *left)
{
	char buffer[1 << 16];
	struct stat st;
	FILE *from = !stat(path, &st) && S_ISREG(st.st_mode) ? fopen(path, "rb") : NULL;
	size_t count = 1;
	bool good = true;
	while (from && good && count && *left > 0) {
		size_t most = *left < (int64_t)sizeof buffer ? (size_t)*left : sizeof buffer;
		count = fread(buffer, 1, most, from);
		good = fwrite(buffer, 1, count, to) == count;
		*left -= (int64_t)count;
	}
	if (from)
		fclose(from);
	return good;
}

static int write_corpus(const lab_corpus *corpus, const glob_t *found, const char *path,
                        const char *temporary, muon_error *err)
{
	FILE *file = fopen(temporary, "wb");
	if (!file)
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(errno));
	int64_t left = corpus->bytes;
	bool good = true;
	for (size_t i = 0; i < found->gl_pathc && good && left > 0; i++)
		good = append_file(file, found->gl_pathv[i], &left);
	good = !fclose(file) && good;
	if (!good) {
		int reason = errno;
		muon_output_discard(temporary, path);
		return muon_fail(err, MUON_E_WRITE, path, "%s", strerror(reason));
	}
	if (left == corpus->bytes) {
		muon_output_discard(temporary, path);
		return muon_fail(err, MUON_E_OPEN, corpus->files, "corpus %s: no file with text",
		                 corpus->name);
	}
	return muon_output_commit(temporary, path, err);
}

static int make_corpus(const lab_corpus *corpus, const char *folder, muon_error *err)
{
	char path[4300];
	glob_t found = {0};
	if (glob(corpus->files, 0, NULL, &found))
		return muon_fail(err, MUON_E_OPEN, corpus->files, "corpus %s: no such file",
		                 corpus->name);
	snprintf(path, sizeof path, "%s/%s.corpus", folder, corpus->name);
	char *temporary = muon_output_temporary(path, (long)getpid());
	int code = temporary ? write_corpus(corpus, &found, path, temporary, err)
	                     : muon_fail(err, MUON_E_MEMORY, NULL, "out of memory");
	muon_free(temporary);
	globfree(&found);
	return code;
}

int corpora_make(const lab_plan *plan, const char *folder, muon_error *err)
{
	int code = plan->corpus_count ? make_folders(folder, err) : MUON_OK;
	for (size_t i = 0; i < plan->corpus_count && !code; i++)
		code = make_corpus(&plan->corpora[i], folder, err);
	return code;
}
