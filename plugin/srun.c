// SPDX-License-Identifier: Apache-2.0
//
// The plugin inside srun. If the step is to be supervised, this process becomes the coordinator in
// init_post_opt: options are known, nothing is allocated yet, and (up to 25.11) there are no threads.
// The pid that the user's shell waits for stays the same. The coordinator then runs srun again as
// its child, marked by the coordinator's pid in SLURM_PM_STEP_CHILD; in that child the plugin only reports which step
// it got.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <slurm/slurm_version.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plugin/plugin.h"
#include "plugin/shim/fds.h"
#include "pm_config.h"
#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/exit_codes.h"

#define COORDINATOR "pm-coordinator"
#define PREFIX "SLURM_PM_STEP_"
#define NAME_CAP 128

extern char **environ;

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    char text[PM_ERROR_CAP + PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "pm-supervise: %s\n", text);
    _exit(PM_EXIT_CANNOT_SUPERVISE);
}

static bool is_child;

bool pm_srun_is_child(void)
{
    return is_child;
}

static void unset_prefix(void)
{
    char name[NAME_CAP];
    for (char **entry = environ; entry && *entry;) {
        char *before = *entry;
        size_t len = strcspn(before, "=");
        if (strncmp(before, PREFIX, strlen(PREFIX)) == 0 && before[len] && len < sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)len, before);
            (void)unsetenv(name);
        }
        entry += *entry == before;
    }
}

void pm_srun_leave_outer_step(void)
{
    static const char *const borrowed[] = {PM_BORROWED};
    char name[NAME_CAP];
    if (!getenv(PREFIX "CHILD"))
        return;
    for (size_t i = 0; i < sizeof borrowed / sizeof borrowed[0]; i++) {
        snprintf(name, sizeof name, PREFIX "ENV_%s", borrowed[i]);
        const char *original = getenv(name);
        if (!original)
            (void)unsetenv(borrowed[i]);
        else if (setenv(borrowed[i], original, 1) < 0)
            give_up("out of memory");
    }
    unset_prefix();
}

void pm_srun_refuse(const char *sentence)
{
    give_up("%s", sentence);
}

// --- in the child: the report -------------------------------------------------------------------

static int report_fd(void)
{
    const char *text = getenv(PREFIX "REPORT_FD");
    char *end;
    long fd = text ? strtol(text, &end, 10) : -1;
    return text && end != text && *end == '\0' && fd > 2 && fd < INT_MAX ? (int)fd : -1;
}

// Looked at only once: a child srun stays one when the coordinator is gone.
void pm_srun_init(void)
{
    const char *mark = getenv(PREFIX "CHILD");
    char parent[16];
    snprintf(parent, sizeof parent, "%d", (int)getppid());
    is_child = mark && strcmp(mark, parent) == 0;
    int fd = is_child ? report_fd() : -1;
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);  // not for SrunProlog and the like
    if (!is_child)
        pm_srun_leave_outer_step();
}

static void check_child(void)
{
    const char *version = getenv(PREFIX "VERSION");
    if (!version || strcmp(version, PM_VERSION) != 0)
        give_up("pm_supervise.so is version %s, " COORDINATOR " is version %s; install "
                "the same build of both", PM_VERSION, version ? version : "unknown");
}

int pm_srun_user_init(spank_t spank)
{
    uint32_t job = 0, step = 0, nnodes = 0, ntasks = 0;
    int fd = pm_srun_is_child() ? report_fd() : -1;
    if (fd < 0)
        return 0;
    struct pm_writer w = {0};
    const char *mpi = getenv("SLURM_MPI_TYPE");
    // Without an answer the socket is closed in silence, and the coordinator says so: here a step
    // exists already, and srun has to end it in its own way.
    if (spank_get_item(spank, S_JOB_ID, &job) == ESPANK_SUCCESS &&
        spank_get_item(spank, S_JOB_STEPID, &step) == ESPANK_SUCCESS &&
        spank_get_item(spank, S_JOB_NNODES, &nnodes) == ESPANK_SUCCESS &&
        spank_get_item(spank, S_JOB_TOTAL_TASK_COUNT, &ntasks) == ESPANK_SUCCESS) {
        pm_write_u32(&w, job);
        pm_write_u32(&w, step);
        pm_write_u32(&w, nnodes);
        pm_write_u32(&w, ntasks);
        pm_write_str(&w, mpi ? mpi : "");
        // The coordinator made us die with it. From here on a step exists, whose agents notice its death,
        // end their ranks and clean up; srun's own way would be SIGKILL for all of them at once.
        if (send(fd, w.data, w.len, MSG_NOSIGNAL) < 0)
            give_up("the coordinator is gone; the step is not launched");
        (void)prctl(PR_SET_PDEATHSIG, 0);
    }
    pm_writer_done(&w);
    close(fd);
    return 0;
}

// --- becoming the coordinator -------------------------------------------------------------------

struct command_line {
    char *bytes;
    char **argv;  // NULL-terminated, points into bytes
    int n;
};

static char *read_all(const char *path, size_t *ret_len)
{
    size_t cap = 4096, len = 0;
    char *buf = malloc(cap);
    int fd = buf ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        if (len == cap) {
            char *bigger = realloc(buf, cap *= 2);
            if (!bigger)
                break;
            buf = bigger;
        }
        n = read(fd, buf + len, cap - len);
        len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    if (n == 0 && len > 0 && buf[len - 1] == '\0') {
        *ret_len = len;
        return buf;
    }
    free(buf);
    return NULL;
}

// srun's own arguments as the kernel got them. False without memory or /proc.
static bool read_command_line(struct command_line *ret)
{
    size_t len = 0;
    ret->bytes = read_all("/proc/self/cmdline", &len);
    if (!ret->bytes)
        return false;
    ret->n = 0;
    for (size_t i = 0; i < len; i++)
        ret->n += ret->bytes[i] == '\0';
    ret->argv = calloc((size_t)ret->n + 1, sizeof *ret->argv);
    if (!ret->argv)
        return false;
    char *at = ret->bytes;
    for (int i = 0; i < ret->n; i++, at += strlen(at) + 1)
        ret->argv[i] = at;
    return true;
}

// Index of the program in srun's argv; getopt has stopped there. 0: there is none.
static int program_index(const struct command_line *line)
{
    return optind > 0 && optind < line->n ? optind : 0;
}

// srun also starts what is no step of ours: salloc's interactive step, and nothing at all.
static bool runs_no_step(const struct command_line *line)
{
    int end = program_index(line) ? program_index(line) : line->n;
    for (int i = 1; i < end; i++)
        if (strcmp(line->argv[i], "--interactive") == 0 ||
            strcmp(line->argv[i], "--test-only") == 0)
            return true;
    return false;
}

static bool is_debugged(void)
{
    const volatile int *debugged = dlsym(RTLD_DEFAULT, "MPIR_being_debugged");
    return debugged && *debugged;
}

// The descriptor that a file name in the word stands for ("-o/dev/fd/3", "--input=/proc/self/fd/63"), -1: none.
static int named_fd(const char *word)
{
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        const char *at = strstr(word, folders[i]);
        char *end = NULL;
        long fd = at ? strtol(at + strlen(folders[i]), &end, 10) : -1;
        if (at && end != at + strlen(folders[i]) && fd >= 0 && fd < INT_MAX)
            return (int)fd;
    }
    return -1;
}

// The smallest one from `first` on that srun's own words name; INT_MAX: none.
static int next_named_fd(const struct command_line *line, int first)
{
    int end = program_index(line) ? program_index(line) : line->n, least = INT_MAX;
    for (int i = 1; i < end; i++) {
        int fd = named_fd(line->argv[i]);
        if (fd >= first && fd < least)
            least = fd;
    }
    return least;
}

// The user's shell has opened what is named ("-i <(gen)", "-o /dev/fd/3"), and the real srun will ask for it. All else
// is srun's.
static void close_all_but_named(const struct command_line *line)
{
    for (int first = STDERR_FILENO + 1; first < INT_MAX;) {
        int named = next_named_fd(line, first);
        pm_fds_close_range(first, named == INT_MAX ? INT_MAX : named - 1);
        first = named == INT_MAX ? INT_MAX : named + 1;
    }
}

// What srun did to this process, and what an exec would hand on to the coordinator. Which signals the caller had
// blocked before srun did is not to be found out.
static void undo_srun(const struct command_line *line)
{
    static const int blocked[] = {SIGINT,  SIGQUIT, SIGCONT, SIGTERM, SIGHUP,
                                  SIGALRM, SIGUSR1, SIGUSR2, SIGPIPE, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof blocked / sizeof blocked[0]; i++)
        sigaddset(&set, blocked[i]);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(26, 5, 0)
    (void)signal(SIGTTIN, SIG_DFL);  // srun ignores it from 26.05 on
#endif
    close_all_but_named(line);
}

static void export_options(struct pm_options *o)
{
    char text[PM_OPTIONS_TEXT_CAP];
    if (o->port_min == 0)
        (void)pm_srun_port_range(&o->port_min, &o->port_max);
    if (pm_options_encode(o, text, sizeof text) < 0 || setenv(PREFIX "CONF", text, 1) < 0)
        give_up("out of memory");
}

__attribute__((noreturn)) static void become_coordinator(const struct command_line *line,
                                                         const char *libexec)
{
    char path[PATH_MAX], exe[PATH_MAX + 8] = "--exe=", program[32], where[PATH_MAX + 16];
    ssize_t len = readlink("/proc/self/exe", exe + 6, sizeof exe - 7);
    char **argv = calloc((size_t)line->n + 6, sizeof *argv);
    if (len < 0 || !argv)
        give_up("cannot find out which srun this is: %s", strerror(errno));
    exe[6 + len] = '\0';
    snprintf(path, sizeof path, "%s/" COORDINATOR, libexec);
    snprintf(program, sizeof program, "--program=%d", program_index(line));
    snprintf(where, sizeof where, "--libexec=%s", libexec);
    argv[0] = (char[]){COORDINATOR};
    argv[1] = exe;
    argv[2] = program;
    argv[3] = where;
    argv[4] = (char[]){"--"};
    memcpy(argv + 5, line->argv, (size_t)line->n * sizeof *argv);
    undo_srun(line);
    execv(path, argv);
    give_up("cannot start %s: %s; is pm-supervise installed on this host, or libexec= missing in "
            "plugstack.conf?", path, strerror(errno));
}

int pm_srun_post_opt(int ac, char **av)
{
    static int components;
    struct pm_options o;
    struct command_line line = {0};
    char error[PM_ERROR_CAP];
    if (pm_srun_is_child()) {
        check_child();
        return 0;
    }
    int rc = pm_plugin_options_resolve(&o, ac, av, error);
    if (o.mode == PM_MODE_OFF) {
        components++;
        return 0;
    }
    if (components > 0)
        give_up("heterogeneous steps cannot be supervised; run each component as a step of its own");
    if (!read_command_line(&line))
        give_up("cannot read srun's command line from /proc: %s", strerror(errno));
    if (runs_no_step(&line)) {
        free(line.argv);
        free(line.bytes);
        return 0;
    }
    if (rc < 0)
        give_up("%s", error);
    if (is_debugged()) {
        slurm_spank_log("pm-supervise: srun runs under a parallel debugger, so this step is not "
                        "supervised");
        return 0;
    }
    pm_no_kill_at_start(&o);
    export_options(&o);
    become_coordinator(&line, pm_plugin_libexec(ac, av));
}
