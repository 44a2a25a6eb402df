// SPDX-License-Identifier: Apache-2.0
//
// --pm-health on a node, after pmix_server/agent_health.c: the program takes some time, and fails where a fault has made
// the node sick, or because it has taken too long. And the rule that it is for: no rank starts on a node that has not
// passed, nor on one that came into the world later and has not passed once more.
#include "tests/sim/check.h"
#include "tests/sim/outcome.h"
#include "tests/sim/sim.h"

// Drawn from the clock, so that worlds without it keep their numbers.
static uint64_t draw(const struct sim *s, uint32_t node)
{
    return s->now_ns / 1000 + 37 * (uint64_t)node;
}

void sim_health_begin(struct sim *s, uint32_t node, uint64_t check)
{
    struct sim_node *n = &s->nodes[node];
    uint64_t limit_ms = s->p.options.health_timeout_ms;
    bool hangs = n->sick && draw(s, node) % 4 == 0;
    n->health_check = check;
    sim_push(s, s->now_ns + (hangs ? limit_ms : draw(s, node) % (limit_ms / 2)) * SIM_MS, SIM_EVENT_HEALTH, node, 0,
             s->procs[node].life);
}

void sim_health_due(struct sim *s, uint32_t node, uint64_t life)
{
    struct sim_node *n = &s->nodes[node];
    if (!s->procs[node].core || s->procs[node].life != life)
        return;
    if (!sim_proc_runs(s, node)) {
        if (!s->hosts[node].off)
            sim_push(s, s->now_ns + 100 * SIM_MS, SIM_EVENT_HEALTH, node, 0, life);
        return;
    }
    bool failed = n->sick;
    if (failed && !n->found_sick)
        sim_outcome_lost(s, node);
    n->found_sick |= failed;
    n->health_passed += !failed;
    failed &= s->p.plant != SIM_PLANT_SICK;
    sim_proc_post(s, node, (struct pm_event){.type = PM_EVENT_HEALTH, .id = n->health_check, .flag_failed = failed,
                                             .text = failed ? "--pm-health ended with exit code 1" : ""});
}

struct sim_size sim_size_of(const struct sim *s, uint32_t node)
{
    struct sim_size size = {0};
    if (s->p.sized & SIM_SIZED_GPUS)
        size.gpus = (s->p.seed / 16 + 5 * node) % 3 ? 4 : 8;
    if (s->p.sized & SIM_SIZED_MEMORY)
        size.memory_mib = (s->p.seed / 32 + 7 * node) % 4 ? 4096 : 8192;
    return size;
}

void sim_check_move(struct sim *s, uint32_t from, uint32_t to)
{
    struct sim_size need = sim_size_of(s, from), offer = sim_size_of(s, to);
    if (pm_set_has(&s->check->drained, to))
        sim_violate(s, "12: node %u takes a place, and Slurm has said that it is drained", to);
    if (offer.gpus < need.gpus || offer.memory_mib < need.memory_mib)
        sim_violate(s, "13: node %u with %u GPUs and %llu MiB takes the place of node %u, which has %u and %llu", to,
                    offer.gpus, (unsigned long long)offer.memory_mib, from, need.gpus,
                    (unsigned long long)need.memory_mib);
}

void sim_check_first_world(struct sim *s)
{
    const struct pm_world *world = pm_core_world(s->procs[s->p.nnodes].core);
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        s->nodes[i].in_first_world = !pm_set_empty(&world->ranks_of_node[i]);
}

void sim_check_healthy(struct sim *s, uint32_t node)
{
    const struct sim_node *n = &s->nodes[node];
    uint32_t needed = n->in_first_world ? 1 : 2;
    if (s->p.options.health[0] && (n->found_sick || n->health_passed < needed))
        sim_violate(s, "11: a rank starts on node %u, which has passed %u of %u health checks%s", node,
                    n->health_passed, needed, n->found_sick ? " and failed one" : "");
}
