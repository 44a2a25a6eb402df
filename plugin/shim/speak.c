// SPDX-License-Identifier: Apache-2.0
//
// Everything the shim says to its agent. The messages are described in shim_proto.h.
#include <string.h>
#include <unistd.h>

#include "pm_config.h"
#include "plugin/shim/devices.h"
#include "plugin/shim/internal.h"
#include "plugin/shim/link.h"

static void send_or_end(struct shim *s)
{
    if (s->link < 0)
        pm_writer_reset(&s->out);
    else if (pm_link_send(s->link, &s->out) < 0)
        pm_shim_agent_gone(s);
}

#define STEP_GPUS "SLURM_STEP_GPUS="
#define DEVICES PM_SHIM_DEVICES "="

// Beginnings of the entries that the agent is told.
static const char *const told[] = {"CUDA_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES=", "ZE_AFFINITY_MASK=",
                                   STEP_GPUS, "SLURMD_TRES_BIND=", "SLURM_CPUS_ON_NODE=", "SLURM_CPUS_PER_TASK=",
                                   "OMP_", "GOMP_", "KMP_", "UCX_NET_DEVICES=", "NCCL_IB_HCA=", "PM_EPOCH="};

static bool is_told(const char *entry)
{
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        if (strncmp(entry, told[i], strlen(told[i])) == 0)
            return strlen(entry) <= PM_SHIM_FACT_CAP;
    return false;
}

// "" if the task has no GPUs of Slurm's: then nobody asks.
static void find_devices(char *const *env, char *buf, size_t cap)
{
    buf[0] = '\0';
    for (char *const *e = env; e && *e; e++)
        if (strncmp(*e, STEP_GPUS, strlen(STEP_GPUS)) == 0) {
            memcpy(buf, DEVICES, sizeof DEVICES);
            pm_shim_devices("", buf + strlen(DEVICES), cap - strlen(DEVICES));
            return;
        }
}

static void write_facts(struct pm_writer *w, char *const *env)
{
    struct pm_place place = {0};
    char devices[PM_SHIM_FACT_CAP];
    uint32_t n = 0;
    (void)pm_bind_read_cpus(&place);
    find_devices(env, devices, sizeof devices);
    pm_write_bytes(w, place.cpus, place.cpu_bytes);
    uint32_t most = PM_SHIM_FACTS_MAX - (devices[0] != '\0');
    for (char *const *e = env; e && *e; e++)
        n += n < most && is_told(*e);
    pm_write_var(w, n + (devices[0] != '\0'));
    if (devices[0])
        pm_write_str(w, devices);
    for (char *const *e = env; n > 0; e++)
        if (is_told(*e)) {
            pm_write_str(w, *e);
            n--;
        }
}

void pm_shim_send_hello(struct shim *s)
{
    pm_write_u8(&s->out, PM_SHIM_HELLO);
    pm_write_str(&s->out, PM_VERSION);
    pm_write_u32(&s->out, s->config->local);
    pm_write_u32(&s->out, s->config->rank);
    pm_write_u32(&s->out, (uint32_t)getpid());
    pm_write_u8(&s->out, (uint8_t)s->config->way);
    write_facts(&s->out, s->config->env);
    send_or_end(s);
}

void pm_shim_send_started(struct shim *s)
{
    pm_write_u8(&s->out, PM_SHIM_STARTED);
    pm_write_u32(&s->out, s->current.epoch);
    pm_write_u32(&s->out, s->current.incarnation);
    pm_write_u32(&s->out, (uint32_t)s->rank);
    send_or_end(s);
}

void pm_shim_send_exited(struct shim *s, const struct pm_rank_end *end)
{
    pm_write_u8(&s->out, PM_SHIM_EXITED);
    pm_write_u32(&s->out, end->epoch);
    pm_write_u32(&s->out, end->incarnation);
    pm_write_u32(&s->out, (uint32_t)end->pid);
    pm_write_i32(&s->out, end->status);
    pm_write_u8(&s->out, end->exec_failed);
    pm_write_u64(&s->out, end->user_us);
    pm_write_u64(&s->out, end->system_us);
    pm_write_u64(&s->out, end->maxrss_kib);
    send_or_end(s);
}

void pm_shim_send_tree_gone(struct shim *s, const struct pm_shim_start *start,
                            uint32_t killed)
{
    pm_write_u8(&s->out, PM_SHIM_TREE_GONE);
    pm_write_u32(&s->out, start->epoch);
    pm_write_u32(&s->out, start->incarnation);
    pm_write_u32(&s->out, killed);
    send_or_end(s);
}

void pm_shim_send_signalled(struct shim *s, int signal)
{
    if (pm_link_is_crowded(s->link))
        return;
    pm_write_u8(&s->out, PM_SHIM_SIGNALLED);
    pm_write_i32(&s->out, signal);
    send_or_end(s);
}

void pm_shim_send_say(struct shim *s, const char *text)
{
    if (pm_link_is_crowded(s->link))
        return;
    pm_write_u8(&s->out, PM_SHIM_SAY);
    pm_write_str(&s->out, text);
    send_or_end(s);
}

void pm_shim_send_unbound(struct shim *s, const struct pm_bound *bound)
{
    pm_write_u8(&s->out, PM_SHIM_UNBOUND);
    pm_write_u32(&s->out, s->current.epoch);
    pm_write_u32(&s->out, s->current.incarnation);
    pm_write_u8(&s->out, bound->memory);
    pm_write_i32(&s->out, bound->error);
    pm_write_place(&s->out, &bound->place);
    (void)pm_link_send(s->link, &s->out);
}

// An incarnation that never had a process: the agent still gets its two answers.
void pm_shim_report_never_ran(struct shim *s, const struct pm_shim_start *start, int status)
{
    pm_shim_send_exited(s, &(struct pm_rank_end){.epoch = start->epoch,
                                         .incarnation = start->incarnation,
                                         .status = status});
    pm_shim_send_tree_gone(s, start, 0);
}
