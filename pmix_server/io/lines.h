// SPDX-License-Identifier: Apache-2.0
//
// Lines to a descriptor that somebody may not read: a pipe to a pager, a terminal after Ctrl-S, a connection that
// hangs. Who puts a line never waits; what the reader does not take yet is kept and follows in order.
//
// The descriptor stays as it is: its description is shared with srun and the user's shell, so O_NONBLOCK is not set. A
// pipe, FIFO or terminal is opened once more for that; one that cannot be is written to only when poll() says so, and a
// write that somebody else's goes before may then wait after all. Files and what else never waits are written directly.
//
// Contract: one thread. Memory is taken once, by pm_lines_new(). At most PM_LINES_WAIT bytes wait; lines beyond are
// counted, and a line in their place says how many there were. When the reader is gone (EPIPE, EIO), so are they.
#ifndef PM_IO_LINES_H
#define PM_IO_LINES_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PM_LINES_WAIT (1u << 20)

struct pm_lines;

// `fd` is borrowed; `raw`: a raw terminal, where lines end with CR LF. 0 or -ENOMEM.
int pm_lines_new(struct event_base *base, int fd, bool raw, struct pm_lines **ret);
// `len` bytes without the end of the line. Up to 4096 of them go out by one write().
void pm_lines_put(struct pm_lines *l, const char *text, size_t len);
// Gives the reader what waits, until it has taken nothing for idle_ms, or whole_ms are over.
void pm_lines_flush(struct pm_lines *l, uint64_t idle_ms, uint64_t whole_ms);
// Forgets what waits. Before the base is freed.
struct pm_lines *pm_lines_free(struct pm_lines *l);

#endif
