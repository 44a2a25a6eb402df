// SPDX-License-Identifier: Apache-2.0
//
// System calls on files, memory and local sockets that fail on demand; see kth.h.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kth/kth_stands_for.h"

static bool is_tried = true;
static int open_error = EMFILE;

void kth_files_are_tried(bool tried)
{
    is_tried = tried;
}

void kth_open_fails_with(int error)
{
    open_error = error;
}

KTH_STANDS_FOR(true, DIR *, opendir, (const char *path), (path), NULL, ENOMEM)
KTH_STANDS_FOR(is_tried, ssize_t, read, (int fd, void *buf, size_t len), (fd, buf, len), -1, EIO)

KTH_STANDS_FOR(is_tried, ssize_t, pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at), -1, EIO)
KTH_STANDS_FOR(is_tried, FILE *, fopen, (const char *path, const char *how), (path, how), NULL, ENOMEM)
KTH_STANDS_FOR(is_tried, int, mkdir, (const char *path, mode_t rights), (path, rights), -1, ENOSPC)
KTH_STANDS_FOR(is_tried, char *, mkdtemp, (char *name), (name), NULL, ENOSPC)
KTH_STANDS_FOR(is_tried, int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE)
KTH_STANDS_FOR(is_tried, int, ftruncate, (int fd, off_t len), (fd, len), -1, ENOMEM)
KTH_STANDS_FOR(is_tried, void *, mmap, (void *at, size_t len, int rights, int flags, int fd, off_t from),
               (at, len, rights, flags, fd, from), MAP_FAILED, ENOMEM)
KTH_STANDS_FOR(is_tried, int, dup2, (int old, int new), (old, new), -1, EBUSY)
KTH_STANDS_FOR(is_tried, int, dup3, (int old, int new, int flags), (old, new, flags), -1, EBUSY)
KTH_STANDS_FOR(is_tried, int, socketpair, (int domain, int type, int protocol, int fds[2]),
               (domain, type, protocol, fds), -1, EMFILE)
KTH_STANDS_FOR(is_tried, ssize_t, send, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags),
               -1, ENOBUFS)
KTH_STANDS_FOR(is_tried, int, poll, (struct pollfd *fds, nfds_t n, int timeout_ms), (fds, n, timeout_ms), -1, ENOMEM)
KTH_STANDS_FOR(is_tried, int, execve, (const char *path, char *const argv[], char *const env[]), (path, argv, env),
               -1, ENOMEM)
KTH_STANDS_FOR(is_tried, int, posix_spawn,
               (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const env[]),
               (pid, path, actions, attributes, argv, env), EAGAIN, EAGAIN)
KTH_STANDS_FOR(is_tried, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags),
               -1, ENOMEM)

// With one more argument, which is some number if there is none.
#define VARIADIC(name, type, error)                                                                \
    int name(type what, int how, ...)                                                              \
    {                                                                                              \
        static void *cache;                                                                        \
        int (*next)(type, int, ...) = (int (*)(type, int, ...))kth_next_of(&cache, #name);         \
        va_list args;                                                                              \
        va_start(args, how);                                                                       \
        void *more = va_arg(args, void *);                                                         \
        va_end(args);                                                                              \
        if (is_tried && kth_fails(__builtin_return_address(0))) {                                  \
            errno = error;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
        return next(what, how, more);                                                              \
    }

VARIADIC(open, const char *, open_error)
VARIADIC(fcntl, int, EMFILE)
