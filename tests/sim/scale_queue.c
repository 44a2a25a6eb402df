// SPDX-License-Identifier: Apache-2.0
//
// See scale_queue.h.
#include "tests/sim/scale_queue.h"

#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define DIGIT_BITS 8
#define DIGITS     (1u << DIGIT_BITS)

static void append(struct scale_entries *e, struct sim_entry entry)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 16;
        e->list = reallocarray(e->list, e->cap, sizeof(*e->list));
        SIM_ASSERT(e->list);
    }
    e->list[e->n++] = entry;
}

static void entries_done(struct scale_entries *e)
{
    free(e->list);
    *e = (struct scale_entries){0};
}

void scale_queue_init(struct scale_queue *q, uint64_t window_ns, struct sim_rng ties)
{
    SIM_ASSERT(window_ns > 0);
    *q = (struct scale_queue){.window_ns = window_ns, .near.ties = ties};
}

void scale_queue_done(struct scale_queue *q)
{
    for (size_t i = 0; i < SCALE_SLOTS; i++)
        entries_done(&q->slots[i]);
    entries_done(&q->now);
    entries_done(&q->spare);
    sim_heap_done(&q->far);
    sim_heap_done(&q->near);
}

void scale_queue_push(struct scale_queue *q, struct sim_entry entry)
{
    uint64_t window = entry.at_ns / q->window_ns;
    q->n++;
    if (q->begun && window <= q->window) {
        SIM_ASSERT(entry.a == q->proc);
        sim_heap_push(&q->near, entry);
        return;
    }
    if (window <= q->window)
        window = q->window + 1;
    if (window - q->window < SCALE_SLOTS)
        append(&q->slots[window % SCALE_SLOTS], entry);
    else
        sim_heap_push(&q->far, entry);
}

// By process; stable, so that the result does not depend on the library. Least digit first.
static void sort(struct scale_queue *q)
{
    size_t n = q->now.n;
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= q->now.list[i].a;
    if (q->spare.cap < q->now.cap) {
        free(q->spare.list);
        q->spare.cap = q->now.cap;
        q->spare.list = calloc(q->spare.cap, sizeof(*q->spare.list));
        SIM_ASSERT(q->spare.list);
    }
    for (uint32_t shift = 0; n > 1 && shift < 32 && all >> shift; shift += DIGIT_BITS) {
        size_t at[DIGITS + 1] = {0};
        for (size_t i = 0; i < n; i++)
            at[(q->now.list[i].a >> shift) % DIGITS + 1]++;
        for (size_t d = 0; d < DIGITS; d++)
            at[d + 1] += at[d];
        for (size_t i = 0; i < n; i++)
            q->spare.list[at[(q->now.list[i].a >> shift) % DIGITS]++] = q->now.list[i];
        struct scale_entries sorted = q->spare;
        q->spare = q->now;
        q->now = sorted;
        q->now.n = n;
    }
}

static uint64_t far_window(const struct scale_queue *q)
{
    return q->far.n ? q->far.list[0].at_ns / q->window_ns : UINT64_MAX;
}

bool scale_queue_begin(struct scale_queue *q, uint64_t until_ns)
{
    if (q->n == 0)
        return false;
    uint64_t window = q->window + 1;
    while (q->slots[window % SCALE_SLOTS].n == 0 && far_window(q) > window)
        window++;
    if (window * q->window_ns > until_ns)
        return false;
    struct scale_entries *slot = &q->slots[window % SCALE_SLOTS];
    struct scale_entries old = q->now;
    q->now = *slot;
    *slot = (struct scale_entries){0};
    entries_done(&old);
    while (far_window(q) <= window)
        append(&q->now, sim_heap_pop(&q->far));
    q->window = window;
    q->begun = true;
    q->next = 0;
    sort(q);
    return true;
}

bool scale_queue_next(struct scale_queue *q, struct sim_entry *ret)
{
    if (q->near.n == 0) {
        if (q->next == q->now.n) {
            q->begun = false;
            return false;
        }
        q->proc = q->now.list[q->next].a;
        while (q->next < q->now.n && q->now.list[q->next].a == q->proc)
            sim_heap_push(&q->near, q->now.list[q->next++]);
    }
    *ret = sim_heap_pop(&q->near);
    q->n--;
    return true;
}
