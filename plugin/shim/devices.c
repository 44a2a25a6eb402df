// SPDX-License-Identifier: Apache-2.0
//
// See devices.h.
#include "plugin/shim/devices.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Folder below /dev, and what goes before the number. /dev/nvidiactl and its like have none.
static const struct kind {
    const char *folder, *prefix;
} kinds[] = {{"/dev", "nvidia"}, {"/dev/dri", "renderD"}};

static int is_of(const struct kind *kind, const char *name)
{
    size_t len = strlen(kind->prefix);
    return strncmp(name, kind->prefix, len) == 0 && name[len] && name[len + strspn(name + len, "0123456789")] == '\0';
}

// Adds a name; -1: no room.
static int add(const char *name, char *buf, size_t cap)
{
    size_t len = strlen(buf);
    int n = snprintf(buf + len, cap - len, "%s%s", len ? "," : "", name);
    return (size_t)n < cap - len ? 0 : -1;
}

static int add_kind(const char *root, const struct kind *kind, char *buf, size_t cap)
{
    char path[PATH_MAX];
    int r = 0;
    snprintf(path, sizeof path, "%s%s", root, kind->folder);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && r == 0 && (entry = readdir(folder));) {
        if (!is_of(kind, entry->d_name))
            continue;
        snprintf(path, sizeof path, "%s%s/%s", root, kind->folder, entry->d_name);
        if (access(path, R_OK | W_OK) == 0)
            r = add(entry->d_name, buf, cap);
    }
    if (folder)
        closedir(folder);
    return r;
}

void pm_shim_devices(const char *root, char *buf, size_t cap)
{
    buf[0] = '\0';
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (add_kind(root, &kinds[i], buf, cap) < 0) {
            buf[0] = '\0';
            return;
        }
}
