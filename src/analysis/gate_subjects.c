/* Measurements: subjects and their values. */
#include "analysis/gate.h"

#include "base/memory.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KIND_NAME(kind, name, list) [kind] = name,
#define KIND_LIST(kind, name, list) [kind] = list,

const char *mspec_subject_kind_name(mspec_subject_kind kind)
{
	static const char *const names[] = {MSPEC_SUBJECT_TABLE(KIND_NAME)};
	return names[kind];
}

const char *mspec_subject_kind_list(mspec_subject_kind kind)
{
	static const char *const lists[] = {MSPEC_SUBJECT_TABLE(KIND_LIST)};
	return lists[kind];
}

const char *mspec_measured_kind_name(mspec_measured_kind kind)
{
	static const char *const names[] = {"checkpoint", "run", "comparison"};
	return names[kind];
}

int mspec_measurement_create(mspec_measurement **out, mspec_measured_kind kind, size_t room)
{
	mspec_measurement *m = *out = muon_alloc(1, sizeof *m);
	muon_arena *arena = m ? muon_alloc(1, sizeof *arena) : NULL;
	if (arena) {
		*m = (mspec_measurement){.kind = kind, .room = room, .memory = arena};
		m->subjects = muon_arena_alloc(arena, room + 1, sizeof *m->subjects);
	}
	if (m && m->subjects)
		return MUON_OK;
	mspec_measurement_destroy(out);
	return MUON_E_MEMORY;
}

void mspec_measurement_destroy(mspec_measurement **measurement)
{
	mspec_measurement *m = *measurement;
	*measurement = NULL;
	if (m && m->memory)
		muon_arena_release(m->memory);
	if (m)
		muon_free(m->memory);
	muon_free(m);
}

const char *mspec_subject_name(mspec_measurement *m, const char *name)
{
	if (muon_is_utf8(name))
		return name;
	char *escaped = muon_escape_all(name);
	const char *copy = escaped ? muon_arena_string(m->memory, escaped) : NULL;
	muon_free(escaped);
	return copy;
}

static const char *copy_name(mspec_measurement *m, const char *name)
{
	const char *valid = mspec_subject_name(m, name);
	return valid ? muon_arena_string(m->memory, valid) : NULL;
}

mspec_subject *mspec_add_subject(mspec_measurement *m, mspec_subject_kind kind, const char *name,
                                 const char *group, size_t measures)
{
	const char *own_name = m->count < m->room ? copy_name(m, name) : NULL;
	const char *own_group = own_name && group ? copy_name(m, group) : NULL;
	mspec_measure *room =
	    own_name ? muon_arena_alloc(m->memory, measures + 1, sizeof *room) : NULL;
	if (!room || (group && !own_group))
		return NULL;
	mspec_subject *s = &m->subjects[m->count++];
	*s = (mspec_subject){.kind = kind,
	                     .name = own_name,
	                     .group = own_group,
	                     .status = "ok",
	                     .measures = room,
	                     .room = measures};
	return s;
}

int mspec_add_measure(mspec_measurement *m, mspec_subject *subject, const char *metric,
                      const char *suffix, double value, int verdict, const char *note)
{
	if (subject->count == subject->room)
		return MUON_E_MEMORY;
	const char *name = muon_arena_format(m->memory, "%s%s", metric, suffix);
	const char *own_note = note ? muon_arena_string(m->memory, note) : NULL;
	if (!name || (note && !own_note))
		return MUON_E_MEMORY;
	subject->measures[subject->count++] =
	    (mspec_measure){name, isfinite(value) ? value : NAN, verdict, own_note};
	return MUON_OK;
}

const mspec_measure *mspec_find_measure(const mspec_subject *subject, const char *metric)
{
	for (size_t i = 0; i < subject->count; i++)
		if (!strcmp(subject->measures[i].metric, metric))
			return &subject->measures[i];
	return NULL;
}

/* ---- finding ------------------------------------------------------------------------------ */

static int compare_subjects(const void *x, const void *y)
{
	const mspec_subject *a = *(mspec_subject *const *)x, *b = *(mspec_subject *const *)y;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return strcmp(a->name, b->name);
}

int mspec_index_subjects(mspec_subject_index *index, const mspec_measurement *m)
{
	index->subjects = muon_alloc(m->count + 1, sizeof(mspec_subject *));
	index->count = m->count;
	if (!index->subjects)
		return MUON_E_MEMORY;
	for (size_t i = 0; i < m->count; i++)
		index->subjects[i] = &m->subjects[i];
	qsort(index->subjects, m->count, sizeof *index->subjects, compare_subjects);
	return MUON_OK;
}

void mspec_index_release(mspec_subject_index *index)
{
	muon_free(index->subjects);
	*index = (mspec_subject_index){0};
}

mspec_subject *mspec_index_find(const mspec_subject_index *index, mspec_subject_kind kind,
                                const char *name)
{
	mspec_subject wanted = {.kind = kind, .name = name}, *key = &wanted;
	mspec_subject **found = bsearch(&key, index->subjects, index->count,
	                                sizeof *index->subjects, compare_subjects);
	return found ? *found : NULL;
}
