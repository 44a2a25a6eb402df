// SPDX-License-Identifier: Apache-2.0
//
// The best mapping that a long random search finds (simulated annealing over the score): what a mapper
// could have found on this case. The same seed finds the same.
#ifndef TESTS_TOPOLOGY_SEARCH_H
#define TESTS_TOPOLOGY_SEARCH_H

#include "tests/topology/score.h"

// Starts at `ranks` (NULL: equal shares of the cores in order, and GPUs in turns), tries `steps` changes and leaves
// the best in *ret_score. `hot` is how many points a change may cost at first and still be kept sometimes.
// 0, -ENOMEM, or -EINVAL where there are more ranks than units.
int search_mapping(const struct score_case *c, const struct score_rank *ranks, uint32_t steps, double hot,
                   uint64_t seed, struct score *ret_score);

#endif
