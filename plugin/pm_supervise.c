// SPDX-License-Identifier: Apache-2.0
//
// The entry points that Slurm calls, and nothing else: each one goes to the file of its context.
// Hooks never fail the host: whatever goes wrong is said where the user sees it, and ends the srun
// or the task that asked for supervision, never anything else.
#include <slurm/slurm_version.h>
#include <slurm/spank.h>

#include "plugin/plugin.h"

SPANK_PLUGIN(pm_supervise, 1)

int slurm_spank_init(spank_t spank, int ac, char **av)
{
    switch (spank_context()) {
    case S_CTX_LOCAL:
        pm_srun_init();
        return pm_plugin_options_register(spank, pm_srun_is_child(), ac, av);
    case S_CTX_ALLOCATOR:
        pm_srun_leave_outer_step();
        return pm_plugin_options_register(spank, false, ac, av);
    case S_CTX_REMOTE:  // root: nobody asks for --help here, so nothing is read
        return pm_plugin_options_register(spank, true, 0, NULL);
    case S_CTX_SLURMD:  // has started, usually since its node has
        return pm_sweep_start(ac, av);
    default:
        return 0;
    }
}

// A bad default of the site is srun's to tell, in the job.
static int submission(int ac, char **av)
{
    struct pm_options o;
    char error[PM_ERROR_CAP];
    int rc = pm_plugin_options_resolve(&o, ac, av, error);
    pm_no_kill_at_submission(&o, rc == 0 && (o.mode != PM_MODE_OFF || pm_plugin_options_given()));
    return 0;
}

int slurm_spank_init_post_opt(spank_t spank, int ac, char **av)
{
    switch (spank_context()) {
    case S_CTX_LOCAL:
        return pm_srun_post_opt(ac, av);
    case S_CTX_ALLOCATOR:
        return submission(ac, av);
    case S_CTX_REMOTE:
        return pm_stepd_post_opt(spank, ac, av);
    default:
        return 0;
    }
}

int slurm_spank_local_user_init(spank_t spank, int ac, char **av)
{
    (void)ac;
    (void)av;
    return pm_srun_user_init(spank);
}

int slurm_spank_task_init_privileged(spank_t spank, int ac, char **av)
{
    (void)spank;
    (void)ac;
    (void)av;
    return pm_stepd_task_init_privileged();
}

int slurm_spank_task_post_fork(spank_t spank, int ac, char **av)
{
    (void)spank;
    (void)ac;
    (void)av;
    return pm_stepd_post_fork();
}

int slurm_spank_exit(spank_t spank, int ac, char **av)
{
    (void)ac;
    (void)av;
    return spank_context() == S_CTX_REMOTE ? pm_sweep_exit(spank) : 0;
}

int slurm_spank_task_init(spank_t spank, int ac, char **av)
{
    (void)ac;
    (void)av;
    struct pm_step *step = pm_stepd_step();
    return step ? pm_task_init(spank, step) : 0;
}
