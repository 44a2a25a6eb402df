// SPDX-License-Identifier: Apache-2.0
//
// See children.h for the contract.
#include "pmix_server/io/children.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/wait.h>

struct watch {
    pid_t pid;
    pm_child_f ended;
    void *arg;
    LIST_ENTRY(watch) entry;
};

struct pm_children {
    LIST_HEAD(, watch) watches;
};

struct pm_children *pm_children_new(void)
{
    struct pm_children *c = calloc(1, sizeof(*c));
    if (c)
        LIST_INIT(&c->watches);
    return c;
}

static struct watch *watch_of(struct pm_children *c, pid_t pid)
{
    struct watch *w;
    LIST_FOREACH(w, &c->watches, entry) {
        if (w->pid == pid)
            return w;
    }
    return NULL;
}

struct pm_children *pm_children_free(struct pm_children *c)
{
    while (c && !LIST_EMPTY(&c->watches))
        pm_children_forget(c, LIST_FIRST(&c->watches)->pid);
    free(c);
    return NULL;
}

int pm_children_watch(struct pm_children *c, pid_t pid, pm_child_f ended, void *arg)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    *w = (struct watch){.pid = pid, .ended = ended, .arg = arg};
    LIST_INSERT_HEAD(&c->watches, w, entry);
    return 0;
}

void pm_children_forget(struct pm_children *c, pid_t pid)
{
    struct watch *w = watch_of(c, pid);
    if (w) {
        LIST_REMOVE(w, entry);
        free(w);
    }
}

void pm_children_reap(struct pm_children *c, bool stops)
{
    int status;
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG | (stops ? WUNTRACED : 0));
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return;
        struct watch *w = watch_of(c, pid);
        if (!w)
            continue;
        struct watch copy = *w;
        if (!WIFSTOPPED(status))
            pm_children_forget(c, pid);
        copy.ended(pid, status, copy.arg);
    }
}
