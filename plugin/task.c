// SPDX-License-Identifier: Apache-2.0
//
// A task of a supervised step on its way to exec, as the user, in its own cgroup and after
// slurmstepd's barrier. Local task 0 starts the agent with the step's key and listener; every other
// task drops both first. Then the shim goes between slurmstepd and the program: pm-shim is prepended
// to the command line where Slurm can do that (23.11), else this process forks, the parent stays
// as the shim and the child goes on to exec. Never both.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/plugin.h"
#include "plugin/shim/agent_start.h"
#include "plugin/shim/apply.h"
#include "plugin/shim/fds.h"
#include "plugin/shim/shim.h"
#include "pm_config.h"

#define MAX_LIST 32
#define AGENT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Slurm >= 23.11; its absence is found out when the plugin is loaded.
extern spank_err_t spank_prepend_task_argv(spank_t spank, int argc, const char *argv[])
    __attribute__((weak));

// A growing list of malloc'd strings for an environment or a command line. This process ends or
// execs soon, so nothing is freed.
struct list {
    char *items[MAX_LIST];
    int n;
};

struct task {
    spank_t spank;
    struct pm_step *step;
    char **env;
    const char *node;
    int local;
    uint32_t rank;
};

__attribute__((noreturn)) static void give_up(const struct task *t, const char *why)
{
    if (t->local == 0)
        pm_shim_complain(t->node, "cannot start the agent: ", why);
    _exit(PM_EXIT_CANNOT_SUPERVISE);
}

__attribute__((format(printf, 3, 4))) static void add(const struct task *t, struct list *l,
                                                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (l->n >= MAX_LIST - 1 || vasprintf(&l->items[l->n++], format, args) < 0)
        give_up(t, "out of memory");
    va_end(args);
}

static void add_path(const struct task *t, struct list *l, const char *option, const char *program)
{
    add(t, l, "%s%s/%s", option, t->step->libexec, program);
}

// "0,1,5": the ranks of this node's tasks in the order of their local ids.
static char *local_ranks(const struct task *t)
{
    uint32_t tasks = 0, rank;
    (void)spank_get_item(t->spank, S_JOB_LOCAL_TASK_COUNT, &tasks);
    char *text = malloc((size_t)tasks * 11 + 1);
    char *at = text;
    if (!text)
        give_up(t, "out of memory");
    for (uint32_t i = 0; i < tasks; i++) {
        if (spank_get_item(t->spank, S_JOB_LOCAL_TO_GLOBAL_ID, i, &rank) != ESPANK_SUCCESS)
            give_up(t, "slurmstepd does not tell the ranks of its tasks");
        at += sprintf(at, "%s%u", i ? "," : "", rank);
    }
    if (at == text)
        give_up(t, "slurmstepd does not tell how many tasks it has");
    return text;
}

static uint32_t item(const struct task *t, spank_item_t which)
{
    uint32_t value = 0;
    if (spank_get_item(t->spank, which, &value) != ESPANK_SUCCESS)
        give_up(t, "slurmstepd does not tell what step this is");
    return value;
}

static const char *variable(const struct task *t, const char *name)
{
    const char *value = pm_env_find(t->env, name);
    return value ? value : "";
}

// The switches above this node, as Slurm's topology names them: "spine.leaf.node" without the node.
static int place_len(const struct task *t, const char *address)
{
    size_t len = strlen(address), node = strlen(t->node);
    bool named = len > node + 1 && address[len - node - 1] == '.' && !strcmp(address + len - node, t->node);
    return named ? (int)(len - node - 1) : 0;
}

static int has_gpus(const struct task *t)
{
    static const char *const names[] = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (pm_env_find(t->env, names[i]))
            return 1;
    return 0;
}

// The whole environment of the agent; `option` is put before each ("--env=" for pm-shim).
static void add_agent_env(const struct task *t, struct list *l, const char *option)
{
    static const char *const kept[] = {"HOME", "TMPDIR"};
    add(t, l, "%s" AGENT_PATH, option);
    add(t, l, "%sPM_AGENT_VERSION=" PM_VERSION, option);
    add(t, l, "%sPM_AGENT_ADDR=%s", option, t->step->address);
    add(t, l, "%sPM_AGENT_LAUNCH=%s", option, t->step->launch);
    add(t, l, "%sPM_AGENT_CONF=%s", option, t->step->conf);
    add(t, l, "%sPM_AGENT_COMMAND=%s", option, t->step->command);
    add(t, l, "%sPM_AGENT_JOB=%u", option, item(t, S_JOB_ID));
    add(t, l, "%sPM_AGENT_STEP=%u", option, item(t, S_JOB_STEPID));
    add(t, l, "%sPM_AGENT_NODE=%u", option, item(t, S_JOB_NODEID));
    add(t, l, "%sPM_AGENT_NNODES=%u", option, item(t, S_JOB_NNODES));
    add(t, l, "%sPM_AGENT_NTASKS=%u", option, item(t, S_JOB_TOTAL_TASK_COUNT));
    add(t, l, "%sPM_AGENT_LOCAL_RANKS=%s", option, local_ranks(t));
    add(t, l, "%sPM_AGENT_NODELIST=%s", option, variable(t, "SLURM_STEP_NODELIST"));
    add(t, l, "%sPM_AGENT_NODENAME=%s", option, t->node);
    add(t, l, "%sPM_AGENT_LIBEXEC=%s", option, t->step->libexec);
    add(t, l, "%sPM_AGENT_UID=%u", option, (unsigned)getuid());
    add(t, l, "%sPM_AGENT_GPUS=%d", option, has_gpus(t));
    const char *address = variable(t, "SLURM_TOPOLOGY_ADDR");
    add(t, l, "%sPM_AGENT_PLACE=%.*s", option, place_len(t, address), address);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (pm_env_find(t->env, kept[i]))
            add(t, l, "%s%s=%s", option, kept[i], variable(t, kept[i]));
}

// --- fork way -----------------------------------------------------------------------------------

static pid_t start_agent(const struct task *t)
{
    struct list path = {0}, env = {0};
    char why[512];
    add_path(t, &path, "", "pm-agent");
    add_agent_env(t, &env, "");
    int key = pm_agent_key_pipe(t->step->key);
    if (key < 0)
        give_up(t, "the step key cannot be handed over");
    const struct pm_agent_start start = {
        .path = path.items[0], .env = env.items, .listener = t->step->listener, .key = key};
    pid_t pid = pm_agent_start(&start);
    close(key);
    if (pid < 0) {
        snprintf(why, sizeof why, "%.400s: %s", path.items[0], strerror(-pid));
        give_up(t, why);
    }
    return pid;
}

static char **job_env(void *context)
{
    char **env = NULL;
    (void)spank_get_item(context, S_JOB_ENV, &env);
    return env;
}

static int job_setenv(void *context, const char *name, const char *value)
{
    return spank_setenv(context, name, value, 1) == ESPANK_SUCCESS ? 0 : -1;
}

static int job_unsetenv(void *context, const char *name)
{
    return spank_unsetenv(context, name) == ESPANK_SUCCESS ? 0 : -1;
}

// spank_setenv() clears a buffer of 256 KiB for each variable (ENV_BUFSIZE, src/common/env.c), which
// costs less in fresh memory.
static void tune_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 10);
    (void)malloc_trim(0);
}

static void prepare_env(void *context, struct pm_shim_start *likely)
{
    tune_memory();
    if (pm_env_prepare(likely, context) < 0)
        _exit(PM_EXIT_CANNOT_SUPERVISE);  // one less that waits
}

// Comes back in each incarnation's child.
static int fork_shim(const struct task *t)
{
    struct pm_env_ops ops = {
        .context = t->spank, .list = job_env, .set = job_setenv, .unset = job_unsetenv};
    struct pm_shim_config config = {
        .way = PM_SHIM_WAY_FORK,
        .local = (uint32_t)t->local,
        .rank = t->rank,
        .env = t->env,
        .node = strdup(t->node),  // the environment it lies in changes in the child
        .address = t->step->socket,
        .address_len = (uint32_t)strlen(t->step->socket),
        .listener_uid = 0,
        .oom_fd = t->step->oom_fd >= 0 ? pm_fd_raise(t->step->oom_fd) : -1,
        .prepare = prepare_env,
        .prepare_context = &ops,
    };
    if (!config.node)
        give_up(t, "out of memory");
    if (t->local == 0)
        config.agent = start_agent(t);
    pm_stepd_forget(t->step);
    struct pm_shim_start *start = pm_shim_run(&config);
    if (!ops.own)
        tune_memory();
    if (pm_env_apply(start, &ops) < 0)
        _exit(PM_EXIT_CANNOT_SUPERVISE);
    return 0;
}

// --- prepend way --------------------------------------------------------------------------------

// An fd that survives the exec of pm-shim, which closes it before the program's.
static int inheritable(const struct task *t, int fd)
{
    int raised = fd < 0 ? -1 : fcntl(fd, F_DUPFD, PM_FD_FLOOR);
    if (raised < 0)
        give_up(t, "no file descriptor for the agent");
    return raised;
}

static int prepend_shim(const struct task *t)
{
    struct list argv = {0};
    add_path(t, &argv, "", "pm-shim");
    if (access(argv.items[0], X_OK) < 0) {
        char why[512];
        snprintf(why, sizeof why, "%.400s: %s", argv.items[0], strerror(errno));
        give_up(t, why);
    }
    add(t, &argv, "--local=%d", t->local);
    add(t, &argv, "--rank=%u", t->rank);
    add(t, &argv, "--node=%s", t->node);
    add(t, &argv, "--socket=%s", t->step->socket);
    if (t->local == 0) {
        add_path(t, &argv, "--agent=", "pm-agent");
        add(t, &argv, "--listener=%d", inheritable(t, t->step->listener));
        add(t, &argv, "--key=%d", inheritable(t, pm_agent_key_pipe(t->step->key)));
        add_agent_env(t, &argv, "--env=");
    }
    add(t, &argv, "--");
    pm_stepd_forget(t->step);
    const char *words[MAX_LIST];
    for (int i = 0; i < argv.n; i++)
        words[i] = argv.items[i];
    if (spank_prepend_task_argv(t->spank, argv.n, words) != ESPANK_SUCCESS)
        give_up(t, "slurmstepd does not take pm-shim");
    return 0;
}

int pm_task_init(spank_t spank, struct pm_step *step)
{
    struct task t = {.spank = spank, .step = step};
    char why[512];
    if (spank_get_item(spank, S_TASK_ID, &t.local) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_TASK_GLOBAL_ID, &t.rank) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_ENV, &t.env) != ESPANK_SUCCESS)
        _exit(PM_EXIT_CANNOT_SUPERVISE);
    t.node = variable(&t, "SLURMD_NODENAME");
    char *copy = strdup(t.node);
    if (!copy)
        give_up(&t, "out of memory");
    t.node = copy;
    if (t.local != 0)
        pm_stepd_forget(step);
    if (strcmp(step->version, PM_VERSION) != 0) {
        snprintf(why, sizeof why,
                 "pm_supervise.so is version %s here, the coordinator is version %.64s; "
                 "install the same build on all hosts", PM_VERSION, step->version);
        give_up(&t, why);
    }
    if (step->problem[0])
        give_up(&t, step->problem);
    return spank_prepend_task_argv ? prepend_shim(&t) : fork_shim(&t);
}
