// SPDX-License-Identifier: Apache-2.0
//
// What a shim and its agent say to each other.
//
// An abstract AF_UNIX SOCK_SEQPACKET connection, one packet one message, made by the shim. The
// listener was made by root in slurmstepd, so the shim checks that SO_PEERCRED of the connection
// says uid 0 (who listened), and the agent that it says the job's uid. Packets are at most
// PM_SHIM_PACKET_MAX bytes; a malformed one ends the connection.
//
// A packet is u8 enum pm_shim_msg, then the fields named below.
//
// Order: HELLO, then WELCOME (with the timer of the lease as SCM_RIGHTS) or REFUSE. Then START,
// answered by STARTED or by EXITED; EXITED says that the rank's own process ended, TREE_GONE that no descendant
// of it is left (always sent, once per incarnation, after EXITED; after a natural end the shim
// waits for a KILL or the next START before it kills what the rank left behind).
//
// The lease of the node is one timerfd (CLOCK_BOOTTIME) that agent and shims share. The agent alone sets it, to each
// new end of the lease; before the first grant it is not armed. While it rings, as poll() tells, the
// shims keep their trees stopped, by themselves. Nobody reads it, so that it rings for all of them until it is set anew.
#ifndef PM_WIRE_SHIM_PROTO_H
#define PM_WIRE_SHIM_PROTO_H

#include <stdint.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/exit_codes.h"

#define PM_SHIM_PACKET_MAX 131072u
#define PM_SHIM_ENV_MAX 1024u
#define PM_SHIM_FACTS_MAX 64u    // entries of the environment in HELLO
#define PM_SHIM_FACT_CAP 4096u   // bytes of one
// An entry that is of no environment: names of the GPUs' device files that the task may open, with commas. Only for tasks
// that have GPUs of Slurm's.
#define PM_SHIM_DEVICES "/dev"

enum pm_shim_msg {
    PM_SHIM_NONE = 0,
    // shim -> agent
    PM_SHIM_HELLO,      // str version, u32 local task, u32 rank, u32 shim pid, u8 way (enum pm_shim_way),
                        // bytes CPUs that the task may run on (a mask as in place.h; none: unknown),
                        // var n, n x str "NAME=value": what of its environment says how it is bound
    PM_SHIM_STARTED,    // u32 epoch, u32 incarnation, u32 pid
    PM_SHIM_EXITED,     // u32 epoch, u32 incarnation, u32 pid, i32 wait status, u8 exec_failed,
                        // u64 user_us, u64 system_us, u64 maxrss_kib
    PM_SHIM_TREE_GONE,  // u32 epoch, u32 incarnation, u32 descendants killed
    PM_SHIM_SIGNALLED,  // i32 signal: somebody (Slurm) signalled the shim; sent before it is passed on
    PM_SHIM_SAY,        // str: a line for srun's stderr
    // agent -> shim
    PM_SHIM_WELCOME,  // (nothing; carries the timer's fd)
    PM_SHIM_REFUSE,   // str why: the shim says so on fd 2 and exits 125
    PM_SHIM_START,    // u32 epoch, u32 incarnation, place (place.h), u32 n, n x str "NAME=value", or "?NAME=value": the
                      // user's own value stays: set only if NAME is not in the task's environment,
                      // or if PM_EPOCH was in it (then an outer supervised step had set NAME)
    PM_SHIM_SIGNAL,   // u32 epoch, i32 signal, to the rank's own process
    PM_SHIM_KILL,     // u32 epoch: SIGKILL to the whole tree, answered by EXITED (if alive), TREE_GONE
    PM_SHIM_PAUSE,    // SIGSTOP to the whole tree (lease over)
    PM_SHIM_RESUME,   // SIGCONT to the whole tree
    PM_SHIM_END,      // u8 override, i32 wait status: kill what is left, then end with the rank's last
                      // status, or with the given one if override is 1
    PM_SHIM_PREPARE,  // as START: what the next one will most likely say. No answer; a shim may ignore it
    // shim -> agent: the rank itself says so before its exec
    PM_SHIM_UNBOUND,  // u32 epoch, u32 incarnation, u8 1: memory, 0: CPUs, i32 negative errno or 0, place: what is in
                      // force instead of START's
    PM_SHIM_MAX,
};

enum pm_shim_way {
    PM_SHIM_WAY_NONE = 0,
    PM_SHIM_WAY_FORK,     // un-exec'd, from task_init
    PM_SHIM_WAY_PREPEND,  // pm-shim, exec'd by slurmstepd
};

// "hello", "start", ...; "unknown" for anything else.
const char *pm_shim_msg_name(uint32_t msg);

#endif
