/* The text that is learnt: bytes, cut into a training part and a held-out part at its end. */
#ifndef MUONTRAIN_CORPUS_H
#define MUONTRAIN_CORPUS_H

#include <muon/error.h>

#include <stdint.h>

typedef struct corpus {
	unsigned char *bytes;
	int64_t count;
	int64_t train;  /* the first so many are trained on */
	double entropy; /* of single bytes, nats */
	uint64_t hash;  /* FNV-1a of all bytes */
} corpus;

/* Read the file. MUON_E_OPEN, MUON_E_READ, MUON_E_FORMAT for one that is empty, or whose parts are
 * shorter than a sequence of `length` tokens and its last target. Release also after a failure. */
int corpus_read(corpus *corpus, const char *path, double held_out_share, int64_t length,
                muon_error *err);
void corpus_release(corpus *corpus);

/* Sequence `sequence` of step `step`: `length` tokens and, one further on, their targets. Where it
 * is cut out depends on these numbers alone, so a resumed run needs no state for it. */
void corpus_sample(const corpus *corpus, uint64_t seed, int64_t step, int64_t sequence,
                   int64_t length, int32_t *tokens, int32_t *targets);

/* Window `window` of the held-out part, in which windows follow each other. */
void corpus_held_out(const corpus *corpus, int64_t window, int64_t length, int32_t *tokens,
                     int32_t *targets);
int64_t corpus_windows(const corpus *corpus, int64_t length); /* whole ones */

#endif
