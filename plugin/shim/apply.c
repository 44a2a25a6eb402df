// SPDX-License-Identifier: Apache-2.0
//
// See apply.h.
#include "plugin/shim/apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_CAP 256

const char *pm_env_find(char *const *list, const char *name)
{
    size_t len = strlen(name);
    for (; list && *list; list++)
        if (strncmp(*list, name, len) == 0 && (*list)[len] == '=')
            return *list + len + 1;
    return NULL;
}

// The list may move with every unset, so it is looked through from its start again.
static int drop_prefix(const struct pm_env_ops *ops, const char *prefix)
{
    char name[NAME_CAP];
    char **list = ops->list(ops->context);
    for (size_t i = 0; list && list[i];) {
        size_t len = strcspn(list[i], "=");
        if (strncmp(list[i], prefix, strlen(prefix)) != 0 || len >= sizeof name) {
            i++;
            continue;
        }
        memcpy(name, list[i], len);
        name[len] = '\0';
        if (ops->unset(ops->context, name) != 0)
            return -EIO;
        list = ops->list(ops->context);
        i = 0;
    }
    return 0;
}

// Leaves out what the task brought itself, and the '?' of the rest.
static void choose_entries(struct pm_shim_start *start, char *const *list)
{
    bool outer = pm_env_find(list, "PM_EPOCH") != NULL;
    for (uint32_t i = 0; i < start->n; i++) {
        char *entry = start->entries[i];
        if (entry[0] != '?')
            continue;
        entry++;
        char *equals = strchr(entry, '=');
        if (!equals)
            continue;  // pm_start_read() lets none through
        *equals = '\0';
        bool brought = pm_env_find(list, entry) != NULL;
        *equals = '=';
        start->entries[i] = brought && !outer ? NULL : entry;
    }
}

// What is there already is left alone: setting is dear in slurmstepd.
static int set_entry(const struct pm_env_ops *ops, char *entry)
{
    char *equals = strchr(entry, '=');
    if (!equals)
        return -EINVAL;
    *equals = '\0';
    const char *now = pm_env_find(ops->list(ops->context), entry);
    bool same = now && strcmp(now, equals + 1) == 0;
    int rc = same ? 0 : ops->set(ops->context, entry, equals + 1);
    *equals = '=';
    return rc;
}

static int set_task_pid(const struct pm_env_ops *ops)
{
    char digits[16];
    char *at = digits + sizeof digits - 1;
    *at = '\0';
    for (pid_t left = getpid(); left > 0; left /= 10)
        *--at = (char)('0' + left % 10);
    return ops->set(ops->context, "SLURM_TASK_PID", at);
}

int pm_env_apply(struct pm_shim_start *start, const struct pm_env_ops *ops)
{
    choose_entries(start, ops->list(ops->context));
    if (drop_prefix(ops, "PMIX_") < 0 || drop_prefix(ops, "PMI_") < 0)
        return -EIO;
    for (uint32_t i = 0; i < start->n; i++)
        if (start->entries[i] && set_entry(ops, start->entries[i]) != 0)
            return -EIO;
    return set_task_pid(ops) != 0 ? -EIO : 0;
}
