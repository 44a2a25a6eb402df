// SPDX-License-Identifier: Apache-2.0
//
// See tree.h. A pass is a breadth-first walk that fills a list of pids; two passes with the same
// list mean that the tree stands still. Memory is kept between passes and given back at the end;
// without memory a pass is cut short, and the next one goes on where the tree has been thinned out.
#include "plugin/shim/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PASSES 64

struct pids {
    pid_t *list;
    size_t n;
    size_t cap;
};

static void pids_add(struct pids *p, pid_t pid)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        pid_t *list = realloc(p->list, cap * sizeof *list);
        if (!list)
            return;
        p->list = list;
        p->cap = cap;
    }
    p->list[p->n++] = pid;
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

// Appends the pids in an open children file ("12 13 14 ") to `found`.
static void read_children(int fd, const pid_t *except, struct pids *found)
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

// The children of every thread of `pid`; nothing if it has just ended.
static void add_children(pid_t pid, const pid_t *except, struct pids *found)
{
    char path[64];
    put_text(put_pid(put_text(path, "/proc/"), pid), "/task");
    DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || strlen(entry->d_name) > 16)
            continue;
        int fd = open_children(pid, entry->d_name);
        if (fd < 0)
            continue;
        read_children(fd, except, found);
        close(fd);
    }
    closedir(dir);
}

static void walk(const pid_t *except, struct pids *found)
{
    found->n = 0;
    add_children(getpid(), except, found);
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

// Stops until a pass finds nobody new; the last pass is in *ret (free ret->list).
static void stop_until_still(const pid_t *except, struct pids *ret)
{
    struct pids before = {0};
    *ret = (struct pids){0};
    for (int pass = 0; pass < MAX_PASSES; pass++) {
        struct pids last = before;
        before = *ret;
        *ret = last;
        walk(except, ret);
        signal_all(ret, SIGSTOP);
        if (nobody_new(ret, &before))
            break;
    }
    free(before.list);
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
    struct pids found = {0};
    add_children(getpid(), except, &found);
    bool empty = found.n == 0;
    free(found.list);
    return empty;
}

void pm_tree_stop(const pid_t *except)
{
    struct pids found;
    stop_until_still(except, &found);
    free(found.list);
}

void pm_tree_resume(const pid_t *except)
{
    struct pids found = {0};
    walk(except, &found);
    signal_all(&found, SIGCONT);
    free(found.list);
}

size_t pm_tree_kill(const pid_t *except)
{
    struct pids found;
    stop_until_still(except, &found);
    signal_all(&found, SIGKILL);
    size_t n = found.n;
    free(found.list);
    return n;
}
