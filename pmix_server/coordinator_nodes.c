// SPDX-License-Identifier: Apache-2.0
//
// Asks Slurm which nodes are drained, draining or down (sinfo), when some are to take the place of others. One question for
// all of them, 2 s; without an answer the core is told so.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/hostlist.h"

#define ASK_TIMEOUT_MS 2000
#define NODES_MAX 65536u  // more spares than --pm-spares takes

// How %T of such a node begins: "draining", "drained*", "down~".
static const char *const out_states[] = {"drain", "down", "fail"};

static bool is_out(const char *state)
{
    for (size_t i = 0; i < sizeof(out_states) / sizeof(*out_states); i++)
        if (!strncmp(state, out_states[i], strlen(out_states[i])))
            return true;
    return false;
}

static void tell(struct coordinator *c, const struct pm_set *out, bool failed)
{
    pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_NODE_STATES, .set = out, .flag_failed = failed});
}

// "node4 draining": the number of the node, if it is one of those that were asked for.
static int take_line(struct coordinator *c, char *line, struct pm_set *out)
{
    char host[PM_TEXT_CAP];
    char *state = strchr(line, ' ');
    if (!state || !is_out(state + 1))
        return 0;
    *state = '\0';
    for (uint32_t node = pm_set_next(&c->asked_nodes, 0); node != UINT32_MAX;
         node = pm_set_next(&c->asked_nodes, node + 1))
        if (!strcmp(pm_core_host(c->core, node, host), line))
            return pm_set_add(out, node);
    return 0;
}

static void on_answer(const char *text, void *arg)
{
    struct coordinator *c = arg;
    struct pm_set out = {0};
    char *copy = text ? strdup(text) : NULL, *save = NULL;
    int r = copy ? 0 : -1;
    c->nodes_question = NULL;
    for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; r == 0 && line; line = strtok_r(NULL, "\n", &save))
        r = take_line(c, line, &out);
    tell(c, &out, r < 0);
    pm_set_done(&out);
    free(copy);
}

char *pm_nodes_names(const struct coordinator *c, const struct pm_set *nodes)
{
    uint32_t n = 0, cap = (uint32_t)pm_set_count(nodes);
    char **names = calloc(cap + 1u, sizeof(*names)), *list = NULL, host[PM_TEXT_CAP];
    for (uint32_t node = pm_set_next(nodes, 0); names && node != UINT32_MAX; node = pm_set_next(nodes, node + 1)) {
        names[n] = strdup(pm_core_host(c->core, node, host));
        if (!names[n++])
            break;
    }
    if (names && n == cap)
        list = pm_hostlist_join(names, n);
    for (uint32_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
    return list;
}

void pm_nodes_ask(struct coordinator *c, const struct pm_action *a)
{
    struct pm_reader r = pm_reader_of(a->data, a->len);
    if (c->nodes_question)
        c->nodes_question = pm_ask_end(c->nodes_question);
    pm_read_set(&r, &c->asked_nodes, NODES_MAX);
    char *names = r.error ? NULL : pm_nodes_names(c, &c->asked_nodes);
    const char *const argv[] = {"sinfo", "-h", "-N", "-n", names, "-o", "%N %T", NULL};
    const struct pm_question question = {.base = c->base, .children = c->children, .near = c->exe, .argv = argv,
                                         .mask = pm_signals_old_mask(c->signals), .limit_ms = ASK_TIMEOUT_MS,
                                         .answered = on_answer, .arg = c};
    if (!names || pm_ask_begin(&question, &c->nodes_question) < 0)
        tell(c, &(struct pm_set){0}, true);
    free(names);
}

void pm_nodes_done(struct coordinator *c)
{
    c->nodes_question = pm_ask_end(c->nodes_question);
    pm_set_done(&c->asked_nodes);
}
