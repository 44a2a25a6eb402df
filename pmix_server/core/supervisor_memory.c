// SPDX-License-Identifier: Apache-2.0
//
// The coordinator's part of the core as memory: made, copied whole, freed.
#include "pmix_server/core/supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pm_supervisor_new(struct pm_core *core)
{
    struct pm_supervisor *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    core->supervisor = s;
    s->state = PM_STATE_FORMING;
    s->deadline_ns = UINT64_MAX; // queueing is not limited: the clock starts with LAUNCHED
    s->wait_ns = UINT64_MAX;
    s->told_spare = UINT32_MAX;
    s->join_window_ms = core->config.options->join_window_ms;
    s->wanted.launch = core->config.launch;
    s->wanted.grace_ms = core->config.options->grace_ms;
    pm_report_init(&s->seen);
    return pm_supervisor_inherit(core);
}

// The sets that it owns itself.
static const size_t sets[] = {
    offsetof(struct pm_supervisor, bad_servers), offsetof(struct pm_supervisor, condemned),
    offsetof(struct pm_supervisor, fencing),     offsetof(struct pm_supervisor, deciding),
    offsetof(struct pm_supervisor, movers),      offsetof(struct pm_supervisor, retired),
    offsetof(struct pm_supervisor, placed),      offsetof(struct pm_supervisor, fence_later),
    offsetof(struct pm_supervisor, blamed),      offsetof(struct pm_supervisor, drained),
    offsetof(struct pm_supervisor, fall.reset),  offsetof(struct pm_supervisor, fall.before),
};
#define N_SETS (sizeof(sets) / sizeof(*sets))

static struct pm_set *set_of(struct pm_supervisor *s, size_t i)
{
    return (struct pm_set *)(void *)((char *)s + sets[i]);
}

struct pm_supervisor *pm_supervisor_free(struct pm_supervisor *s)
{
    if (!s)
        return NULL;
    pm_wanted_done(&s->wanted);
    pm_report_done(&s->seen);
    for (size_t i = 0; i < N_SETS; i++)
        pm_set_done(set_of(s, i));
    free(s->firsts);
    pm_places_done(&s->places);
    pm_places_done(&s->sizes);
    free(s->map_frame);
    free(s->nodelist);
    free(s->loss_ns);
    free(s->restart_ns);
    free(s->pending);
    free(s);
    return NULL;
}

static void *bytes_copy(const void *from, size_t len)
{
    void *into = malloc(len ? len : 1);
    if (into && len)
        memcpy(into, from, len);
    return into;
}

static void clone_unshare(struct pm_supervisor *c)
{
    c->wanted = (struct pm_wanted){0};
    c->seen = (struct pm_report){0};
    for (size_t i = 0; i < N_SETS; i++)
        *set_of(c, i) = (struct pm_set){0};
    c->places = c->sizes = (struct pm_places){0};
    c->loss_ns = NULL;
    c->firsts = NULL;
    c->map_frame = NULL;
    c->nodelist = NULL;
    c->restart_ns = NULL;
    c->pending = NULL;
}

struct pm_supervisor *pm_supervisor_clone(const struct pm_supervisor *s)
{
    struct pm_supervisor *c = malloc(sizeof(*c));
    if (!c)
        return NULL;
    *c = *s;
    clone_unshare(c);
    c->map_frame = s->map_frame ? bytes_copy(s->map_frame, s->map_len) : NULL;
    c->nodelist = s->nodelist ? strdup(s->nodelist) : NULL;
    c->restart_ns = bytes_copy(s->restart_ns, s->n_restart_ns * sizeof(*s->restart_ns));
    c->pending = bytes_copy(s->pending, s->n_pending * sizeof(*s->pending));
    c->loss_ns = bytes_copy(s->loss_ns, s->n_losses * sizeof(*s->loss_ns));
    c->firsts = s->firsts ? bytes_copy(s->firsts, s->nnodes * sizeof(*s->firsts)) : NULL;
    bool ok = (c->map_frame || !s->map_frame) && c->restart_ns && c->pending && (c->nodelist || !s->nodelist) &&
              c->loss_ns && (c->firsts || !s->firsts) &&
              pm_places_copy(&c->places, &s->places) == 0 &&
              pm_places_copy(&c->sizes, &s->sizes) == 0 &&
              pm_wanted_copy(&c->wanted, &s->wanted) == 0 &&
              pm_report_copy(&c->seen, &s->seen) == 0;
    for (size_t i = 0; ok && i < N_SETS; i++)
        ok = pm_set_copy(set_of(c, i), (const struct pm_set *)(const void *)((const char *)s + sets[i])) == 0;
    return ok ? c : pm_supervisor_free(c);
}
