// SPDX-License-Identifier: Apache-2.0
//
// The real srun as our child: start, signals, report, end.
//
// Signals. Those of the keyboard (INT, QUIT, TSTP, TTIN, TTOU) reach srun directly, as it is in our process
// group: passed on they would count twice, and two Ctrl-C within a second end the step. The same signals
// from kill(1) are meant for the srun that the user knows, which is us, and are passed on. TERM and HUP mean
// "stop for good"; the rest is passed on.
// When srun is stopped by the terminal (Ctrl-Z) we stop too, so that the shell sees its job stopped.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/util.h"
#include "pmix_server/wire/buf.h"

#define REPORT_MAX 512
#define REPORT_END_MS 2000
#define INTERRUPT_NS UINT64_C(1000000000)  // two SIGINT within it end the step: "one more within 1 sec to abort"

extern char **environ;

enum treatment { KEEP = 0, KEYBOARD, INTERRUPT, QUIT, PASS, WAKE, STOP };

static const struct {
    int signal;
    enum treatment treatment;
} treatments[] = {
    {SIGINT, INTERRUPT}, {SIGQUIT, QUIT},     {SIGTSTP, KEYBOARD}, {SIGTTIN, KEYBOARD},
    {SIGTTOU, KEYBOARD}, {SIGTERM, STOP},     {SIGHUP, STOP},      {SIGUSR1, PASS},
    {SIGUSR2, PASS},     {SIGALRM, PASS},     {SIGCONT, WAKE},     {SIGPIPE, KEEP},
    {SIGCHLD, KEEP},
};

#define TREATMENTS (sizeof(treatments) / sizeof(*treatments))

void pm_srun_inherit(struct inherited *in)
{
    for (int sig = 1; sig < PM_SIGNALS; sig++)
        sigaction(sig, NULL, &in->actions[sig]);
    getrlimit(RLIMIT_NOFILE, &in->nofile);
}

// srun answers TERM and HUP with SIGKILL for the whole step. A step that runs is ended by the core
// instead, in order and in bounded time; srun gets the signal if there is no step yet, and the second time.
// To QUIT and the second INT srun answers the same, and that is what the user wants: the core only hears of it.
static bool stop_wanted(struct coordinator *c, int sig)
{
    bool untold = c->launched && !c->stop_wanted && sig != SIGQUIT && sig != SIGINT;
    c->stop_wanted = true;
    pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_STOP, .signal = sig,
                                             .flag_untold = untold});
    return !untold;
}

// Else the core would have to guess it from shims that die before they can say by what.
static void count_interrupts(struct coordinator *c)
{
    uint64_t now_ns = pm_clock_ns();
    if (c->interrupted_ns && now_ns - c->interrupted_ns < INTERRUPT_NS)
        (void)stop_wanted(c, SIGINT);
    else if (!c->srun)  // nodes are waited for, before another launch, and nobody else would answer
        pm_coordinator_say(c, "interrupt (one more within 1 sec to stop the step)");
    c->interrupted_ns = now_ns;
}

// The shell's `fg` continues the whole process group; then srun runs again already.
static bool srun_is_stopped(const struct coordinator *c)
{
    char path[32], text[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)c->srun);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *end_of_name = strrchr(text, ')');
    return end_of_name && !strncmp(end_of_name, ") T", 3);
}

static bool is_for_srun(struct coordinator *c, enum treatment treatment,
                        const struct signalfd_siginfo *info)
{
    switch (treatment) {
    case INTERRUPT:
        count_interrupts(c);
        return info->ssi_code != SI_KERNEL;
    case QUIT:
        (void)stop_wanted(c, SIGQUIT);
        return info->ssi_code != SI_KERNEL;
    case KEYBOARD:
        return info->ssi_code != SI_KERNEL;
    case PASS:
        return true;
    case WAKE:
        return srun_is_stopped(c);
    case STOP:
        return stop_wanted(c, (int)info->ssi_signo);
    default:
        return false;
    }
}

static void on_signal(const struct signalfd_siginfo *info, void *arg)
{
    struct coordinator *c = arg;
    int sig = (int)info->ssi_signo;
    if (sig == SIGCHLD) {
        pm_children_reap(c->children, true);
        return;
    }
    for (size_t i = 0; i < TREATMENTS; i++) {
        if (treatments[i].signal != sig)
            continue;
        if (is_for_srun(c, treatments[i].treatment, info) && c->srun)
            kill(c->srun, sig);
    }
}

static int signals_start(struct coordinator *c)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < TREATMENTS; i++) {
        // Ignored by whoever started us (nohup, a script's background job): stays ignored.
        int sig = treatments[i].signal;
        if (sig == SIGCHLD || c->inherited.actions[sig].sa_handler != SIG_IGN)
            sigaddset(&set, sig);
    }
    // An ignored SIGCHLD would make the kernel reap our children itself.
    signal(SIGCHLD, SIG_DFL);
    return pm_signals_new(c->base, &set, on_signal, c, &c->signals);
}

static void on_srun_changed(pid_t pid, int status, void *arg)
{
    struct coordinator *c = arg;
    if (WIFSTOPPED(status)) {
        int sig = WSTOPSIG(status);
        // Only the terminal's stops: one that was sent to srun alone is for srun alone.
        if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
            raise(SIGSTOP);
        return;
    }
    c->srun = 0;
    // An srun that was killed could not do so itself. At once: what a stopped terminal (Ctrl-S) still has to show would
    // hold us up, and the whole step with us.
    if (c->has_terminal && WIFSIGNALED(status))
        tcsetattr(STDIN_FILENO, TCSANOW, &c->terminal);
    c->srun_status = status;
    if (!c->launched && !c->has_verdict) {
        // No step, nothing to judge: srun has said why.
        c->verdict = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        c->has_verdict = true;
    }
    if (c->has_verdict)
        event_base_loopbreak(c->base);
    else
        pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_SRUN_EXITED,
                                                 .wait_status = status});
}

static void cannot_supervise(struct coordinator *c, const char *text)
{
    pm_coordinator_say(c, text);
    pm_coordinator_finish(c, PM_EXIT_CANNOT_SUPERVISE);
}

static void on_report_timer(evutil_socket_t fd, short what, void *arg)
{
    struct coordinator *c = arg;
    if (c->srun && !c->launched && !c->has_verdict)
        cannot_supervise(c, "srun has a step, but the plugin in it cannot tell which");
}

// Usually srun ends, and is reaped in a moment. If it lives on, there is a step that we know nothing of.
static void report_ended(struct coordinator *c)
{
    struct timeval tv = pm_timeval_of_ms(REPORT_END_MS);
    if (event_base_once(c->base, -1, EV_TIMEOUT, on_report_timer, c, &tv))
        on_report_timer(-1, EV_TIMEOUT, c);
}

static void on_report(evutil_socket_t fd, short what, void *arg)
{
    struct coordinator *c = arg;
    uint8_t packet[REPORT_MAX];
    char mpi[64], error[PM_ERROR_CAP];
    ssize_t n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);
    if (n <= 0) {
        report_ended(c);
        return;
    }
    struct pm_reader r = pm_reader_of(packet, (size_t)n);
    struct pm_event event = {.type = PM_EVENT_LAUNCHED};
    c->job = event.job = pm_read_u32(&r);
    c->step = event.step = pm_read_u32(&r);
    event.nnodes = pm_read_u32(&r);
    event.ntasks = pm_read_u32(&r);
    pm_read_str(&r, mpi, sizeof(mpi));
    if (pm_reader_end(&r) < 0 || c->launched) {
        cannot_supervise(c, "the plugin in srun and pm-coordinator do not understand each other: "
                            "install both from the same build");
        return;
    }
    c->launched = true;
    c->launched_s = (long long)time(NULL);
    if (*mpi && strcmp(mpi, "none") != 0) {
        char text[PM_TEXT_CAP];
        snprintf(text, sizeof(text),
                 "srun uses --mpi=%s although it was told not to; is there a cli_filter or an "
                 "alias that sets it?",
                 mpi);
        cannot_supervise(c, text);
        return;
    }
    if (pm_coordinator_log_open(c, error) < 0)
        cannot_supervise(c, error);
    else
        pm_loop_post(c->loop, &event);
}

__attribute__((noreturn)) static void become_srun(const struct coordinator *c, char **env,
                                                  pid_t parent)
{
    for (int sig = 1; sig < PM_SIGNALS; sig++) {
        if (sig != SIGKILL && sig != SIGSTOP)
            sigaction(sig, &c->inherited.actions[sig], NULL);
    }
    sigprocmask(SIG_SETMASK, pm_signals_old_mask(c->signals), NULL);
    setrlimit(RLIMIT_NOFILE, &c->inherited.nofile);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent)
        execve(c->exe, c->argv.argv, env);
    char text[PM_PATH_CAP + 64];
    int n = snprintf(text, sizeof(text), "pm-supervise: cannot run %s: %s\n", c->exe,
                     strerror(errno));
    (void)!write(STDERR_FILENO, text, (size_t)n);
    _exit(PM_EXIT_CANNOT_SUPERVISE);
}

static int srun_fork(struct coordinator *c, int report_fd)
{
    char **env = pm_srun_environment(c, environ, report_fd);
    if (!env)
        return -ENOMEM;
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        become_srun(c, env, self);
    int error = errno;
    pm_environment_free(env);
    if (pid < 0)
        return -error;
    c->srun = pid;
    return pm_children_watch(c->children, pid, on_srun_changed, c);
}

static void on_kill_timer(evutil_socket_t fd, short what, void *arg)
{
    struct coordinator *c = arg;
    if (c->srun)
        kill(c->srun, SIGKILL);
}

// The timer is made at once: without memory later, srun would have to be killed before it has ended the step.
int pm_srun_start(struct coordinator *c)
{
    int fds[2];
    int r = signals_start(c);
    c->has_terminal = c->argv.pty && tcgetattr(STDIN_FILENO, &c->terminal) == 0;
    c->kill_timer = evtimer_new(c->base, on_kill_timer, c);
    if (r == 0 && !c->kill_timer)
        r = -ENOMEM;
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    c->report_fd = fds[0];
    r = pm_fd_cloexec(fds[1], 0);
    c->report = event_new(c->base, fds[0], EV_READ, on_report, c);
    if (r == 0 && (!c->report || event_add(c->report, NULL)))
        r = -ENOMEM;
    if (r == 0)
        r = srun_fork(c, fds[1]);
    close(fds[1]);
    return r;
}

void pm_srun_end(struct coordinator *c, int sig, uint64_t timeout_ms)
{
    struct timeval tv = pm_timeval_of_ms(timeout_ms);
    if (!c->srun)
        return;
    kill(c->srun, sig);
    kill(c->srun, SIGCONT);
    if (evtimer_add(c->kill_timer, &tv))
        kill(c->srun, SIGKILL);
}

void pm_srun_done(struct coordinator *c)
{
    if (c->report)
        event_free(c->report);
    if (c->kill_timer)
        event_free(c->kill_timer);
    if (c->report_fd >= 0)
        close(c->report_fd);
    c->signals = pm_signals_free(c->signals);
}
