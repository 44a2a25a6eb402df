// SPDX-License-Identifier: Apache-2.0
//
// NICs: PCI functions of a network class that a program can name. Which of them carries the traffic of a
// job cannot be known for sure; class, link and card tell which do not.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/discover_parts.h"

#define NETWORK_BASE_CLASS 0x02
#define CLASS_OTHER 0x0280  // wireless and the like

// Fabrics by class or by card: Slingshot and EFA call themselves Ethernet.
static const struct sort {
    uint16_t vendor_id, device_id, device_mask, class_id;  // 0: any
} fabrics[] = {
    {0, 0, 0, 0x0207},                // InfiniBand
    {0, 0, 0, 0x0208},                // Omni-Path
    {0x17db, 0, 0, 0},                // Slingshot (Cassini)
    {0x1d0f, 0xefa0, 0xfff0, 0},      // EFA
};

struct found {
    hwloc_obj_t pci;
    struct pm_machine_nic nic;
};

static hwloc_obj_t os_device(hwloc_obj_t pci, hwloc_obj_osdev_type_t type)
{
    for (hwloc_obj_t obj = pci->io_first_child; obj; obj = obj->next_sibling) {
        if (obj->type == HWLOC_OBJ_OS_DEVICE && obj->attr->osdev.type == type && obj->name)
            return obj;
    }
    return NULL;
}

static bool is_fabric(const struct hwloc_pcidev_attr_s *a)
{
    for (size_t i = 0; i < sizeof(fabrics) / sizeof(*fabrics); i++) {
        const struct sort *f = &fabrics[i];
        if ((!f->vendor_id || f->vendor_id == a->vendor_id) && (!f->class_id || f->class_id == a->class_id) &&
            (a->device_id & f->device_mask) == f->device_id)
            return true;
    }
    return false;
}

// The programs' name: that of the verbs or libfabric device if there is one, else of the interface. NULL:
// nobody can use this device, or only as a network card that has nothing to do with MPI.
static hwloc_obj_t named_by(hwloc_obj_t pci)
{
    const struct hwloc_pcidev_attr_s *a = &pci->attr->pcidev;
    hwloc_obj_t verbs = os_device(pci, HWLOC_OBJ_OSDEV_OPENFABRICS);
    if (a->class_id >> 8 != NETWORK_BASE_CLASS || (a->class_id == CLASS_OTHER && !verbs))
        return NULL;
    return verbs ? verbs : os_device(pci, HWLOC_OBJ_OSDEV_NETWORK);
}

// Every port that tells its state is not active (4).
static bool ports_down(hwloc_obj_t verbs)
{
    bool told = false;
    for (unsigned i = 0; i < verbs->infos_count; i++) {
        const char *name = verbs->infos[i].name;
        size_t len = strlen(name);
        if (strncmp(name, "Port", 4) != 0 || len < 10 || strcmp(name + len - 5, "State") != 0)
            continue;
        if (strcmp(verbs->infos[i].value, "4") == 0)
            return false;
        told = true;
    }
    return told;
}

static int read_nic(const struct discovery *d, struct found *found, hwloc_obj_t os)
{
    struct pm_machine_nic *nic = &found->nic;
    bool has_verbs = os->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS;
    nic->pci = pm_discover_pci(found->pci);
    nic->class = is_fabric(&found->pci->attr->pcidev) ? PM_NIC_FABRIC
                 : has_verbs                         ? PM_NIC_RDMA_ETHERNET
                                                     : PM_NIC_ETHERNET;
    pm_discover_text(nic->name, sizeof(nic->name), "", os->name);
    nic->down = has_verbs ? ports_down(os) : d->drivers && pm_drivers_link_down(d->drivers, os->name);
    nic->second_port = d->drivers && pm_drivers_is_virtual(d->drivers, &nic->pci);
    return pm_discover_near(d, found->pci, &nic->near);
}

static int by_address(const void *a, const void *b)
{
    return pm_discover_pci_compare(&((const struct found *)a)->nic.pci, &((const struct found *)b)->nic.pci);
}

static void mark_second_ports(struct pm_machine *m)
{
    for (uint32_t i = 1; i < m->n_nics; i++) {
        const struct pm_pci *at = &m->nics[i].pci;
        for (uint32_t j = 0; j < i; j++) {
            const struct pm_pci *first = &m->nics[j].pci;
            if (first->domain == at->domain && first->bus == at->bus && first->device == at->device &&
                m->nics[j].class == m->nics[i].class)
                m->nics[i].second_port = true;
        }
    }
}

// If all links of a class are down, the machine was not cabled yet or its file is of an idle one: then
// this says nothing about one of them.
static void forget_if_all_down(struct pm_machine *m, enum pm_nic_class class)
{
    for (uint32_t i = 0; i < m->n_nics; i++) {
        if (m->nics[i].class == class && !m->nics[i].down)
            return;
    }
    for (uint32_t i = 0; i < m->n_nics; i++) {
        if (m->nics[i].class == class)
            m->nics[i].down = false;
    }
}

static int collect(struct discovery *d, struct found *found, uint32_t *ret_n)
{
    int rc = 0;
    for (hwloc_obj_t pci = NULL; rc == 0 && (pci = hwloc_get_next_pcidev(d->topology, pci));) {
        hwloc_obj_t os = named_by(pci);
        if (!os)
            continue;
        found[*ret_n].pci = pci;
        rc = read_nic(d, &found[(*ret_n)++], os);
    }
    return rc;
}

int pm_discover_nics(struct discovery *d)
{
    struct pm_machine *m = &d->machine;
    int devices = hwloc_get_nbobjs_by_type(d->topology, HWLOC_OBJ_PCI_DEVICE);
    size_t cap = devices < 0 ? 0 : (size_t)devices;
    struct found *found = pm_discover_array(cap, sizeof(*found));
    m->nics = pm_discover_array(cap, sizeof(*m->nics));
    d->nic_objs = pm_discover_array(cap, sizeof(hwloc_obj_t));
    if (!found || !m->nics || !d->nic_objs) {
        free(found);
        return -ENOMEM;
    }
    int rc = collect(d, found, &m->n_nics);
    qsort(found, m->n_nics, sizeof(*found), by_address);
    for (uint32_t i = 0; i < m->n_nics; i++) {
        m->nics[i] = found[i].nic;
        d->nic_objs[i] = found[i].pci;
    }
    free(found);
    mark_second_ports(m);
    for (unsigned class = PM_NIC_FABRIC; class <= PM_NIC_ETHERNET; class++)
        forget_if_all_down(m, (enum pm_nic_class)class);
    return rc;
}
