// SPDX-License-Identifier: Apache-2.0
//
// See rank_env.h. The names of the torch family are those that torchrun sets; the transport key's form
// is the one that Open MPI's PSM and PSM2 parse ("%016llx-%016llx"), new for each epoch so
// that no message of a dead world is taken for one of the new.
#include "pmix_server/rank_env.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/wire/shim_proto.h"

#define ENTRY_CAP 512

struct entries {
    struct pm_writer text;
    uint32_t n;
};

__attribute__((format(printf, 2, 3))) static void add(struct entries *e, const char *format, ...)
{
    char entry[ENTRY_CAP];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(entry, sizeof(entry), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(entry)) {
        e->text.error = -E2BIG;
        return;
    }
    pm_write_str(&e->text, entry);
    e->n++;
}

static void add_torch(struct entries *out, const struct pm_rank_env *e)
{
    const struct {
        const char *name;
        uint32_t value;
    } numbers[] = {
        {"RANK", e->rank},
        {"WORLD_SIZE", e->nranks},
        {"LOCAL_RANK", e->local_rank},
        {"LOCAL_WORLD_SIZE", e->local_size},
        {"GROUP_RANK", e->node_rank},
        {"NODE_RANK", e->node_rank},
        {"TORCHELASTIC_RESTART_COUNT", e->incarnation},
        {"TORCHELASTIC_MAX_RESTARTS", e->max_restarts},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        add(out, "%s=%u", numbers[i].name, numbers[i].value);
    add(out, "?TORCHELASTIC_RUN_ID=%u.%u", e->job, e->step);
    add(out, "?MASTER_ADDR=%s", e->master_host);
    if (e->master_port)
        add(out, "?MASTER_PORT=%u", e->master_port);
}

// Long ones: a node list has no limit that would suit a buffer.
static void add_text(struct entries *out, const char *name, const char *value)
{
    struct pm_writer entry = {0};
    pm_write_raw(&entry, name, strlen(name));
    pm_write_raw(&entry, value, strlen(value));
    if (entry.error)
        out->text.error = entry.error;
    else
        pm_write_bytes(&out->text, entry.data, entry.len);
    pm_writer_done(&entry);
    out->n++;
}

static void add_slurm(struct entries *out, const struct pm_rank_env *e)
{
    const struct {
        const char *name;
        uint32_t value;
    } numbers[] = {
        {"SLURM_PROCID", e->rank},
        {"SLURM_LOCALID", e->local_rank},
        {"SLURM_NODEID", e->node_rank},
        {"SLURM_NTASKS", e->nranks},
        {"SLURM_NPROCS", e->nranks},
        {"SLURM_NNODES", e->slurm->nnodes},
        {"SLURM_STEP_NUM_TASKS", e->nranks},
        {"SLURM_STEP_NUM_NODES", e->slurm->nnodes},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        add(out, "%s=%u", numbers[i].name, numbers[i].value);
    add_text(out, "SLURM_STEP_NODELIST=", e->slurm->nodelist);
    add_text(out, "SLURM_STEP_TASKS_PER_NODE=", e->slurm->tasks_per_node);
    add_text(out, "SLURM_TASKS_PER_NODE=", e->slurm->tasks_per_node);
    add_text(out, "SLURM_GTIDS=", e->slurm->gtids);
}

static void add_own(struct entries *out, const struct pm_rank_env *e)
{
    add(out, "PM_EPOCH=%u", e->epoch);
    add(out, "PM_INCARNATION=%u", e->incarnation);
    add(out, "PM_MAX_RESTARTS=%u", e->max_restarts);
    if (e->cause && e->cause[0])
        add(out, "PM_RESTART_CAUSE=%s", e->cause);
    if (e->cause && e->cause[0] && e->restart_rank != UINT32_MAX)
        add(out, "PM_RESTART_RANK=%u", e->restart_rank);
}

static void add_mpi(struct entries *out, const struct pm_rank_env *e)
{
    add(out, "OMPI_MCA_orte_precondition_transports=%08x%08x-%08x%08x", e->job, e->step,
        e->epoch + 1, e->nranks);
}

static void add_ready(struct entries *out, char *const *entries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        pm_write_str(&out->text, entries[i]);
    out->n += n;
}

void pm_write_rank_env(struct pm_writer *w, const struct pm_rank_env *e)
{
    struct entries out = {0};
    add_ready(&out, e->server_env, e->n_server_env);
    add_ready(&out, e->bind_env, e->n_bind_env);
    add_mpi(&out, e);
    add_torch(&out, e);
    if (e->slurm)
        add_slurm(&out, e);
    add_own(&out, e);
    if (out.n > PM_SHIM_ENV_MAX)
        out.text.error = -E2BIG;
    pm_write_u32(w, out.n);
    pm_write_raw(w, out.text.data, out.text.len);
    if (out.text.error && !w->error)
        w->error = out.text.error;
    pm_writer_done(&out.text);
}
