// SPDX-License-Identifier: Apache-2.0
//
// See lines.h for the contract.
#include "pmix_server/io/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/io/util.h"

#define NOTICE_CAP 128u
#define EOL_CAP 2u
#define NS_PER_MS 1000000u

enum way {
    WAY_DIRECT = 0,  // never waits
    WAY_OWN,         // an open description of our own, with O_NONBLOCK
    WAY_ASK,         // poll() before each write()
    WAY_SOCKET,
};

struct pm_lines {
    enum way way;
    int fd;
    int own_fd;  // -1: fd is the caller's
    const char *eol;
    struct event *writable;  // NULL: WAY_DIRECT; should it not take all at once, the next line tries again
    uint64_t dropped;        // lines, after those that wait
    size_t begin, end;       // of what waits
    char queue[PM_LINES_WAIT];
};

static void push(struct pm_lines *l);

static void on_writable(evutil_socket_t fd, short what, void *arg) { push(arg); }

static void choose_way(struct pm_lines *l)
{
    char path[32];
    struct stat st;
    if (fstat(l->fd, &st) < 0)
        return;
    if (S_ISSOCK(st.st_mode))
        l->way = WAY_SOCKET;
    if (!S_ISFIFO(st.st_mode) && !isatty(l->fd))
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", l->fd);
    l->own_fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    l->way = l->own_fd < 0 ? WAY_ASK : WAY_OWN;
    if (l->own_fd >= 0)
        l->fd = l->own_fd;
}

int pm_lines_new(struct event_base *base, int fd, bool raw, struct pm_lines **ret)
{
    struct pm_lines *l = malloc(sizeof(*l));  // not calloc(): the queue is hardly ever used
    if (!l)
        return -ENOMEM;
    *ret = l;
    l->way = WAY_DIRECT;
    l->fd = fd;
    l->own_fd = -1;
    l->eol = raw ? "\r\n" : "\n";
    l->writable = NULL;
    l->dropped = 0;
    l->begin = l->end = 0;
    choose_way(l);
    if (l->way == WAY_DIRECT)
        return 0;
    l->writable = event_new(base, l->fd, EV_WRITE, on_writable, l);
    if (l->writable)
        return 0;
    *ret = pm_lines_free(l);
    return -ENOMEM;
}

struct pm_lines *pm_lines_free(struct pm_lines *l)
{
    if (!l)
        return NULL;
    if (l->writable)
        event_free(l->writable);
    if (l->own_fd >= 0)
        close(l->own_fd);
    free(l);
    return NULL;
}

// --- the queue -----------------------------------------------------------------------------------------

static bool has_room(struct pm_lines *l, size_t len)
{
    if (len > PM_LINES_WAIT - l->end && l->begin) {
        memmove(l->queue, l->queue + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    return len <= PM_LINES_WAIT - l->end;
}

static void append(struct pm_lines *l, const char *text, size_t len)
{
    size_t len_eol = strlen(l->eol);
    memcpy(l->queue + l->end, text, len);
    memcpy(l->queue + l->end + len, l->eol, len_eol);
    l->end += len + len_eol;
}

static void append_notice(struct pm_lines *l)
{
    char text[NOTICE_CAP];
    int len = snprintf(text, sizeof(text), "pm-supervise: %" PRIu64 " line%s not shown, as nobody read", l->dropped,
                       l->dropped == 1 ? " was" : "s were");
    l->dropped = 0;
    append(l, text, (size_t)len);
}

static void forget(struct pm_lines *l)
{
    l->begin = l->end = 0;
    l->dropped = 0;
}

// --- writing -------------------------------------------------------------------------------------------

static ssize_t write_some(const struct pm_lines *l, const char *data, size_t len)
{
    struct pollfd p = {.fd = l->fd, .events = POLLOUT};
    if (l->way == WAY_SOCKET)
        return send(l->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (l->way == WAY_ASK && poll(&p, 1, 0) <= 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(l->fd, data, len);
}

// The rest of the first line, or as much of it as a pipe with room takes at once. 0 or negative errno.
static int write_line(struct pm_lines *l)
{
    const char *at = l->queue + l->begin;
    size_t len = l->end - l->begin;
    const char *eol = memchr(at, '\n', len);
    len = eol ? (size_t)(eol - at) + 1 : len;
    ssize_t n = write_some(l, at, len < PIPE_BUF ? len : PIPE_BUF);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    l->begin += (size_t)n;
    return 0;
}

static void push(struct pm_lines *l)
{
    int r = 0;
    while (r == 0 && (l->begin < l->end || l->dropped)) {
        if (l->begin == l->end)
            append_notice(l);
        r = write_line(l);
        if (l->begin == l->end)
            l->begin = l->end = 0;
    }
    if (r < 0 && r != -EAGAIN)
        forget(l);
    else if (r < 0 && l->writable)
        (void)event_add(l->writable, NULL);  // without memory the next line, or the end, tries again
}

void pm_lines_put(struct pm_lines *l, const char *text, size_t len)
{
    if (!has_room(l, len + EOL_CAP + (l->dropped ? NOTICE_CAP : 0))) {
        l->dropped++;
    } else {
        if (l->dropped)
            append_notice(l);
        append(l, text, len);
    }
    push(l);
}

void pm_lines_flush(struct pm_lines *l, uint64_t idle_ms, uint64_t whole_ms)
{
    uint64_t now_ns = pm_clock_ns(), end_ns = now_ns + whole_ms * NS_PER_MS, idle_ns = now_ns + idle_ms * NS_PER_MS;
    size_t before = 0;
    for (push(l); l->begin < l->end; push(l)) {
        struct pollfd p = {.fd = l->fd, .events = POLLOUT};
        now_ns = pm_clock_ns();
        if (l->begin != before)
            idle_ns = now_ns + idle_ms * NS_PER_MS;
        before = l->begin;
        uint64_t until_ns = idle_ns < end_ns ? idle_ns : end_ns;
        if (now_ns >= until_ns)
            return;
        (void)poll(&p, 1, (int)((until_ns - now_ns) / NS_PER_MS) + 1);
    }
}
