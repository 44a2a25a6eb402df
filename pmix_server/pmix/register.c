// SPDX-License-Identifier: Apache-2.0
//
// See register.h for the contract.
#include "pmix_server/pmix/register.h"

#include <errno.h>
#include <malloc.h>
#include <pmix.h>
#include <pmix_server.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/pmix/job_keys.h"
#include "pmix_server/pmix/stream.h"

static void make_directory(const char *path)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        pm_stream_fail("cannot make the directory %s: %s", path, strerror(errno));
}

static void make_directories(const struct pm_nspace_info *info, struct pm_job_dirs *ret_dirs,
                             const char *dir)
{
    snprintf(ret_dirs->top, sizeof(ret_dirs->top), "%s", dir);
    snprintf(ret_dirs->nspace, sizeof(ret_dirs->nspace), "%s/%s", dir, info->name);
    make_directory(ret_dirs->nspace);
    const struct pm_set *local = &info->ranks_of_node[info->node];
    char path[sizeof(ret_dirs->nspace) + 16];
    for (uint32_t rank = pm_set_next(local, 0); rank != UINT32_MAX;
         rank = pm_set_next(local, rank + 1)) {
        snprintf(path, sizeof(path), "%s/%u", ret_dirs->nspace, rank);
        make_directory(path);
    }
}

// Calls without a callback wait and return PMIX_OPERATION_SUCCEEDED, or PMIX_SUCCESS in old releases.
static void require(pmix_status_t rc, const char *what)
{
    if (rc != PMIX_SUCCESS && rc != PMIX_OPERATION_SUCCEEDED)
        pm_stream_fail("PMIx cannot %s: %s", what, PMIx_Error_string(rc));
}

static void register_job(const struct pm_nspace_info *info, const char *dir)
{
    struct pm_job_dirs *dirs = malloc(sizeof(*dirs));
    if (!dirs)
        pm_stream_fail("out of memory");
    make_directories(info, dirs, dir);
    struct pm_infos keys = {0};
    int error = pm_job_keys_build(info, dirs, &keys);
    if (error)
        pm_stream_fail("cannot describe the job to PMIx: %s",
                       error == -EINVAL ? PMIx_Error_string(keys.error) : strerror(-error));
    int n_local = (int)pm_set_count(&info->ranks_of_node[info->node]);
    require(PMIx_server_register_nspace(info->name, n_local, keys.list, keys.n, NULL, NULL),
            "register the namespace");
    pm_infos_done(&keys);
    free(dirs);
    malloc_trim(0);  // a big world's keys are tens of megabytes
}

static void send_environment(const pmix_proc_t *proc)
{
    char **env = NULL;
    require(PMIx_server_setup_fork(proc, &env), "make the environment of a rank");
    uint32_t n = 0;
    while (env && env[n])
        n++;
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_ENV);
    pm_write_u32(&w, proc->rank);
    pm_write_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        pm_write_str(&w, env[i]);
        free(env[i]);
    }
    free(env);
    pm_stream_send(&w);
}

void pm_register_nspace(const struct pm_nspace_info *info, const char *dir)
{
    register_job(info, dir);
    // All clients first: libpmix counts the participants of a fence by its registered clients.
    const struct pm_set *local = &info->ranks_of_node[info->node];
    pmix_proc_t proc;
    for (uint32_t rank = pm_set_next(local, 0); rank != UINT32_MAX;
         rank = pm_set_next(local, rank + 1)) {
        PMIX_LOAD_PROCID(&proc, info->name, rank);
        require(PMIx_server_register_client(&proc, geteuid(), getegid(), NULL, NULL, NULL),
                "register a rank");
    }
    for (uint32_t rank = pm_set_next(local, 0); rank != UINT32_MAX;
         rank = pm_set_next(local, rank + 1)) {
        PMIX_LOAD_PROCID(&proc, info->name, rank);
        send_environment(&proc);
    }
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_READY);
    pm_stream_send(&w);
}
