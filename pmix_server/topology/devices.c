// SPDX-License-Identifier: Apache-2.0
//
// See devices.h.
#include "pmix_server/topology/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GPU_INSTANCES 16      // of a GPU, by NVIDIA's numbering; and of compute instances of each
#define DEVICE_MINOR "DeviceFileMinor:"

// A GPU that is there but broken or busy was granted all the same.
static bool can_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || (errno != EPERM && errno != EACCES && errno != ENOENT && errno != ENXIO);
}

int pm_devices_admitted(const char *root, const struct pm_machine *machine, struct pm_set *ret_admitted)
{
    int rc = 0;
    for (uint32_t i = 0; i < machine->n_gpus && rc == 0; i++) {
        const struct pm_machine_gpu *gpu = &machine->gpus[i];
        const char *format = gpu->vendor == PM_GPU_NVIDIA ? "nvidia" : "dri/renderD";
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/dev/%s%u", root, format, gpu->minor);
        if (gpu->minor == PM_PLACE_NONE || can_open(path))
            rc = pm_set_add(ret_admitted, i);
    }
    return rc;
}

// N of the /dev/nvidia-caps/nvidia-capN of a compute instance, negative: there is no such instance.
static int capability(const char *root, uint32_t gpu_minor, unsigned gi, unsigned ci)
{
    char path[PATH_MAX], line[128];
    int minor = -1;
    snprintf(path, sizeof(path), "%s/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci%u/access", root,
             gpu_minor, gi, ci);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, DEVICE_MINOR, strlen(DEVICE_MINOR)) == 0)
            minor = atoi(line + strlen(DEVICE_MINOR));
    }
    if (file)
        fclose(file);
    return minor;
}

static uint32_t read_gpu(const char *root, const struct pm_machine *machine, uint32_t gpu, uint32_t *ret_gpus)
{
    uint32_t n = 0, minor = machine->gpus[gpu].minor;
    for (unsigned gi = 0; gi < GPU_INSTANCES; gi++) {
        char path[PATH_MAX];
        snprintf(path, sizeof(path), "%s/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u", root, minor, gi);
        for (unsigned ci = 0; ci < GPU_INSTANCES && access(path, F_OK) == 0; ci++) {
            char device[PATH_MAX];
            int cap = capability(root, minor, gi, ci);
            snprintf(device, sizeof(device), "%s/dev/nvidia-caps/nvidia-cap%d", root, cap);
            if (cap >= 0 && can_open(device))
                ret_gpus[n++] = gpu;
        }
    }
    return n;
}

int pm_devices_migs(const char *root, const struct pm_machine *machine, uint32_t **ret_gpus, uint32_t *ret_n)
{
    size_t room = (size_t)machine->n_gpus * GPU_INSTANCES * GPU_INSTANCES;
    uint32_t *gpus = calloc(room ? room : 1, sizeof(*gpus)), n = 0;
    if (!gpus)
        return -ENOMEM;
    for (uint32_t i = 0; i < machine->n_gpus; i++) {
        const struct pm_machine_gpu *gpu = &machine->gpus[i];
        if (gpu->vendor == PM_GPU_NVIDIA && gpu->minor != PM_PLACE_NONE)
            n += read_gpu(root, machine, i, gpus + n);
    }
    if (n == 0) {
        free(gpus);
        gpus = NULL;
    }
    *ret_gpus = gpus;
    *ret_n = n;
    return 0;
}
