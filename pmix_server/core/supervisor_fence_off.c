// SPDX-License-Identifier: Apache-2.0
//
// fence=PATH: a program of the site's makes sure that a lost node does no more harm. It is asked for when a node that
// has ranks is declared lost, and waited for before ranks start elsewhere and before the step ends; the shell
// answers for each node, at the latest when the program's time is over. With fence-required a failure stops the
// step, and it is not launched again. (Nothing to do with PMIx_Fence.)
//
// A node whose host has refused the connection lives, and its ranks have ended with its agent. Whoever kills all agents
// at once (scancel --signal=KILL) makes that of each healthy node, and what it leads to does not show before the last one:
// the program is asked for such a node only when its ranks are about to start elsewhere, and not if they never do.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdio.h>

// Beyond the program's own limit, which the shell keeps.
#define ANSWER_MS 1000u

static void ask(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    if (pm_set_add(&core->supervisor->fencing, node) < 0)
        core->out->error = -ENOMEM;
    struct pm_action *a = pm_emit(core, PM_ACTION_FENCE_OFF);
    a->node = node;
    a->cause = cause;
    pm_supervisor_more_time(core);
}

void pm_supervisor_fence_off(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    struct pm_supervisor *s = core->supervisor;
    // While the step forms no rank was started anywhere, and where one is only about to be none was started there.
    if (!core->config.options->fence[0] || s->state == PM_STATE_FORMING || pm_supervisor_is_idle(core, node) ||
        pm_set_has(&s->placed, node))
        return;
    if (!pm_was_refused(core, node))
        ask(core, node, cause);
    else if (pm_set_add(&s->fence_later, node) < 0)
        core->out->error = -ENOMEM;
}

bool pm_supervisor_fence_off_rest(struct pm_core *core)
{
    struct pm_set *later = &core->supervisor->fence_later;
    bool any = !pm_set_empty(later);
    for (uint32_t node = pm_set_next(later, 0); node != UINT32_MAX; node = pm_set_next(later, node + 1))
        ask(core, node, PM_CAUSE_AGENT_LOST);
    pm_set_clear(later);
    return any;
}

uint64_t pm_supervisor_fence_off_ms(const struct pm_core *core)
{
    uint64_t turns = (pm_set_count(&core->supervisor->fencing) + PM_FENCE_OFF_AT_ONCE - 1) / PM_FENCE_OFF_AT_ONCE;
    return turns * (core->config.options->fence_timeout_ms + ANSWER_MS);
}

static void stop_for_it(struct pm_core *core, const char *host, const char *why)
{
    (void)pm_supervisor_refuse(core, PM_EXIT_LOST,
                               "pm-supervise: %.100s could not be fenced off: fence %.100s; stopping, as this site "
                               "has set fence-required",
                               host, why);
    (void)pm_supervisor_fire(core, PM_IN_STOP);
}

// What a failure leads to. A step that ends anyhow only is not launched again.
static void not_fenced_off(struct pm_core *core, const char *host, const char *why)
{
    struct pm_supervisor *s = core->supervisor;
    bool ends = s->state == PM_STATE_STOPPING;
    if (core->config.options->fence_required && !ends) {
        stop_for_it(core, host, why);
        return;
    }
    bool forbids = core->config.options->fence_required && s->relaunch;
    s->relaunch = s->relaunch && !forbids;
    s->fall.forbidden |= core->config.options->fence_required;
    pm_say(core, "pm-supervise: %s could not be fenced off: fence %s; %s", host, why,
           forbids ? "the step is not launched again, as this site has set fence-required"
           : ends  ? "the step is being stopped all the same"
                   : "going on");
}

void pm_supervisor_fenced_off(struct pm_core *core, const struct pm_event *event)
{
    struct pm_supervisor *s = core->supervisor;
    char host[PM_TEXT_CAP];
    const char *why = event->text ? event->text : "";
    if (!pm_set_has(&s->fencing, event->node))
        return;
    if (pm_set_remove(&s->fencing, event->node) < 0)
        core->out->error = -ENOMEM;
    (void)pm_supervisor_host(core, event->node, host);
    struct pm_log *log = pm_log_record(core, event->flag_failed ? "fence-off-failed" : "fenced-off");
    log->epoch = s->wanted.epoch;
    log->node = event->node;
    pm_text_copy(log->reason, sizeof(log->reason), why);
    if (!event->flag_failed)
        pm_say(core, "pm-supervise: %s is fenced off (%s)", host, why);
    else
        not_fenced_off(core, host, why);
}
