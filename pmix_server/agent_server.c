// SPDX-License-Identifier: Apache-2.0
//
// The pm-pmix-server processes of this node: one per epoch, one more on standby for the next.
//
// A server is started, given a namespace, watched, and killed; never finalized and never waited for.
// When the standby one is started says agent_server_standby.c.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/agent_server.h"
#include "pmix_server/io/util.h"

#define START_MS 30000       // exec to READY, or to INITED on standby
#define WATCH_MIN_MS 2000
#define PROVE_MS 1000  // promotion to PONG
#define BURY_MS 250    // from the end of its epoch to its own: first the ranks of the next one start

// --- life --------------------------------------------------------------------------------------------

static void server_free(struct server *s)
{
    struct agent *a = s->agent;
    pm_server_io_close(s);
    if (s->start_timer)
        event_free(s->start_timer);
    if (s->pid)
        pm_children_forget(a->children, s->pid);
    for (uint32_t i = 0; s->envs && i < a->config.n_local; i++) {
        for (uint32_t k = 0; k < s->envs[i].n; k++)
            free(s->envs[i].entries[k]);
        free(s->envs[i].entries);
    }
    free(s->envs);
    free(s->connected);
    pm_writer_done(&s->in);
    pm_writer_done(&s->out);
    if (s->folder[0] && !s->keep_folder)
        pm_folder_remove(s->folder);
    // One that was made ready for a world that never was has left nothing; another one serves that epoch.
    if (s->dropped && s->has_epoch && !pm_server_find(a, true, s->epoch))
        pm_folder_sweep_epochs(a->config.job, a->config.step, s->epoch, 1);
    LIST_REMOVE(s, entry);
    free(s);
    pm_agent_end_if_clean(a);
}

static void describe_end(const struct server *s, int status, char *buf, size_t cap)
{
    if (s->why[0])
        snprintf(buf, cap, "pm-pmix-server: %.200s", s->why);
    else if (WIFSIGNALED(status))
        snprintf(buf, cap, "pm-pmix-server was killed by signal %d", WTERMSIG(status));
    else
        snprintf(buf, cap, "pm-pmix-server exited with code %d", WEXITSTATUS(status));
}

// Reaped. A server that was lost is kept, dead, until the core drops its epoch: a replacement needs its
// folder and port.
static void on_ended(pid_t pid, int status, void *arg)
{
    struct server *s = arg;
    struct agent *a = s->agent;
    char text[PM_TEXT_CAP];
    s->reaping = true;
    if (s->state != SERVER_DEAD) {
        pm_server_read(s);  // its last words
        s->state = SERVER_DEAD;
    }
    pm_server_io_close(s);
    s->pid = 0;
    if (s->dropped || !s->has_epoch) {
        a->standby_failures += !s->dropped;
        server_free(s);
        return;
    }
    describe_end(s, status, text, sizeof(text));
    pm_loop_post(a->loop, &(struct pm_event){.type = PM_EVENT_SERVER_LOST, .epoch = s->epoch,
                                             .text = text});
}

void pm_server_lose(struct server *s, const char *why)
{
    if (s->state == SERVER_DEAD)
        return;
    bool ended = !strcmp(why, "it ended");  // then the status says more
    if (!s->why[0] && !ended)
        snprintf(s->why, sizeof(s->why), "%s", why);
    s->state = SERVER_DEAD;
    event_del(s->readable);
    event_del(s->start_timer);
    if (s->pid && !s->reaping)
        kill(s->pid, SIGKILL);  // reaped by on_ended(), which tells the core
}

// Freed when reaped; not to be used after this.
static void bury(struct server *s)
{
    if (!s->pid)
        server_free(s);
    else if (!s->reaping)
        kill(s->pid, SIGKILL);
}

static void on_start_timer(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    if (s->dropped)
        bury(s);
    else
        pm_server_lose(s, s->state == SERVER_PROVING ? "it does not answer (stuck)"
                                                       : "it was not ready after 30 s");
}

static struct server *server_alloc(struct agent *a)
{
    struct server *s = calloc(1, sizeof(*s));
    uint32_t n = a->config.n_local ? a->config.n_local : 1;
    if (!s)
        return NULL;
    s->agent = a;
    s->fd = -1;
    s->envs = calloc(n, sizeof(*s->envs));
    s->connected = calloc(n, sizeof(*s->connected));
    s->start_timer = evtimer_new(a->base, on_start_timer, s);
    LIST_INSERT_HEAD(&a->servers, s, entry);
    if (!s->envs || !s->connected || !s->start_timer) {
        server_free(s);
        return NULL;
    }
    return s;
}

static int server_fork(struct server *s, uint16_t port)
{
    struct agent *a = s->agent;
    struct timeval tv = pm_timeval_of_ms(START_MS);
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    int r = pm_server_io_open(s, fds[0]);  // from here on it is closed with s
    if (r == 0)
        r = pm_fd_nonblock(fds[0]);
    s->pid = r == 0 ? fork() : 0;
    if (r == 0 && s->pid == 0)
        pm_server_become(s, fds[1], port);
    if (r == 0 && s->pid < 0) {
        r = -errno;
        s->pid = 0;
    }
    close(fds[1]);
    s->state = SERVER_STARTING;
    if (r == 0)
        r = pm_children_watch(a->children, s->pid, on_ended, s);
    if (r == 0 && evtimer_add(s->start_timer, &tv))
        r = -ENOMEM;
    return r;
}

int pm_server_start(struct agent *a, uint32_t epoch, bool standby, struct server *old)
{
    struct server *s = server_alloc(a);
    if (!s)
        return -ENOMEM;
    s->has_epoch = !standby;
    s->epoch = epoch;
    int r = 0;
    if (old) {
        memcpy(s->folder, old->folder, sizeof(s->folder));
        old->keep_folder = true;
    } else {
        r = pm_folder_new(a, s->folder, sizeof(s->folder));
    }
    if (r == 0)
        r = server_fork(s, old ? old->port : 0);
    if (r < 0) {
        if (s->pid)
            kill(s->pid, SIGKILL);
        server_free(s);
    }
    return r;
}

struct server *pm_server_find(struct agent *a, bool has_epoch, uint32_t epoch)
{
    struct server *s;
    LIST_FOREACH(s, &a->servers, entry) {
        if (!s->dropped && s->has_epoch == has_epoch && (!has_epoch || s->epoch == epoch))
            return s;
    }
    return NULL;
}

static void ping(struct server *s, uint64_t now)
{
    struct pm_writer w = {0};
    s->ping++;
    s->pinged_ns = now;
    pm_write_u8(&w, PM_SERVER_PING);
    pm_write_u64(&w, s->ping);
    pm_server_write(s, &w, NULL, 0);
    pm_writer_done(&w);
}

// What it was meant for has come: mostly there is nothing left to do but to see that it still lives.
// Nobody has watched it, and ranks that start PMIx with a stuck server fail.
static void promote(struct server *s, uint64_t now)
{
    bool is_ready = s->state == SERVER_READY;
    struct timeval tv = pm_timeval_of_ms(is_ready ? PROVE_MS : START_MS);
    s->has_epoch = true;
    evtimer_add(s->start_timer, &tv);
    if (s->state == SERVER_INITED)
        pm_server_send_nspace(s);
    if (!is_ready)
        return;
    s->state = SERVER_PROVING;
    ping(s, now);
}

// Nothing it says counts any more. The end of a process that has served many ranks takes a while, and at
// the end of an epoch there is something better to do.
static void drop(struct server *s, uint64_t bury_ms)
{
    struct timeval tv = pm_timeval_of_ms(bury_ms);
    s->dropped = true;
    s->state = SERVER_DEAD;
    if (s->readable)
        event_del(s->readable);
    pm_room_forget(&s->room);
    if (!s->pid || bury_ms == 0 || evtimer_add(s->start_timer, &tv))
        bury(s);
}

// Is it of no use for `epoch`: made for another one, or for a world in which ranks were elsewhere?
static bool is_stale(struct agent *a, const struct server *standby, uint32_t epoch)
{
    if (standby->blank)
        return false;
    return standby->epoch != epoch ||
           (standby->map_version && standby->map_version != pm_core_world(a->core)->map_version);
}

void pm_server_prepare(struct agent *a, uint32_t epoch)
{
    struct server *old = pm_server_find(a, true, epoch), *standby = pm_server_find(a, false, 0);
    int r = 0;
    if (standby && is_stale(a, standby, epoch)) {
        drop(standby, 0);
        standby = NULL;
    }
    if (standby)
        standby->epoch = epoch;
    a->legacy->epoch = epoch;
    a->legacy->n_epochs++;
    if (old && old->state == SERVER_DEAD) {
        bool same_place = old->port && old->n_connected == 0;
        r = pm_server_start(a, epoch, false, same_place ? old : NULL);
        server_free(old);
    } else if (!old && standby && standby->state != SERVER_DEAD) {
        promote(standby, pm_clock_ns());
    } else if (!old) {
        r = pm_server_start(a, epoch, false, NULL);
    }
    if (r < 0) {
        char text[PM_TEXT_CAP];
        snprintf(text, sizeof(text), "cannot start pm-pmix-server: %s", strerror(-r));
        pm_loop_post(a->loop, &(struct pm_event){.type = PM_EVENT_SERVER_LOST, .epoch = epoch,
                                                 .text = text});
    }
}

void pm_server_drop(struct agent *a, uint32_t epoch)
{
    struct server *s = pm_server_find(a, true, epoch);
    if (s)
        drop(s, BURY_MS);
    else
        pm_folder_sweep_epochs(a->config.job, a->config.step, epoch, 1);
}

// --- watchdog ----------------------------------------------------------------------------------------

static uint64_t watch_period_ms(const struct agent *a)
{
    uint64_t ms = a->config.options.node_timeout_ms / 4;
    return ms < WATCH_MIN_MS ? WATCH_MIN_MS : ms;
}

static void watch(struct server *s, uint64_t now, bool late)
{
    uint64_t limit_ns = 2 * watch_period_ms(s->agent) * 1000000u;
    if (!s->has_epoch || s->state != SERVER_READY)
        return;  // one on standby is asked when it is needed
    bool answered = s->pong == s->ping;
    if (!answered && !late && now - s->pinged_ns >= limit_ns)
        pm_server_lose(s, "it does not answer (stuck)");
    else if (answered || late)
        ping(s, now);
}

// A watchdog that was late itself (a suspended job) judges nobody: it asks again.
static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    struct agent *a = arg;
    uint64_t now = pm_clock_ns(), period_ns = watch_period_ms(a) * 1000000u;
    bool late = now - a->last_watch_ns > period_ns + period_ns / 2;
    a->last_watch_ns = now;
    pm_servers_drain(a);
    struct server *s;
    LIST_FOREACH(s, &a->servers, entry)
        watch(s, now, late);
    pm_memory_trim();
}

// --- the agent's side --------------------------------------------------------------------------------

struct server *pm_server_of(struct agent *a, uint32_t epoch)
{
    struct server *s = pm_server_find(a, true, epoch);
    return s && s->state == SERVER_READY ? s : NULL;
}

char *const *pm_server_env(const struct server *s, uint32_t local, uint32_t *ret_n)
{
    *ret_n = s->envs[local].n;
    return s->envs[local].entries;
}

bool pm_server_send_data(struct agent *a, uint32_t epoch, const struct pm_writer *head,
                         const void *data, size_t len)
{
    struct server *s = pm_server_of(a, epoch);
    if (s)
        pm_server_write(s, head, data, len);
    return s != NULL;
}

bool pm_server_send(struct agent *a, uint32_t epoch, const struct pm_writer *w)
{
    return pm_server_send_data(a, epoch, w, NULL, 0);
}

void pm_server_expect_notified(struct agent *a, uint32_t epoch, uint64_t id)
{
    struct server *s = pm_server_of(a, epoch);
    if (s)
        s->notice = id;
}

void pm_server_rank_born(struct agent *a, const struct shim *shim)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SERVER_BORN);
    pm_write_u32(&w, shim->start.rank);
    pm_write_u32(&w, shim->rank_pid);
    pm_server_send(a, shim->epoch, &w);
    pm_writer_done(&w);
}

void pm_server_rank_ended(struct agent *a, uint32_t epoch, uint32_t rank)
{
    const struct server *s = pm_server_of(a, epoch);
    for (uint32_t i = 0; s && i < a->config.n_local; i++)
        if (pm_core_rank_of(a->core, i) == rank && !s->connected[i] && a->config.options.mode == PM_MODE_RANK)
            return;  // it may start again, and DIED is for good
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SERVER_DIED);
    pm_write_u32(&w, rank);
    pm_server_send(a, epoch, &w);
    pm_writer_done(&w);
}

// What a server says can end another one, so after each the list is looked at from its start.
void pm_servers_drain(struct agent *a)
{
    unsigned turn = ++a->drain_turn;
    struct server *s;
    do {
        LIST_FOREACH(s, &a->servers, entry) {
            if (s->drained != turn)
                break;
        }
        if (s) {
            s->drained = turn;
            pm_server_read(s);
        }
    } while (s);
}

void pm_servers_release(struct agent *a)
{
    struct server *s;
    LIST_FOREACH(s, &a->servers, entry) {
        if (s->state == SERVER_INITED && !(s->blank && !s->has_epoch))
            pm_server_send_nspace(s);
    }
}

int pm_servers_open(struct agent *a)
{
    struct timeval tv = pm_timeval_of_ms(watch_period_ms(a));
    LIST_INIT(&a->servers);
    a->last_watch_ns = pm_clock_ns();
    bool standby = pm_server_standby_open(a);
    a->watchdog = event_new(a->base, -1, EV_PERSIST, on_watchdog, a);
    return !standby || !a->watchdog || event_add(a->watchdog, &tv) ? -ENOMEM : 0;
}

void pm_servers_kill(struct agent *a)
{
    struct server *s, *next;
    for (s = LIST_FIRST(&a->servers); s; s = next) {
        next = LIST_NEXT(s, entry);
        if (s->dropped)
            bury(s);
        else
            drop(s, 0);
    }
}

void pm_servers_done(struct agent *a)
{
    while (!LIST_EMPTY(&a->servers)) {
        struct server *s = LIST_FIRST(&a->servers);
        if (s->pid)
            kill(s->pid, SIGKILL);
        for (int i = 0; s->pid && i < 200 && waitpid(s->pid, NULL, WNOHANG) == 0; i++)
            usleep(1000);  // its folder must not be in use
        server_free(s);
    }
    if (a->standby_timer)
        event_free(a->standby_timer);
    if (a->watchdog)
        event_free(a->watchdog);
}
