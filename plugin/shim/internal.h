// SPDX-License-Identifier: Apache-2.0
//
// What the files of the shim share: its state, the messages it sends, and the ways it ends. Only
// shim.c, obey.c, speak.c and ending.c include this. One thread, one instance a process.
#ifndef PM_SHIM_INTERNAL_H
#define PM_SHIM_INTERNAL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "plugin/shim/bind.h"
#include "plugin/shim/heir.h"
#include "plugin/shim/rank.h"
#include "plugin/shim/shim.h"
#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/shim_proto.h"

#define PM_NS_PER_MS UINT64_C(1000000)

struct shim {
    const struct pm_shim_config *config;
    int link;  // -1: closed by the agent after END
    int signals;
    int parent_watch;  // pidfd, -1 where the kernel has none
    pid_t parent;
    pid_t agent;  // 0: not our child, or reaped
    int agent_status;
    sigset_t old_mask;
    int lease;  // the timer of WELCOME, see shim_proto.h; -1: none yet
    uint64_t welcome_deadline_ns;
    struct pm_writer out;

    struct pm_shim_start current;  // valid if started
    struct pm_shim_start next;     // entries != NULL: a START that waits for the old tree
    bool started;                  // ever
    bool open;
    pid_t rank;  // 0: no process
    bool killing;
    uint32_t killed;
    bool standing;  // somebody in the tree may be stopped
    bool still;     // and everybody is
    struct pm_heir heir;
    pid_t not_ours[3];  // see pm_shim_not_ours()
    bool paused;    // the agent said so
    int last_status;
    bool ending;
    bool overridden;
    uint64_t end_deadline_ns;
};

// CLOCK_BOOTTIME.
uint64_t pm_shim_clock_ns(void);

// ending.c
__attribute__((noreturn)) void pm_shim_end_with(int status);
__attribute__((noreturn)) void pm_shim_cannot_start(struct shim *s, const char *why);
__attribute__((noreturn)) void pm_shim_agent_gone(struct shim *s);
__attribute__((noreturn)) void pm_shim_parent_gone(struct shim *s);
// Reaps child `which` (-1: any) if it has ended, and notes the agent's end.
bool pm_shim_reap_one(struct shim *s, pid_t which);
// Waits for the end of our own agent, which has been told to end or is known to be dead: 100 ms at most.
void pm_shim_await_agent(struct shim *s);

// speak.c: each ends the process if the agent is gone.
void pm_shim_send_hello(struct shim *s);
void pm_shim_send_started(struct shim *s);
void pm_shim_send_exited(struct shim *s, const struct pm_rank_end *end);
void pm_shim_send_tree_gone(struct shim *s, const struct pm_shim_start *start, uint32_t killed);
void pm_shim_send_signalled(struct shim *s, int signal);
void pm_shim_send_say(struct shim *s, const char *text);
// In the child: it runs elsewhere than START says. Nothing becomes of it if the agent is gone.
void pm_shim_send_unbound(struct shim *s, const struct pm_bound *bound);
// Both answers for an incarnation that never had a process.
void pm_shim_report_never_ran(struct shim *s, const struct pm_shim_start *start, int status);

// obey.c: reads and does everything the agent has said.
void pm_shim_read_link(struct shim *s);

// shim.c
void pm_shim_kill_tree(struct shim *s);
// Children that are no part of the rank's tree: the agent and the heir. Valid until the next call.
const pid_t *pm_shim_not_ours(struct shim *s);

#endif
