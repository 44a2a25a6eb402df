// SPDX-License-Identifier: Apache-2.0
//
// The coordinator doubts itself: is it they who are silent, or is it we who do not hear?
//
// Not judged: nodes of a suspended job, and a mass silence (more than max(floor, 25 %) of the
// nodes, or all of our own children, for 3T/4). Then Slurm is asked for the job's state, and what
// is still silent when the orphan timeout is over is declared. One or two silent nodes are always
// theirs, not ours, unless they are all there is and Slurm says that the job is suspended. A refused dial is
// proof and not silence: it is not counted here.
#include "pmix_server/core/membership.h"

#define ALWAYS_A_LOSS 2

// Every suspicion begins anew: our own clock was late, or the job was suspended.
void pm_judge_restart(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_judge *j = &m->judge;
    j->anew_ns = core->now_ns;
    j->heard = false;
    for (uint32_t i = 0; i < j->n; i++) {
        struct pm_suspect *s = &j->list[i];
        s->since_ns = core->now_ns;
        s->deadline_ns = core->now_ns + m->t_ns;
        s->probe_ns = core->now_ns;
        s->base_id = j->last_probe_id;
        s->dead_ns = 0;
        s->refused = 0;
    }
    j->next_ns = core->now_ns;
}

void pm_judge_job_state(struct pm_core *core, enum pm_job_state state)
{
    struct pm_judge *j = &core->membership->judge;
    bool resumed = j->job_state == PM_JOB_SUSPENDED && state == PM_JOB_RUNNING;
    j->job_state = (uint8_t)state;
    j->waiting = false;
    if (resumed)
        pm_judge_restart(core);
    j->next_ns = core->now_ns;
}

struct silence {
    uint64_t nodes;
    bool all_children;
};

static struct silence measure(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_judge *j = &m->judge;
    struct pm_set silent = {0};
    struct silence ret = {0};
    for (uint32_t i = 0; i < j->n; i++) {
        const struct pm_suspect *s = &j->list[i];
        if (s->dead_ns == 0 && core->now_ns - s->since_ns >= m->t_ns / 4 * 3 &&
            pm_set_union(&silent, &s->pending) < 0)
            pm_out_of_memory(core);
    }
    ret.nodes = pm_set_count(&silent);
    ret.all_children = ret.nodes > 0;
    for (uint32_t i = 0; i < m->n_children; i++)
        if (!pm_set_has(&silent, m->child_ids[i]))
            ret.all_children = false;
    pm_set_done(&silent);
    return ret;
}

static void ask_job_state(struct pm_core *core)
{
    struct pm_judge *j = &core->membership->judge;
    if (j->asked_ns != 0 && core->now_ns - j->asked_ns < core->membership->t_ns)
        return;
    j->asked_ns = core->now_ns;
    j->waiting = true;
    pm_emit(core, PM_ACTION_ASK_JOB_STATE);
}

static void say_isolated(struct pm_core *core, uint64_t silent)
{
    struct pm_judge *j = &core->membership->judge;
    if (j->isolated && j->job_state == PM_JOB_SUSPENDED) {
        pm_say(core, "pm-supervise: the job is suspended; waiting until it is resumed");
    } else if (j->isolated) {
        char time[32];
        pm_duration_format(core->config.options->orphan_timeout_ms, time, sizeof(time));
        pm_say(core,
               "pm-supervise: %llu of %u nodes are silent at once: the network of this host, or a "
               "suspended job; nobody is declared lost for %s",
               (unsigned long long)silent, core->membership->nnodes, time);
    } else if (j->heard && j->n_dead == j->n_dead_before) {
        pm_say(core, "pm-supervise: nodes are heard again; nobody was declared lost");
    }
    j->n_dead_before = j->n_dead;
}

static void set_isolated(struct pm_core *core, bool isolated, uint64_t silent)
{
    struct pm_judge *j = &core->membership->judge;
    if (j->isolated == isolated)
        return;
    j->isolated = isolated;
    say_isolated(core, silent);
    j->isolated_ns = core->now_ns;
    j->heard = false;
    if (!isolated)
        pm_judge_restart(core);
    pm_on_isolated(core, isolated);
}

bool pm_judge_trust(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_judge *j = &m->judge;
    struct silence silence = measure(core);
    uint64_t floor = core->config.isolation_floor ? core->config.isolation_floor : ALWAYS_A_LOSS;
    uint64_t limit = m->nnodes / 4 > floor ? m->nnodes / 4 : floor;
    bool doubt = silence.nodes > limit || silence.all_children;
    if (doubt) {
        ask_job_state(core);
    } else {
        j->job_state = PM_JOB_UNKNOWN;
        j->waiting = false;
        j->asked_ns = 0;
    }
    bool mass = silence.nodes > ALWAYS_A_LOSS || j->job_state == PM_JOB_SUSPENDED;
    set_isolated(core, doubt && (mass || j->isolated), silence.nodes);
    uint64_t now = core->now_ns;
    if (j->job_state == PM_JOB_GONE)
        return true;
    if (j->job_state == PM_JOB_SUSPENDED) {
        j->isolated_ns = now;
        return false;
    }
    if (j->waiting && now - j->asked_ns < m->t_ns)
        return false;
    uint64_t patience = core->config.options->orphan_timeout_ms * PM_MS;
    return !j->isolated || now - j->isolated_ns >= patience;
}
