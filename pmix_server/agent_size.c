// SPDX-License-Identifier: Apache-2.0
//
// What the step may use on this node, for the comparison of spares with the nodes that they may replace: GPUs by what
// Slurm has told the tasks, memory by the cgroup that this agent is in. Nothing found: no GPU, no limit.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/agent_bind.h"
#include "pmix_server/topology/granted.h"

#define TOKENS_MAX 256

// What names the task's GPUs: Slurm's numbers, else what a vendor's runtime is given.
static const char *tokens_of(const struct pm_facts *f)
{
    const char *text = pm_facts_find(f, "SLURM_STEP_GPUS");
    for (unsigned v = 0; v < PM_GPU_VENDORS && !text; v++)
        text = pm_facts_find(f, pm_granted_variable(v));
    return text;
}

static bool is_known(const char *const *tokens, const size_t *lens, uint32_t n, const char *token)
{
    size_t len = strcspn(token, ",");
    for (uint32_t i = 0; i < n; i++)
        if (lens[i] == len && !strncmp(tokens[i], token, len))
            return true;
    return len == 0 || !strncmp(token, "NoDevFiles", len);
}

uint32_t pm_size_gpus(const struct agent *a)
{
    const char *tokens[TOKENS_MAX];
    size_t lens[TOKENS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->config.n_local; i++) {
        const char *text = a->shims[i].facts ? tokens_of(a->shims[i].facts) : NULL;
        for (; text && n < TOKENS_MAX; text = strchr(text, ',') ? strchr(text, ',') + 1 : NULL) {
            if (is_known(tokens, lens, n, text))
                continue;
            tokens[n] = text;
            lens[n++] = strcspn(text, ",");
        }
    }
    return n;
}
