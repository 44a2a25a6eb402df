// SPDX-License-Identifier: Apache-2.0
//
// See resolve.h for the contract. The answer is an array of struct sockaddr_storage from our own
// fork: at most PM_RESOLVE_MAX of them, less than PIPE_BUF together, so it arrives in one piece.
#include "pmix_server/io/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "pmix_server/io/util.h"

_Static_assert(PM_RESOLVE_MAX * sizeof(struct sockaddr_storage) <= PIPE_BUF, "one write");

struct pm_resolve {
    struct pm_resolve_config config;
    struct event *event;
    int fd;
    pid_t pid;
};

static void child_ask(const char *name, int fd)
{
    struct sockaddr_storage out[PM_RESOLVE_MAX] = {0};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found = NULL;
    size_t n = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getaddrinfo(name, NULL, &hints, &found) == 0) {
        for (struct addrinfo *i = found; i && n < PM_RESOLVE_MAX; i = i->ai_next) {
            if (i->ai_addrlen <= sizeof(out[0]))
                memcpy(&out[n++], i->ai_addr, i->ai_addrlen);
        }
    }
    if (n)
        (void)!write(fd, out, n * sizeof(out[0]));
    _exit(0);
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct pm_resolve *r = arg;
    struct sockaddr_storage addresses[PM_RESOLVE_MAX];
    ssize_t n = what & EV_READ ? read(r->fd, addresses, sizeof(addresses)) : 0;
    struct pm_resolve_config config = r->config;
    if (what & EV_READ)
        r->pid = 0;  // it has answered or ended, and may have been reaped
    pm_resolve_free(r);
    config.done(addresses, n > 0 ? (size_t)n / sizeof(addresses[0]) : 0, config.arg);
}

int pm_resolve_new(const struct pm_resolve_config *config, struct pm_resolve **ret)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        child_ask(config->name, fds[1]);
    int error = errno;
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return -error;
    }
    struct pm_resolve *r = calloc(1, sizeof(*r));
    struct event *event = r ? event_new(config->base, fds[0], EV_READ, on_answer, r) : NULL;
    struct timeval tv = pm_timeval_of_ms(config->timeout_ms);
    if (!event || event_add(event, &tv)) {
        kill(pid, SIGKILL);
        if (event)
            event_free(event);
        free(r);
        close(fds[0]);
        return -ENOMEM;
    }
    *r = (struct pm_resolve){.config = *config, .event = event, .fd = fds[0], .pid = pid};
    r->config.name = NULL;
    *ret = r;
    return 0;
}

struct pm_resolve *pm_resolve_free(struct pm_resolve *r)
{
    if (!r)
        return NULL;
    if (r->pid)
        kill(r->pid, SIGKILL);
    event_free(r->event);
    close(r->fd);
    free(r);
    return NULL;
}
