// SPDX-License-Identifier: Apache-2.0
//
// See apply.h.
#include "plugin/shim/apply.h"

#include <errno.h>
#include <stdbool.h>
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

static bool is_coming(const struct pm_shim_start *start, const char *name)
{
    for (uint32_t i = 0; i < start->n; i++) {
        const char *entry = start->entries[i];
        size_t len = strlen(name);
        if (entry && strncmp(entry, name, len) == 0 && entry[len] == '=')
            return true;
    }
    return false;
}

// What is set anew is left to set_entry(). The list may move with every unset, which takes out what is at `i`: the next
// one is there then. A word without '=' is no variable, and unset() leaves it where it is.
static int drop_prefix(const struct pm_env_ops *ops, const char *prefix,
                       const struct pm_shim_start *start)
{
    char name[NAME_CAP];
    char **list = ops->list(ops->context);
    for (size_t i = 0; list && list[i];) {
        const char *entry = list[i], *equals = strchr(entry, '=');
        size_t len = equals ? (size_t)(equals - entry) : 0;
        if (!equals || len >= sizeof name || strncmp(entry, prefix, strlen(prefix)) != 0) {
            i++;
            continue;
        }
        memcpy(name, entry, len);
        name[len] = '\0';
        if (is_coming(start, name)) {
            i++;
            continue;
        }
        if (ops->unset(ops->context, name) != 0)
            return -EIO;
        list = ops->list(ops->context);
        i += list && list[i] == entry;
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

static int lay_over(const struct pm_shim_start *start, const struct pm_env_ops *ops)
{
    if (drop_prefix(ops, "PMIX_", start) < 0 || drop_prefix(ops, "PMI_", start) < 0)
        return -EIO;
    for (uint32_t i = 0; i < start->n; i++)
        if (start->entries[i] && set_entry(ops, start->entries[i]) != 0)
            return -EIO;
    return set_task_pid(ops) != 0 ? -EIO : 0;
}

int pm_env_apply(struct pm_shim_start *start, const struct pm_env_ops *ops)
{
    choose_entries(start, ops->own ? ops->own : ops->list(ops->context));
    return lay_over(start, ops);
}

// The strings change hands with every set, so they are copied, too; for the life of this process.
static char **copy_list(char *const *list)
{
    size_t n = 0, size = 0;
    for (; list && list[n]; n++)
        size += strlen(list[n]) + 1;
    char **copy = malloc((n + 1) * sizeof *copy + size);
    if (!copy)
        return NULL;
    char *text = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        copy[i] = strcpy(text, list[i]);
        text += strlen(text) + 1;
    }
    copy[n] = NULL;
    return copy;
}

int pm_env_prepare(struct pm_shim_start *likely, struct pm_env_ops *ops)
{
    ops->own = copy_list(ops->list(ops->context));
    if (!ops->own)
        return -EIO;
    for (uint32_t i = 0; i < likely->n; i++)
        if (likely->entries[i][0] == '?')
            likely->entries[i] = NULL;
    return lay_over(likely, ops);
}
