// SPDX-License-Identifier: Apache-2.0
//
// The environment of the real srun: what the user has, less what an outer supervised step left behind,
// plus what our plugin in slurmstepd needs (SLURM_PM_STEP_*, so that --export=NONE keeps it), plus
// four settings of srun itself. slurmstepd puts the user's values of those four back.
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pm_config.h"
#include "pmix_server/coordinator.h"

#define STEP_PREFIX "SLURM_PM_STEP_"

struct list {
    char **env;
    size_t n;
    bool failed;
};

// The shims never end before they are told to: a task that exits earlier means that our own machinery
// failed, and srun then ends the step by itself after SLURM_WAIT seconds. Not where a node's tasks may end without
// the step: it goes on elsewhere, or is ended in order and launched again, which takes longer.
static const struct {
    const char *name;
    const char *value;
    const char *outlives_nodes;  // the value where the step goes on after a lost node
} replaced[] = {
    {"SLURM_MPI_TYPE", "none", "none"},
    {"SLURM_NO_KILL", "set", "set"},
    {"SLURM_KILL_BAD_EXIT", "0", "0"},
    {"SLURM_WAIT", "10", "0"},
};

static const char *const outer_leftovers[] = {"PM_RESTART_CAUSE", "PM_RESTART_RANK", "SLURMD_TRES_BIND"};

static bool is_named(const char *entry, const char *name)
{
    size_t len = strlen(name);
    return !strncmp(entry, name, len) && entry[len] == '=';
}

// Takes over `entry`; NULL stands for "no memory".
static void append(struct list *l, char *entry)
{
    char **longer = entry ? realloc(l->env, (l->n + 2) * sizeof(*longer)) : NULL;
    if (!longer) {
        free(entry);
        l->failed = true;
        return;
    }
    l->env = longer;
    l->env[l->n++] = entry;
    l->env[l->n] = NULL;
}

static void add(struct list *l, const char *name, const char *value)
{
    char *entry = NULL;
    append(l, asprintf(&entry, "%s=%s", name, value) < 0 ? NULL : entry);
}

// True: not copied as it is. What srun's four settings were is saved for slurmstepd.
static bool taken_out(struct list *l, const char *entry)
{
    if (!strncmp(entry, STEP_PREFIX, strlen(STEP_PREFIX)))
        return true;
    for (size_t i = 0; i < sizeof(outer_leftovers) / sizeof(*outer_leftovers); i++) {
        if (is_named(entry, outer_leftovers[i]))
            return true;
    }
    for (size_t i = 0; i < sizeof(replaced) / sizeof(*replaced); i++) {
        if (!is_named(entry, replaced[i].name))
            continue;
        char name[64];
        snprintf(name, sizeof(name), STEP_PREFIX "ENV_%s", replaced[i].name);
        add(l, name, entry + strlen(replaced[i].name) + 1);
        return true;
    }
    return false;
}

static void add_number(struct list *l, const char *name, long value)
{
    char text[32];
    snprintf(text, sizeof(text), "%ld", value);
    add(l, name, text);
}

static void add_own(struct list *l, const struct coordinator *c, int report_fd)
{
    char hex[2 * PM_KEY_LEN + 1], conf[PM_OPTIONS_TEXT_CAP];
    if (pm_options_encode(&c->options, conf, sizeof(conf)) < 0)
        l->failed = true;
    sodium_bin2hex(hex, sizeof(hex), c->key, PM_KEY_LEN);
    add_number(l, STEP_PREFIX "CHILD", getpid());
    add(l, STEP_PREFIX "KEY", hex);
    add(l, STEP_PREFIX "ADDR", pm_peers_addresses(c->peers));
    add_number(l, STEP_PREFIX "LAUNCH", c->launch);
    add(l, STEP_PREFIX "VERSION", PM_VERSION);
    add(l, STEP_PREFIX "CONF", conf);
    add(l, STEP_PREFIX "LIBEXEC", c->libexec);
    add_number(l, STEP_PREFIX "REPORT_FD", report_fd);
    if (c->argv.command)
        add(l, STEP_PREFIX "COMMAND", c->argv.command);
    bool outlives = pm_options_outlives_nodes(&c->options);
    for (size_t i = 0; i < sizeof(replaced) / sizeof(*replaced); i++)
        add(l, replaced[i].name, outlives ? replaced[i].outlives_nodes : replaced[i].value);
    sodium_memzero(hex, sizeof(hex));
}

char **pm_srun_environment(const struct coordinator *c, char *const *from, int report_fd)
{
    struct list l = {0};
    for (; *from; from++) {
        if (!taken_out(&l, *from))
            append(&l, strdup(*from));
    }
    add_own(&l, c, report_fd);
    if (l.failed) {
        pm_environment_free(l.env);
        return NULL;
    }
    return l.env;
}

void pm_environment_free(char **env)
{
    for (char **e = env; e && *e; e++) {
        sodium_memzero(*e, strlen(*e));
        free(*e);
    }
    free(env);
}
