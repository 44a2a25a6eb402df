// SPDX-License-Identifier: Apache-2.0
//
// The local shims: who connects, what they say, what they are sent. The protocol is in
// wire/shim_proto.h; what a message means is decided by the core.
//
// The listener is an abstract socket that root made, so every process of this machine can connect: the
// first thing looked at is SO_PEERCRED, the second a complete HELLO within CALLER_MS. It is closed when all shims are in.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pm_config.h"
#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define CALLER_MS 10000
#define ACCEPTS_MAX 16    // in one turn: whoever connects and leaves in a loop does not keep us from everything else
#define CALLERS_EXTRA 16  // connections beyond one per local task that may wait for their HELLO
#define QUEUE_MAX 256     // packets that wait for one shim
#define ALONE_MS 10000    // without shims: time to tell the coordinator and to hear its answer

struct packet {
    STAILQ_ENTRY(packet) entry;
    size_t len;
    uint8_t data[];
};

static uint8_t receive_buffer[PM_SHIM_PACKET_MAX];

// --- sending -------------------------------------------------------------------------------------

static void shim_lost(struct shim *s, const char *why);

static void queue_clear(struct shim *s)
{
    while (!STAILQ_EMPTY(&s->queue)) {
        struct packet *p = STAILQ_FIRST(&s->queue);
        STAILQ_REMOVE_HEAD(&s->queue, entry);
        free(p);
    }
    s->n_queued = 0;
}

static void queue_flush(struct shim *s)
{
    while (s->fd >= 0 && !STAILQ_EMPTY(&s->queue)) {
        struct packet *p = STAILQ_FIRST(&s->queue);
        ssize_t n = send(s->fd, p->data, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && pm_room_will_be(errno)) {
            if (pm_room_await(&s->room, errno) < 0)
                shutdown(s->fd, SHUT_RDWR);  // else what waits would wait for ever
            return;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            // Its last words may still be readable; the end of file after them is the loss.
            queue_clear(s);
            return;
        }
        STAILQ_REMOVE_HEAD(&s->queue, entry);
        s->n_queued--;
        free(p);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *arg) { queue_flush(arg); }

void pm_shim_send(struct shim *s, const struct pm_writer *w)
{
    if (s->fd < 0)
        return;
    struct packet *p = w->error || w->len > PM_SHIM_PACKET_MAX || s->n_queued >= QUEUE_MAX
                           ? NULL
                           : malloc(sizeof(*p) + w->len);
    if (!p) {
        pm_agent_say(s->agent, "cannot tell local task %u what to do: %s", s->local,
                     w->error == -E2BIG || w->len > PM_SHIM_PACKET_MAX
                         ? "its environment is too large"
                         : "out of memory, or its shim does not read");
        shutdown(s->fd, SHUT_RDWR);
        return;
    }
    p->len = w->len;
    memcpy(p->data, w->data, w->len);
    STAILQ_INSERT_TAIL(&s->queue, p, entry);
    s->n_queued++;
    queue_flush(s);
}

void pm_shim_send_type(struct shim *s, enum pm_shim_msg type)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, (uint8_t)type);
    pm_shim_send(s, &w);
    pm_writer_done(&w);
}

// The only packet that carries a descriptor; it is the first one, so there is room in the socket.
static int send_welcome(const struct shim *s)
{
    uint8_t type = PM_SHIM_WELCOME;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec io = {.iov_base = &type, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &s->agent->lease_fd, sizeof(int));
    return sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void send_refusal(int fd, const char *why)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SHIM_REFUSE);
    pm_write_str(&w, why);
    if (!w.error)
        (void)!send(fd, w.data, w.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    pm_writer_done(&w);
}

// --- what a shim says ------------------------------------------------------------------------------

static void post(struct shim *s, struct pm_event *event)
{
    event->local = s->local;
    pm_loop_post(s->agent->loop, event);
}

static void on_started(struct shim *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_RANK_STARTED};
    event.epoch = pm_read_u32(r);
    event.incarnation = pm_read_u32(r);
    event.pid = pm_read_u32(r);
    if (pm_reader_end(r) < 0)
        return;
    s->epoch = event.epoch;
    s->incarnation = event.incarnation;
    s->rank_pid = event.pid;
    s->rank_start = pm_tree_start_time(event.pid);
    if (s->oom_path[0])
        s->oom_count = pm_oom_read(s->oom_path);  // its ranks are forked where it is itself
    else
        pm_oom_open(event.pid, s->oom_path, &s->oom_count);
    pm_server_rank_born(s->agent, s);
    post(s, &event);
    pm_server_rank_started(s->agent);
}

static void on_exited(struct shim *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_RANK_EXITED};
    event.epoch = pm_read_u32(r);
    event.incarnation = pm_read_u32(r);
    event.pid = pm_read_u32(r);
    event.wait_status = pm_read_i32(r);
    event.flag_exec = pm_read_u8(r) == 1;
    for (int i = 0; i < 3; i++)
        (void)pm_read_u64(r);  // user, system, maxrss: for the accounting of a later release
    if (pm_reader_end(r) < 0)
        return;
    bool killed = WIFSIGNALED(event.wait_status) && WTERMSIG(event.wait_status) == SIGKILL;
    event.flag_oom = killed && event.pid == s->rank_pid && pm_oom_read(s->oom_path) > s->oom_count;
    // What the rank told its server before it ended may still be on its way to us: FINALIZED decides
    // whether an exit with 0 was clean.
    pm_servers_drain(s->agent);
    pm_server_rank_ended(s->agent, event.epoch, s->start.rank);
    post(s, &event);
}

static void on_tree_gone(struct shim *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_RANK_GONE};
    event.epoch = pm_read_u32(r);
    event.incarnation = pm_read_u32(r);
    (void)pm_read_u32(r);
    if (pm_reader_end(r) < 0)
        return;
    if (event.epoch == s->epoch && event.incarnation == s->incarnation)
        s->rank_pid = 0;
    post(s, &event);
    pm_agent_leave_if_dead(s->agent);
}

static void on_signalled(struct shim *s, struct pm_reader *r)
{
    struct pm_event event = {.type = PM_EVENT_SIGNALLED};
    event.signal = pm_read_i32(r);
    if (pm_reader_end(r) < 0)
        return;
    post(s, &event);
}

static void on_say(struct shim *s, struct pm_reader *r)
{
    char text[PM_TEXT_CAP];
    pm_read_str(r, text, sizeof(text));
    if (pm_reader_end(r) == 0)
        pm_agent_say(s->agent, "%s", text);
}

static void (*const messages[PM_SHIM_MAX])(struct shim *s, struct pm_reader *r) = {
    [PM_SHIM_STARTED] = on_started,     [PM_SHIM_EXITED] = on_exited,
    [PM_SHIM_TREE_GONE] = on_tree_gone, [PM_SHIM_SIGNALLED] = on_signalled,
    [PM_SHIM_SAY] = on_say,             [PM_SHIM_UNBOUND] = pm_bind_on_unbound,
};

static void shim_message(struct shim *s, size_t len)
{
    struct pm_reader r = pm_reader_of(receive_buffer, len);
    uint8_t type = pm_read_u8(&r);
    if (type >= PM_SHIM_MAX || !messages[type])
        r.error = -EBADMSG;
    else
        messages[type](s, &r);
    if (r.error || r.left)
        shim_lost(s, "its shim sent a malformed message");
}

// True: there may be more.
static bool shim_read(struct shim *s)
{
    ssize_t n = recv(s->fd, receive_buffer, sizeof(receive_buffer), MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0 || (size_t)n > sizeof(receive_buffer)) {
        shim_lost(s, "its shim ended");
        return false;
    }
    shim_message(s, (size_t)n);
    return s->fd >= 0;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct shim *s = arg;
    while (shim_read(s))
        ;
}

void pm_shims_drain(struct agent *a)
{
    for (uint32_t i = 0; i < a->config.n_local; i++) {
        if (a->shims[i].fd >= 0)
            on_readable(a->shims[i].fd, EV_READ, &a->shims[i]);
    }
}

static void shim_close(struct shim *s)
{
    if (s->readable)
        event_free(s->readable);
    s->readable = NULL;
    pm_room_close(&s->room);
    queue_clear(s);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static void shim_lost(struct shim *s, const char *why)
{
    struct agent *a = s->agent;
    if (s->fd < 0)
        return;
    shim_close(s);
    a->n_connected--;
    if (!s->ended) {
        pm_tree_kill(s);
        post(s, &(struct pm_event){.type = PM_EVENT_SHIM_LOST, .text = why});
    }
    if (!a->n_connected)
        pm_agent_leave(a, a->ending ? 0 : ALONE_MS);
}

// --- who connects ----------------------------------------------------------------------------------

static void caller_free(struct caller *c)
{
    LIST_REMOVE(c, entry);
    c->agent->n_callers--;
    event_free(c->event);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

// Every process of this machine can connect. When all shims are there nobody else may join, not even in place of one that
// ends. shutdown() is for those who have inherited the socket: slurmstepd has, with contain_spank.
static void close_door_if_complete(struct agent *a)
{
    if (!a->acceptable || a->n_joined < a->config.n_local)
        return;
    int fd = event_get_fd(a->acceptable);
    event_free(a->acceptable);
    a->acceptable = NULL;
    (void)shutdown(fd, SHUT_RDWR);
    close(fd);
}

static int shim_adopt(struct shim *s, struct caller *c)
{
    struct agent *a = s->agent;
    s->fd = pm_take_fd(&c->fd);
    s->pid = c->pid;
    s->readable = event_new(a->base, s->fd, EV_READ | EV_PERSIST, on_readable, s);
    int r = pm_room_open(&s->room, a->base, s->fd, on_writable, s);
    if (r < 0 || !s->readable || event_add(s->readable, NULL) || send_welcome(s) < 0) {
        shim_close(s);
        return -ENOMEM;
    }
    s->was_there = true;
    a->n_connected++;
    a->n_joined++;
    close_door_if_complete(a);
    return 0;
}

// NULL: may join; else why not.
static const char *hello_check(const struct agent *a, const char *version, uint32_t local,
                               uint32_t rank, char *buf)
{
    if (a->refusal[0])
        return a->refusal;
    if (strcmp(version, PM_VERSION) != 0) {
        snprintf(buf, PM_ERROR_CAP,
                 "the shim is pm-supervise %s, pm-agent is %s: install the same build on all nodes",
                 version, PM_VERSION);
        return buf;
    }
    if (local >= a->config.n_local || a->config.local_ranks[local] != rank ||
        a->shims[local].was_there) {
        snprintf(buf, PM_ERROR_CAP, "there is no place for local task %u, rank %u", local, rank);
        return buf;
    }
    return NULL;
}

static void caller_hello(struct caller *c, size_t len)
{
    struct agent *a = c->agent;
    char version[PM_SECURE_VERSION_CAP], buf[PM_ERROR_CAP];
    struct pm_reader r = pm_reader_of(receive_buffer, len);
    uint8_t type = pm_read_u8(&r);
    pm_read_str(&r, version, sizeof(version));
    uint32_t local = pm_read_u32(&r), rank = pm_read_u32(&r), pid = pm_read_u32(&r);
    (void)pm_read_u8(&r);  // way: for people who read a trace
    if (type != PM_SHIM_HELLO || r.error)
        return;  // the rest is read when it may join
    const char *why = hello_check(a, version, local, rank, buf);
    if (why) {
        send_refusal(c->fd, why);
        a->n_refused++;
        if (a->refusal[0] && a->n_refused >= a->config.n_local)
            pm_agent_leave(a, 100);
        return;
    }
    struct shim *s = &a->shims[local];
    pm_bind_facts_read(s, &r);
    if (pm_reader_end(&r) == 0 && shim_adopt(s, c) == 0)
        post(s, &(struct pm_event){.type = PM_EVENT_SHIM_JOINED, .pid = pid, .gpus = pm_size_gpus(a), .memory_mib = a->memory_mib});
}

static void on_caller(evutil_socket_t fd, short what, void *arg)
{
    struct caller *c = arg;
    ssize_t n = what & EV_READ ? recv(fd, receive_buffer, sizeof(receive_buffer), MSG_DONTWAIT) : 0;
    if (n > 0)
        caller_hello(c, (size_t)n);
    caller_free(c);
}

static void caller_new(struct agent *a, int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    bool ours = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
    struct caller *c = ours && a->n_callers < a->config.n_local + CALLERS_EXTRA
                           ? calloc(1, sizeof(*c))
                           : NULL;
    struct timeval tv = pm_timeval_of_ms(CALLER_MS);
    if (c)
        c->event = event_new(a->base, fd, EV_READ, on_caller, c);
    if (!c || !c->event || event_add(c->event, &tv)) {
        if (c && c->event)
            event_free(c->event);
        free(c);
        close(fd);
        return;
    }
    c->agent = a;
    c->fd = fd;
    c->pid = (uint32_t)cred.pid;
    LIST_INSERT_HEAD(&a->callers, c, entry);
    a->n_callers++;
}

static void on_acceptable(evutil_socket_t listener, short what, void *arg)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        caller_new(arg, fd);
    }
}

// --- life ------------------------------------------------------------------------------------------

void pm_shims_refuse(struct agent *a)
{
    for (uint32_t i = 0; i < a->config.n_local; i++) {
        struct shim *s = &a->shims[i];
        if (s->fd < 0)
            continue;
        send_refusal(s->fd, a->refusal);
        a->n_refused++;
    }
}

static int listener_open(struct agent *a)
{
    int r = pm_fd_nonblock(PM_AGENT_LISTENER_FD);
    if (r == 0)
        r = pm_fd_cloexec(PM_AGENT_LISTENER_FD, 1);
    if (r < 0)
        return r;
    a->acceptable = event_new(a->base, PM_AGENT_LISTENER_FD, EV_READ | EV_PERSIST, on_acceptable, a);
    return !a->acceptable || event_add(a->acceptable, NULL) ? -ENOMEM : 0;
}

int pm_shims_open(struct agent *a)
{
    LIST_INIT(&a->callers);
    a->shims = calloc(a->config.n_local ? a->config.n_local : 1, sizeof(*a->shims));
    if (!a->shims)
        return -ENOMEM;
    for (uint32_t i = 0; i < a->config.n_local; i++) {
        a->shims[i] = (struct shim){.agent = a, .local = i, .fd = -1};
        STAILQ_INIT(&a->shims[i].queue);
    }
    int r = pm_lease_open(a);
    if (r == 0)
        r = listener_open(a);
    if (r < 0)
        pm_shims_done(a);
    return r;
}

void pm_shims_done(struct agent *a)
{
    while (!LIST_EMPTY(&a->callers))
        caller_free(LIST_FIRST(&a->callers));
    for (uint32_t i = 0; a->shims && i < a->config.n_local; i++) {
        shim_close(&a->shims[i]);
        pm_bind_facts_done(&a->shims[i]);
    }
    if (a->acceptable)
        event_free(a->acceptable);
    pm_lease_done(a);
    free(a->shims);
    a->acceptable = NULL;
    a->shims = NULL;
}
