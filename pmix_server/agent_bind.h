// SPDX-License-Identifier: Apache-2.0
//
// Where this node's ranks run: what was found out about the node, what Slurm and the user gave each task,
// and what follows for each rank. Shared by agent_bind*.c only: agent_bind_facts.c takes in what tasks were
// given, agent_bind_picture.c runs pm-discover, agent_bind.c maps, agent_bind_rank.c puts a rank's part into
// the words of START, agent_bind_report.c into those of a person.
//
// Whatever fails, nothing is changed, and one line a node says why.
#ifndef PM_AGENT_BIND_H
#define PM_AGENT_BIND_H

#include "pmix_server/agent.h"
#include "pmix_server/topology/picture.h"
#include "pmix_server/topology/report.h"
#include "pmix_server/wire/place.h"

// What a task was given, as its shim told it.
struct pm_facts {
    struct pm_set cpus;  // it may run on them; empty: unknown
    char **env;          // "NAME=value"
    uint32_t n_env;
};

// What a rank gets on its local task.
struct pm_bound_rank {
    struct pm_place place;
    char *cpus;  // "0-3,8"; NULL: those of its task
    uint16_t package_rank;  // see wire/nspace.h; valid with `cpus`
    char **env;  // "NAME=value", see shim_proto.h
    uint32_t n_env;
};

struct pm_agent_bind {
    struct pm_bind_options options;
    bool is_off;          // nothing is looked at: `why` says why
    bool told;            // a line about it is out
    bool told_unbound;
    char *reported;       // the newest report; NULL: none
    char why[PM_ERROR_CAP];  // nothing is changed; "": it is
    // agent_bind_picture.c
    pid_t pid;
    int fd;  // -1: pm-discover does not run
    struct event *readable;
    struct event *timer;
    struct pm_writer bytes;
    struct pm_picture picture;
    // agent_bind.c
    uint32_t map_version;         // of the world that the rest is for
    struct pm_bound_rank *ranks;  // config.n_local
};

// What is mapped, and how it came out.
struct pm_bind_case {
    uint32_t *locals;  // the tasks that have ranks, in the order of these
    uint32_t n;
    struct pm_set allowed;
    struct pm_set *admitted;  // n: GPUs (places in the machine) that each task may open
    struct pm_granted granted;
    bool keeps_gpus;  // each rank sees what its task was given
    uint32_t *gpus;   // places of `granted`
    struct pm_bind_given *given;  // n
    struct pm_bind_request request;
    struct pm_binding binding;
};

// Value of `name` in what the task was given, NULL: not set.
const char *pm_facts_find(const struct pm_facts *f, const char *name);
// Has the user set one of his own whose name begins like that? (Not if an outer supervised step did.)
bool pm_facts_has_own(const struct pm_facts *f, const char *prefix);

// GPUs of the machine that the task may open, into *admitted; those of `all` if it did not say. 0 or -ENOMEM.
int pm_facts_admitted(const struct pm_facts *f, const struct pm_machine *m, const struct pm_set *all,
                      struct pm_set *admitted);

// Starts pm-discover; when it has ended, or its time is over, servers that wait are told.
int pm_bind_picture_open(struct agent *a);
void pm_bind_picture_done(struct agent *a);

// The part of the k-th rank. 0 or negative errno.
int pm_bound_rank_make(const struct pm_agent_bind *b, const struct pm_bind_case *c, const struct pm_facts *facts,
                       uint32_t k, struct pm_bound_rank *ret);
void pm_bound_rank_done(struct pm_bound_rank *r);

// For --pm-bind-report. `c` is NULL if nothing is changed.
void pm_bind_report(struct agent *a, const struct pm_bind_case *c);

#endif
