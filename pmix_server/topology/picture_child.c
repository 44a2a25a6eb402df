// SPDX-License-Identifier: Apache-2.0
//
// See picture.h: a picture that another process takes. It writes to a pipe; the end of the pipe is the end
// of the picture, however the process ended.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/topology/picture.h"

#define PIECE 65536

int pm_picture_send(int fd, const struct pm_writer *w)
{
    for (size_t at = 0; at < w->len;) {
        ssize_t n = write(fd, w->data + at, w->len - at);
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Everything that comes until the other end is closed: 0, -ETIME, -ENOMEM.
static int receive(int fd, int limit_ms, struct pm_writer *into)
{
    static uint8_t piece[PIECE];
    int64_t end_ms = now_ms() + limit_ms;
    for (;;) {
        int64_t left_ms = end_ms - now_ms();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (left_ms <= 0 || poll(&ready, 1, (int)left_ms) == 0)
            return -ETIME;
        ssize_t n = read(fd, piece, sizeof(piece));
        if (n == 0)
            return into->error;
        if (n > 0)
            pm_write_raw(into, piece, (size_t)n);
        else if (errno != EINTR)
            return -errno;
    }
}

static void child(int fd, pm_picture_take_f *take, const char *root_or_path)
{
    struct pm_picture picture;
    struct pm_writer w = {0};
    prctl(PR_SET_DUMPABLE, 0);  // a crash of it is told in a sentence, and leaves no core file
    take(root_or_path, &picture);
    pm_picture_write(&w, &picture);
    _exit(w.error == 0 && pm_picture_send(fd, &w) == 0 ? 0 : 1);
}

// What became of a process that gave no picture; one that cannot be killed is not waited for.
static void explain(pid_t pid, int rc, const char *what, int limit_ms, char *error)
{
    int status = 0;
    if (rc == -ETIME) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, WNOHANG);
        snprintf(error, PM_ERROR_CAP, "reading the topology of %s takes longer than %d s", what, limit_ms / 1000);
        return;
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        snprintf(error, PM_ERROR_CAP, "hwloc crashed on the topology of %s (%s): it is damaged", what,
                 strsignal(WTERMSIG(status)));
    else
        snprintf(error, PM_ERROR_CAP, "cannot read the topology of %s: %s", what, strerror(rc ? -rc : ENOMEM));
}

void pm_picture_in_child(pm_picture_take_f *take, const char *root_or_path, int limit_ms,
                         struct pm_picture *ret_picture)
{
    const char *what = root_or_path[0] ? root_or_path : "this host";
    struct pm_writer bytes = {0};
    int ends[2] = {-1, -1};
    *ret_picture = (struct pm_picture){0};
    pid_t pid = pipe(ends) < 0 ? -1 : fork();
    if (pid == 0)
        child(ends[1], take, root_or_path);
    int rc = pid < 0 ? -errno : 0;
    if (ends[1] >= 0)
        close(ends[1]);
    if (rc == 0)
        rc = receive(ends[0], limit_ms, &bytes);
    if (ends[0] >= 0)
        close(ends[0]);
    if (pid < 0)
        snprintf(ret_picture->error, PM_ERROR_CAP, "cannot read the topology of %s: %s", what, strerror(-rc));
    else if (rc < 0 || (rc = pm_picture_read(bytes.data, bytes.len, ret_picture)) < 0)
        explain(pid, rc, what, limit_ms, ret_picture->error);
    else
        waitpid(pid, NULL, 0);
    pm_writer_done(&bytes);
}
