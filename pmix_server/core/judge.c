// SPDX-License-Identifier: Apache-2.0
//
// The coordinator judges who is dead.
//
// Parents report; only this file declares. A suspect is a node whose link ended or that is silent,
// together with everything that hung below it: those may come back on their own (they attach
// elsewhere and leave `pending`). Every T/8 two sides dial the suspect's port: its parent and one
// other agent.
//   - refused twice: the agent is dead, its shims have seen EOF; declared k later (agent-lost);
//   - handshake answered: the process lives and was told to look after its parent link: T more;
//   - connected without handshake, or no answer: nothing is proven; declared when the last lease
//     that can have reached it is over: T after the last grant (agent-lost, or node-lost); what hangs
//     below it and has not been heard elsewhere, T/4 after it.
// A coordinator whose own clock was late begins every suspicion anew, and doubt.c may forbid to
// declare anybody for silence.
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "pmix_server/core/search.h"

#define REPROBE_NS (100 * PM_MS)

static uint32_t suspect_index(const struct pm_judge *j, uint32_t node)
{
    const struct pm_sorted sorted = {.list = j->list, .n = j->n, .stride = sizeof(*j->list), .at = offsetof(struct pm_suspect, node)};
    return pm_lower_bound(sorted, node);
}

static struct pm_suspect *suspect_find(struct pm_judge *j, uint32_t node)
{
    uint32_t i = suspect_index(j, node);
    return i < j->n && j->list[i].node == node ? &j->list[i] : NULL;
}

static void suspect_remove(struct pm_judge *j, uint32_t node)
{
    uint32_t i = suspect_index(j, node);
    if (i == j->n || j->list[i].node != node)
        return;
    pm_set_done(&j->list[i].pending);
    memmove(&j->list[i], &j->list[i + 1], (j->n - i - 1) * sizeof(*j->list));
    j->n--;
    j->nodes_valid = false;
}

// The record of `node`, new or not, with its whole subtree pending; NULL without memory.
static struct pm_suspect *suspect_add(struct pm_core *core, uint32_t node, uint64_t since_ns)
{
    struct pm_membership *m = core->membership;
    struct pm_judge *j = &m->judge;
    struct pm_suspect *s = suspect_find(j, node);
    if (!s) {
        if (j->n == j->cap) {
            uint32_t cap = j->cap ? 2 * j->cap : 8;
            struct pm_suspect *list = reallocarray(j->list, cap, sizeof(*list));
            if (!list) {
                pm_out_of_memory(core);
                return NULL;
            }
            j->list = list;
            j->cap = cap;
        }
        uint32_t i = suspect_index(j, node);
        memmove(&j->list[i + 1], &j->list[i], (j->n - i) * sizeof(*j->list));
        j->n++;
        s = &j->list[i];
        *s = (struct pm_suspect){
            .node = node,
            .since_ns = since_ns,
            .first_ns = core->now_ns,
            .probe_ns = core->now_ns,
            .base_id = j->last_probe_id,
        };
    }
    j->nodes_valid = false;
    j->next_ns = core->now_ns;
    if (pm_edges_subtree(&m->edges, node, m->fanout, &s->pending) < 0 ||
        pm_set_subtract(&s->pending, &m->dead) < 0)
        pm_out_of_memory(core);
    return s;
}

// --- what parents say --------------------------------------------------------------------------

static void confirm(struct pm_core *core, const struct pm_edge *edge)
{
    if (edge->parent == PM_NODE_COORDINATOR)
        return;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_CONFIRM);
    pm_write_u32(&w, edge->parent);
    pm_write_u32(&w, edge->node);
    pm_write_u32(&w, edge->attach);
    pm_relay_route(core, edge->parent, &w);
}

void pm_judge_report(struct pm_core *core, const struct pm_child_report *report)
{
    struct pm_membership *m = core->membership;
    struct pm_edge edge;
    if (pm_set_has(&m->dead, report->node) ||
        !pm_edges_get(&m->edges, report->node, m->fanout, &edge) || edge.attach != report->attach ||
        !edge.attached || pm_edges_newer(&m->edges, report->parent, m->fanout, report->via))
        return; // what still holds its parent says anew
    if (report->kind == PM_REPORT_FINE) {
        // Of a child of our own we may say so because our clock was late, and not because it was heard.
        m->judge.heard |= edge.parent != PM_NODE_COORDINATOR;
        suspect_remove(&m->judge, report->node);
        confirm(core, &edge);
        return;
    }
    if (m->stopped)
        return;
    uint64_t now = core->now_ns;
    uint64_t silent = report->silent_ns < now ? report->silent_ns : now;
    uint64_t granted = report->granted_ns < now ? now - report->granted_ns : 0;
    uint64_t anew = m->judge.anew_ns; // the reporter may not know that we all begin anew
    struct pm_suspect *s = suspect_add(core, report->node, pm_max_ns(now - silent, anew));
    if (!s)
        return;
    s->attach = report->attach;
    s->kind = report->kind;
    s->granted_ns = granted > s->granted_ns ? granted : s->granted_ns;
    uint64_t from = pm_max_ns(s->granted_ns, s->since_ns);
    s->deadline_ns = pm_max_ns(from + m->t_ns, s->deadline_ns);
    // What it says may be long past (its way was cut, too): whoever hears the node has time to say so.
    s->deadline_ns = pm_max_ns(s->first_ns + m->t_ns / 2, s->deadline_ns);
}

static void edge_lost(struct pm_core *core, const struct pm_edge *edge)
{
    struct pm_membership *m = core->membership;
    if (pm_set_has(&m->dead, edge->node))
        return;
    struct pm_suspect *s = suspect_add(core, edge->node, core->now_ns);
    if (!s)
        return;
    s->attach = edge->attach;
    s->kind = PM_REPORT_ENDED;
    s->granted_ns = core->now_ns;
    s->deadline_ns = core->now_ns + m->t_ns;
    s->probe_ns = core->now_ns;
}

// `here` is back. A suspect among them has come along: it keeps who still hangs below it.
static void take_back(struct pm_core *core, struct pm_suspect *s, const struct pm_set *here)
{
    struct pm_membership *m = core->membership;
    int r = pm_set_subtract(&s->pending, here);
    if (r == 0 && pm_set_has(here, s->node))
        r = pm_edges_subtree(&m->edges, s->node, m->fanout, &s->pending);
    if (r < 0 || pm_set_subtract(&s->pending, &m->dead) < 0)
        pm_out_of_memory(core);
    if (pm_set_empty(&s->pending))
        suspect_remove(&m->judge, s->node);
}

// Whatever hangs below `edge` now is not lost with those that it hung below before.
static void edge_back(struct pm_core *core, const struct pm_edge *edge)
{
    struct pm_membership *m = core->membership;
    struct pm_judge *j = &m->judge;
    struct pm_set here = {0};
    j->heard |= suspect_find(j, edge->node) != NULL;
    suspect_remove(j, edge->node);
    if (j->n == 0 || !pm_edges_under(&m->edges, edge->node, PM_NODE_COORDINATOR, m->fanout))
        return;
    if (pm_edges_subtree(&m->edges, edge->node, m->fanout, &here) < 0)
        pm_out_of_memory(core);
    for (uint32_t i = j->n; i > 0; i--) {
        struct pm_suspect *s = &j->list[i - 1];
        if (pm_set_intersects(&s->pending, &here) &&
            !pm_edges_under(&m->edges, edge->node, s->node, m->fanout))
            take_back(core, s, &here);
    }
    j->nodes_valid = false;
    pm_set_done(&here);
}

void pm_judge_edge(struct pm_core *core, const struct pm_edge *edge)
{
    if (core->membership->stopped)
        return;
    if (edge->attached)
        edge_back(core, edge);
    else
        edge_lost(core, edge);
}

// --- probes ------------------------------------------------------------------------------------

static void ask_to_probe(struct pm_core *core, uint32_t prober, const struct pm_suspect *s)
{
    struct pm_membership *m = core->membership;
    const char *addresses = pm_addresses_get(&m->addresses, s->node);
    if (prober == PM_NODE_COORDINATOR) {
        pm_relay_probe(core, s->node, s->probe_id, addresses);
        return;
    }
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_PROBE);
    pm_write_u32(&w, prober);
    pm_write_u32(&w, s->node);
    pm_write_u64(&w, s->probe_id);
    pm_write_str(&w, addresses);
    pm_relay_route(core, prober, &w);
}

// A child of ours that is neither the suspect, nor its parent, nor suspect itself.
static uint32_t other_prober(struct pm_core *core, const struct pm_suspect *s, uint32_t parent)
{
    struct pm_membership *m = core->membership;
    for (uint32_t i = 0; i < m->n_children; i++) {
        uint32_t node = m->child_ids[(i + s->probe_id) % m->n_children];
        if (node != s->node && node != parent && !pm_judge_is_suspect(core, node))
            return node;
    }
    return PM_NODE_COORDINATOR;
}

static void probe(struct pm_core *core, struct pm_suspect *s)
{
    struct pm_membership *m = core->membership;
    struct pm_edge edge = {.parent = PM_NODE_COORDINATOR};
    (void)pm_edges_get(&m->edges, s->node, m->fanout, &edge);
    s->probe_ns = core->now_ns + m->t_ns / 8;
    s->probe_id = ++m->judge.last_probe_id;
    uint32_t first = edge.parent;
    if (first != PM_NODE_COORDINATOR && pm_next_hop(core, first) == PM_NODE_NONE)
        first = PM_NODE_COORDINATOR;
    uint32_t second = other_prober(core, s, first);
    ask_to_probe(core, first, s);
    if (second != first)
        ask_to_probe(core, second, s);
}

// It lives, and has its time anew; but not for ever.
static void answered(struct pm_core *core, struct pm_suspect *s)
{
    uint64_t patience = core->config.options->orphan_timeout_ms * PM_MS;
    core->membership->judge.heard = true;
    s->refused = 0;
    s->dead_ns = 0;
    if (core->now_ns - s->first_ns >= patience)
        return;
    s->since_ns = core->now_ns;
    s->deadline_ns = core->now_ns + core->membership->t_ns;
}

void pm_judge_probed(struct pm_core *core, uint64_t id, uint32_t prober, uint32_t target, uint8_t end)
{
    struct pm_membership *m = core->membership;
    struct pm_suspect *s = suspect_find(&m->judge, target);
    if (!s || s->root_dead || id <= s->base_id || id > m->judge.last_probe_id)
        return;
    m->judge.next_ns = core->now_ns;
    s->stuck = end == PM_LINK_STUCK;
    s->unreachable = end == PM_LINK_UNREACHABLE;
    if (end == PM_LINK_REFUSED) {
        if (s->refused++ == 0)
            s->probe_ns = pm_min_ns(s->probe_ns, core->now_ns + REPROBE_NS);
        else if (s->dead_ns == 0)
            s->dead_ns = core->now_ns + PM_K_NS;
    } else if (end == PM_PROBE_ANSWERED) {
        answered(core, s);
    }
}

// --- death -------------------------------------------------------------------------------------

// Its host lives, and its time is over all the same.
static bool is_stuck(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    const struct pm_suspect *s = suspect_find(&core->membership->judge, node);
    return cause == PM_CAUSE_AGENT_LOST && s && s->stuck && !s->dead_ns;
}

// How long nothing was heard of `node`, ms; 0 if it was not lost for silence.
static uint64_t silent_ms(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    struct pm_judge *j = &core->membership->judge;
    if (is_stuck(core, node, cause))
        return (core->now_ns - suspect_find(j, node)->since_ns) / PM_MS;
    for (uint32_t i = 0; cause == PM_CAUSE_NODE_LOST && i < j->n; i++)
        if (pm_set_has(&j->list[i].pending, node))
            return (core->now_ns - j->list[i].since_ns) / PM_MS;
    return 0;
}

static bool is_refused(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    const struct pm_suspect *s = suspect_find(&core->membership->judge, node);
    return cause == PM_CAUSE_AGENT_LOST && s && s->dead_ns;
}

static const char *proof_of(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    if (is_stuck(core, node, cause))
        return ", and it accepts connections, but does not answer (stuck)";
    return is_refused(core, node, cause) ? "its port refused the connection twice" : "";
}

static bool is_unreachable(struct pm_core *core, uint32_t node)
{
    const struct pm_suspect *s = suspect_find(&core->membership->judge, node);
    return s && s->unreachable;
}

// What speaks for its death goes into the record, for the ledger of the end.
static void log_lost(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    char time[32];
    const char *proof = pm_death_proof(core, node);
    uint64_t ms = pm_silent_ms(core, node);
    struct pm_log *log = pm_log_record(core, "lost");
    if (ms)
        (void)snprintf(log->reason, sizeof(log->reason), "nothing was heard of it for %s%s",
                       pm_duration_format(ms, time, sizeof(time)), pm_was_silent(core, node) ? PM_NO_ANSWER : proof);
    else
        (void)snprintf(log->reason, sizeof(log->reason), "%s",
                       proof[0] ? proof : "it was taken out, as its ranks could not be ended");
    log->epoch = pm_supervisor_epoch(core->supervisor);
    log->node = node;
    log->cause = cause;
    log->idle = pm_supervisor_does_without(core, node);
    log->silent_ms = ms;
    log->timeout_ms = ms ? core->membership->t_ns / PM_MS : 0;
}

static void note_death(struct pm_core *core, uint32_t node, enum pm_cause cause, uint64_t over_ns)
{
    pm_remember_dead(core, &(struct pm_dead){.node = node,
                                             .over_ns = over_ns,
                                             .silent_ms = silent_ms(core, node, cause),
                                             .unreachable = is_unreachable(core, node),
                                             .refused = is_refused(core, node, cause),
                                             .proof = proof_of(core, node, cause)});
}

// One whose death has been noted.
static void declare(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    struct pm_membership *m = core->membership;
    if (pm_set_has(&m->dead, node))
        return;
    log_lost(core, node, cause);
    if (pm_set_add(&m->dead, node) < 0)
        pm_out_of_memory(core);
    struct pm_suspect *s = suspect_add(core, node, core->now_ns);
    if (s) {
        s->root_dead = true;
        s->dead_ns = 0;
        if (s->deadline_ns == 0)
            s->deadline_ns = core->now_ns + m->t_ns;
    }
    for (uint32_t i = m->judge.n; i > 0; i--) {
        s = &m->judge.list[i - 1];
        if (pm_set_remove(&s->pending, node) < 0)
            pm_out_of_memory(core);
        if (pm_set_empty(&s->pending))
            suspect_remove(&m->judge, s->node);
    }
    m->judge.nodes_valid = false;
    struct pm_edge edge;
    if (pm_child_find(m, node))
        pm_child_refuse(core, node);
    if (pm_edges_get(&m->edges, node, m->fanout, &edge)) {
        edge.attached = false;
        pm_relay_edge(core, &edge);
    }
    pm_relay_view(core);
    pm_on_node_dead(core, node, cause);
}

static void note_all(struct pm_core *core, const struct pm_set *nodes, enum pm_cause cause)
{
    for (uint32_t node = pm_set_next(nodes, 0); node != UINT32_MAX; node = pm_set_next(nodes, node + 1))
        note_death(core, node, cause, core->now_ns);
}

static void declare_all(struct pm_core *core, const struct pm_set *nodes, enum pm_cause cause)
{
    for (uint32_t node = pm_set_next(nodes, 0); node != UINT32_MAX; node = pm_set_next(nodes, node + 1))
        declare(core, node, cause);
}

void pm_judge_asked(struct pm_core *core, uint32_t node)
{
    struct pm_judge *j = &core->membership->judge;
    for (uint32_t i = 0; i < j->n; i++)
        if (j->list[i].node == node && !j->list[i].root_dead)
            answered(core, &j->list[i]);
        else if (pm_set_has(&j->list[i].pending, node))
            j->list[i].asked_ns = core->now_ns;
}

// Its time is over. Those below it have T/4 more, since they had to find out first that it is gone; and if they
// may be on their way to the place that we sent them to, time for that. Not for ever.
static int sentence_silent(struct pm_core *core, struct pm_suspect *s, struct pm_set *agents, struct pm_set *nodes)
{
    uint64_t t_ns = core->membership->t_ns;
    uint64_t held_ns = s->asked_ns ? s->asked_ns + t_ns / 2 : 0;
    uint64_t patience = core->config.options->orphan_timeout_ms * PM_MS;
    int r = 0;
    if (!s->root_dead) {
        s->deadline_ns = core->now_ns + t_ns / 4;
        r = pm_set_add(nodes, s->node);
    } else if (core->now_ns < held_ns && core->now_ns - s->first_ns < patience) {
        s->deadline_ns = held_ns;
    } else {
        r = pm_set_union(nodes, &s->pending);
    }
    if (r == 0 && s->stuck && !s->root_dead)
        r = pm_set_add(agents, s->node);
    return r;
}

// A parent goes on granting to a child that is only quiet, and it may have been cut off before it could say more:
// then its lease says how long the child's may last, and that is over when its own time is.
static uint64_t hold_for_parents_ns(struct pm_core *core, const struct pm_suspect *s)
{
    struct pm_membership *m = core->membership;
    struct pm_edge edge = {.node = s->node};
    uint64_t hold_ns = 0;
    for (uint32_t node = s->node; s->kind == PM_REPORT_QUIET && node != PM_NODE_COORDINATOR; node = edge.parent) {
        const struct pm_suspect *above = node == s->node ? NULL : suspect_find(&m->judge, node);
        if (above && above->deadline_ns > hold_ns)
            hold_ns = above->deadline_ns;
        if (!pm_edges_get(&m->edges, node, m->fanout, &edge))
            break;
    }
    return hold_ns;
}

// Sorts the suspect into those to declare now, if it is time.
static void sentence(struct pm_core *core, struct pm_suspect *s, bool trust, struct pm_set *agents,
                     struct pm_set *nodes)
{
    int r = 0;
    if (!s->root_dead && s->dead_ns != 0 && core->now_ns >= s->dead_ns) {
        r = pm_set_add(agents, s->node);
    } else if (core->now_ns >= s->deadline_ns && trust) {
        uint64_t hold_ns = hold_for_parents_ns(core, s);
        if (hold_ns > core->now_ns)
            s->deadline_ns = hold_ns;
        else
            r = sentence_silent(core, s, agents, nodes);
    } else if (core->now_ns >= s->probe_ns && !s->root_dead) {
        probe(core, s);
    }
    if (r < 0)
        pm_out_of_memory(core);
}

// Whoever came in first is judged first: the next tick looks again.
void pm_judge_tick(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_judge *j = &m->judge;
    if (m->stopped || core->now_ns < j->next_ns)
        return;
    bool trust = pm_judge_trust(core);
    struct pm_set agents = {0}, nodes = {0};
    for (uint32_t i = 0; i < j->n; i++)
        sentence(core, &j->list[i], trust, &agents, &nodes);
    // The loss of one may end the step, and all suspicions with it: what speaks for the others is noted before.
    note_all(core, &agents, PM_CAUSE_AGENT_LOST);
    note_all(core, &nodes, PM_CAUSE_NODE_LOST);
    declare_all(core, &agents, PM_CAUSE_AGENT_LOST);
    declare_all(core, &nodes, PM_CAUSE_NODE_LOST);
    pm_set_done(&agents);
    pm_set_done(&nodes);
    // Where all that were silent are declared, nobody is left to be heard again: the next look ends the doubt.
    j->next_ns = j->n || j->isolated ? core->now_ns + m->t_ns / 8 : UINT64_MAX;
    for (uint32_t i = 0; i < j->n; i++) {
        const struct pm_suspect *s = &j->list[i];
        if (s->dead_ns > core->now_ns)
            j->next_ns = pm_min_ns(j->next_ns, s->dead_ns);
        if (s->deadline_ns > core->now_ns)
            j->next_ns = pm_min_ns(j->next_ns, s->deadline_ns);
        if (s->probe_ns > core->now_ns && !s->root_dead)
            j->next_ns = pm_min_ns(j->next_ns, s->probe_ns);
    }
}

void pm_membership_declare(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    struct pm_membership *m = core->membership;
    struct pm_edge edge;
    bool joined = pm_edges_get(&m->edges, node, m->fanout, &edge);
    note_death(core, node, cause, core->now_ns + (joined ? m->t_ns : 0));
    declare(core, node, cause);
}
