// SPDX-License-Identifier: Apache-2.0
//
// See kth.h and kth_calls.h. The program's own definitions come before those of the C library, for libevent
// too. Without a failure each hands over to the library's.
#include "tests/kth/kth_calls.h"

#include <errno.h>
#include <ifaddrs.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tests/kth/kth.h"
#include "tests/kth/kth_stands_for.h"

static enum kth_calls_mode mode;

void kth_calls_mode(enum kth_calls_mode new_mode)
{
    mode = new_mode;
}

// A call that cannot be interrupted fails with `error` when its turn comes.
#define STANDS_FOR(ret, name, params, args, error) \
    KTH_STANDS_FOR(mode == KTH_CALLS_FAIL, ret, name, params, args, -1, error)

// One that can: in the other modes it is interrupted, finds nothing to do, or does only a part.
#define STANDS_FOR_TRANSFER(name, params, args, shorter, error)                                    \
    ssize_t name params                                                                            \
    {                                                                                              \
        static void *cache;                                                                        \
        ssize_t(*next) params = (ssize_t(*) params)kth_next_of(&cache, #name);                         \
        if (mode == KTH_CALLS_ARE_NOT_TRIED || !kth_fails(__builtin_return_address(0)))            \
            return next args;                                                                      \
        if (mode == KTH_CALLS_DO_A_PART)                                                           \
            return next shorter;                                                                   \
        errno = mode == KTH_CALLS_FAIL ? error : mode == KTH_CALLS_ARE_INTERRUPTED ? EINTR : EAGAIN; \
        return -1;                                                                                 \
    }

STANDS_FOR(int, socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE)
STANDS_FOR(int, connect, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len), ENETUNREACH)
STANDS_FOR(int, bind, (int fd, const struct sockaddr *addr, socklen_t len), (fd, addr, len), EADDRINUSE)
STANDS_FOR(int, listen, (int fd, int n), (fd, n), EADDRINUSE)
STANDS_FOR(int, getsockname, (int fd, struct sockaddr *addr, socklen_t *len), (fd, addr, len), ENOBUFS)
STANDS_FOR(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),
           (fd, level, name, value, len), ENOBUFS)
STANDS_FOR(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
           (fd, level, name, value, len), ENOBUFS)
STANDS_FOR(int, getifaddrs, (struct ifaddrs **all), (all), ENOMEM)
STANDS_FOR(int, epoll_create1, (int flags), (flags), EMFILE)
STANDS_FOR(int, epoll_create, (int size), (size), EMFILE)
STANDS_FOR(int, epoll_ctl, (int epoll, int op, int fd, struct epoll_event *event),
           (epoll, op, fd, event), ENOMEM)
STANDS_FOR(int, eventfd, (unsigned value, int flags), (value, flags), EMFILE)
STANDS_FOR(int, timerfd_create, (clockid_t clock, int flags), (clock, flags), EMFILE)
STANDS_FOR(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), EMFILE)
STANDS_FOR(int, pipe2, (int fds[2], int flags), (fds, flags), EMFILE)
STANDS_FOR(int, pipe, (int fds[2]), (fds), EMFILE)
STANDS_FOR(int, fork, (void), (), EAGAIN)

// A local socket gives ECONNRESET only when all has been read.
static int error_of_recv(int fd)
{
    int domain = 0;
    socklen_t len = sizeof(domain);
    (void)syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    return domain == AF_UNIX ? ENOMEM : ECONNRESET;
}

STANDS_FOR_TRANSFER(recv, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags),
                    (fd, buf, len ? 1 : 0, flags), error_of_recv(fd))

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    static void *cache;
    ssize_t (*next)(int, const struct msghdr *, int) = kth_next_of(&cache, "sendmsg");
    if (mode == KTH_CALLS_ARE_NOT_TRIED || !kth_fails(__builtin_return_address(0)))
        return next(fd, msg, flags);
    if (mode != KTH_CALLS_DO_A_PART) {
        errno = mode == KTH_CALLS_FAIL ? EPIPE : mode == KTH_CALLS_ARE_INTERRUPTED ? EINTR : EAGAIN;
        return -1;
    }
    for (size_t i = 0; i < msg->msg_iovlen; i++)
        if (msg->msg_iov[i].iov_len)
            return send(fd, msg->msg_iov[i].iov_base, 1, flags);
    return next(fd, msg, flags);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    static void *cache;
    int (*next)(int, struct sockaddr *, socklen_t *, int) = kth_next_of(&cache, "accept4");
    bool tried = mode == KTH_CALLS_FAIL || mode == KTH_CALLS_ARE_INTERRUPTED;
    if (!tried || !kth_fails(__builtin_return_address(0)))
        return next(fd, addr, len, flags);
    errno = mode == KTH_CALLS_FAIL ? EMFILE : EINTR;
    return -1;
}
