// SPDX-License-Identifier: Apache-2.0
//
// NUMA nodes that have CPUs, and where their memory comes from.
//
// Every PU belongs to one node. A node of GPU, HBM or CXL memory has the PUs of the ordinary node beside
// it in hwloc, too, so the ordinary ones are taken first, by their number; a special one only where it is
// all there is (HBM without DRAM). PUs that are in no node (dies without memory) get a node of ours,
// without a number and without memory.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/discover_parts.h"

struct found {
    hwloc_obj_t obj;  // NULL: ours
    struct pm_machine_numa numa;
};

struct found_list {
    struct found *items;
    uint32_t n;
    struct pm_set taken;  // PUs that are in one of them
};

// Not for the pages of a program that did not ask for them.
static bool is_special(hwloc_obj_t node)
{
    return node->subtype && strcmp(node->subtype, "DRAM") != 0;
}

// Never for CPUs, whatever hwloc says about their locality.
static bool is_far(hwloc_obj_t node)
{
    return node->subtype && (strstr(node->subtype, "GPU") || strstr(node->subtype, "CXL"));
}

static int by_number(const void *a, const void *b)
{
    hwloc_obj_t x = *(hwloc_obj_t const *)a, y = *(hwloc_obj_t const *)b;
    if (is_special(x) != is_special(y))
        return is_special(x) - is_special(y);
    return (x->os_index > y->os_index) - (x->os_index < y->os_index);
}

static int take(struct found_list *list, hwloc_obj_t node, const struct pm_set *pus)
{
    struct found *found = &list->items[list->n++];
    found->obj = node;
    found->numa.os_index = node ? node->os_index : PM_PLACE_NONE;
    found->numa.memory_bytes = node && node->attr ? node->attr->numanode.local_memory : 0;
    int rc = pm_set_copy(&found->numa.pus, pus);
    return rc == 0 ? pm_set_union(&list->taken, pus) : rc;
}

static int take_if_free(struct found_list *list, hwloc_obj_t obj, hwloc_obj_t node)
{
    struct pm_set pus = {0};
    int rc = pm_discover_set(obj->cpuset, &pus);
    if (rc == 0 && !pm_set_empty(&pus) && !pm_set_intersects(&list->taken, &pus))
        rc = take(list, node, &pus);
    pm_set_done(&pus);
    return rc;
}

static int take_nodes(struct discovery *d, struct found_list *list, hwloc_obj_t *nodes, uint32_t n)
{
    int rc = 0;
    for (uint32_t i = 0; i < n; i++)
        nodes[i] = hwloc_get_obj_by_type(d->topology, HWLOC_OBJ_NUMANODE, i);
    qsort(nodes, n, sizeof(*nodes), by_number);
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = is_far(nodes[i]) ? 0 : take_if_free(list, nodes[i], nodes[i]);
    return rc;
}

static bool touches(const struct found_list *list, hwloc_obj_t obj)
{
    bool is = false;
    for (int pu = hwloc_bitmap_first(obj->cpuset); pu >= 0 && !is; pu = hwloc_bitmap_next(obj->cpuset, pu))
        is = pm_set_has(&list->taken, (uint32_t)pu);
    return is;
}

// The largest object inside one package that holds a PU without node and none that has one.
static int take_rest(struct discovery *d, struct found_list *list)
{
    int n = hwloc_get_nbobjs_by_type(d->topology, HWLOC_OBJ_PU), rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_type(d->topology, HWLOC_OBJ_PU, (unsigned)i);
        if (pm_set_has(&list->taken, obj->os_index))
            continue;
        while (obj->type != HWLOC_OBJ_PACKAGE && obj->parent && !touches(list, obj->parent))
            obj = obj->parent;
        rc = take_if_free(list, obj, NULL);
    }
    return rc;
}

// hwloc's logical order: that of the cores.
static void put_in_order(const struct pm_machine *m, struct found_list *list)
{
    uint32_t at = 0;
    for (uint32_t c = 0; c < m->n_cores && at < list->n; c++) {
        uint32_t first = pm_set_next(&m->cores[c].pus, 0), i = at;
        while (i < list->n && !pm_set_has(&list->items[i].numa.pus, first))
            i++;
        if (i == list->n)  // in a node that stands already
            continue;
        struct found moved = list->items[i];
        memmove(&list->items[at + 1], &list->items[at], (i - at) * sizeof(moved));
        list->items[at++] = moved;
    }
}

static uint32_t place_of(const struct found_list *list, hwloc_obj_t obj)
{
    for (uint32_t i = 0; i < list->n; i++) {
        if (list->items[i].obj == obj)
            return i;
    }
    return PM_PLACE_NONE;
}

// Relative latencies between our nodes. Nothing is set if one of them is not in the matrix.
static int read_hops(struct discovery *d, const struct found_list *list)
{
    struct hwloc_distances_s *matrix = NULL;
    unsigned found = 1;
    uint32_t n = list->n, seen = 0;
    if (hwloc_distances_get_by_type(d->topology, HWLOC_OBJ_NUMANODE, &found, &matrix,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) < 0 || !found)
        return 0;
    uint16_t *hops = pm_discover_array((size_t)n * n, sizeof(*hops));
    for (unsigned i = 0; hops && i < matrix->nbobjs; i++) {
        uint32_t from = matrix->objs[i] ? place_of(list, matrix->objs[i]) : PM_PLACE_NONE;
        seen += from != PM_PLACE_NONE;
        for (unsigned j = 0; from != PM_PLACE_NONE && j < matrix->nbobjs; j++) {
            uint32_t to = matrix->objs[j] ? place_of(list, matrix->objs[j]) : PM_PLACE_NONE;
            uint64_t value = matrix->values[i * matrix->nbobjs + j];
            if (to != PM_PLACE_NONE)
                hops[from * n + to] = value > UINT16_MAX ? UINT16_MAX : (uint16_t)value;
        }
    }
    hwloc_distances_release(d->topology, matrix);
    if (hops && seen == n)
        d->machine.numa_hops = hops;
    else
        free(hops);
    return hops ? 0 : -ENOMEM;
}

// How far node `to` is from node `from`, for the choice of memory: by the matrix, else by package.
static uint32_t distance(const struct pm_machine *m, uint32_t from, uint32_t to)
{
    if (m->numa_hops)
        return m->numa_hops[from * m->n_numas + to];
    return m->numas[from].package != m->numas[to].package;
}

static void find_memory(struct pm_machine *m)
{
    for (uint32_t i = 0; i < m->n_numas; i++) {
        uint32_t best = i;
        for (uint32_t j = 0; j < m->n_numas && m->numas[i].memory_bytes == 0; j++) {
            bool better = m->numas[best].memory_bytes == 0 || distance(m, i, j) < distance(m, i, best);
            if (m->numas[j].memory_bytes > 0 && better)
                best = j;
        }
        m->numas[i].memory_from = m->numas[best].os_index;
    }
}

static uint32_t package_of(const struct pm_machine *m, const struct pm_set *pus)
{
    for (uint32_t i = 0; i < m->n_packages; i++) {
        if (pm_set_intersects(&m->packages[i].pus, pus))
            return i;
    }
    return 0;
}

static int hand_over(struct pm_machine *m, struct found_list *list)
{
    m->numas = pm_discover_array(list->n, sizeof(*m->numas));
    if (!m->numas)
        return -ENOMEM;
    for (; m->n_numas < list->n; m->n_numas++) {
        m->numas[m->n_numas] = list->items[m->n_numas].numa;
        list->items[m->n_numas].numa.pus = (struct pm_set){0};
        m->numas[m->n_numas].package = package_of(m, &m->numas[m->n_numas].pus);
    }
    for (uint32_t c = 0; c < m->n_cores; c++) {
        uint32_t pu = pm_set_next(&m->cores[c].pus, 0);
        while (m->cores[c].numa < m->n_numas && !pm_set_has(&m->numas[m->cores[c].numa].pus, pu))
            m->cores[c].numa++;
        if (m->cores[c].numa == m->n_numas)
            return -EINVAL;
    }
    return 0;
}

int pm_discover_numas(struct discovery *d)
{
    int n = hwloc_get_nbobjs_by_type(d->topology, HWLOC_OBJ_NUMANODE);
    n = n < 0 ? 0 : n;
    // At most one node of ours for each PU.
    struct found_list list = {.items = pm_discover_array((size_t)n + d->machine.n_cores, sizeof(*list.items))};
    hwloc_obj_t *nodes = pm_discover_array((size_t)n, sizeof(hwloc_obj_t));
    int rc = list.items && nodes ? take_nodes(d, &list, nodes, (uint32_t)n) : -ENOMEM;
    if (rc == 0)
        rc = take_rest(d, &list);
    if (rc == 0) {
        put_in_order(&d->machine, &list);
        rc = read_hops(d, &list);
    }
    if (rc == 0)
        rc = hand_over(&d->machine, &list);
    if (rc == 0)
        find_memory(&d->machine);
    for (uint32_t i = 0; i < list.n; i++)
        pm_set_done(&list.items[i].numa.pus);
    free(list.items);
    free(nodes);
    pm_set_done(&list.taken);
    return rc;
}
