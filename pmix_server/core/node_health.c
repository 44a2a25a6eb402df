// SPDX-License-Identifier: Apache-2.0
//
// Whether this node is fit for ranks, as --pm-health says: check 1 when all its tasks have joined, a further one whenever
// the wanted state asks for it, with a higher number. One runs at a time. A node that fails one is unfit for good: that is
// reported like a loss, and decided on like one.
#include "pmix_server/core/node.h"

#include <errno.h>

#define FIRST_CHECK 1u

// Number of the newest check that this node has to make; 0: none.
static uint32_t wanted_check(const struct pm_core *core)
{
    const struct pm_node *n = core->node;
    if (!core->config.options->health[0] || n->is_unfit || !pm_node_all_joined(n))
        return 0;
    return pm_set_has(&n->wanted.probe, core->config.node) ? n->wanted.check : FIRST_CHECK;
}

void pm_node_check(struct pm_core *core)
{
    struct pm_node *n = core->node;
    uint32_t check = wanted_check(core);
    if (n->check || check <= n->checked || n->wanted.phase > PM_PHASE_HALT)
        return;
    n->check = check;
    pm_emit(core, PM_ACTION_CHECK_HEALTH)->id = check;
}

static void is_fit(struct pm_core *core)
{
    struct pm_report *report = &core->node->report;
    if (report->check > core->node->checked)
        return; // asked again meanwhile
    if (report->check < core->node->checked)
        pm_set_clear(&report->fit);
    report->check = core->node->checked;
    if (pm_set_add(&report->fit, core->config.node) < 0)
        core->out->error = -ENOMEM;
    core->node->dirty = true;
}

static void is_unfit(struct pm_core *core, const char *why)
{
    struct pm_node *n = core->node;
    n->is_unfit = true;
    n->health_failure = (struct pm_failure){.node = core->config.node,
                                            .rank = PM_RANK_NONE,
                                            .epoch = n->wanted.epoch,
                                            .cause = PM_CAUSE_UNHEALTHY};
    pm_text_copy(n->health_failure.text, sizeof(n->health_failure.text), why);
}

// What is not there on a node at the start is the user's mistake, and no sick node.
void pm_node_health(struct pm_core *core, const struct pm_event *event)
{
    struct pm_node *n = core->node;
    const char *why = event->text ? event->text : "";
    if (!n->check || event->id != n->check)
        return;
    n->checked = n->check;
    n->check = 0;
    if (!event->flag_failed)
        is_fit(core);
    else if (event->flag_exec && n->checked == FIRST_CHECK)
        pm_node_refuse(core, why);
    else
        is_unfit(core, why);
}
