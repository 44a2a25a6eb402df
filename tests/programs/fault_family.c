// SPDX-License-Identifier: Apache-2.0
//
// See fault_family.h. A descendant never returns into the caller, keeps stdio open as real helpers
// do, and ends by itself after life_ms, so that a broken supervisor leaves nothing behind for good.

#include "fault_family.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { FORKER_PAUSE_MS = 5 };

// What a descendant needs to know.
struct birth {
    const struct fault_family *family;
    int64_t end_ns; // CLOCK_BOOTTIME
    int ready_fd;   // one byte is written here when the pid is in the file
};

static pid_t must_fork(void)
{
    pid_t pid = fork();
    if (pid < 0)
        test_die("fork: %s", strerror(errno));
    return pid;
}

static void register_self(const struct birth *birth, const char *kind)
{
    if (birth->family->pid_file != NULL)
        test_file_append(birth->family->pid_file, "%d %s", (int)getpid(), kind);
    if (write(birth->ready_fd, "", 1) != 1)
        test_die("cannot report a descendant: %s", strerror(errno));
}

__attribute__((noreturn)) static void live_until_end(const struct birth *birth)
{
    (void)close(birth->ready_fd);
    while (test_boottime_ns() < birth->end_ns)
        test_sleep_ms(50);
    _exit(0);
}

static void be_child(const struct birth *birth)
{
    register_self(birth, "child");
    live_until_end(birth);
}

static void be_chain(const struct birth *birth)
{
    for (long below = birth->family->chain - 1; below > 0 && must_fork() == 0; below--)
        continue; // the child goes on one level deeper
    register_self(birth, "chain");
    live_until_end(birth);
}

static void must_setsid(void)
{
    if (setsid() < 0)
        test_die("setsid: %s", strerror(errno));
}

static void be_session(const struct birth *birth)
{
    must_setsid();
    register_self(birth, "session");
    live_until_end(birth);
}

static void be_daemon(const struct birth *birth)
{
    must_setsid();
    if (must_fork() != 0)
        _exit(0);
    register_self(birth, "daemon");
    live_until_end(birth);
}

static void be_forker(const struct birth *birth)
{
    register_self(birth, "forker");
    (void)close(birth->ready_fd);
    while (test_boottime_ns() < birth->end_ns) {
        test_sleep_ms(FORKER_PAUSE_MS);
        if (must_fork() != 0)
            _exit(0);
        if (birth->family->pid_file != NULL)
            test_file_append(birth->family->pid_file, "%d forker", (int)getpid());
    }
    _exit(0);
}

static void spawn(long count, void (*life)(const struct birth *), const struct birth *birth)
{
    for (long i = 0; i < count; i++) {
        if (must_fork() == 0) {
            life(birth);
            _exit(0);
        }
    }
}

// Reads one byte for each descendant.
static void await_all(int ready_fd, long awaited)
{
    for (long seen = 0; seen < awaited;) {
        char byte;
        ssize_t got = read(ready_fd, &byte, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got != 1)
            test_die("only %ld of %ld descendants came up", seen, awaited);
        seen++;
    }
}

void fault_family_start(const struct fault_family *family)
{
    long awaited =
        family->children + family->chain + family->sessions + family->daemons + family->forkers;
    if (awaited == 0)
        return;
    int ready[2];
    if (pipe(ready) < 0)
        test_die("pipe: %s", strerror(errno));
    struct birth birth = {
        .family = family,
        .end_ns = test_boottime_ns() + family->life_ms * TEST_NS_PER_MS,
        .ready_fd = ready[1],
    };
    spawn(family->children, be_child, &birth);
    spawn(family->chain > 0, be_chain, &birth);
    spawn(family->sessions, be_session, &birth);
    spawn(family->daemons, be_daemon, &birth);
    spawn(family->forkers, be_forker, &birth);
    (void)close(ready[1]);
    await_all(ready[0], awaited);
    (void)close(ready[0]);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue; // the first parents of daemons
}
