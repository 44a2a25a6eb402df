// SPDX-License-Identifier: Apache-2.0
//
// Has srun passed on all that the live nodes have written? Asked when nodes are lost: srun waits for them, in
// vain until slurmctld notices, so we end it, but not before it has done its work for the others.
//
// srun does not tell, so it is looked at from outside, in /proc; core/output.h says what follows from it. The bound
// is the supervisor's, which ends srun anyway.
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/util.h"

#define LOOK_MS 50
#define TCP_ESTABLISHED 1u
#define TCP_CLOSE_WAIT 8u

struct inodes {
    unsigned long *list;
    size_t n, cap;
    bool failed;
};

static int compare(const void *a, const void *b)
{
    unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;
    return (x > y) - (x < y);
}

static void inodes_add(struct inodes *in, unsigned long inode)
{
    if (in->n == in->cap) {
        size_t cap = in->cap ? 2 * in->cap : 64;
        unsigned long *list = reallocarray(in->list, cap, sizeof(*list));
        if (!list) {
            in->failed = true;
            return;
        }
        in->list = list;
        in->cap = cap;
    }
    in->list[in->n++] = inode;
}

// Sockets of srun, sorted.
static void read_sockets(pid_t srun, struct inodes *ret)
{
    char folder[32], target[64];
    unsigned long inode;
    snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)srun);
    DIR *dir = opendir(folder);
    ret->failed = !dir;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        if (sscanf(target, "socket:[%lu]", &inode) == 1)
            inodes_add(ret, inode);
    }
    if (dir)
        closedir(dir);
    if (ret->n)
        qsort(ret->list, ret->n, sizeof(*ret->list), compare);
}

// One of /proc/net/tcp and tcp6: adds srun's connections, and whether one has bytes to read.
static void read_connections(const char *path, const struct inodes *in, struct pm_output_look *look)
{
    char line[512];
    unsigned state, unread;
    unsigned long inode;
    FILE *f = in->n ? fopen(path, "re") : NULL;
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, " %*d: %*s %*s %x %*x:%x %*s %*s %*s %*s %lu", &state, &unread, &inode) != 3 ||
            (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT) ||
            !bsearch(&inode, in->list, in->n, sizeof(*in->list), compare))
            continue;
        look->connections++;
        look->unread |= unread > 0;
    }
    if (f)
        fclose(f);
}

// What srun has read and written so far, in bytes; 0 if that is not known.
static uint64_t read_traffic(pid_t srun)
{
    char path[32], line[128];
    uint64_t value, sum = 0;
    snprintf(path, sizeof(path), "/proc/%d/io", (int)srun);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "rchar: %" SCNu64, &value) == 1 || sscanf(line, "wchar: %" SCNu64, &value) == 1)
            sum += value;
    if (f)
        fclose(f);
    return sum;
}

// Would a write to our stdout and stderr wait? They are srun's, too.
static bool is_stuck(void)
{
    struct pollfd fds[] = {{.fd = STDOUT_FILENO, .events = POLLOUT}, {.fd = STDERR_FILENO, .events = POLLOUT}};
    int ready = poll(fds, 2, 0);
    bool stuck = false;
    for (int i = 0; i < 2 && ready >= 0; i++)
        stuck |= fds[i].revents == 0;
    return stuck;
}

static struct pm_output_look look_at(pid_t srun)
{
    struct inodes in = {0};
    struct pm_output_look look = {.traffic = read_traffic(srun), .stuck = is_stuck()};
    read_sockets(srun, &in);
    read_connections("/proc/net/tcp", &in, &look);
    read_connections("/proc/net/tcp6", &in, &look);
    look.unknown = in.failed;
    free(in.list);
    return look;
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct coordinator *c = arg;
    struct timeval tv = pm_timeval_of_ms(LOOK_MS);
    if (!c->srun)
        return;
    struct pm_output_look look = look_at(c->srun);
    if (pm_output_watch_look(&c->output_watch, &look, pm_clock_ns()))
        pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_OUTPUT_READ});
    else
        evtimer_add(c->output, &tv);  // without memory the core's bound counts
}

void pm_output_await(struct coordinator *c, uint32_t lost)
{
    if (c->output || !c->srun)
        return;
    c->output = evtimer_new(c->base, on_look, c);
    struct pm_output_look first = look_at(c->srun);
    pm_output_watch_begin(&c->output_watch, lost, &first, pm_clock_ns());
    if (c->output)
        on_look(-1, EV_TIMEOUT, c);
}

void pm_output_done(struct coordinator *c)
{
    if (c->output)
        event_free(c->output);
}
