// SPDX-License-Identifier: Apache-2.0
//
// Does each checker fire? For every invariant of the design a model can be told to lie (enum
// sim_plant), in a scenario where that must be seen. The same scenarios without the lie are good.
#include "tests/sim/plant.h"

#include <string.h>

#include "pmix_server/core/membership.h"
#include "tests/sim/check.h"

#define VICTIM 1

void sim_plant_action(struct sim *s, uint32_t slot, struct pm_action *a)
{
    if (s->p.plant == SIM_PLANT_TWICE && a->type == PM_ACTION_FENCE_DONE)
        sim_check_action(s, slot, a);
    if (s->p.plant == SIM_PLANT_OTHER_BYTES && a->type == PM_ACTION_FENCE_DONE && slot == VICTIM &&
        a->len)
        a->data[0] ^= 1;
    if (s->p.plant == SIM_PLANT_NOT_REFUSED && a->type == PM_ACTION_SEND &&
        a->data[0] == PM_FRAME_REFUSED)
        a->data[0] = PM_FRAME_GRANT;
}

// --- scenarios ---------------------------------------------------------------------------------

static void strike(struct sim *s, enum sim_fault_kind kind, uint64_t at_ms, uint64_t ms)
{
    const struct sim_fault f = {.kind = kind, .node = VICTIM, .peer = PM_NODE_COORDINATOR, .arg = 9,
                                .ms = ms};
    sim_fault_at(s, at_ms * SIM_MS, &f);
}

static void nothing(struct sim *s)
{
    (void)s;
}
static void a_rank_dies(struct sim *s)
{
    strike(s, SIM_FAULT_RANK_KILLED, 3000, 0);
}
static void the_coordinator_is_cut(struct sim *s)
{
    strike(s, SIM_FAULT_COORD_CUT, 3000, 8000);
}
static void a_node_is_cut(struct sim *s)
{
    strike(s, SIM_FAULT_NODE_CUT, 3000, 4000);
}

// These have a spare.
static void a_node_is_sick(struct sim *s)
{
    strike(s, SIM_FAULT_HEALTH_FAILS, 0, 0);
}
static void a_node_is_lost(struct sim *s)
{
    strike(s, SIM_FAULT_HOST_LOST, 3000, 0);
}
static void an_agent_is_lost(struct sim *s)
{
    strike(s, SIM_FAULT_AGENT_KILLED, 3000, 0);
}
static void a_node_is_lost_and_the_spare_is_drained(struct sim *s)
{
    const struct sim_fault f = {.kind = SIM_FAULT_NODE_DRAINED, .node = s->p.nnodes - 1};
    sim_fault_at(s, 2 * SIM_S, &f);
    a_node_is_lost(s);
}

// As a cut, but the checkers are not told.
static void a_node_is_deaf(struct sim *s)
{
    sim_run_to(s, 3 * SIM_S);
    if (!s->p.plant)
        return;
    for (uint32_t i = 0; i < s->n; i++) {
        s->hosts[i].cut[0] |= 1ull << VICTIM;
        s->hosts[VICTIM].cut[0] |= 1ull << i;
    }
}

// --- worlds ------------------------------------------------------------------------------------

static void with_spare(struct sim_params *p)
{
    p->options.spares = 1;
}
static void that_shrinks(struct sim_params *p)
{
    p->options.shrink = 1;
    p->options.min_nodes = 4;
}
// Slurm is asked which nodes are drained only with --pm-health (coord.c).
static void with_health(struct sim_params *p)
{
    with_spare(p);
    strcpy(p->options.health, "/user/health");
    p->options.health_timeout_ms = 4000;
}
static void with_fence(struct sim_params *p)
{
    with_spare(p);
    strcpy(p->options.fence, "/site/fence");
    p->options.fence_timeout_ms = 5000;
}
// Of this seed the victim has 8 GPUs and the spare 4 (health.c).
static void with_gpus(struct sim_params *p)
{
    with_spare(p);
    p->sized = SIM_SIZED_GPUS;
    p->seed = 16;
}
// Whose fences nobody waits for: they would tell.
static void without_pmix(struct sim_params *p)
{
    p->life_ms = 60000;
    p->pmix = false;
}

static const struct {
    const char *name;
    void (*scenario)(struct sim *s);
    void (*world)(struct sim_params *p); // NULL: as it is
} plants[SIM_PLANT_MAX] = {
    [SIM_PLANT_OLD_EPOCH] = {"old-epoch", a_rank_dies, NULL},
    [SIM_PLANT_NO_KILL] = {"no-kill", a_rank_dies, NULL},
    [SIM_PLANT_NO_EXIT] = {"no-exit", a_rank_dies, without_pmix},
    [SIM_PLANT_CLEAN_FAILS] = {"clean-fails", nothing, NULL},
    [SIM_PLANT_TWICE] = {"twice", nothing, NULL},
    [SIM_PLANT_NO_END] = {"no-end", nothing, NULL},
    [SIM_PLANT_DEAF] = {"deaf", a_node_is_deaf, NULL},
    [SIM_PLANT_NOT_REFUSED] = {"not-refused", a_node_is_cut, NULL},
    [SIM_PLANT_OTHER_BYTES] = {"other-bytes", nothing, NULL},
    [SIM_PLANT_NO_STOP] = {"no-stop", the_coordinator_is_cut, NULL},
    [SIM_PLANT_SICK] = {"sick", a_node_is_sick, with_health},
    [SIM_PLANT_NOT_DRAINED] = {"not-drained", a_node_is_lost_and_the_spare_is_drained, with_health},
    [SIM_PLANT_MORE_GPUS] = {"more-gpus", a_node_is_lost, with_gpus},
    [SIM_PLANT_FEWER_NODES] = {"fewer-nodes", a_node_is_lost, that_shrinks},
    [SIM_PLANT_NO_FENCE] = {"no-fence", an_agent_is_lost, with_fence},
};

bool sim_plant_run(enum sim_plant scenario, bool lie, FILE *trace, char *ret_violation)
{
    struct sim_params p;
    sim_params_calm(&p);
    p.seed = 1;
    p.nnodes = 4;
    p.per_node = 4;
    p.options.start_timeout_ms = 20000;
    p.options.orphan_timeout_ms = 10000;
    p.term_ms = 20000; // nobody ends by SIGTERM in time
    p.options.grace_ms = 1000;
    p.life_ms = 15000;
    p.chaos_ms = 15000;
    if (plants[scenario].world)
        plants[scenario].world(&p);
    p.plant = lie ? scenario : SIM_PLANT_NONE;
    struct sim *s = sim_new(&p);
    s->trace = trace;
    sim_launch(s);
    plants[scenario].scenario(s);
    bool good = sim_run_on(s);
    snprintf(ret_violation, PM_TEXT_CAP, "%.255s", s->violation);
    sim_free(s);
    return good;
}

// "10: ..." belongs to invariant 10.
static bool plant(enum sim_plant which, FILE *trace)
{
    char found[PM_TEXT_CAP], good[PM_TEXT_CAP];
    bool honest = sim_plant_run(which, false, NULL, good);
    bool passed = sim_plant_run(which, true, trace, found);
    bool fired = !passed && strtol(found, NULL, 10) == (long)which;
    printf("%s %d %s: %s%s%s\n", fired && honest ? "ok    " : "FAILED", which, plants[which].name,
           passed ? "nothing fired" : found, honest ? "" : "; and without the lie: ",
           honest ? "" : good);
    return fired && honest;
}

int sim_command_plant(int argc, char **argv)
{
    bool good = true;
    FILE *trace = argc > 2 && !strcmp(argv[2], "--trace") ? stdout : NULL;
    for (int i = SIM_PLANT_NONE + 1; i < SIM_PLANT_MAX; i++)
        if (argc < 2 || !strcmp(argv[1], plants[i].name))
            good &= plant((enum sim_plant)i, trace);
    return good ? 0 : 1;
}
