// SPDX-License-Identifier: Apache-2.0
//
// See launchers.h. Of Slurm each task gets floor(cores / tasks) cores, one at least; tasks that find
// none left start again at the first core.
#include "tests/topology/launchers.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/topology/mpibind.h"

static void add_gpu(struct score_rank *rank, uint32_t gpu)
{
    rank->gpus[rank->n_gpus++] = gpu;
}

// What programs do by themselves: the GPU with the number of the local rank; with fewer ranks than
// GPUs, blocks of them.
static void by_local_id(const struct score_case *c, struct score_rank *ranks, uint32_t rank)
{
    if (c->n_ranks >= c->n_gpus) {
        add_gpu(&ranks[rank], rank % c->n_gpus);
        return;
    }
    for (uint32_t g = 0; g < c->n_gpus; g++)
        if ((uint64_t)g * c->n_ranks / c->n_gpus == rank)
            add_gpu(&ranks[rank], g);
}

static bool overlaps(const struct score_case *c, const struct score_rank *rank, uint32_t gpu)
{
    const struct pm_set *near = &c->machine->gpus[c->gpus[gpu]].near;
    return pm_set_empty(near) || pm_set_intersects(near, &rank->pus);
}

// --gpu-bind=closest: all whose CPUs overlap the task's; the first one if there is none.
static void closest(const struct score_case *c, struct score_rank *ranks, uint32_t rank)
{
    for (uint32_t g = 0; g < c->n_gpus; g++)
        if (overlaps(c, &ranks[rank], g))
            add_gpu(&ranks[rank], g);
    if (ranks[rank].n_gpus == 0)
        add_gpu(&ranks[rank], 0);
}

// What a user would write for K in --gpu-bind=single:K, the ranks of each GPU.
static uint32_t ranks_per_gpu(const struct score_case *c)
{
    return (c->n_ranks + c->n_gpus - 1) / c->n_gpus;
}

// single:K of Slurm 22.05: of the closest ones, that with the number of the task's group of K.
static void single_2205(const struct score_case *c, struct score_rank *ranks, uint32_t rank)
{
    closest(c, ranks, rank);
    ranks[rank].gpus[0] = ranks[rank].gpus[rank / ranks_per_gpu(c) % ranks[rank].n_gpus];
    ranks[rank].n_gpus = 1;
}

static uint32_t users(const struct score_rank *ranks, uint32_t rank, uint32_t gpu)
{
    uint32_t n = 0;
    for (uint32_t r = 0; r < rank; r++)
        n += ranks[r].gpus[0] == gpu;
    return n;
}

// The same from 23.02.4 on: the first GPU with room for a task whose CPUs have all of the task's,
// else one that overlaps, else any.
static void single_2302(const struct score_case *c, struct score_rank *ranks, uint32_t rank)
{
    const struct score_rank *me = &ranks[rank];
    uint32_t best = 0, best_fit = UINT32_MAX;
    for (uint32_t g = 0; g < c->n_gpus; g++) {
        const struct pm_set *near = &c->machine->gpus[c->gpus[g]].near;
        uint32_t fit = pm_set_empty(near) || pm_set_covers(near, &me->pus) ? 0
                       : overlaps(c, me, g)                                ? 1
                                                                           : 2;
        if (users(ranks, rank, g) < ranks_per_gpu(c) && fit < best_fit) {
            best_fit = fit;
            best = g;
        }
    }
    add_gpu(&ranks[rank], best);
}

const struct launcher launchers[LAUNCHERS] = {
    {"block + local id", false, by_local_id},
    {"cyclic + local id", true, by_local_id},
    {"block + closest", false, closest},
    {"cyclic + closest", true, closest},
    {"block + single, 22.05", false, single_2205},
    {"cyclic + single, 22.05", true, single_2205},
    {"block + single, 23.02.4", false, single_2302},
    {"cyclic + single, 23.02.4", true, single_2302},
    {"mpibind", .greedy = true},
    {"mpibind, greedy 0", .greedy = false},
};

// ---- cores ----

// Granted cores in order, and which are taken.
struct cores {
    uint32_t *places, n;
    bool *taken;
};

static int give_core(const struct score_case *c, struct cores *cores, uint32_t i,
                     struct score_rank *rank)
{
    const struct pm_set *pus = &c->machine->cores[cores->places[i]].pus;
    cores->taken[i] = true;
    for (uint32_t pu = pm_set_next(pus, 0); pu != UINT32_MAX; pu = pm_set_next(pus, pu + 1))
        if (pm_set_has(c->allowed, pu) && pm_set_add(&rank->pus, pu) < 0)
            return -ENOMEM;
    return 0;
}

// The first free core, at or after that of a package if there is one there.
static uint32_t next_core(const struct score_case *c, const struct cores *cores, uint32_t package)
{
    uint32_t any = PM_PLACE_NONE;
    for (uint32_t i = 0; i < cores->n; i++) {
        if (cores->taken[i])
            continue;
        any = any == PM_PLACE_NONE ? i : any;
        if (package == PM_PLACE_NONE || c->machine->cores[cores->places[i]].package == package)
            return i;
    }
    return any;
}

// Packages with granted cores take turns.
static uint32_t package_of(const struct score_case *c, const struct cores *cores, uint32_t rank)
{
    uint32_t packages = 0, last = PM_PLACE_NONE, turn = 0;
    for (int pass = 0; pass < 2; pass++, last = PM_PLACE_NONE)
        for (uint32_t i = 0; i < cores->n; i++) {
            uint32_t package = c->machine->cores[cores->places[i]].package;
            if (package == last)
                continue;
            last = package;
            if (pass == 0)
                packages++;
            else if (turn++ == rank % packages)
                return package;
        }
    return PM_PLACE_NONE;
}

static int give_cores(const struct score_case *c, struct cores *cores, uint32_t rank, bool cyclic,
                      struct score_rank *into)
{
    uint32_t n = c->n_cores / c->n_ranks;
    uint32_t package = cyclic ? package_of(c, cores, rank) : PM_PLACE_NONE;
    for (uint32_t i = 0; i < (n ? n : 1); i++) {
        uint32_t core = next_core(c, cores, package);
        if (core == PM_PLACE_NONE) {
            for (uint32_t j = 0; j < cores->n; j++)
                cores->taken[j] = false;
            core = next_core(c, cores, package);
        }
        if (give_core(c, cores, core, into) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int give(const struct launcher *launcher, const struct score_case *c, struct cores *cores,
                struct score_rank *ranks)
{
    for (uint32_t i = 0; i < c->machine->n_cores; i++)
        if (pm_set_intersects(&c->machine->cores[i].pus, c->allowed))
            cores->places[cores->n++] = i;
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        if (give_cores(c, cores, r, launcher->cyclic, &ranks[r]) < 0)
            return -ENOMEM;
        if (c->n_gpus)
            launcher->gpus_of(c, ranks, r);
    }
    return 0;
}

static int launch_slurm(const struct launcher *launcher, const struct score_case *c,
                        struct score_rank *ranks)
{
    struct cores cores = {.places = calloc(c->machine->n_cores, sizeof(uint32_t)),
                          .taken = calloc(c->machine->n_cores, sizeof(bool))};
    int rc = cores.places && cores.taken ? give(launcher, c, &cores, ranks) : -ENOMEM;
    free(cores.places);
    free(cores.taken);
    return rc;
}

int launch(const struct launcher *launcher, const struct score_case *c, struct score_rank *ranks)
{
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        ranks[r].gpus = calloc((size_t)c->n_gpus + 1, sizeof(*ranks[r].gpus));
        if (!ranks[r].gpus)
            return -ENOMEM;
    }
    return launcher->gpus_of ? launch_slurm(launcher, c, ranks)
                             : mpibind(c, launcher->greedy, ranks);
}

void ranks_done(struct score_rank *ranks, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) {
        pm_set_done(&ranks[r].pus);
        free(ranks[r].gpus);
        ranks[r] = (struct score_rank){0};
    }
}
