// SPDX-License-Identifier: Apache-2.0
//
// --pm-bind-report on the node: a summary, then a line for each rank in the order of their numbers, which are left
// to the coordinator (coordinator_bound.c): so nodes that are alike say the same. Then the notes on the node.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/agent_bind.h"

static const char number[] = "rank 0: ";

// A line, without its end; takes over `text`. False: no memory.
static bool put(FILE *out, char *text, size_t skip)
{
    if (text)
        fprintf(out, "%s", text + skip);
    bool done = text != NULL;
    free(text);
    return done;
}

static bool put_case(FILE *out, const struct pm_agent_bind *b, const struct pm_bind_case *c)
{
    const struct pm_map_report report = {&b->picture.machine, &c->request, &c->binding, &c->granted};
    bool complete = put(out, pm_report_summary(&report), 0);
    for (uint32_t k = 0; k < c->n && complete; k++) {
        fputc('\n', out);
        complete = put(out, pm_report_line(&report, k, 0), sizeof(number) - 1);
    }
    for (uint32_t i = 0; i < c->binding.notes.n; i++)
        fprintf(out, "\nnote: %s", c->binding.notes.notes[i].text);
    return complete;
}

static char *text_of(const struct pm_agent_bind *b, const struct pm_bind_case *c)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    bool complete = true;
    if (c)
        complete = put_case(out, b, c);
    else
        fprintf(out, "ranks are not bound: %s", b->why);
    if (fclose(out) == 0 && complete)
        return text;
    free(text);
    return NULL;
}

void pm_bind_report(struct agent *a, const struct pm_bind_case *c)
{
    struct pm_agent_bind *b = a->bind;
    char *text = a->config.options.bind_report[0] ? text_of(b, c) : NULL;
    if (text && (!b->reported || strcmp(b->reported, text) != 0)) {
        pm_loop_post(a->loop, &(struct pm_event){.type = PM_EVENT_BOUND, .text = text});
        free(b->reported);
        b->reported = text;
        text = NULL;
    }
    free(text);
}
