// SPDX-License-Identifier: Apache-2.0
//
// The servers of the pair test, what they say, and the stand-in for agents and tree.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmix_server/wire/nspace.h"
#include "tests/integration/pmix_server/pair.h"

enum { FENCES_MAX = 4096 };

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

static struct part parts[FENCES_MAX];

// --- frames ---

void frame_begin(struct pm_writer *w, uint8_t type)
{
    pm_write_u32(w, 0);
    pm_write_u8(w, type);
}

void frame_send(unsigned node, struct pm_writer *w)
{
    uint32_t len = (uint32_t)w->len - 4;
    for (int i = 0; i < 4; i++)
        w->data[i] = (uint8_t)(len >> (8 * (3 - i)));
    for (size_t done = 0; done < w->len;) {
        ssize_t n = send(nodes[node].fd, w->data + done, w->len - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EPIPE)
            break;  // why is still to be read
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

unsigned node_of(unsigned rank)
{
    return rank / opt.ppn;
}

void start_server(unsigned i, uint16_t port)
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

void send_nspace(unsigned i)
{
    struct pm_set *sets = calloc(opt.nodes, sizeof(*sets));
    char list[64];
    snprintf(list, sizeof(list), opt.nodes > 1 ? "node[0-%u]" : "node%u", opt.nodes - 1);
    for (unsigned n = 0; n < opt.nodes; n++)
        pm_set_add_span(&sets[n], n * opt.ppn, (n + 1) * opt.ppn - 1);
    static char cpus[2][2] = {"0", "1"};
    char *cpusets[RANKS_MAX];
    for (unsigned n = 0; n < opt.ppn; n++)
        cpusets[n] = cpus[n % 2];
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

void settle_fences(void)
{
    for (unsigned i = 0; i < FENCES_MAX; i++)
        if (parts[i].used)
            try_fence(&parts[i].set);
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

void receive(unsigned i)
{
    struct node *node = &nodes[i];
    if (node->in_cap - node->in_len < 65536) {
        node->in_cap = 2 * node->in_cap + 131072;
        node->in = realloc(node->in, node->in_cap);
    }
    ssize_t n;
    while ((n = recv(node->fd, node->in + node->in_len, node->in_cap - node->in_len, MSG_DONTWAIT)) > 0) {
        node->in_len += (size_t)n;
        handle_all(i);
        if (node->in_cap - node->in_len < 65536)
            return;
    }
    if (n == 0)
        broken("node %u: the server closed its socket", i);
}
