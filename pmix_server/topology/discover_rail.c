// SPDX-License-Identifier: Apache-2.0
//
// How far each NIC is from each GPU: by where their paths up the PCI tree meet.
#include <errno.h>

#include "pmix_server/topology/discover_parts.h"

// Bridges between a device and `top`, without both.
static unsigned bridges_below(hwloc_obj_t device, hwloc_obj_t top)
{
    unsigned n = 0;
    for (hwloc_obj_t obj = device->parent; obj != top; obj = obj->parent)
        n++;
    return n;
}

static bool is_above(hwloc_obj_t obj, hwloc_obj_t device)
{
    while (device && device != obj)
        device = device->parent;
    return device == obj;
}

static hwloc_obj_t meeting_point(hwloc_obj_t a, hwloc_obj_t b)
{
    hwloc_obj_t obj = a->parent;
    while (!is_above(obj, b))
        obj = obj->parent;
    return obj;
}

// Inside this object: an enum pm_rail, or -ENOMEM.
static int rail_inside(const struct pm_machine *m, hwloc_obj_t obj)
{
    struct pm_set pus = {0};
    int rail = pm_discover_set(obj->cpuset, &pus);
    if (rail < 0)
        return rail;
    rail = PM_RAIL_SYS;
    for (uint32_t i = 0; i < m->n_packages && pus.n; i++)
        rail = pm_set_covers(&m->packages[i].pus, &pus) ? PM_RAIL_PACKAGE : rail;
    for (uint32_t i = 0; i < m->n_numas && pus.n; i++)
        rail = pm_set_covers(&m->numas[i].pus, &pus) ? PM_RAIL_NODE : rail;
    pm_set_done(&pus);
    return rail;
}

// Devices of one switch have one bridge each (its ports) below the bridge that they share.
static int rail_between(const struct pm_machine *m, hwloc_obj_t gpu, hwloc_obj_t nic)
{
    hwloc_obj_t meet = meeting_point(gpu, nic);
    if (meet->type != HWLOC_OBJ_BRIDGE)
        return rail_inside(m, meet);
    if (meet->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_HOST)
        return PM_RAIL_PHB;
    return bridges_below(gpu, meet) <= 1 && bridges_below(nic, meet) <= 1 ? PM_RAIL_PIX : PM_RAIL_PXB;
}

int pm_discover_rails(struct discovery *d)
{
    struct pm_machine *m = &d->machine;
    m->rails = pm_discover_array((size_t)m->n_gpus * m->n_nics, sizeof(*m->rails));
    if (!m->rails)
        return -ENOMEM;
    for (uint32_t g = 0; g < m->n_gpus; g++) {
        for (uint32_t n = 0; n < m->n_nics; n++) {
            int rail = rail_between(m, d->gpu_objs[g], d->nic_objs[n]);
            if (rail < 0)
                return rail;
            m->rails[(size_t)g * m->n_nics + n] = (uint8_t)rail;
        }
    }
    return 0;
}
