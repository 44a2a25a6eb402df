// SPDX-License-Identifier: Apache-2.0
//
// What waits to be written to a socket: bytes of its own and, between them, bodies that other queues
// may hold as well (wire/body.h). Nothing is copied twice, and nothing is lost on a short write.
//
// Contract: one thread. Zero-initialise it; pm_outq_done() lets go of everything. After an error of
// `bytes` the queue is of no use any more.
#ifndef PM_IO_OUTQ_H
#define PM_IO_OUTQ_H

#include <stdbool.h>
#include <stddef.h>

#include "pmix_server/wire/body.h"

struct pm_outq_body;

struct pm_outq {
    struct pm_writer bytes;  // append here what goes out next
    size_t bytes_sent;
    struct pm_outq_body *bodies;
    size_t n_bodies;
    size_t cap_bodies;
    size_t body_sent;  // of the first body
    size_t body_left;  // of all bodies
};

void pm_outq_done(struct pm_outq *q);
// How many bytes wait.
size_t pm_outq_len(const struct pm_outq *q);
// The body goes out after what was appended so far; takes a reference. 0 or -ENOMEM.
int pm_outq_add_body(struct pm_outq *q, struct pm_body *body);
// Writes what the socket takes now. 0: nothing is left; 1: the rest waits; or negative errno.
int pm_outq_flush(struct pm_outq *q, int fd);

#endif
