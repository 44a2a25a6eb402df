// SPDX-License-Identifier: Apache-2.0
//
// See outq.h for the contract. A body has its place as an offset into the queue's own bytes.
#include "pmix_server/io/outq.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define KEEP_CAP (64u << 10)  // memory above this is given back when nothing waits

struct pm_outq_body {
    size_t after;  // how many of `bytes` go out before it
    struct pm_body *body;
};

void pm_outq_done(struct pm_outq *q)
{
    for (size_t i = 0; i < q->n_bodies; i++)
        pm_body_unref(q->bodies[i].body);
    free(q->bodies);
    pm_writer_done(&q->bytes);
    *q = (struct pm_outq){0};
}

size_t pm_outq_len(const struct pm_outq *q)
{
    return q->bytes.len - q->bytes_sent + q->body_left;
}

int pm_outq_add_body(struct pm_outq *q, struct pm_body *body)
{
    if (q->n_bodies == q->cap_bodies) {
        size_t cap = q->cap_bodies ? 2 * q->cap_bodies : 4;
        struct pm_outq_body *bodies = reallocarray(q->bodies, cap, sizeof(*bodies));
        if (!bodies)
            return -ENOMEM;
        q->bodies = bodies;
        q->cap_bodies = cap;
    }
    size_t len;
    pm_body_bytes(body, &len);
    q->bodies[q->n_bodies++] =
        (struct pm_outq_body){.after = q->bytes.len, .body = pm_body_ref(body)};
    q->body_left += len;
    return 0;
}

// The bytes before the first body, then that body.
static struct msghdr next_parts(const struct pm_outq *q, struct iovec parts[static 2])
{
    size_t end = q->n_bodies ? q->bodies[0].after : q->bytes.len, len = 0;
    parts[0] = (struct iovec){q->bytes.data + q->bytes_sent, end - q->bytes_sent};
    if (q->n_bodies) {
        const uint8_t *body = pm_body_bytes(q->bodies[0].body, &len);
        parts[1] = (struct iovec){(void *)(body + q->body_sent), len - q->body_sent};
    }
    return (struct msghdr){.msg_iov = parts, .msg_iovlen = q->n_bodies ? 2 : 1};
}

static void drop_first_body(struct pm_outq *q)
{
    pm_body_unref(q->bodies[0].body);
    q->n_bodies--;
    for (size_t i = 0; i < q->n_bodies; i++)
        q->bodies[i] = q->bodies[i + 1];
    q->body_sent = 0;
}

static void advance(struct pm_outq *q, const struct iovec parts[static 2], size_t sent)
{
    size_t bytes = sent < parts[0].iov_len ? sent : parts[0].iov_len;
    q->bytes_sent += bytes;
    if (!q->n_bodies || bytes < parts[0].iov_len)
        return;
    q->body_sent += sent - bytes;
    q->body_left -= sent - bytes;
    if (sent - bytes == parts[1].iov_len)
        drop_first_body(q);
}

static void compact(struct pm_outq *q)
{
    size_t gone = q->bytes_sent;
    pm_writer_drop(&q->bytes, &q->bytes_sent, KEEP_CAP);
    for (size_t i = 0; i < q->n_bodies; i++)
        q->bodies[i].after -= gone;
}

int pm_outq_flush(struct pm_outq *q, int fd)
{
    while (pm_outq_len(q) || q->n_bodies) {
        struct iovec parts[2];
        struct msghdr msg = next_parts(q, parts);
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (q->bytes_sent > q->bytes.len / 2)
                compact(q);
            return 1;
        }
        if (n < 0)
            return -errno;
        advance(q, parts, (size_t)n);
    }
    compact(q);
    return 0;
}
