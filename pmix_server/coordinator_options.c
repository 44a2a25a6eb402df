// SPDX-License-Identifier: Apache-2.0
//
// srun's own options, as its getopt_long() knows them: which take a value, and how short forms and
// abbreviations are read. Needed to find the few words on a command line that are ours to change and
// to leave the values of all others alone ("--job-name --mpi=x").
//
// Source: what srun 22.05.8 passes to getopt_long(), and later options that take a value. An option
// missing here does no harm: the plugin tells where the program starts, so that only a value
// that itself looks like one of our options could be mistaken.
#include "pmix_server/coordinator_argv.h"

#include <string.h>

#define NO PM_SRUN_ARG_NONE
#define REQ PM_SRUN_ARG_REQUIRED
#define OPT PM_SRUN_ARG_OPTIONAL

static const char short_options[] =
    "A:b:D:M:C:S:c:d:Xm:e:x:B:G:hHI::i:J:K::lL:T:Zk::F:w:N:n:o:Osp:Eq:Qr:t:uvVW:";

static const struct pm_srun_option long_options[] = {
    // clang-format off
    {"accel-bind", REQ}, {"account", REQ}, {"acctg-freq", REQ}, {"bb", REQ}, {"bbf", REQ},
    {"bcast", OPT}, {"bcast-exclude", REQ}, {"begin", REQ}, {"chdir", REQ},
    {"cluster", REQ}, {"cluster-constraint", REQ}, {"clusters", REQ}, {"comment", REQ},
    {"compress", OPT}, {"constraint", REQ}, {"container", REQ}, {"container-id", REQ},
    {"context", REQ}, {"contiguous", NO}, {"core-spec", REQ}, {"cores-per-socket", REQ},
    {"cpu-bind", REQ}, {"cpu-freq", REQ}, {"cpu_bind", REQ}, {"cpus-per-gpu", REQ},
    {"cpus-per-task", REQ}, {"deadline", REQ}, {"debugger-test", NO}, {"delay-boot", REQ},
    {"dependency", REQ}, {"disable-status", NO}, {"distribution", REQ}, {"epilog", REQ},
    {"error", REQ}, {"exact", NO}, {"exclude", REQ}, {"exclusive", OPT}, {"export", REQ},
    {"extra", REQ}, {"extra-node-info", REQ}, {"gid", REQ}, {"gpu-bind", REQ},
    {"gpu-freq", REQ}, {"gpus", REQ}, {"gpus-per-node", REQ}, {"gpus-per-socket", REQ},
    {"gpus-per-task", REQ}, {"gres", REQ}, {"gres-flags", REQ}, {"help", NO},
    {"het-group", REQ}, {"hint", REQ}, {"hold", NO}, {"immediate", OPT}, {"input", REQ},
    {"interactive", NO}, {"job-name", REQ}, {"jobid", REQ}, {"kill-on-bad-exit", OPT},
    {"label", NO}, {"licenses", REQ}, {"mail-type", REQ}, {"mail-user", REQ},
    {"mcs-label", REQ}, {"mem", REQ}, {"mem-bind", REQ}, {"mem-per-cpu", REQ}, {"mem_bind", REQ},
    {"mem-per-gpu", REQ}, {"mincpus", REQ}, {"mpi", REQ}, {"msg-timeout", REQ},
    {"multi-prog", NO}, {"network", REQ}, {"nice", OPT}, {"no-allocate", NO},
    {"no-kill", OPT}, {"nodefile", REQ}, {"nodelist", REQ}, {"nodes", REQ},
    {"ntasks", REQ}, {"ntasks-per-core", REQ}, {"ntasks-per-gpu", REQ},
    {"ntasks-per-node", REQ}, {"ntasks-per-socket", REQ}, {"ntasks-per-tres", REQ},
    {"open-mode", REQ}, {"output", REQ}, {"overcommit", NO}, {"overlap", OPT},
    {"oversubscribe", NO}, {"pack-group", REQ}, {"partition", REQ}, {"power", REQ},
    {"prefer", REQ}, {"preserve-env", NO}, {"priority", REQ}, {"profile", REQ},
    {"prolog", REQ}, {"propagate", OPT}, {"pty", NO}, {"qos", REQ}, {"quiet", NO},
    {"quit-on-interrupt", NO}, {"reboot", NO}, {"relative", REQ}, {"reservation", REQ},
    {"resv-ports", OPT}, {"segment", REQ}, {"send-libs", OPT}, {"signal", REQ},
    {"slurmd-debug", REQ}, {"sockets-per-node", REQ}, {"spread-job", NO},
    {"switches", REQ}, {"task-epilog", REQ}, {"task-prolog", REQ},
    {"tasks-per-node", REQ}, {"test-only", NO}, {"thread-spec", REQ}, {"threads", REQ},
    {"threads-per-core", REQ}, {"time", REQ}, {"time-min", REQ}, {"tmp", REQ},
    {"tres-bind", REQ}, {"tres-per-task", REQ}, {"uid", REQ}, {"unbuffered", NO},
    {"usage", NO}, {"use-min-nodes", NO}, {"verbose", NO}, {"version", NO}, {"wait", REQ},
    {"wckey", REQ}, {"whole", NO}, {"x11", OPT},
    // clang-format on
};

const struct pm_srun_option *pm_srun_option_long(const char *name, size_t len)
{
    const struct pm_srun_option *found = NULL;
    bool ambiguous = false;
    for (size_t i = 0; i < sizeof(long_options) / sizeof(*long_options); i++) {
        const struct pm_srun_option *o = &long_options[i];
        if (strncmp(o->name, name, len) != 0)
            continue;
        if (strlen(o->name) == len)
            return o;
        ambiguous = ambiguous || found;
        found = o;
    }
    return ambiguous ? NULL : found;
}

enum pm_srun_arg pm_srun_option_short(char letter)
{
    const char *at = letter == ':' ? NULL : strchr(short_options, letter);
    if (!at || at[1] != ':')
        return NO;
    return at[2] == ':' ? OPT : REQ;
}
