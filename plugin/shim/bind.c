// SPDX-License-Identifier: Apache-2.0
//
// See bind.h. The system calls are made directly: libnuma is no part of a process that was slurmstepd, and
// glibc's cpu_set_t ends at CPU 1023.
#include "plugin/shim/bind.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// include/uapi/linux/mempolicy.h
enum { MODE_PREFERRED = 1, MODE_BIND = 2, MODE_INTERLEAVE = 3, MODE_PREFERRED_MANY = 5 };

// The calls take whole words.
union cpu_mask {
    unsigned long words[PM_PLACE_CPU_BYTES / sizeof(unsigned long)];
    uint8_t bytes[PM_PLACE_CPU_BYTES];
};
union node_mask {
    unsigned long words[PM_PLACE_NODE_BYTES / sizeof(unsigned long)];
    uint8_t bytes[PM_PLACE_NODE_BYTES];
};

int pm_bind_read_cpus(struct pm_place *place)
{
    union cpu_mask mask = {0};
    if (syscall(SYS_sched_getaffinity, 0, sizeof mask, mask.words) < 0)
        return -errno;
    memcpy(place->cpus, mask.bytes, sizeof place->cpus);
    place->cpu_bytes = pm_place_length(place->cpus, sizeof place->cpus);
    return 0;
}

static int set_cpus(const struct pm_place *place)
{
    union cpu_mask mask;
    memcpy(mask.bytes, place->cpus, sizeof mask.bytes);
    return syscall(SYS_sched_setaffinity, 0, sizeof mask, mask.words) < 0 ? -errno : 0;
}

static bool has_one_bit(const struct pm_place *place)
{
    int bits = 0;
    for (uint32_t i = 0; i < place->node_bytes; i++)
        bits += __builtin_popcount(place->nodes[i]);
    return bits == 1;
}

static int set_memory(const struct pm_place *place)
{
    union node_mask mask;
    int mode = place->memory == PM_PLACE_BIND         ? MODE_BIND
               : place->memory == PM_PLACE_INTERLEAVE ? MODE_INTERLEAVE
               : has_one_bit(place)                   ? MODE_PREFERRED
                                                      : MODE_PREFERRED_MANY;
    memcpy(mask.bytes, place->nodes, sizeof mask.bytes);
    // The kernel reads one bit less than it is told.
    return syscall(SYS_set_mempolicy, mode, mask.words, 8 * sizeof mask + 1) < 0 ? -errno : 0;
}

static int read_memory(struct pm_place *place)
{
    static const enum pm_place_memory memories[] = {
        [MODE_PREFERRED] = PM_PLACE_PREFER, [MODE_BIND] = PM_PLACE_BIND,
        [MODE_INTERLEAVE] = PM_PLACE_INTERLEAVE, [MODE_PREFERRED_MANY] = PM_PLACE_PREFER};
    union node_mask mask = {0};
    int mode = 0;
    if (syscall(SYS_get_mempolicy, &mode, mask.words, 8 * sizeof mask, NULL, 0) < 0)
        return -errno;
    bool is_known = mode >= 0 && (size_t)mode < sizeof memories / sizeof memories[0];
    place->memory = is_known ? memories[mode] : PM_PLACE_KEEP;
    memcpy(place->nodes, mask.bytes, sizeof place->nodes);
    place->node_bytes = pm_place_length(place->nodes, sizeof place->nodes);
    return 0;
}

bool pm_bind_apply(const struct pm_place *place, struct pm_bound *ret)
{
    *ret = (struct pm_bound){0};
    if (place->cpu_bytes > 0) {
        int set = set_cpus(place), got = pm_bind_read_cpus(&ret->place);
        ret->error = set < 0 ? set : got;
        if (ret->error < 0 || memcmp(place->cpus, ret->place.cpus, sizeof place->cpus) != 0)
            return false;
    }
    if (place->memory != PM_PLACE_KEEP) {
        int set = set_memory(place), got = read_memory(&ret->place);
        ret->memory = true;
        ret->error = set < 0 ? set : got;
        return ret->error == 0 && ret->place.memory == place->memory &&
               memcmp(place->nodes, ret->place.nodes, sizeof place->nodes) == 0;
    }
    return true;
}
