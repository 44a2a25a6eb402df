// SPDX-License-Identifier: Apache-2.0
//
// See placement.h. Worlds are interned: blocks of equal bytes are one object with a count of its
// holders, since every agent of a step holds the same world and a simulator holds every agent. This
// is the one thing in the core outside struct pm_core; it shows in nothing but the memory used, and
// it has no lock, because the core has one thread.
#include "pmix_server/core/placement.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pm_world_block {
    struct pm_world_block *next;
    uint64_t refs;
    uint64_t hash;
    struct pm_world shape; // nnodes, nranks, map_version, hosts (owned)
    size_t len;
    uint8_t *bytes; // the map as it came, the key
    struct pm_set *ranks_of_node;
    struct pm_span *spans; // of all sets
    uint32_t *node_of_rank;
};

static struct pm_world_block *blocks;

void pm_map_done(struct pm_map *map)
{
    free(map->runs);
    *map = (struct pm_map){0};
}

void pm_map_clear(struct pm_map *map)
{
    map->n = 0;
}

static int map_reserve(struct pm_map *map, uint32_t n)
{
    if (n <= map->cap)
        return 0;
    uint32_t cap = map->cap ? map->cap : 8;
    while (cap < n)
        cap *= 2;
    struct pm_run *runs = realloc(map->runs, cap * sizeof(*runs));
    if (!runs)
        return -ENOMEM;
    map->runs = runs;
    map->cap = cap;
    return 0;
}

static int run_compare(const struct pm_run *a, const struct pm_run *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    return a->n == b->n ? 0 : a->n < b->n ? -1 : 1;
}

static bool run_extends(const struct pm_run *a, uint32_t rank, uint32_t node)
{
    return a->node == node && a->rank + a->n == rank;
}

int pm_map_add(struct pm_map *map, uint32_t rank, uint32_t n, uint32_t node)
{
    if (map->n && run_extends(&map->runs[map->n - 1], rank, node)) {
        map->runs[map->n - 1].n += n;
        return 0;
    }
    int rc = map_reserve(map, map->n + 1);
    if (rc < 0)
        return rc;
    const struct pm_run run = {.rank = rank, .n = n, .node = node};
    uint32_t at = map->n;
    while (at > 0 && run_compare(&map->runs[at - 1], &run) > 0)
        at--;
    memmove(&map->runs[at + 1], &map->runs[at], (map->n - at) * sizeof(run));
    map->runs[at] = run;
    map->n++;
    return 0;
}

// Is every run of `from` in `into`? Both are sorted, so one pass tells.
static bool map_covers(const struct pm_map *into, const struct pm_map *from)
{
    uint32_t i = 0;
    for (uint32_t j = 0; j < from->n; j++) {
        while (i < into->n && run_compare(&into->runs[i], &from->runs[j]) < 0)
            i++;
        if (i == into->n || run_compare(&into->runs[i], &from->runs[j]) != 0)
            return false;
    }
    return true;
}

int pm_map_union(struct pm_map *into, const struct pm_map *from, bool *ret_changed)
{
    bool changed = !map_covers(into, from);
    if (ret_changed)
        *ret_changed = changed;
    if (!changed)
        return 0;
    struct pm_map all = {0};
    if (map_reserve(&all, into->n + from->n) < 0)
        return -ENOMEM;
    uint32_t i = 0, j = 0;
    while (i < into->n || j < from->n) {
        int order = i == into->n   ? 1
                    : j == from->n ? -1
                                   : run_compare(&into->runs[i], &from->runs[j]);
        all.runs[all.n++] = order <= 0 ? into->runs[i] : from->runs[j];
        i += order <= 0;
        j += order >= 0;
    }
    pm_map_done(into);
    *into = all;
    return 0;
}

// How many runs from `at` on follow each other with equal length on consecutive nodes.
static uint32_t run_repeats(const struct pm_map *map, uint32_t at)
{
    uint32_t k = 1;
    const struct pm_run *first = &map->runs[at];
    while (at + k < map->n && map->runs[at + k].n == first->n &&
           map->runs[at + k].rank == first->rank + k * first->n &&
           map->runs[at + k].node == first->node + k)
        k++;
    return k;
}

// Item: rank (as distance from the run before), length, node, repeats; all LEB128.
void pm_write_map(struct pm_writer *w, const struct pm_map *map)
{
    uint32_t items = 0;
    for (uint32_t i = 0; i < map->n; i += run_repeats(map, i))
        items++;
    pm_write_var(w, items);
    uint32_t before = 0;
    for (uint32_t i = 0; i < map->n;) {
        uint32_t k = run_repeats(map, i);
        pm_write_var(w, map->runs[i].rank - before);
        pm_write_var(w, map->runs[i].n);
        pm_write_var(w, map->runs[i].node);
        pm_write_var(w, k);
        before = map->runs[i + k - 1].rank;
        i += k;
    }
}

// One item; false if it is none.
static bool read_item(struct pm_reader *r, struct pm_map *map, uint32_t max_ranks, uint64_t *ranks)
{
    uint64_t before = map->n ? map->runs[map->n - 1].rank : 0;
    uint64_t rank = before + pm_read_var(r);
    uint64_t n = pm_read_var(r);
    uint64_t node = pm_read_var(r);
    uint64_t k = pm_read_var(r);
    if (r->error || n == 0 || n > max_ranks || k == 0 || k > max_ranks || rank >= max_ranks ||
        n * k > max_ranks || rank + n * k > max_ranks || node + k > PM_NODES_MAX)
        return false;
    *ranks += n * k;
    if (*ranks > max_ranks)
        return false;
    if (map_reserve(map, map->n + (uint32_t)k) < 0) {
        pm_reader_no_memory(r);
        return false;
    }
    for (uint64_t i = 0; i < k; i++) {
        const struct pm_run run = {
            .rank = (uint32_t)(rank + i * n), .n = (uint32_t)n, .node = (uint32_t)(node + i)};
        if (map->n && run_compare(&map->runs[map->n - 1], &run) >= 0)
            return false;
        map->runs[map->n++] = run;
    }
    return true;
}

void pm_read_map(struct pm_reader *r, struct pm_map *map, uint32_t max_ranks)
{
    pm_map_clear(map);
    uint64_t ranks = 0;
    uint32_t items = pm_read_count(r, max_ranks, 4);
    for (uint32_t i = 0; i < items; i++) {
        if (read_item(r, map, max_ranks, &ranks))
            continue;
        r->error = -EBADMSG;
        pm_map_clear(map);
        return;
    }
}

struct pm_map_fault pm_map_check(const struct pm_map *map, uint32_t nnodes, uint32_t nranks)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < map->n; i++) {
        const struct pm_run *run = &map->runs[i];
        if (run->node >= nnodes || run->n > nranks || run->rank > nranks - run->n)
            return (struct pm_map_fault){PM_MAP_RANGE, run->rank, run->node, run->node};
        if (run->rank > next)
            return (struct pm_map_fault){PM_MAP_HOLE, next, run->node, run->node};
        if (run->rank < next)
            return (struct pm_map_fault){PM_MAP_OVERLAP, run->rank, map->runs[i - 1].node,
                                         run->node};
        next += run->n;
    }
    if (next < nranks)
        return (struct pm_map_fault){PM_MAP_HOLE, next, 0, 0};
    return (struct pm_map_fault){PM_MAP_GOOD, 0, 0, 0};
}

static struct pm_world_block *block_free(struct pm_world_block *b)
{
    if (b) {
        free(b->bytes);
        free(b->ranks_of_node);
        free(b->spans);
        free(b->node_of_rank);
        pm_set_done(&b->shape.hosts);
        free(b);
    }
    return NULL;
}

static uint64_t hash_bytes(const uint8_t *data, size_t len)
{
    uint64_t h = 14695981039346656037ull;
    for (size_t i = 0; i < len; i++)
        h = (h ^ data[i]) * 1099511628211ull;
    return h;
}

// The sets get their spans from one array: a node's runs lie together in it, in order of rank.
static int block_fill(struct pm_world_block *b, const struct pm_map *map)
{
    for (uint32_t i = 0; i < map->n; i++)
        b->ranks_of_node[map->runs[i].node].cap++;
    struct pm_span *at = b->spans;
    for (uint32_t node = 0; node < b->shape.nnodes; node++) {
        b->ranks_of_node[node].spans = at;
        at += b->ranks_of_node[node].cap;
    }
    for (uint32_t i = 0; i < map->n; i++) {
        const struct pm_run *run = &map->runs[i];
        struct pm_set *set = &b->ranks_of_node[run->node];
        if (set->n && set->spans[set->n - 1].last + 1 == run->rank)
            set->spans[set->n - 1].last = run->rank + run->n - 1;
        else
            set->spans[set->n++] = (struct pm_span){run->rank, run->rank + run->n - 1};
        for (uint32_t rank = run->rank; rank < run->rank + run->n; rank++)
            b->node_of_rank[rank] = run->node;
    }
    int rc = 0;
    for (uint32_t node = 0; rc == 0 && node < b->shape.nnodes; node++)
        if (b->ranks_of_node[node].n)
            rc = pm_set_add(&b->shape.hosts, node);
    return rc;
}

static struct pm_world_block *block_new(const struct pm_world *shape, const struct pm_map *map,
                                        const uint8_t *data, size_t len)
{
    struct pm_world_block *b = calloc(1, sizeof(*b));
    if (!b)
        return NULL;
    b->shape = (struct pm_world){
        .nnodes = shape->nnodes, .nranks = shape->nranks, .map_version = shape->map_version};
    b->hash = hash_bytes(data, len);
    b->len = len;
    b->bytes = malloc(len + 1);
    b->ranks_of_node = calloc(shape->nnodes + 1u, sizeof(*b->ranks_of_node));
    b->spans = calloc(map->n + 1u, sizeof(*b->spans));
    b->node_of_rank = calloc(shape->nranks + 1u, sizeof(*b->node_of_rank));
    if (!b->bytes || !b->ranks_of_node || !b->spans || !b->node_of_rank)
        return block_free(b);
    memcpy(b->bytes, data, len);
    if (block_fill(b, map) < 0)
        return block_free(b);
    b->next = blocks;
    blocks = b;
    return b;
}

static struct pm_world_block *block_find(const struct pm_world *shape, const uint8_t *data,
                                         size_t len)
{
    uint64_t hash = hash_bytes(data, len);
    for (struct pm_world_block *b = blocks; b; b = b->next)
        if (b->hash == hash && b->len == len && b->shape.nnodes == shape->nnodes &&
            b->shape.nranks == shape->nranks && b->shape.map_version == shape->map_version &&
            memcmp(b->bytes, data, len) == 0)
            return b;
    return NULL;
}

static void block_hold(struct pm_world_block *b, struct pm_world *world)
{
    b->refs++;
    *world = b->shape;
    world->ranks_of_node = b->ranks_of_node;
    world->node_of_rank = b->node_of_rank;
    world->block = b;
}

int pm_world_from_bytes(const struct pm_world *shape, const uint8_t *data, size_t len,
                        struct pm_world *ret_world, struct pm_map_fault *ret_fault)
{
    struct pm_world_block *b = block_find(shape, data, len);
    if (b) {
        block_hold(b, ret_world);
        return 0;
    }
    struct pm_map map = {0};
    struct pm_reader r = pm_reader_of(data, len);
    pm_read_map(&r, &map, PM_RANKS_MAX);
    int rc = pm_reader_end(&r);
    if (rc == 0) {
        *ret_fault = pm_map_check(&map, shape->nnodes, shape->nranks);
        rc = (int)ret_fault->kind;
    }
    if (rc == 0) {
        b = block_new(shape, &map, data, len);
        rc = b ? 0 : -ENOMEM;
    }
    if (rc == 0)
        block_hold(b, ret_world);
    pm_map_done(&map);
    return rc;
}

void pm_world_acquire(struct pm_world *into, const struct pm_world *from)
{
    *into = (struct pm_world){0};
    if (from->block)
        block_hold(from->block, into);
}

void pm_world_release(struct pm_world *world)
{
    struct pm_world_block *b = world->block;
    *world = (struct pm_world){0};
    if (!b || --b->refs)
        return;
    struct pm_world_block **at = &blocks;
    while (*at != b) {
        assert(*at);
        at = &(*at)->next;
    }
    *at = b->next;
    block_free(b);
}

uint64_t pm_world_hash(const struct pm_world *world)
{
    return world->block ? world->block->hash ^ world->map_version : 0;
}
