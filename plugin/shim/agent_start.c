// SPDX-License-Identifier: Apache-2.0
//
// See agent_start.h. Between fork and exec only system calls: the caller may be a fork of the
// multithreaded slurmstepd.
#include "plugin/shim/agent_start.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/shim/fds.h"

#define AGENT_LISTENER 3
#define AGENT_KEY 4
#define AGENT_ERROR 5
#define AGENT_NOFILE 65536
#define AGENT_STACK (8 * 1024 * 1024)
#define MAX_CPUS 8192

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static bool decode_key(const char *hex, uint8_t *key)
{
    if (strnlen(hex, PM_KEY_HEX + 1) != PM_KEY_HEX)
        return false;
    for (size_t i = 0; i < PM_KEY_SIZE; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        key[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

int pm_agent_key_pipe(const char *hex)
{
    uint8_t key[PM_KEY_SIZE];
    int ends[2] = {-1, -1};
    if (!decode_key(hex, key))
        return -EINVAL;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        explicit_bzero(key, sizeof key);
        return -errno;
    }
    ssize_t len = write(ends[1], key, sizeof key);
    explicit_bzero(key, sizeof key);
    close(ends[1]);
    if (len == (ssize_t)sizeof key)
        return ends[0];
    close(ends[0]);
    return -EIO;
}

static void reset_signals(void)
{
    sigset_t none;
    for (int signal = 1; signal < NSIG; signal++)
        (void)sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

// The user's soft limits are for the program (--propagate); the agent has to live next to it.
static void reset_limits(void)
{
    static const int to_the_top[] = {RLIMIT_CPU,  RLIMIT_FSIZE, RLIMIT_DATA,
                                     RLIMIT_AS,   RLIMIT_NPROC, RLIMIT_MEMLOCK};
    struct rlimit limit;
    for (size_t i = 0; i < sizeof to_the_top / sizeof to_the_top[0]; i++) {
        if (getrlimit((__rlimit_resource_t)to_the_top[i], &limit) < 0)
            continue;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit((__rlimit_resource_t)to_the_top[i], &limit);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < AGENT_NOFILE ? limit.rlim_max : AGENT_NOFILE;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (getrlimit(RLIMIT_STACK, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max < AGENT_STACK ? limit.rlim_max : AGENT_STACK;
        (void)setrlimit(RLIMIT_STACK, &limit);
    }
    if (getrlimit(RLIMIT_CORE, &limit) == 0) {
        limit.rlim_cur = 0;
        (void)setrlimit(RLIMIT_CORE, &limit);
    }
}

// The task's binding is for the program; the kernel cuts the full mask down to the step's cpuset.
static void widen_placement(void)
{
    unsigned char mask[MAX_CPUS / 8];
    memset(mask, 0xff, sizeof mask);
    (void)sched_setaffinity(0, sizeof mask, (const cpu_set_t *)(const void *)mask);
    (void)syscall(SYS_set_mempolicy, 0 /* MPOL_DEFAULT */, NULL, 0);
}

// Moves the three fds to their places; nothing else stays open. False if one cannot be moved.
static bool place_fds(const struct pm_agent_start *start, int error)
{
    // Out of the way first: any of them may already sit on a number that another one needs.
    int listener = fcntl(start->listener, F_DUPFD_CLOEXEC, PM_FD_FLOOR);
    int key = fcntl(start->key, F_DUPFD_CLOEXEC, PM_FD_FLOOR);
    error = fcntl(error, F_DUPFD_CLOEXEC, PM_FD_FLOOR);
    if (listener < 0 || key < 0 || error < 0)
        return false;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0)
        null = fcntl(null, F_DUPFD_CLOEXEC, PM_FD_FLOOR);
    if (null < 0)
        return false;
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) < 0)
            return false;
    if (dup2(listener, AGENT_LISTENER) < 0 || dup2(key, AGENT_KEY) < 0 ||
        dup3(error, AGENT_ERROR, O_CLOEXEC) < 0)
        return false;
    pm_fds_close_from(AGENT_ERROR + 1);
    return true;
}

__attribute__((noreturn)) static void become_agent(const struct pm_agent_start *start, int error)
{
    char *const argv[] = {(char[]){"pm-agent"}, NULL};
    reset_signals();
    reset_limits();
    widen_placement();
    (void)umask(umask(077) & 077);  // the job's, but what we make for ourselves can be used
    (void)setsid();
    (void)prctl(PR_SET_PDEATHSIG, 0);
    if (place_fds(start, error)) {
        error = AGENT_ERROR;
        execve(start->path, argv, start->env);
    }
    int code = errno;
    (void)!write(error, &code, sizeof code);
    _exit(127);
}

pid_t pm_agent_start(const struct pm_agent_start *start)
{
    int ends[2], code = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        become_agent(start, ends[1]);
    }
    if (pid < 0)
        code = errno;
    close(ends[1]);
    ssize_t len = 0;
    while (pid > 0 && (len = read(ends[0], &code, sizeof code)) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    if (pid > 0 && len < 0)
        (void)kill(pid, SIGKILL);  // it may run: nothing is known of it
    if (pid > 0 && len != 0) {
        (void)waitpid(pid, NULL, 0);
        code = len == (ssize_t)sizeof code && code > 0 ? code : EIO;
    }
    return code ? -code : pid;
}
