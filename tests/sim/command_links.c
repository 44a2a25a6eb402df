// SPDX-License-Identifier: Apache-2.0
//
// pm-sim links: do the models of TCP and of clocks do what is told of them? What is on its way stays in order and
// ends behind an item that is torn; items are torn in their middle; an old connection's tail and a
// new one are under way together; a cut is silent for longer than it lasts, by doubled timeouts, and its sender
// believes that all was sent; clocks differ by what a lease allows for. Prints how often each was seen.
#include <inttypes.h>
#include <string.h>

#include "tests/sim/commands.h"
#include "tests/sim/link.h"

#define SEEDS  60u
#define RTO_MS 200u

struct seen {
    uint64_t pipes, torn, in_the_middle, races;
    bool bad;
};

static const struct sim_item *item_at(const struct sim_pipe *p, uint32_t i)
{
    return &p->ring[(p->head + i) & (p->cap - 1)];
}

static void look_at_pipe(struct seen *seen, const struct sim_pipe *p)
{
    bool is_torn = false; // and its end has not come
    for (uint32_t i = 0; i < p->n; i++) {
        const struct sim_item *item = item_at(p, i);
        seen->bad |= i > 0 && item->at_ns < item_at(p, i - 1)->at_ns;
        bool is_end = item->kind == SIM_ITEM_RST || item->kind == SIM_ITEM_FIN;
        seen->bad |= is_torn && !is_end;
        seen->torn += item->torn;
        seen->in_the_middle += item->torn && item->kind == SIM_ITEM_FRAME && item->len > 0;
        is_torn = item->torn;
    }
    seen->pipes += p->n > 0;
}

static bool has_frames(const struct sim_pipe *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (item_at(p, i)->kind == SIM_ITEM_FRAME)
            return true;
    return false;
}

static bool are_parallel(const struct sim_link *a, const struct sim_link *b)
{
    return a->used && b->used && a->end[0].slot == b->end[0].slot && a->end[1].slot == b->end[1].slot;
}

static void look(struct seen *seen, const struct sim *s)
{
    for (uint32_t i = 0; i < s->n_links; i++) {
        const struct sim_link *a = &s->links[i];
        for (uint32_t to = 0; to < 2 && a->used; to++) {
            look_at_pipe(seen, &a->pipe[to]);
            for (uint32_t k = i + 1; k < s->n_links && has_frames(&a->pipe[to]); k++)
                seen->races += are_parallel(a, &s->links[k]) && has_frames(&s->links[k].pipe[to]);
        }
    }
}

static bool random_worlds(void)
{
    struct seen seen = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_params p;
        sim_params_of_seed(&p, seed, SIM_PROFILE_SWARM);
        struct sim *s = sim_new(&p);
        sim_fault_random(s, 2 * SIM_S);
        sim_launch(s);
        for (uint32_t i = 0; i < 20000 && sim_step(s); i++)
            if (i % 4 == 0)
                look(&seen, s);
        sim_free(s);
    }
    printf("%u worlds: %" PRIu64 " looks at a pipe with something in it, %" PRIu64 " torn items, %" PRIu64
           " of them frames in their middle, %" PRIu64 " races of two connections, %s\n", SEEDS, seen.pipes,
           seen.torn, seen.in_the_middle, seen.races, seen.bad ? "NOT IN ORDER" : "all in order");
    return !seen.bad && seen.pipes && seen.in_the_middle && seen.races;
}

// --- a cut -------------------------------------------------------------------------------------------

// 200 ms, 400 ms ... after it first got nowhere, the first such moment after the cut.
static uint64_t expected_ns(uint64_t stalled_ns, uint64_t healed_ns)
{
    uint64_t at_ns = stalled_ns;
    for (uint64_t rto_ns = RTO_MS * SIM_MS; at_ns <= healed_ns; rto_ns *= 2)
        at_ns += rto_ns;
    return at_ns;
}

// Node 1 cannot reach the coordinator for so long. True: what it sent in the meantime comes when it should.
static bool cut_for(uint64_t ms)
{
    struct sim_params p;
    sim_params_calm(&p);
    p.seed = ms;
    p.fences = 60;                        // somebody always has something to send,
    p.options.node_timeout_ms = 10 * 60000; // and nobody looks for another way
    struct sim *s = sim_new(&p);
    sim_launch(s);
    SIM_ASSERT(sim_run_to_state(s, PM_STATE_RUNNING, 10000));
    struct sim_link *l = sim_link_between(s, 1, s->p.nnodes);
    SIM_ASSERT(l && l->end[0].slot == 1);
    const struct sim_fault cut = {.kind = SIM_FAULT_LINK_CUT, .node = 1, .peer = PM_NODE_COORDINATOR, .ms = ms};
    uint64_t healed_ns = s->now_ns + (ms + 1) * SIM_MS, stalled_ns = 0;
    uint32_t most = 0;
    sim_fault_at(s, s->now_ns + SIM_MS, &cut);
    while (sim_step(s) && (!stalled_ns || l->pipe[1].rto_ns)) {
        stalled_ns = l->pipe[1].rto_ns ? l->pipe[1].stalled_ns : stalled_ns;
        most = l->pipe[1].n > most ? l->pipe[1].n : most;
        SIM_ASSERT(l->end[0].state == SIM_END_UP);
    }
    uint64_t silent_ns = s->now_ns - stalled_ns;
    bool good = s->now_ns == expected_ns(stalled_ns, healed_ns);
    printf("a cut of %" PRIu64 " ms: silent for %" PRIu64 " ms, with %u items that the sender took for sent%s\n", ms,
           (uint64_t)(silent_ns / SIM_MS), most, good ? "" : ": NOT AS BACKED OFF");
    sim_free(s);
    return good;
}

// --- clocks -------------------------------------------------------------------------------------------

static bool clocks(void)
{
    struct sim_rng r = sim_rng_of(1, 0);
    double least = 2, most = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        struct sim_clock c = sim_clock_of(&r, true);
        double rate = (double)c.rate / SIM_RATE_ONE;
        uint64_t at_ns = sim_rng_below(&r, 1000000 * SIM_S);
        least = rate < least ? rate : least;
        most = rate > most ? rate : most;
        if (sim_clock_local_ns(&c, at_ns + 1) < sim_clock_local_ns(&c, at_ns) ||
            sim_clock_local_ns(&c, sim_clock_real_ns(&c, c.base_ns + at_ns)) < c.base_ns + at_ns)
            return false;
    }
    printf("10000 clocks: rates %.4f to %.4f\n", least, most);
    return least > 0.9 && least < 0.92 && most < 1.1 && most > 1.09 && most / least <= 1.2;
}

int sim_command_links(int argc, char **argv)
{
    (void)argv;
    bool good = argc == 1 && random_worlds();
    for (uint64_t ms = 500; ms <= 5000; ms += 900)
        good = cut_for(ms) && good;
    return clocks() && good ? 0 : 1;
}
