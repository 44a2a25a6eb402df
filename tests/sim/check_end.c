// SPDX-License-Identifier: Apache-2.0
//
// Invariants 5 and 6 at the end: nothing outlives the step, and no queue has grown without limit.
#include "tests/sim/check.h"

#define SHIM_QUEUE_MAX 256
#define LINK_QUEUE_MAX 65536

void sim_check_queues(struct sim *s)
{
    for (uint32_t i = 0; i < s->p.nnodes; i++)
        for (uint32_t k = 0; k < s->nodes[i].n_local; k++)
            if (s->nodes[i].down[k].n > SHIM_QUEUE_MAX)
                sim_violate(s, "5: %u messages wait for shim %u.%u", s->nodes[i].down[k].n, i, k);
    for (uint32_t i = 0; i < s->n_links; i++)
        for (int end = 0; end < 2; end++)
            if (s->links[i].used && s->links[i].pipe[end].n > LINK_QUEUE_MAX)
                sim_violate(s, "5: %u frames wait on a link", s->links[i].pipe[end].n);
}

bool sim_check_end(struct sim *s)
{
    for (uint32_t i = 0; i < s->p.nnodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        if (s->hosts[i].off)
            continue;
        if (s->procs[i].core)
            sim_violate(s, "6: agent %u outlives the step", i);
        for (uint32_t k = 0; k < n->n_local; k++) {
            const struct sim_shim *shim = &n->shims[k];
            if (shim->rank.alive || shim->rank.descendants)
                sim_violate(s, "2: rank %u of epoch %u outlives the step on node %u",
                            shim->rank.rank, shim->rank.epoch, i);
            if (shim->alive)
                sim_violate(s, "5: shim %u.%u outlives the step", i, k);
        }
    }
    return !s->violation[0];
}
