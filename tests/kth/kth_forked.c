// SPDX-License-Identifier: Apache-2.0
//
// The shim of Slurm before 23.11, without slurmstepd: takes the command line of pm-shim, so that direct_step starts it
// in the same place, and does what slurmstepd does with a task: calls pm_task_init() of the plugin with a handle
// whose items come from that command line, and executes the program when it returns. In the real slurmstepd a copy of
// its memory and of its files surrounds the shim; here it is this program's.
//
// What fails here itself is not what is tested, so it is tried twice.
#include <fcntl.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/plugin.h"
#include "plugin/shim/agent_start.h"
#include "pm_config.h"

enum { EXIT_STAND_IN = 99, RANKS_MAX = 64 };

static char **words;  // pm-shim's

// What follows `name` in the command line, or `missing`.
static const char *word(const char *name, const char *missing)
{
    for (char **at = words; *at && strcmp(*at, "--") != 0; at++)
        if (!strncmp(*at, name, strlen(name)))
            return *at + strlen(name);
    return missing;
}

static uint32_t number(const char *name)
{
    return (uint32_t)strtoul(word(name, "0"), NULL, 10);
}

static char *text(const char *name, const char *missing)
{
    static char texts[8][4096];
    static int n;
    return strncpy(texts[n++], word(name, missing), sizeof texts[0] - 1);
}

// --- slurmstepd's functions ---------------------------------------------------------------------

// "3,4": the ranks of this node; their number if `index` is too large.
static uint32_t local_rank(uint32_t index)
{
    const char *list = word("--env=PM_AGENT_LOCAL_RANKS=", "");
    uint32_t ranks[RANKS_MAX], n = 0;
    for (; *list && n < RANKS_MAX; list += strspn(list, ","))
        ranks[n++] = (uint32_t)strtoul(list, (char **)&list, 10);
    return index < n ? ranks[index] : n;
}

static spank_err_t give_number(spank_item_t item, uint32_t *ret)
{
    static const struct {
        spank_item_t item;
        const char *word;
    } numbers[] = {
        {S_JOB_ID, "--env=PM_AGENT_JOB="},          {S_JOB_STEPID, "--env=PM_AGENT_STEP="},
        {S_JOB_NODEID, "--env=PM_AGENT_NODE="},     {S_JOB_NNODES, "--env=PM_AGENT_NNODES="},
        {S_TASK_ID, "--local="},                    {S_TASK_GLOBAL_ID, "--rank="},
        {S_JOB_TOTAL_TASK_COUNT, "--env=PM_AGENT_NTASKS="},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].item == item) {
            *ret = number(numbers[i].word);
            return ESPANK_SUCCESS;
        }
    return ESPANK_BAD_ARG;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    spank_err_t rc = ESPANK_SUCCESS;
    va_list args;
    va_start(args, item);
    if (item == S_JOB_LOCAL_TO_GLOBAL_ID) {
        uint32_t index = va_arg(args, uint32_t);
        *va_arg(args, uint32_t *) = local_rank(index);
    } else if (item == S_JOB_ENV) {
        *va_arg(args, char ***) = environ;
    } else if (item == S_JOB_LOCAL_TASK_COUNT) {
        *va_arg(args, uint32_t *) = local_rank(UINT32_MAX);
    } else {
        rc = give_number(item, va_arg(args, uint32_t *));
    }
    va_end(args);
    return rc;
}

spank_err_t spank_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
    return setenv(name, value, overwrite) == 0 ? ESPANK_SUCCESS : ESPANK_NOSPACE;
}

spank_err_t spank_unsetenv(spank_t spank, const char *name)
{
    return unsetenv(name) == 0 ? ESPANK_SUCCESS : ESPANK_BAD_ARG;
}

// --- the plugin's other half (stepd.c) ------------------------------------------------------------

void pm_stepd_forget(struct pm_step *step)
{
    if (step->listener >= 0)
        close(step->listener);
    step->listener = -1;
    explicit_bzero(step->key, strlen(step->key));
}

static void read_key(char *hex)
{
    unsigned char key[PM_KEY_SIZE];
    int fd = (int)number("--key=");
    if (!fd)
        return;
    for (int i = 0; read(fd, key, sizeof key) != (ssize_t)sizeof key; i++)
        if (i > 0)
            _exit(EXIT_STAND_IN);
    for (size_t i = 0; i < sizeof key; i++)
        snprintf(hex + 2 * i, 3, "%02x", key[i]);
    close(fd);
}

int main(int argc, char **argv)
{
    static char key[PM_KEY_HEX + 1];
    words = argv;
    read_key(key);
    struct pm_step step = {
        .key = key,
        .address = text("--env=PM_AGENT_ADDR=", ""),
        .launch = text("--env=PM_AGENT_LAUNCH=", ""),
        .version = text("--env=PM_AGENT_VERSION=", PM_VERSION),
        .conf = text("--env=PM_AGENT_CONF=", ""),
        .libexec = text("--env=PM_AGENT_LIBEXEC=", ""),
        .listener = *word("--listener=", "") ? (int)number("--listener=") : -1,
        .oom_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC),
    };
    snprintf(step.socket, sizeof step.socket, "%s", word("--socket=", ""));
    char **program = argv;
    while (*program && strcmp(*program, "--") != 0)
        program++;
    if (!*program || !program[1] || pm_task_init(NULL, &step) < 0)
        _exit(EXIT_STAND_IN);
    execve(program[1], program + 1, environ);
    execve(program[1], program + 1, environ);
    _exit(EXIT_STAND_IN);
}
