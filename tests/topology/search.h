// SPDX-License-Identifier: Apache-2.0
//
// The best mapping that a long random search finds (simulated annealing over the score): what a
// mapper could have found on this case while it keeps shares equal (score_keeps_to_rows). The same
// seed finds the same.
#ifndef TESTS_TOPOLOGY_SEARCH_H
#define TESTS_TOPOLOGY_SEARCH_H

#include "tests/topology/score.h"

struct search_plan {
    uint32_t steps; // changes to try
    double hot;     // how many points a change may cost at first and still be kept sometimes
    uint64_t seed;
};

// Starts at `ranks` (NULL: equal shares of the cores in order, and GPUs in turns) and leaves the
// best that it comes across in *ret_score. 0, -ENOMEM, or -EINVAL where there are more ranks than
// units.
int search_mapping(const struct score_case *c, const struct score_rank *ranks,
                   const struct search_plan *plan, struct score *ret_score);

#endif
