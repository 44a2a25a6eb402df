// SPDX-License-Identifier: Apache-2.0
//
// See job_keys.h for the contract.
//
// Node ids that ranks see count only nodes with ranks, in the order of the step's host list: that is
// what Slurm's own view of the ranks (SLURM_NODEID) counts as well.
#include "pmix_server/pmix/job_keys.h"

#include <errno.h>
#include <pmix.h>
#include <pmix_server.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/pmix/locality.h"
#include "pmix_server/wire/hostlist.h"

enum { ANL_MAP_MAX = 65536, PATH_CAP = 4096 + 256 + 16 };

// What the builders below share.
struct build {
    const struct pm_nspace_info *info;
    const struct pm_job_dirs *dirs;
    char **names;      // of all nodes of the step
    uint32_t n_names;
    uint32_t n_used;   // nodes with ranks
    struct pm_infos *keys;
};

static const struct pm_set *own_ranks(const struct build *b)
{
    return &b->info->ranks_of_node[b->info->node];
}

static void write_text(struct pm_writer *w, const char *text)
{
    pm_write_raw(w, text, strlen(text));
}

// "0,1,4": the form of PMIX_LOCAL_PEERS and of the input to PMIx_generate_ppn.
static void write_ranks(struct pm_writer *w, const struct pm_set *ranks)
{
    char number[16];
    for (uint32_t i = 0; i < ranks->n; i++)
        for (uint32_t rank = ranks->spans[i].first; rank <= ranks->spans[i].last; rank++) {
            snprintf(number, sizeof(number), "%s%u",
                     rank == ranks->spans[0].first ? "" : ",", rank);
            write_text(w, number);
        }
}

// Adds the NUL and hands the text over; NULL without memory.
static char *take_text(struct pm_writer *w)
{
    pm_write_u8(w, 0);
    if (w->error)
        pm_writer_done(w);
    char *text = (char *)w->data;
    *w = (struct pm_writer){0};
    return text;
}

static void fail(struct build *b, pmix_status_t error)
{
    if (b->keys->error == PMIX_SUCCESS)
        b->keys->error = error;
}

static void add_text(struct build *b, const char *key, struct pm_writer *w)
{
    char *text = take_text(w);
    if (text)
        pm_infos_add_str(b->keys, key, text);
    else
        fail(b, PMIX_ERR_NOMEM);
    free(text);
}

// Calls PMIx_generate_regex or _ppn on the text in *w and adds the result.
static void add_map(struct build *b, const char *key, struct pm_writer *w,
                    pmix_status_t (*generate)(const char *, char **))
{
    char *text = take_text(w);
    char *map = NULL;
    pmix_status_t rc = text ? generate(text, &map) : PMIX_ERR_NOMEM;
    if (rc == PMIX_SUCCESS)
        pm_infos_add(b->keys, key, map, PMIX_REGEX);
    else
        fail(b, rc);
    free(map);
    free(text);
}

static void add_maps(struct build *b)
{
    struct pm_writer names = {0};
    struct pm_writer ranks = {0};
    for (uint32_t i = 0, used = 0; i < b->info->nnodes; i++) {
        if (pm_set_empty(&b->info->ranks_of_node[i]))
            continue;
        write_text(&names, used ? "," : "");
        write_text(&names, b->names[i]);
        write_text(&ranks, used ? ";" : "");
        write_ranks(&ranks, &b->info->ranks_of_node[i]);
        used++;
    }
    add_map(b, PMIX_NODE_MAP, &names, PMIx_generate_regex);
    add_map(b, PMIX_PROC_MAP, &ranks, PMIx_generate_ppn);
}

struct anl_block {
    uint32_t node;
    uint32_t first;
    uint32_t count;
};

static int compare_blocks(const void *a, const void *b)
{
    const struct anl_block *x = a;
    const struct anl_block *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

// MPICH's "(vector,(node,1,ranks),...)", blocks in order of rank. Very irregular maps are left out.
static void add_anl_map(struct build *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->info->nnodes; i++)
        n += b->info->ranks_of_node[i].n;
    struct anl_block *blocks = calloc(n, sizeof(*blocks));
    if (!blocks) {
        fail(b, PMIX_ERR_NOMEM);
        return;
    }
    uint32_t at = 0;
    for (uint32_t i = 0, used = 0; i < b->info->nnodes; i++) {
        const struct pm_set *ranks = &b->info->ranks_of_node[i];
        for (uint32_t s = 0; s < ranks->n; s++)
            blocks[at++] = (struct anl_block){used, ranks->spans[s].first,
                                              ranks->spans[s].last - ranks->spans[s].first + 1};
        used += !pm_set_empty(ranks);
    }
    qsort(blocks, n, sizeof(*blocks), compare_blocks);
    struct pm_writer w = {0};
    write_text(&w, "(vector");
    for (uint32_t i = 0; i < n && w.len < ANL_MAP_MAX;) {
        uint32_t same = 1;  // blocks of the same size on consecutive nodes are one element
        while (i + same < n && blocks[i + same].count == blocks[i].count
               && blocks[i + same].node == blocks[i].node + same)
            same++;
        char element[64];
        snprintf(element, sizeof(element), ",(%u,%u,%u)", blocks[i].node, same, blocks[i].count);
        write_text(&w, element);
        i += same;
    }
    free(blocks);
    bool fits = w.len < ANL_MAP_MAX;
    write_text(&w, ")");
    if (fits)
        add_text(b, PMIX_ANL_MAP, &w);
    pm_writer_done(&w);
}

static void add_node_list(struct build *b)
{
    struct pm_writer w = {0};
    for (uint32_t i = 0; i < b->n_names && w.len < ANL_MAP_MAX; i++) {
        write_text(&w, i ? "," : "");
        write_text(&w, b->names[i]);
    }
    bool fits = w.len < ANL_MAP_MAX;
    if (fits)
        add_text(b, PMIX_ALLOCATED_NODELIST, &w);
    pm_writer_done(&w);
}

static void add_job(struct build *b)
{
    const struct pm_nspace_info *info = b->info;
    struct pm_infos *keys = b->keys;
    char job_id[32];
    snprintf(job_id, sizeof(job_id), "%u.%u", info->job, info->step);
    pm_infos_add_u32(keys, PMIX_SESSION_ID, info->job);
    pm_infos_add_u32(keys, PMIX_UNIV_SIZE, info->nranks);
    pm_infos_add_str(keys, PMIX_SERVER_NSPACE, PM_SERVER_NSPACE_NAME);
    pm_infos_add_rank(keys, PMIX_SERVER_RANK, 0);
    pm_infos_add_str(keys, PMIX_NSPACE, info->name);
    pm_infos_add_str(keys, PMIX_JOBID, job_id);
    pm_infos_add_u32(keys, PMIX_JOB_SIZE, info->nranks);
    pm_infos_add_u32(keys, PMIX_MAX_PROCS, info->nranks);
    pm_infos_add_u32(keys, PMIX_NUM_SLOTS, info->nranks);
    pm_infos_add_u32(keys, PMIX_NUM_NODES, b->n_used);
    pm_infos_add_u32(keys, PMIX_JOB_NUM_APPS, 1);
    pm_infos_add_rank(keys, PMIX_NPROC_OFFSET, 0);
    pm_infos_add_str(keys, PMIX_RM_NAME, "slurm");
    pm_infos_add_flag(keys, PMIX_HOSTNAME_KEEP_FQDN, true);
    pm_infos_add_str(keys, PMIX_TMPDIR, b->dirs->top);
    pm_infos_add_str(keys, PMIX_NSDIR, b->dirs->nspace);
    pm_infos_add_flag(keys, PMIX_TDIR_RMCLEAN, true);
    pm_infos_add_u32(keys, PMIX_REINCARNATION, info->epoch);
    if (info->command && info->command[0])
        pm_infos_add_str(keys, PMIX_CMD_LINE, info->command);
}

static void add_app(struct build *b)
{
    struct pm_infos app = {0};
    pm_infos_add_u32(&app, PMIX_APPNUM, 0);
    pm_infos_add_u32(&app, PMIX_APP_SIZE, b->info->nranks);
    pm_infos_add_rank(&app, PMIX_APPLDR, 0);
    if (b->info->wdir && b->info->wdir[0])
        pm_infos_add_str(&app, PMIX_WDIR, b->info->wdir);
    if (b->info->command && b->info->command[0])
        pm_infos_add_str(&app, PMIX_APP_ARGV, b->info->command);
    pm_infos_add_infos(b->keys, PMIX_APP_INFO_ARRAY, &app);
}

// More local ranks than CPUs that this process may use (the agent widens it to the step's).
static bool is_oversubscribed(uint64_t n_local)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
        return false;
    return n_local > (uint64_t)CPU_COUNT(&cpus);
}

static void add_own_node(struct build *b, struct pm_infos *node)
{
    uint64_t n = pm_set_count(own_ranks(b));
    pmix_rank_t *ranks = calloc(n, sizeof(*ranks));
    if (!ranks) {
        fail(b, PMIX_ERR_NOMEM);
        return;
    }
    uint32_t rank = pm_set_next(own_ranks(b), 0);
    for (uint64_t i = 0; i < n; i++, rank = pm_set_next(own_ranks(b), rank + 1))
        ranks[i] = rank;
    pm_infos_add_procs(node, PMIX_LOCAL_PROCS, b->info->name, ranks, n);
    free(ranks);
    pm_infos_add_str(node, PMIX_TMPDIR, b->dirs->top);
    pm_infos_add_str(node, PMIX_NSDIR, b->dirs->nspace);
    pm_infos_add_flag(node, PMIX_NODE_OVERSUBSCRIBED, is_oversubscribed(n));
}

static void add_node(struct build *b, uint32_t index, uint32_t node_id)
{
    const struct pm_set *ranks = &b->info->ranks_of_node[index];
    uint32_t n = (uint32_t)pm_set_count(ranks);
    struct pm_writer w = {0};
    write_ranks(&w, ranks);
    char *peers = take_text(&w);
    struct pm_infos node = {0};
    pm_infos_add_u32(&node, PMIX_NODEID, node_id);
    pm_infos_add_str(&node, PMIX_HOSTNAME, b->names[index]);
    pm_infos_add_u32(&node, PMIX_LOCAL_SIZE, n);
    pm_infos_add_u32(&node, PMIX_NODE_SIZE, n);
    pm_infos_add_rank(&node, PMIX_LOCALLDR, ranks->spans[0].first);
    if (peers)
        pm_infos_add_str(&node, PMIX_LOCAL_PEERS, peers);
    else
        fail(b, PMIX_ERR_NOMEM);
    free(peers);
    if (index == b->info->node)
        add_own_node(b, &node);
    pm_infos_add_infos(b->keys, PMIX_NODE_INFO_ARRAY, &node);
}

// Keys that only ranks of the same node can use.
static void add_local_rank_keys(struct build *b, struct pm_infos *proc, uint32_t rank,
                                uint16_t local_rank)
{
    char path[PATH_CAP];
    snprintf(path, sizeof(path), "%s/%u", b->dirs->nspace, rank);
    pm_infos_add_str(proc, PMIX_PROCDIR, path);
    pm_infos_add_flag(proc, PMIX_SPAWNED, false);
    if (local_rank >= b->info->n_cpusets)
        return;
    pm_locality_add(proc, b->info->cpusets[local_rank]);
    if (b->info->package_ranks && b->info->package_ranks[local_rank] != PM_NSPACE_NO_PACKAGE)
        pm_infos_add_u16(proc, PMIX_PACKAGE_RANK, b->info->package_ranks[local_rank]);
}

static void add_ranks_of(struct build *b, uint32_t index, uint32_t node_id)
{
    const struct pm_set *ranks = &b->info->ranks_of_node[index];
    bool is_own = index == b->info->node;
    uint16_t local_rank = 0;
    for (uint32_t rank = pm_set_next(ranks, 0); rank != UINT32_MAX;
         rank = pm_set_next(ranks, rank + 1), local_rank++) {
        struct pm_infos proc = {0};
        pm_infos_reserve(&proc, is_own ? 12 : 7);
        pm_infos_add_rank(&proc, PMIX_RANK, rank);  // must be the first; PMIX_APPNUM is 0 without asking
        pm_infos_add_rank(&proc, PMIX_APP_RANK, rank);
        pm_infos_add_rank(&proc, PMIX_GLOBAL_RANK, rank);
        pm_infos_add_u16(&proc, PMIX_LOCAL_RANK, local_rank);
        pm_infos_add_u16(&proc, PMIX_NODE_RANK, local_rank);
        pm_infos_add_u32(&proc, PMIX_NODEID, node_id);
        pm_infos_add_u32(&proc, PMIX_REINCARNATION, b->info->epoch);
        if (is_own)
            add_local_rank_keys(b, &proc, rank, local_rank);
        pm_infos_add_infos(b->keys, PMIX_PROC_INFO_ARRAY, &proc);
    }
}

static bool has_rank_keys(const struct build *b)
{
    return b->info->nranks <= PM_JOB_KEYS_RANKS_MAX;
}

static void add_all(struct build *b)
{
    for (uint32_t i = 0; i < b->info->nnodes; i++)
        b->n_used += !pm_set_empty(&b->info->ranks_of_node[i]);
    pm_infos_reserve(b->keys, 32 + (b->n_used <= PM_JOB_KEYS_NODES_MAX ? b->n_used : 1)
                                  + (has_rank_keys(b) ? b->info->nranks : 0));
    add_job(b);
    add_maps(b);
    add_anl_map(b);
    add_node_list(b);
    add_app(b);
    for (uint32_t i = 0, node_id = 0; i < b->info->nnodes; i++) {
        if (pm_set_empty(&b->info->ranks_of_node[i]))
            continue;
        if (b->n_used <= PM_JOB_KEYS_NODES_MAX || i == b->info->node)
            add_node(b, i, node_id);
        if (has_rank_keys(b))
            add_ranks_of(b, i, node_id);
        node_id++;
    }
}

int pm_job_keys_build(const struct pm_nspace_info *info, const struct pm_job_dirs *dirs,
                      struct pm_infos *ret_keys)
{
    struct build b = {.info = info, .dirs = dirs, .keys = ret_keys};
    int error = pm_hostlist_expand(info->nodelist, &b.names, &b.n_names);
    if (error)
        return error;
    add_all(&b);
    pm_hostlist_free(b.names, b.n_names);
    if (ret_keys->error == PMIX_SUCCESS)
        return 0;
    return ret_keys->error == PMIX_ERR_NOMEM ? -ENOMEM : -EINVAL;
}
