// SPDX-License-Identifier: Apache-2.0
//
// See signals.h for the contract.
#include "pmix_server/io/signals.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct pm_signals {
    int fd;
    struct event *event;
    sigset_t old_mask;
    void (*handler)(const struct signalfd_siginfo *info, void *arg);
    void *arg;
};

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct pm_signals *s = arg;
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof(info)) == sizeof(info))
        s->handler(&info, s->arg);
}

int pm_signals_new(struct event_base *base, const sigset_t *set,
                   void (*handler)(const struct signalfd_siginfo *info, void *arg), void *arg,
                   struct pm_signals **ret)
{
    struct pm_signals *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->handler = handler;
    s->arg = arg;
    s->fd = signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC);
    int r = s->fd < 0 ? -errno : 0;
    if (r == 0) {
        s->event = event_new(base, s->fd, EV_READ | EV_PERSIST, on_signal, s);
        if (!s->event || event_add(s->event, NULL))
            r = -ENOMEM;
    }
    if (r < 0) {
        pm_signals_free(s);
        return r;
    }
    sigprocmask(SIG_BLOCK, set, &s->old_mask);
    *ret = s;
    return 0;
}

struct pm_signals *pm_signals_free(struct pm_signals *s)
{
    if (!s)
        return NULL;
    if (s->event)
        event_free(s->event);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
    return NULL;
}

const sigset_t *pm_signals_old_mask(const struct pm_signals *s) { return &s->old_mask; }
