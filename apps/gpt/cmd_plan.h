/* SPDX-License-Identifier: MIT */
/* ringx-gpt plan: what its files share. */
#ifndef GPT_CMD_PLAN_H
#define GPT_CMD_PLAN_H

#include "gpt/plan_paper.h"
#include "shared/options.h"
#include "shared/table.h"

typedef struct plan_settings {
    given_arguments given;
    file_list configs, settings;
    const char *folder, *csv;
    int64_t ranks;    /* 0: as many as the configuration's tensor and context ranks */
    paper_options on; /* which machine */
    name_list presets;
    bool presets_set, layouts, json;
} plan_settings;

typedef struct planning { /* what is planned */
    const plan_settings *set;
    config *c;
    int ranks;
    int64_t vocabulary;
    paper_machine machine;
    json_t *notes; /* texts */
} planning;

/* cmd_plan_report.c */
table *plan_memory_table(const gpt_paper *p); /* NULL: out of memory, as failure() says */
void plan_heading(const planning *w, const gpt_paper *p, FILE *to);
void plan_verdict(const planning *w, const gpt_paper *p, FILE *to);
json_t *plan_json(const planning *w, const gpt_paper *p); /* but the tables */

/* cmd_plan_tries.c: other configurations than the one that is planned, one a row. */
table *plan_presets_table(void);
int plan_presets(const planning *w, table *t);
/* cmd_plan_layouts.c */
table *plan_layouts_table(void);
int plan_layouts(const planning *w, table *t);

table *plan_changes_table(void);
/* What may make it fit, each on top of those before, until it does. */
int plan_changes(const planning *w, table *t, bool *found);

#endif
