// SPDX-License-Identifier: Apache-2.0
//
// The event log: one JSON object a line, each line by one write(), so that a reader never sees half of
// one and the writer's end loses nothing that it has written. Nothing is synced.
//
// A log belongs to one step: its file is made with O_EXCL, so two steps never share one. Only another launch of the
// step may go on in the file of the launch before. pm-supervise-log(5), doc/man/pm-supervise-log.5.rst, says what the fields mean.
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

// Makes `path` (mode 0666 less umask, not through a link in the last place); -EEXIST: it is there, or
// is no file but a FIFO or a device, where a write may wait. 0 or negative errno.
int pm_event_log_new(const char *path, const struct pm_event_log_id *id, struct pm_event_log **ret);
struct pm_event_log *pm_event_log_free(struct pm_event_log *log);
// 0 or negative errno; a failed write is reported once by the caller, the step goes on.
int pm_event_log_write(struct pm_event_log *log, const struct pm_log *record);
// Expands %j, %s and %% of --pm-log. 0, -EINVAL (another %), -ENAMETOOLONG.
int pm_event_log_expand(const char *pattern, uint32_t job, uint32_t step, char *buf, size_t cap);
// Is there a %s in it, so that each step, and each launch of one, has a file of its own?
bool pm_event_log_per_step(const char *pattern);

#endif
