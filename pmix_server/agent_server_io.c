// SPDX-License-Identifier: Apache-2.0
//
// The stream between this agent and a pm-pmix-server (wire/server_proto.h): u32 length, u8 type, payload.
// Most messages become an event of the core as they are.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pmix_server/agent_server.h"
#include "pmix_server/io/util.h"

#define READ_STEP 65536u
#define KEEP_CAP (256u << 10)
#define OUT_MAX ((size_t)2 << 30)
#define ENV_TEXT_MAX 65536u
#define SET_SPANS_MAX 1048576u
#define SOCKET_BYTES (4 << 20)
#define NO_MEMORY "the agent is out of memory"

// --- what a server says ------------------------------------------------------------------------------

static void post(struct server *s, struct pm_event *event)
{
    event->epoch = s->epoch;
    if (s->has_epoch && s->state != SERVER_DEAD)
        pm_loop_post(s->agent->loop, event);
}

int pm_server_local_of(const struct agent *a, uint32_t rank)
{
    for (uint32_t i = 0; i < a->config.n_local; i++) {
        if (rank != PM_RANK_NONE && pm_core_rank_of(a->core, i) == rank)
            return (int)i;
    }
    return -1;
}

static void on_inited(struct server *s, struct pm_reader *r)
{
    char version[64];
    pm_read_str(r, version, sizeof(version));
    s->port = pm_read_u16(r);
    if (pm_reader_end(r) < 0 || s->state != SERVER_STARTING) {
        r->error = -EBADMSG;
        return;
    }
    if (!s->has_epoch)
        event_del(s->start_timer);
    if (s->blank && !s->has_epoch)
        s->state = SERVER_INITED; // what it will serve is not known yet
    else
        pm_server_send_nspace(s);
}

static void on_env(struct server *s, struct pm_reader *r)
{
    int local = pm_server_local_of(s->agent, pm_read_u32(r));
    uint32_t n = pm_read_u32(r);
    if (r->error || local < 0 || n > PM_SHIM_ENV_MAX || s->envs[local].entries) {
        r->error = -EBADMSG;
        return;
    }
    struct env_list *list = &s->envs[local];
    list->entries = calloc(n ? n : 1, sizeof(char *));
    if (!list->entries) {
        r->error = -ENOMEM;
        return;
    }
    for (; list->n < n && !r->error; list->n++)
        list->entries[list->n] = pm_read_strdup(r, ENV_TEXT_MAX);
}

void pm_server_serve(struct server *s)
{
    // A replacement takes over ranks that run.
    for (uint32_t i = 0; i < s->agent->config.n_local; i++)
        if (s->agent->shims[i].rank_pid && s->agent->shims[i].epoch == s->epoch)
            pm_server_rank_born(s->agent, &s->agent->shims[i]);
    pm_agent_start_held(s->agent, s->epoch);
    post(s, &(struct pm_event){.type = PM_EVENT_SERVER_READY});
}

static void on_ready(struct server *s, struct pm_reader *r)
{
    s->state = SERVER_READY;
    s->pinged_ns = 0;
    event_del(s->start_timer);
    if (s->has_epoch)
        pm_server_serve(s);
    else
        pm_agent_prepare_starts(s->agent, s, s->epoch);
}

static void note_connected(struct server *s, uint32_t local)
{
    if (!s->connected[local]) {
        s->connected[local] = true;
        s->n_connected++;
        if (s->n_connected == pm_agent_n_ranks(s->agent))
            pm_server_ranks_connected(s->agent);
    }
    post(s, &(struct pm_event){.type = PM_EVENT_CONNECTED, .rank = pm_core_rank_of(s->agent->core, local)});
}

static void on_connected(struct server *s, struct pm_reader *r)
{
    int local = pm_server_local_of(s->agent, pm_read_u32(r));
    if (pm_reader_end(r) == 0 && local >= 0)
        note_connected(s, (uint32_t)local);
}

// What it has said is lost. A rank that has connected to it would wait for ever for one that takes its place
// unseen, so every rank that runs counts as connected.
static void lose_unheard(struct server *s, const char *why)
{
    for (uint32_t i = 0; i < s->agent->config.n_local; i++)
        if (s->agent->shims[i].rank_pid && s->agent->shims[i].epoch == s->epoch)
            note_connected(s, i);
    pm_server_lose(s, why);
}

static void on_finalized(struct server *s, struct pm_reader *r)
{
    uint32_t rank = pm_read_u32(r);
    if (pm_reader_end(r) == 0)
        post(s, &(struct pm_event){.type = PM_EVENT_FINALIZED, .rank = rank});
}

// Who is to be ended is not asked for: an abort is a failure of the rank that called it, and
// what a failure leads to is the policy's.
static void on_abort(struct server *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_ABORT};
    struct pm_set targets = {0};
    event.rank = pm_read_u32(r);
    event.status = pm_read_i32(r);
    char *text = pm_read_strdup(r, ENV_TEXT_MAX);
    pm_read_set(r, &targets, SET_SPANS_MAX);
    event.text = text;
    if (pm_reader_end(r) == 0)
        post(s, &event);
    pm_set_done(&targets);
    free(text);
}

static void on_fence(struct server *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_FENCE};
    struct pm_set set = {0};
    event.id = pm_read_u64(r);
    event.flag_collect = pm_read_u8(r) == 1;
    event.timeout_ms = pm_read_u64(r);
    event.flag_failed = pm_read_u8(r) == 1;
    pm_read_set(r, &set, SET_SPANS_MAX);
    event.data = pm_read_bytes(r, PM_SERVER_FRAME_MAX, &event.len);
    event.set = &set;
    if (pm_reader_end(r) == 0)
        post(s, &event);
    pm_set_done(&set);
}

static void on_modex(struct server *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_MODEX};
    event.id = pm_read_u64(r);
    event.rank = pm_read_u32(r);
    event.timeout_ms = pm_read_u64(r);
    if (pm_reader_end(r) == 0)
        post(s, &event);
}

static void on_fetched(struct server *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_FETCHED};
    event.id = pm_read_u64(r);
    event.status = pm_read_i32(r);
    event.data = pm_read_bytes(r, PM_SERVER_FRAME_MAX, &event.len);
    if (pm_reader_end(r) == 0)
        post(s, &event);
}

static void on_notified(struct server *s, struct pm_reader *r)
{
    uint64_t id = pm_read_u64(r);
    if (pm_reader_end(r) < 0 || !s->notice || id != s->notice)
        return;
    s->notice = 0;
    post(s, &(struct pm_event){.type = PM_EVENT_NOTIFIED});
}

static void on_pong(struct server *s, struct pm_reader *r)
{
    s->pong = pm_read_u64(r);
    if (s->state != SERVER_PROVING || s->pong != s->ping)
        return;
    s->state = SERVER_READY;
    event_del(s->start_timer);
    pm_server_serve(s);
}

static void on_say(struct server *s, struct pm_reader *r)
{
    char *text = pm_read_strdup(r, ENV_TEXT_MAX);
    if (pm_reader_end(r) == 0)
        pm_agent_say(s->agent, "%s", text);
    free(text);
}

static void on_failed(struct server *s, struct pm_reader *r)
{
    char *text = pm_read_strdup(r, ENV_TEXT_MAX);
    if (text)
        snprintf(s->why, sizeof(s->why), "%s", text);
    free(text);
    if (s->state == SERVER_READY)  // what it lacks may be what telling of a connection takes
        lose_unheard(s, s->why);
}

static void (*const messages[PM_SERVER_MAX])(struct server *s, struct pm_reader *r) = {
    [PM_SERVER_INITED] = on_inited,       [PM_SERVER_ENV] = on_env,
    [PM_SERVER_READY] = on_ready,         [PM_SERVER_CONNECTED] = on_connected,
    [PM_SERVER_FINALIZED] = on_finalized, [PM_SERVER_ABORT] = on_abort,
    [PM_SERVER_FENCE] = on_fence,         [PM_SERVER_MODEX] = on_modex,
    [PM_SERVER_FETCHED] = on_fetched,     [PM_SERVER_NOTIFIED] = on_notified,
    [PM_SERVER_PONG] = on_pong,           [PM_SERVER_SAY] = on_say,
    [PM_SERVER_FAILED] = on_failed,
};

// --- the stream --------------------------------------------------------------------------------------

static uint32_t length_at(const struct pm_writer *in, size_t at)
{
    struct pm_reader r = pm_reader_of(in->data + at, in->len - at);
    return pm_read_u32(&r);
}

static void take_messages(struct server *s)
{
    while (s->state != SERVER_DEAD && s->in.len - s->in_at >= 4) {
        size_t len = length_at(&s->in, s->in_at);
        if (len < 1 || len > PM_SERVER_FRAME_MAX) {
            lose_unheard(s, "it sent a malformed message");
            return;
        }
        if (s->in.len - s->in_at < 4 + len)
            return;
        struct pm_reader r = pm_reader_of(s->in.data + s->in_at + 4, len);
        uint8_t type = pm_read_u8(&r);
        s->in_at += 4 + len;
        if (type >= PM_SERVER_MAX || !messages[type])
            r.error = -EBADMSG;
        else
            messages[type](s, &r);
        int error = pm_reader_end(&r);
        if (error < 0)
            lose_unheard(s, error == -ENOMEM ? NO_MEMORY : "it sent a malformed message");
    }
}

static ssize_t read_some(struct server *s)
{
    size_t have = s->in.len, room = READ_STEP;
    if (have - s->in_at >= 4) {
        size_t want = 4 + (size_t)length_at(&s->in, s->in_at) - (have - s->in_at);
        room = want > READ_STEP && want < (16u << 20) ? want : READ_STEP;
    }
    if (have + room > s->in.cap) {
        uint8_t *data = realloc(s->in.data, have + room);
        if (!data) {
            errno = ENOMEM;
            return -1;
        }
        s->in.data = data;
        s->in.cap = have + room;
    }
    ssize_t n = recv(s->fd, s->in.data + have, s->in.cap - have, MSG_DONTWAIT);
    if (n > 0)
        s->in.len += (size_t)n;
    return n;
}

// One read. False if it found nothing, or the server is lost.
static bool read_once(struct server *s)
{
    ssize_t n = read_some(s);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < 0 && errno == ENOMEM)
        lose_unheard(s, NO_MEMORY);
    else if (n <= 0)  // ECONNRESET, too, comes after all that was said
        pm_server_lose(s, s->why[0] ? s->why : "it ended");
    if (n <= 0)
        return false;
    take_messages(s);
    if (s->state != SERVER_DEAD)
        pm_writer_drop(&s->in, &s->in_at, KEEP_CAP);
    return s->fd >= 0 && s->state != SERVER_DEAD;
}

void pm_server_read(struct server *s)
{
    while (s->fd >= 0 && s->state != SERVER_DEAD && read_once(s))
        continue;
}

// Once: the event is level-triggered and tells of more.
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    if (s->fd >= 0 && s->state != SERVER_DEAD)
        read_once(s);
}

static void await_room(struct server *s, int error)
{
    if (pm_room_await(&s->room, error) < 0)
        lose_unheard(s, NO_MEMORY);
}

static void flush(struct server *s)
{
    while (s->fd >= 0 && s->out_at < s->out.len) {
        ssize_t n = send(s->fd, s->out.data + s->out_at, s->out.len - s->out_at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && pm_room_will_be(errno))
            await_room(s, errno);
        if (n < 0)
            return;  // the end of file that may follow is the loss
        s->out_at += (size_t)n;
    }
    pm_writer_drop(&s->out, &s->out_at, KEEP_CAP);
}

static void on_writable(evutil_socket_t fd, short what, void *arg) { flush(arg); }

// How much of the parts the socket takes now; 0 also on an error, which comes up again.
static size_t send_parts(const struct server *s, struct iovec *parts, size_t n)
{
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = n};
    ssize_t sent = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent > 0 ? (size_t)sent : 0;
}

static void queue_rest(struct server *s, const struct iovec *parts, size_t n, size_t sent)
{
    for (size_t i = 0; i < n; i++) {
        size_t done = sent < parts[i].iov_len ? sent : parts[i].iov_len;
        pm_write_raw(&s->out, (const uint8_t *)parts[i].iov_base + done, parts[i].iov_len - done);
        sent -= done;
    }
    if (s->out.error)
        lose_unheard(s, NO_MEMORY);
    else if (s->out_at < s->out.len)
        await_room(s, EAGAIN);
}

void pm_server_write(struct server *s, const struct pm_writer *head, const void *data, size_t len)
{
    if (s->fd < 0 || s->state == SERVER_DEAD)
        return;
    if (head->error) {
        lose_unheard(s, NO_MEMORY);
        return;
    }
    if (s->out.len - s->out_at > OUT_MAX || head->len + len > PM_SERVER_FRAME_MAX) {
        lose_unheard(s, "it does not read what it is sent");
        return;
    }
    struct pm_writer length = {0};
    pm_write_u32(&length, (uint32_t)(head->len + len));
    struct iovec parts[] = {{length.data, length.len}, {head->data, head->len}, {(void *)data, len}};
    size_t sent = s->out_at == s->out.len && !length.error ? send_parts(s, parts, 3) : 0;
    s->out.error = s->out.error ? s->out.error : length.error;
    queue_rest(s, parts, 3, sent);
    pm_writer_done(&length);
}

int pm_server_io_open(struct server *s, int fd)
{
    s->fd = fd;
    // As much as the system allows: a large result is handed over with fewer turns.
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){SOCKET_BYTES}, sizeof(int));
    s->readable = event_new(s->agent->base, fd, EV_READ | EV_PERSIST, on_readable, s);
    if (!s->readable || pm_room_open(&s->room, s->agent->base, fd, on_writable, s) < 0)
        return -ENOMEM;
    return event_add(s->readable, NULL) ? -ENOMEM : 0;
}

void pm_server_io_close(struct server *s)
{
    if (s->readable)
        event_free(s->readable);
    s->readable = NULL;
    pm_room_close(&s->room);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
