// SPDX-License-Identifier: Apache-2.0
//
// See explore.h: is the hash right? Of the worlds that are visited some are kept, and when another way leads to
// the same hash, both worlds are asked what can happen next: the hashes of what follows have to be the same.
// So a hash that leaves out something that matters is found as soon as it matters within one step; what the
// parts of both hashes are is then printed, and both ways.
#include "tests/sim/explore.h"

#include <string.h>

#define SLOTS 4096u // of kept worlds, by their hash

struct x_audit {
    struct x_world *kept[SLOTS];
    uint64_t hash[SLOTS];
    uint32_t number[SLOTS];
    uint64_t checks;
};

struct x_audit *x_audit_new(void)
{
    return sim_alloc(1, sizeof(struct x_audit));
}

uint64_t x_audit_done(struct x_audit *a)
{
    uint64_t checks = a->checks;
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (a->kept[i])
            x_world_drop(a->kept[i]);
        free(a->kept[i]);
    }
    free(a);
    return checks;
}

void x_audit_keep(struct x_audit *a, const struct x_world *w, uint64_t hash, uint32_t number)
{
    uint32_t i = hash >> 40 & (SLOTS - 1);
    if (a->kept[i] && (number & 7) != 0) // now and then a newer one
        return;
    if (a->kept[i])
        x_world_drop(a->kept[i]);
    free(a->kept[i]);
    a->kept[i] = x_world_keep(w);
    a->hash[i] = hash;
    a->number[i] = number;
}

struct next { // what follows on each choice
    uint32_t n;
    struct x_choice choice[X_CHOICES_MAX];
    uint64_t hash[X_CHOICES_MAX];
};

static void follow(const struct x_world *w, struct next *next)
{
    static struct x_world after;
    next->n = x_world_choices(w, next->choice);
    for (uint32_t i = 0; i < next->n; i++) {
        x_world_copy(&after, w);
        x_world_do(&after, next->choice[i]);
        next->hash[i] = x_violation[0] ? 1 : x_world_hash(&after);
        x_world_drop(&after);
    }
    x_violation[0] = '\0';
}

// A choice of one world that leads to where none of the other does; UINT32_MAX: there is none.
static uint32_t odd_one(const struct next *a, const struct next *b)
{
    for (uint32_t i = 0; i < a->n; i++) {
        uint32_t k = 0;
        while (k < b->n && b->hash[k] != a->hash[i])
            k++;
        if (k == b->n)
            return i;
    }
    return UINT32_MAX;
}

static void tell(const struct x_world *w, struct x_choice choice)
{
    static struct x_world after;
    char name[64];
    printf("  after %s of %u:\n", x_choice_name(w, choice, name, sizeof(name)), choice.a);
    x_world_copy(&after, w);
    x_world_do(&after, choice);
    x_hash_tell(&after);
    x_world_drop(&after);
}

// What follows on the odd choice, and on those of the other world that have its kind.
static void tell_both(const struct x_world *w, struct x_choice odd, const struct x_world *other,
                      const struct next *next)
{
    tell(w, odd);
    for (uint32_t i = 0; i < next->n; i++)
        if (next->choice[i].kind == odd.kind)
            tell(other, next->choice[i]);
}

bool x_audit_same(struct x_audit *a, const struct x_world *w, uint64_t hash, uint32_t *ret_number)
{
    static struct next mine, other;
    uint32_t i = hash >> 40 & (SLOTS - 1);
    char name[64];
    if (!a->kept[i] || a->hash[i] != hash)
        return true;
    a->checks++;
    follow(w, &mine);
    follow(a->kept[i], &other);
    const struct x_world *of = w;
    const struct next *next = &mine;
    uint32_t odd = odd_one(&mine, &other);
    if (odd == UINT32_MAX) {
        of = a->kept[i];
        next = &other;
        odd = odd_one(&other, &mine);
    }
    if (odd == UINT32_MAX)
        return true;
    *ret_number = a->number[i];
    tell_both(of, next->choice[odd], of == w ? a->kept[i] : w, of == w ? &other : &mine);
    x_violate("two worlds of the same hash: only the %s one goes where \"%s\" leads",
              of == w ? "new" : "old", x_choice_name(of, next->choice[odd], name, sizeof(name)));
    return false;
}
