// SPDX-License-Identifier: Apache-2.0
//
// The shim: the parent of one rank. Slurm sees one long-lived task; below it, incarnations of the
// user's program come and go as the agent says. The same code runs un-exec'd inside slurmstepd's
// fork (Slurm < 23.11) and as the program pm-shim (from 23.11 on).
//
// Contract: pm_shim_run() is called once, in the process that is Slurm's task, with its stdio in
// place. It comes back only in a child that is to become the program, with the environment that the
// agent gave; everything else ends in _exit() or in the rank's own signal. The shim makes no
// decision but three: it stops the tree when the node's lease is over, and it kills the tree when
// the agent or slurmstepd is gone.
#ifndef PM_SHIM_SHIM_H
#define PM_SHIM_SHIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pmix_server/wire/place.h"
#include "pmix_server/wire/shim_proto.h"

#define PM_SHIM_ADDRESS_MAX 107  // sun_path without the leading NUL of an abstract address

struct pm_shim_start;

struct pm_shim_config {
    enum pm_shim_way way;
    uint32_t local;         // local task
    uint32_t rank;          // Slurm's global task id
    const char *node;       // name for sentences
    const char *address;    // abstract address of the agent's listener, without its leading NUL
    uint32_t address_len;   // 1..PM_SHIM_ADDRESS_MAX
    uid_t listener_uid;     // who made the listener: 0
    char *const *env;       // the task's, as Slurm made it: some of it is told to the agent at the start
    pid_t agent;            // local task 0: pid of the agent, our child; else 0
    int oom_fd;             // /proc/self/oom_score_adj opened for writing, or -1
    void (*on_idle)(void);  // called after each start, before a long wait; may be NULL
    // Called in a process that waits to become the program, with what it will most likely get: does what can
    // be done before it is known for sure. NULL: no process waits, each is forked when it is needed.
    void (*prepare)(void *context, struct pm_shim_start *likely);
    void *prepare_context;
    uint32_t welcome_ms;    // how long to wait for WELCOME; 0: 30 s
};

// What the rank's process gets. Borrowed, valid until the exec.
struct pm_shim_start {
    uint32_t epoch;
    uint32_t incarnation;
    struct pm_place place;
    uint32_t n;
    char **entries;  // "NAME=value" or "?NAME=value", see shim_proto.h
};

// Returns in the child only.
struct pm_shim_start *pm_shim_run(const struct pm_shim_config *config);

// Writes "pm-supervise: NODE: TEXT" and a newline to fd 2 in one piece. TEXT is cut at 1 KiB. Says nothing where fd 2
// takes nothing for 100 ms.
void pm_shim_complain(const char *node, const char *text, const char *detail);

#endif
