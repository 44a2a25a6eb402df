// SPDX-License-Identifier: Apache-2.0
//
// The plugin inside slurmstepd, as root. What happens here: SLURM_PM_STEP_* is copied and taken out
// of the step's environment before any task sees it, four variables get back what plain srun would
// have shown, and a socket is made for the shims of this node. Nothing the user controls is parsed;
// values are opaque strings until a task has become the user (task.c). No result of ours can fail
// the step or drain the node: a problem is kept, and the tasks of this step say it.
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin/plugin.h"
#include "plugin/shim/apply.h"
#include "pm_config.h"

#define PREFIX "SLURM_PM_STEP_"
#define ORIGINAL PREFIX "ENV_"
#define NAME_CAP 128
#define FIRST_SPECIAL_STEP 0xfffffff0u  // batch, extern, interactive ... steps are above
#define BACKLOG_EXTRA 16

static const char *const borrowed[] = {PM_BORROWED};

static struct pm_step *current;

struct pm_step *pm_stepd_step(void)
{
    return current;
}

void pm_stepd_forget(struct pm_step *step)
{
    if (step->listener >= 0)
        close(step->listener);
    step->listener = -1;
    explicit_bzero(step->key, strlen(step->key));
}

static char *copy_of(char *const *env, const char *name)
{
    const char *value = pm_env_find(env, name);
    return strdup(value ? value : "");
}

static void set_problem(struct pm_step *step, const char *what, int error)
{
    if (!step->problem[0])
        snprintf(step->problem, sizeof step->problem, "%s: %s", what, strerror(error));
}

static struct pm_step *copy_step(char *const *env, const char *libexec)
{
    struct pm_step *step = calloc(1, sizeof *step);
    if (!step)
        return NULL;
    *step = (struct pm_step){
        .key = copy_of(env, PREFIX "KEY"),
        .address = copy_of(env, PREFIX "ADDR"),
        .launch = copy_of(env, PREFIX "LAUNCH"),
        .version = copy_of(env, PREFIX "VERSION"),
        .conf = copy_of(env, PREFIX "CONF"),
        .command = copy_of(env, PREFIX "COMMAND"),
        .libexec = strdup(libexec),
        .listener = -1,
        .oom_fd = -1,
    };
    if (step->key && step->address && step->launch && step->version && step->conf && step->command &&
        step->libexec)
        return step;
    free(step->key);
    free(step->address);
    free(step->launch);
    free(step->version);
    free(step->conf);
    free(step->command);
    free(step->libexec);
    free(step);
    return NULL;
}

// False: without memory for one of them.
static bool restore_borrowed(spank_t spank, char *const *env)
{
    char name[NAME_CAP];
    bool all = true;
    for (size_t i = 0; i < sizeof borrowed / sizeof borrowed[0]; i++) {
        snprintf(name, sizeof name, ORIGINAL "%s", borrowed[i]);
        const char *original = pm_env_find(env, name);
        char *value = original ? strdup(original) : NULL;
        all &= !original || value;
        // slurmstepd itself hides SLURM_MPI_TYPE=none from the tasks (mpi_process_env).
        if (value && !(i == 0 && strcmp(value, "none") == 0))
            (void)spank_setenv(spank, borrowed[i], value, 1);
        else
            (void)spank_unsetenv(spank, borrowed[i]);
        free(value);
        (void)spank_get_item(spank, S_JOB_ENV, &env);  // it moves when it is changed
    }
    return all;
}

// The user chooses the entries: one without '=' is no variable, and spank_unsetenv() leaves it where it is.
static void remove_internals(spank_t spank)
{
    char name[NAME_CAP];
    char **env = NULL;
    (void)spank_get_item(spank, S_JOB_ENV, &env);
    for (size_t i = 0; env && env[i];) {
        char *entry = env[i], *equals = strchr(entry, '=');
        size_t len = equals ? (size_t)(equals - entry) : 0;
        if (!equals || len >= sizeof name || strncmp(entry, PREFIX, strlen(PREFIX)) != 0) {
            i++;
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)len, entry);
        if (strcmp(name, PREFIX "KEY") == 0)
            explicit_bzero(equals + 1, strlen(equals + 1));  // free() does not
        if (spank_unsetenv(spank, name) != ESPANK_SUCCESS)
            return;
        (void)spank_get_item(spank, S_JOB_ENV, &env);
        i += env && env[i] == entry;  // not taken out; else the next one is here now
    }
}

// Autobind: the kernel picks a free abstract name, which nobody can guess or take before us.
static int make_listener(struct pm_step *step, uint32_t tasks)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof address;
    size_t head = offsetof(struct sockaddr_un, sun_path) + 1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    step->listener = fd;
    if (bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
        listen(fd, (int)tasks + BACKLOG_EXTRA) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -errno;
    if (len <= head || len - head >= sizeof step->socket)
        return -EADDRNOTAVAIL;
    memcpy(step->socket, address.sun_path + 1, len - head);
    step->socket[len - head] = '\0';
    return 0;
}

int pm_stepd_post_opt(spank_t spank, int ac, char **av)
{
    uint32_t id = 0, tasks = 0;
    char **env = NULL;
    if (spank_get_item(spank, S_JOB_STEPID, &id) != ESPANK_SUCCESS || id >= FIRST_SPECIAL_STEP ||
        spank_get_item(spank, S_JOB_ENV, &env) != ESPANK_SUCCESS ||
        !pm_env_find(env, PREFIX "KEY"))
        return 0;
    struct pm_step *step = copy_step(env, pm_plugin_libexec(ac, av));
    bool restored = restore_borrowed(spank, env);
    remove_internals(spank);  // also of a step that is not supervised: its tasks must not see the key
    if (!step) {
        slurm_error("pm-supervise: out of memory, this step is not supervised here");
        return 0;
    }
    if (!restored)
        set_problem(step, "no copy of the step's environment", ENOMEM);
    (void)spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &tasks);
    int rc = make_listener(step, tasks);
    if (rc < 0)
        set_problem(step, "no socket for the shims of this node", -rc);
    current = step;
    return 0;
}

// The task's process, still root: later it could not open the file, because a process that was
// slurmstepd is not dumpable and must not become so (it holds a copy of slurmstepd's memory).
int pm_stepd_task_init_privileged(void)
{
    if (current && current->oom_fd < 0)
        current->oom_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    return 0;
}

// slurmstepd, once all tasks are forked. With the listener open here, shims could still connect after
// the agent's death, and would wait for an answer.
int pm_stepd_post_fork(void)
{
    if (current)
        pm_stepd_forget(current);
    return 0;
}
