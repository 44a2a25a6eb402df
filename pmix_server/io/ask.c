// SPDX-License-Identifier: Apache-2.0
//
// See ask.h for the contract.
#include "pmix_server/io/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/io/util.h"

#define ANSWER_MAX (16u << 20)  // bytes; more is no answer

struct pm_ask {
    struct pm_children *children;
    pid_t pid;  // 0: it has ended
    int fd;
    struct event *readable;
    struct event *limit;
    char *text;
    size_t len, cap;
    pm_ask_f answered;
    void *arg;
};

struct pm_ask *pm_ask_end(struct pm_ask *a)
{
    if (!a)
        return NULL;
    if (a->pid) {
        pm_children_forget(a->children, a->pid);
        kill(a->pid, SIGKILL);
    }
    if (a->readable)
        event_free(a->readable);
    if (a->limit)
        event_free(a->limit);
    if (a->fd >= 0)
        close(a->fd);
    free(a->text);
    free(a);
    return NULL;
}

static void answer(struct pm_ask *a, bool good)
{
    pm_ask_f answered = a->answered;
    void *arg = a->arg;
    char *text = good ? a->text : NULL;
    if (good)
        a->text = NULL;
    pm_ask_end(a);
    answered(text, arg);
    free(text);
}

// Room for some more, and for a NUL.
static bool grow(struct pm_ask *a)
{
    if (a->len + 1 < a->cap)
        return true;
    size_t cap = a->cap ? 2 * a->cap : 256;
    char *text = cap <= ANSWER_MAX ? realloc(a->text, cap) : NULL;
    if (!text)
        return false;
    a->text = text;
    a->cap = cap;
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct pm_ask *a = arg;
    ssize_t n = 1;
    while (n > 0 && grow(a)) {
        n = read(fd, a->text + a->len, a->cap - a->len - 1);
        a->len += n > 0 ? (size_t)n : 0;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0)
        a->text[a->len] = '\0';
    answer(a, n == 0 && a->len > 0);
}

static void on_limit(evutil_socket_t fd, short what, void *arg) { answer(arg, false); }

static void on_ended(pid_t pid, int status, void *arg) { ((struct pm_ask *)arg)->pid = 0; }

__attribute__((noreturn)) static void become_command(const struct pm_question *q, int fd)
{
    char path[PATH_MAX];
    const char *slash = strrchr(q->near, '/');
    snprintf(path, sizeof(path), "%.*s/%s", slash ? (int)(slash - q->near) : 1, slash ? q->near : ".", q->argv[0]);
    sigprocmask(SIG_SETMASK, q->mask, NULL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(fd, 1);
    dup2(null, 2);
    pm_fd_close_from(STDERR_FILENO + 1);  // srun's words may name some, for srun alone
    if (q->variable)
        putenv((char *)(uintptr_t)q->variable);
    execv(path, (char *const *)(uintptr_t)q->argv);
    execvp(q->argv[0], (char *const *)(uintptr_t)q->argv);
    _exit(127);
}

static int start(struct pm_ask *a, const struct pm_question *q, int fd)
{
    pid_t pid = fork();
    if (pid == 0)
        become_command(q, fd);
    if (pid < 0)
        return -errno;
    a->pid = pid;
    return pm_children_watch(a->children, pid, on_ended, a);
}

int pm_ask_begin(const struct pm_question *q, struct pm_ask **ret)
{
    int fds[2];
    struct timeval tv = pm_timeval_of_ms(q->limit_ms);
    struct pm_ask *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    *a = (struct pm_ask){.children = q->children, .fd = -1, .answered = q->answered, .arg = q->arg};
    if (pipe2(fds, O_CLOEXEC) < 0) {
        int r = -errno;
        pm_ask_end(a);
        return r;
    }
    a->fd = fds[0];
    int r = pm_fd_nonblock(fds[0]);
    if (r == 0)
        r = start(a, q, fds[1]);
    close(fds[1]);
    a->readable = r == 0 ? event_new(q->base, fds[0], EV_READ | EV_PERSIST, on_readable, a) : NULL;
    a->limit = a->readable ? evtimer_new(q->base, on_limit, a) : NULL;
    if (r == 0 && (!a->limit || event_add(a->readable, NULL) || evtimer_add(a->limit, &tv)))
        r = -ENOMEM;
    if (r < 0)
        pm_ask_end(a);
    else
        *ret = a;
    return r;
}
