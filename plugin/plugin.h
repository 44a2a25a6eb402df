// SPDX-License-Identifier: Apache-2.0
//
// What the files of the plugin share. pm_supervise.c dispatches Slurm's hooks by context to srun.c
// (srun; sbatch and salloc only register options), stepd.c (slurmstepd, as root) and task.c (a task
// on its way to its program, as the user). Results are SPANK's: 0 or a negative number; a negative
// number changes nothing in an `optional` plugin, so nobody relies on it.
#ifndef PM_PLUGIN_H
#define PM_PLUGIN_H

#include <slurm/spank.h>
#include <stdbool.h>
#include <stdint.h>

#include "pmix_server/wire/options.h"

// What the coordinator changes for the child srun; the user's values are in SLURM_PM_STEP_ENV_*.
#define PM_BORROWED "SLURM_MPI_TYPE", "SLURM_NO_KILL", "SLURM_KILL_BAD_EXIT", "SLURM_WAIT"

// options.c -----------------------------------------------------------------------------------

// Registers all options with Slurm; --help shows the defaults of plugstack.conf (av). `inert`: values
// are neither checked nor kept.
int pm_plugin_options_register(spank_t spank, bool inert, int ac, char **av);
// Command line, then SLURM_PM_*, then plugstack.conf, then the defaults. 0, or -EINVAL with a
// sentence; in both cases ret->mode tells whether supervision was asked for.
int pm_plugin_options_resolve(struct pm_options *ret, int ac, char **av, char *error);
// Has an option of ours been given on the command line?
bool pm_plugin_options_given(void);
// The folder of our programs: libexec=DIR of plugstack.conf, else the built-in one. Borrowed.
const char *pm_plugin_libexec(int ac, char **av);

// srun.c --------------------------------------------------------------------------------------

// Ends srun with 125 and one line on its stderr, before anything is allocated.
__attribute__((noreturn)) void pm_srun_refuse(const char *sentence);
// Before everything else in srun.
void pm_srun_init(void);
// True in the srun that the coordinator runs.
bool pm_srun_is_child(void);
// SrunProlog, --prolog and --epilog inherit the environment of the coordinator's srun, but the steps and jobs that they
// start are no part of its step: takes SLURM_PM_STEP_*, the key among it, out of the environment, and puts the user's
// own settings back.
void pm_srun_leave_outer_step(void);
// Becomes the coordinator if the step is to be supervised; returns otherwise.
int pm_srun_post_opt(int ac, char **av);
int pm_srun_user_init(spank_t spank);

// srun_conf.c ---------------------------------------------------------------------------------

// SrunPortRange of slurm.conf; false if it is not set or cannot be read.
bool pm_srun_port_range(uint32_t *ret_min, uint32_t *ret_max);

// no_kill.c -------------------------------------------------------------------------------------

// In sbatch and salloc, when all options are known; `asked`: the user has said something about supervision.
void pm_no_kill_at_submission(const struct pm_options *o, bool asked);
// In srun, before it becomes the coordinator.
void pm_no_kill_at_start(const struct pm_options *o);

// stepd.c: as root ------------------------------------------------------------------------------

// What slurmstepd has kept of SLURM_PM_STEP_*. NULL: this step is not supervised. Every task gets a
// copy by fork.
struct pm_step {
    char *key;  // as hex; wiped by whoever does not need it any more
    char *address;
    char *launch;
    char *version;
    char *conf;
    char *command;  // what PMIx clients are told that they are; "": not known
    char *libexec;
    int listener;      // -1: closed
    char socket[108];  // abstract address of the listener, without its leading NUL
    int oom_fd;        // in a task: /proc/self/oom_score_adj for writing; -1: none
    char problem[256]; // not empty: why no task of this node can start
};
struct pm_step *pm_stepd_step(void);
// Closes the listener and wipes the key in this process.
void pm_stepd_forget(struct pm_step *step);

int pm_stepd_post_opt(spank_t spank, int ac, char **av);
int pm_stepd_task_init_privileged(void);
int pm_stepd_post_fork(void);

// sweep.c: as root only until it has become the user ----------------------------------------------

// Removes what a step that was killed all at once has left on this node.
int pm_sweep_exit(spank_t spank);
// The same at the start of slurmd for what the steps of all users have left that a power-off ended; 0. Returns at once.
int pm_sweep_start(int ac, char **av);

// task.c: as the user ---------------------------------------------------------------------------

// Puts the shim between slurmstepd and the program. Returns in the process that goes on to exec
// (the program, or pm-shim); what cannot be started ends in _exit().
int pm_task_init(spank_t spank, struct pm_step *step);

#endif
