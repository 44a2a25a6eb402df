// SPDX-License-Identifier: Apache-2.0
//
// One rank's part of the map as what START brings: masks, and variables.
//
// OMP_PLACES and OMP_PROC_BIND are not among them: a runtime that finds one of them pins the program's first thread
// to one core, and all threads that others start from it (data loaders, MPI's progress, NCCL's proxies) share that.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/agent_bind.h"
#include "pmix_server/wire/nspace.h"

#define ENV_MAX 8

// --- masks -----------------------------------------------------------------------------------------------

static int put_mask(uint8_t *mask, uint32_t cap, const struct pm_set *set, uint32_t *ret_len)
{
    for (uint32_t v = pm_set_next(set, 0); v != UINT32_MAX; v = pm_set_next(set, v + 1)) {
        if (v / 8 >= cap)
            return -ERANGE;
        mask[v / 8] |= (uint8_t)(1u << v % 8);
    }
    *ret_len = pm_place_length(mask, cap);
    return 0;
}

static int put_place(const struct pm_agent_bind *b, const struct pm_bind_rank *rank, struct pm_place *ret)
{
    static const enum pm_place_memory policies[] = {
        [PM_MEMORY_PREFER] = PM_PLACE_PREFER, [PM_MEMORY_BIND] = PM_PLACE_BIND,
        [PM_MEMORY_INTERLEAVE] = PM_PLACE_INTERLEAVE};
    enum pm_place_memory memory = policies[rank->memory];
    int rc = 0;
    if (!b->options.keep_cpus)
        rc = put_mask(ret->cpus, sizeof(ret->cpus), &rank->pus, &ret->cpu_bytes);
    if (rc == 0 && memory != PM_PLACE_KEEP && !pm_set_empty(&rank->memory_nodes)) {
        ret->memory = memory;
        rc = put_mask(ret->nodes, sizeof(ret->nodes), &rank->memory_nodes, &ret->node_bytes);
    }
    return rc;
}

// --- variables -------------------------------------------------------------------------------------------

// Takes over `entry`; NULL: no memory.
static int add(struct pm_bound_rank *r, char *entry)
{
    if (!entry)
        return -ENOMEM;
    r->env[r->n_env++] = entry;
    return 0;
}

static char *end_text(FILE *out, char **text)
{
    if (out && fclose(out) == 0)
        return *text;
    free(*text);
    return NULL;
}

// How a variable speaks of a GPU: HIP counts CUDA_VISIBLE_DEVICES among what ROCR_VISIBLE_DEVICES has left, so there
// it says 0, 1 ... Where the machine does not show what the GPUs are, they may be AMD's: then CUDA's alone is
// narrowed, which HIP and CUDA understand alike.
enum speech { SPEECH_NONE, SPEECH_TOKEN, SPEECH_COUNT };

static enum speech speech_of(const struct pm_machine *m, const struct pm_granted_gpu *gpu, enum pm_gpu_vendor vendor)
{
    bool is_known = gpu->gpu != PM_PLACE_NONE;
    if (!(gpu->vendors >> vendor & 1))
        return SPEECH_NONE;
    if (is_known && m->gpus[gpu->gpu].vendor == PM_GPU_AMD && vendor == PM_GPU_NVIDIA)
        return SPEECH_COUNT;
    return !is_known && vendor == PM_GPU_AMD && gpu->vendors & 1u << PM_GPU_NVIDIA ? SPEECH_NONE : SPEECH_TOKEN;
}

static int add_gpus(const struct pm_machine *m, const struct pm_bind_case *c, const struct pm_bind_rank *rank,
                    enum pm_gpu_vendor vendor, struct pm_bound_rank *r)
{
    char *text = NULL;
    size_t len;
    uint32_t n = 0;
    FILE *out = open_memstream(&text, &len);
    if (out)
        fprintf(out, "%s=", pm_granted_variable(vendor));
    for (uint32_t i = 0; out && i < rank->n_gpus; i++) {
        const struct pm_granted_gpu *gpu = &c->granted.gpus[rank->gpus[i]];
        enum speech speech = speech_of(m, gpu, vendor);
        if (speech == SPEECH_TOKEN)
            fprintf(out, "%s%s", n ? "," : "", gpu->token);
        else if (speech == SPEECH_COUNT)
            fprintf(out, "%s%u", n ? "," : "", n);
        n += speech != SPEECH_NONE;
    }
    char *entry = end_text(out, &text);
    if (!entry || n)
        return add(r, entry);
    free(entry);  // none of this vendor's
    return 0;
}

// UCX and NCCL know NICs by the names of their verbs devices only.
static bool is_verbs(const struct pm_machine_nic *nic)
{
    static const char *const names[] = {"mlx", "bnxt_re", "irdma", "rocep", "ibp"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strncmp(nic->name, names[i], strlen(names[i])))
            return nic->class != PM_NIC_ETHERNET;
    return false;
}

// "?": a value of the user's own stays.
static int add_nics(const struct pm_machine *m, const struct pm_bind_rank *rank, const char *variable,
                    const char *after, struct pm_bound_rank *r)
{
    char *text = NULL;
    size_t len;
    for (uint32_t i = 0; i < rank->n_nics; i++)
        if (!is_verbs(&m->nics[rank->nics[i].nic]))
            return 0;
    if (rank->n_nics == 0)
        return 0;
    FILE *out = open_memstream(&text, &len);
    if (out)
        fprintf(out, "?%s=", variable);
    for (uint32_t i = 0; out && i < rank->n_nics; i++)
        fprintf(out, "%s%s%s", i ? "," : "", m->nics[rank->nics[i].nic].name, after);
    return add(r, end_text(out, &text));
}

static int add_threads(const struct pm_facts *facts, const struct pm_bind_rank *rank, struct pm_bound_rank *r)
{
    char *entry = NULL;
    if (pm_facts_has_own(facts, "OMP_") || pm_facts_has_own(facts, "GOMP_") || pm_facts_has_own(facts, "KMP_"))
        return 0;
    return add(r, asprintf(&entry, "OMP_NUM_THREADS=%u", rank->threads) < 0 ? NULL : entry);
}

static int put_env(const struct pm_agent_bind *b, const struct pm_bind_case *c, const struct pm_facts *facts,
                   const struct pm_bind_rank *rank, struct pm_bound_rank *r)
{
    int rc = 0;
    for (unsigned v = 0; v < PM_GPU_VENDORS && rc == 0 && !c->keeps_gpus; v++)
        rc = add_gpus(&b->picture.machine, c, rank, v, r);
    if (rc == 0)
        rc = add_nics(&b->picture.machine, rank, "UCX_NET_DEVICES", ":1", r);
    if (rc == 0 && rank->n_gpus)
        rc = add_nics(&b->picture.machine, rank, "NCCL_IB_HCA", "", r);
    if (rc == 0 && !b->options.keep_cpus)
        rc = add_threads(facts, rank, r);
    return rc;
}

static uint32_t package_of(const struct pm_machine *m, const struct pm_bind_rank *rank)
{
    return rank->n_cores ? m->cores[rank->cores[0]].package : PM_PLACE_NONE;
}

// A rank that spans packages counts for its first one.
static uint16_t package_rank_of(const struct pm_machine *m, const struct pm_bind_case *c, uint32_t k)
{
    uint32_t own = package_of(m, &c->binding.ranks[k]), before = 0;
    for (uint32_t i = 0; i < k; i++)
        before += package_of(m, &c->binding.ranks[i]) == own;
    return own == PM_PLACE_NONE || before >= PM_NSPACE_NO_PACKAGE ? PM_NSPACE_NO_PACKAGE : (uint16_t)before;
}

int pm_bound_rank_make(const struct pm_agent_bind *b, const struct pm_bind_case *c, const struct pm_facts *facts,
                       uint32_t k, struct pm_bound_rank *ret)
{
    const struct pm_bind_rank *rank = &c->binding.ranks[k];
    ret->env = calloc(ENV_MAX, sizeof(*ret->env));
    if (!b->options.keep_cpus)
        ret->cpus = pm_set_text(&rank->pus);
    if (!ret->env || (!b->options.keep_cpus && !ret->cpus))
        return -ENOMEM;
    ret->package_rank = package_rank_of(&b->picture.machine, c, k);
    int rc = put_place(b, rank, &ret->place);
    return rc < 0 ? rc : put_env(b, c, facts, rank, ret);
}

void pm_bound_rank_done(struct pm_bound_rank *r)
{
    for (uint32_t i = 0; r->env && i < r->n_env; i++)
        free(r->env[i]);
    free(r->env);
    free(r->cpus);
    *r = (struct pm_bound_rank){0};
}
