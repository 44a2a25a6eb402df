// SPDX-License-Identifier: Apache-2.0
//
// Which nodes are fit: with --pm-health each node is checked when it has joined, and nothing starts before all have
// answered; the spares are checked once more as soon as a decision needs one of them, all at once, while the world halts.
// Who fails is out for this launch (record.h, unhealthy). Slurm is asked then as well: what it has drained or shows as down
// takes nobody's place in this decision. A spare takes over when it has answered since the decision, has
// passed the check, and nobody suspects it.
#include "pmix_server/core/supervisor.h"

#include <errno.h>

// Beyond the program's own limit, which the agent keeps.
#define ANSWER_MS 1000u

static void need(struct pm_core *core, int rc)
{
    if (rc < 0)
        core->out->error = rc;
}

static bool has_health(const struct pm_core *core)
{
    return core->config.options->health[0] != '\0';
}

static uint64_t check_ms(const struct pm_core *core)
{
    return core->config.options->health_timeout_ms + ANSWER_MS;
}

// Nodes of the step whose answer to the first check is missing, into a zeroed *ret.
static void find_unchecked(struct pm_core *core, struct pm_set *ret)
{
    const struct pm_supervisor *s = core->supervisor;
    int rc = pm_set_add_span(ret, 0, s->nnodes - 1);
    if (rc == 0)
        rc = pm_set_subtract(ret, &s->seen.fit);
    if (rc == 0)
        rc = pm_set_subtract(ret, &s->wanted.lost);
    if (rc == 0)
        rc = pm_set_subtract(ret, pm_dead_nodes(core));
    need(core, rc);
}

bool pm_supervisor_awaits_health(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_set unchecked = {0};
    if (!has_health(core))
        return false;
    find_unchecked(core, &unchecked);
    bool waits = !pm_set_empty(&unchecked);
    pm_set_done(&unchecked);
    if (waits && !s->checking)
        pm_supervisor_arm(core, check_ms(core) + core->config.options->node_timeout_ms);
    s->checking = waits;
    return waits;
}

char *pm_supervisor_unchecked(struct pm_core *core, char *buf, size_t cap)
{
    struct pm_set unchecked = {0};
    find_unchecked(core, &unchecked);
    (void)pm_supervisor_names(core, &unchecked, buf, cap);
    pm_set_done(&unchecked);
    return buf;
}

// --- Slurm's view --------------------------------------------------------------------------------

static void ask_slurm(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_set spares = {0};
    struct pm_writer w = {0};
    pm_supervisor_spares(core, &spares);
    pm_write_set(&w, &spares);
    if (w.error)
        core->out->error = w.error;
    else if (!pm_set_empty(&spares)) {
        pm_action_set_data(core, pm_emit(core, PM_ACTION_ASK_NODES), w.data, w.len);
        s->slurm = PM_SLURM_ASKED;
    }
    pm_writer_done(&w);
    pm_set_done(&spares);
}

// Of those that Slurm named, the ones that wait.
static void drain(struct pm_core *core, const struct pm_set *out)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_set spares = {0};
    char names[PM_TEXT_CAP];
    pm_supervisor_spares(core, &spares);
    for (uint32_t node = pm_set_next(out, 0); node != UINT32_MAX; node = pm_set_next(out, node + 1))
        if (pm_set_has(&spares, node))
            need(core, pm_set_add(&s->drained, node));
    pm_set_done(&spares);
    if (pm_set_empty(&s->drained))
        return;
    uint32_t left = pm_supervisor_n_spares(core, UINT32_MAX);
    pm_say(core, "pm-supervise: Slurm shows %s as drained or down: no use as a spare now, %u %s left",
           pm_supervisor_names(core, &s->drained, names, sizeof(names)), left, left == 1 ? "is" : "are");
    struct pm_log *log = pm_log_record(core, "drained");
    log->epoch = s->wanted.epoch;
    log->node = pm_set_next(&s->drained, 0);
    (void)pm_set_format(&s->drained, log->reason, sizeof(log->reason));
}

void pm_supervisor_node_states(struct pm_core *core, const struct pm_event *event)
{
    struct pm_supervisor *s = core->supervisor;
    if (s->slurm != PM_SLURM_ASKED)
        return;
    s->slurm = PM_SLURM_ANSWERED;
    if (event->flag_failed)
        pm_say(core, "pm-supervise: Slurm does not say whether it has drained a spare; they are taken as they come");
    else if (event->set)
        drain(core, event->set);
}

// --- before use ----------------------------------------------------------------------------------

static void ask_health(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    s->asked = true;
    s->wanted.check = s->wanted.check ? s->wanted.check + 1 : 2; // 1 was the one after joining
    pm_set_clear(&s->wanted.probe);
    pm_supervisor_spares(core, &s->wanted.probe);
    s->seen.check = s->wanted.check;
    pm_set_clear(&s->seen.fit);
    s->wanted_dirty = true;
    pm_supervisor_more_time(core);
}

void pm_supervisor_ask_spares(struct pm_core *core)
{
    const struct pm_supervisor *s = core->supervisor;
    bool use = s->state == PM_STATE_HALTING || s->state == PM_STATE_PLACING; // before, the first check does
    bool health = use && !s->asked && has_health(core);
    bool asked = !health && s->slurm != PM_SLURM_NOT_ASKED;
    if (s->first_spare == s->nnodes || asked || !pm_supervisor_homeless(core, UINT32_MAX))
        return;
    if (s->slurm == PM_SLURM_NOT_ASKED)
        ask_slurm(core);
    if (health)
        ask_health(core);
}

uint64_t pm_supervisor_ask_ms(const struct pm_core *core)
{
    return core->supervisor->asked ? check_ms(core) : 0;
}

void pm_supervisor_keep_ready(struct pm_core *core, struct pm_set *spares)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_set *answered =
        s->state == PM_STATE_FORMING ? &s->seen.joined : &s->seen.marks[PM_MARK_HALTED];
    struct pm_set late = {0}, unfit = {0};
    if (s->slurm == PM_SLURM_ASKED) {
        pm_set_clear(spares);
        return;
    }
    int rc = pm_set_copy(&late, spares);
    if (rc == 0)
        rc = pm_set_subtract(&late, answered);
    if (rc == 0)
        rc = pm_set_union(&late, pm_suspect_nodes(core));
    if (rc == 0 && has_health(core))
        rc = pm_set_copy(&unfit, spares);
    if (rc == 0)
        rc = pm_set_subtract(&unfit, &s->seen.fit);
    if (rc == 0)
        rc = pm_set_union(&late, &unfit);
    if (rc == 0)
        rc = pm_set_subtract(spares, &late);
    need(core, rc);
    pm_set_done(&late);
    pm_set_done(&unfit);
}
