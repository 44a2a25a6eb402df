// SPDX-License-Identifier: Apache-2.0
//
// --pm-blame=K: a node whose ranks were the first to fail in K restarts is swapped for a spare in the next restart of the
// world, as long as there is one that no lost node needs. Until its ranks have moved the node is one of the world that is
// only to be replaced: when spares get too few meanwhile it is pardoned and stays. Then it is out like a lost one, but it
// lives.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void need(struct pm_core *core, int rc)
{
    if (rc < 0)
        core->out->error = rc;
}

void pm_supervisor_was_first(struct pm_core *core, const struct pm_failure *failure)
{
    struct pm_supervisor *s = core->supervisor;
    if (!core->config.options->blame || failure->rank == PM_RANK_NONE)
        return;
    if (!s->firsts)
        s->firsts = calloc(s->nnodes, sizeof(*s->firsts));
    if (!s->firsts)
        core->out->error = -ENOMEM;
    else if (s->firsts[failure->node] < UINT32_MAX)
        s->firsts[failure->node]++;
}

static bool is_blamed(struct pm_core *core, uint32_t node)
{
    const struct pm_supervisor *s = core->supervisor;
    return s->firsts[node] >= core->config.options->blame && !pm_set_has(&s->wanted.lost, node) &&
           !pm_set_has(pm_dead_nodes(core), node);
}

// "node2 was first to fail 3 times: its ranks move to spare node9 (1 spare left)".
static void tell(struct pm_core *core, uint32_t node, char *buf, size_t cap)
{
    const struct pm_supervisor *s = core->supervisor;
    char host[PM_TEXT_CAP], spare[PM_TEXT_CAP];
    uint32_t to = pm_supervisor_likely_spare(core, node);
    uint32_t left = pm_supervisor_n_spares(core, UINT32_MAX) - pm_supervisor_homeless(core, UINT32_MAX);
    int n = snprintf(buf, cap, "%.100s was first to fail %u time%s", pm_supervisor_host(core, node, host),
                     s->firsts[node], s->firsts[node] == 1 ? "" : "s");
    if (!pm_set_has(&s->blamed, node))
        (void)snprintf(buf + n, cap - (size_t)n, ", but no spare is left that can take its place: it stays");
    else
        (void)snprintf(buf + n, cap - (size_t)n, ": its ranks move to %s%.60s (%u spare%s left)",
                       to == UINT32_MAX ? "a spare" : "spare ",
                       to == UINT32_MAX ? "" : pm_supervisor_host(core, to, spare), left, left == 1 ? "" : "s");
}

const char *pm_supervisor_swap_blamed(struct pm_core *core, uint32_t newest, char *buf, size_t cap)
{
    struct pm_supervisor *s = core->supervisor;
    uint32_t named = UINT32_MAX;
    buf[0] = '\0';
    for (uint32_t node = pm_set_next(&core->world.hosts, 0); s->firsts && node != UINT32_MAX;
         node = pm_set_next(&core->world.hosts, node + 1)) {
        if (!is_blamed(core, node))
            continue;
        named = named == newest ? named : node;
        if (!pm_supervisor_housing(core, node).gone_nodes)
            need(core, pm_set_add(&s->blamed, node));
    }
    if (named != UINT32_MAX)
        tell(core, named, buf, cap);
    if (pm_set_has(&s->blamed, named))
        s->told_spare = pm_supervisor_likely_spare(core, named);
    return buf[0] ? buf : NULL;
}

bool pm_supervisor_pardon(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    char names[PM_TEXT_CAP];
    if (pm_set_empty(&s->blamed))
        return false;
    pm_say(core, "pm-supervise: no spare is left for %s: %s", pm_supervisor_names(core, &s->blamed, names, sizeof(names)),
           pm_set_count(&s->blamed) == 1 ? "it stays" : "they stay");
    pm_set_clear(&s->blamed);
    s->told_spare = UINT32_MAX; // the spare has not been said to take anybody else's place
    return true;
}

void pm_supervisor_retire_blamed(struct pm_core *core, const struct pm_move *move, uint32_t spares_left)
{
    struct pm_supervisor *s = core->supervisor;
    if (!pm_set_has(&s->blamed, move->from))
        return;
    need(core, pm_set_remove(&s->blamed, move->from));
    need(core, pm_set_add(&s->wanted.lost, move->from));
    pm_supervisor_retire(core, move->from);
    s->wanted_dirty = true;
    struct pm_log *log = pm_log_record(core, "blamed");
    log->epoch = s->wanted.epoch;
    log->node = move->from;
    log->spare = move->to;
    log->spares_left = spares_left;
    (void)snprintf(log->reason, sizeof(log->reason), "its ranks were first to fail %u time%s",
                   s->firsts[move->from], s->firsts[move->from] == 1 ? "" : "s");
}
