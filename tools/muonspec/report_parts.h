/* The parts of a report's page. */
#ifndef MUONSPEC_TOOL_REPORT_PARTS_H
#define MUONSPEC_TOOL_REPORT_PARTS_H

#include "page.h"
#include "subject.h"

void report_findings(muon_text *page, const subject *s);  /* in words */
void report_tables(muon_text *page, const subject *s);    /* the numbers */
void report_glossary(muon_text *page, const subject *s);
void report_provenance(muon_text *page, const subject *s);

#endif
