// SPDX-License-Identifier: Apache-2.0
//
// pm-shim against an agent that misbehaves: whatever arrives, the shim ends, takes its rank with it
// and says 124 or 125; and what no real run shows: refusals, a listener that root did not make, a
// kill that overtakes a start. Everything else is tested below a real agent (tests/integration).
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/shim_stand.h"

#define NOBODY 65534

TestSuite(shim, .init = need_root, .timeout = 60);

// --- packets that no agent sends --------------------------------------------------------------------

static void a_running_shim_ends_at(const void *data, size_t len)
{
    running();
    send_bytes(data, len);
    ends_with_exit(PM_EXIT_AGENT_GONE);
    rank_is_gone();
    close(conn);
    close(errors);
}

#define NOWHERE "\0\0\0\0" "\0" "\0\0\0\0"  // a place that changes nothing

Test(shim, packets_that_are_not_of_the_protocol_end_it_and_its_rank)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\0", 1},                                      // no type
        {"\x0f", 1},                                    // PREPARE without fields
        {"\x11", 1},                                    // unknown type
        {"\xff\xff\xff\xff", 4},
        {"\x01" "\0\0\0\0", 5},                         // what only a shim says
        {"\x07", 1},                                    // WELCOME again
        {"\x08\0\0\0\x01" "x", 6},                      // REFUSE after START
        {"\x09", 1},                                    // START without fields
        {"\x09\0\0\0\0\0\0\0\0" NOWHERE "\xff\xff\xff\xff", 22},   // START with 4 G entries
        {"\x09\0\0\0\0\0\0\0\0" NOWHERE "\0\0\0\1\0\0\0\x09" "A=", 28},  // entry longer than the packet
        {"\x09\0\0\0\0\0\0\0\0\0\0\4\1", 13},   // CPUs longer than there are
        {"\x0a\0\0\0\0\0\0\0\0", 9},                    // signal 0
        {"\x0a\0\0\0\0\0\0\x03\xe7", 9},                // signal 999
        {"\x0a\0\0\0\0\xff\xff\xff\xff", 9},            // signal -1
        {"\x0b\0\0\0", 4},                              // KILL, cut
        {"\x0b\0\0\0\0\0", 6},                          // KILL and a byte
        {"\x0c\0", 2},                                  // PAUSE and a byte
        {"\x0e\0", 2},                                  // END, cut
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        a_running_shim_ends_at(bad[i].bytes, bad[i].len);
}

Test(shim, a_packet_longer_than_allowed_ends_it)
{
    static uint8_t large[PM_SHIM_PACKET_MAX + 1];
    large[0] = PM_SHIM_START;
    a_running_shim_ends_at(large, sizeof large);
}

Test(shim, agent_gone_in_the_middle_of_a_run_ends_it_and_its_rank)
{
    running();
    close(conn);
    ends_with_exit(PM_EXIT_AGENT_GONE);
    rank_is_gone();
}

// It is full, and nobody reads it any more.
Test(shim, an_end_waits_for_no_reader_of_its_stderr)
{
    static const char filler[4096];
    char path[64];
    run_shim("--local=0", "exec sleep 60");
    accept_hello();
    welcome();
    send_start(0);
    expect_started(0);
    snprintf(path, sizeof path, "/proc/%d/fd/2", (int)shim);
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    while (write(fd, filler, sizeof filler) > 0)
        ;
    cr_assert(errno == EAGAIN, "%s", strerror(errno));
    close(fd);
    close(conn);
    ends_with_exit(PM_EXIT_AGENT_GONE);
    rank_is_gone();
}

// --- where the rank runs -----------------------------------------------------------------------------

static void start_at(const struct pm_place *at)
{
    run_shim("--local=1", "exec sleep 60");
    accept_hello();
    welcome();
    place = *at;
    send_start(0);
}

static void stop(void)
{
    send_end(true, 0);
    struct pm_reader r;
    expect(PM_SHIM_EXITED, &r);
    expect(PM_SHIM_TREE_GONE, &r);
    ends_with_exit(0);
    close(conn);
    close(errors);
}

// The rank may not have come so far yet when the shim says that it has started.
static bool runs_on(uint32_t cpu)
{
    cpu_set_t own;
    for (int i = 0; i < ANSWER_MS; i++) {
        if (sched_getaffinity((pid_t)rank_pid, sizeof own, &own) == 0 && CPU_COUNT(&own) == 1)
            return CPU_ISSET(cpu, &own);
        usleep(1000);
    }
    return false;
}

Test(shim, a_rank_runs_where_its_start_says_and_the_shim_where_it_did)
{
    cpu_set_t own, shims;
    cr_assert(sched_getaffinity(0, sizeof own, &own) == 0);
    uint32_t last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &own))
        last--;
    struct pm_place at = {.cpu_bytes = last / 8 + 1};
    at.cpus[last / 8] = (uint8_t)(1 << last % 8);
    start_at(&at);
    expect_started(0);
    cr_expect(runs_on(last));
    cr_expect(sched_getaffinity(shim, sizeof shims, &shims) == 0 && CPU_EQUAL(&shims, &own));
    stop();
}

Test(shim, a_rank_that_cannot_run_there_says_so_and_runs_as_its_task)
{
    const struct pm_place nowhere = {.cpu_bytes = 1024, .cpus[1023] = 128};
    struct pm_place got;
    struct pm_reader r;
    bool started = false, unbound = false;
    start_at(&nowhere);
    while (!started || !unbound) {
        uint8_t type = receive(&r);
        cr_assert(type == PM_SHIM_STARTED || type == PM_SHIM_UNBOUND, "%u", type);
        started |= type == PM_SHIM_STARTED;
        unbound |= type == PM_SHIM_UNBOUND;
        if (type != PM_SHIM_UNBOUND)
            continue;
        cr_expect(pm_read_u32(&r) == 0 && pm_read_u32(&r) == 0 && pm_read_u8(&r) == 0);
        cr_expect(pm_read_i32(&r) == -EINVAL);
        pm_read_place(&r, &got);
        cr_expect(pm_reader_end(&r) == 0 && got.cpu_bytes > 0);
    }
    stop();
}

// --- before the first start -------------------------------------------------------------------------

Test(shim, a_listener_that_root_did_not_make_is_not_trusted)
{
    close(listener);
    listen_as(NOBODY);
    run_shim("--local=0", "true");
    ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
    const char *line = said();
    cr_expect_str_eq(line, "pm-supervise: node7: cannot start the agent: its socket was not made by "
                           "slurmstepd\n");
}

Test(shim, refusal_is_said_once_a_node)
{
    for (int local = 0; local < 2; local++) {
        struct pm_writer w = {0};
        run_shim(local ? "--local=1" : "--local=0", "true");
        accept_hello();
        pm_write_u8(&w, PM_SHIM_REFUSE);
        pm_write_str(&w, "other build");
        send_packet(&w);
        ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
        cr_expect_str_eq(said(), local ? "" : "pm-supervise: node7: cannot start the agent: other build\n");
        close(conn);
    }
}

Test(shim, nobody_listening_is_an_end_and_no_wait)
{
    close(listener);
    run_shim("--local=1", "true");
    ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
    cr_expect_str_eq(said(), "");
}

Test(shim, start_before_welcome_and_welcome_without_timer_are_refused)
{
    run_shim("--local=1", "true");
    accept_hello();
    send_start(0);
    ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
    close(conn);
    run_shim("--local=1", "true");
    accept_hello();
    send_bytes("\x07", 1);
    ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
    close(conn);
    run_shim("--local=1", "true");
    accept_hello();
    int empty = memfd_create("empty", MFD_CLOEXEC);
    send_with_fd(PM_SHIM_WELCOME, empty);
    ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
}

// --- order of answers --------------------------------------------------------------------------------

Test(shim, start_while_the_old_tree_lives_kills_it_first)
{
    uint32_t pid;
    running();
    uint32_t first = rank_pid;
    send_start(1);
    cr_expect(expect_exited(0, &pid) == SIGKILL && pid == first);
    expect(PM_SHIM_TREE_GONE, NULL);
    expect_started(1);
    send_end(false, 0);
    expect_exited(1, &pid);
    expect(PM_SHIM_TREE_GONE, NULL);
    int status = wait_shim();
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

Test(shim, kill_overtakes_a_start_that_is_held_back)
{
    uint32_t pid;
    running();
    kill(shim, SIGSTOP);
    send_start(1);
    send_epoch(PM_SHIM_KILL, 1);
    kill(shim, SIGCONT);
    // The start is answered as one that never ran; the kill takes the running one, too.
    bool never_ran = false, ended = false;
    for (int i = 0; i < 4; i++) {
        struct pm_reader r;
        if (receive(&r) != PM_SHIM_EXITED)
            continue;
        uint32_t epoch = pm_read_u32(&r);
        (void)pm_read_u32(&r);
        pid = pm_read_u32(&r);
        never_ran = never_ran || (epoch == 1 && pid == 0);
        ended = ended || (epoch == 0 && pid == rank_pid);
    }
    cr_expect(never_ran && ended);
    send_end(false, 0);
    wait_shim();
    rank_is_gone();
}

Test(shim, kill_of_an_older_epoch_is_ignored)
{
    uint32_t pid;
    running();
    send_epoch(PM_SHIM_KILL, 0);
    expect_exited(0, &pid);
    expect(PM_SHIM_TREE_GONE, NULL);
    send_start(3);
    expect_started(3);
    send_epoch(PM_SHIM_KILL, 2);
    struct pollfd p = {.fd = conn, .events = POLLIN};
    cr_expect(poll(&p, 1, 200) == 0, "it was obeyed");
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
}

Test(shim, end_gives_the_ranks_status_or_the_one_that_is_asked_for)
{
    uint32_t pid;
    run_shim("--local=1", "exit 7");
    accept_hello();
    welcome();
    send_start(0);
    expect_started(0);
    cr_expect(expect_exited(0, &pid) == 7 << 8);
    expect(PM_SHIM_TREE_GONE, NULL);
    send_end(false, 0);
    ends_with_exit(7);
    close(conn);
    run_shim("--local=1", "true");
    accept_hello();
    welcome();
    send_end(false, 0);
    ends_with_exit(PM_EXIT_CANNOT_SUPERVISE);
}

Test(shim, what_a_rank_leaves_behind_lives_until_the_kill)
{
    uint32_t pid;
    run_shim("--local=1", "sleep 60 & exit 0");
    accept_hello();
    welcome();
    send_start(0);
    expect_started(0);
    cr_expect(expect_exited(0, &pid) == 0);
    struct pollfd p = {.fd = conn, .events = POLLIN};
    cr_expect(poll(&p, 1, 200) == 0, "its tree was taken for gone");
    send_epoch(PM_SHIM_KILL, 0);
    struct pm_reader r;
    expect(PM_SHIM_TREE_GONE, &r);
    (void)pm_read_u32(&r);
    (void)pm_read_u32(&r);
    cr_expect(pm_read_u32(&r) == 1, "not one process killed");
    send_end(false, 0);
    ends_with_exit(0);
}

// Whoever starts ranks elsewhere has found the agent dead and waits for no shim that is stopped.
Test(shim, a_start_of_an_agent_that_is_gone_starts_nothing)
{
    uint8_t packet[4096];
    run_shim("--local=1", "exec sleep 60");
    accept_hello();
    welcome();
    cr_assert(kill(shim, SIGSTOP) == 0);
    cr_assert(waitpid(shim, NULL, WUNTRACED) == shim);
    send_start(0);
    cr_assert(shutdown(conn, SHUT_WR) == 0); // as far as the shim can tell
    cr_assert(kill(shim, SIGCONT) == 0);
    while (recv(conn, packet, sizeof packet, 0) > 0)
        cr_expect(packet[0] != PM_SHIM_STARTED, "its program has run");
    (void)wait_shim();
}
