// SPDX-License-Identifier: Apache-2.0
//
// A world from a seed. Swarm: most seeds have most faults off, so that each is also tried alone and
// in small company; a few have all of them on.
#include <inttypes.h>
#include <string.h>

#include "tests/sim/sim.h"

const char *sim_profile_name(enum sim_profile profile)
{
    static const char *const names[SIM_PROFILE_MAX] = {"swarm", "spares"};
    return names[profile];
}

void sim_params_calm(struct sim_params *p)
{
    *p = (struct sim_params){
        .nnodes = 4,
        .per_node = 2,
        .names = true,
        .hop_ns = 50 * SIM_US,
        .local_ns = 50 * SIM_US,
        .stagger_ns = 100 * SIM_MS,
        .job_ask_ms = 50,
        .pmix = true,
        .fences = 4,
        .life_ms = 20000,
        .term_ms = 100,
        .chaos_ms = 20000,
    };
    p->options = (struct pm_options){
        .mode = PM_MODE_WORLD,
        .max_restarts = 3,
        .max_node_losses = PM_UNLIMITED,
        .min_nodes = 1,
        .min_uptime_ms = 5000,
        .grace_ms = 5000,
        .node_timeout_ms = 2000,
        .orphan_timeout_ms = 60000,
        .start_timeout_ms = 120000,
        .join_window_ms = 15000,
        .fanout = 32,
    };
    p->options.fatal.exits[93 / 64] |= 1ull << 93 % 64;
}

static uint64_t one_of(struct sim_rng *r, const uint64_t *values, uint32_t n)
{
    return values[sim_rng_pick(r, n)];
}
#define ONE_OF(r, ...)                                                                             \
    one_of(r, (const uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void draw_options(struct sim_rng *r, struct pm_options *o)
{
    o->mode = sim_rng_one_in(r, 16)  ? PM_MODE_NOTIFY
              : sim_rng_one_in(r, 5) ? PM_MODE_RANK
                                     : PM_MODE_WORLD;
    o->max_restarts = sim_rng_one_in(r, 24) ? 0 : (uint32_t)ONE_OF(r, 1, 3, 3, 20, 1000, 1000);
    o->restart_window_ms = ONE_OF(r, 0, 0, 0, 10000, 60000);
    o->min_uptime_ms = ONE_OF(r, 0, 0, 0, 100, 5000);
    o->backoff_ms = ONE_OF(r, 0, 0, 0, 200, 2000);
    o->backoff_max_ms = ONE_OF(r, 0, 5000);
    if (o->backoff_ms && !o->backoff_max_ms)
        o->backoff_max_ms = 20000; // without, a step may wait for years
    o->grace_ms = ONE_OF(r, 0, 100, 1000, 5000);
    o->node_timeout_ms = ONE_OF(r, 1000, 2000, 2000, 5000, 10000);
    o->orphan_timeout_ms = ONE_OF(r, 5000, 20000, 60000);
    o->start_timeout_ms = ONE_OF(r, 20000, 60000, 120000);
    o->join_window_ms = ONE_OF(r, 5000, 15000);
    o->fanout = (uint32_t)ONE_OF(r, 2, 2, 3, 4, 8, 32);
    o->verbose = sim_rng_pick(r, 2);
}

// From a sequence of its own, so that it changes nothing else of a seed; with this one the seeds of
// `regressions` have whole results, as when they failed.
static uint32_t draw_piece(uint64_t seed)
{
    struct sim_rng r = sim_rng_of(seed, 60);
    return (uint32_t)ONE_OF(&r, 0, 0, 0, 0, 0, 7, 16, 40);
}

// The same: with this one the seeds of `regressions` have none.
#define SPARES_STREAM 5592

// The site's fence program, in a quarter of the worlds that survive losses. Not drawn, so that the others keep their numbers.
static void give_fence(struct sim_params *p)
{
    if (!pm_options_ranks_move(&p->options) || p->seed % 4 != 1)
        return;
    strcpy(p->options.fence, "/site/fence");
    p->options.fence_timeout_ms = 5000;
    p->options.fence_required = p->seed % 8 == 5;
}

// --pm-health, in an eighth of the worlds with spares and some others. Not drawn either.
static void give_health(struct sim_params *p)
{
    if (p->seed % 8 != 3 || (p->options.spares == 0 && p->seed % 64 != 35))
        return;
    p->sized |= p->seed % 16 == 11 ? SIM_SIZED_GPUS : 0;
    strcpy(p->options.health, "/user/health");
    p->options.health_timeout_ms = 4000;
    p->weight[SIM_FAULT_HEALTH_FAILS] = 2;
    p->weight[SIM_FAULT_NODE_DRAINED] = 1;
}

// --pm-blame, in a sixteenth of the worlds with spares. The same.
static void give_blame(struct sim_params *p)
{
    if (p->options.spares && p->seed % 16 == 7 && !p->options.blame)
        p->options.blame = 1 + (uint32_t)(p->seed / 16 % 2);
}

// Now and then so many nodes are lost that nothing more can be done.
static void draw_losses(struct sim_rng *r, struct sim_params *p)
{
    static const enum sim_fault_kind losses[] = {
        SIM_FAULT_AGENT_KILLED, SIM_FAULT_SHIM_KILLED,   SIM_FAULT_AGENT_AND_SHIM_KILLED, SIM_FAULT_HOST_LOST,
        SIM_FAULT_HOST_CRASHED, SIM_FAULT_HOST_REBOOTED, SIM_FAULT_RACK_LOST,
    };
    p->options.max_node_losses = (uint32_t)ONE_OF(r, PM_UNLIMITED, PM_UNLIMITED, PM_UNLIMITED, 1, 2);
    if (p->options.max_node_losses != PM_UNLIMITED)
        p->options.node_loss_window_ms = ONE_OF(r, 0, 20000);
    for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++)
        p->weight[losses[i]] = sim_rng_one_in(r, 3) ? (uint32_t)ONE_OF(r, 1, 2, 4) : 0;
}

// Nodes that wait come on top.
static void draw_spares(struct sim_params *p)
{
    struct sim_rng r = sim_rng_of(p->seed, SPARES_STREAM);
    if (!sim_rng_one_in(&r, 4) || p->options.mode == PM_MODE_NOTIFY)
        return;
    p->options.spares = (uint32_t)ONE_OF(&r, 1, 1, 2, 2, 3, 6);
    p->nnodes += p->options.spares;
    draw_losses(&r, p);
}

// The same again: with this one the seeds of `regressions` do not shrink.
#define SHRINK_STREAM 12541

static void draw_shrink(struct sim_params *p)
{
    struct sim_rng r = sim_rng_of(p->seed, SHRINK_STREAM);
    uint32_t world = p->nnodes - p->options.spares;
    if (!sim_rng_one_in(&r, 6) || p->options.mode == PM_MODE_NOTIFY)
        return;
    p->options.shrink = 1;
    p->options.min_nodes = (uint32_t)ONE_OF(&r, 1, 1, 2, world / 2 + 1);
    if (p->options.min_nodes > world)
        p->options.min_nodes = world;
    if (!p->options.spares)
        draw_losses(&r, p);
}

// The same again: launches that may be followed by another one, or follow one.
#define RELAUNCH_STREAM 23500

static void draw_relaunch(struct sim_params *p)
{
    struct sim_rng r = sim_rng_of(p->seed, RELAUNCH_STREAM);
    struct pm_options *o = &p->options;
    p->job_nodes = p->nnodes;
    if (!sim_rng_one_in(&r, 6) || o->mode == PM_MODE_NOTIFY)
        return;
    o->relaunch = (uint32_t)ONE_OF(&r, 1, 1, 2, 3);
    p->job_nodes += (uint32_t)ONE_OF(&r, 0, 1, 1, 2, 8);
    if (!pm_options_ranks_move(o))
        draw_losses(&r, p);
    if (!sim_rng_one_in(&r, 2))
        return;
    p->legacy = (struct pm_legacy){.relaunches = 1 + sim_rng_pick(&r, o->relaunch), .nodes_out = 1,
                                   .cause = PM_CAUSE_NODE_LOST};
    p->job_nodes++;
    p->legacy.restarts = sim_rng_pick(&r, o->max_restarts < 3 ? o->max_restarts + 1 : 3);
    p->legacy.node_losses = o->max_node_losses ? 1 : 0;
    p->legacy.epoch = p->legacy.relaunches + p->legacy.restarts;
}

// The same again: a single slow link, and a single clogged one.
#define SLOW_LINK_STREAM 4419

static void draw_slow_links(struct sim_params *p)
{
    struct sim_rng r = sim_rng_of(p->seed, SLOW_LINK_STREAM);
    if (!sim_rng_one_in(&r, 6))
        return;
    p->weight[SIM_FAULT_LINK_SLOW] = (uint32_t)ONE_OF(&r, 0, 1, 2, 8);
    p->weight[SIM_FAULT_LINK_CLOGGED] = (uint32_t)ONE_OF(&r, 0, 1, 2, 8);
}

// SIM_PROFILE_SPARES: nodes are lost or cut off in most of its faults, and little else ends the step.
#define PROFILE_STREAM 31000

static void draw_partitions(struct sim_rng *r, struct sim_params *p)
{
    static const enum sim_fault_kind more[] = {
        SIM_FAULT_PARTITION, SIM_FAULT_RACK_LOST, SIM_FAULT_ONE_WAY_CUT, SIM_FAULT_NODE_CUT,      SIM_FAULT_LINK_CUT,
        SIM_FAULT_HOST_LOST, SIM_FAULT_LINK_SLOW, SIM_FAULT_AGENT_KILLED, SIM_FAULT_MASS_SILENCE, SIM_FAULT_COORD_CUT,
    };
    static const enum sim_fault_kind ends[] = {SIM_FAULT_COORD_KILLED, SIM_FAULT_USER_STOP, SIM_FAULT_SLURM_STOP};
    for (size_t i = 0; i < sizeof(more) / sizeof(*more); i++)
        p->weight[more[i]] += i < 3 ? (uint32_t)ONE_OF(r, 4, 8, 16) : (uint32_t)ONE_OF(r, 0, 2, 4, 8);
    for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
        p->weight[ends[i]] = sim_rng_one_in(r, 16);
    p->weight[SIM_FAULT_NODE_DRAINED] = (uint32_t)ONE_OF(r, 0, 0, 2);
    p->weight[SIM_FAULT_RANK_KILLED] += (uint32_t)ONE_OF(r, 0, 4, 16); // for --pm-blame
    p->n_faults = (uint32_t)ONE_OF(r, 3, 5, 8, 13, 21);
}

// After draw_spares(), draw_shrink() and draw_relaunch(): what they have left out of this seed.
static void draw_profile(struct sim_params *p)
{
    struct sim_rng r = sim_rng_of(p->seed, PROFILE_STREAM);
    struct pm_options *o = &p->options;
    uint32_t world = p->nnodes - o->spares;
    if (o->mode == PM_MODE_NOTIFY)
        o->mode = PM_MODE_WORLD;
    if (!o->spares)
        o->spares = (uint32_t)ONE_OF(&r, 1, 1, 2, 2, 3, 6);
    if (world < 3)
        world += 2;
    p->job_nodes += world + o->spares - p->nnodes;
    p->nnodes = world + o->spares;
    if (!o->shrink && sim_rng_one_in(&r, 3)) {
        o->shrink = 1;
        o->min_nodes = (uint32_t)sim_rng_between(&r, 1, world);
    }
    if (!o->relaunch && sim_rng_one_in(&r, 3)) {
        o->relaunch = (uint32_t)ONE_OF(&r, 1, 2, 3);
        p->job_nodes += (uint32_t)ONE_OF(&r, 0, 1, 2, 8);
    }
    o->blame = (uint32_t)ONE_OF(&r, 0, 0, 0, 1, 2);
    p->sized = (uint8_t)ONE_OF(&r, 0, 0, 0, 0, 0, SIM_SIZED_GPUS, SIM_SIZED_MEMORY, SIM_SIZED_GPUS | SIM_SIZED_MEMORY);
    draw_partitions(&r, p);
}

static void draw_size(struct sim_rng *r, struct sim_params *p)
{
    p->nnodes = (uint32_t)ONE_OF(r, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 16, 24);
    p->per_node = (uint32_t)ONE_OF(r, 1, 1, 2, 2, 3, 4, 8);
    if (sim_rng_one_in(r, 64))
        p->nnodes = (uint32_t)sim_rng_between(r, 32, 96);
    p->uneven = p->per_node > 1 && sim_rng_one_in(r, 4);
}

static void draw_faults(struct sim_rng *r, struct sim_params *p)
{
    uint32_t on_in = (uint32_t)ONE_OF(r, 1, 3, 8, 16, 16); // each kind is on in one of so many
    for (uint32_t k = SIM_FAULT_NONE + 1; k <= SIM_FAULT_SWARM_LAST; k++)
        if (sim_rng_one_in(r, on_in))
            p->weight[k] = (uint32_t)ONE_OF(r, 1, 2, 8);
    p->spark = !sim_rng_one_in(r, 32);
    if (sim_rng_one_in(r, 2)) {
        p->weight[SIM_FAULT_RANK_KILLED] += 4;
        p->weight[SIM_FAULT_RANK_EXITS] += 2;
    }
    // What ends every step by itself would hide the rest.
    static const enum sim_fault_kind deadly[] = {
        SIM_FAULT_AGENT_KILLED, SIM_FAULT_SHIM_KILLED, SIM_FAULT_AGENT_AND_SHIM_KILLED,
        SIM_FAULT_HOST_LOST, SIM_FAULT_HOST_CRASHED, SIM_FAULT_HOST_REBOOTED, SIM_FAULT_RACK_LOST,
        SIM_FAULT_COORD_KILLED, SIM_FAULT_USER_STOP, SIM_FAULT_SLURM_STOP,
    };
    bool keep = sim_rng_one_in(r, 3);
    for (size_t i = 0; i < sizeof(deadly) / sizeof(*deadly); i++)
        p->weight[deadly[i]] = keep && (p->weight[deadly[i]] || sim_rng_one_in(r, 6)) ? 1 : 0;
    p->n_faults = (uint32_t)ONE_OF(r, 0, 1, 2, 3, 5, 8, 13, 21, 34);
    p->chaos_ms = ONE_OF(r, 30000, 40000, 60000) * (p->nnodes < 4 ? 8 : p->nnodes < 8 ? 3 : 1);
}

void sim_params_of_seed(struct sim_params *p, uint64_t seed, enum sim_profile profile)
{
    struct sim_rng r = sim_rng_of(seed, 0);
    sim_params_calm(p);
    p->seed = seed;
    p->profile = profile;
    draw_size(&r, p);
    draw_options(&r, &p->options);
    p->cipher = sim_rng_one_in(&r, 16);
    p->skewed = !sim_rng_one_in(&r, 4);
    p->names = !sim_rng_one_in(&r, 6);
    p->wait_ms = ONE_OF(&r, 0, 0, 0, 0, 0, 0, 3000, 20000);
    p->hop_ns = ONE_OF(&r, 5, 25, 100, 1000, 5000) * SIM_US;
    p->jitter_ns = ONE_OF(&r, 0, 20, 2000, 20000) * SIM_US;
    p->local_ns = ONE_OF(&r, 5, 50, 500, 5000) * SIM_US;
    p->stagger_ns = ONE_OF(&r, 0, 10, 500, 3000) * SIM_MS;
    p->job_ask_ms = ONE_OF(&r, 20, 500, 5000);
    p->pmix = !sim_rng_one_in(&r, 4);
    p->fences = (uint32_t)ONE_OF(&r, 0, 2, 5, 20, 60);
    p->fence_piece = draw_piece(seed);
    p->modex = sim_rng_one_in(&r, 2);
    p->term_ms = ONE_OF(&r, 0, 50, 500, 3000);
    p->orphans_in = (uint32_t)ONE_OF(&r, 0, 0, 2, 8);
    draw_faults(&r, p);
    // Mostly the world still lives when the last fault strikes.
    p->life_ms = p->chaos_ms * ONE_OF(&r, 2, 8, 8, 16) / 8;
    draw_spares(p);
    draw_shrink(p);
    draw_relaunch(p);
    draw_slow_links(p);
    if (profile == SIM_PROFILE_SPARES)
        draw_profile(p);
    give_fence(p);
    give_health(p);
    give_blame(p);
    p->fence_timeout_ms = sim_rng_one_in(&r, 3) ? (uint32_t)(2 * p->life_ms + 30000) : 0;
}

void sim_params_print(const struct sim_params *p, FILE *f)
{
    const struct pm_options *o = &p->options;
    fprintf(f, "seed %" PRIu64 ": %u nodes x %u%s%s%s%s, mode %s, fan-out %u, T %" PRIu64
               " ms, grace %" PRIu64 " ms, orphan %" PRIu64 " ms, %u restarts",
            p->seed, p->nnodes, p->per_node, p->uneven ? ", uneven" : "",
            p->cipher ? ", cipher" : "", p->skewed ? ", skewed clocks" : "",
            p->names ? "" : ", no names", pm_mode_name(o->mode), o->fanout, o->node_timeout_ms,
            o->grace_ms, o->orphan_timeout_ms, o->max_restarts);
    fprintf(f, ", life %" PRIu64 " ms%s, %u fences",
            p->life_ms, p->pmix ? "" : " without PMIx", p->fences);
    if (o->spares)
        fprintf(f, ", %u of the nodes are spares", o->spares);
    if (o->shrink)
        fprintf(f, ", shrinks to %u nodes", o->min_nodes);
    if (o->relaunch)
        fprintf(f, ", launch %u of %u in a job of %u nodes", p->legacy.relaunches, o->relaunch, p->job_nodes);
    if ((pm_options_ranks_move(o) || o->relaunch) && o->max_node_losses != PM_UNLIMITED)
        fprintf(f, ", %u losses in %" PRIu64 " ms", o->max_node_losses, o->node_loss_window_ms);
    if (o->health[0])
        fprintf(f, ", health");
    if (p->sized)
        fprintf(f, ", unlike nodes");
    if (o->blame)
        fprintf(f, ", blame %u", o->blame);
    if (p->fence_piece)
        fprintf(f, " in pieces of %u bytes", p->fence_piece);
    fprintf(f, ", hop %" PRIu64 " us, %u faults in %" PRIu64 " ms of:",
            (uint64_t)(p->hop_ns / SIM_US), p->n_faults, p->chaos_ms);
    for (int k = 0; k < SIM_FAULT_MAX; k++)
        if (p->weight[k])
            fprintf(f, " %s", sim_fault_name((enum sim_fault_kind)k));
    fprintf(f, "\n");
}
