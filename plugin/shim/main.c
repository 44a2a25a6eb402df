// SPDX-License-Identifier: Apache-2.0
//
// pm-shim: the shim as a program, put before the user's command line by the plugin where Slurm has
// spank_prepend_task_argv (23.11 and later). Static and without dependencies, because it also runs
// inside containers.
//
//   pm-shim --local=N --rank=N --node=NAME --socket=ADDRESS
//           [--agent=PATH --listener=FD --key=FD --env=NAME=VALUE ...] -- PROGRAM ARGS...
//
// The second line is there for local task 0 only, which starts the agent. The program is found as
// slurmstepd finds it: by PATH, with the folder of --bcast completed to the broadcast file's name.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/shim/agent_start.h"
#include "plugin/shim/apply.h"
#include "plugin/shim/shim.h"

struct arguments {
    const char *local, *rank, *node, *socket, *agent, *listener, *key;
    char **env;  // borrows argv, NULL-terminated
    char **program;
};

static const char *value_of(const char *argument, const char *name)
{
    size_t len = strlen(name);
    return strncmp(argument, name, len) == 0 ? argument + len : NULL;
}

static int parse(char **argv, struct arguments *a)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"--local=", &a->local}, {"--rank=", &a->rank},         {"--node=", &a->node},
                 {"--socket=", &a->socket}, {"--agent=", &a->agent}, {"--listener=", &a->listener},
                 {"--key=", &a->key}};
    char **env = argv;  // --env values are moved to the front of argv, which has been read by then
    a->env = env;
    for (argv++; *argv && strcmp(*argv, "--") != 0; argv++) {
        const char *value = value_of(*argv, "--env=");
        size_t i = 0;
        if (value) {
            *env++ = *argv + strlen("--env=");
            continue;
        }
        while (i < sizeof known / sizeof known[0] && !(value = value_of(*argv, known[i].name)))
            i++;
        if (!value)
            return -EINVAL;
        *known[i].value = value;
    }
    if (!*argv || !argv[1] || !a->local || !a->rank || !a->node || !a->socket)
        return -EINVAL;
    a->program = argv + 1;
    *env = NULL;
    return 0;
}

// What is read-only in this program is in the page cache anyway; most of it was needed only to get
// here. From now on the shim waits, and only what the loop touches comes back.
static void give_pages_back(void)
{
    extern const char __executable_start[], etext[];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)__executable_start + page - 1) / page * page;
    uintptr_t to = (uintptr_t)etext / page * page;
    if (to > from)
        (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

static pid_t start_agent(const struct arguments *a)
{
    struct pm_agent_start start = {
        .path = a->agent, .env = a->env, .listener = atoi(a->listener), .key = atoi(a->key)};
    (void)fcntl(start.listener, F_SETFD, FD_CLOEXEC);
    (void)fcntl(start.key, F_SETFD, FD_CLOEXEC);
    pid_t pid = pm_agent_start(&start);
    close(start.listener);
    close(start.key);
    if (pid < 0) {
        char detail[512] = "";
        strncat(detail, a->agent, 400);
        strcat(detail, ": ");
        strncat(detail, strerror(-pid), 64);
        pm_shim_complain(a->node, "cannot start the agent: ", detail);
        _exit(PM_EXIT_CANNOT_SUPERVISE);
    }
    return pid;
}

// --- the program --------------------------------------------------------------------------------

static char **environ_list(void *context)
{
    (void)context;
    return environ;
}

static int environ_set(void *context, const char *name, const char *value)
{
    (void)context;
    return setenv(name, value, 1);
}

static int environ_unset(void *context, const char *name)
{
    (void)context;
    return unsetenv(name);
}

static bool join(char *path, const char *dir, size_t dir_len, const char *name)
{
    if (dir_len + strlen(name) + 2 > PATH_MAX)
        return false;
    memcpy(path, dir, dir_len);
    path[dir_len] = '/';
    strcpy(path + dir_len + 1, name);
    return true;
}

// slurmstepd's rule (_build_path in task.c): names with a leading '/' or '.' are paths, everything
// else is looked for in PATH, and stays as it is if it is not there.
static const char *find_program(const char *name, char *path)
{
    struct stat st;
    const char *dir = getenv("PATH");
    if (name[0] == '/' || name[0] == '.' || strlen(name) >= PATH_MAX)
        return name;
    while (dir && *dir) {
        size_t len = strcspn(dir, ":");
        if (len > 0 && join(path, dir, len, name) && stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
            return path;
        dir += len + (dir[len] == ':');
    }
    return name;
}

// "/tmp/" becomes "/tmp/slurm_bcast_JOB.STEP_NODE", as `srun --bcast=/tmp/` has named the file.
static const char *complete_bcast(const char *name, char *path)
{
    const char *job = getenv("SLURM_JOB_ID"), *step = getenv("SLURM_STEP_ID");
    const char *node = getenv("SLURMD_NODENAME");
    size_t len = strlen(name);
    if (len == 0 || name[len - 1] != '/' || !job || !step || !node)
        return name;
    if (len + strlen(job) + strlen(step) + strlen(node) + 32 > PATH_MAX)
        return name;
    if (name != path)
        strcpy(path, name);
    strcat(path, "slurm_bcast_");
    strcat(path, job);
    strcat(path, ".");
    strcat(path, step);
    strcat(path, "_");
    return strcat(path, node);
}

__attribute__((noreturn)) static void become_program(struct pm_shim_start *start, char **argv)
{
    static char path[PATH_MAX], line[PATH_MAX + 128];
    const struct pm_env_ops ops = {
        .list = environ_list, .set = environ_set, .unset = environ_unset};
    if (pm_env_apply(start, &ops) < 0)
        _exit(PM_EXIT_CANNOT_SUPERVISE);
    const char *program = complete_bcast(find_program(argv[0], path), path);
    execve(program, argv, environ);
    int error = errno;
    strcpy(line, "pm-shim: error: execve(): ");
    strncat(line, program, PATH_MAX);
    strcat(line, ": ");
    strncat(line, strerror(error), 64);
    strcat(line, "\n");
    (void)!write(STDERR_FILENO, line, strlen(line));
    _exit(error);
}

int main(int argc, char **argv)
{
    static const char usage[] = "pm-shim: is started by Slurm through pm_supervise.so, not by hand\n";
    struct arguments a = {0};
    (void)argc;
    if (parse(argv, &a) < 0) {
        (void)!write(STDERR_FILENO, usage, sizeof usage - 1);
        return PM_EXIT_CANNOT_SUPERVISE;
    }
    struct pm_shim_config config = {
        .way = PM_SHIM_WAY_PREPEND,
        .local = (uint32_t)strtoul(a.local, NULL, 10),
        .rank = (uint32_t)strtoul(a.rank, NULL, 10),
        .node = a.node,
        .env = environ,
        .address = a.socket,
        .address_len = (uint32_t)strlen(a.socket),
        .listener_uid = 0,
        .on_idle = give_pages_back,
        .oom_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC),
    };
    if (a.agent && a.listener && a.key)
        config.agent = start_agent(&a);
    become_program(pm_shim_run(&config), a.program);
}
