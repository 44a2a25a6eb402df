// SPDX-License-Identifier: Apache-2.0
//
// See tree.h. A pass is a breadth-first walk that fills a list of pids; two passes with the same
// list mean that the tree stands still. Memory is kept between passes and given back at the end.
//
// Without memory or descriptors a pass is cut short, which is told; a kill goes on where the tree has been
// thinned out. The first pids and the look at our own children need no memory.
#include "plugin/shim/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PASSES 64
#define FIRST_PIDS 64

struct pids {
    pid_t *list;
    size_t n;
    size_t cap;
    bool is_cut;  // somebody may be missing
};

// Two passes are held at a time.
static pid_t first[2][FIRST_PIDS];

static struct pids pids_in(pid_t *room)
{
    return (struct pids){.list = room, .cap = FIRST_PIDS};
}

static bool is_on_heap(const struct pids *p)
{
    return p->list != first[0] && p->list != first[1];
}

static void pids_free(struct pids *p)
{
    if (is_on_heap(p))
        free(p->list);
}

static void pids_add(struct pids *p, pid_t pid)
{
    if (p->n == p->cap) {
        pid_t *list = realloc(is_on_heap(p) ? p->list : NULL, p->cap * 2 * sizeof *list);
        if (!list) {
            p->is_cut = true;
            return;
        }
        if (!is_on_heap(p))
            memcpy(list, p->list, p->n * sizeof *list);
        p->list = list;
        p->cap *= 2;
    }
    p->list[p->n++] = pid;
}

// After a call on the /proc of a process has failed: one that has ended has no children any more, and one
// that we may not look at is not ours to signal. We have not ended: whatever hides our own, there may be some.
static void note_failure(pid_t pid, struct pids *found)
{
    bool is_gone = errno == ENOENT || errno == ESRCH || errno == EACCES || errno == EPERM;
    if (!is_gone || pid == getpid())
        found->is_cut = true;
}

// "/proc/PID/task/TID/children" without stdio: pm-shim has to stay small.
static char *put_text(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    *at = '\0';
    return at;
}

static char *put_pid(char *at, pid_t pid)
{
    char digits[16];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + pid % 10);
    while ((pid /= 10) > 0);
    while (n > 0)
        *at++ = digits[--n];
    *at = '\0';
    return at;
}

static bool is_listed(pid_t pid, const pid_t *list)
{
    while (list && *list && *list != pid)
        list++;
    return list && *list;
}

// Appends the pids in an open children file ("12 13 14 ") to `found`. False: it could not be read.
static bool read_children(int fd, const pid_t *except, struct pids *found)
{
    char buf[1024];
    pid_t pid = 0;
    ssize_t len;
    while ((len = read(fd, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < len; i++) {
            if (buf[i] >= '0' && buf[i] <= '9') {
                pid = pid * 10 + (buf[i] - '0');
                continue;
            }
            if (pid > 0 && !is_listed(pid, except))
                pids_add(found, pid);
            pid = 0;
        }
    }
    return len == 0;
}

static int open_children(pid_t pid, const char *task)
{
    char path[64 + 32];
    char *at = put_pid(put_text(path, "/proc/"), pid);
    at = put_text(at, "/task/");
    at = put_text(at, task);
    put_text(at, "/children");
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void add_children_of_task(pid_t pid, const char *task, const pid_t *except, struct pids *found)
{
    int fd = open_children(pid, task);
    if (fd < 0 || !read_children(fd, except, found))
        note_failure(pid, found);
    if (fd >= 0)
        close(fd);
}

// Of its main thread: needs no memory, and we and the agent's janitor have no other.
static void add_children_of_main(pid_t pid, const pid_t *except, struct pids *found)
{
    char task[16];
    put_pid(task, pid);
    add_children_of_task(pid, task, except, found);
}

// The children of every thread of `pid`; nothing if it has just ended.
static void add_children(pid_t pid, const pid_t *except, struct pids *found)
{
    char path[64];
    put_text(put_pid(put_text(path, "/proc/"), pid), "/task");
    DIR *dir = opendir(path);
    if (!dir) {
        note_failure(pid, found);
        add_children_of_main(pid, except, found);
        return;
    }
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)); errno = 0)
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && strlen(entry->d_name) <= 16)
            add_children_of_task(pid, entry->d_name, except, found);
    if (errno)
        note_failure(pid, found);
    closedir(dir);
}

static void walk(const pid_t *except, struct pids *found)
{
    found->n = 0;
    found->is_cut = false;
    add_children_of_main(getpid(), except, found);
    for (size_t i = 0; i < found->n; i++)
        add_children(found->list[i], except, found);
}

static void signal_all(const struct pids *p, int signal)
{
    // ESRCH: it has ended. EPERM: a setuid program; nothing else of ours may signal it either.
    for (size_t i = 0; i < p->n; i++)
        (void)kill(p->list[i], signal);
}

static int compare(const void *a, const void *b)
{
    pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;
    return (x > y) - (x < y);
}

// Every pid of `now` is in `before`. Sorts both.
static bool nobody_new(struct pids *now, struct pids *before)
{
    if (now->n)
        qsort(now->list, now->n, sizeof *now->list, compare);
    if (before->n)
        qsort(before->list, before->n, sizeof *before->list, compare);
    size_t k = 0;
    for (size_t i = 0; i < now->n; i++) {
        while (k < before->n && before->list[k] < now->list[i])
            k++;
        if (k == before->n || before->list[k] != now->list[i])
            return false;
    }
    return true;
}

// Stops until a pass finds nobody new; the last pass is in *ret. False: somebody may have been missed.
static bool stop_until_still(const pid_t *except, struct pids *ret)
{
    struct pids before = pids_in(first[0]);
    bool is_still = false;
    *ret = pids_in(first[1]);
    for (int pass = 0; pass < MAX_PASSES && !is_still; pass++) {
        struct pids last = before;
        before = *ret;
        *ret = last;
        walk(except, ret);
        signal_all(ret, SIGSTOP);
        is_still = nobody_new(ret, &before);
    }
    pids_free(&before);
    return is_still && !ret->is_cut;
}

bool pm_tree_supported(void)
{
    char task[16];
    put_pid(task, getpid());
    int fd = open_children(getpid(), task);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

bool pm_tree_empty(const pid_t *except)
{
    struct pids found = pids_in(first[0]);
    add_children_of_main(getpid(), except, &found);
    bool empty = found.n == 0 && !found.is_cut;
    pids_free(&found);
    return empty;
}

bool pm_tree_stop(const pid_t *except)
{
    struct pids found;
    bool all = stop_until_still(except, &found);
    pids_free(&found);
    return all;
}

bool pm_tree_resume(const pid_t *except)
{
    struct pids found = pids_in(first[0]);
    walk(except, &found);
    signal_all(&found, SIGCONT);
    pids_free(&found);
    return !found.is_cut;
}

size_t pm_tree_kill(const pid_t *except)
{
    struct pids found;
    (void)stop_until_still(except, &found);
    signal_all(&found, SIGKILL);
    pids_free(&found);
    return found.n;
}

void pm_tree_kill_below(pid_t child)
{
    struct pids found = pids_in(first[0]);
    add_children_of_main(child, NULL, &found);
    signal_all(&found, SIGKILL);
    pids_free(&found);
}
