// SPDX-License-Identifier: Apache-2.0
//
// See conn.h for the contract. Freeing from inside a handler is the usual trap of this kind of code:
// while `busy`, pm_conn_free() only marks the link, and the outermost caller frees it.
#include "pmix_server/io/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pm_config.h"
#include "pmix_server/io/outq.h"
#include "pmix_server/io/util.h"

#define READ_STEP 16384u
#define READ_STEP_MAX (1u << 20)
#define KEEP_CAP (64u << 10)     // buffers above this are given back when empty
#define READ_TURN (4u << 20)     // bytes per turn of the loop, so that no link starves the others
#define CLOSE_MS 2000

enum phase { PHASE_CONNECTING, PHASE_HANDSHAKE, PHASE_UP, PHASE_CLOSING, PHASE_DEAD };

struct pm_conn {
    struct event_base *base;
    struct event *readable;
    struct event *writable;
    struct event *timer;  // handshake, then closing
    const struct pm_conn_handlers *handlers;
    void *arg;
    struct pm_secure *secure;
    int fd;
    enum phase phase;
    unsigned busy;
    bool freed;
    int send_error;  // to be reported by the next turn of the loop
    struct pm_writer in;
    size_t in_at;
    struct pm_outq out;
    char address[PM_CONN_ADDRESS_CAP];
};

static void link_destroy(struct pm_conn *link)
{
    struct event *events[] = {link->readable, link->writable, link->timer};
    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
        if (events[i])
            event_free(events[i]);
    }
    if (link->fd >= 0)
        close(link->fd);
    pm_secure_free(link->secure);
    pm_writer_done(&link->in);
    pm_outq_done(&link->out);
    free(link);
}

struct pm_conn *pm_conn_free(struct pm_conn *link)
{
    if (!link)
        return NULL;
    link->freed = true;
    link->phase = PHASE_DEAD;
    if (!link->busy)
        link_destroy(link);
    return NULL;
}

static void enter(struct pm_conn *link) { link->busy++; }

static void leave(struct pm_conn *link)
{
    if (!--link->busy && link->freed)
        link_destroy(link);
}

static void go_down(struct pm_conn *link, enum pm_link_end end, const char *text)
{
    if (link->phase == PHASE_DEAD)
        return;
    bool closing = link->phase == PHASE_CLOSING;
    link->phase = PHASE_DEAD;
    event_del(link->readable);
    event_del(link->writable);
    event_del(link->timer);
    if (closing)
        pm_conn_free(link);
    else
        link->handlers->down(link, end, text, link->arg);
}

static void go_down_errno(struct pm_conn *link, int error)
{
    bool early = link->phase == PHASE_CONNECTING;
    enum pm_link_end end = error == ECONNREFUSED && early ? PM_LINK_REFUSED
                           : early                        ? PM_LINK_UNREACHABLE
                                                          : PM_LINK_RESET;
    char text[PM_TEXT_CAP];
    snprintf(text, sizeof(text), "%s: %s", link->address, strerror(error));
    go_down(link, end, text);
}

// 0, or negative errno. What does not fit into the socket stays queued.
static int flush(struct pm_conn *link)
{
    int r = pm_outq_flush(&link->out, link->fd);
    return r == 1 ? event_add(link->writable, NULL) ? -ENOMEM : 0 : r;
}

static void refuse(struct pm_conn *link, enum pm_secure_result result)
{
    char text[PM_TEXT_CAP];
    enum pm_link_end end = PM_LINK_REJECTED;
    const char *peer = pm_secure_peer_version(link->secure);
    switch (result) {
    case PM_SECURE_VERSION:
        snprintf(text, sizeof(text), "%s is pm-supervise %s, this side is %s", link->address,
                 *peer ? peer : "of another protocol", PM_VERSION);
        break;
    case PM_SECURE_LAUNCH:
        snprintf(text, sizeof(text), "%s belongs to another launch of the step", link->address);
        break;
    case PM_SECURE_CORRUPT:
        end = PM_LINK_RESET;
        snprintf(text, sizeof(text), "%s sent a damaged frame", link->address);
        break;
    default:  // a stranger, or another node of ours that has this port: not whom we look for
        end = PM_LINK_REFUSED;
        snprintf(text, sizeof(text), "%s is not part of this step", link->address);
    }
    flush(link);
    go_down(link, end, text);
}

static void do_handshake(struct pm_conn *link)
{
    size_t used = 0;
    enum pm_secure_result result = pm_secure_handshake(
        link->secure, link->in.data + link->in_at, link->in.len - link->in_at, &used, &link->out.bytes);
    link->in_at += used;
    if (link->out.bytes.error) {
        go_down_errno(link, ENOMEM);
        return;
    }
    if (result > PM_SECURE_MORE) {
        refuse(link, result);
        return;
    }
    int r = flush(link);
    if (r < 0) {
        go_down_errno(link, -r);
    } else if (result == PM_SECURE_OK) {
        link->phase = PHASE_UP;
        event_del(link->timer);
        link->handlers->up(link, link->arg);
    }
}

static void do_frames(struct pm_conn *link)
{
    while (link->phase == PHASE_UP) {
        struct pm_secure_frame frame;
        enum pm_secure_result result = pm_secure_open(link->secure, link->in.data + link->in_at,
                                                      link->in.len - link->in_at, &frame);
        link->in_at += frame.used;
        if (result == PM_SECURE_MORE)
            return;
        if (result != PM_SECURE_OK) {
            refuse(link, result);
            return;
        }
        link->handlers->frame(link, frame.data, frame.len, link->arg);
    }
}

static void do_input(struct pm_conn *link)
{
    if (link->phase == PHASE_HANDSHAKE)
        do_handshake(link);
    if (link->phase == PHASE_UP)
        do_frames(link);
    if (link->phase == PHASE_CLOSING)
        link->in.len = link->in_at = 0;
    if (link->phase != PHASE_DEAD)
        pm_writer_drop(&link->in, &link->in_at, KEEP_CAP);
}

// Room for the rest of the frame that has begun, in steps, so that a length alone takes no memory.
static size_t read_room(struct pm_conn *link)
{
    if (link->phase == PHASE_HANDSHAKE)
        return PM_SECURE_HELLO_LEN + PM_SECURE_CONFIRM_LEN;
    size_t size = pm_secure_next_size(link->secure, link->in.data, link->in.len);
    size_t want = size > link->in.len ? size - link->in.len : 0;
    return want < READ_STEP ? READ_STEP : want > READ_STEP_MAX ? READ_STEP_MAX : want;
}

// Reads what the buffer has room for. Bytes read, 0 if there are none now, or -1: the link went down.
static ssize_t read_some(struct pm_conn *link)
{
    size_t room = read_room(link), have = link->in.len;
    if (have + room > link->in.cap) {
        uint8_t *data = realloc(link->in.data, have + room);
        if (!data) {
            go_down_errno(link, ENOMEM);
            return -1;
        }
        link->in.data = data;
        link->in.cap = have + room;
    }
    ssize_t n = recv(link->fd, link->in.data + have, link->in.cap - have, MSG_DONTWAIT);
    if (n > 0) {
        link->in.len += (size_t)n;
        return n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0) {
        go_down_errno(link, errno);
        return -1;
    }
    char text[PM_TEXT_CAP];
    snprintf(text, sizeof(text), "%s closed the connection", link->address);
    go_down(link, PM_LINK_CLOSED, text);
    return -1;
}

// Up to `limit` bytes. `is_patient`: until a read finds nothing; else a read that left room is the last, as
// the event is level-triggered and tells of more.
static void read_turn(struct pm_conn *link, size_t limit, bool is_patient)
{
    for (size_t total = 0; total < limit && link->phase != PHASE_DEAD;) {
        ssize_t n = read_some(link);
        bool room_left = link->in.len < link->in.cap;
        if (n <= 0)
            return;
        total += (size_t)n;
        do_input(link);
        if (room_left && !is_patient)
            return;
    }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct pm_conn *link = arg;
    enter(link);
    if (link->send_error)
        go_down_errno(link, link->send_error);
    else if (link->phase != PHASE_CONNECTING)
        read_turn(link, READ_TURN, false);
    leave(link);
}

void pm_conn_drain(struct pm_conn *link)
{
    enter(link);
    if (link->phase == PHASE_UP)
        read_turn(link, SIZE_MAX, true);
    leave(link);
}

static void connected(struct pm_conn *link)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error) {
        go_down_errno(link, error);
        return;
    }
    link->phase = PHASE_HANDSHAKE;
    pm_secure_begin(link->secure, &link->out.bytes);
    event_add(link->readable, NULL);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct pm_conn *link = arg;
    enter(link);
    if (link->phase == PHASE_CONNECTING)
        connected(link);
    int r = link->phase == PHASE_DEAD ? 0 : flush(link);
    if (r < 0)
        go_down_errno(link, -r);
    else if (link->phase == PHASE_CLOSING && !pm_outq_len(&link->out))
        shutdown(link->fd, SHUT_WR);
    leave(link);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct pm_conn *link = arg;
    bool connecting = link->phase == PHASE_CONNECTING;
    char text[PM_TEXT_CAP];
    snprintf(text, sizeof(text), connecting ? "%s does not answer" : "%s answers, but says nothing",
             link->address);
    enter(link);
    go_down(link, connecting ? PM_LINK_UNREACHABLE : PM_LINK_STUCK, text);
    leave(link);
}

static int link_arm(struct pm_conn *link, const struct pm_conn_config *config)
{
    struct timeval tv = pm_timeval_of_ms(config->handshake_ms);
    link->readable = event_new(config->base, link->fd, EV_READ | EV_PERSIST, on_readable, link);
    link->writable = event_new(config->base, link->fd, EV_WRITE, on_writable, link);
    link->timer = evtimer_new(config->base, on_timer, link);
    if (!link->readable || !link->writable || !link->timer || event_add(link->timer, &tv))
        return -ENOMEM;
    int on = 1;
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (event_add(config->connecting || config->secure->dialer ? link->writable : link->readable,
                  NULL))
        return -ENOMEM;
    return 0;
}

int pm_conn_new(const struct pm_conn_config *config, struct pm_conn **ret)
{
    struct pm_conn *link = calloc(1, sizeof(*link));
    if (!link) {
        close(config->fd);
        return -ENOMEM;
    }
    link->base = config->base;
    link->fd = config->fd;
    link->handlers = config->handlers;
    link->arg = config->arg;
    // A dialer starts by on_writable() in any case: there the handshake begins.
    link->phase = config->secure->dialer ? PHASE_CONNECTING : PHASE_HANDSHAKE;
    snprintf(link->address, sizeof(link->address), "%s", config->address);
    int r = pm_secure_new(config->secure, &link->secure);
    if (r == 0)
        r = link_arm(link, config);
    if (r < 0) {
        link_destroy(link);
        return r;
    }
    *ret = link;
    return 0;
}

void pm_conn_set_handlers(struct pm_conn *link, const struct pm_conn_handlers *handlers, void *arg)
{
    link->handlers = handlers;
    link->arg = arg;
}

// Handlers are never called from here: a dead connection is noticed in the next turn of the loop.
static void fail_soon(struct pm_conn *link, int error)
{
    if (!link->send_error)
        link->send_error = error;
    event_active(link->readable, EV_READ, 0);
}

static bool may_send(struct pm_conn *link, size_t len)
{
    if (link->phase != PHASE_UP || link->send_error)
        return false;
    bool room = pm_outq_len(&link->out) + len <= PM_CONN_QUEUE_MAX;
    if (!room)
        fail_soon(link, ENOBUFS);
    return room;
}

// `error` is that of queueing; `idle`: nothing was queued before, so nobody waits to write.
static void queued(struct pm_conn *link, int error, bool idle)
{
    if (!error)
        error = link->out.bytes.error;
    if (!error && idle)
        error = flush(link);
    if (error)
        fail_soon(link, -error);
}

void pm_conn_send(struct pm_conn *link, const void *data, size_t len)
{
    if (!may_send(link, len))
        return;
    bool idle = !pm_outq_len(&link->out);
    pm_secure_seal(link->secure, data, len, &link->out.bytes);
    queued(link, 0, idle);
}

void pm_conn_send_body(struct pm_conn *link, struct pm_body *body)
{
    size_t len;
    pm_body_bytes(body, &len);
    if (!may_send(link, len))
        return;
    bool idle = !pm_outq_len(&link->out);
    pm_secure_seal_ticket(link->secure, body, &link->out.bytes);
    queued(link, pm_outq_add_body(&link->out, body), idle);
}

// Not close() at once: with unread input that sends a reset, which can overtake what was sent.
void pm_conn_close(struct pm_conn *link)
{
    if (link->phase != PHASE_UP || link->send_error) {
        pm_conn_free(link);
        return;
    }
    link->phase = PHASE_CLOSING;
    struct timeval tv = pm_timeval_of_ms(CLOSE_MS);
    event_add(link->timer, &tv);
    if (!pm_outq_len(&link->out))
        shutdown(link->fd, SHUT_WR);
}

bool pm_conn_is_known(const struct pm_conn *link)
{
    return *pm_secure_peer_version(link->secure) != '\0';
}

bool pm_conn_waits(const struct pm_conn *link)
{
    char byte;
    return link->fd >= 0 && recv(link->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

uint32_t pm_conn_peer(const struct pm_conn *link) { return pm_secure_peer(link->secure); }
const char *pm_conn_address(const struct pm_conn *link) { return link->address; }
