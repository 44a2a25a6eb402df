// SPDX-License-Identifier: Apache-2.0
//
// See discover.h: loads the topology, checks that it is one that can be used, and has the parts read.
#include "pmix_server/topology/discover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pmix_server/topology/discover_parts.h"
#include "pmix_server/wire/options.h"

#define XML_BYTES_MAX (64 << 20)  // the largest dump known to us is 0.3 MiB

// They open drivers or displays, or ask libraries of vendors that may hang; "pci" is libpciaccess, which
// leaks and finds what the kernel's sysfs shows as well; "x86" moves to each CPU in turn, other jobs' and busy
// ones, too, for what is in sysfs as well.
static const char *const unwanted[] = {"x86", "gl", "opencl", "cuda", "nvml", "rsmi", "levelzero", "pci"};

// A file with more than this is no machine that matrices over its parts should be made for.
static const struct limit {
    hwloc_obj_type_t type;
    int max;
    const char *name;
} limits[] = {
    {HWLOC_OBJ_PU, 65536, "hardware threads"},
    {HWLOC_OBJ_NUMANODE, 2048, "NUMA nodes"},
    {HWLOC_OBJ_PCI_DEVICE, 4096, "PCI devices"},
};

int pm_discover_set(hwloc_const_bitmap_t bitmap, struct pm_set *set)
{
    int rc = 0;
    for (int first = bitmap ? hwloc_bitmap_first(bitmap) : -1; first >= 0 && rc == 0;) {
        int after = hwloc_bitmap_next_unset(bitmap, first);
        int last = after < 0 ? hwloc_bitmap_last(bitmap) : after - 1;
        if (last < first)  // without end
            return -EINVAL;
        rc = pm_set_add_span(set, (uint32_t)first, (uint32_t)last);
        first = hwloc_bitmap_next(bitmap, last);
    }
    return rc;
}

int pm_discover_near(const struct discovery *d, hwloc_obj_t device, struct pm_set *near)
{
    hwloc_obj_t above = hwloc_get_non_io_ancestor_obj(d->topology, device);
    while (above && hwloc_bitmap_iszero(above->cpuset))
        above = above->parent;
    bool says_nothing = !above || (!above->parent && d->machine.n_numas > 1);
    return says_nothing ? 0 : pm_discover_set(above->cpuset, near);
}

struct pm_pci pm_discover_pci(hwloc_obj_t device)
{
    const struct hwloc_pcidev_attr_s *pci = &device->attr->pcidev;
    return (struct pm_pci){pci->domain, pci->bus, pci->dev, pci->func};
}

int pm_discover_pci_compare(const struct pm_pci *a, const struct pm_pci *b)
{
    int by_domain = (a->domain > b->domain) - (a->domain < b->domain);
    int left = a->bus << 16 | a->device << 8 | a->function;
    int right = b->bus << 16 | b->device << 8 | b->function;
    return by_domain ? by_domain : left - right;
}

void pm_discover_text(char *buf, size_t cap, const char *prefix, const char *name)
{
    if (!name || !*name)
        return;
    snprintf(buf, cap, "%s%s", prefix, name);
    for (char *at = buf; *at; at++)
        *at = *at >= ' ' && *at <= '~' ? *at : '?';
    for (size_t len = strlen(buf); len > 0 && buf[len - 1] == ' '; len--)
        buf[len - 1] = '\0';
}

void *pm_discover_array(size_t n, size_t bytes)
{
    return calloc(n ? n : 1, bytes);
}

// `what` is the file, or "this host".
static int check_size(hwloc_topology_t topology, const char *what, char *error)
{
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        int n = hwloc_get_nbobjs_by_type(topology, limits[i].type);
        if (n > limits[i].max) {
            snprintf(error, PM_ERROR_CAP, "the topology of %s has %d %s, and at most %d can be used", what,
                     n, limits[i].name, limits[i].max);
            return -EINVAL;
        }
    }
    if (hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU) > 0)
        return 0;
    snprintf(error, PM_ERROR_CAP, "the topology of %s shows no CPUs (PU objects): nothing can be bound there",
             what);
    return -EINVAL;
}

static int read_parts(struct discovery *d)
{
    static int (*const parts[])(struct discovery *) = {pm_discover_cpus, pm_discover_numas, pm_discover_gpus,
                                                       pm_discover_nics, pm_discover_rails};
    int rc = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && rc == 0; i++)
        rc = parts[i](d);
    return rc;
}

static int read_machine(struct discovery *d, const char *what, char *error)
{
    int rc = check_size(d->topology, what, error);
    if (rc < 0)
        return rc;
    rc = read_parts(d);
    if (rc < 0)
        snprintf(error, PM_ERROR_CAP, "cannot read the topology of %s: %s", what, strerror(-rc));
    free(d->gpu_objs);
    free(d->nic_objs);
    return rc;
}

static int prepare(hwloc_topology_t *ret_topology)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < sizeof(unwanted) / sizeof(*unwanted); i++)  // fails for those not installed
        (void)hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, unwanted[i]);
    hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    *ret_topology = topology;
    return 0;
}

static int load_xml(hwloc_topology_t topology, const char *path, char *error)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        int rc = -errno;
        snprintf(error, PM_ERROR_CAP, "cannot read the topology file %s: %s", path, strerror(-rc));
        return rc;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > XML_BYTES_MAX) {
        snprintf(error, PM_ERROR_CAP, "the topology file %s is %s", path,
                 S_ISREG(st.st_mode) ? "larger than 64 MiB: that is no machine" : "not a file");
        return -EINVAL;
    }
    // Render nodes and cards of a file whose hwloc knew no vendor.
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_OS_DEVICE, HWLOC_TYPE_FILTER_KEEP_ALL);
    if (hwloc_topology_set_xml(topology, path) == 0 && hwloc_topology_load(topology) == 0)
        return 0;
    snprintf(error, PM_ERROR_CAP,
             "the topology file %s is no hwloc XML that this hwloc (%s) reads, or is cut off: write it "
             "with `lstopo FILE.xml`", path, HWLOC_VERSION);
    return -EINVAL;
}

int pm_discover_xml(const char *path, struct pm_machine *ret_machine, struct pm_set *ret_allowed,
                    char *error)
{
    struct discovery d = {0};
    struct pm_set allowed = {0};
    if (prepare(&d.topology) < 0) {
        snprintf(error, PM_ERROR_CAP, "no memory for a topology");
        return -ENOMEM;
    }
    int rc = load_xml(d.topology, path, error);
    if (rc == 0)
        rc = read_machine(&d, path, error);
    if (rc == 0) {
        rc = pm_discover_set(hwloc_topology_get_allowed_cpuset(d.topology), &allowed);
        if (rc < 0)
            snprintf(error, PM_ERROR_CAP, "cannot read the allowed CPUs of %s: %s", path, strerror(-rc));
    }
    hwloc_topology_destroy(d.topology);
    if (rc < 0) {
        pm_machine_done(&d.machine);
        pm_set_done(&allowed);
        return rc;
    }
    *ret_machine = d.machine;
    *ret_allowed = allowed;
    return 0;
}

int pm_discover_host(const char *root, bool gpus, struct pm_machine *ret_machine, char *error)
{
    struct discovery d = {0};
    struct pm_drivers drivers = {0};
    int rc = pm_drivers_read(root, &drivers);
    if (rc == 0)
        rc = prepare(&d.topology);
    if (rc < 0) {
        snprintf(error, PM_ERROR_CAP, "no memory for the topology of this host");
        pm_drivers_done(&drivers);
        return rc;
    }
    d.drivers = &drivers;
    if (!gpus && !pm_drivers_have_fabric(&drivers))
        hwloc_topology_set_io_types_filter(d.topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    if (hwloc_topology_load(d.topology) < 0) {
        rc = -EINVAL;
        snprintf(error, PM_ERROR_CAP, "hwloc cannot find out the topology of this host: %s", strerror(errno));
    } else {
        rc = read_machine(&d, "this host", error);
    }
    hwloc_topology_destroy(d.topology);
    pm_drivers_done(&drivers);
    if (rc == 0)
        *ret_machine = d.machine;
    else
        pm_machine_done(&d.machine);
    return rc;
}
