// SPDX-License-Identifier: Apache-2.0
//
// Cores, L3s, packages and kinds of CPU. A machine that shows no cores has one for each PU, one that
// shows no packages has one; L3s may be anywhere in the hierarchy, or missing.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/discover_parts.h"

#define KIND_PERCENT 20  // closer than this are cores of one kind: servers have cores that boost higher

static int read_domains(const struct discovery *d, hwloc_obj_type_t type, struct pm_machine_domain **ret_domains,
                        uint32_t *ret_n)
{
    int n = hwloc_get_nbobjs_by_type(d->topology, type);
    n = n < 0 ? 0 : n;
    *ret_domains = pm_discover_array((size_t)n, sizeof(**ret_domains));
    int rc = *ret_domains ? 0 : -ENOMEM;
    for (int i = 0; i < n && rc == 0; i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_type(d->topology, type, (unsigned)i);
        (*ret_domains)[i].os_index = obj->os_index;
        rc = pm_discover_set(obj->cpuset, &(*ret_domains)[i].pus);
        *ret_n = (uint32_t)i + 1;
    }
    return rc;
}

static int read_packages(struct discovery *d)
{
    struct pm_machine *m = &d->machine;
    int rc = read_domains(d, HWLOC_OBJ_PACKAGE, &m->packages, &m->n_packages);
    if (rc < 0 || m->n_packages > 0)
        return rc;
    m->n_packages = 1;  // there is room: pm_discover_array
    return pm_set_copy(&m->packages[0].pus, &m->pus);
}

static const char *info_of(unsigned n, const struct hwloc_info_s *infos, const char *name)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(infos[i].name, name) == 0)
            return infos[i].value;
    }
    return NULL;
}

static bool numbers_differ(const char *a, const char *b)
{
    long x = a ? atol(a) : 0, y = b ? atol(b) : 0;
    long large = x > y ? x : y, small = x > y ? y : x;
    return small > 0 && (large - small) > large * KIND_PERCENT / 100;
}

// hwloc kinds a and a + 1 are different sorts of core, not the same with a slightly higher boost.
static bool kinds_differ(hwloc_topology_t topology, unsigned a)
{
    unsigned n_low = 0, n_high = 0;
    struct hwloc_info_s *low = NULL, *high = NULL;
    if (hwloc_cpukinds_get_info(topology, a, NULL, NULL, &n_low, &low, 0) < 0 ||
        hwloc_cpukinds_get_info(topology, a + 1, NULL, NULL, &n_high, &high, 0) < 0)
        return false;
    const char *type_low = info_of(n_low, low, "CoreType"), *type_high = info_of(n_high, high, "CoreType");
    if (type_low && type_high)
        return strcmp(type_low, type_high) != 0;
    static const char *const numbers[] = {"LinuxCapacity", "FrequencyMaxMHz", "FrequencyBaseMHz"};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        if (numbers_differ(info_of(n_low, low, numbers[i]), info_of(n_high, high, numbers[i])))
            return true;
    }
    return false;
}

static uint32_t kind_of(hwloc_topology_t topology, hwloc_const_bitmap_t pus)
{
    int at = hwloc_cpukinds_get_by_cpuset(topology, pus, 0);
    uint32_t kind = 0;
    for (int i = 0; i < at; i++)
        kind += kinds_differ(topology, (unsigned)i);
    return kind;
}

static uint32_t place_above(hwloc_topology_t topology, hwloc_obj_type_t type, hwloc_obj_t obj)
{
    hwloc_obj_t above = hwloc_get_ancestor_obj_by_type(topology, type, obj);
    return above ? above->logical_index : PM_PLACE_NONE;
}

static int read_core(struct discovery *d, hwloc_obj_t obj)
{
    struct pm_machine_core *core = &d->machine.cores[d->machine.n_cores++];
    uint32_t package = place_above(d->topology, HWLOC_OBJ_PACKAGE, obj);
    core->l3 = d->machine.n_l3s ? place_above(d->topology, HWLOC_OBJ_L3CACHE, obj) : PM_PLACE_NONE;
    core->package = package == PM_PLACE_NONE ? 0 : package;
    core->kind = kind_of(d->topology, obj->cpuset);
    return pm_discover_set(obj->cpuset, &core->pus);
}

static int read_cores(struct discovery *d)
{
    int n = hwloc_get_nbobjs_by_type(d->topology, HWLOC_OBJ_PU);
    hwloc_obj_t last = NULL;
    d->machine.cores = pm_discover_array((size_t)n, sizeof(*d->machine.cores));
    int rc = d->machine.cores ? 0 : -ENOMEM;
    for (int i = 0; i < n && rc == 0; i++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(d->topology, HWLOC_OBJ_PU, (unsigned)i);
        hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(d->topology, HWLOC_OBJ_CORE, pu);
        if (!core || core != last)
            rc = read_core(d, core ? core : pu);
        last = core;
    }
    return rc;
}

int pm_discover_cpus(struct discovery *d)
{
    struct pm_machine *m = &d->machine;
    int rc = pm_discover_set(hwloc_get_root_obj(d->topology)->cpuset, &m->pus);
    if (rc == 0)
        rc = read_domains(d, HWLOC_OBJ_L3CACHE, &m->l3s, &m->n_l3s);
    if (rc == 0)
        rc = read_packages(d);
    return rc == 0 ? read_cores(d) : rc;
}
