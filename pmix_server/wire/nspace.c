// SPDX-License-Identifier: Apache-2.0
//
// See nspace.h for the contract.
#include "pmix_server/wire/nspace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/hostlist.h"

void pm_nspace_info_done(struct pm_nspace_info *info)
{
    for (uint32_t i = 0; info->ranks_of_node && i < info->nnodes; i++)
        pm_set_done(&info->ranks_of_node[i]);
    for (uint32_t i = 0; info->cpusets && i < info->n_cpusets; i++)
        free(info->cpusets[i]);
    free(info->ranks_of_node);
    free(info->cpusets);
    free(info->package_ranks);
    free(info->nodelist);
    free(info->wdir);
    free(info->command);
    *info = (struct pm_nspace_info){0};
}

// Marks the members of `s` in `seen`. False if one is not below nranks or was seen before.
static bool mark_ranks(const struct pm_set *s, uint32_t nranks, uint8_t *seen)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->spans[i].last >= nranks)
            return false;
        for (uint32_t rank = s->spans[i].first; rank <= s->spans[i].last; rank++) {
            if (seen[rank])
                return false;
            seen[rank] = 1;
        }
    }
    return true;
}

// Each rank below nranks on exactly one node: no rank twice, and as many as there should be. Linear
// in the ranks, whatever the distribution (a union of sets is not).
static int check_map(const struct pm_nspace_info *info)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < info->nnodes; i++)
        sum += pm_set_count(&info->ranks_of_node[i]);
    if (sum != info->nranks)
        return -EINVAL;
    uint8_t *seen = calloc(info->nranks, 1);
    if (!seen)
        return -ENOMEM;
    bool ok = true;
    for (uint32_t i = 0; ok && i < info->nnodes; i++)
        ok = mark_ranks(&info->ranks_of_node[i], info->nranks, seen);
    free(seen);
    return ok ? 0 : -EINVAL;
}

int pm_nspace_info_check(const struct pm_nspace_info *info)
{
    if (!memchr(info->name, 0, sizeof(info->name)) || !info->name[0])
        return -EINVAL;
    if (!info->nnodes || info->nnodes > PM_NSPACE_NODES_MAX || info->node >= info->nnodes)
        return -EINVAL;
    if (!info->nranks || info->nranks > PM_NSPACE_RANKS_MAX)
        return -EINVAL;
    if (!info->nodelist || pm_hostlist_count(info->nodelist) != (int)info->nnodes)
        return -EINVAL;
    if (info->n_cpusets && info->n_cpusets != pm_set_count(&info->ranks_of_node[info->node]))
        return -EINVAL;
    return check_map(info);
}

void pm_write_nspace(struct pm_writer *w, const struct pm_nspace_info *info)
{
    pm_write_str(w, info->name);
    pm_write_u32(w, info->job);
    pm_write_u32(w, info->step);
    pm_write_u32(w, info->epoch);
    pm_write_u32(w, info->node);
    pm_write_u32(w, info->nranks);
    pm_write_str(w, info->nodelist);
    pm_write_str(w, info->wdir);
    pm_write_str(w, info->command);
    pm_write_var(w, info->nnodes);
    for (uint32_t i = 0; i < info->nnodes; i++)
        pm_write_set(w, &info->ranks_of_node[i]);
    pm_write_var(w, info->n_cpusets);
    for (uint32_t i = 0; i < info->n_cpusets; i++) {
        pm_write_str(w, info->cpusets[i]);
        pm_write_u16(w, info->package_ranks ? info->package_ranks[i] : PM_NSPACE_NO_PACKAGE);
    }
}

static void read_map(struct pm_reader *r, struct pm_nspace_info *info)
{
    uint32_t nnodes = pm_read_count(r, PM_NSPACE_NODES_MAX, 1);
    if (!nnodes)
        return;
    info->ranks_of_node = calloc(nnodes, sizeof(*info->ranks_of_node));
    if (!info->ranks_of_node) {
        pm_reader_no_memory(r);
        return;
    }
    info->nnodes = nnodes;
    for (uint32_t i = 0; !r->error && i < nnodes; i++)
        pm_read_set(r, &info->ranks_of_node[i], PM_NSPACE_RANKS_MAX);
}

static void read_cpusets(struct pm_reader *r, struct pm_nspace_info *info)
{
    uint32_t n = pm_read_count(r, PM_NSPACE_CPUSETS_MAX, 6);
    if (!n)
        return;
    info->cpusets = calloc(n, sizeof(*info->cpusets));
    info->package_ranks = calloc(n, sizeof(*info->package_ranks));
    if (!info->cpusets || !info->package_ranks) {
        pm_reader_no_memory(r);
        return;
    }
    info->n_cpusets = n;
    for (uint32_t i = 0; !r->error && i < n; i++) {
        info->cpusets[i] = pm_read_strdup(r, PM_NSPACE_CPUSET_MAX);
        info->package_ranks[i] = pm_read_u16(r);
    }
}

void pm_read_nspace(struct pm_reader *r, struct pm_nspace_info *info)
{
    pm_nspace_info_done(info);
    pm_read_str(r, info->name, sizeof(info->name));
    info->job = pm_read_u32(r);
    info->step = pm_read_u32(r);
    info->epoch = pm_read_u32(r);
    info->node = pm_read_u32(r);
    info->nranks = pm_read_u32(r);
    info->nodelist = pm_read_strdup(r, PM_NSPACE_TEXT_MAX);
    info->wdir = pm_read_strdup(r, PM_NSPACE_TEXT_MAX);
    info->command = pm_read_strdup(r, PM_NSPACE_TEXT_MAX);
    read_map(r, info);
    read_cpusets(r, info);
    if (!r->error) {
        int error = pm_nspace_info_check(info);
        r->error = error == -EINVAL ? -EBADMSG : error;
    }
    if (r->error)
        pm_nspace_info_done(info);
}
