// SPDX-License-Identifier: Apache-2.0
//
// A tiny stand-in for agents, tree and shims: starts one real pm-pmix-server per "node" and real
// clients under them, all on this host, and relays fences and modexes between the servers. Proves
// pm-pmix-server against real libpmix clients without a cluster.
//
//   pair --server PATH --nodes N --ppn P [options] -- PROGRAM ARGS...
//
// Says on stdout what happened ("pair: ..." lines) and what the servers cost. Exit status: 0 if every
// rank that was not killed by --kill ended with 0, 1 if not, 2 if a server broke the protocol or the
// time limit was over.
#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/core/core.h"
#include "pmix_server/wire/nspace.h"
#include "pmix_server/wire/server_proto.h"

enum { NODES_MAX = 64, RANKS_MAX = 1024, FENCES_MAX = 4096, EXIT_BROKEN = 2, ENV_MAX = 256 };

struct options {
    const char *server;
    const char *dir;
    unsigned nodes;
    unsigned ppn;
    unsigned epoch;
    int kill_rank;       // -1: none
    unsigned kill_ms;    // after READY
    unsigned limit_s;
    bool no_died;        // do not tell servers about ended ranks
    bool no_notify;      // raise no events
    bool replace;        // kill and replace each server before the ranks start
    bool measure;        // ask for PSS and CPU at the end
    bool verbose;
    char **command;
};

struct node {
    pid_t pid;
    int fd;
    char dir[256];
    uint16_t port;
    uint8_t *in;
    size_t in_len;
    size_t in_cap;
    bool ready;
    unsigned pongs;
    int64_t started_ns;
    int64_t inited_ns;
    double init_cpu_ms;
    int64_t nspace_ns;
    int64_t ready_ns;
};

struct rank {
    pid_t pid;
    bool ended;
    bool finalized;
    bool connected;
    bool aborted;
    int wait_status;
    char *env[ENV_MAX];
    unsigned n_env;
};

// One contribution to a fence, waiting for the others; FIFO per set and node.
struct part {
    bool used;
    unsigned node;
    uint64_t id;
    bool failed;
    struct pm_set set;
    uint8_t *data;
    size_t len;
};

static struct options opt = {.kill_rank = -1, .limit_s = 30, .nodes = 1, .ppn = 1, .dir = "."};
static struct node nodes[NODES_MAX];
static struct rank ranks[RANKS_MAX];
static struct part parts[FENCES_MAX];
static unsigned n_ranks;
static unsigned n_fences;
static int64_t begin_ns;
static bool killed;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("pair: ");
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    va_end(args);
}

static void end_all(void)
{
    for (unsigned i = 0; i < n_ranks; i++)
        if (ranks[i].pid > 0 && !ranks[i].ended)
            kill(ranks[i].pid, SIGKILL);
    for (unsigned i = 0; i < opt.nodes; i++)
        if (nodes[i].pid > 0)
            kill(nodes[i].pid, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {
    }
}

static void __attribute__((format(printf, 1, 2), noreturn)) broken(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("pair: BROKEN: ");
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    va_end(args);
    end_all();
    exit(EXIT_BROKEN);
}

// --- frames ---

static void frame_begin(struct pm_writer *w, uint8_t type)
{
    pm_write_u32(w, 0);
    pm_write_u8(w, type);
}

static void frame_send(unsigned node, struct pm_writer *w)
{
    uint32_t len = (uint32_t)w->len - 4;
    for (int i = 0; i < 4; i++)
        w->data[i] = (uint8_t)(len >> (8 * (3 - i)));
    for (size_t done = 0; done < w->len;) {
        ssize_t n = send(nodes[node].fd, w->data + done, w->len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            broken("node %u: send: %s", node, strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    pm_writer_done(w);
}

static void send_done(unsigned node, uint8_t type, uint64_t id, int32_t status,
                      const struct pm_writer *data)
{
    struct pm_writer w = {0};
    frame_begin(&w, type);
    pm_write_u64(&w, id);
    pm_write_i32(&w, status);
    pm_write_bytes(&w, data ? data->data : NULL, data ? data->len : 0);
    frame_send(node, &w);
}

// --- servers ---

static unsigned node_of(unsigned rank)
{
    return rank / opt.ppn;
}

static void start_server(unsigned i, uint16_t port)
{
    struct node *node = &nodes[i];
    int fds[2];
    char number[8];
    snprintf(number, sizeof(number), "%u", port);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        broken("socketpair: %s", strerror(errno));
    node->started_ns = now_ns();
    node->in_len = 0;
    node->pid = fork();
    if (node->pid == 0) {
        char name[32];
        snprintf(name, sizeof(name), "node%u", i);
        setenv("SLURMD_NODENAME", name, 1);
        setenv("PMIX_NAMESPACE", "must-not-be-seen", 1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(fds[1], PM_SERVER_FD) < 0)
            _exit(127);
        fcntl(PM_SERVER_FD, F_SETFD, 0);
        execl(opt.server, "pm-pmix-server", node->dir, port ? number : NULL, NULL);
        _exit(127);
    }
    close(fds[1]);
    node->fd = fds[0];
}

static void send_nspace(unsigned i)
{
    struct pm_set *sets = calloc(opt.nodes, sizeof(*sets));
    char list[64];
    snprintf(list, sizeof(list), opt.nodes > 1 ? "node[0-%u]" : "node%u", opt.nodes - 1);
    for (unsigned n = 0; n < opt.nodes; n++)
        pm_set_add_span(&sets[n], n * opt.ppn, (n + 1) * opt.ppn - 1);
    char *cpusets[RANKS_MAX];
    for (unsigned n = 0; n < opt.ppn; n++)
        cpusets[n] = n % 2 ? "1" : "0";
    char wdir[] = "/tmp";
    struct pm_nspace_info info = {
        .job = 77, .step = 3, .epoch = opt.epoch, .node = i, .nnodes = opt.nodes,
        .nranks = n_ranks, .nodelist = list, .ranks_of_node = sets, .wdir = wdir,
        .command = opt.command[0], .n_cpusets = opt.ppn, .cpusets = cpusets};
    snprintf(info.name, sizeof(info.name), "pm.77.3.%u", opt.epoch);
    struct pm_writer w = {0};
    frame_begin(&w, PM_SERVER_NSPACE);
    pm_write_nspace(&w, &info);
    nodes[i].nspace_ns = now_ns();
    frame_send(i, &w);
    for (unsigned n = 0; n < opt.nodes; n++)
        pm_set_done(&sets[n]);
    free(sets);
}

// --- ranks ---

static void start_rank(unsigned r)
{
    fflush(stdout);
    ranks[r].pid = fork();
    if (ranks[r].pid)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char number[16];
    for (unsigned i = 0; i < ranks[r].n_env; i++)
        putenv(ranks[r].env[i]);
    snprintf(number, sizeof(number), "%u", r);
    setenv("RANK", number, 1);
    setenv("SLURM_PROCID", number, 1);
    snprintf(number, sizeof(number), "%u", opt.epoch);
    setenv("PM_EPOCH", number, 1);
    setenv("PM_INCARNATION", number, 1);
    execvp(opt.command[0], opt.command);
    _exit(127);
}

static void tell_servers(unsigned r)
{
    const struct rank *rank = &ranks[r];
    int cause = WIFSIGNALED(rank->wait_status) ? PM_CAUSE_SIGNAL
              : rank->aborted ? PM_CAUSE_ABORT
              : WEXITSTATUS(rank->wait_status) ? PM_CAUSE_EXIT
              : rank->connected && !rank->finalized ? PM_CAUSE_NO_FINALIZE : PM_CAUSE_NONE;
    struct pm_writer w = {0};
    for (unsigned n = 0; cause && !opt.no_notify && n < opt.nodes; n++) {
        frame_begin(&w, PM_SERVER_NOTIFY);
        pm_write_u64(&w, r);
        pm_write_i32(&w, cause);
        pm_write_u32(&w, r);
        pm_write_i32(&w, rank->wait_status);
        pm_write_str(&w, "the pair test saw it");
        frame_send(n, &w);
    }
    if (opt.no_died)
        return;
    frame_begin(&w, PM_SERVER_DIED);
    pm_write_u32(&w, r);
    frame_send(node_of(r), &w);
}

static void try_fence(const struct pm_set *wanted);

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < opt.nodes; i++)
            if (nodes[i].pid == pid)
                broken("node %u: the server ended with status %#x", i, status);
        for (unsigned r = 0; r < n_ranks; r++) {
            if (ranks[r].pid != pid)
                continue;
            ranks[r].ended = true;
            ranks[r].wait_status = status;
            say("rank %u ended status=%#x finalized=%d", r, status, ranks[r].finalized);
            tell_servers(r);
            for (unsigned i = 0; i < FENCES_MAX; i++)
                if (parts[i].used)
                    try_fence(&parts[i].set);
        }
    }
}

// --- relay ---

static void finish_fence(const struct pm_set *set, const unsigned *which, unsigned n, bool failed)
{
    struct pm_writer all = {0};
    for (unsigned i = 0; i < n; i++)
        pm_write_raw(&all, parts[which[i]].data, parts[which[i]].len);
    n_fences++;
    if (opt.verbose)
        say("fence of %lu ranks: %zu bytes failed=%d", pm_set_count(set), all.len, failed);
    for (unsigned i = 0; i < n; i++) {
        struct part *part = &parts[which[i]];
        send_done(part->node, PM_SERVER_FENCE_DONE, part->id,
                  failed ? PM_STATUS_LOST : PM_STATUS_OK, failed ? NULL : &all);
        pm_set_done(&part->set);
        free(part->data);
        *part = (struct part){0};
    }
    pm_writer_done(&all);
}

// A rank that will not take part any more: what the tree knows from its shim.
static bool any_lost(const struct pm_set *set)
{
    for (uint32_t r = pm_set_next(set, 0); r < n_ranks; r = pm_set_next(set, r + 1))
        if (ranks[r].ended && !ranks[r].finalized && !opt.no_died)
            return true;
    return false;
}

// Complete when each node with participants has a part; the oldest of each counts. A failed part or a
// lost participant ends the fence for those that are there, as the tree would.
static void try_fence(const struct pm_set *wanted)
{
    unsigned which[NODES_MAX];
    unsigned n = 0;
    bool failed = false;
    struct pm_set set = {0};
    pm_set_copy(&set, wanted);
    bool missing = false;
    for (unsigned node = 0; node < opt.nodes; node++) {
        struct pm_set local = {0};
        pm_set_add_span(&local, node * opt.ppn, (node + 1) * opt.ppn - 1);
        bool takes_part = pm_set_intersects(&set, &local);
        pm_set_done(&local);
        int found = -1;
        for (unsigned i = 0; takes_part && i < FENCES_MAX; i++)
            if (parts[i].used && parts[i].node == node && pm_set_equal(&parts[i].set, &set)
                && (found < 0 || parts[i].id < parts[found].id))
                found = (int)i;
        if (found >= 0) {
            failed |= parts[found].failed;
            which[n++] = (unsigned)found;
        } else {
            missing |= takes_part;
        }
    }
    failed |= any_lost(&set);
    if (n && (!missing || failed))
        finish_fence(&set, which, n, failed);
    pm_set_done(&set);
}

static void on_fence(unsigned node, struct pm_reader *r)
{
    unsigned i = 0;
    while (i < FENCES_MAX && parts[i].used)
        i++;
    if (i == FENCES_MAX)
        broken("too many fences");
    struct part *part = &parts[i];
    part->used = true;
    part->node = node;
    part->id = pm_read_u64(r);
    (void)pm_read_u8(r);
    (void)pm_read_u64(r);
    part->failed = pm_read_u8(r);
    pm_read_set(r, &part->set, RANKS_MAX);
    const uint8_t *data = pm_read_bytes(r, PM_SERVER_FRAME_MAX, &part->len);
    part->data = malloc(part->len + 1);
    if (part->len)
        memcpy(part->data, data, part->len);
    try_fence(&part->set);
}

// Fetches carry the asking node in the upper half of their id.
static void on_modex(unsigned node, struct pm_reader *r)
{
    uint64_t id = pm_read_u64(r);
    uint32_t rank = pm_read_u32(r);
    (void)pm_read_u64(r);
    struct pm_writer w = {0};
    frame_begin(&w, PM_SERVER_FETCH);
    pm_write_u64(&w, (uint64_t)node << 32 | id);
    pm_write_u32(&w, rank);
    frame_send(node_of(rank), &w);
}

static void on_fetched(struct pm_reader *r)
{
    uint64_t id = pm_read_u64(r);
    int32_t status = pm_read_i32(r);
    struct pm_writer data = {0};
    size_t len;
    const uint8_t *bytes = pm_read_bytes(r, PM_SERVER_FRAME_MAX, &len);
    pm_write_raw(&data, bytes, len);
    if (opt.verbose)
        say("fetched %zu bytes status=%d", len, status);
    send_done((unsigned)(id >> 32), PM_SERVER_MODEX_DONE, id & UINT32_MAX, status, &data);
    pm_writer_done(&data);
}

static void on_env(struct pm_reader *r)
{
    uint32_t rank = pm_read_u32(r);
    uint32_t n = pm_read_u32(r);
    for (uint32_t i = 0; i < n && rank < n_ranks && i < ENV_MAX; i++) {
        char *variable = pm_read_strdup(r, 65536);
        if (opt.verbose && rank == 0)
            say("env %s", variable);
        if (opt.replace && ranks[rank].n_env == n) {
            if (strcmp(ranks[rank].env[i], variable) != 0)
                broken("replacement changed the environment: %s -> %s", ranks[rank].env[i],
                       variable);
            free(variable);
        } else {
            ranks[rank].env[ranks[rank].n_env++] = variable;
        }
    }
}

static void on_abort(unsigned node, struct pm_reader *r)
{
    struct pm_set targets = {0};
    uint32_t rank = pm_read_u32(r);
    int32_t status = pm_read_i32(r);
    char *text = pm_read_strdup(r, 65536);
    pm_read_set(r, &targets, RANKS_MAX);
    char list[128];
    say("node %u: rank %u aborts status=%d targets=%s text=%s", node, rank, status,
        pm_set_format(&targets, list, sizeof(list)), text);
    ranks[rank].aborted = true;
    for (unsigned i = 0; i < n_ranks; i++)
        if (i != rank && (pm_set_empty(&targets) || pm_set_has(&targets, i)) && !ranks[i].ended)
            kill(ranks[i].pid, SIGKILL);
    killed = true;
    pm_set_done(&targets);
    free(text);
}

static void on_text(unsigned node, uint8_t type, struct pm_reader *r)
{
    char *text = pm_read_strdup(r, 65536);
    if (type == PM_SERVER_FAILED)
        broken("node %u: server failed: %s", node, text);
    say("node %u says: %s", node, text);
    free(text);
}

static double cpu_ms(pid_t pid);

static void handle(unsigned node, uint8_t type, struct pm_reader *r)
{
    char version[256];
    uint32_t rank;
    switch (type) {
    case PM_SERVER_INITED:
        pm_read_str(r, version, sizeof(version));
        nodes[node].port = pm_read_u16(r);
        nodes[node].inited_ns = now_ns();
        nodes[node].init_cpu_ms = cpu_ms(nodes[node].pid);
        if (!node && opt.verbose)
            say("PMIx %s port %u", version, nodes[node].port);
        break;
    case PM_SERVER_ENV:
        on_env(r);
        break;
    case PM_SERVER_READY:
        nodes[node].ready = true;
        nodes[node].ready_ns = now_ns();
        break;
    case PM_SERVER_CONNECTED:
    case PM_SERVER_FINALIZED:
        rank = pm_read_u32(r);
        if (rank < n_ranks && type == PM_SERVER_CONNECTED)
            ranks[rank].connected = true;
        else if (rank < n_ranks)
            ranks[rank].finalized = true;
        break;
    case PM_SERVER_ABORT:
        on_abort(node, r);
        break;
    case PM_SERVER_FENCE:
        on_fence(node, r);
        break;
    case PM_SERVER_MODEX:
        on_modex(node, r);
        break;
    case PM_SERVER_FETCHED:
        on_fetched(r);
        break;
    case PM_SERVER_NOTIFIED:
        say("node %u: notified %lu", node, pm_read_u64(r));
        break;
    case PM_SERVER_PONG:
        nodes[node].pongs += pm_read_u64(r) == 4711;
        break;
    case PM_SERVER_SAY:
    case PM_SERVER_FAILED:
        on_text(node, type, r);
        break;
    default:
        broken("node %u: message %u", node, type);
    }
    if (pm_reader_end(r))
        broken("node %u: malformed message %u", node, type);
}

static void handle_all(unsigned i)
{
    struct node *node = &nodes[i];
    size_t at = 0;
    while (node->in_len - at >= 5) {
        const uint8_t *p = node->in + at;
        size_t len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (node->in_len - at - 4 < len)
            break;
        struct pm_reader r = pm_reader_of(p + 5, len - 1);
        handle(i, p[4], &r);
        at += 4 + len;
    }
    if (at)
        memmove(node->in, node->in + at, node->in_len - at);
    node->in_len -= at;
}

static void receive(unsigned i)
{
    struct node *node = &nodes[i];
    if (node->in_cap - node->in_len < 65536) {
        node->in_cap = 2 * node->in_cap + 131072;
        node->in = realloc(node->in, node->in_cap);
    }
    ssize_t n = recv(node->fd, node->in + node->in_len, node->in_cap - node->in_len, MSG_DONTWAIT);
    if (n == 0)
        broken("node %u: the server closed its socket", i);
    if (n > 0)
        node->in_len += (size_t)n;
    handle_all(i);
}

static void turn(void)
{
    struct pollfd fds[NODES_MAX];
    for (unsigned i = 0; i < opt.nodes; i++)
        fds[i] = (struct pollfd){.fd = nodes[i].fd, .events = POLLIN};
    poll(fds, opt.nodes, 2);
    for (unsigned i = 0; i < opt.nodes; i++)
        if (fds[i].revents)
            receive(i);
    reap();
    if (now_ns() - begin_ns > (int64_t)opt.limit_s * 1000000000) {
        for (unsigned r = 0; r < n_ranks; r++)
            if (!ranks[r].ended)
                say("rank %u has not ended", r);
        broken("not done within %u s", opt.limit_s);
    }
}

static bool all_ready(void)
{
    for (unsigned i = 0; i < opt.nodes; i++)
        if (!nodes[i].ready)
            return false;
    return true;
}

static bool all_ended(void)
{
    for (unsigned r = 0; r < n_ranks; r++)
        if (!ranks[r].ended)
            return false;
    return true;
}

// Kills every server and starts it again at the old port: the environments must stay the same.
static void replace_servers(void)
{
    for (unsigned i = 0; i < opt.nodes; i++) {
        pid_t pid = nodes[i].pid;
        nodes[i].pid = 0;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(nodes[i].fd);
        nodes[i].ready = false;
        start_server(i, nodes[i].port);
        send_nspace(i);
    }
    while (!all_ready())
        turn();
}

static void ping_all(void)
{
    for (unsigned i = 0; i < opt.nodes; i++) {
        struct pm_writer w = {0};
        nodes[i].pongs = 0;
        frame_begin(&w, PM_SERVER_PING);
        pm_write_u64(&w, 4711);
        frame_send(i, &w);
    }
    for (unsigned i = 0; i < opt.nodes; i++)
        while (!nodes[i].pongs)
            turn();
}

// Sum of the value after `key` in /proc/PID/FILE, in its unit.
static long proc_value(pid_t pid, const char *name, const char *key)
{
    char path[64], line[256];
    long ret = 0;
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (!strncmp(line, key, strlen(key)))
            ret = strtol(line + strlen(key), NULL, 10);
    if (file)
        fclose(file);
    return ret;
}

// CPU time of all threads that are alive.
static double cpu_ms(pid_t pid)
{
    char path[300];
    double ret = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
        unsigned long long ns;
        if (file && fscanf(file, "%llu", &ns) == 1)
            ret += (double)ns / 1e6;
        if (file)
            fclose(file);
    }
    if (dir)
        closedir(dir);
    return ret;
}

static void measure(void)
{
    for (unsigned i = 0; i < opt.nodes; i++)
        say("node %u: init_ms=%.1f init_cpu_ms=%.1f register_ms=%.1f pss_kib=%ld "
            "private_dirty_kib=%ld cpu_ms=%.1f", i,
            (double)(nodes[i].inited_ns - nodes[i].started_ns) / 1e6, nodes[i].init_cpu_ms,
            (double)(nodes[i].ready_ns - nodes[i].nspace_ns) / 1e6,
            proc_value(nodes[i].pid, "smaps_rollup", "Pss:"),
            proc_value(nodes[i].pid, "smaps_rollup", "Private_Dirty:"), cpu_ms(nodes[i].pid));
}

static int verdict(void)
{
    int status = 0;
    for (unsigned r = 0; r < n_ranks; r++)
        if (ranks[r].wait_status && !(killed && WIFSIGNALED(ranks[r].wait_status))
            && (int)r != opt.kill_rank)
            status = 1;
    return status;
}

// --- command line ---

static const struct argp_option argp_options[] = {
    {"server", 's', "PATH", 0, "pm-pmix-server", 0},
    {"nodes", 'n', "N", 0, "servers to start", 0},
    {"ppn", 'p', "P", 0, "ranks per server", 0},
    {"dir", 'd', "DIR", 0, "folder for the servers", 0},
    {"epoch", 'e', "N", 0, "epoch number", 0},
    {"kill", 'k', "RANK:MS", 0, "SIGKILL that rank so long after the start", 0},
    {"limit", 'l', "S", 0, "time limit", 0},
    {"no-died", 'D', NULL, 0, "do not tell the server that a rank ended", 0},
    {"no-notify", 'N', NULL, 0, "raise no events", 0},
    {"replace", 'r', NULL, 0, "replace the servers before the ranks start", 0},
    {"measure", 'm', NULL, 0, "print what the servers cost", 0},
    {"verbose", 'v', NULL, 0, "say more", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case 's': opt.server = arg; break;
    case 'n': opt.nodes = (unsigned)atoi(arg); break;
    case 'p': opt.ppn = (unsigned)atoi(arg); break;
    case 'd': opt.dir = arg; break;
    case 'e': opt.epoch = (unsigned)atoi(arg); break;
    case 'l': opt.limit_s = (unsigned)atoi(arg); break;
    case 'D': opt.no_died = true; break;
    case 'N': opt.no_notify = true; break;
    case 'r': opt.replace = true; break;
    case 'm': opt.measure = true; break;
    case 'v': opt.verbose = true; break;
    case 'k':
        if (sscanf(arg, "%d:%u", &opt.kill_rank, &opt.kill_ms) != 2)
            argp_error(state, "--kill wants RANK:MS");
        break;
    case ARGP_KEY_ARGS: opt.command = state->argv + state->next; break;
    case ARGP_KEY_END:
        n_ranks = opt.nodes * opt.ppn;
        if (!opt.server || !opt.command || !opt.nodes || opt.nodes > NODES_MAX || !n_ranks
            || n_ranks > RANKS_MAX)
            argp_error(state, "--server, a program, 1 to 64 nodes and up to 1024 ranks, please");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp argp = {argp_options, parse, "-- PROGRAM ARGS...", NULL, NULL, NULL, NULL};

int main(int argc, char **argv)
{
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    begin_ns = now_ns();
    for (unsigned i = 0; i < opt.nodes; i++) {
        snprintf(nodes[i].dir, sizeof(nodes[i].dir), "%s/node%u", opt.dir, i);
        if (mkdir(nodes[i].dir, 0700) < 0 && errno != EEXIST)
            broken("mkdir %s: %s", nodes[i].dir, strerror(errno));
        start_server(i, 0);
    }
    for (unsigned i = 0; i < opt.nodes; i++) {
        while (!nodes[i].port)
            turn();
        send_nspace(i);
    }
    while (!all_ready())
        turn();
    if (opt.replace)
        replace_servers();
    ping_all();
    int64_t ready_ns = now_ns();
    for (unsigned r = 0; r < n_ranks; r++)
        start_rank(r);
    while (!all_ended()) {
        turn();
        if (opt.kill_rank >= 0 && !killed
            && now_ns() - ready_ns > (int64_t)opt.kill_ms * 1000000) {
            killed = true;
            kill(ranks[opt.kill_rank].pid, SIGKILL);
        }
    }
    int64_t done_ns = now_ns();
    ping_all();
    if (opt.measure)
        measure();
    say("%u ranks on %u nodes: %u fences relayed, %.1f ms from start to end", n_ranks, opt.nodes,
        n_fences, (double)(done_ns - ready_ns) / 1e6);
    int status = verdict();
    end_all();
    return status;
}
