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

struct asked_node {
    char *host;
    uint32_t node;
};

static int by_host(const void *a, const void *b)
{
    return strcmp(((const struct asked_node *)a)->host, ((const struct asked_node *)b)->host);
}

static void forget(struct asked_node *asked, uint32_t n)
{
    for (uint32_t i = 0; asked && i < n; i++)
        free(asked[i].host);
    free(asked);
}

static void forget_asked(struct coordinator *c)
{
    forget(c->asked, c->n_asked);
    c->asked = NULL;
    c->n_asked = 0;
}

// "node4 draining": the number of the node, if it is one of those that were asked for.
static int take_line(const struct coordinator *c, char *line, struct pm_set *out)
{
    char *state = strchr(line, ' ');
    if (!state || !is_out(state + 1))
        return 0;
    *state = '\0';
    const struct asked_node key = {.host = line};
    const struct asked_node *found = bsearch(&key, c->asked, c->n_asked, sizeof(key), by_host);
    return found ? pm_set_add(out, found->node) : 0;
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
    forget_asked(c);
    pm_set_done(&out);
    free(copy);
}

// `nodes` with their names, in order; malloc'd, NULL without memory. A name is looked up in the step's list once, not
// again for each line of an answer, which has one for each node and partition.
static struct asked_node *expand(const struct coordinator *c, const struct pm_set *nodes, uint32_t *ret_n)
{
    struct asked_node *asked = calloc((size_t)pm_set_count(nodes) + 1u, sizeof(*asked));
    char host[PM_TEXT_CAP];
    uint32_t n = 0;
    for (uint32_t node = pm_set_next(nodes, 0); asked && node != UINT32_MAX; node = pm_set_next(nodes, node + 1)) {
        asked[n] = (struct asked_node){.host = strdup(pm_core_host(c->core, node, host)), .node = node};
        if (!asked[n++].host) {
            forget(asked, n);
            asked = NULL;
        }
    }
    *ret_n = asked ? n : 0;
    return asked;
}

static char *join(const struct asked_node *asked, uint32_t n)
{
    char **names = asked ? calloc(n + 1u, sizeof(*names)) : NULL;
    for (uint32_t i = 0; names && i < n; i++)
        names[i] = asked[i].host;
    char *list = names ? pm_hostlist_join(names, n) : NULL;
    free(names);
    return list;
}

char *pm_nodes_names(const struct coordinator *c, const struct pm_set *nodes)
{
    uint32_t n;
    struct asked_node *asked = expand(c, nodes, &n);
    char *list = join(asked, n);
    forget(asked, n);
    return list;
}

// Keeps what is asked for, by name, for the answer.
static char *keep_asked(struct coordinator *c, const struct pm_set *nodes)
{
    forget_asked(c);
    c->asked = expand(c, nodes, &c->n_asked);
    char *list = join(c->asked, c->n_asked);
    if (c->asked)
        qsort(c->asked, c->n_asked, sizeof(*c->asked), by_host);
    return list;
}

void pm_nodes_ask(struct coordinator *c, const struct pm_action *a)
{
    struct pm_reader r = pm_reader_of(a->data, a->len);
    struct pm_set nodes = {0};
    if (c->nodes_question)
        c->nodes_question = pm_ask_end(c->nodes_question);
    pm_read_set(&r, &nodes, NODES_MAX);
    char *names = r.error ? NULL : keep_asked(c, &nodes);
    const char *const argv[] = {"sinfo", "-h", "-N", "-n", names, "-o", "%N %T", NULL};
    const struct pm_question question = {.base = c->base, .children = c->children, .near = c->exe, .argv = argv,
                                         .mask = pm_signals_old_mask(c->signals), .limit_ms = ASK_TIMEOUT_MS,
                                         .answered = on_answer, .arg = c};
    if (!names || pm_ask_begin(&question, &c->nodes_question) < 0)
        tell(c, &(struct pm_set){0}, true);
    pm_set_done(&nodes);
    free(names);
}

void pm_nodes_done(struct coordinator *c)
{
    c->nodes_question = pm_ask_end(c->nodes_question);
    forget_asked(c);
}
