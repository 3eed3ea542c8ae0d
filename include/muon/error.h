/* Errors, version and memory hook shared by libmuon and libmuonspec.
 *
 * Every function that can fail returns an int: 0 for success, a negative MUON_E_* code otherwise.
 * Functions above the kernels also take a `muon_error *`, which records the first failure with its
 * message and the tensor or file it concerns; NULL is allowed where nobody will read it. */
#ifndef MUON_ERROR_H
#define MUON_ERROR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MUON_VERSION "0.1.0"

#if defined(__GNUC__)
#define MUON_API __attribute__((visibility("default")))
#define MUON_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define MUON_API
#define MUON_PRINTF(fmt, args)
#endif

/* name, code, exit status of a program that ends on it, text */
#define MUON_ERROR_TABLE(X)                                                                        \
	X(MUON_OK, 0, 0, "success")                                                                \
	X(MUON_E_USAGE, -1, 2, "wrong usage")                                                      \
	X(MUON_E_OPEN, -2, 3, "cannot be opened")                                                  \
	X(MUON_E_FORMAT, -3, 3, "not a supported checkpoint")                                      \
	X(MUON_E_READ, -4, 3, "cannot be read")                                                    \
	X(MUON_E_WRITE, -5, 3, "cannot be written")                                                \
	X(MUON_E_TIMEOUT, -6, 3, "took too long to read")                                          \
	X(MUON_E_TOO_LARGE, -7, 3, "is larger than the memory limit")                              \
	X(MUON_E_NONFINITE, -8, 4, "holds NaN or Inf")                                             \
	X(MUON_E_NO_CONVERGENCE, -9, 4, "decomposition did not converge")                          \
	X(MUON_E_MEMORY, -10, 5, "out of memory")                                                  \
	X(MUON_E_ARGUMENT, -11, 5, "invalid argument to a library function")                       \
	X(MUON_E_INTERNAL, -12, 5, "internal error")                                               \
	X(MUON_E_UNSUPPORTED, -13, 2, "not available in this build or on this machine")            \
	X(MUON_E_COMMUNICATION, -14, 5, "communication between ranks failed")

#define MUON_ERROR_ENUM(name, code, status, text) name = code,
enum muon_error_code { MUON_ERROR_TABLE(MUON_ERROR_ENUM) };
#undef MUON_ERROR_ENUM

/* The first failure of a chain of calls; code 0 means none yet. Zero-initialise before use. */
typedef struct muon_error {
	int code;
	char message[512]; /* one line, ready to print; bytes from files are escaped */
	char where[256];   /* tensor or file concerned, escaped; may be empty */
} muon_error;

/* Text of a code; never NULL, also for codes out of the table. */
MUON_API const char *muon_error_text(int code);

/* Exit status (0 to 5) of a program that ends on this code. */
MUON_API int muon_exit_status(int code);

/* Record a failure unless `err` already holds one (or is NULL), and return `code`.
 * `where` (a tensor or file name, or NULL) is escaped by this function; strings passed to `fmt`
 * that come from a file must be escaped by the caller. */
MUON_API int muon_fail(muon_error *err, int code, const char *where, const char *fmt, ...)
    MUON_PRINTF(4, 5);

/* Forget the recorded failure. */
MUON_API void muon_error_clear(muon_error *err);

/* Library version, "major.minor.patch". */
MUON_API const char *muon_version(void);

/* Replace malloc/realloc/free for everything both libraries allocate. `resize(state, NULL, n)`
 * allocates, `release(state, NULL)` must do nothing. Not thread-safe: call before any other
 * function. NULL restores the C library's. */
typedef struct muon_allocator {
	void *(*resize)(void *state, void *block, size_t bytes);
	void (*release)(void *state, void *block);
	void *state;
} muon_allocator;
MUON_API void muon_set_allocator(const muon_allocator *allocator);

/* A copy of the one in use, to set again later. */
MUON_API muon_allocator muon_get_allocator(void);

#ifdef __cplusplus
}
#endif
#endif
