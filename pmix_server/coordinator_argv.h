// SPDX-License-Identifier: Apache-2.0
//
// What the real srun gets to see of the command line that the user typed. Pure: words in, words out.
//
// Only the words between "srun" and the program are looked at:
//   --mpi=none, --mpi=pmix*   dropped: we bring the PMIx server. Any other is refused.
//   -K, --kill-on-bad-exit,
//   -k, --no-kill             dropped: what a bad exit leads to is our policy.
//   -W, --wait=N              taken over.
//   -N, --nodes=N             noted: spares need more than one.
//   -x, --exclude=NODES       noted: a further launch adds the lost nodes to them.
//   -x, --exclude=FILE, -w, --nodelist=NODES, -F, --nodefile=FILE,
//   -r, --relative=N, --exclusive  noted: srun refuses them beside what a further launch adds, or they leave it no choice.
//   --cpu-bind, --mem-bind    noted: ours leaves that part alone.
//   --hint, --threads-per-core=N, -B, --extra-node-info=S:C:N
//                             noted: ours uses no more hardware threads of a core.
//   --multi-prog              noted: there is no one command that all ranks run.
//   --het-group, a lone ":"   refused: heterogeneous steps are not supported.
//   --container=BUNDLE        refused: OCI containers are not supported.
// Everything else, our own --pm-* options included, stays where it is.
#ifndef PM_COORDINATOR_ARGV_H
#define PM_COORDINATOR_ARGV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/options.h"

#define PM_SRUN_COMMAND_MAX 4096u  // it travels in the environment
#define PM_SRUN_THREADS_MAX 1024u  // of a core

enum pm_srun_arg { PM_SRUN_ARG_NONE = 0, PM_SRUN_ARG_REQUIRED, PM_SRUN_ARG_OPTIONAL };

struct pm_srun_option {
    const char *name;
    enum pm_srun_arg arg;
};

// srun's long option that `name` (len bytes, maybe abbreviated) means; NULL: none, or ambiguous.
const struct pm_srun_option *pm_srun_option_long(const char *name, size_t len);
// Whether srun's short option takes a value; NONE also for letters that it does not know.
enum pm_srun_arg pm_srun_option_short(char letter);

struct pm_srun_argv {
    char **argv;  // NULL-terminated, owned
    int argc;
    bool pty;          // --pty: the terminal is raw, our lines need CR LF
    bool cpu_bind;     // --cpu-bind or --mem-bind was given
    bool mem_bind;
    bool threads_given;         // --hint, --threads-per-core or a third number of --extra-node-info was given
    uint32_t threads_per_core;  // as many hardware threads of a core at most; 0: all of them
    bool wait_given;
    uint32_t wait_s;   // of --wait, 0: never
    char *exclude;     // owned; NULL: not given
    const char *no_relaunch;  // static; what stands in the way of a further launch, NULL: nothing
    int program;       // index of the program in argv, argc: there is none
    uint32_t nodes;    // the most that --nodes allows, 0: it was not given as a number
    bool multi_prog;
    // The program and its arguments, joined by blanks, owned; NULL: none, not the same for all ranks, or
    // longer than PM_SRUN_COMMAND_MAX.
    char *command;
};

// `program` is the index in argv where the user's program starts, 0: there is none. 0, -ENOMEM, or
// -EINVAL with a sentence in `error` (PM_ERROR_CAP bytes).
int pm_srun_argv_rewrite(char *const *argv, int program, struct pm_srun_argv *ret, char *error);
void pm_srun_argv_done(struct pm_srun_argv *a);
// A further launch: not on `nodes` ("node3,node[7-9]"), and beside what is left of the launch before in Slurm's books. 0 or
// -ENOMEM.
int pm_srun_argv_without(struct pm_srun_argv *a, const char *nodes);
// The most nodes that a value of --nodes or SLURM_NNODES allows ("4", "2-4", "1k"), 0: not a number of them.
uint32_t pm_srun_nodes_parse(const char *text);
// Hardware threads of a core that a value of --hint or SLURM_HINT ("nomultithread") allows, or one of --threads-per-core or
// SLURM_THREADS_PER_CORE; 0: all, or not a number of them.
uint32_t pm_srun_hint_parse(const char *text);
uint32_t pm_srun_threads_parse(const char *text);
// A value of --wait or SLURM_WAIT: seconds. 0 or -EINVAL.
int pm_srun_wait_parse(const char *text, uint32_t *ret_s);

#endif
