// SPDX-License-Identifier: Apache-2.0
//
// System calls on files that fail on demand; see kth.h.
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

#include "tests/kth/kth_stands_for.h"

static bool is_tried = true;

void kth_files_are_tried(bool tried)
{
    is_tried = tried;
}

KTH_STANDS_FOR(true, DIR *, opendir, (const char *path), (path), NULL, ENOMEM)
KTH_STANDS_FOR(is_tried, ssize_t, read, (int fd, void *buf, size_t len), (fd, buf, len), -1, EIO)

int open(const char *path, int flags, ...)
{
    static void *cache;
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))kth_next_of(&cache, "open");
    va_list args;
    va_start(args, flags);
    int mode = va_arg(args, int);  // some number if there is none
    va_end(args);
    if (is_tried && kth_fails(__builtin_return_address(0))) {
        errno = EMFILE;
        return -1;
    }
    return next(path, flags, mode);
}
