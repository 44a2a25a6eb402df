// SPDX-License-Identifier: Apache-2.0
//
// Whole steps of real cores under random faults, each from one seed: ranks that die, abort, connect
// or end, lost servers and shims, links that reset, nodes that are cut, paused, killed or powered
// off, a paused coordinator, Slurm's signal. Whatever happens, the step ends within its bounds, no
// rank outlives it, no two lives of a rank overlap (the harness checks that), and clones have the
// digests of their originals.
//
// Not Criterion, so that a seed can be run alone: life_random [FIRST [LAST]]; TRACE=1 shows every
// action.
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/core_harness.h"

#define SEEDS        400
#define EXITED(code) ((code) << 8)

struct run {
    struct harness *h;
    uint64_t random;
    uint32_t nnodes;
    uint32_t per_node;
    uint32_t node; // of the next fault; its process lives
    uint32_t local;
    struct pm_event event; // about that rank, type to be filled in
};

static uint32_t below(struct run *r, uint32_t n)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return (uint32_t)(r->random >> 20) % n;
}

static bool one_in(struct run *r, uint32_t n)
{
    return below(r, n) == 0;
}

static void post(struct run *r, enum pm_event_type type)
{
    r->event.type = type;
    harness_post(r->h, r->node, &r->event, 0);
}

// --- faults ------------------------------------------------------------------------------------

static void rank_killed(struct run *r)
{
    harness_rank_ends(r->h, r->node, r->local, 9);
}
static void rank_ends(struct run *r)
{
    harness_rank_ends(r->h, r->node, r->local, 0);
}
static void rank_connects(struct run *r)
{
    post(r, PM_EVENT_CONNECTED);
}
static void rank_finalizes(struct run *r)
{
    post(r, PM_EVENT_FINALIZED);
}
static void server_dies(struct run *r)
{
    post(r, PM_EVENT_SERVER_LOST);
}

static void rank_exits(struct run *r)
{
    harness_rank_ends(r->h, r->node, r->local, EXITED((int32_t)below(r, 5)));
}

static void rank_aborts(struct run *r)
{
    r->event.status = (int32_t)below(r, 5);
    post(r, PM_EVENT_ABORT);
}

static void many_die(struct run *r)
{
    for (uint32_t node = 0; node < r->nnodes; node++)
        for (uint32_t local = 0; local < r->per_node; local++)
            if (harness_core(r->h, node) && one_in(r, 2))
                harness_rank_ends(r->h, node, local, 11);
}

static void shim_dies(struct run *r)
{
    if (one_in(r, 6))
        post(r, PM_EVENT_SHIM_LOST);
}

static void slurm_signals(struct run *r)
{
    if (!one_in(r, 4))
        return;
    for (uint32_t node = 0; node < r->nnodes; node++) {
        struct pm_event e = {.type = PM_EVENT_SIGNALLED, .signal = 15};
        if (harness_core(r->h, node))
            harness_post(r->h, node, &e, below(r, 3000) * HARNESS_MS / 1000);
    }
}

static void link_resets(struct run *r)
{
    harness_reset_link(r->h, r->node, one_in(r, 2) ? PM_NODE_COORDINATOR : below(r, r->nnodes));
}

static void node_pauses(struct run *r)
{
    uint32_t node = one_in(r, 3) ? PM_NODE_COORDINATOR : r->node;
    harness_pause(r->h, node);
    harness_run_ms(r->h, below(r, 4000));
    harness_resume(r->h, node);
}

static void node_is_cut(struct run *r)
{
    harness_cut(r->h, r->node);
    harness_run_ms(r->h, below(r, 4000));
    harness_heal(r->h, r->node);
}

static void node_goes(struct run *r)
{
    if (one_in(r, 8))
        harness_kill(r->h, r->node);
    else if (one_in(r, 8))
        harness_power_off(r->h, r->node);
}

static void (*const faults[])(struct run *r) = {
    rank_killed, rank_killed, rank_exits,    rank_exits,     rank_ends,   rank_connects,
    rank_ends,   rank_aborts, rank_connects, rank_finalizes, server_dies, shim_dies,
    many_die,    link_resets, slurm_signals, node_pauses,    node_is_cut, node_goes,
};

// --- a run -------------------------------------------------------------------------------------

static void random_options(struct run *r, struct pm_options *o)
{
    harness_default_options(o);
    o->mode = PM_MODE_WORLD + below(r, 3);
    o->max_restarts = one_in(r, 3) ? below(r, 4) : 1000;
    o->min_uptime_ms = one_in(r, 2) ? 0 : 5000;
    o->backoff_ms = one_in(r, 3) ? below(r, 2000) : 0;
    o->backoff_max_ms = 5000;
    o->restart_window_ms = one_in(r, 4) ? 1000 + below(r, 60000) : 0;
    o->fanout = 2 + below(r, 4);
    o->verbose = below(r, 2);
}

static void random_fault(struct run *r)
{
    harness_run_ms(r->h, one_in(r, 4) ? below(r, 8000) : below(r, 20));
    struct pm_core *coordinator = harness_core(r->h, PM_NODE_COORDINATOR);
    r->node = below(r, r->nnodes);
    r->local = below(r, r->per_node);
    if (!coordinator || !harness_core(r->h, r->node))
        return;
    r->event = (struct pm_event){.local = r->local,
                                 .rank = r->node * r->per_node + r->local,
                                 .epoch = pm_core_epoch(coordinator),
                                 .text = "random"};
    faults[below(r, sizeof(faults) / sizeof(faults[0]))](r);
}

static bool clones_are_equal(struct run *r)
{
    for (uint32_t i = 0; i <= r->nnodes; i++) {
        struct pm_core *core = harness_core(r->h, i < r->nnodes ? i : PM_NODE_COORDINATOR);
        if (!core)
            continue;
        uint64_t now_ns = harness_now_ns(r->h);
        struct pm_core *clone = pm_core_clone(core);
        bool equal = clone && pm_core_digest(clone, now_ns) == pm_core_digest(core, now_ns);
        pm_core_free(clone);
        if (!equal)
            return false;
    }
    return true;
}

// No more faults: all ranks end as soon as their world runs. Ten minutes are more than any bound.
static const char *converge(struct run *r)
{
    for (int i = 0; i < 60 && !harness_exited(r->h, NULL); i++) {
        if (!clones_are_equal(r))
            return "a clone differs";
        harness_run_ms(r->h, 10000);
        struct pm_core *coordinator = harness_core(r->h, PM_NODE_COORDINATOR);
        enum pm_state state = coordinator ? pm_core_state(coordinator) : PM_STATE_DONE;
        if (state == PM_STATE_RUNNING || state == PM_STATE_STOPPING)
            harness_all_ranks_end(r->h);
    }
    if (!harness_exited(r->h, NULL))
        return "the step does not end";
    harness_run_ms(r->h, 100000);
    return harness_ranks_alive(r->h) ? "a rank outlives the step" : NULL;
}

static bool run_seed(uint32_t seed)
{
    struct run r = {.random = 0x9e3779b97f4a7c15ull * (seed + 1ull)};
    struct pm_options options;
    for (int i = 0; i < 10; i++)
        (void)below(&r, 2);
    random_options(&r, &options);
    r.nnodes = 1 + below(&r, 12);
    r.per_node = 1 + below(&r, 3);
    const struct harness_config config = {.nnodes = r.nnodes,
                                          .ranks_per_node = r.per_node,
                                          .options = &options,
                                          .wait_ms = one_in(&r, 4) ? 1000 + below(&r, 20000) : 0,
                                          .trace = getenv("TRACE") != NULL};
    r.h = harness_new(&config);
    harness_launch(r.h, below(&r, 3000) * HARNESS_MS / 1000);
    for (uint32_t n = below(&r, 30); n > 0 && !harness_exited(r.h, NULL); n--)
        random_fault(&r);
    const char *wrong = converge(&r);
    if (wrong)
        fprintf(stderr, "seed %u: %s; said:\n%s", seed, wrong, harness_said(r.h));
    harness_free(r.h);
    return wrong == NULL;
}

int main(int argc, char **argv)
{
    uint32_t first = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1;
    uint32_t last = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : argc > 1 ? first : SEEDS;
    uint32_t bad = 0;
    for (uint32_t seed = first; seed <= last; seed++)
        bad += !run_seed(seed);
    printf("%u seeds, %u failed\n", last - first + 1, bad);
    return bad ? 1 : 0;
}
