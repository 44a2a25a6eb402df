// SPDX-License-Identifier: Apache-2.0
//
// Which nodes are fit: with --pm-health each node is checked when it has joined, and nothing starts before all have
// answered; the spares are checked once more as soon as a decision needs one of them, all at once, while the world halts.
// Who fails is out for this launch (record.h, unhealthy). A spare takes over when it has answered since the decision, has
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

void pm_supervisor_ask_spares(struct pm_core *core)
{
    struct pm_supervisor *s = core->supervisor;
    bool is_due = s->state == PM_STATE_HALTING || s->state == PM_STATE_PLACING; // before, the first check does
    if (s->asked || !is_due || !has_health(core) || !pm_supervisor_homeless(core, UINT32_MAX))
        return;
    s->asked = true;
    s->wanted.check = s->wanted.check ? s->wanted.check + 1 : 2; // 1 was the one after joining
    pm_set_clear(&s->wanted.probe);
    pm_supervisor_spares(core, &s->wanted.probe);
    s->seen.check = s->wanted.check;
    pm_set_clear(&s->seen.fit);
    s->wanted_dirty = true;
    pm_supervisor_more_time(core);
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
