// SPDX-License-Identifier: Apache-2.0
//
// See places.h.
#include "pmix_server/core/places.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/record.h"

void pm_places_done(struct pm_places *places)
{
    for (uint32_t i = 0; i < places->n; i++) {
        free(places->list[i].path);
        pm_set_done(&places->list[i].nodes);
    }
    free(places->list);
    *places = (struct pm_places){0};
}

// Index of the first path that is not below `path`.
static uint32_t lower_bound(const struct pm_places *places, const char *path)
{
    uint32_t low = 0, high = places->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (strcmp(places->list[mid].path, path) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int grow(struct pm_places *places)
{
    struct pm_switch *list = reallocarray(places->list, places->n + 1u, sizeof(*list));
    if (!list)
        return -ENOMEM;
    places->list = list;
    return 0;
}

// A new line for `path` at index `at`, without nodes yet. NULL without memory.
static struct pm_switch *insert(struct pm_places *places, uint32_t at, const char *path)
{
    char *copy = strdup(path);
    if (!copy || grow(places) < 0) {
        free(copy);
        return NULL;
    }
    struct pm_switch *list = places->list;
    memmove(&list[at + 1], &list[at], (places->n - at) * sizeof(*list));
    list[at] = (struct pm_switch){.path = copy};
    places->n++;
    return &list[at];
}

int pm_places_add(struct pm_places *places, const char *path, const struct pm_set *nodes, bool *changed)
{
    if (!path || !path[0] || strlen(path) >= PM_PLACE_CAP || pm_set_empty(nodes))
        return 0;
    uint32_t at = lower_bound(places, path);
    bool there = at < places->n && strcmp(places->list[at].path, path) == 0;
    struct pm_switch *place = there ? &places->list[at] : insert(places, at, path);
    return place ? pm_set_merge(&place->nodes, nodes, changed) : -ENOMEM;
}

int pm_places_union(struct pm_places *into, const struct pm_places *from, bool *changed)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < from->n; i++)
        rc = pm_places_add(into, from->list[i].path, &from->list[i].nodes, changed);
    return rc;
}

int pm_places_copy(struct pm_places *into, const struct pm_places *from)
{
    bool changed = false;
    int rc = pm_places_union(into, from, &changed);
    if (rc < 0)
        pm_places_done(into);
    return rc;
}

void pm_write_places(struct pm_writer *w, const struct pm_places *places)
{
    pm_write_var(w, places->n);
    for (uint32_t i = 0; i < places->n; i++) {
        pm_write_str(w, places->list[i].path);
        pm_write_set(w, &places->list[i].nodes);
    }
}

void pm_read_places(struct pm_reader *r, struct pm_places *ret, uint32_t nnodes)
{
    uint32_t n = pm_read_count(r, nnodes, 3);
    for (uint32_t i = 0; i < n && !r->error; i++) {
        char path[PM_PLACE_CAP];
        struct pm_set nodes = {0};
        bool changed = false;
        pm_read_str(r, path, sizeof(path));
        pm_read_set_below(r, &nodes, nnodes);
        if (!r->error && (!path[0] || pm_set_empty(&nodes) ||
                          (i && strcmp(ret->list[i - 1].path, path) >= 0)))
            r->error = -EBADMSG;
        if (!r->error && pm_places_add(ret, path, &nodes, &changed) < 0)
            pm_reader_no_memory(r);
        pm_set_done(&nodes);
    }
}

const char *pm_places_of(const struct pm_places *places, uint32_t node)
{
    for (uint32_t i = 0; i < places->n; i++)
        if (pm_set_has(&places->list[i].nodes, node))
            return places->list[i].path;
    return "";
}

// Cuts `path` down to the switches that it has in common with `other`.
static void keep_common(char *path, const char *other)
{
    size_t i = 0, whole = 0;
    for (; path[i] && path[i] == other[i]; i++)
        if (path[i] == '.')
            whole = i;
    if ((path[i] == '\0' || path[i] == '.') && (other[i] == '\0' || other[i] == '.'))
        whole = i;
    path[whole] = '\0';
}

// By line, not by node: a few lost nodes of thousands of switches are asked for at once.
char *pm_places_shared(const struct pm_places *places, const struct pm_set *nodes, char *buf)
{
    uint64_t known = 0;
    buf[0] = '\0';
    for (uint32_t i = 0; i < places->n; i++) {
        uint64_t here = pm_set_common(&places->list[i].nodes, nodes);
        if (here && known)
            keep_common(buf, places->list[i].path);
        else if (here)
            (void)snprintf(buf, PM_PLACE_CAP, "%s", places->list[i].path);
        known += here;
    }
    if (known < pm_set_count(nodes))
        buf[0] = '\0';
    return buf;
}

bool pm_switch_is_below(const struct pm_switch *s, const char *path)
{
    size_t len = strlen(path);
    return len > 0 && strncmp(s->path, path, len) == 0 && (s->path[len] == '\0' || s->path[len] == '.');
}

uint64_t pm_places_count(const struct pm_places *places, const char *path)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < places->n; i++)
        count += pm_switch_is_below(&places->list[i], path) ? pm_set_count(&places->list[i].nodes) : 0;
    return count;
}

void pm_places_digest(const struct pm_places *places, struct pm_digest *d)
{
    for (uint32_t i = 0; i < places->n; i++) {
        pm_digest_bytes(d, places->list[i].path, strlen(places->list[i].path));
        pm_digest_set(d, &places->list[i].nodes);
    }
}
