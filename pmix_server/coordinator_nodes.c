// SPDX-License-Identifier: Apache-2.0
//
// Asks Slurm about nodes. Which are drained, draining or down (sinfo), when some are to take the place of others; which have
// booted since this launch began, and were started by Slurm just now (scontrol), when srun has ended the step by itself. One
// question for all of them, 2 s; without an answer the core is told so.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/hostlist.h"

#define ASK_TIMEOUT_MS 2000
#define NODES_MAX 131072u

// How %T of such a node begins: "draining", "drained*", "down~".
static const char *const out_states[] = {"drain", "down", "fail"};

static bool is_out(const char *state)
{
    for (size_t i = 0; i < sizeof(out_states) / sizeof(*out_states); i++)
        if (!strncmp(state, out_states[i], strlen(out_states[i])))
            return true;
    return false;
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

// "node4 draining".
static bool is_drained(const struct nodes_question *q, char *line, char **ret_host)
{
    (void)q;
    char *state = strchr(line, ' ');
    if (!state || !is_out(state + 1))
        return false;
    *state = '\0';
    *ret_host = line;
    return true;
}

// A time of `scontrol show node`, in seconds since 1970; 0: there is none.
static long long time_of(const char *line, const char *name)
{
    const char *text = strstr(line, name);
    return text ? strtoll(text + strlen(name), NULL, 10) : 0;
}

// "NodeName=node4 ... BootTime=1795973842 SlurmdStartTime=1795973842 ...". Slurm knows whole seconds.
static bool is_booted(const struct nodes_question *q, char *line, char **ret_host)
{
    const char *name = "NodeName=";
    if (strncmp(line, name, strlen(name)) != 0 || time_of(line, " BootTime=") < q->c->launched_s ||
        time_of(line, " SlurmdStartTime=") + q->just_now_s < (long long)time(NULL))
        return false;
    *ret_host = line + strlen(name);
    (*ret_host)[strcspn(*ret_host, " ")] = '\0';
    return true;
}

static const struct kind {
    enum pm_event_type answer;
    const char *command[4];  // the names of the nodes follow, and what comes after them
    const char *format[2];
    const char *variable;
    bool (*is_meant)(const struct nodes_question *q, char *line, char **ret_host);
} kinds[PM_NODES_QUESTIONS] = {
    [PM_NODES_DRAINED] = {PM_EVENT_NODE_STATES, {"sinfo", "-h", "-N", "-n"}, {"-o", "%N %T"}, NULL, is_drained},
    [PM_NODES_BOOTED] = {PM_EVENT_BOOTED, {"scontrol", "-o", "show", "node"}, {NULL, NULL}, "SLURM_TIME_FORMAT=%s", is_booted},
};

static void tell(struct nodes_question *q, const struct pm_set *out, bool failed)
{
    pm_loop_post(q->c->loop, &(struct pm_event){.type = q->kind->answer, .set = out, .flag_failed = failed});
}

static void forget_asked(struct nodes_question *q)
{
    forget(q->asked, q->n_asked);
    q->asked = NULL;
    q->n_asked = 0;
}

// Adds the number of the node, if it is one of those that were asked for.
static int take_line(const struct nodes_question *q, char *line, struct pm_set *out)
{
    struct asked_node key;
    if (!q->kind->is_meant(q, line, &key.host))
        return 0;
    const struct asked_node *found = bsearch(&key, q->asked, q->n_asked, sizeof(key), by_host);
    return found ? pm_set_add(out, found->node) : 0;
}

static void on_answer(const char *text, void *arg)
{
    struct nodes_question *q = arg;
    struct pm_set out = {0};
    char *copy = text ? strdup(text) : NULL, *save = NULL;
    int r = copy ? 0 : -1;
    q->ask = NULL;
    for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; r == 0 && line; line = strtok_r(NULL, "\n", &save))
        r = take_line(q, line, &out);
    tell(q, &out, r < 0);
    forget_asked(q);
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
static char *keep_asked(struct nodes_question *q, const struct pm_set *nodes)
{
    forget_asked(q);
    q->asked = expand(q->c, nodes, &q->n_asked);
    char *list = join(q->asked, q->n_asked);
    if (q->asked)
        qsort(q->asked, q->n_asked, sizeof(*q->asked), by_host);
    return list;
}

static int begin(struct nodes_question *q, const char *names)
{
    const struct kind *k = q->kind;
    const char *const argv[] = {k->command[0], k->command[1], k->command[2], k->command[3], names, k->format[0],
                                k->format[1], NULL};
    const struct pm_question question = {.base = q->c->base, .children = q->c->children, .near = q->c->exe, .argv = argv,
                                         .mask = pm_signals_old_mask(q->c->signals), .limit_ms = ASK_TIMEOUT_MS,
                                         .variable = k->variable, .answered = on_answer, .arg = q};
    return pm_ask_begin(&question, &q->ask);
}

void pm_nodes_ask(struct coordinator *c, enum pm_nodes_question what, const struct pm_action *a)
{
    struct nodes_question *q = &c->nodes[what];
    struct pm_reader r = pm_reader_of(a->data, a->len);
    struct pm_set nodes = {0};
    if (q->ask)
        q->ask = pm_ask_end(q->ask);
    q->c = c;
    q->kind = &kinds[what];
    q->just_now_s = (long long)(a->timeout_ms / 1000);
    pm_read_set(&r, &nodes, NODES_MAX);
    char *names = r.error ? NULL : keep_asked(q, &nodes);
    if (!names || begin(q, names) < 0)
        tell(q, &(struct pm_set){0}, true);
    pm_set_done(&nodes);
    free(names);
}

void pm_nodes_done(struct coordinator *c)
{
    for (size_t i = 0; i < PM_NODES_QUESTIONS; i++) {
        c->nodes[i].ask = pm_ask_end(c->nodes[i].ask);
        forget_asked(&c->nodes[i]);
    }
}
