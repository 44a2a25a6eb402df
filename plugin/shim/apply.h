// SPDX-License-Identifier: Apache-2.0
//
// The environment of one incarnation: what START brought, laid over the task's own environment. The
// same rules for spank_setenv (fork way) and for pm-shim's own environ (prepend way).
#ifndef PM_SHIM_APPLY_H
#define PM_SHIM_APPLY_H

#include "plugin/shim/shim.h"

// How to reach the environment. Results: 0 or anything else for failure.
struct pm_env_ops {
    void *context;
    char **(*list)(void *context);  // as environ; may change with every set and unset
    int (*set)(void *context, const char *name, const char *value);
    int (*unset)(void *context, const char *name);
    char **own;  // what the task had before pm_env_prepare(); NULL: not prepared
};

// Value of NAME in a list like environ, or NULL.
const char *pm_env_find(char *const *list, const char *name);

// First drops PMIX_* and PMI_*, then sets the entries in their order, then SLURM_TASK_PID. An entry
// "?NAME=value" is left out if the task brought NAME itself, unless the task's environment comes
// from an outer supervised step (PM_EPOCH is in it). Modifies start->entries. 0 or -EIO.
int pm_env_apply(struct pm_shim_start *start, const struct pm_env_ops *ops);

// Does ahead what pm_env_apply() will most likely have to do; that one then corrects the rest, if every
// name in `likely` is in its own list too. What the task brought itself is judged then. 0 or -EIO.
int pm_env_prepare(struct pm_shim_start *likely, struct pm_env_ops *ops);

#endif
