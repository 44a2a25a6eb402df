// SPDX-License-Identifier: Apache-2.0
//
// See driver.h.
#include "pmix_server/topology/driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES 4096
#define PCI_TEXT 32
#define KFD_NODES_MAX 1024

// Drivers that programs can compute with.
static const char *const gpu_drivers[PM_GPU_VENDORS][3] = {
    [PM_GPU_NVIDIA] = {"nvidia"}, [PM_GPU_AMD] = {"amdgpu"}, [PM_GPU_INTEL] = {"i915", "xe"}};

static char *pci_text(const struct pm_pci *pci, char *buf)
{
    snprintf(buf, PCI_TEXT, "%04x:%02x:%02x.%x", pci->domain, pci->bus, pci->device, pci->function);
    return buf;
}

static bool pci_read(const char *text, struct pm_pci *ret)
{
    unsigned domain, bus, device, function;
    char end;
    if (sscanf(text, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &end) != 4 || bus > 255 ||
        device > 31 || function > 7)
        return false;
    *ret = (struct pm_pci){domain, (uint8_t)bus, (uint8_t)device, (uint8_t)function};
    return true;
}

// Text of a small file, "" if it cannot be read.
static void read_text(const char *path, char text[FILE_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t len = fd < 0 ? -1 : read(fd, text, FILE_BYTES - 1);
    text[len < 0 ? 0 : len] = '\0';
    if (fd >= 0)
        close(fd);
}

// Value of "KEY: value" or "KEY value" lines: the text after the key and blanks, NULL if not there.
static const char *value_of(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, len) == 0 && strchr(": \t", line[len]) && line[len])
            return line + len + strspn(line + len, ": \t");
    }
    return NULL;
}

static void copy_line(const char *value, char *buf, size_t cap)
{
    size_t len = value ? strcspn(value, "\n") : 0;
    while (len > 0 && value[len - 1] == ' ')
        len--;
    len = len < cap ? len : cap - 1;
    if (len)
        memcpy(buf, value, len);
    buf[len] = '\0';
}

static uint64_t number_of(const char *text, const char *key, uint64_t unknown)
{
    const char *value = value_of(text, key);
    char *end;
    if (!value)
        return unknown;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    return end == value || errno ? unknown : number;
}

static uint32_t small_number_of(const char *text, const char *key)
{
    uint64_t number = number_of(text, key, PM_PLACE_NONE);
    return number > PM_PLACE_NONE ? PM_PLACE_NONE : (uint32_t)number;
}

static int add(struct pm_drivers *d, const struct pm_driver_gpu *gpu)
{
    if (d->n == d->cap) {
        uint32_t cap = d->cap ? 2 * d->cap : 16;
        struct pm_driver_gpu *gpus = realloc(d->gpus, cap * sizeof(*gpus));
        if (!gpus)
            return -ENOMEM;
        d->gpus = gpus;
        d->cap = cap;
    }
    d->gpus[d->n++] = *gpu;
    return 0;
}

// /proc/driver/nvidia/gpus/0000:06:00.0/information
static int read_nvidia(struct pm_drivers *d)
{
    char path[PATH_MAX], text[FILE_BYTES];
    int rc = 0;
    snprintf(path, sizeof(path), "%s/proc/driver/nvidia/gpus", d->root);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && rc == 0 && (entry = readdir(dir));) {
        struct pm_driver_gpu gpu = {.vendor = PM_GPU_NVIDIA, .runtime = PM_PLACE_NONE};
        if (!pci_read(entry->d_name, &gpu.pci))
            continue;
        snprintf(path, sizeof(path), "%s/proc/driver/nvidia/gpus/%s/information", d->root, entry->d_name);
        read_text(path, text);
        copy_line(value_of(text, "Model"), gpu.model, sizeof(gpu.model));
        copy_line(value_of(text, "GPU UUID"), gpu.uuid, sizeof(gpu.uuid));
        if (strchr(gpu.uuid, '?'))  // the driver has not yet started this GPU
            gpu.uuid[0] = '\0';
        gpu.minor = small_number_of(text, "Device Minor");
        rc = add(d, &gpu);
    }
    if (dir)
        closedir(dir);
    return rc;
}

// A KFD node is a CPU socket (no SIMD units) or a GPU, whose place among the GPUs is the number that
// the ROCm runtime gives it.
static int read_kfd_node(struct pm_drivers *d, unsigned number, uint32_t *runtime)
{
    char path[PATH_MAX], text[FILE_BYTES];
    snprintf(path, sizeof(path), "%s/sys/class/kfd/kfd/topology/nodes/%u/properties", d->root, number);
    read_text(path, text);
    if (number_of(text, "simd_count", 0) == 0)
        return 0;
    uint32_t location = small_number_of(text, "location_id");
    uint64_t unique = number_of(text, "unique_id", 0);
    struct pm_driver_gpu gpu = {
        .pci = {.domain = small_number_of(text, "domain"), .bus = (uint8_t)(location >> 8),
                .device = (location >> 3) & 31},
        .vendor = PM_GPU_AMD, .minor = small_number_of(text, "drm_render_minor"), .runtime = (*runtime)++};
    if (unique)
        snprintf(gpu.uuid, sizeof(gpu.uuid), "GPU-%016llx", (unsigned long long)unique);
    return add(d, &gpu);
}

static int read_kfd(struct pm_drivers *d)
{
    char path[PATH_MAX];
    unsigned nodes = 0;
    uint32_t runtime = 0;
    int rc = 0;
    snprintf(path, sizeof(path), "%s/sys/class/kfd/kfd/topology/nodes", d->root);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        unsigned number;
        char end;
        if (sscanf(entry->d_name, "%u%c", &number, &end) == 1 && number < KFD_NODES_MAX && number >= nodes)
            nodes = number + 1;
    }
    if (dir)
        closedir(dir);
    for (unsigned i = 0; i < nodes && rc == 0; i++)
        rc = read_kfd_node(d, i, &runtime);
    return rc;
}

int pm_drivers_read(const char *root, struct pm_drivers *ret_drivers)
{
    struct pm_drivers d = {.root = root};
    int rc = read_nvidia(&d);
    if (rc == 0)
        rc = read_kfd(&d);
    if (rc < 0)
        pm_drivers_done(&d);
    else
        *ret_drivers = d;
    return rc;
}

void pm_drivers_done(struct pm_drivers *drivers)
{
    free(drivers->gpus);
    *drivers = (struct pm_drivers){0};
}

const struct pm_driver_gpu *pm_drivers_gpu(const struct pm_drivers *drivers, const struct pm_pci *pci,
                                           uint32_t nth)
{
    for (uint32_t i = 0; i < drivers->n; i++) {
        const struct pm_pci *at = &drivers->gpus[i].pci;
        if (at->domain == pci->domain && at->bus == pci->bus && at->device == pci->device && nth-- == 0)
            return &drivers->gpus[i];
    }
    return NULL;
}

bool pm_drivers_usable(const struct pm_drivers *drivers, const struct pm_pci *pci, enum pm_gpu_vendor vendor)
{
    char path[PATH_MAX], link[PATH_MAX], text[PCI_TEXT];
    int len = snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s", drivers->root, pci_text(pci, text));
    if (access(path, F_OK) < 0)  // no sysfs here: it cannot be told
        return true;
    snprintf(path + len, sizeof(path) - (size_t)len, "/driver");
    ssize_t got = readlink(path, link, sizeof(link) - 1);
    link[got < 0 ? 0 : got] = '\0';
    const char *slash = strrchr(link, '/');
    for (size_t i = 0; i < 3 && gpu_drivers[vendor][i]; i++) {
        if (strcmp(slash ? slash + 1 : link, gpu_drivers[vendor][i]) == 0)
            return true;
    }
    return false;
}

uint32_t pm_drivers_render(const struct pm_drivers *drivers, const struct pm_pci *pci)
{
    char path[PATH_MAX], text[PCI_TEXT], end;
    uint32_t minor = PM_PLACE_NONE;
    snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/drm", drivers->root, pci_text(pci, text));
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && minor == PM_PLACE_NONE && (entry = readdir(dir));) {
        unsigned number;
        if (sscanf(entry->d_name, "renderD%u%c", &number, &end) == 1)
            minor = number;
    }
    if (dir)
        closedir(dir);
    return minor;
}

bool pm_drivers_is_virtual(const struct pm_drivers *drivers, const struct pm_pci *pci)
{
    char path[PATH_MAX], text[PCI_TEXT];
    snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/physfn", drivers->root, pci_text(pci, text));
    return access(path, F_OK) == 0;
}

static bool has_entries(const char *path)
{
    DIR *dir = opendir(path);
    bool any = false;
    for (struct dirent *entry; dir && !any && (entry = readdir(dir));)
        any = entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return any;
}

bool pm_drivers_have_fabric(const struct pm_drivers *drivers)
{
    static const char *const classes[] = {"infiniband", "cxi"};
    bool any = false;
    for (size_t i = 0; i < sizeof(classes) / sizeof(*classes) && !any; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/sys/class/%s", drivers->root, classes[i]);
        any = has_entries(path);
    }
    return any;
}

bool pm_drivers_link_down(const struct pm_drivers *drivers, const char *interface)
{
    char path[PATH_MAX], text[FILE_BYTES];
    snprintf(path, sizeof(path), "%s/sys/class/net/%s/operstate", drivers->root, interface);
    read_text(path, text);
    return strcmp(text, "down\n") == 0;
}
