// SPDX-License-Identifier: Apache-2.0
//
// Who runs where: the first map of the world, and the one after nodes were lost, whose ranks move to spares, or are
// no more where those are too few and the user allows it.
//
// A node is lost for good when it was declared dead, or its agent or one of its shims was lost: the
// world never comes back to it; so is one that --pm-health took out. Who of the spares may take over,
// supervisor_candidates.c knows; where too few may yet, those that are still asked are waited for, and one that is lost meanwhile is
// not missed as long as there are others. The map goes out before the next epoch starts, so that the new nodes get
// their servers and a port ready.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/supervisor.h"

static void need(struct pm_core *core, int rc)
{
    if (rc < 0)
        core->out->error = rc;
}

// --- the map goes out ---------------------------------------------------------------------------

static enum pm_input refuse_map(struct pm_core *core, const struct pm_map_fault *fault)
{
    char a[PM_TEXT_CAP], b[PM_TEXT_CAP];
    (void)pm_supervisor_host(core, fault->node, a);
    (void)pm_supervisor_host(core, fault->other, b);
    switch (fault->kind) {
    case PM_MAP_HOLE:
        return pm_supervisor_refuse(core, PM_EXIT_CANNOT_SUPERVISE,
                                    "pm-supervise: no node has rank %u; ending the step", fault->rank);
    case PM_MAP_OVERLAP:
        return pm_supervisor_refuse(core, PM_EXIT_CANNOT_SUPERVISE,
                                    "pm-supervise: %.100s and %.100s both have rank %u; ending the step", a,
                                    b, fault->rank);
    default:
        return pm_supervisor_refuse(
            core, PM_EXIT_CANNOT_SUPERVISE,
            "pm-supervise: %.100s claims rank %u of a step of %u ranks; ending the step", a, fault->rank,
            core->supervisor->nranks);
    }
}

// The world of `map` is the one from now on, and everybody hears of it, ahead of the wanted state.
static enum pm_input adopt_map(struct pm_core *core, const struct pm_map *map, uint32_t nranks)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_world shape = {
        .nnodes = s->nnodes, .nranks = nranks, .map_version = core->world.map_version + 1};
    struct pm_map_fault fault;
    struct pm_world world;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_MAP);
    pm_write_u32(&w, shape.map_version);
    pm_write_u32(&w, shape.nnodes);
    pm_write_u32(&w, shape.nranks);
    size_t head = w.len;
    pm_write_map(&w, map);
    int rc = w.error ? w.error
                     : pm_world_from_bytes(&shape, w.data + head, w.len - head, &world, &fault);
    if (rc != 0) {
        pm_writer_done(&w);
        if (rc > 0)
            return refuse_map(core, &fault);
        core->out->error = rc;
        return PM_IN_NONE;
    }
    pm_world_release(&core->world);
    core->world = world;
    core->world_known = true;
    s->nranks = nranks;
    pm_send_children(core, &w);
    free(s->map_frame);
    s->map_frame = w.data;
    s->map_len = w.len;
    s->ready_ns = core->now_ns;
    return PM_IN_NONE;
}

// --- who is lost, and who waits -----------------------------------------------------------------

bool pm_supervisor_is_idle(const struct pm_core *core, uint32_t node)
{
    if (core->world_known)
        return pm_set_empty(&core->world.ranks_of_node[node]);
    return node >= core->supervisor->first_spare;
}

bool pm_supervisor_does_without(const struct pm_core *core, uint32_t node)
{
    const struct pm_supervisor *s = core->supervisor;
    bool ended = s->state == PM_STATE_RUNNING && pm_set_has(&s->seen.marks[PM_MARK_ENDED], node);
    return ended || pm_supervisor_is_idle(core, node);
}

// Nodes whose ranks need another place, into a zeroed *ret.
static void find_homeless(struct pm_core *core, struct pm_set *ret)
{
    const struct pm_supervisor *s = core->supervisor;
    struct pm_set out = {0};
    int rc = pm_set_copy(&out, &s->wanted.lost);
    if (rc == 0)
        rc = pm_set_union(&out, &s->blamed);
    if (rc == 0)
        rc = pm_set_union(&out, pm_dead_nodes(core));
    for (uint32_t node = pm_set_next(&out, 0); rc == 0 && node != UINT32_MAX;
         node = pm_set_next(&out, node + 1))
        if (!pm_supervisor_is_idle(core, node))
            rc = pm_set_add(ret, node);
    need(core, rc);
    pm_set_done(&out);
}

static bool nobody_is_out(const struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    return pm_set_empty(&s->wanted.lost) && pm_set_empty(&s->blamed) && pm_set_empty(pm_dead_nodes(core));
}

uint32_t pm_supervisor_homeless(struct pm_core *core, uint32_t node)
{
    struct pm_set homeless = {0};
    if (nobody_is_out(core))
        return node != UINT32_MAX && !pm_supervisor_is_idle(core, node);
    find_homeless(core, &homeless);
    if (node != UINT32_MAX && !pm_supervisor_is_idle(core, node))
        need(core, pm_set_add(&homeless, node));
    uint32_t n = (uint32_t)pm_set_count(&homeless);
    pm_set_done(&homeless);
    return n;
}

void pm_supervisor_spares(struct pm_core *core, struct pm_set *ret)
{
    const struct pm_supervisor *s = core->supervisor;
    int rc = s->first_spare < s->nnodes ? pm_set_add_span(ret, s->first_spare, s->nnodes - 1) : 0;
    if (rc == 0 && core->world_known)
        rc = pm_set_subtract(ret, &core->world.hosts);
    if (rc == 0)
        rc = pm_set_subtract(ret, &s->wanted.lost);
    if (rc == 0)
        rc = pm_set_subtract(ret, &s->drained);
    if (rc == 0)
        rc = pm_set_subtract(ret, pm_dead_nodes(core));
    need(core, rc);
}

uint32_t pm_supervisor_n_spares(struct pm_core *core, uint32_t node)
{
    struct pm_set spares = {0};
    pm_supervisor_spares(core, &spares);
    uint32_t n = (uint32_t)pm_set_count(&spares) - pm_set_has(&spares, node);
    pm_set_done(&spares);
    return n;
}

// Who of `ready` takes whose place, into a zeroed *ret; pm_moves_done() frees it.
static void choose(struct pm_core *core, const struct pm_set *lost, const struct pm_set *ready, struct pm_moves *ret)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_removal removal = {.lost = lost, .ready = ready, .places = &s->places, .sizes = &s->sizes};
    need(core, pm_spares_choose(&removal, ret));
}

// The same for all that is lost, `node` (UINT32_MAX: none) as well, if all other spares that wait were ready.
static void plan(struct pm_core *core, uint32_t node, struct pm_moves *ret)
{
    struct pm_set lost = {0}, spares = {0};
    find_homeless(core, &lost);
    pm_supervisor_spares(core, &spares);
    if (node != UINT32_MAX && !pm_supervisor_is_idle(core, node))
        need(core, pm_set_add(&lost, node));
    if (node != UINT32_MAX)
        need(core, pm_set_remove(&spares, node));
    choose(core, &lost, &spares, ret);
    pm_set_done(&lost);
    pm_set_done(&spares);
}

// How many nodes the world has that `moves` leads to.
static uint32_t nodes_after(const struct pm_core *core, const struct pm_moves *moves)
{
    const struct pm_supervisor *s = core->supervisor;
    uint32_t hosts = core->world_known ? (uint32_t)pm_set_count(&core->world.hosts) : s->first_spare;
    return hosts - (uint32_t)pm_set_count(&moves->out);
}

struct pm_housing pm_supervisor_housing(struct pm_core *core, uint32_t node)
{
    struct pm_moves moves = {0};
    plan(core, node, &moves);
    struct pm_housing ret = {.nodes_left = nodes_after(core, &moves), .gone_nodes = (uint32_t)pm_set_count(&moves.out)};
    for (uint32_t out = pm_set_next(&moves.out, 0); core->world_known && out != UINT32_MAX;
         out = pm_set_next(&moves.out, out + 1))
        ret.gone_ranks += (uint32_t)pm_set_count(&core->world.ranks_of_node[out]);
    pm_moves_done(&moves);
    return ret;
}

uint32_t pm_supervisor_likely_spare(struct pm_core *core, uint32_t node)
{
    struct pm_set lost = {0}, spares = {0};
    struct pm_moves moves = {0};
    uint32_t to = UINT32_MAX;
    find_homeless(core, &lost);
    need(core, pm_set_add(&lost, node));
    pm_supervisor_spares(core, &spares);
    need(core, pm_set_subtract(&spares, pm_suspect_nodes(core)));
    choose(core, &lost, &spares, &moves);
    for (uint32_t i = 0; i < moves.n; i++)
        if (moves.list[i].from == node)
            to = moves.list[i].to;
    pm_moves_done(&moves);
    pm_set_done(&lost);
    pm_set_done(&spares);
    return to;
}

// --- the first one ------------------------------------------------------------------------------

static enum pm_input refuse_spare(struct pm_core *core, const struct pm_small_spare *small)
{
    char spare[PM_TEXT_CAP], node[PM_TEXT_CAP];
    return pm_supervisor_refuse(
        core, PM_EXIT_CANNOT_SUPERVISE,
        "pm-supervise: spare %.100s has %u task%s, too few to take the place of %.100s, which has %u: give each "
        "node as many (--ntasks-per-node); ending the step",
        pm_supervisor_host(core, small->spare, spare), small->offers, small->offers == 1 ? "" : "s",
        pm_supervisor_host(core, small->node, node), small->needs);
}

static enum pm_input refuse_useless(struct pm_core *core, const struct pm_move *move)
{
    const struct pm_places *sizes = &core->supervisor->seen.sizes;
    const struct pm_size offer = pm_sizes_of(sizes, move->to), needed = pm_sizes_of(sizes, move->from);
    char spare[PM_TEXT_CAP], node[PM_TEXT_CAP], a[64], b[64];
    return pm_supervisor_refuse(
        core, PM_EXIT_CANNOT_SUPERVISE,
        "pm-supervise: spare %.100s can take nobody's place: it offers %s, and the smallest of the other nodes, %.100s, has "
        "%s: ask for the same on each node (--gpus-per-node, --mem); ending the step",
        pm_supervisor_host(core, move->to, spare), pm_size_format(&offer, a, sizeof(a)),
        pm_supervisor_host(core, move->from, node), pm_size_format(&needed, b, sizeof(b)));
}

// What tasks a spare had that was lost before it joined nobody knows, and nobody needs.
static bool is_hole_of_lost_spare(const struct pm_core *core, const struct pm_map_fault *fault)
{
    return fault->kind == PM_MAP_HOLE && !pm_set_covers(&core->supervisor->seen.joined, pm_dead_nodes(core));
}

static enum pm_input build_with_spares(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_map *tasks = &s->seen.map;
    const struct pm_map_fault fault = pm_map_check(tasks, s->nnodes, s->ntasks);
    struct pm_span last = {s->first_spare, s->nnodes - 1};
    const struct pm_set all_spares = {.spans = &last, .n = 1};
    struct pm_small_spare small;
    struct pm_move useless;
    struct pm_set spares = {0};
    struct pm_map map = {0};
    uint32_t nranks = 0;
    enum pm_input input = PM_IN_NONE;
    if (fault.kind != PM_MAP_GOOD && !is_hole_of_lost_spare(core, &fault))
        return refuse_map(core, &fault);
    pm_supervisor_spares(core, &spares);
    int rc = pm_spares_too_small(tasks, s->first_spare, &spares, &small);
    if (rc == 0)
        need(core, pm_spares_without(tasks, &all_spares, &map, &nranks));
    need(core, rc);
    int no_use = pm_spares_useless(&s->seen.sizes, s->first_spare, &spares, &useless);
    need(core, no_use);
    if (rc > 0)
        input = refuse_spare(core, &small);
    else if (no_use > 0)
        input = refuse_useless(core, &useless);
    else if (!core->out->error)
        input = adopt_map(core, &map, nranks);
    pm_map_done(&map);
    pm_set_done(&spares);
    return input;
}

enum pm_input pm_supervisor_build_world(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    if (o->spares >= s->nnodes)
        return pm_supervisor_refuse(
            core, PM_EXIT_CANNOT_SUPERVISE,
            "pm-supervise: --pm-spares=%u leaves no node for the ranks: the step has %u node%s; ask for more nodes or for "
            "fewer spares; ending the step", o->spares, s->nnodes, s->nnodes == 1 ? "" : "s");
    if (o->shrink && o->min_nodes > s->first_spare)
        return pm_supervisor_refuse(
            core, PM_EXIT_CANNOT_SUPERVISE,
            "pm-supervise: --pm-min-nodes=%u is more than the %u node%s that the ranks have; ask for more nodes or for a "
            "smaller minimum; ending the step", o->min_nodes, s->first_spare, s->first_spare == 1 ? "" : "s");
    enum pm_input input = s->first_spare < s->nnodes ? build_with_spares(core)
                                                     : adopt_map(core, &s->seen.map, s->nranks);
    if (!core->world_known)
        return input;
    s->places = s->seen.places;
    s->sizes = s->seen.sizes;
    s->seen.places = s->seen.sizes = (struct pm_places){0};
    pm_map_clear(&s->seen.map);
    return input;
}

// --- the next ones ------------------------------------------------------------------------------

// ", all under switch s12": what several lost nodes have in common, and not with the whole step.
static void shared_switch(struct pm_core *core, const struct pm_set *lost, char *buf, size_t cap)
{
    const struct pm_supervisor *s = core->supervisor;
    char path[PM_PLACE_CAP];
    buf[0] = '\0';
    (void)pm_places_shared(&s->places, lost, path);
    bool others = pm_places_count(&s->places, path) < s->nnodes;
    const char *last = strrchr(path, '.');
    if (path[0] && others && pm_set_count(lost) > 1)
        (void)snprintf(buf, cap, ", all under switch %.100s", last ? last + 1 : path);
}

static void log_move(struct pm_core *core, const struct pm_move *move, const char *why, uint32_t left)
{
    struct pm_log *log = pm_log_record(core, "move");
    log->epoch = core->supervisor->wanted.epoch;
    log->node = move->from;
    log->rank = pm_set_next(&core->world.ranks_of_node[move->from], 0);
    log->action = pm_verdict_name(PM_VERDICT_MOVE_TO_SPARE);
    log->spare = move->to;
    log->spares_left = left;
    pm_text_copy(log->reason, sizeof(log->reason), why);
}

// "2 nodes lost, all under switch s12".
static char *say_lost(struct pm_core *core, const struct pm_set *lost, char *buf)
{
    const struct pm_set *blamed = &core->supervisor->blamed;
    char shared[PM_TEXT_CAP / 2];
    uint32_t n = (uint32_t)pm_set_count(lost);
    bool any = pm_set_intersects(blamed, lost), all = pm_set_covers(blamed, lost);
    shared_switch(core, lost, shared, sizeof(shared));
    (void)snprintf(buf, PM_TEXT_CAP, "%u node%s %s%s", n, n == 1 ? "" : "s",
                   !any ? "lost" : all ? "blamed" : "lost or blamed", shared);
    return buf;
}

// What the decision's line did not say already.
static void tell_moves(struct pm_core *core, const struct pm_moves *m)
{
    struct pm_supervisor *s = core->supervisor;
    char names[PM_TEXT_CAP], spares[PM_TEXT_CAP], why[PM_TEXT_CAP];
    uint32_t left = pm_supervisor_n_spares(core, UINT32_MAX) - m->n;
    if (!m->n)
        return;
    (void)say_lost(core, &m->from, why);
    for (uint32_t i = 0; i < m->n; i++)
        log_move(core, &m->list[i], why, left);
    if (m->n > 1 || m->list[0].to != s->told_spare)
        pm_say(core, "pm-supervise: %s (%s): %s ranks move to %s (%u spare%s left)", why,
               pm_supervisor_names(core, &m->from, names, sizeof(names)), m->n == 1 ? "its" : "their",
               pm_supervisor_names(core, &m->to, spares, sizeof(spares)), left, left == 1 ? "" : "s");
    for (uint32_t i = 0; i < m->n; i++)
        pm_supervisor_retire_blamed(core, &m->list[i], left);
    need(core, pm_set_union(&s->movers, &m->to));
    need(core, pm_set_union(&s->placed, &m->to));
    s->told_spare = UINT32_MAX;
}

// The same of the nodes that nobody replaces, when the world that was `old` is without them.
static void tell_shrink(struct pm_core *core, const struct pm_set *out, const struct pm_world *old)
{
    struct pm_supervisor *s = core->supervisor;
    char names[PM_TEXT_CAP], why[PM_TEXT_CAP], size[64];
    uint32_t now = (uint32_t)pm_set_count(&core->world.hosts), was = (uint32_t)pm_set_count(&old->hosts);
    (void)snprintf(size, sizeof(size), "%u rank%s on %u node%s (was %u on %u)", s->nranks,
                   s->nranks == 1 ? "" : "s", now, now == 1 ? "" : "s", old->nranks, was);
    (void)say_lost(core, out, why);
    for (uint32_t node = pm_set_next(out, 0); node != UINT32_MAX; node = pm_set_next(out, node + 1)) {
        struct pm_log *log = pm_log_record(core, "shrink");
        log->epoch = s->wanted.epoch;
        log->node = node;
        log->rank = pm_set_next(&old->ranks_of_node[node], 0);
        log->action = pm_verdict_name(PM_VERDICT_SHRINK);
        (void)snprintf(log->reason, sizeof(log->reason), "%.160s: %s", why, size);
    }
    if (s->told_nodes != now)
        pm_say(core, "pm-supervise: %s (%s): going on with %s", why,
               pm_supervisor_names(core, out, names, sizeof(names)), size);
    s->told_nodes = 0;
}

static enum pm_input move(struct pm_core *core, const struct pm_moves *moves)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_world old;
    struct pm_map map = {0};
    uint32_t nranks = 0;
    enum pm_input input = PM_IN_NONE;
    pm_world_acquire(&old, &core->world);
    int rc = pm_spares_map(&old, moves, &map, &nranks);
    need(core, rc);
    if (rc == 0) {
        tell_moves(core, moves);
        input = adopt_map(core, &map, nranks);
    }
    pm_supervisor_fall_begins(core); // whoever is no host of this map is lost for good, and paid for
    if (!core->out->error && !pm_set_empty(&moves->out))
        tell_shrink(core, &moves->out, &old);
    if (core->world.node_of_rank[0] != old.node_of_rank[0]) // no port of its old node will do
        s->last_port_serial = (uint64_t)core->world.map_version << 32;
    pm_world_release(&old);
    pm_map_done(&map);
    return input;
}

static enum pm_input no_place(struct pm_core *core, const struct pm_set *lost)
{
    char names[PM_TEXT_CAP];
    bool one = pm_set_count(lost) == 1;
    const char *why;
    bool forms = core->supervisor->state == PM_STATE_FORMING; // nothing has run
    core->supervisor->relaunch = pm_supervisor_can_relaunch(core, UINT32_MAX, &why);
    return pm_supervisor_refuse(core, forms ? PM_EXIT_CANNOT_SUPERVISE : PM_EXIT_LOST,
                                "pm-supervise: %.200s %s lost and nothing can take %s place; %s",
                                pm_supervisor_names(core, lost, names, sizeof(names)), one ? "is" : "are",
                                one ? "its" : "their",
                                core->supervisor->relaunch ? "launching the step again on other nodes of the job"
                                                           : "stopping");
}

// As many move as there are spares for (`best`), once those have answered and all lost nodes are fenced off; the others
// are done without, if the user allows it.
static enum pm_input rehouse(struct pm_core *core, const struct pm_set *lost, const struct pm_moves *best)
{
    struct pm_set spares = {0};
    struct pm_moves moves = {0};
    enum pm_input input = PM_IN_NONE;
    if (!pm_set_empty(&best->out) && !pm_policy_may_shrink(core->config.options, nodes_after(core, best)))
        return no_place(core, lost);
    pm_supervisor_spares(core, &spares);
    pm_supervisor_keep_ready(core, &spares);
    choose(core, lost, &spares, &moves);
    if (moves.n == best->n && !core->out->error && !pm_supervisor_fence_off_rest(core))
        input = move(core, &moves);
    pm_moves_done(&moves);
    pm_set_done(&spares);
    return input;
}

// Each event of a search for places comes here: one plan, and a second one only where it forgives somebody.
enum pm_input pm_supervisor_rehouse(struct pm_core *core)
{
    struct pm_set lost = {0};
    struct pm_moves best = {0};
    if (nobody_is_out(core))
        return PM_IN_NONE;
    plan(core, UINT32_MAX, &best);
    if (!pm_set_empty(&best.out) && pm_supervisor_pardon(core)) {
        pm_moves_done(&best);
        plan(core, UINT32_MAX, &best);
    }
    pm_supervisor_ask_spares(core);
    find_homeless(core, &lost);
    enum pm_input input = pm_set_empty(&lost) ? PM_IN_NONE : rehouse(core, &lost, &best);
    pm_moves_done(&best);
    pm_set_done(&lost);
    return input;
}
