// SPDX-License-Identifier: Apache-2.0
//
// The socket to the agent (fd 3), as frames of wire/server_proto.h.
//
// Sending never blocks: what the socket does not take is queued and flushed by the main loop, so that
// libpmix' progress thread, from which most frames come, is never held up by a busy agent. Any thread
// may send. Only the main thread receives. Frames may also be injected: they are received as if the
// agent had sent them, which is how an upcall leaves work to the main thread.
// When the agent is gone the process ends at once: there is nobody left to serve. When memory is gone, too, but it
// says so.
#ifndef PM_PMIX_STREAM_H
#define PM_PMIX_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/server_proto.h"

// A received frame; pm_stream_frame_done() frees it.
struct pm_stream_frame {
    uint8_t type;  // enum pm_server_msg
    uint8_t *memory;
    const uint8_t *data;  // payload
    size_t len;
};

// Takes over `fd`. Called once, before any thread is started.
void pm_stream_open(int fd);
// Starts a frame in *w (zero-initialised): length still open, then the type.
void pm_stream_begin(struct pm_writer *w, enum pm_server_msg type);
// Sends the frame and takes over its memory. A frame of more than PM_SERVER_FRAME_MAX bytes, and a
// queue of more than twice that, end the process.
void pm_stream_send(struct pm_writer *w);
// Like pm_stream_send, but to our own main thread.
void pm_stream_inject(struct pm_writer *w);
// Makes a running or the next pm_stream_receive return. Any thread; no lock.
void pm_stream_wake(void);
// Waits up to timeout_ms (-1: for ever) for a frame. 1: *ret_frame is one; 0: none (time is over or
// somebody called pm_stream_wake).
int pm_stream_receive(int timeout_ms, struct pm_stream_frame *ret_frame);
void pm_stream_frame_done(struct pm_stream_frame *frame);
// One line for srun's stderr.
void pm_stream_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Sends FAILED, for at most a second, and ends the process with status 1. Any thread; needs no memory.
void pm_stream_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
