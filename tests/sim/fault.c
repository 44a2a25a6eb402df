// SPDX-License-Identifier: Apache-2.0
//
// When faults strike: at a time that a scenario names, at times drawn from the seed, or when the
// world has just entered a state.
#include "tests/sim/fault.h"

const char *sim_fault_name(enum sim_fault_kind kind)
{
    return kind > SIM_FAULT_NONE && kind < SIM_FAULT_MAX ? sim_fault_rows[kind].name : "none";
}

// --- when --------------------------------------------------------------------------------------

void sim_fault_at(struct sim *s, uint64_t real_ns, const struct sim_fault *f)
{
    if (s->n_fault == s->cap_fault) {
        s->cap_fault = s->cap_fault ? 2 * s->cap_fault : 32;
        s->fault = realloc(s->fault, s->cap_fault * sizeof(*s->fault));
        SIM_ASSERT(s->fault);
    }
    s->fault[s->n_fault] = *f;
    sim_push(s, real_ns, SIM_EVENT_FAULT, s->n_fault++, 0, 0);
}

void sim_fault_do(struct sim *s, uint32_t index)
{
    const struct sim_fault f = s->fault[index];
    if (s->calm)
        return;
    const struct sim_fault_row *row = &sim_fault_rows[f.kind];
    sim_tracef(s, "FAULT %s node %d local %u peer %d arg %u for %llu ms", row->name, (int)f.node,
               f.local, (int)f.peer, f.arg, (unsigned long long)f.ms);
    s->stats.faults[f.kind]++;
    s->stats.cells[sim_state(s)][f.kind]++;
    row->strike(s, &f);
    if (row->heal && f.ms)
        sim_push(s, s->now_ns + f.ms * SIM_MS, SIM_EVENT_HEAL, index, 0, 0);
}

void sim_fault_heal(struct sim *s, uint32_t index)
{
    const struct sim_fault f = s->fault[index];
    if (s->calm && f.kind != SIM_FAULT_HOST_REBOOTED)
        return;
    sim_tracef(s, "HEALED %s node %d", sim_fault_rows[f.kind].name, (int)f.node);
    sim_fault_rows[f.kind].heal(s, &f);
}

static enum sim_fault_kind draw_kind(struct sim *s)
{
    uint32_t sum = 0;
    for (int k = 0; k < SIM_FAULT_MAX; k++)
        sum += s->p.weight[k];
    uint32_t at = sum ? sim_rng_pick(&s->faults, sum) : 0;
    for (int k = 0; k < SIM_FAULT_MAX; k++) {
        if (at < s->p.weight[k])
            return (enum sim_fault_kind)k;
        at -= s->p.weight[k];
    }
    return SIM_FAULT_NONE;
}

// Short ones are as likely as long ones: what matters is the order of magnitude.
static uint64_t draw_ms(struct sim_rng *r, const struct sim_fault_row *row)
{
    uint64_t ms = row->ms_max;
    while (ms / 2 >= row->ms_min + 1 && sim_rng_one_in(r, 2))
        ms /= 2;
    return ms ? sim_rng_between(r, row->ms_min < ms ? row->ms_min : ms, ms) : 0;
}

static uint32_t draw_node(struct sim *s, bool of_agents)
{
    uint32_t slot = sim_rng_pick(&s->faults, of_agents ? s->p.nnodes : s->n);
    return sim_node_of(s, slot);
}

static struct sim_fault draw(struct sim *s)
{
    struct sim_fault f = {.kind = draw_kind(s)};
    const struct sim_fault_row *row = &sim_fault_rows[f.kind];
    f.node = draw_node(s, row->of_agents);
    f.peer = draw_node(s, false);
    f.local = f.node < s->p.nnodes ? sim_rng_pick(&s->faults, s->nodes[f.node].n_local) : 0;
    f.arg = (uint32_t)sim_rng_between(&s->faults, row->arg_min, row->arg_max);
    f.ms = draw_ms(&s->faults, row);
    return f;
}

// Often in a burst: one fault in the midst of another is what is hard. A part of them waits for a
// state of the world that is over in no time: see sim_fault_on_state().
void sim_fault_random(struct sim *s, uint64_t from_ns)
{
    uint64_t at_ns = from_ns, end_ns = from_ns + s->p.chaos_ms * SIM_MS;
    for (uint32_t i = 0; i < s->p.n_faults; i++) {
        if (i == 0 || sim_rng_one_in(&s->faults, 2))
            at_ns = from_ns + sim_rng_below(&s->faults, s->p.chaos_ms * SIM_MS);
        else
            at_ns += sim_rng_below(&s->faults, 3000) * SIM_MS / (1 + sim_rng_pick(&s->faults, 100));
        struct sim_fault f = draw(s);
        if (f.kind != SIM_FAULT_NONE && at_ns < end_ns)
            sim_fault_at(s, at_ns, &f);
    }
}

// The world has just entered `state`: now and then something goes wrong right then.
void sim_fault_on_state(struct sim *s, enum pm_state state)
{
    static const uint8_t one_in[PM_STATE_MAX] = {
        [PM_STATE_FORMING] = 3,  [PM_STATE_STARTING] = 4, [PM_STATE_RUNNING] = 8,
        [PM_STATE_HALTING] = 4,  [PM_STATE_PLACING] = 3,  [PM_STATE_FINISHING] = 2,
        [PM_STATE_STOPPING] = 2,
    };
    if (s->calm || !one_in[state] || s->p.n_faults == 0)
        return;
    while (sim_rng_one_in(&s->faults, one_in[state])) {
        struct sim_fault f = draw(s);
        uint64_t within_ns = SIM_MS << sim_rng_pick(&s->faults, 12);
        if (f.kind != SIM_FAULT_NONE)
            sim_fault_at(s, s->now_ns + sim_rng_below(&s->faults, within_ns), &f);
    }
}

void sim_faults_done(struct sim *s)
{
    free(s->fault);
}
