// SPDX-License-Identifier: Apache-2.0
//
// The event log: one JSON object a line, each line by one write(), so that a reader never sees half of
// one and a crash loses nothing that was said before.
//
// A log belongs to one step: its file is made with O_EXCL, so two steps never share one. Only another launch of the
// step may go on in the file of the launch before.
//
// | field        | in records of         | meaning                                                   |
// |--------------|-----------------------|-----------------------------------------------------------|
// | time         | all                   | UTC, microseconds, of the writing host                    |
// | t_ns         | all                   | CLOCK_BOOTTIME of the writing host                        |
// | kind         | all                   | state, failure, decision, joined, start, stop, kill, reap, lost, ... |
// | job, step    | all                   | Slurm's numbers                                           |
// | launch       | all                   | number of this launch of the step, from 0                 |
// | writer       | all                   | "coordinator" or the node's name                          |
// | epoch        | all                   | how many times the world was started before               |
// | rank         | if about a rank       | rank in the user's world                                  |
// | incarnation  | if about a rank       | how many times this rank was started before               |
// | node         | if about a node       | index in the step's node list                             |
// | pid          | if known              | of the rank, in the pid namespace of its node             |
// | cause        | failures, decisions   | exit, signal, oom, abort, no-finalize, exec, ...          |
// | status       | if a process ended    | {"exit": N} or {"signal": N}                              |
// | action       | decisions             | restart-world, restart-rank, move-to-spare, notify, stop, ignore |
// | from, to     | state                 | names of states                                           |
// | reason       | if there is one       | a sentence                                                |
// | halt_ms, place_ms, start_ms, wireup_ms | restarts | how long each part took                      |
// | restarts     | decisions             | restarts so far                                           |
// | lease_end_ns | pause                 | when the lease that is over ended, as t_ns                |
// | silent_ms, timeout_ms | lost for silence | how long nothing came, and --pm-node-timeout          |
// | silent_ms, late_ms | exit             | the longest silence of a child that was heard again; that our clock was late |
// | spare, spares_left | move            | the node that takes the place of `node`; how many wait then |
// | fence, digest | fence                | hashes: which operation, and the bytes it gave this node  |
#ifndef PM_IO_EVENT_LOG_H
#define PM_IO_EVENT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/core/core.h"

struct pm_event_log;

struct pm_event_log_id {
    const char *writer;  // copied
    uint32_t job;
    uint32_t step;
    uint32_t launch;
    bool append;  // the file may be there
};

// Makes `path` (mode 0666 less umask, not through a link in the last place); -EEXIST: it is there. 0 or negative errno.
int pm_event_log_new(const char *path, const struct pm_event_log_id *id, struct pm_event_log **ret);
struct pm_event_log *pm_event_log_free(struct pm_event_log *log);
// 0 or negative errno; a failed write is reported once by the caller, the step goes on.
int pm_event_log_write(struct pm_event_log *log, const struct pm_log *record);
// Expands %j, %s and %% of --pm-log. 0, -EINVAL (another %), -ENAMETOOLONG.
int pm_event_log_expand(const char *pattern, uint32_t job, uint32_t step, char *buf, size_t cap);
// Is there a %s in it, so that each step, and each launch of one, has a file of its own?
bool pm_event_log_per_step(const char *pattern);

#endif
