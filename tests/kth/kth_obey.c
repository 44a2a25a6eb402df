// SPDX-License-Identifier: Apache-2.0
//
// A shim without memory for what its agent says. What was only to prepare is left out; a start that cannot be
// made is answered as one that never ran. Neither ends the shim, which would take a running rank with it.
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/shim/internal.h"
#include "plugin/shim/rank.h"
#include "tests/kth/kth.h"

enum { EPOCH = 3, INCARNATION = 2 };

static int agent_end;
static struct shim shim;

static void prepare(void *context, struct pm_shim_start *likely) {}

static void send_entries(enum pm_shim_msg type)
{
    char entry[] = "PM_EPOCH=3", *entries[] = {entry, NULL};
    const struct pm_shim_start start = {.epoch = EPOCH, .incarnation = INCARNATION, .n = 1, .entries = entries};
    struct pm_writer w = {0};
    pm_write_u8(&w, (uint8_t)type);
    pm_start_write(&w, &start);
    KTH_CHECK(send(agent_end, w.data, w.len, 0) == (ssize_t)w.len, "no socket");
    pm_writer_done(&w);
}

static bool answers(enum pm_shim_msg type)
{
    uint8_t packet[256];
    ssize_t len;
    while ((len = recv(agent_end, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
        struct pm_reader r = pm_reader_of(packet, (size_t)len);
        if (pm_read_u8(&r) == type && pm_read_u32(&r) == EPOCH && pm_read_u32(&r) == INCARNATION)
            return true;
    }
    return false;
}

static void check_prepare(bool failed)
{
    KTH_CHECK(shim.heir.wanted == !failed && !shim.heir.likely.entries == failed, "PREPARE");
    KTH_CHECK(!answers(PM_SHIM_EXITED), "PREPARE is not answered");
}

static void check_start(bool failed)
{
    KTH_CHECK(!shim.next.entries == failed, "START");
    KTH_CHECK(answers(PM_SHIM_EXITED) == failed && answers(PM_SHIM_TREE_GONE) == failed, "START has its answers");
}

// 0: well, and the k-th call exists; 1: it does not. Anything else: the shim has ended.
static int try(enum pm_shim_msg type, void (*check)(bool failed), uint64_t k)
{
    static const struct pm_shim_config config = {.node = "node", .prepare = prepare, .local = 1};
    int ends[2], status;
    pid_t pid = fork();
    if (pid == 0) {
        KTH_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0, "no socket");
        agent_end = ends[0];
        shim = (struct shim){.config = &config, .link = ends[1], .lease = STDIN_FILENO};
        send_entries(type);
        kth_arm(k, KTH_ONCE);
        pm_shim_read_link(&shim);
        bool reached = kth_disarm();
        check(reached);
        _exit(!reached);
    }
    KTH_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "no process");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void sweep(enum pm_shim_msg type, void (*check)(bool failed))
{
    int end;
    uint64_t k = 1;
    while ((end = try(type, check, k)) == 0)
        k++;
    KTH_CHECK(end == 1 && k > 1, "message %d, k %llu: the shim ended with %d", (int)type, (unsigned long long)k, end);
}

int main(void)
{
    sweep(PM_SHIM_PREPARE, check_prepare);
    sweep(PM_SHIM_START, check_start);
    return 0;
}
