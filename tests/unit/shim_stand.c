// SPDX-License-Identifier: Apache-2.0
//
// See shim_stand.h.
#include "tests/unit/shim_stand.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int listener = -1, conn = -1, errors = -1, lease = -1;
pid_t shim;
uint32_t rank_pid;
static char address[64];

void listen_as(uid_t uid)
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

void run_shim(const char *local, const char *script)
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

uint8_t receive(struct pm_reader *ret)
{
    static uint8_t buf[4096];
    struct pollfd p = {.fd = conn, .events = POLLIN};
    cr_assert(poll(&p, 1, ANSWER_MS) == 1, "the shim says nothing");
    ssize_t len = recv(conn, buf, sizeof buf, 0);
    *ret = pm_reader_of(buf, len > 0 ? (size_t)len : 0);
    return len > 0 ? pm_read_u8(ret) : (uint8_t)PM_SHIM_NONE;
}

void expect(enum pm_shim_msg type, struct pm_reader *ret)
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

void accept_hello(void)
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

void send_bytes(const void *data, size_t len)
{
    int size = 1 << 20;
    (void)setsockopt(conn, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    cr_assert(send(conn, data, len, MSG_NOSIGNAL) == (ssize_t)len, "%s", strerror(errno));
}

void send_packet(struct pm_writer *w)
{
    send_bytes(w->data, w->len);
    pm_writer_done(w);
}

void send_with_fd(uint8_t type, int fd)
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

void welcome(void)
{
    lease = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    cr_assert(lease >= 0);
    send_with_fd(PM_SHIM_WELCOME, lease);
}

void send_epoch(enum pm_shim_msg type, uint32_t epoch)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, (uint8_t)type);
    pm_write_u32(&w, epoch);
    send_packet(&w);
}

struct pm_place place;

void send_start(uint32_t epoch)
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

void send_end(bool override, int status)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SHIM_END);
    pm_write_u8(&w, override);
    pm_write_i32(&w, status);
    send_packet(&w);
}

void expect_started(uint32_t epoch)
{
    struct pm_reader r;
    expect(PM_SHIM_STARTED, &r);
    cr_expect(pm_read_u32(&r) == epoch && pm_read_u32(&r) == 0);
    rank_pid = pm_read_u32(&r);
    cr_expect(rank_pid > 0 && pm_reader_end(&r) == 0);
}

// Returns the wait status; *ret_pid is 0 for a rank that never ran.
int expect_exited(uint32_t epoch, uint32_t *ret_pid)
{
    struct pm_reader r;
    expect(PM_SHIM_EXITED, &r);
    cr_expect(pm_read_u32(&r) == epoch && pm_read_u32(&r) == 0);
    *ret_pid = pm_read_u32(&r);
    return pm_read_i32(&r);
}

int wait_shim(void)
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

const char *said(void)
{
    static char text[2048];
    ssize_t len = read(errors, text, sizeof text - 1);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

void ends_with_exit(int code)
{
    int status = wait_shim();
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == code, "status %#x, not exit %d", status, code);
}

void rank_is_gone(void)
{
    cr_expect(kill((pid_t)rank_pid, 0) < 0 && errno == ESRCH, "rank %u is alive", rank_pid);
}

void need_root(void)
{
    if (geteuid() != 0)
        cr_skip_test("a shim trusts only root's listener");
    listen_as(0);
}

void running(void)
{
    run_shim("--local=1", "sleep 60 & exec sleep 60");
    accept_hello();
    welcome();
    send_start(0);
    expect_started(0);
}
