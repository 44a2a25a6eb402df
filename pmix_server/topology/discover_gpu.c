// SPDX-License-Identifier: Apache-2.0
//
// GPUs: PCI functions by vendor and class, because a distribution's hwloc knows no vendor's library.
// OS devices, where a file has them, and this host's drivers add number, name and partitions.
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/discover_parts.h"

// What computes. Everything else is no GPU: VGA of a management controller (1a03, 102b, 1d0f), NVSwitch
// (10de 0680), the audio function of a card (0403), QAT (8086 0b40).
static const struct sort {
    uint16_t vendor_id, class_id;
    enum pm_gpu_vendor vendor;
} sorts[] = {
    {0x10de, 0x0300, PM_GPU_NVIDIA}, {0x10de, 0x0302, PM_GPU_NVIDIA}, {0x1002, 0x0300, PM_GPU_AMD},
    {0x1002, 0x0302, PM_GPU_AMD},    {0x1002, 0x0380, PM_GPU_AMD},    {0x1002, 0x1200, PM_GPU_AMD},
    {0x8086, 0x0380, PM_GPU_INTEL},  {0x8086, 0x0300, PM_GPU_INTEL},
};

// OS devices that number GPUs as a runtime does, best first. A tile is a part of a device.
static const struct numbering {
    enum pm_gpu_vendor vendor;
    const char *prefix;
    bool is_tile;            // "ze0.1"
    bool counts_partitions;
} numberings[] = {
    {PM_GPU_AMD, "rsmi", false, true}, {PM_GPU_NVIDIA, "nvml", false, true},
    {PM_GPU_INTEL, "ze", true, true},  {PM_GPU_INTEL, "ze", false, false},
    {PM_GPU_NVIDIA, "cuda", false, false},
};

struct found {
    hwloc_obj_t pci;
    struct pm_machine_gpu gpu;
};

static const struct sort *sort_of(hwloc_obj_t pci)
{
    const struct hwloc_pcidev_attr_s *a = &pci->attr->pcidev;
    bool integrated = a->vendor_id == 0x8086 && a->domain == 0 && a->bus == 0;
    for (size_t i = 0; i < sizeof(sorts) / sizeof(*sorts); i++) {
        if (sorts[i].vendor_id == a->vendor_id && sorts[i].class_id == a->class_id && !integrated)
            return &sorts[i];
    }
    return NULL;
}

// "rsmi12" is 12.
static bool read_number(const char *name, const struct numbering *by, uint32_t *ret_number)
{
    size_t len = strlen(by->prefix);
    if (strncmp(name, by->prefix, len) != 0 || !isdigit((unsigned char)name[len]))
        return false;
    char *end;
    unsigned long number = strtoul(name + len, &end, 10);
    if (by->is_tile) {
        if (end[0] != '.' || !isdigit((unsigned char)end[1]))
            return false;
        number = strtoul(end + 1, &end, 10);
    }
    *ret_number = (uint32_t)number;
    return *end == '\0' && number < PM_PLACE_NONE;
}

// The `nth` OS device of a numbering below the PCI function, NULL: no more.
static hwloc_obj_t nth_device(hwloc_obj_t pci, const struct numbering *by, uint32_t nth, uint32_t *ret_number)
{
    for (hwloc_obj_t obj = pci->io_first_child; obj; obj = obj->next_sibling) {
        if (obj->type == HWLOC_OBJ_OS_DEVICE && obj->name && read_number(obj->name, by, ret_number) &&
            nth-- == 0)
            return obj;
    }
    return NULL;
}

static uint32_t count_partitions(const struct discovery *d, hwloc_obj_t pci, enum pm_gpu_vendor vendor)
{
    uint32_t most = 1, number;
    struct pm_pci address = pm_discover_pci(pci);
    for (size_t i = 0; i < sizeof(numberings) / sizeof(*numberings); i++) {
        uint32_t n = 0;
        while (numberings[i].vendor == vendor && numberings[i].counts_partitions &&
               nth_device(pci, &numberings[i], n, &number))
            n++;
        most = n > most ? n : most;
    }
    if (d->drivers) {
        uint32_t n = 0;
        while (pm_drivers_gpu(d->drivers, &address, n))
            n++;
        most = n > most ? n : most;
    }
    return most;
}

// A name that is not there or is all zero (partitions) is none.
static void copy_uuid(struct pm_machine_gpu *gpu, hwloc_obj_t os)
{
    const char *nvidia = hwloc_obj_get_info_by_name(os, "NVIDIAUUID");
    const char *amd = hwloc_obj_get_info_by_name(os, "AMDUUID");
    if (nvidia && nvidia[strspn(nvidia, "GPU-0")])
        pm_discover_text(gpu->uuid, sizeof(gpu->uuid), "", nvidia);
    else if (amd && strspn(amd, "0") != strlen(amd))
        pm_discover_text(gpu->uuid, sizeof(gpu->uuid), "GPU-", amd);
}

static void read_os_devices(hwloc_obj_t pci, struct pm_machine_gpu *gpu)
{
    uint32_t number;
    for (size_t i = 0; i < sizeof(numberings) / sizeof(*numberings); i++) {
        if (numberings[i].vendor != gpu->vendor)
            continue;
        hwloc_obj_t os = nth_device(pci, &numberings[i], gpu->partition, &number);
        if (!os)
            continue;
        if (gpu->runtime == PM_PLACE_NONE && !numberings[i].is_tile)  // a tile's number is its card's own
            gpu->runtime = number;
        if (!gpu->uuid[0])
            copy_uuid(gpu, os);
        if (!gpu->model[0])
            pm_discover_text(gpu->model, sizeof(gpu->model), "", hwloc_obj_get_info_by_name(os, "GPUModel"));
    }
    const struct numbering render = {.prefix = "renderD"};
    if (gpu->vendor != PM_GPU_NVIDIA && nth_device(pci, &render, gpu->partition, &number))
        gpu->minor = number;
}

// This host's drivers know better than hwloc, which has asked nobody.
static void read_drivers(const struct pm_drivers *drivers, struct pm_machine_gpu *gpu)
{
    const struct pm_driver_gpu *own = pm_drivers_gpu(drivers, &gpu->pci, gpu->partition);
    if (own && own->vendor == gpu->vendor) {
        gpu->minor = own->minor;
        gpu->runtime = own->runtime;
        pm_discover_text(gpu->uuid, sizeof(gpu->uuid), "", own->uuid);
        pm_discover_text(gpu->model, sizeof(gpu->model), "", own->model);
    }
    if (gpu->minor == PM_PLACE_NONE && gpu->vendor != PM_GPU_NVIDIA && gpu->partition == 0)
        gpu->minor = pm_drivers_render(drivers, &gpu->pci);
}

static int read_gpu(const struct discovery *d, struct found *found)
{
    struct pm_machine_gpu *gpu = &found->gpu;
    hwloc_obj_t pci = found->pci;
    gpu->pci = pm_discover_pci(pci);
    gpu->minor = gpu->runtime = PM_PLACE_NONE;
    read_os_devices(pci, gpu);
    if (d->drivers)
        read_drivers(d->drivers, gpu);
    if (!gpu->model[0])
        pm_discover_text(gpu->model, sizeof(gpu->model), "", hwloc_obj_get_info_by_name(pci, "PCIDevice"));
    return pm_discover_near(d, pci, &gpu->near);
}

static int by_address(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    int by_pci = pm_discover_pci_compare(&x->gpu.pci, &y->gpu.pci);
    return by_pci ? by_pci : (x->gpu.partition > y->gpu.partition) - (x->gpu.partition < y->gpu.partition);
}

// Calls `take` for each partition of each GPU; its sum with `found` NULL is their number.
static int walk(struct discovery *d, struct found *found, uint32_t *ret_n)
{
    uint32_t n = 0;
    int rc = 0;
    for (hwloc_obj_t pci = NULL; rc == 0 && (pci = hwloc_get_next_pcidev(d->topology, pci));) {
        const struct sort *sort = sort_of(pci);
        struct pm_pci address = pm_discover_pci(pci);
        if (!sort || (d->drivers && !pm_drivers_usable(d->drivers, &address, sort->vendor)))
            continue;
        uint32_t parts = count_partitions(d, pci, sort->vendor);
        for (uint32_t p = 0; p < parts && rc == 0; p++, n++) {
            if (!found)
                continue;
            found[n] = (struct found){pci, {.vendor = sort->vendor, .partition = p}};
            rc = read_gpu(d, &found[n]);
        }
    }
    *ret_n = n;
    return rc;
}

int pm_discover_gpus(struct discovery *d)
{
    struct pm_machine *m = &d->machine;
    uint32_t n;
    walk(d, NULL, &n);
    struct found *found = pm_discover_array(n, sizeof(*found));
    m->gpus = pm_discover_array(n, sizeof(*m->gpus));
    d->gpu_objs = pm_discover_array(n, sizeof(hwloc_obj_t));
    if (!found || !m->gpus || !d->gpu_objs) {
        free(found);
        return -ENOMEM;
    }
    int rc = walk(d, found, &m->n_gpus);
    qsort(found, m->n_gpus, sizeof(*found), by_address);
    for (uint32_t i = 0; i < m->n_gpus; i++) {
        m->gpus[i] = found[i].gpu;
        d->gpu_objs[i] = found[i].pci;
    }
    free(found);
    return rc;
}
