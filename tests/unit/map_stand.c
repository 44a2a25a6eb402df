// SPDX-License-Identifier: Apache-2.0
//
// See map_stand.h.
#include "tests/unit/map_stand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void stand_start(struct map_stand *s, struct made_shape shape)
{
    *s = (struct map_stand){.m = made_machine(shape)};
    cr_assert_eq(pm_set_copy(&s->allowed, &s->m.pus), 0);
}

void stand_finish(struct map_stand *s)
{
    pm_machine_done(&s->m);
    pm_set_done(&s->allowed);
    pm_binding_done(&s->binding);
    free(s->gpus);
}

void stand_token(struct map_stand *s, uint32_t place)
{
    s->gpus = reallocarray(s->gpus, s->n_gpus + 1, sizeof(*s->gpus));
    cr_assert_not_null(s->gpus);
    s->gpus[s->n_gpus++] = place;
}

uint32_t stand_gpu(struct map_stand *s, const struct pm_set *near)
{
    uint32_t place = made_gpu(&s->m, PM_GPU_NVIDIA, near);
    stand_token(s, place);
    return place;
}

void stand_allow_numas(struct map_stand *s, const char *numas)
{
    pm_set_clear(&s->allowed);
    for (; *numas; numas++)
        cr_assert_eq(pm_set_union(&s->allowed, &s->m.numas[*numas - '0'].pus), 0);
}

void stand_allow(struct map_stand *s, uint32_t first, uint32_t last)
{
    cr_assert_eq(pm_set_add_span(&s->allowed, first, last), 0);
}

static struct pm_bind_request request(const struct map_stand *s, uint32_t n_ranks)
{
    return (struct pm_bind_request){.allowed = &s->allowed,
                                    .gpus = s->gpus,
                                    .n_gpus = s->n_gpus,
                                    .n_ranks = n_ranks,
                                    .given = s->given,
                                    .options = s->options};
}

static uint32_t granted_cores(const struct map_stand *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->m.n_cores; i++)
        n += pm_set_intersects(&s->m.cores[i].pus, &s->allowed);
    return n;
}

static bool own_cores(const struct map_stand *s)
{
    return s->binding.n_ranks <= granted_cores(s) && s->options.mode != PM_BIND_NUMA &&
           !(s->given && s->given[0].pus);
}

static void check_cores(const struct map_stand *s)
{
    struct pm_set taken = {0};
    for (uint32_t r = 0; r < s->binding.n_ranks; r++) {
        const struct pm_bind_rank *rank = &s->binding.ranks[r];
        cr_assert(!pm_set_empty(&rank->pus), "rank %u has PUs", r);
        cr_assert(pm_set_covers(&s->allowed, &rank->pus), "rank %u stays inside", r);
        cr_assert(rank->threads > 0 && rank->n_cores > 0);
        for (uint32_t i = 0; i < rank->n_cores && own_cores(s); i++) {
            cr_assert(!pm_set_has(&taken, rank->cores[i]), "core %u has two ranks", rank->cores[i]);
            cr_assert_eq(pm_set_add(&taken, rank->cores[i]), 0);
        }
    }
    pm_set_done(&taken);
}

static void check_gpus(const struct map_stand *s)
{
    struct pm_set used = {0};
    bool given = s->given && s->given[0].gpus;
    for (uint32_t r = 0; r < s->binding.n_ranks; r++) {
        const struct pm_bind_rank *rank = &s->binding.ranks[r];
        cr_assert(rank->n_gpus > 0 || s->n_gpus == 0 || given, "rank %u has a GPU", r);
        for (uint32_t i = 0; i < rank->n_gpus; i++) {
            cr_assert(rank->gpus[i] < s->n_gpus);
            cr_assert_eq(pm_set_add(&used, rank->gpus[i]), 0);
        }
    }
    if (!given && !s->options.gpus)
        cr_assert_eq(pm_set_count(&used), s->n_gpus, "every GPU is used");
    pm_set_done(&used);
}

const struct pm_binding *stand_map(struct map_stand *s, uint32_t n_ranks)
{
    struct pm_bind_request r = request(s, n_ranks);
    pm_binding_done(&s->binding);
    int rc = pm_bind_ranks(&s->m, &r, &s->binding);
    cr_assert_eq(rc, 0, "%s", s->binding.sentence);
    cr_assert_eq(s->binding.n_ranks, n_ranks);
    check_cores(s);
    check_gpus(s);
    return &s->binding;
}

void stand_refused(struct map_stand *s, uint32_t n_ranks, const char *words)
{
    struct pm_bind_request r = request(s, n_ranks);
    pm_binding_done(&s->binding);
    cr_assert_eq(pm_bind_ranks(&s->m, &r, &s->binding), -EINVAL);
    cr_assert_eq(s->binding.n_ranks, 0);
    cr_assert_not_null(strstr(s->binding.sentence, words), "'%s' says '%s'", s->binding.sentence,
                       words);
}

void stand_pus(const struct map_stand *s, uint32_t rank, const char *pus)
{
    char text[256];
    pm_set_format(&s->binding.ranks[rank].pus, text, sizeof(text));
    cr_assert_str_eq(text, pus, "rank %u: %s instead of %s", rank, text, pus);
}

void stand_gpus(const struct map_stand *s, uint32_t rank, const char *gpus)
{
    struct pm_set set = {0};
    char text[256];
    for (uint32_t i = 0; i < s->binding.ranks[rank].n_gpus; i++)
        cr_assert_eq(pm_set_add(&set, s->binding.ranks[rank].gpus[i]), 0);
    pm_set_format(&set, text, sizeof(text));
    pm_set_done(&set);
    cr_assert_str_eq(text, gpus, "rank %u: GPUs %s instead of %s", rank, text, gpus);
}

bool stand_inside(const struct map_stand *s, uint32_t rank, const struct pm_set *pus)
{
    return pm_set_covers(pus, &s->binding.ranks[rank].pus);
}

bool stand_noted(const struct pm_bind_notes *notes, enum pm_bind_reason reason)
{
    for (uint32_t i = 0; i < notes->n; i++)
        if (notes->notes[i].reason == reason)
            return notes->notes[i].text[0] != '\0';
    return false;
}
