// SPDX-License-Identifier: Apache-2.0
//
// pm-discover beside the forming of the step. It is started first of all and needed last, for the namespace
// of the first epoch; it has a process group and a time limit of its own, because a driver's file may hang. One that
// cannot be killed is left behind. For a step without GPUs it does not look for any.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "pmix_server/agent_bind.h"
#include "pmix_server/io/util.h"

#define LIMIT_MS 5000
#define PIECE 65536
#define PICTURE_MAX (64u << 20)

static void stop(struct pm_agent_bind *b)
{
    struct event **events[] = {&b->readable, &b->timer};
    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
        if (*events[i])
            event_free(*events[i]);
        *events[i] = NULL;
    }
    if (b->fd >= 0)
        close(b->fd);
    b->fd = -1;
}

static void finish(struct agent *a)
{
    struct pm_agent_bind *b = a->bind;
    stop(b);
    int rc = b->why[0] ? 0 : pm_picture_read(b->bytes.data, b->bytes.len, &b->picture);
    if (rc < 0 && b->bytes.len == 0)
        snprintf(b->why, sizeof(b->why), "pm-discover ended without an answer");
    else if (rc < 0)
        snprintf(b->why, sizeof(b->why), "what pm-discover found cannot be read: %s", strerror(-rc));
    else if (!b->why[0])
        memcpy(b->why, b->picture.error, sizeof(b->why));
    pm_writer_done(&b->bytes);
    pm_servers_release(a);
}

static void give_up(struct agent *a, const char *why)
{
    snprintf(a->bind->why, sizeof(a->bind->why), "%s", why);
    kill(-a->bind->pid, SIGKILL);
    kill(a->bind->pid, SIGKILL);  // it may not have its group yet
    finish(a);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    give_up(arg, "reading the topology of this host takes longer than 5 s");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    static uint8_t piece[PIECE];
    struct agent *a = arg;
    ssize_t n = read(fd, piece, sizeof(piece));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        finish(a);
        return;
    }
    pm_write_raw(&a->bind->bytes, piece, (size_t)n);
    if (a->bind->bytes.error || a->bind->bytes.len > PICTURE_MAX)
        give_up(a, "what pm-discover found is too large");
}

__attribute__((noreturn)) static void become(const struct agent *a, int fd)
{
    char path[PM_AGENT_PATH_CAP];
    snprintf(path, sizeof(path), "%s/pm-discover", a->config.libexec);
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, pm_signals_old_mask(a->signals), NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != 1 && dup2(fd, STDOUT_FILENO) == STDOUT_FILENO)
        execl(path, "pm-discover", a->config.has_gpus ? NULL : "--no-gpus", (char *)NULL);
    _exit(127);
}

static int watch(struct agent *a)
{
    struct pm_agent_bind *b = a->bind;
    struct timeval tv = pm_timeval_of_ms(LIMIT_MS);
    b->readable = event_new(a->base, b->fd, EV_READ | EV_PERSIST, on_readable, a);
    b->timer = evtimer_new(a->base, on_timer, a);
    return !b->readable || !b->timer || event_add(b->readable, NULL) || evtimer_add(b->timer, &tv) ? -ENOMEM : 0;
}

int pm_bind_picture_open(struct agent *a)
{
    struct pm_agent_bind *b = a->bind;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    b->fd = ends[0];
    int rc = pm_fd_nonblock(b->fd);
    if (rc == 0)
        rc = watch(a);
    b->pid = rc == 0 ? fork() : 0;
    if (rc == 0 && b->pid == 0)
        become(a, ends[1]);
    if (b->pid < 0)
        rc = -errno;
    close(ends[1]);
    if (rc < 0)
        stop(b);
    return rc;
}

void pm_bind_picture_done(struct agent *a)
{
    if (a->bind->fd >= 0)
        kill(-a->bind->pid, SIGKILL);
    stop(a->bind);
    pm_writer_done(&a->bind->bytes);
    pm_picture_done(&a->bind->picture);
}
