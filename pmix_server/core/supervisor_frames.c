// SPDX-License-Identifier: Apache-2.0
//
// What comes up the tree to the coordinator: the records of its children, and lines for srun's
// stderr.
#include "pmix_server/core/supervisor.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "pmix_server/core/bound.h"

// All failures of a frame are one batch: the first decides, the others join it.
static void take_failures(struct pm_core *core, const struct pm_failures *failures)
{
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < failures->n; i++)
        fresh += !pm_supervisor_knows(core, &failures->list[i]);
    for (uint32_t i = 0; i < failures->n; i++) {
        if (pm_supervisor_knows(core, &failures->list[i]))
            continue;
        pm_supervisor_failure(core, &failures->list[i], fresh - 1 + failures->more);
    }
}

// One record for the nodes of a report, not one per node.
static void log_joined(struct pm_core *core, const struct pm_set *joined)
{
    struct pm_set fresh = {0};
    if (pm_set_covers(&core->supervisor->seen.joined, joined))
        return;
    if (pm_set_copy(&fresh, joined) < 0 ||
        pm_set_subtract(&fresh, &core->supervisor->seen.joined) < 0)
        core->out->error = -ENOMEM;
    struct pm_log *log = pm_log_record(core, "joined");
    log->node = pm_set_next(&fresh, 0);
    (void)pm_set_format(&fresh, log->reason, sizeof(log->reason));
    pm_set_done(&fresh);
}

static void take_report(struct pm_core *core, struct pm_report *report)
{
    struct pm_supervisor *s = core->supervisor;
    bool changed = false;
    if (report->epoch > s->wanted.epoch)
        return; // nobody can be ahead of us: a frame of a confused agent
    log_joined(core, &report->joined);
    if (pm_report_union(&s->seen, report, &changed) < 0)
        core->out->error = -ENOMEM;
    if (!s->first_join_ns && !pm_set_empty(&s->seen.joined))
        s->first_join_ns = core->now_ns;
    if (!s->nodelist && s->seen.nodelist) {
        s->nodelist = s->seen.nodelist;
        s->seen.nodelist = NULL;
    }
    if (s->seen.user_signal)
        pm_supervisor_user_stop(core, s->seen.user_signal);
    assert(s->seen.epoch == s->wanted.epoch); // each epoch begins with both
    pm_supervisor_left(core, &s->seen.left);
    pm_supervisor_again_heard(core);
    take_failures(core, &report->failures);
}

static void frame_report(struct pm_core *core, struct pm_reader *r)
{
    struct pm_supervisor *s = core->supervisor;
    struct pm_report report;
    pm_read_report(r, &report, s->launched ? s->nnodes : PM_NODES_MAX,
                   s->launched ? s->ntasks : PM_RANKS_MAX);
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG;
    else
        take_report(core, &report);
    pm_report_done(&report);
}

static void frame_say(struct pm_core *core, struct pm_reader *r)
{
    char text[PM_SAY_CAP];
    uint32_t node = pm_read_u32(r);
    bool verbose = pm_read_u8(r) != 0;
    pm_read_str(r, text, sizeof(text));
    if (pm_reader_end(r) < 0) {
        r->error = -EBADMSG;
        return;
    }
    struct pm_action *a = pm_emit(core, PM_ACTION_SAY);
    a->node = node;
    a->verbose = verbose;
    pm_action_set_text(core, a, text);
}

static void frame_bound(struct pm_core *core, struct pm_reader *r)
{
    struct pm_set nodes;
    struct pm_writer w = {0};
    char *text;
    pm_bound_read(r, core->supervisor->launched ? core->supervisor->nnodes : PM_NODES_MAX, &nodes, &text);
    pm_write_set(&w, &nodes);
    if (w.error)
        core->out->error = -ENOMEM;
    if (text && !w.error) {
        struct pm_action *a = pm_emit(core, PM_ACTION_BOUND);
        pm_action_set_text(core, a, text);
        pm_action_set_data(core, a, w.data, w.len);
    }
    pm_writer_done(&w);
    pm_set_done(&nodes);
    free(text);
}

void pm_supervisor_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type,
                         struct pm_reader *r)
{
    (void)link;
    (void)from;
    if (core->supervisor->state == PM_STATE_DONE)
        return;
    if (type == PM_FRAME_REPORT)
        frame_report(core, r);
    else if (type == PM_FRAME_SAY)
        frame_say(core, r);
    else if (type == PM_FRAME_BOUND)
        frame_bound(core, r);
    else
        r->error = -EBADMSG;
    if (!r->error)
        pm_supervisor_settle(core);
}
