// SPDX-License-Identifier: Apache-2.0
//
// What tests of the mapper stand on: a machine, what was granted of it, and the map of the last
// call.
#ifndef TESTS_UNIT_MAP_STAND_H
#define TESTS_UNIT_MAP_STAND_H

#include <criterion/criterion.h>

#include "pmix_server/topology/map.h"
#include "tests/topology/made.h"

struct map_stand {
    struct pm_machine m;
    struct pm_set allowed;
    uint32_t *gpus, n_gpus; // granted
    struct pm_bind_options options;
    const struct pm_bind_given *given;
    struct pm_binding binding;
};

// All PUs are granted, and all GPUs that stand_gpu() adds.
void stand_start(struct map_stand *s, struct made_shape shape);
void stand_finish(struct map_stand *s);
uint32_t stand_gpu(struct map_stand *s, const struct pm_set *near);
// Grants a place once more, or PM_PLACE_NONE.
void stand_token(struct map_stand *s, uint32_t place);
// Grants these NUMA nodes only: a string of digits.
void stand_allow_numas(struct map_stand *s, const char *numas);
void stand_allow(struct map_stand *s, uint32_t first, uint32_t last);

// Maps, and looks at everything that is true of every map. Returns the binding.
const struct pm_binding *stand_map(struct map_stand *s, uint32_t n_ranks);
// The map is refused with a sentence that has these words in it.
void stand_refused(struct map_stand *s, uint32_t n_ranks, const char *words);

// "0-3,8" are the rank's PUs; "0,2" its GPUs.
void stand_pus(const struct map_stand *s, uint32_t rank, const char *pus);
void stand_gpus(const struct map_stand *s, uint32_t rank, const char *gpus);
bool stand_inside(const struct map_stand *s, uint32_t rank, const struct pm_set *pus);
bool stand_noted(const struct pm_bind_notes *notes, enum pm_bind_reason reason);

#endif
