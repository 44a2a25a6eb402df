// SPDX-License-Identifier: Apache-2.0
//
// What the stages of the mapper share: the plan.
//
//   map_units.c    granted PUs -> units (cores) -> domains
//   map_gpu.c      GPUs -> ranks              map_near.c   what is near whom
//   map_gpu_follow.c   the same, by the cores that ranks have
//   map_cores.c    domains -> teams: candidates, of which map_worth.c tells the best
//   map_flow.c     min-cost flow              map_cut.c      a class's units -> its members
//   map_improve.c  exchanges of two teams     map_ranks.c    quantities -> PUs of each rank
//   map_nic.c, map_memory.c, map_why.c        fill in the rest; map_check.c verifies all of it
#ifndef PM_TOPOLOGY_MAP_INTERNAL_H
#define PM_TOPOLOGY_MAP_INTERNAL_H

#include "pmix_server/topology/map.h"

// What is dealt out: a core, or a hardware thread where there are more ranks than cores.
struct pm_unit {
    uint32_t core;  // place in machine.cores
    uint32_t first; // its PUs: plan.pus[first .. first + n - 1]
    uint32_t n;
};

// Units that nothing tells apart: same kind, package, NUMA node, L3, and near the same GPUs.
struct pm_domain {
    uint32_t kind, package, numa, l3;
    uint32_t first, n; // units
};

struct pm_gpu_list {
    uint32_t *gpus; // positions in request.gpus, ascending
    uint32_t n;
};

// Whoever shares units: one rank, or several where there are more ranks than PUs. The running sums
// are kept by pm_plan_move().
struct pm_team {
    uint32_t first_rank, n_ranks;
    uint32_t kind;        // PM_PLACE_NONE: any
    uint32_t class;       // teams with equal rows in plan.near, plan.beside
    uint32_t enough;      // near units from which on more are no better
    double pairs;         // weight of its (rank, GPU) pairs among all, 1 on average
    uint32_t size, spans; // units; NUMA nodes
    uint32_t held;        // units near any of its GPUs
    double near, beside;  // sums over units: part of its GPUs that are near, in the same package
    double capacity;      // units, or PUs where kinds of cores differ
    double worth;         // of pm_plan_worth_of(), unless it is stale
    bool stale;
};

// Of map_improve.c: what a team has in a domain or NUMA node; units that have moved.
struct pm_fragment {
    uint32_t team, domain;
};
struct pm_unit_move {
    uint32_t from, to, domain, n;
};

struct pm_plan {
    const struct pm_machine *machine;
    const struct pm_bind_request *request;
    struct pm_block *blocks; // memory of the plan

    uint32_t *pus; // usable PUs, core by core
    struct pm_unit *units;
    struct pm_domain *domains;
    uint32_t n_pus, n_cores, n_units, n_domains, n_l3s, n_numas;
    uint32_t *l3s;    // per domain: L3s with granted units, counted from 0; PM_PLACE_NONE
    uint32_t *numas;  // per domain: likewise
    uint32_t *fewest; // per number of units: the fewest NUMA nodes that have so many

    struct pm_gpu_list *gpus; // per rank
    bool odd_ranks_first;     // a way to deal GPUs
    bool has_gpus;            // GPUs matter for the placement of cores
    bool *gpu_near;           // n_gpus x n_domains
    bool *gpu_beside;         // likewise: in the same package

    struct pm_team *teams;
    uint32_t n_teams, n_classes, n_kinds;
    double *near,
        *beside;        // n_teams x n_domains: part of the team's GPUs that the domain is near to
    uint32_t *distance; // likewise: hops to the nearest of its GPUs, 0: there is none
    double *capacity;   // per domain: what a unit counts for

    bool may_resize; // units may be left idle if that is worth more
    bool near_only;  // no team may have a unit that is near none of its GPUs
    struct pm_fragment *fragments;
    struct pm_unit_move *moves;
    uint32_t trials;     // exchanges tried so far: the measure of time
    uint64_t random;     // state of pm_plan_shake()
    double worth_before; // of another deal, which is to be beaten; 0: none
    uint32_t *quantity;  // (n_teams + 1) x n_domains units; the last row is idle
    uint32_t *in_l3;     // n_teams x n_l3s units
    uint32_t *in_numa;   // n_teams x n_numas units
    uint32_t *l3_owners;
    uint32_t l3_shared, l3_unavoidable;
};

// Zeroed memory that lives as long as the plan, or NULL.
void *pm_plan_alloc(struct pm_plan *plan, size_t n, size_t size);
void pm_plan_done(struct pm_plan *plan);

// Stages. 0 or -ENOMEM, unless they say otherwise.
int pm_plan_units(struct pm_plan *plan);
int pm_plan_domains(struct pm_plan *plan);
int pm_plan_gpus_by_place(struct pm_plan *plan); // cores will follow
int pm_plan_gpus_by_cores(struct pm_plan *plan, const struct pm_binding *binding); // ranks have PUs
void pm_plan_sort_gpu_lists(struct pm_plan *plan); // ranks in the order of their first GPU
int pm_plan_new_gpu_lists(struct pm_plan *plan, uint32_t most); // empty ones, room for `most` each
void pm_plan_add_gpu(struct pm_plan *plan, uint32_t rank, uint32_t gpu);
int pm_plan_again(struct pm_plan *plan); // GPUs follow the cores that were dealt, and cores again
int pm_plan_near(struct pm_plan *plan);  // gpu_near, gpu_beside
int pm_plan_teams(struct pm_plan *plan);
int pm_plan_cores(struct pm_plan *plan);
// Deals out what a class has got: units per domain.
int pm_plan_cut(struct pm_plan *plan, uint32_t class, const uint32_t *units);

// Gives `n` units of a domain from one team to another; n_teams stands for idle.
void pm_plan_move(struct pm_plan *plan, uint32_t from, uint32_t to, uint32_t domain, uint32_t n);
// All units idle: at first, and again.
int pm_plan_start(struct pm_plan *plan);
void pm_plan_reset(struct pm_plan *plan);
// What two teams contribute to the score, and the score of the whole; doc/pinning.md.
double pm_plan_worth_of(const struct pm_plan *plan, uint32_t team);
double pm_plan_worth_l3(const struct pm_plan *plan);
double pm_plan_worth(const struct pm_plan *plan);
bool pm_plan_has_all(const struct pm_plan *plan, uint32_t team); // nothing is worth more to it
double pm_plan_worth_of_all(const struct pm_plan *plan);         // no deal is worth more
// Exchanges units between two teams as long as that is worth something, and there is a chance that
// the plan becomes worth more than `to_beat`.
int pm_plan_improve(struct pm_plan *plan, double to_beat);
// One exchange that is not asked what it is worth; always the same ones.
void pm_plan_shake(struct pm_plan *plan);

// Were they decided before for each rank? (--cpu-bind; Slurm's or the user's GPUs)
static inline bool pm_cpus_given(const struct pm_bind_request *request)
{
    return request->given && request->given[0].pus;
}

static inline bool pm_gpus_given(const struct pm_bind_request *request)
{
    return request->given && request->given[0].gpus;
}

// A share of `n` for one of `parts`: the first n % parts have one more.
static inline uint32_t pm_part(uint32_t n, uint32_t parts, uint32_t i)
{
    return n / parts + (i < n % parts);
}

static inline uint32_t *pm_quantity(const struct pm_plan *plan, uint32_t team, uint32_t domain)
{
    return &plan->quantity[(size_t)team * plan->n_domains + domain];
}

// map_flow.c: min-cost flow on a small graph of two sides. Node 0 is the source, 1 the sink.
struct pm_flow;
enum { PM_FLOW_MUST = -1000000000 }; // the cost of an arc that is to be used before any other
struct pm_flow *pm_flow_new(uint32_t n_nodes);
void pm_flow_free(struct pm_flow *flow);
// Returns the number of the arc or -ENOMEM.
int pm_flow_arc(struct pm_flow *flow, uint32_t from, uint32_t to, uint32_t capacity, int64_t cost);
// As much as goes from source to sink, and of that the cheapest.
void pm_flow_run(struct pm_flow *flow);
uint32_t pm_flow_on(const struct pm_flow *flow, int arc);

// PUs of each rank: from the quantities, or as they were given. Then cores, threads and GPUs.
int pm_bind_pus(struct pm_plan *plan, struct pm_binding *binding);
int pm_bind_given_pus(const struct pm_plan *plan, struct pm_binding *binding);
int pm_bind_cores_and_gpus(const struct pm_plan *plan, struct pm_binding *binding);
// The rest of a rank, from its PUs, cores and GPUs.
int pm_bind_nics(const struct pm_plan *plan, struct pm_binding *binding);
int pm_bind_memory(const struct pm_plan *plan, struct pm_binding *binding);
bool pm_has_usable_nic(const struct pm_machine *machine);  // one that MPI should use
int pm_bind_why(const struct pm_plan *plan, struct pm_binding *binding);
// 0, or -EPROTO with a sentence.
int pm_bind_check(const struct pm_plan *plan, struct pm_binding *binding);

int pm_bind_say(struct pm_bind_notes *notes, enum pm_bind_reason reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
