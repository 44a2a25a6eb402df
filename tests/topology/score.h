// SPDX-License-Identifier: Apache-2.0
//
// How good is a mapping of ranks to CPUs and GPUs, whoever made it? 0 to 100, and the parts it is
// made of (doc/pinning.md). Pure: a machine, what was granted, and the mapping. It shares no code
// with the mapper, so that it can be its judge.
//
// What counts is units: granted cores; hardware threads where there are more ranks than granted
// cores.
#ifndef TESTS_TOPOLOGY_SCORE_H
#define TESTS_TOPOLOGY_SCORE_H

#include "pmix_server/topology/machine.h"

enum score_part {
    SCORE_ENOUGH = 0,  // has its fair part of the cores near its GPUs
    SCORE_NEAR,        // part of its PUs that are near its GPUs
    SCORE_PACKAGE,     // part of its PUs that are on the package of its GPUs
    SCORE_COVER,       // granted GPUs that a rank uses
    SCORE_GPU_BALANCE, // ranks per GPU or GPUs per rank are as equal as they can be
    SCORE_USED,        // granted cores that a rank uses
    SCORE_BALANCE,     // cores per rank are as equal as they can be
    SCORE_NUMA,        // no more NUMA nodes than it needs
    SCORE_L3,          // no L3 shared that need not be
    SCORE_PARTS,
};
extern const char *const score_part_names[SCORE_PARTS];

struct score_unit {
    uint32_t core, l3, numa, package, kind; // places in the machine
    uint32_t n_pus;
    double capacity; // 1; its hardware threads where kinds of cores differ
};

// A machine, what was granted of it and how many ranks: everything that all mappings share.
struct score_case {
    const struct pm_machine *machine;
    const struct pm_set *allowed;
    const uint32_t *gpus; // places in machine.gpus
    uint32_t n_gpus, n_ranks;

    uint32_t n_cores, n_pus, n_units, n_l3s;
    struct score_unit *units;
    uint32_t *unit_of_pu; // by os_index; PM_PLACE_NONE: not granted
    uint32_t pus_end;
    bool *near, *package;   // n_gpus x n_units
    uint32_t *fewest_numas; // by number of units
    uint32_t l3_unavoidable;
    bool kinds_differ;
};

// The caller has filled in the first five members, which must outlive the case; the rest is zeroed.
// 0 or -ENOMEM.
int score_case_init(struct score_case *c);
void score_case_done(struct score_case *c);

struct score_rank {
    struct pm_set pus;
    uint32_t *gpus; // positions in case.gpus
    uint32_t n_gpus;
};

struct score {
    double part[SCORE_PARTS]; // 0 to 1
    double total;             // 0 to 100; 0 if a gate was hit
    const char *gate;         // which one, NULL: none
    // not part of the total:
    uint32_t split_cores; // cores that several ranks have a part of
    uint32_t mixed_ranks; // ranks with cores of several kinds
    uint32_t ranks_without_gpu;
    // Most minus least: cores of a rank (of those on one kind of core), or ranks of a unit where
    // there are more ranks; ranks of a GPU, or GPUs of a rank where there are fewer ranks. More than
    // 1 is what rows 5, 7 and 13 of the case table forbid.
    uint32_t cores_apart, gpus_apart;
    bool in_gpu_order; // the least GPU of rank i is not above that of rank i + 1
};

static inline bool score_keeps_to_rows(const struct score *score)
{
    return score->cores_apart <= 1 && score->gpus_apart <= 1;
}

// Of case.n_ranks ranks. 0 or -ENOMEM.
int score_mapping(const struct score_case *c, const struct score_rank *ranks,
                  struct score *ret_score);

// The same for mappings as tables, for whoever tries thousands: pus[rank * n_units + unit] is how
// many PUs of the unit the rank has, uses[rank * n_gpus + gpu] whether it uses the GPU. `scratch`
// has room for n_units + n_gpus + machine.n_numas + machine.n_l3s + machine.n_packages numbers.
void score_table(const struct score_case *c, const uint16_t *pus, const bool *uses,
                 uint32_t *scratch, struct score *ret_score);

#endif
