// SPDX-License-Identifier: Apache-2.0
//
// How nodes bound their ranks, as texts on their way up to the coordinator (--pm-bind-report). Nodes that say the
// same become one text with a set of nodes on every level of the tree, so that a thousand equal nodes cost
// the coordinator one frame for each child. Nothing depends on them: what is lost with a link is lost.
#ifndef PM_CORE_BOUND_H
#define PM_CORE_BOUND_H

#include "pmix_server/core/internal.h"

#define PM_BOUND_CAP      (256u << 10) // bytes of a text
#define PM_BOUND_MAX      64u          // different texts that wait; further ones are dropped
#define PM_BOUND_WAIT_NS  (20 * PM_MS)

struct pm_bound_text {
    struct pm_set nodes;
    char *text;
};

struct pm_bound_texts {
    struct pm_bound_text *list; // PM_BOUND_MAX, or NULL
    uint32_t n;
    uint64_t due_ns; // valid if n
};

void pm_bound_done(struct pm_bound_texts *t);
// 0 or -ENOMEM; into an empty one.
int pm_bound_copy(struct pm_bound_texts *into, const struct pm_bound_texts *from);
// 0 or -ENOMEM (nothing was added).
int pm_bound_add(struct pm_bound_texts *t, const struct pm_set *nodes, const char *text, uint64_t now_ns);
// Sends what is due to the parent. False: there is none now.
bool pm_bound_flush(struct pm_core *core, struct pm_bound_texts *t);
// Reads a frame: *ret_text is malloc'd, NULL on error (the reader's). Both are the caller's.
void pm_bound_read(struct pm_reader *r, uint32_t nnodes, struct pm_set *ret_nodes, char **ret_text);

#endif
