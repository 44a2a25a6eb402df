// SPDX-License-Identifier: Apache-2.0
//
// A rank that died by SIGKILL while the OOM counter of its memory cgroup grew was killed for lack of
// memory. On cgroup v1 the counter is kept where the victim is and nowhere above, on v2 it is
// summed upwards; so in both cases the rank's own cgroup is the place to look, and it must be looked up
// while the rank lives. (linux mm/oom_kill.c, mm/memcontrol.c: memcg_memory_event_mm.)
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define LINE_CAP 4096

struct hierarchy {
    const char *type;        // file system in mountinfo
    const char *controller;  // v1: among its super options
    const char *file;
};

static const struct hierarchy v1 = {"cgroup", "memory", "memory.oom_control"};
static const struct hierarchy v2 = {"cgroup2", NULL, "memory.events"};

// "N:controllers:path" of /proc/PID/cgroup; true if it is the line for this hierarchy.
static bool cgroup_line(char *line, const struct hierarchy *h, char **ret_path)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return false;
    *controllers++ = *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    *ret_path = path;
    if (!h->controller)
        return !strcmp(line, "0") && !*controllers;
    for (char *save = NULL, *c = strtok_r(controllers, ",", &save); c;
         c = strtok_r(NULL, ",", &save)) {
        if (!strcmp(c, h->controller))
            return true;
    }
    return false;
}

static bool cgroup_of(uint32_t pid, const struct hierarchy *h, char *ret, size_t cap)
{
    char name[64], line[LINE_CAP];
    snprintf(name, sizeof(name), "/proc/%u/cgroup", pid);
    FILE *f = fopen(name, "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof(line), f)) {
        char *path;
        found = cgroup_line(line, h, &path);
        if (found)
            snprintf(ret, cap, "%s", path);
    }
    if (f)
        fclose(f);
    return found;
}

// Where the hierarchy is mounted for us: "id parent dev ROOT MOUNTPOINT opts... - TYPE source SUPER".
// In a container, or with a bind mount, ROOT is not "/" and must be taken off the cgroup's path.
static bool mount_line(char *line, const struct hierarchy *h, char **ret_root, char **ret_point)
{
    char *tail = strstr(line, " - ");
    char *save = NULL, *fields[5];
    if (!tail)
        return false;
    *tail = '\0';
    tail += 3;
    for (int i = 0; i < 5; i++) {
        fields[i] = strtok_r(i ? NULL : line, " ", &save);
        if (!fields[i])
            return false;
    }
    *ret_root = fields[3];
    *ret_point = fields[4];
    char *type = strtok_r(tail, " ", &save);
    strtok_r(NULL, " ", &save);
    char *super = strtok_r(NULL, " \n", &save);
    if (!type || strcmp(type, h->type) != 0)
        return false;
    for (char *o = super && h->controller ? strtok_r(super, ",", &save) : NULL; o;
         o = strtok_r(NULL, ",", &save)) {
        if (!strcmp(o, h->controller))
            return true;
    }
    return !h->controller;
}

static const struct hierarchy v1_limit = {"cgroup", "memory", "memory.limit_in_bytes"};
static const struct hierarchy v2_limit = {"cgroup2", NULL, "memory.max"};

static void join(const struct hierarchy *h, const char *cgroup, char *ret)
{
    char line[LINE_CAP];
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f && fgets(line, sizeof(line), f)) {
        char *root, *point;
        if (!mount_line(line, h, &root, &point))
            continue;
        size_t len = strcmp(root, "/") ? strlen(root) : 0;
        if (strncmp(cgroup, root, len) != 0)
            continue;
        // The last mount that fits wins: later ones cover earlier ones.
        int n = snprintf(ret, PM_AGENT_PATH_CAP, "%s%s/%s", point, cgroup + len, h->file);
        if (n < 0 || n >= PM_AGENT_PATH_CAP)
            ret[0] = '\0';
    }
    if (f)
        fclose(f);
}

uint64_t pm_oom_read(const char *path)
{
    char line[256];
    unsigned long long count = 0;
    FILE *f = *path ? fopen(path, "re") : NULL;
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "oom_kill %llu", &count) == 1)
            break;
    }
    if (f)
        fclose(f);
    return count;
}

void pm_oom_open(uint32_t pid, char *path, uint64_t *ret_count)
{
    char cgroup[PM_AGENT_PATH_CAP];
    path[0] = '\0';
    if (cgroup_of(pid, &v1, cgroup, sizeof(cgroup)))
        join(&v1, cgroup, path);
    else if (cgroup_of(pid, &v2, cgroup, sizeof(cgroup)))
        join(&v2, cgroup, path);
    *ret_count = pm_oom_read(path);
}

// "max", and the largest number of pages there is, are no limit.
static uint64_t limit_mib(const char *path)
{
    unsigned long long bytes = 0;
    FILE *f = *path ? fopen(path, "re") : NULL;
    if (f && fscanf(f, "%llu", &bytes) != 1)
        bytes = 0;
    if (f)
        fclose(f);
    return bytes >> 60 ? 0 : bytes >> 20;
}

// The least of the cgroup's own and those above it.
static uint64_t least_limit_mib(const struct hierarchy *h, char *cgroup)
{
    char path[PM_AGENT_PATH_CAP];
    uint64_t least = 0;
    for (;;) {
        path[0] = '\0';
        join(h, cgroup, path);
        uint64_t mib = limit_mib(path);
        least = mib && (!least || mib < least) ? mib : least;
        char *slash = strrchr(cgroup, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}

uint64_t pm_memory_limit_mib(void)
{
    char cgroup[PM_AGENT_PATH_CAP];
    uint32_t self = (uint32_t)getpid();
    if (cgroup_of(self, &v1_limit, cgroup, sizeof(cgroup)))
        return least_limit_mib(&v1_limit, cgroup);
    return cgroup_of(self, &v2_limit, cgroup, sizeof(cgroup)) ? least_limit_mib(&v2_limit, cgroup) : 0;
}
