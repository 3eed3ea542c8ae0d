/* Fuzz target of the HDF5 reader.
 *
 * libhdf5 itself crashes, hangs and overruns its own buffers on malformed files, so every input is
 * opened in a child process. A child that a signal ends, the alarm included, is libhdf5's doing and
 * is accepted. What AddressSanitizer finds in our code, or a wrong answer of ours, ends the child
 * with a status of its own, and the parent aborts: that is the finding. The child hands its
 * coverage counters back, so that the fuzzer is guided by what our code does. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "checkpoint/writer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	MISBEHAVED = 77,
	SECONDS = 5,
	MAX_BYTES = 1 << 20, /* of a tensor */
	PIECE = 64,          /* elements read at either end of it */
	MAX_READ = 200       /* tensors */
};

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* ---- AddressSanitizer ---------------------------------------------------------------------- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN
#endif

#ifdef WITH_ASAN
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__asan_get_report_description(void);
void __asan_on_error(void);

/* Interceptors don't tell libhdf5's memcpy from ours, so only compiled accesses are checked, which
 * are all ours; signals stay signals. */
const char *__asan_default_options(void)
{
	return "exitcode=77:detect_leaks=0:replace_intrin=0:replace_str=0:intercept_strlen=0:"
	       "intercept_strchr=0:intercept_strndup=0:handle_segv=0:handle_sigbus=0:"
	       "handle_abort=0:handle_sigfpe=0:handle_sigill=0:"
	       "allocator_may_return_null=1:max_allocation_size_mb=512";
}

const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:exitcode=77";
}

/* Bad calls of free are reported too, and can't be told apart; the unit tests watch for ours. */
void __asan_on_error(void)
{
	const char *what = __asan_get_report_description();
	if (strstr(what, "free") && !strstr(what, "use-after-free"))
		_exit(0);
}
#endif

/* ---- coverage ------------------------------------------------------------------------------ */

/* Bounds of clang's section of counters, null without it. In assembler, because the names in C
 * would clash with clang's own use of them. */
extern unsigned char *const counter_bounds[2];
__asm__(".pushsection .data.rel.ro, \"aw\"\n"
        ".weak __start___sancov_cntrs, __stop___sancov_cntrs\n"
        ".balign 8\n"
        "counter_bounds: .quad __start___sancov_cntrs, __stop___sancov_cntrs\n"
        ".popsection\n");

static unsigned char *shared; /* the child's counters */
static size_t counters;

static void share_counters(void)
{
	if (!counter_bounds[0])
		return;
	counters = (size_t)(counter_bounds[1] - counter_bounds[0]);
	shared = mmap(NULL, counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
}

static void leave(int status)
{
	if (counters)
		memcpy(shared, counter_bounds[0], counters);
	_exit(status);
}

static void take_counters(void)
{
	for (size_t i = 0; i < counters; i++)
		counter_bounds[0][i] |= shared[i];
	if (counters)
		memset(shared, 0, counters);
}

/* ---- the child ----------------------------------------------------------------------------- */

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "fuzz_hdf5: line %d: %s\n", __LINE__, #condition);         \
			leave(MISBEHAVED);                                                         \
		}                                                                                  \
	} while (0)

static void check_tensor(const mspec_tensor *t)
{
	int64_t elements = 1;
	MUST(t->name && t->type_name);
	MUST((t->status == MUON_OK) == (t->problem == NULL));
	MUST(t->rank >= 0 && t->rank <= MSPEC_MAX_RANK);
	MUST(t->elements >= 0);
	if (t->status || t->dtype == MUON_DTYPE_NONE)
		return;
	for (int i = 0; i < t->rank; i++) {
		MUST(t->dims[i] >= 0);
		if (__builtin_mul_overflow(elements, t->dims[i], &elements))
			elements = t->elements ? -1 : 0;
	}
	MUST(t->elements == elements || !t->elements);
	MUST(t->elements <= MAX_BYTES / (int64_t)muon_dtype_size(t->dtype));
}

static void read_piece(mspec_checkpoint *c, size_t index, int64_t first, int64_t count)
{
	muon_error err = {0};
	size_t size = muon_dtype_size(mspec_tensor_at(c, index)->dtype);
	void *buffer = malloc((size_t)count * size); /* exact, so that overruns are seen */
	int code = mspec_read(c, index, first, count, buffer, &err);
	MUST(code == err.code && code <= 0);
	MUST(!code || *err.message);
	free(buffer);
}

static void open_and_read(const char *path)
{
	muon_error err = {0};
	mspec_checkpoint *c;
	mspec_open_options options = {.max_tensor_bytes = MAX_BYTES};
	int code = mspec_open(&c, path, &options, &err);
	MUST(code == err.code && (code != 0) == (c == NULL));
	MUST(!code || (*err.message && muon_exit_status(code) >= 3));
	if (code)
		return;
	const mspec_checkpoint_info *info = mspec_info(c);
	MUST(info->path && info->format && info->layout);
	for (size_t i = 0; i < mspec_tensor_count(c); i++) {
		const mspec_tensor *t = mspec_tensor_at(c, i);
		check_tensor(t);
		if (t->status || t->dtype == MUON_DTYPE_NONE || i >= MAX_READ)
			continue;
		int64_t count = t->elements < PIECE ? t->elements : PIECE;
		read_piece(c, i, t->elements - count, count);
		read_piece(c, i, 0, count);
	}
	mspec_close(&c);
}

static void run_child(const char *path)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGILL, SIGALRM};
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], SIG_DFL); /* the fuzzer has its own */
	alarm(SECONDS);
	open_and_read(path);
	leave(0);
}

/* ---- the parent ---------------------------------------------------------------------------- */

static char folder[] = "/tmp/fuzz_hdf5-XXXXXX", path[sizeof folder + 8];

static void remove_file(void)
{
	unlink(path);
	rmdir(folder);
}

/* Children inherit a libhdf5 that is initialised, which takes most of the time of a small input. */
static void prepare(void)
{
	mspec_hdf5_writer *writer;
	if (!mkdtemp(folder))
		abort();
	snprintf(path, sizeof path, "%s/x.h5", folder);
	atexit(remove_file);
	if (mspec_hdf5_create(&writer, path, NULL) || mspec_hdf5_finish(&writer, NULL))
		abort();
	share_counters();
}

static void write_file(const unsigned char *data, size_t size)
{
	FILE *file = fopen(path, "wb");
	if (!file || fwrite(data, 1, size, file) != size || fclose(file))
		abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	int status;
	if (!*path)
		prepare();
	write_file(data, size);
	pid_t child = fork();
	if (child < 0)
		return 0;
	if (!child)
		run_child(path);
	while (waitpid(child, &status, 0) < 0)
		;
	take_counters();
	if (WIFEXITED(status) && WEXITSTATUS(status))
		abort();
	return 0;
}
