// SPDX-License-Identifier: Apache-2.0
//
// How a process becomes pm-pmix-server: its environment and its fds. Runs in the fork.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "pmix_server/agent_server.h"

#define ENV_MAX 16

extern char **environ;

// Everything else is left out: PMIX_*, OMPI_* and SLURM_* of the job would configure our server.
static const char *const kept_variables[] = {"HOME=", "LANG=", "LD_LIBRARY_PATH=", "PATH=",
                                             "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS="};

static void build_env(const struct server *s, char own[2][PM_AGENT_PATH_CAP + 32], char **env)
{
    size_t n = 0;
    for (char **e = environ; *e; e++) {
        for (size_t i = 0; i < sizeof(kept_variables) / sizeof(*kept_variables); i++) {
            if (!strncmp(*e, kept_variables[i], strlen(kept_variables[i])))
                env[n++] = *e;
        }
    }
    snprintf(own[0], sizeof(own[0]), "TMPDIR=%s", s->folder);
    snprintf(own[1], sizeof(own[1]), "SLURMD_NODENAME=%s", s->agent->config.node_name);
    env[n++] = own[0];
    env[n++] = own[1];
    env[n] = NULL;
}

void pm_server_become(const struct server *s, int fd, uint16_t port)
{
    char path[PM_AGENT_PATH_CAP], text[16], own[2][PM_AGENT_PATH_CAP + 32];
    char *env[ENV_MAX], name[] = "pm-pmix-server";
    char *argv[] = {name, (char *)s->folder, port ? text : NULL, NULL};
    snprintf(path, sizeof(path), "%s/pm-pmix-server", s->agent->config.libexec);
    snprintf(text, sizeof(text), "%u", port);
    build_env(s, own, env);
    sigprocmask(SIG_SETMASK, pm_signals_old_mask(s->agent->signals), NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // What sits on 3 is close-on-exec and goes with the dup. That is not fd itself, which would keep its close-on-exec:
    // 0 to 2 are open, and of its pair fd is the second.
    if (getppid() != 1 && dup2(fd, PM_SERVER_FD) == PM_SERVER_FD)
        execve(path, argv, env);
    int error = errno;
    struct pm_writer w = {0};
    char why[PM_AGENT_PATH_CAP + 128];
    snprintf(why, sizeof(why), "cannot run %s: %s", path, strerror(error));
    pm_write_u32(&w, (uint32_t)(1 + 4 + strlen(why)));
    pm_write_u8(&w, PM_SERVER_FAILED);
    pm_write_str(&w, why);
    if (!w.error)
        (void)!write(fd, w.data, w.len);
    _exit(127);
}
