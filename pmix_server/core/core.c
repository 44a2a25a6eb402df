// SPDX-License-Identifier: Apache-2.0
//
// The core as a whole: owns the struct, hands each event to the modules that it concerns and each
// frame to the owner of its type, and collects the actions of the step.
//
// Who gets which event is the table below; an event that the table does not allow for this process
// is a bug of the shell: assert, and -EPROTO in a release. Frames come from another process, so a
// malformed one is no bug of ours: its link is closed. A module says "malformed" by the reader's
// sticky error.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/internal.h"

enum { AGENT = 1, COORDINATOR = 2, EVERYWHERE = AGENT | COORDINATOR };
enum { MEMBERSHIP = 1, LOCAL = 2, COLLECTIVE = 4, EVERYBODY = 7 }; // LOCAL: node.c or supervisor.c

static const struct {
    uint8_t where;
    uint8_t owners;
} events[PM_EVENT_MAX] = {
    [PM_EVENT_TIMER] = {EVERYWHERE, EVERYBODY},
    [PM_EVENT_LINK_UP] = {EVERYWHERE, MEMBERSHIP},
    [PM_EVENT_LINK_DOWN] = {EVERYWHERE, MEMBERSHIP},
    [PM_EVENT_FRAME] = {EVERYWHERE, 0}, // by frame type
    [PM_EVENT_SHIM_JOINED] = {AGENT, LOCAL},
    [PM_EVENT_SHIM_LOST] = {AGENT, LOCAL},
    [PM_EVENT_RANK_STARTED] = {AGENT, LOCAL},
    [PM_EVENT_RANK_EXITED] = {AGENT, LOCAL},
    [PM_EVENT_RANK_GONE] = {AGENT, LOCAL},
    [PM_EVENT_SIGNALLED] = {AGENT, LOCAL},
    [PM_EVENT_SERVER_READY] = {AGENT, LOCAL | COLLECTIVE},
    [PM_EVENT_SERVER_LOST] = {AGENT, LOCAL},
    [PM_EVENT_NOTIFIED] = {AGENT, LOCAL},
    [PM_EVENT_CONNECTED] = {AGENT, LOCAL},
    [PM_EVENT_FINALIZED] = {AGENT, LOCAL},
    [PM_EVENT_ABORT] = {AGENT, LOCAL},
    [PM_EVENT_FENCE] = {AGENT, COLLECTIVE},
    [PM_EVENT_MODEX] = {AGENT, COLLECTIVE},
    [PM_EVENT_FETCHED] = {AGENT, COLLECTIVE},
    [PM_EVENT_PORT] = {AGENT, LOCAL},
    [PM_EVENT_SAY] = {EVERYWHERE, LOCAL},
    [PM_EVENT_HEALTH] = {AGENT, LOCAL},
    [PM_EVENT_CANNOT_START] = {AGENT, LOCAL},
    [PM_EVENT_LAUNCHED] = {COORDINATOR, MEMBERSHIP | LOCAL},
    [PM_EVENT_STOP] = {COORDINATOR, LOCAL},
    [PM_EVENT_SRUN_EXITED] = {COORDINATOR, LOCAL},
    [PM_EVENT_JOB_STATE] = {COORDINATOR, MEMBERSHIP},
    [PM_EVENT_FENCED_OFF] = {COORDINATOR, LOCAL},
    [PM_EVENT_NODE_STATES] = {COORDINATOR, LOCAL},
    [PM_EVENT_BOOTED] = {COORDINATOR, LOCAL},
    [PM_EVENT_OUTPUT_READ] = {COORDINATOR, LOCAL},
    [PM_EVENT_BOUND] = {AGENT, LOCAL},
};

static const char *const cause_names[PM_CAUSE_MAX] = {
    [PM_CAUSE_NONE] = "none",
    [PM_CAUSE_EXIT] = "exit",
    [PM_CAUSE_SIGNAL] = "signal",
    [PM_CAUSE_OOM] = "oom",
    [PM_CAUSE_ABORT] = "abort",
    [PM_CAUSE_NO_FINALIZE] = "no-finalize",
    [PM_CAUSE_EXEC] = "exec",
    [PM_CAUSE_PMIX_SERVER] = "pmix-server",
    [PM_CAUSE_SHIM_LOST] = "shim-lost",
    [PM_CAUSE_AGENT_LOST] = "agent-lost",
    [PM_CAUSE_NODE_LOST] = "node-lost",
    [PM_CAUSE_UNHEALTHY] = "unhealthy",
};

static const char *const state_names[PM_STATE_MAX] = {
    [PM_STATE_NONE] = "NONE",           [PM_STATE_FORMING] = "FORMING",
    [PM_STATE_STARTING] = "STARTING",   [PM_STATE_RUNNING] = "RUNNING",
    [PM_STATE_HALTING] = "HALTING",     [PM_STATE_PLACING] = "PLACING",
    [PM_STATE_FINISHING] = "FINISHING", [PM_STATE_STOPPING] = "STOPPING",
    [PM_STATE_DONE] = "DONE",
};

const char *pm_cause_name(enum pm_cause cause)
{
    return (unsigned)cause < PM_CAUSE_MAX ? cause_names[cause] : "unknown";
}

const char *pm_state_name(enum pm_state state)
{
    return (unsigned)state < PM_STATE_MAX ? state_names[state] : "unknown";
}

// --- life ------------------------------------------------------------------------------------

// Own copies of what the config points to; NULL strings become "".
static int config_copy(struct pm_core_config *c, const struct pm_core_config *from)
{
    *c = *from;
    c->local_ranks = NULL;
    c->addresses = strdup(from->addresses ? from->addresses : "");
    c->nodelist = strdup(from->nodelist ? from->nodelist : "");
    c->place = strdup(from->place ? from->place : "");
    if (!c->addresses || !c->nodelist || !c->place)
        return -ENOMEM;
    if (from->n_local > 0) {
        uint32_t *ranks = reallocarray(NULL, from->n_local, sizeof(*ranks));
        if (!ranks)
            return -ENOMEM;
        memcpy(ranks, from->local_ranks, from->n_local * sizeof(*ranks));
        c->local_ranks = ranks;
    }
    return 0;
}

static void config_done(struct pm_core_config *c)
{
    free((void *)c->local_ranks);
    free((void *)c->addresses);
    free((void *)c->nodelist);
    free((void *)c->place);
}

int pm_core_new(const struct pm_core_config *config, uint64_t now_ns, struct pm_core **ret)
{
    struct pm_core *core = calloc(1, sizeof(*core));
    if (!core)
        return -ENOMEM;
    core->coordinator = config->node == PM_NODE_COORDINATOR;
    core->now_ns = now_ns;
    int r = config_copy(&core->config, config);
    if (r == 0)
        r = pm_membership_new(core);
    if (r == 0)
        r = core->coordinator ? pm_supervisor_new(core) : pm_node_new(core);
    if (r == 0)
        r = pm_collective_new(core);
    if (r < 0) {
        pm_core_free(core);
        return r;
    }
    *ret = core;
    return 0;
}

struct pm_core *pm_core_free(struct pm_core *core)
{
    if (!core)
        return NULL;
    pm_collective_free(core->collective);
    pm_node_free(core->node);
    pm_supervisor_free(core->supervisor);
    pm_membership_free(core->membership);
    pm_world_release(&core->world);
    config_done(&core->config);
    free(core);
    return NULL;
}

struct pm_core *pm_core_clone(const struct pm_core *core)
{
    struct pm_core *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->coordinator = core->coordinator;
    c->now_ns = core->now_ns;
    c->world_known = core->world_known;
    pm_world_acquire(&c->world, &core->world);
    bool ok = config_copy(&c->config, &core->config) == 0;
    ok = ok && (c->membership = pm_membership_clone(core->membership));
    ok = ok && (!core->node || (c->node = pm_node_clone(core->node)));
    ok = ok && (!core->supervisor || (c->supervisor = pm_supervisor_clone(core->supervisor)));
    ok = ok && (c->collective = pm_collective_clone(core->collective));
    return ok ? c : pm_core_free(c);
}

uint64_t pm_core_digest(const struct pm_core *core, uint64_t now_ns)
{
    return pm_core_digest_beside(core, now_ns, NULL);
}

uint64_t pm_core_digest_beside(const struct pm_core *core, uint64_t now_ns, const uint32_t *newest)
{
    struct pm_digest d = {.newest = newest};
    pm_digest_u64(&d, core->config.node);
    pm_digest_u64(&d, core->world_known);
    pm_digest_u64(&d, core->world.map_version);
    pm_digest_u64(&d, pm_world_hash(&core->world));
    pm_membership_digest(core, now_ns, &d);
    if (core->node)
        pm_node_digest(core->node, now_ns, &d);
    if (core->supervisor)
        pm_supervisor_digest(core, now_ns, &d);
    pm_collective_digest(core->collective, now_ns, &d);
    uint64_t due_ns = pm_core_deadline_ns(core); // work that is put off, but noted nowhere else
    pm_digest_time(&d, due_ns > now_ns ? due_ns : now_ns, now_ns);
    return d.h;
}

// --- a step ----------------------------------------------------------------------------------

static void local_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type,
                        struct pm_reader *r)
{
    if (core->coordinator)
        pm_supervisor_frame(core, link, from, type, r);
    else
        pm_node_frame(core, link, from, type, r);
}

// Only membership.c listens to peers that are not attached (yet, or any more: then the frame is
// simply late, and what it said comes again on the new link).
static void frame(struct pm_core *core, const struct pm_event *event)
{
    struct pm_reader r = pm_reader_of(event->data, event->len);
    uint8_t type = pm_read_u8(&r);
    uint32_t from = PM_NODE_NONE;
    bool attached = pm_membership_hear(core, event->link, &from);
    if (r.error == 0 && type >= 0x10 && type < 0x20)
        pm_membership_frame(core, event->link, type, &r);
    else if (r.error == 0 && type >= 0x20 && type < 0x30 && attached)
        local_frame(core, event->link, from, type, &r);
    else if (r.error == 0 && type >= 0x30 && type < 0x40 && attached)
        pm_collective_frame(core, event->link, from, type, &r);
    else if (attached)
        r.error = -EBADMSG;
    if (r.no_memory)
        core->out->error = -ENOMEM; // the peer is not to blame
    else if (r.error != 0)
        pm_membership_reject(core, event->link);
}

static bool event_is_legal(const struct pm_core *core, const struct pm_event *event)
{
    if (event->type <= PM_EVENT_NONE || event->type >= PM_EVENT_MAX || event->now_ns < core->now_ns)
        return false;
    return events[event->type].where & (core->coordinator ? COORDINATOR : AGENT);
}

int pm_core_step(struct pm_core *core, const struct pm_event *event, struct pm_actions *ret_actions)
{
    bool legal = event_is_legal(core, event);
    assert(legal);
    if (!legal)
        return -EPROTO;
    core->now_ns = event->now_ns;
    core->out = ret_actions;
    uint8_t owners = events[event->type].owners;
    pm_membership_clock(core);
    if (event->type == PM_EVENT_FRAME)
        frame(core, event);
    if (owners & MEMBERSHIP)
        pm_membership_event(core, event);
    if (owners & LOCAL) {
        if (core->coordinator)
            pm_supervisor_event(core, event);
        else
            pm_node_event(core, event);
    }
    if (owners & COLLECTIVE)
        pm_collective_event(core, event);
    core->out = NULL;
    return ret_actions->error;
}

uint64_t pm_core_deadline_ns(const struct pm_core *core)
{
    uint64_t d = pm_membership_deadline_ns(core->membership);
    uint64_t local = core->coordinator ? pm_supervisor_deadline_ns(core->supervisor)
                                       : pm_node_deadline_ns(core->node);
    uint64_t collective = pm_collective_deadline_ns(core->collective);
    d = local < d ? local : d;
    return collective < d ? collective : d;
}

const struct pm_world *pm_core_world(const struct pm_core *core)
{
    return &core->world;
}

enum pm_state pm_core_state(const struct pm_core *core)
{
    return core->supervisor ? pm_supervisor_state(core->supervisor) : PM_STATE_NONE;
}

uint32_t pm_core_epoch(const struct pm_core *core)
{
    return core->coordinator ? pm_supervisor_epoch(core->supervisor) : pm_node_epoch(core->node);
}

const char *pm_core_host(const struct pm_core *core, uint32_t node, char *buf)
{
    return pm_supervisor_host(core, node, buf);
}

uint32_t pm_core_rank_of(const struct pm_core *core, uint32_t local)
{
    return pm_node_rank_of(core->node, local);
}

// --- what membership.c has to tell the others ---------------------------------------------------
// The records first: what a fence does with a new neighbour depends on them.

void pm_on_parent(struct pm_core *core)
{
    pm_node_on_parent(core);
    pm_collective_on_parent(core);
}

void pm_on_child(struct pm_core *core, uint32_t child)
{
    if (core->coordinator)
        pm_supervisor_on_child(core, child);
    else
        pm_node_on_child(core, child);
    pm_collective_on_child(core, child);
}

void pm_on_child_gone(struct pm_core *core, uint32_t child)
{
    if (core->coordinator)
        pm_supervisor_on_child_gone(core, child);
    else
        pm_node_on_child_gone(core, child);
    pm_collective_on_child_gone(core, child);
}

void pm_on_view(struct pm_core *core)
{
    pm_collective_on_view(core);
}

void pm_on_node_dead(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    assert(core->coordinator);
    pm_supervisor_on_node_dead(core, node, cause);
}

void pm_on_isolated(struct pm_core *core, bool isolated)
{
    assert(core->coordinator);
    pm_supervisor_on_isolated(core, isolated);
}
