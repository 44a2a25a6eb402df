// SPDX-License-Identifier: Apache-2.0
//
// --no-kill: without it Slurm ends or requeues a job when it notices a lost node, minutes after a spare has taken
// that node's place, the world has done without it, or the step runs elsewhere. Who asks for spares, --pm-shrink or
// --pm-relaunch is told so in one line: by sbatch and salloc when they submit, and by srun before it starts the step. Nobody else is.
//
// Slurm does not tell a job how it was submitted, so sbatch and salloc leave a word in its environment if it was with
// --no-kill. They are asked through slurm_option_get(), which Slurm's own cli_filter plugins use; where that is
// missing we do not know, and say nothing at submission.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/plugin.h"

#define MARK "SLURM_PM_JOB_NO_KILL"

enum answer { NOT_KNOWN = 0, GIVEN, NOT_GIVEN };

static enum answer ask_slurm(void)
{
    void *opt = dlsym(RTLD_DEFAULT, "opt"), *symbol = dlsym(RTLD_DEFAULT, "slurm_option_get");
    char *(*get)(void *, const char *);
    memcpy(&get, &symbol, sizeof get);
    char *value = opt && get ? get(opt, "no-kill") : NULL;  // Slurm's memory; a few bytes, once
    if (!value)
        return NOT_KNOWN;
    return strcmp(value, "set") == 0 ? GIVEN : NOT_GIVEN;
}

void pm_no_kill_at_submission(const struct pm_options *o, bool asked)
{
    enum answer answer = ask_slurm();
    // Also for a job that is submitted from inside another one.
    if (answer == GIVEN)
        (void)setenv(MARK, "1", 1);
    else
        (void)unsetenv(MARK);
    if (answer == NOT_GIVEN && asked && pm_options_outlives_nodes(o))
        slurm_spank_log("pm-supervise: without --no-kill Slurm ends or requeues the job when it notices a lost "
                        "node, although the step has gone on without it: add --no-kill");
}

void pm_no_kill_at_start(const struct pm_options *o)
{
    const char *job = getenv("SLURM_JOB_ID"), *mark = getenv(MARK);
    // A job that srun itself allocates is with --no-kill: the coordinator sees to that.
    if (!pm_options_outlives_nodes(o) || !job || (mark && strcmp(mark, "1") == 0))
        return;
    dprintf(STDERR_FILENO, "pm-supervise: job %.16s does not seem to be submitted with --no-kill: then Slurm ends or "
            "requeues it when it notices a lost node, although the step has gone on without it\n", job);
}
