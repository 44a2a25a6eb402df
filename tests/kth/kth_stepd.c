// SPDX-License-Identifier: Apache-2.0
//
// The plugin in slurmstepd (plugin/stepd.c), with each of its calls failing in turn. Whatever fails, no task sees
// SLURM_PM_STEP_*, the key above all; and either the step is kept as it is and its environment restored, or
// slurmstepd's log or the tasks are told why not. stepd.c is included as it is, since it keeps its step in a static.
//
// What a user puts into the environment himself, words without '=' among it, must not keep root busy; nor a child that
// does not even die of SIGKILL (plugin/sweep.c).
#include <stdarg.h>

#include <signal.h>
#include <sys/wait.h>

#include "plugin/stepd.c"
#include "tests/kth/kth.h"
#include "tests/kth/kth_calls.h"

enum { NAMES = 24, TASKS = 3 };

// slurmstepd's copy of the step's environment. Its own allocations are not ours.
static char texts[NAMES][NAME_CAP];
static char *list[NAMES + 1];
static unsigned n_errors;

static const char *const before[] = {
    "SLURM_PM_STEP_KEY", "SLURM_PM_STEP_X", "SLURM_PM_STEP_KEY=0123", "SLURM_PM_STEP_KEY=4567",
    "SLURM_PM_STEP_ADDR=login1:4000", "SLURM_PM_STEP_LAUNCH=0", "PATH=/bin", "SLURM_PM_STEP_VERSION=1", "SLURM_PM_STEP_CONF=supervise=world", "SLURM_PM_STEP_COMMAND=srun", "SLURM_MPI_TYPE=none", "SLURM_NO_KILL=1",
    "SLURM_PM_STEP_ENV_SLURM_MPI_TYPE=pmix", "SLURM_WAIT=0", "SLURM_PM_STEP_ENV_SLURM_WAIT=60",
};

// --- slurmstepd ----------------------------------------------------------------------------------

static int find(const char *name)
{
    size_t len = strlen(name);
    for (int i = 0; list[i]; i++)
        if (!strncmp(list[i], name, len) && list[i][len] == '=')
            return i;
    return -1;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    va_list args;
    va_start(args, item);
    if (item == S_JOB_ENV)
        *va_arg(args, char ***) = list;
    else
        *va_arg(args, uint32_t *) = item == S_JOB_LOCAL_TASK_COUNT ? TASKS : 0;
    va_end(args);
    return ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
    int i = find(name);
    for (; i >= 0 && list[i]; i++)
        list[i] = list[i + 1];
    return ESPANK_SUCCESS;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
    char text[NAME_CAP];
    int i = find(name), n = 0;
    snprintf(text, sizeof(text), "%s=%s", name, value);
    while (list[n])
        n++;
    if (i < 0)
        list[i = n] = texts[NAMES - 1];
    snprintf(list[i], NAME_CAP, "%s", text);
    return ESPANK_SUCCESS;
}

void slurm_error(const char *format, ...)
{
    n_errors++;
}

// --- the plugin's other files --------------------------------------------------------------------

const char *pm_plugin_libexec(int ac, char **av)
{
    return "/usr/libexec/pm-supervise";
}

const char *pm_env_find(char *const *env, const char *name)
{
    size_t len = strlen(name);
    for (; *env; env++)
        if (!strncmp(*env, name, len) && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

// --- what has to be true -------------------------------------------------------------------------

static bool shows(const char *name, const char *value)
{
    int i = find(name);
    return value ? i >= 0 && !strcmp(list[i] + strlen(name) + 1, value) : i < 0;
}

// A word without '=' has no value, and no call of SPANK takes it out.
static void nothing_is_shown(uint64_t k)
{
    for (int i = 0; list[i]; i++)
        KTH_CHECK(!strchr(list[i], '=') || strncmp(list[i], "SLURM_PM_STEP_", 14) != 0, "%.30s is shown, k %llu", list[i],
                  (unsigned long long)k);
}

static bool is_as_meant(const struct pm_step *step)
{
    return step && !strcmp(step->key, "0123") && !strcmp(step->address, "login1:4000") && step->socket[0] &&
           step->listener >= 0 && shows("SLURM_MPI_TYPE", "pmix") && shows("SLURM_WAIT", "60") &&
           shows("SLURM_NO_KILL", NULL) && shows("PATH", "/bin");
}

static void give_back(struct pm_step *step)
{
    pm_stepd_forget(step);
    if (step->oom_fd >= 0)
        close(step->oom_fd);
    char *const owned[] = {step->key, step->address, step->launch, step->version, step->conf, step->command,
                           step->libexec};
    for (size_t i = 0; i < sizeof(owned) / sizeof(*owned); i++)
        free(owned[i]);
    free(step);
}

static bool try(uint64_t k, enum kth_mode mode)
{
    int64_t live = kth_live_blocks();
    memset(list, 0, sizeof(list));
    for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++)
        list[i] = strcpy(texts[i], before[i]);
    n_errors = 0;
    current = NULL;
    kth_arm(k, mode);
    int rc = pm_stepd_post_opt(NULL, 0, NULL);
    rc |= pm_stepd_task_init_privileged();
    bool reached = kth_disarm();
    struct pm_step *step = pm_stepd_step();
    bool is_told = n_errors > 0 || (step && step->problem[0]);
    KTH_CHECK(rc == 0, "the step fails, k %llu", (unsigned long long)k);
    KTH_CHECK(is_as_meant(step) || is_told, "not as meant, and nobody is told, k %llu", (unsigned long long)k);
    KTH_CHECK(reached || !is_told, "told of nothing, k %llu", (unsigned long long)k);
    nothing_is_shown(k);
    if (step)
        give_back(step);
    KTH_CHECK(kth_live_blocks() == live, "a leak, k %llu", (unsigned long long)k);
    return reached;
}

// --- a sweep that hangs ----------------------------------------------------------------------------

static bool hangs;
static pid_t killed;

pid_t waitpid(pid_t pid, int *ret_status, int options)
{
    KTH_CHECK(options & WNOHANG, "slurmstepd would wait without a limit");
    return hangs ? 0 : pid;
}

int kill(pid_t pid, int sig)
{
    killed = sig == SIGKILL ? pid : killed;
    return 0;
}

static void sweeps_that_hang_are_left(void)
{
    struct pm_step step = {.libexec = (char[]){"/none"}, .listener = -1};
    current = &step;
    for (hangs = false;; hangs = true) {
        killed = 0;
        KTH_CHECK(pm_sweep_exit(NULL) == 0, "the step fails");
        KTH_CHECK(hangs == (killed > 0), "%s", hangs ? "not killed" : "killed although it ended");
        if (hangs)
            return;
    }
}

int main(void)
{
    uint64_t k = 1, from = 1;
    sweeps_that_hang_are_left();
    kth_calls_mode(KTH_CALLS_FAIL);
    while (try(k, KTH_ONCE))
        k++;
    while (try(from, KTH_FROM_NOW))
        from++;
    printf("%llu calls, and all from the first of %llu on\n", (unsigned long long)k - 1,
           (unsigned long long)from - 1);
    return 0;
}
