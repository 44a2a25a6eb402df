// SPDX-License-Identifier: Apache-2.0
//
// See rank.h.
#include "plugin/shim/rank.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORK_NO_EXEC 0x40u  // PF_FORKNOEXEC, include/linux/sched.h
#define OOM_BONUS 100
#define OOM_MAX 1000

// --- START --------------------------------------------------------------------------------------

// One block: the pointers, then the strings. Each string needs a byte for its NUL, and brought a
// length of four bytes, so what is left of the packet is always room enough.
int pm_start_read(struct pm_reader *r, struct pm_shim_start *ret)
{
    struct pm_shim_start start = {.epoch = pm_read_u32(r), .incarnation = pm_read_u32(r)};
    pm_read_place(r, &start.place);
    uint32_t n = pm_read_u32(r);
    if (r->error || n > PM_SHIM_ENV_MAX)
        return -EBADMSG;
    start.entries = malloc((n + 1) * sizeof *start.entries + r->left);
    if (!start.entries) {
        *ret = start;
        return -ENOMEM;
    }
    char *text = (char *)(start.entries + n + 1);
    while (start.n < n) {
        size_t len;
        const uint8_t *at = pm_read_bytes(r, PM_SHIM_PACKET_MAX, &len);
        if (!at || memchr(at, '\0', len) || !memchr(at, '=', len))
            break;
        start.entries[start.n++] = memcpy(text, at, len);
        text[len] = '\0';
        text += len + 1;
    }
    start.entries[start.n] = NULL;
    if (start.n < n || pm_reader_end(r) < 0) {
        pm_start_free(&start);
        return -EBADMSG;
    }
    *ret = start;
    return 0;
}

void pm_start_write(struct pm_writer *w, const struct pm_shim_start *start)
{
    pm_write_u32(w, start->epoch);
    pm_write_u32(w, start->incarnation);
    pm_write_place(w, &start->place);
    pm_write_u32(w, start->n);
    for (uint32_t i = 0; i < start->n; i++)
        pm_write_str(w, start->entries[i]);
}

void pm_start_free(struct pm_shim_start *start)
{
    free(start->entries);
    *start = (struct pm_shim_start){0};
}

// --- fork ---------------------------------------------------------------------------------------

static int read_number(int fd)
{
    char buf[16] = "";
    if (pread(fd, buf, sizeof buf - 1, 0) <= 0)
        return 0;
    return atoi(buf);
}

static void write_number(int fd, int number)
{
    char buf[16];
    char *at = buf + sizeof buf;
    unsigned left = (unsigned)(number < 0 ? -number : number);
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0)
        *--at = '-';
    (void)!pwrite(fd, at, (size_t)(buf + sizeof buf - at), 0);
}

pid_t pm_rank_fork(int oom_fd)
{
    pid_t parent = getpid();
    int score = 0;
    // The child inherits the score. An un-exec'd child could not open its own file: it is not
    // dumpable, so /proc/self belongs to root; and going back down to the old score is allowed.
    if (oom_fd >= 0) {
        score = read_number(oom_fd);
        write_number(oom_fd, score + OOM_BONUS > OOM_MAX ? OOM_MAX : score + OOM_BONUS);
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(PM_EXIT_AGENT_GONE);
        return 0;
    }
    int error = errno;
    if (oom_fd >= 0)
        write_number(oom_fd, score);
    return pid < 0 ? -error : pid;
}

// --- the end ------------------------------------------------------------------------------------

// The 9th field of /proc/PID/stat; the 2nd one, "(comm)", may hold spaces and parentheses.
static unsigned process_flags(pid_t pid)
{
    char path[32] = "/proc/", buf[512];
    char digits[16];
    size_t n = 0, at = strlen(path);
    do
        digits[n++] = (char)('0' + pid % 10);
    while ((pid /= 10) > 0);
    while (n > 0)
        path[at++] = digits[--n];
    strcpy(path + at, "/stat");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (fd >= 0)
        close(fd);
    if (len <= 0)
        return 0;
    buf[len] = '\0';
    const char *field = strrchr(buf, ')');
    for (int i = 0; field && i < 7; i++)
        field = strchr(field + 1, ' ');
    return field ? (unsigned)strtoul(field, NULL, 10) : 0;
}

static uint64_t microseconds(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

void pm_rank_reap(struct pm_rank_end *end)
{
    struct rusage usage = {0};
    bool no_exec = process_flags(end->pid) & FORK_NO_EXEC;
    (void)wait4(end->pid, &end->status, 0, &usage);
    end->exec_failed = no_exec && WIFEXITED(end->status);
    end->user_us = microseconds(usage.ru_utime);
    end->system_us = microseconds(usage.ru_stime);
    end->maxrss_kib = (uint64_t)usage.ru_maxrss;
}
