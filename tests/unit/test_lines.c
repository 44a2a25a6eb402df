// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/io/lines.h promises: who puts a line never waits (a test that does is ended by its timeout), all
// lines come, in order, as soon as somebody reads, and what did not fit is counted where it is missing.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "pmix_server/io/lines.h"
#include "pmix_server/io/util.h"

#define PIPE_HOLDS 65536u

static struct event_base *base;
static struct pm_lines *lines;
static int fd[2];  // to read from; to write to
static bool opens_nothing;
static char got[4 * PM_LINES_WAIT];
static size_t n_got;

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (!opens_nothing)
        return __real_open(path, flags, mode);
    errno = EACCES;
    return -1;
}

static bool is_full;

ssize_t __real_write(int to, const void *data, size_t len);
ssize_t __wrap_write(int to, const void *data, size_t len);
ssize_t __wrap_write(int to, const void *data, size_t len)
{
    if (!is_full)
        return __real_write(to, data, len);
    errno = EAGAIN;
    return -1;
}

static void begun(void)
{
    signal(SIGPIPE, SIG_IGN);
    base = event_base_new();
    cr_assert(base);
}

static void ended(void)
{
    lines = pm_lines_free(lines);
    event_base_free(base);
}

TestSuite(lines, .init = begun, .fini = ended, .timeout = 20);

static void open_on(int to) { cr_assert_eq(pm_lines_new(base, to, false, &lines), 0); }

static void open_pipe(void)
{
    cr_assert_eq(pipe(fd), 0);
    cr_assert_eq(pm_fd_nonblock(fd[0]), 0);
    open_on(fd[1]);
}

static size_t format(unsigned n, char *buf, size_t cap)
{
    return (size_t)snprintf(buf, cap, "line %u, which is as long as what we say: rank 17 killed by signal 9", n);
}

static void put(unsigned n)
{
    char text[128];
    pm_lines_put(lines, text, format(n, text, sizeof(text)));
}

static void put_many(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        put(i);
}

// Reads all that comes, in pieces, while the loop runs.
static void read_all(void)
{
    ssize_t n = 1;
    for (int quiet = 0; quiet < 3; quiet = n > 0 ? 0 : quiet + 1) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        n = read(fd[0], got + n_got, 3000);
        cr_assert(n > 0 || (n < 0 && errno == EAGAIN));
        n_got += n > 0 ? (size_t)n : 0;
    }
    got[n_got] = '\0';
}

// Lines first, first + 1, ... until something else comes. Returns the number after the last one, *rest what comes.
static unsigned expect_lines(char *text, unsigned first, char **rest)
{
    unsigned n;
    int len = 0;
    while (sscanf(text, "line %u, which is as long as what we say: rank 17 killed by signal 9%n", &n, &len) == 1 && len) {
        cr_assert_eq(n, first, "%u came where %u was to come", n, first);
        cr_assert_eq(text[len], '\n');
        text += len + 1;
        first++;
        len = 0;
    }
    *rest = text;
    return first;
}

static void expect_all(unsigned n)
{
    char *rest;
    cr_expect_eq(expect_lines(got, 0, &rest), n);
    cr_expect_str_empty(rest);
}

Test(lines, a_pipe_that_nobody_reads_holds_nobody_up_and_all_is_there_later)
{
    open_pipe();
    put_many(0, 5000);
    read_all();
    cr_expect_gt(n_got, 4 * PIPE_HOLDS);
    expect_all(5000);
    cr_expect_eq(fcntl(fd[1], F_GETFL) & O_NONBLOCK, 0, "others share it");
}

Test(lines, a_line_goes_out_at_once_when_somebody_reads)
{
    open_pipe();
    put(0);
    n_got = (size_t)read(fd[0], got, 1000);
    expect_all(1);
}

Test(lines, a_pipe_that_cannot_be_opened_again_is_asked_before_each_write)
{
    opens_nothing = true;
    open_pipe();
    put_many(0, 5000);
    read_all();
    expect_all(5000);
}

Test(lines, a_socket_is_no_different)
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    cr_assert_eq(pm_fd_nonblock(fd[0]), 0);
    open_on(fd[1]);
    put_many(0, 9000);
    read_all();
    expect_all(9000);
    cr_expect_eq(fcntl(fd[1], F_GETFL) & O_NONBLOCK, 0, "others share it");
}

Test(lines, a_stopped_terminal_is_no_different)
{
    struct termios raw;
    cr_assert_eq(openpty(&fd[0], &fd[1], NULL, NULL, NULL), 0);
    cr_assert_eq(tcgetattr(fd[1], &raw), 0);
    cfmakeraw(&raw);
    cr_assert_eq(tcsetattr(fd[1], TCSANOW, &raw), 0);
    cr_assert_eq(pm_fd_nonblock(fd[0]), 0);
    open_on(fd[1]);
    cr_assert_eq(tcflow(fd[1], TCOOFF), 0);
    put_many(0, 3000);
    read_all();
    cr_expect_eq(n_got, 0);
    cr_assert_eq(tcflow(fd[1], TCOON), 0);
    read_all();
    expect_all(3000);
}

Test(lines, a_raw_terminal_gets_both_ends_of_a_line)
{
    cr_assert_eq(pipe(fd), 0);
    cr_assert_eq(pm_lines_new(base, fd[1], true, &lines), 0);
    pm_lines_put(lines, "one", 3);
    pm_lines_put(lines, "two", 3);
    cr_expect_eq(read(fd[0], got, 100), 10);
    cr_expect_arr_eq(got, "one\r\ntwo\r\n", 10);
}

Test(lines, what_does_not_fit_is_counted_where_it_is_missing)
{
    enum { ALL = 30000 };
    char *rest;
    int len = 0;
    unsigned lost = 0;
    open_pipe();
    put_many(0, ALL);
    read_all();
    unsigned n = expect_lines(got, 0, &rest);
    cr_expect_gt(n_got, PM_LINES_WAIT - PIPE_HOLDS);
    sscanf(rest, "pm-supervise: %u lines were not shown, as nobody read\n%n", &lost, &len);
    cr_assert_gt(len, 0, "the count is missing: %.60s", rest);
    cr_expect_eq(n + lost, ALL);
    cr_expect_str_empty(rest + len);
    n_got = 0;
    put(0);
    read_all();
    expect_all(1);
}

Test(lines, a_line_that_fits_again_follows_the_count)
{
    char *rest;
    int len = 0;
    unsigned lost = 0;
    open_pipe();
    put_many(0, 30000);
    event_base_loop(base, EVLOOP_NONBLOCK);
    n_got = (size_t)read(fd[0], got, 20000);
    event_base_loop(base, EVLOOP_NONBLOCK);
    put(30000);
    read_all();
    unsigned n = expect_lines(got, 0, &rest);
    sscanf(rest, "pm-supervise: %u lines were not shown, as nobody read\n%n", &lost, &len);
    cr_assert_gt(len, 0, "the count is missing: %.60s", rest);
    cr_expect_eq(n + lost, 30000);
    cr_expect_eq(expect_lines(rest + len, 30000, &rest), 30001);
    cr_expect_str_empty(rest);
}

Test(lines, the_end_waits_no_longer_than_it_is_told)
{
    open_pipe();
    put_many(0, 5000);
    uint64_t began_ns = pm_clock_ns();
    pm_lines_flush(lines, 200, 1000);
    uint64_t ms = (pm_clock_ns() - began_ns) / 1000000;
    cr_expect(ms >= 200 && ms < 900, "%u ms", (unsigned)ms);
}

// A process that takes `piece` bytes every `us`, and ends with 0 when it got `wanted`.
static pid_t reader(useconds_t us, size_t piece, size_t wanted)
{
    static char buf[PIPE_HOLDS];
    pid_t pid = fork();
    if (pid)
        return pid;
    fcntl(fd[0], F_SETFL, 0);
    for (ssize_t n; wanted && (n = read(fd[0], buf, piece)) > 0; wanted -= (size_t)n)
        usleep(us);
    _exit(wanted ? 1 : 0);
}

Test(lines, a_slow_reader_gets_all_at_the_end)
{
    int status;
    char text[128];
    size_t wanted = 0;
    open_pipe();
    put_many(0, 5000);
    for (unsigned i = 0; i < 5000; i++)
        wanted += format(i, text, sizeof(text)) + 1;
    pid_t pid = reader(20000, PIPE_HOLDS / 4, wanted);
    pm_lines_flush(lines, 200, 10000);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect_eq(status, 0, "not all came");
}

Test(lines, a_reader_who_never_gets_done_has_his_time)
{
    open_pipe();
    put_many(0, 5000);
    pid_t pid = reader(50000, 4096, SIZE_MAX);
    uint64_t began_ns = pm_clock_ns();
    pm_lines_flush(lines, 200, 500);
    uint64_t ms = (pm_clock_ns() - began_ns) / 1000000;
    cr_expect(ms >= 500 && ms < 1500, "%u ms", (unsigned)ms);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

Test(lines, a_reader_who_is_gone_is_written_to_no_more)
{
    open_pipe();
    put_many(0, 5000);
    close(fd[0]);
    event_base_loop(base, EVLOOP_NONBLOCK);
    put(5000);
    uint64_t began_ns = pm_clock_ns();
    pm_lines_flush(lines, 2000, 10000);
    cr_expect_lt(pm_clock_ns() - began_ns, UINT64_C(1000000000));
}

// A file is shared as well, and whoever writes to it goes on where the others are.
Test(lines, a_file_is_written_at_once)
{
    char path[] = "/tmp/pm-lines-XXXXXX";
    fd[0] = fd[1] = mkstemp(path);
    cr_assert_geq(fd[1], 0);
    unlink(path);
    open_on(fd[1]);
    put(0);
    cr_expect_eq(write(fd[1], "line 1, which is as long as what we say: rank 17 killed by signal 9\n", 68), 68);
    put(2);
    n_got = (size_t)pread(fd[0], got, sizeof(got), 0);
    expect_all(3);
}

// A device of a kind that we do not know, with O_NONBLOCK set by whoever gave it to us.
Test(lines, what_takes_nothing_now_and_cannot_be_waited_for_is_tried_again_with_the_next_line)
{
    char path[] = "/tmp/pm-lines-XXXXXX";
    fd[1] = mkstemp(path);
    fd[0] = open(path, O_RDONLY);
    cr_assert(fd[0] >= 0 && fd[1] >= 0);
    unlink(path);
    open_on(fd[1]);
    is_full = true;
    put(0);
    is_full = false;
    put(1);
    ssize_t n = read(fd[0], got, sizeof(got) - 1);
    cr_assert_gt(n, 0);
    expect_all(2);
}
