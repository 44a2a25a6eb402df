// SPDX-License-Identifier: Apache-2.0
//
// See heap.h. A 4-ary heap: half as deep as a binary one, and children share a cache line.
#include "tests/sim/heap.h"

#include <stdlib.h>

#define WAYS 4

static int before(const struct sim_entry *a, const struct sim_entry *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->tie < b->tie;
}

void sim_heap_push(struct sim_heap *h, struct sim_entry entry)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 1024;
        h->list = realloc(h->list, h->cap * sizeof(*h->list));
        if (!h->list)
            abort();
    }
    entry.tie = (uint32_t)sim_rng_u64(&h->ties);
    size_t i = h->n++;
    for (; i > 0 && before(&entry, &h->list[(i - 1) / WAYS]); i = (i - 1) / WAYS)
        h->list[i] = h->list[(i - 1) / WAYS];
    h->list[i] = entry;
}

struct sim_entry sim_heap_pop(struct sim_heap *h)
{
    struct sim_entry first = h->list[0], last = h->list[--h->n];
    size_t i = 0;
    for (;;) {
        size_t child = WAYS * i + 1, end = child + WAYS < h->n ? child + WAYS : h->n;
        size_t least = child;
        for (size_t k = child + 1; k < end; k++)
            if (before(&h->list[k], &h->list[least]))
                least = k;
        if (child >= h->n || !before(&h->list[least], &last))
            break;
        h->list[i] = h->list[least];
        i = least;
    }
    h->list[i] = last;
    return first;
}

void sim_heap_done(struct sim_heap *h)
{
    free(h->list);
    *h = (struct sim_heap){0};
}
