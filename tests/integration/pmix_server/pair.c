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
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/core/core.h"
#include "tests/integration/pmix_server/pair.h"

enum { SETTLE_NS = 30000000 };

struct options opt = {.kill_rank = -1, .limit_s = 30, .nodes = 1, .ppn = 1, .dir = "."};
struct node nodes[NODES_MAX];
struct rank ranks[RANKS_MAX];
unsigned n_ranks;
unsigned n_fences;
static int64_t begin_ns;
bool killed;

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void say(const char *format, ...)
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

void broken(const char *format, ...)
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

// --- ranks ---

static void tell_born(unsigned r)
{
    struct pm_writer w = {0};
    frame_begin(&w, PM_SERVER_BORN);
    pm_write_u32(&w, r);
    pm_write_u32(&w, (uint32_t)ranks[r].pid);
    frame_send(node_of(r), &w);
}

static void start_rank(unsigned r)
{
    fflush(stdout);
    ranks[r].pid = fork();
    if (ranks[r].pid) {
        tell_born(r);
        return;
    }
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

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < opt.nodes; i++)
            if (nodes[i].pid == pid) {
                receive(i);  // its last words
                broken("node %u: the server ended with status %#x", i, status);
            }
        for (unsigned r = 0; r < n_ranks; r++) {
            if (ranks[r].pid != pid)
                continue;
            ranks[r].ended = true;
            ranks[r].wait_status = status;
            say("rank %u ended status=%#x finalized=%d", r, status, ranks[r].finalized);
            tell_servers(r);
            settle_fences();
        }
    }
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
double cpu_ms(pid_t pid)
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

// What an agent does at the end of an epoch, but that it kills. What is on its way arrives first, so that servers
// that have lived alike end alike.
static void let_go(void)
{
    for (int64_t until_ns = now_ns() + SETTLE_NS; now_ns() < until_ns;)
        turn();
    for (unsigned i = 0; i < opt.nodes; i++)
        close(nodes[i].fd);
    for (unsigned i = 0; i < opt.nodes; i++) {
        waitpid(nodes[i].pid, NULL, 0);
        nodes[i].pid = 0;
    }
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
    {"kill", 'k', "RANK:MS", 0, "SIGKILL that rank, when it has connected, so long after the start", 0},
    {"limit", 'l', "S", 0, "time limit", 0},
    {"no-died", 'D', NULL, 0, "do not tell the server that a rank ended", 0},
    {"no-notify", 'N', NULL, 0, "raise no events", 0},
    {"replace", 'r', NULL, 0, "replace the servers before the ranks start", 0},
    {"let-go", 'g', NULL, 0, "at the end let the servers end by themselves", 0},
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
    case 'g': opt.let_go = true; break;
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
        if (opt.kill_rank >= 0 && !killed && ranks[opt.kill_rank].connected
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
    if (opt.let_go)
        let_go();
    end_all();
    return status;
}
