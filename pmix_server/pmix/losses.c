// SPDX-License-Identifier: Apache-2.0
//
// See losses.h for the contract.
#include "pmix_server/pmix/losses.h"

#include <pmix.h>
#include <pmix_server.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "pmix_server/pmix/ranks.h"
#include "pmix_server/pmix/stream.h"

enum { OBITUARY_LIMIT_S = 10 };

static void deregistered(pmix_status_t status, void *data)
{
}

// Progress thread. libpmix has closed the connection and has settled the fences that were open.
static void connection_lost(size_t id, pmix_status_t status, const pmix_proc_t *source,
                            pmix_info_t info[], size_t n_info, pmix_info_t results[],
                            size_t n_results, pmix_event_notification_cbfunc_fn_t done, void *data)
{
    pm_ranks_mark(PM_RANK_LOST, source->rank);
    PMIx_server_deregister_client(source, deregistered, NULL);
    if (done)
        done(PMIX_EVENT_ACTION_COMPLETE, NULL, 0, NULL, NULL, data);
}

pmix_status_t pm_losses_watch(void)
{
    pmix_status_t code = PMIX_ERR_LOST_CONNECTION;
    // Without a callback this waits, and returns the handler's number.
    pmix_status_t rc = PMIx_Register_event_handler(&code, 1, NULL, 0, connection_lost, NULL, NULL);
    return rc < 0 ? rc : PMIX_SUCCESS;
}

// Our own clean environment (hygiene.h), to which libpmix adds the rank's.
static char **copy_environment(void)
{
    size_t n = 0;
    while (environ[n])
        n++;
    char **env = calloc(n + 1, sizeof(*env));
    if (!env)
        pm_stream_fail("out of memory");
    for (size_t i = 0; i < n; i++) {
        env[i] = strdup(environ[i]);
        if (!env[i])
            pm_stream_fail("out of memory");
    }
    return env;
}

static void spawn_obituary(const char *nspace, uint32_t rank)
{
    char self[] = "/proc/self/exe";
    char option[] = "--obituary";
    char *argv[] = {self, option, NULL};
    char **env = copy_environment();
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, nspace, rank);
    pid_t pid;
    // The child is never waited for: SIGCHLD is ignored.
    if (PMIx_server_setup_fork(&proc, &env) != PMIX_SUCCESS
        || posix_spawn(&pid, self, NULL, NULL, argv, env) != 0)
        pm_stream_fail("PMIx collectives with rank %u, which ended without taking part, would wait "
                       "for ever on this node: cannot start a process to say so", rank);
    for (char **at = env; *at; at++)
        free(*at);
    free(env);
}

void pm_losses_rank_ended(const char *nspace, uint32_t rank)
{
    if (!pm_ranks_is_local(rank) || pm_ranks_has(PM_RANK_ENDED, rank))
        return;
    pm_ranks_mark(PM_RANK_ENDED, rank);
    if (!pm_ranks_has(PM_RANK_FINALIZED, rank))
        pm_ranks_mark(PM_RANK_LOST, rank);
    if (!pm_ranks_has(PM_RANK_CONNECTED, rank))
        pm_ranks_mark(PM_RANK_SILENT, rank);
}

void pm_losses_tick(const char *nspace)
{
    uint32_t rank;
    while (pm_ranks_someone_connected()
           && (rank = pm_ranks_take(PM_RANK_SILENT)) != UINT32_MAX)
        spawn_obituary(nspace, rank);
}

int pm_losses_obituary(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGALRM, SIG_DFL);
    alarm(OBITUARY_LIMIT_S);
    pmix_proc_t self;
    return PMIx_Init(&self, NULL, 0) == PMIX_SUCCESS ? 0 : 1;
}
