// SPDX-License-Identifier: Apache-2.0
//
// See allowed.h.
#include "pmix_server/topology/allowed.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPU_MAX 1048575u
#define CPUS_FIRST_GUESS 1024
#define LINE_BYTES 65536

static bool read_number(const char **at, uint32_t *ret)
{
    uint32_t number = 0;
    const char *start = *at;
    for (; isdigit((unsigned char)**at); (*at)++) {
        number = number * 10 + (uint32_t)(**at - '0');
        if (number > CPU_MAX)
            return false;
    }
    *ret = number;
    return *at > start;
}

static int read_spans(const char *at, struct pm_set *set)
{
    for (;; at++) {
        uint32_t first, last;
        if (!read_number(&at, &first))
            return -EINVAL;
        last = first;
        if (*at == '-' && (at++, !read_number(&at, &last)))
            return -EINVAL;
        if (last < first)
            return -EINVAL;
        int rc = pm_set_add_span(set, first, last);
        if (rc < 0)
            return rc;
        if (*at != ',')
            break;
    }
    return at[strspn(at, " \t\n")] == '\0' ? 0 : -EINVAL;
}

int pm_cpu_list_read(const char *text, struct pm_set *set)
{
    pm_set_clear(set);
    if (text[strspn(text, " \t\n")] == '\0')
        return 0;
    int rc = read_spans(text, set);
    if (rc < 0)
        pm_set_clear(set);
    return rc;
}

int pm_allowed_affinity(pid_t pid, struct pm_set *ret_cpus)
{
    // The kernel says EINVAL as long as the mask is smaller than its own.
    for (int n = CPUS_FIRST_GUESS; n <= (int)CPU_MAX + 1; n *= 2) {
        cpu_set_t *mask = CPU_ALLOC((size_t)n);
        if (!mask)
            return -ENOMEM;
        int rc = sched_getaffinity(pid, CPU_ALLOC_SIZE((size_t)n), mask) < 0 ? -errno : 0;
        pm_set_clear(ret_cpus);
        for (int cpu = 0; cpu < n && rc == 0; cpu++) {
            if (CPU_ISSET_S((size_t)cpu, CPU_ALLOC_SIZE((size_t)n), mask))
                rc = pm_set_add(ret_cpus, (uint32_t)cpu);
        }
        CPU_FREE(mask);
        if (rc != -EINVAL)
            return rc;
    }
    return -EINVAL;
}

// How the two versions of cgroups write "which cpuset" in /proc/self/cgroup, and where its CPUs are.
static const struct flavour {
    const char *controllers;  // the field between the colons
    const char *folder, *file;
} flavours[] = {
    {"", "/sys/fs/cgroup", "cpuset.cpus.effective"},
    {"cpuset", "/sys/fs/cgroup/cpuset", "cpuset.effective_cpus"},
    {"cpuset", "/sys/fs/cgroup/cpuset", "cpuset.cpus"},
};

static int read_file(const char *path, char line[LINE_BYTES])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    char *got = fgets(line, LINE_BYTES, file);
    fclose(file);
    return got ? 0 : -ENODATA;
}

// A task's own cgroup often has no cpuset: the next one above that has decides.
static int read_cpuset(const char *root, const struct flavour *flavour, char *cgroup, struct pm_set *ret_cpus)
{
    char path[PATH_MAX], line[LINE_BYTES];
    for (;;) {
        int len = snprintf(path, sizeof(path), "%s%s%s/%s", root, flavour->folder, cgroup, flavour->file);
        if (len < (int)sizeof(path) && read_file(path, line) == 0 && pm_cpu_list_read(line, ret_cpus) == 0 &&
            !pm_set_empty(ret_cpus))
            return 0;
        char *slash = strrchr(cgroup, '/');
        if (!slash)
            return -ENOENT;
        *slash = '\0';
    }
}

// The path of a line "4:cpuset:/slurm/uid_1000" if it is of this flavour.
static char *cgroup_of(char *line, const struct flavour *flavour)
{
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (strcmp(path, "/") == 0)
        path[0] = '\0';
    return strcmp(controllers + 1, flavour->controllers) == 0 ? path : NULL;
}

int pm_allowed_cgroup(const char *root, struct pm_set *ret_cpus)
{
    char path[PATH_MAX], line[PATH_MAX];
    int rc = -ENOENT;
    snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
    for (size_t i = 0; i < sizeof(flavours) / sizeof(*flavours) && rc < 0; i++) {
        FILE *file = fopen(path, "re");
        while (file && rc < 0 && fgets(line, sizeof(line), file)) {
            char *cgroup = cgroup_of(line, &flavours[i]);
            if (cgroup)
                rc = read_cpuset(root, &flavours[i], cgroup, ret_cpus);
        }
        if (file)
            fclose(file);
    }
    return rc;
}
