// SPDX-License-Identifier: Apache-2.0
//
// Hash of the coordinator's part of the core, for pm_core_digest: what later decisions read, with times as in
// state_digest.c. Texts, and times that are only told, are left out; so is the version of the wanted state.
#include "pmix_server/core/supervisor.h"

// What is over, or of another state, decides nothing any more.
static void digest_times(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    bool forming = s->state == PM_STATE_FORMING, placing = s->state == PM_STATE_PLACING;
    bool slept = s->deadline_ns <= now_ns && (now_ns - s->deadline_ns) / PM_MS > o->node_timeout_ms / 8;
    pm_digest_time(d, slept ? 0 : s->deadline_ns, now_ns);
    pm_digest_u64(d, s->deadline_ns == UINT64_MAX ? 0 : s->timer_ms);
    pm_digest_due(d, s->wait_ns, now_ns);
    pm_digest_age(d, s->state == PM_STATE_HALTING ? s->decided_ns : 0, now_ns, s->backoff_ms * PM_MS);
    if (placing)
        pm_digest_due(d, s->place_ns > s->judged_ns ? s->place_ns : 0, now_ns);
    pm_digest_age(d, placing || (forming && s->ready_ns) ? s->judged_ns : 0, now_ns, PM_PLACE_POLL_MS * PM_MS);
    pm_digest_age(d, forming ? s->first_join_ns : 0, now_ns,
                  (s->join_window_ms + o->node_timeout_ms) * PM_MS + PM_NAME_LATE_MS * PM_MS);
    pm_digest_age(d, forming || placing ? s->ready_ns : 0, now_ns, PM_PORT_WAIT_MS * PM_MS);
}

// What a restart may cost: how long the world has lived matters up to there.
static void digest_budget(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d)
{
    const struct pm_supervisor *s = core->supervisor;
    const struct pm_options *o = core->config.options;
    uint64_t window_ns = o->restart_window_ms * PM_MS;
    uint64_t healthy_ms = pm_supervisor_healthy_ms(core);
    pm_digest_age(d, s->starting_ns, now_ns, (o->backoff_ms ? healthy_ms : o->min_uptime_ms) * PM_MS);
    pm_digest_u64(d, o->backoff_ms ? s->streak : 0);
    pm_digest_u64(d, s->restarts);
    pm_digest_u64(d, s->start_failures);
    for (uint32_t i = 0; i < s->n_restart_ns; i++) // without a window only their number counts
        if (now_ns < s->restart_ns[i] + window_ns)
            pm_digest_time(d, s->restart_ns[i], now_ns);
    uint64_t loss_window_ns = o->node_loss_window_ms * PM_MS;
    pm_digest_u64(d, loss_window_ns ? 0 : s->n_losses);
    for (uint32_t i = 0; loss_window_ns && i < s->n_losses; i++)
        if (now_ns < s->loss_ns[i] + loss_window_ns)
            pm_digest_time(d, s->loss_ns[i], now_ns);
}

// The decision that is being carried out: others may join it, and the next epoch's ranks hear of it.
static void digest_decision(const struct pm_supervisor *s, struct pm_digest *d)
{
    const struct pm_history *h = &s->decision;
    pm_digest_u64(d, (uint64_t)h->restarts << 32 | h->start_failures);
    pm_digest_u64(d, (uint64_t)h->user_stop << 1 | h->world_over); // of places those of now count
    pm_digest_u64(d, (uint64_t)s->cause.cause << 32 | s->cause.rank);
}

void pm_supervisor_digest(const struct pm_core *core, uint64_t now_ns, struct pm_digest *d)
{
    const struct pm_supervisor *s = core->supervisor;
    pm_digest_u64(d, (uint64_t)s->state << 32 | (uint32_t)s->end);
    digest_times(core, now_ns, d);
    digest_budget(core, now_ns, d);
    if (s->state == PM_STATE_HALTING || s->state == PM_STATE_PLACING || s->state == PM_STATE_STOPPING)
        digest_decision(s, d);
    pm_wanted_digest(&s->wanted, d);
    pm_report_digest(&s->seen, d);
    pm_digest_set(d, &s->bad_servers);
    pm_digest_set(d, &s->condemned);
    pm_digest_set(d, &s->movers);
    pm_digest_set(d, &s->placed);
    pm_digest_set(d, &s->retired);
    pm_digest_set(d, &s->blamed);
    pm_digest_set(d, &s->drained);
    for (uint32_t i = 0; s->firsts && i < s->nnodes; i++)
        pm_digest_u64(d, s->firsts[i] < core->config.options->blame ? s->firsts[i] : core->config.options->blame);
    pm_digest_set(d, &s->fencing);
    pm_digest_set(d, &s->fence_later);
    pm_supervisor_fall_digest(core, now_ns, d);
    pm_places_digest(&s->places, d);
    pm_places_digest(&s->sizes, d);
    const uint64_t plain[] = {s->isolated,
                              s->asked,
                              s->slurm,
                              s->checking,
                              s->launched,
                              s->nnodes,
                              s->nranks,
                              s->map_frame != NULL,
                              s->nodelist != NULL,
                              s->named_late,
                              s->wanted_dirty,
                              s->wanted.version != 0,
                              s->backoff_ms,
                              s->user_stop,
                              s->ranks_untold,
                              (uint32_t)s->user_signal,
                              s->last_port,
                              s->last_port_serial,
                              s->srun_exited,
                              s->srun_exited ? (uint32_t)s->srun_status : 0,
                              (uint32_t)s->status,
                              s->stop_line[0] != '\0',
                              s->step_is_foreign,
                              s->users_verdict,
                              s->relaunch};
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        pm_digest_u64(d, plain[i]);
    pm_supervisor_again_digest(s, now_ns, d);
}
