// SPDX-License-Identifier: Apache-2.0
//
// pm-shim against an agent that misbehaves: whatever arrives, the shim ends, takes its rank with it
// and says 124 or 125; and what no real run shows: refusals, a listener that root did not make, a
// kill that overtakes a start. Everything else is tested below a real agent (tests/integration).
//
// PM_SHIM is the path of the program. Needs root, because a shim trusts only a listener of root's.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/place.h"
#include "pmix_server/wire/shim_proto.h"

#define ANSWER_MS 10000
#define NOBODY 65534
#define LEASE_US 200000

static int listener = -1, conn = -1, errors = -1, lease = -1;
static pid_t shim;
static uint32_t rank_pid;
static char address[64];

// --- the agent's side -----------------------------------------------------------------------------

static void listen_as(uid_t uid)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof name;
    size_t head = offsetof(struct sockaddr_un, sun_path) + 1;
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    cr_assert(bind(listener, (struct sockaddr *)&name, sizeof(sa_family_t)) == 0);
    cr_assert(seteuid(uid) == 0);
    cr_assert(listen(listener, 4) == 0);
    cr_assert(seteuid(0) == 0);
    cr_assert(getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    snprintf(address, sizeof address, "--socket=%.*s", (int)(len - head), name.sun_path + 1);
}

static void run_shim(const char *local, const char *script)
{
    int ends[2];
    cr_assert(pipe(ends) == 0);
    shim = fork();
    if (shim == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDERR_FILENO);
        clearenv();
        setenv("OMP_PLACES", "cores", 1);
        setenv("NCCL_IB_HCA", "mlx5_0", 1);
        setenv("XOMP_", "no", 1);
        setenv("PATH", "/usr/bin:/bin", 1);
        execl(PM_SHIM, PM_SHIM, local, "--rank=5", "--node=node7", address, "--", "sh", "-c", script,
              (char *)NULL);
        _exit(99);
    }
    close(ends[1]);
    errors = ends[0];
}

static uint8_t receive(struct pm_reader *ret)
{
    static uint8_t buf[4096];
    struct pollfd p = {.fd = conn, .events = POLLIN};
    cr_assert(poll(&p, 1, ANSWER_MS) == 1, "the shim says nothing");
    ssize_t len = recv(conn, buf, sizeof buf, 0);
    *ret = pm_reader_of(buf, len > 0 ? (size_t)len : 0);
    return len > 0 ? pm_read_u8(ret) : (uint8_t)PM_SHIM_NONE;
}

static void expect(enum pm_shim_msg type, struct pm_reader *ret)
{
    struct pm_reader r;
    uint8_t got = receive(&r);
    cr_assert(got == type, "the shim says %s, not %s", pm_shim_msg_name(got), pm_shim_msg_name(type));
    if (ret)
        *ret = r;
}

// The test's own CPUs, and of its environment what says how a task is bound.
static void take_facts(struct pm_reader *r)
{
    cpu_set_t own;
    size_t len;
    char fact[64];
    cr_assert(sched_getaffinity(0, sizeof own, &own) == 0);
    const uint8_t *mask = pm_read_bytes(r, PM_PLACE_CPU_BYTES, &len);
    cr_expect(len > 0 && memcmp(mask, &own, len) == 0);
    cr_expect(pm_read_var(r) == 2);
    pm_read_str(r, fact, sizeof fact);
    cr_expect_str_eq(fact, "OMP_PLACES=cores");
    pm_read_str(r, fact, sizeof fact);
    cr_expect_str_eq(fact, "NCCL_IB_HCA=mlx5_0");
}

static void accept_hello(void)
{
    struct pm_reader r;
    char version[64];
    struct pollfd p = {.fd = listener, .events = POLLIN};
    cr_assert(poll(&p, 1, ANSWER_MS) == 1, "the shim does not connect");
    conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    expect(PM_SHIM_HELLO, &r);
    pm_read_str(&r, version, sizeof version);
    cr_expect(pm_read_u32(&r) <= 1 && pm_read_u32(&r) == 5 && pm_read_u32(&r) == (uint32_t)shim);
    cr_expect(pm_read_u8(&r) == PM_SHIM_WAY_PREPEND);
    take_facts(&r);
    cr_expect(pm_reader_end(&r) == 0);
}

static void send_bytes(const void *data, size_t len)
{
    int size = 1 << 20;
    (void)setsockopt(conn, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    cr_assert(send(conn, data, len, MSG_NOSIGNAL) == (ssize_t)len, "%s", strerror(errno));
}

static void send_packet(struct pm_writer *w)
{
    send_bytes(w->data, w->len);
    pm_writer_done(w);
}

static void send_with_fd(uint8_t type, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof fd)];
    } control = {0};
    struct iovec part = {.iov_base = &type, .iov_len = 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                          .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    cr_assert(sendmsg(conn, &m, MSG_NOSIGNAL) == 1);
}

static void welcome(void)
{
    lease = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    cr_assert(lease >= 0);
    send_with_fd(PM_SHIM_WELCOME, lease);
}

static void send_epoch(enum pm_shim_msg type, uint32_t epoch)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, (uint8_t)type);
    pm_write_u32(&w, epoch);
    send_packet(&w);
}

static struct pm_place place;

static void send_start(uint32_t epoch)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SHIM_START);
    pm_write_u32(&w, epoch);
    pm_write_u32(&w, 0);
    pm_write_place(&w, &place);
    pm_write_u32(&w, 1);
    pm_write_str(&w, "PM_EPOCH=0");
    send_packet(&w);
}

static void send_end(bool override, int status)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SHIM_END);
    pm_write_u8(&w, override);
    pm_write_i32(&w, status);
    send_packet(&w);
}

static void expect_started(uint32_t epoch)
{
    struct pm_reader r;
    expect(PM_SHIM_STARTED, &r);
    cr_expect(pm_read_u32(&r) == epoch && pm_read_u32(&r) == 0);
    rank_pid = pm_read_u32(&r);
    cr_expect(rank_pid > 0 && pm_reader_end(&r) == 0);
}

// Returns the wait status; *ret_pid is 0 for a rank that never ran.
static int expect_exited(uint32_t epoch, uint32_t *ret_pid)
{
    struct pm_reader r;
    expect(PM_SHIM_EXITED, &r);
    cr_expect(pm_read_u32(&r) == epoch && pm_read_u32(&r) == 0);
    *ret_pid = pm_read_u32(&r);
    return pm_read_i32(&r);
}

static int wait_shim(void)
{
    int status;
    for (int i = 0; i < ANSWER_MS / 5; i++) {
        pid_t pid = waitpid(shim, &status, WNOHANG);
        if (pid == shim)
            return status;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    cr_assert_fail("the shim does not end");
    return 0;
}

static const char *said(void)
{
    static char text[2048];
    ssize_t len = read(errors, text, sizeof text - 1);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

static void ends_with_exit(int code)
{
    int status = wait_shim();
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == code, "status %#x, not exit %d", status, code);
}

static void rank_is_gone(void)
{
    cr_expect(kill((pid_t)rank_pid, 0) < 0 && errno == ESRCH, "rank %u is alive", rank_pid);
}

static void need_root(void)
{
    if (geteuid() != 0)
        cr_skip_test("a shim trusts only root's listener");
    listen_as(0);
}

static void running(void)
{
    run_shim("--local=1", "sleep 60 & exec sleep 60");
    accept_hello();
    welcome();
    send_start(0);
    expect_started(0);
}

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

static void lease_ends_in(long us)
{
    struct itimerspec end = {.it_value.tv_nsec = us * 1000};
    cr_assert(timerfd_settime(lease, 0, &end, NULL) == 0);
}

static void lease_ends_now(void) { lease_ends_in(1); }

// Within 5 s.
static bool rank_is_stopped(void)
{
    char path[64], state[256];
    snprintf(path, sizeof path, "/proc/%u/stat", rank_pid);
    for (int i = 0; i < 500; i++) {
        FILE *file = fopen(path, "re");
        cr_assert(file && fgets(state, sizeof state, file));
        fclose(file);
        if (strstr(state, ") T "))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

Test(shim, a_lease_that_ends_stops_the_rank_without_a_word_from_the_agent)
{
    running();
    lease_ends_now();
    cr_expect(rank_is_stopped());
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
}

static unsigned wakes(void)
{
    char path[64], line[256];
    unsigned n = UINT_MAX;
    snprintf(path, sizeof path, "/proc/%d/status", (int)shim);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "voluntary_ctxt_switches: %u", &n) != 1)
        ;
    cr_assert(file && n != UINT_MAX);
    fclose(file);
    return n;
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// Five leases' time. False if we were too late ourselves to renew each of them.
static bool renew_in_time(void)
{
    uint64_t begin_us = now_us(), last_us = begin_us, late_us = 0;
    while (last_us < begin_us + 5 * LEASE_US) {
        lease_ends_in(LEASE_US);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        uint64_t gap_us = now_us() - last_us;
        last_us += gap_us;
        late_us = gap_us > late_us ? gap_us : late_us;
    }
    return late_us < LEASE_US;
}

Test(shim, a_lease_that_is_renewed_wakes_nobody)
{
    running();
    for (int i = 0; i < 20; i++) {
        unsigned before = wakes();
        if (!renew_in_time())
            continue;
        cr_expect(wakes() - before <= 1, "it has looked at the lease %u times", wakes() - before);
        break;
    }
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
}

// The agent continues the ranks itself. A shim that was stopped meanwhile hears of it when the lease is over again.
Test(shim, what_the_agent_has_continued_stands_again_when_the_lease_is_over)
{
    struct pm_writer w = {0};
    running();
    lease_ends_now();
    cr_expect(rank_is_stopped());
    cr_assert(kill((pid_t)rank_pid, SIGCONT) == 0);
    pm_write_u8(&w, PM_SHIM_RESUME);
    send_packet(&w);
    cr_expect(rank_is_stopped());
    send_end(true, 0);
    ends_with_exit(0);
    rank_is_gone();
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
