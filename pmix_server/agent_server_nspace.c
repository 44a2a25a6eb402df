// SPDX-License-Identifier: Apache-2.0
//
// The namespace of an epoch as this node's pm-pmix-server is told it: the world's nodes and ranks, and on which CPUs
// those of this node run. Sent once per server; without memory the server is lost, not the rank.
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/agent_server.h"
#include "pmix_server/agent_world.h"
#include "pmix_server/io/util.h"
#include "pmix_server/wire/nspace.h"

#define CPU_TEXT_CAP 1024

// CPUs of process `pid` as "0-3,8"; "" if they cannot be told.
static char *cpus_of(uint32_t pid)
{
    char text[CPU_TEXT_CAP] = "";
    cpu_set_t cpus;
    size_t len = 0;
    if (!pid || sched_getaffinity((pid_t)pid, sizeof(cpus), &cpus) < 0)
        return strdup("");
    for (int first = 0; first < CPU_SETSIZE; first++) {
        int last = first;
        if (!CPU_ISSET(first, &cpus))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &cpus))
            last++;
        int n = first == last
                    ? snprintf(text + len, sizeof(text) - len, "%s%d", len ? "," : "", first)
                    : snprintf(text + len, sizeof(text) - len, "%s%d-%d", len ? "," : "", first, last);
        if (n < 0 || len + (size_t)n >= sizeof(text))
            return strdup("");
        len += (size_t)n;
        first = last;
    }
    return strdup(text);
}

static char *cpus_of_task(struct agent *a, int local, uint16_t *ret_package_rank)
{
    const char *bound = local < 0 ? NULL : pm_bind_cpus(a, (uint32_t)local, ret_package_rank);
    if (bound)
        return strdup(bound);
    *ret_package_rank = PM_NSPACE_NO_PACKAGE;
    return cpus_of(local < 0 ? 0 : a->shims[local].pid);
}

static void fill_cpusets(const struct server *s, struct pm_nspace_info *info)
{
    const struct pm_set *ranks = &info->ranks_of_node[info->node];
    uint32_t n = (uint32_t)pm_set_count(ranks), i = 0;
    info->cpusets = calloc(n ? n : 1, sizeof(char *));
    info->package_ranks = calloc(n ? n : 1, sizeof(uint16_t));
    for (uint32_t rank = pm_set_next(ranks, 0);
         info->cpusets && info->package_ranks && rank != UINT32_MAX && i < n; rank = pm_set_next(ranks, rank + 1), i++)
        info->cpusets[i] = cpus_of_task(s->agent, pm_server_local_of(s->agent, rank), &info->package_ranks[i]);
    info->n_cpusets = i;
}

static void free_cpusets(struct pm_nspace_info *info)
{
    for (uint32_t i = 0; i < info->n_cpusets; i++)
        free(info->cpusets[i]);
    free(info->cpusets);
    free(info->package_ranks);
}

void pm_server_send_nspace(struct server *s)
{
    const struct pm_agent_config *c = &s->agent->config;
    const struct pm_world *world = pm_core_world(s->agent->core);
    PM_CLEANUP_FREE char *wdir = getcwd(NULL, 0);
    struct pm_nspace_info info = {.job = c->job, .step = c->step, .epoch = s->epoch,
                                  .node = c->node, .nodelist = c->nodelist, .wdir = wdir,
                                  .command = c->command};
    if (!world) {
        pm_server_lose(s, "the map of ranks is not known");
        return;
    }
    if (pm_bind_is_pending(s->agent)) {
        s->state = SERVER_INITED;  // pm_servers_release() comes back here
        return;
    }
    info.nnodes = world->nnodes;
    info.nranks = world->nranks;
    info.ranks_of_node = world->ranks_of_node;
    const struct pm_agent_world *seen = pm_agent_world(s->agent);
    if (seen && seen->own != UINT32_MAX) {
        info.nnodes = seen->n;
        info.node = seen->own;
        info.nodelist = seen->nodelist;
        info.ranks_of_node = seen->ranks;
    }
    s->map_version = world->map_version;
    snprintf(info.name, sizeof(info.name), "pm.%u.%u.%u", c->job, c->step, s->epoch);
    fill_cpusets(s, &info);
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SERVER_NSPACE);
    pm_write_nspace(&w, &info);
    s->state = SERVER_SERVING;
    pm_server_write(s, &w, NULL, 0);
    pm_writer_done(&w);
    free_cpusets(&info);
}
