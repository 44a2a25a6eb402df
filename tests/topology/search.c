// SPDX-License-Identifier: Apache-2.0
//
// See search.h. A state gives each unit one owner or none, and each rank its GPUs. A change is one
// of a handful of exchanges, small ones and whole blocks; it is kept if the score grows, or by
// chance.
#include "tests/topology/search.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct state {
    const struct score_case *c;
    uint16_t *pus;
    bool *uses;
    uint32_t *owner; // per unit, n_ranks: idle
    uint32_t *scratch;
    uint64_t random;
    // what to do to take the last change back
    uint32_t *old_owner;
    bool *old_uses;
};

static uint32_t below(struct state *s, uint32_t n)
{
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((s->random >> 33) % n);
}

static void give(struct state *s, uint32_t unit, uint32_t owner)
{
    const struct score_case *c = s->c;
    if (s->owner[unit] < c->n_ranks)
        s->pus[(size_t)s->owner[unit] * c->n_units + unit] = 0;
    s->owner[unit] = owner;
    if (owner < c->n_ranks)
        s->pus[(size_t)owner * c->n_units + unit] = (uint16_t)c->units[unit].n_pus;
}

static bool same_place(const struct score_unit *a, const struct score_unit *b)
{
    return a->l3 == b->l3 && a->numa == b->numa && a->package == b->package;
}

static void swap_units(struct state *s)
{
    uint32_t a = below(s, s->c->n_units), b = below(s, s->c->n_units), owner = s->owner[a];
    give(s, a, s->owner[b]);
    give(s, b, owner);
}

static void move_unit(struct state *s)
{
    uint32_t a = below(s, s->c->n_units);
    uint32_t to = below(s, 2) ? below(s, s->c->n_ranks + 1) : s->owner[below(s, s->c->n_units)];
    give(s, a, to);
}

// Units of one owner in one place against those of another owner in another place.
static void swap_blocks(struct state *s)
{
    const struct score_case *c = s->c;
    uint32_t a = below(s, c->n_units), b = below(s, c->n_units), i = 0, j = 0,
             most = 1 + below(s, c->n_units);
    uint32_t mine = s->owner[a], other = s->owner[b];
    if (mine == other || same_place(&c->units[a], &c->units[b]))
        return;
    while (most-- > 0) {
        while (i < c->n_units && (s->owner[i] != mine || !same_place(&c->units[i], &c->units[a])))
            i++;
        while (j < c->n_units && (s->owner[j] != other || !same_place(&c->units[j], &c->units[b])))
            j++;
        if (i == c->n_units || j == c->n_units)
            return;
        give(s, i, other);
        give(s, j, mine);
    }
}

static void swap_ranks(struct state *s)
{
    uint32_t a = below(s, s->c->n_ranks), b = below(s, s->c->n_ranks);
    for (uint32_t u = 0; u < s->c->n_units; u++) {
        if (s->owner[u] == a)
            give(s, u, b);
        else if (s->owner[u] == b)
            give(s, u, a);
    }
}

static bool *uses(struct state *s, uint32_t rank, uint32_t gpu)
{
    return &s->uses[(size_t)rank * s->c->n_gpus + gpu];
}

static void swap_gpus(struct state *s)
{
    uint32_t a = below(s, s->c->n_ranks), b = below(s, s->c->n_ranks);
    uint32_t g = below(s, s->c->n_gpus), h = below(s, s->c->n_gpus);
    if (a == b || !*uses(s, a, g) || !*uses(s, b, h) || *uses(s, a, h) || *uses(s, b, g))
        return;
    *uses(s, a, g) = *uses(s, b, h) = false;
    *uses(s, a, h) = *uses(s, b, g) = true;
}

static void move_gpu(struct state *s)
{
    uint32_t a = below(s, s->c->n_ranks), b = below(s, s->c->n_ranks), g = below(s, s->c->n_gpus);
    if (s->c->n_ranks >= s->c->n_gpus) { // one each
        memset(uses(s, a, 0), 0, s->c->n_gpus);
        *uses(s, a, g) = true;
        return;
    }
    if (!*uses(s, a, g))
        return;
    *uses(s, a, g) = false;
    *uses(s, b, g) = true;
}

static void change(struct state *s)
{
    static void (*const changes[])(struct state *) = {swap_units,  swap_units,  move_unit,
                                                      swap_blocks, swap_blocks, swap_ranks,
                                                      swap_gpus,   move_gpu};
    changes[below(s, s->c->n_gpus ? 8 : 6)](s);
}

static void start_from(struct state *s, const struct score_rank *ranks)
{
    const struct score_case *c = s->c;
    for (uint32_t u = 0; u < c->n_units; u++)
        s->owner[u] = c->n_ranks;
    for (uint32_t u = 0; u < c->n_units && !ranks; u++)
        give(s, u, (uint32_t)((uint64_t)u * c->n_ranks / c->n_units));
    for (uint32_t r = 0; r < c->n_ranks && ranks; r++) {
        for (uint32_t pu = pm_set_next(&ranks[r].pus, 0); pu != UINT32_MAX;
             pu = pm_set_next(&ranks[r].pus, pu + 1))
            give(s, c->unit_of_pu[pu], r);
        for (uint32_t i = 0; i < ranks[r].n_gpus; i++)
            *uses(s, r, ranks[r].gpus[i]) = true;
    }
    uint32_t most = c->n_ranks > c->n_gpus ? c->n_ranks : c->n_gpus;
    for (uint32_t i = 0; i < most && c->n_gpus && !ranks; i++)
        *uses(s, i % c->n_ranks, i % c->n_gpus) = true;
}

static void take_back(struct state *s)
{
    for (uint32_t u = 0; u < s->c->n_units; u++)
        if (s->owner[u] != s->old_owner[u])
            give(s, u, s->old_owner[u]);
    memcpy(s->uses, s->old_uses, (size_t)s->c->n_ranks * s->c->n_gpus);
}

static void anneal(struct state *s, const struct search_plan *plan, struct score *best)
{
    struct score now, next;
    score_table(s->c, s->pus, s->uses, s->scratch, &now);
    *best = now;
    for (uint32_t i = 0; i < plan->steps; i++) {
        double heat = plan->hot * pow(0.001, (double)i / plan->steps);
        memcpy(s->old_owner, s->owner, s->c->n_units * sizeof(*s->owner));
        memcpy(s->old_uses, s->uses, (size_t)s->c->n_ranks * s->c->n_gpus);
        change(s);
        score_table(s->c, s->pus, s->uses, s->scratch, &next);
        if (next.total < now.total &&
            below(s, 1 << 20) >= exp((next.total - now.total) / heat) * (1 << 20)) {
            take_back(s);
            continue;
        }
        now = next;
        if (now.total > best->total && score_keeps_to_rows(&now))
            *best = now;
    }
}

int search_mapping(const struct score_case *c, const struct score_rank *ranks,
                   const struct search_plan *plan, struct score *ret_score)
{
    const struct pm_machine *m = c->machine;
    size_t n = c->n_ranks, pairs = n * c->n_gpus;
    if (c->n_ranks > c->n_units)
        return -EINVAL;
    struct state s = {.c = c, .random = plan->seed};
    s.pus = calloc(n * c->n_units, sizeof(*s.pus));
    s.uses = calloc(pairs + 1, sizeof(bool));
    s.old_uses = calloc(pairs + 1, sizeof(bool));
    s.owner = calloc(c->n_units, sizeof(uint32_t));
    s.old_owner = calloc(c->n_units, sizeof(uint32_t));
    s.scratch = calloc((size_t)c->n_units + c->n_gpus + m->n_numas + m->n_l3s + m->n_packages,
                       sizeof(uint32_t));
    int rc = s.pus && s.uses && s.old_uses && s.owner && s.old_owner && s.scratch ? 0 : -ENOMEM;
    if (rc == 0) {
        start_from(&s, ranks);
        anneal(&s, plan, ret_score);
    }
    free(s.pus);
    free(s.uses);
    free(s.old_uses);
    free(s.owner);
    free(s.old_owner);
    free(s.scratch);
    return rc;
}
