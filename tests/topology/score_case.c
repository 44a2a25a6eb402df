// SPDX-License-Identifier: Apache-2.0
//
// See score.h: what all mappings of one machine, grant and number of ranks have in common.
#include "tests/topology/score.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void add_units(struct score_case *c, uint32_t core, bool by_pu)
{
    const struct pm_machine_core *from = &c->machine->cores[core];
    uint32_t first = c->n_units;
    for (uint32_t pu = pm_set_next(&from->pus, 0); pu != UINT32_MAX;
         pu = pm_set_next(&from->pus, pu + 1)) {
        if (!pm_set_has(c->allowed, pu))
            continue;
        if (c->n_units == first || by_pu)
            c->units[c->n_units++] =
                (struct score_unit){core, from->l3, from->numa, from->package, from->kind, 0, 1};
        c->units[c->n_units - 1].n_pus++;
        c->unit_of_pu[pu] = c->n_units - 1;
        c->n_pus++;
    }
}

static void make_units(struct score_case *c)
{
    for (uint32_t i = 0; i < c->machine->n_cores; i++)
        c->n_cores += pm_set_intersects(&c->machine->cores[i].pus, c->allowed);
    for (uint32_t pu = 0; pu < c->pus_end; pu++)
        c->unit_of_pu[pu] = PM_PLACE_NONE;
    for (uint32_t i = 0; i < c->machine->n_cores; i++)
        add_units(c, i, c->n_ranks > c->n_cores);
    for (uint32_t u = 0; u < c->n_units; u++)
        c->kinds_differ |= c->units[u].kind != c->units[0].kind;
    for (uint32_t u = 0; u < c->n_units && c->kinds_differ; u++)
        c->units[u].capacity = c->units[u].n_pus;
}

static void place_gpu(struct score_case *c, uint32_t g)
{
    const struct pm_set *near = &c->machine->gpus[c->gpus[g]].near;
    for (uint32_t u = 0; u < c->n_units; u++) {
        const struct score_unit *unit = &c->units[u];
        size_t at = (size_t)g * c->n_units + u;
        bool unknown = pm_set_empty(near);
        c->near[at] = unknown || pm_set_intersects(near, &c->machine->cores[unit->core].pus);
        c->package[at] =
            unknown || pm_set_intersects(near, &c->machine->packages[unit->package].pus);
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void count_numas(struct score_case *c, uint32_t *sizes)
{
    uint32_t n = c->machine->n_numas, units = 0;
    for (uint32_t u = 0; u < c->n_units; u++)
        sizes[c->units[u].numa]++;
    qsort(sizes, n, sizeof(*sizes), compare);
    for (uint32_t i = n; i-- > 0;)
        for (uint32_t j = 0; j < sizes[i]; j++)
            c->fewest_numas[++units] = n - i;
}

// Whether the L3 fits into the room of a rank: the tightest one takes it.
static bool put_where_it_fits(uint32_t *room, uint32_t n, uint32_t size)
{
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++)
        if (room[i] >= size && (best == n || room[i] < room[best]))
            best = i;
    if (best < n)
        room[best] -= size;
    return best < n;
}

// An L3 can be one rank's own only as a whole; the small ones are put into equal shares first.
static void count_unavoidable(struct score_case *c, uint32_t *sizes, uint32_t *room)
{
    for (uint32_t u = 0; u < c->n_units; u++)
        if (c->units[u].l3 != PM_PLACE_NONE)
            sizes[c->units[u].l3]++;
    for (uint32_t r = 0; r < c->n_ranks; r++)
        room[r] = c->n_units / c->n_ranks + (r < c->n_units % c->n_ranks);
    qsort(sizes, c->machine->n_l3s, sizeof(*sizes), compare);
    for (uint32_t i = 0; i < c->machine->n_l3s; i++)
        if (sizes[i]) {
            c->n_l3s++;
            c->l3_unavoidable += !put_where_it_fits(room, c->n_ranks, sizes[i]);
        }
}

static int fill_tables(struct score_case *c)
{
    uint32_t *numas = calloc((size_t)c->machine->n_numas + 1, sizeof(*numas));
    uint32_t *l3s = calloc((size_t)c->machine->n_l3s + 1, sizeof(*l3s));
    uint32_t *room = calloc(c->n_ranks, sizeof(*room));
    bool ok = numas && l3s && room;
    if (ok) {
        count_numas(c, numas);
        count_unavoidable(c, l3s, room);
    }
    free(numas);
    free(l3s);
    free(room);
    return ok ? 0 : -ENOMEM;
}

int score_case_init(struct score_case *c)
{
    const struct pm_set *pus = &c->machine->pus;
    size_t most = (size_t)pm_set_count(pus);
    c->pus_end = pus->spans[pus->n - 1].last + 1;
    c->units = calloc(most, sizeof(*c->units));
    c->unit_of_pu = calloc(c->pus_end, sizeof(*c->unit_of_pu));
    c->near = calloc(most * c->n_gpus + 1, sizeof(*c->near));
    c->package = calloc(most * c->n_gpus + 1, sizeof(*c->package));
    c->fewest_numas = calloc(most + 1, sizeof(*c->fewest_numas));
    int rc = c->units && c->unit_of_pu && c->near && c->package && c->fewest_numas ? 0 : -ENOMEM;
    if (rc == 0) {
        make_units(c);
        for (uint32_t g = 0; g < c->n_gpus; g++)
            place_gpu(c, g);
        rc = fill_tables(c);
    }
    if (rc < 0)
        score_case_done(c);
    return rc;
}

void score_case_done(struct score_case *c)
{
    free(c->units);
    free(c->unit_of_pu);
    free(c->near);
    free(c->package);
    free(c->fewest_numas);
    *c = (struct score_case){0};
}
