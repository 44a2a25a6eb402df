// SPDX-License-Identifier: Apache-2.0
//
// What this agent is told at its start. The environment comes from our own shim, but it went through
// the step's environment, so everything is checked as if a user had typed it.
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pm_config.h"
#include "pmix_server/agent.h"
#include "pmix_server/wire/hostlist.h"

#define LOCAL_MAX 65536u

struct field {
    const char *name;
    char **text;
    uint32_t *number;
    const char *fallback;  // NULL: must be there
};

static int fail(char *error, const char *name, const char *what)
{
    snprintf(error, PM_ERROR_CAP, "%s %s: the plugin and pm-agent are not of the same build", name,
             what);
    return -EINVAL;
}

static int parse_u32(const char *text, uint32_t *ret)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || v > UINT32_MAX)
        return -EINVAL;
    *ret = (uint32_t)v;
    return 0;
}

static int read_field(const struct field *f, char *error)
{
    const char *text = getenv(f->name);
    if (!text || !*text)
        text = f->fallback;
    if (!text)
        return fail(error, f->name, "is missing");
    if (f->number)
        return parse_u32(text, f->number) < 0 ? fail(error, f->name, "is no number") : 0;
    *f->text = strdup(text);
    return *f->text ? 0 : -ENOMEM;
}

static int read_local_ranks(struct pm_agent_config *c, char *error)
{
    static const char name[] = "PM_AGENT_LOCAL_RANKS";
    const char *text = getenv(name);
    if (!text || !*text)
        return fail(error, name, "is missing");
    uint32_t n = 1;
    for (const char *p = text; *p; p++)
        n += *p == ',';
    if (n > LOCAL_MAX)
        return fail(error, name, "is too long");
    c->local_ranks = calloc(n, sizeof(*c->local_ranks));
    if (!c->local_ranks)
        return -ENOMEM;
    for (c->n_local = 0; c->n_local < n; c->n_local++) {
        char number[16];
        size_t len = strcspn(text, ",");
        snprintf(number, sizeof(number), "%.*s", (int)(len < 15 ? len : 15), text);
        if (parse_u32(number, &c->local_ranks[c->n_local]) < 0 ||
            c->local_ranks[c->n_local] >= c->ntasks)
            return fail(error, name, "is no list of ranks");
        text += len + (text[len] == ',');
    }
    return 0;
}

static int read_key(struct pm_agent_config *c, char *error)
{
    size_t have = 0;
    while (have < PM_KEY_LEN) {
        ssize_t n = read(PM_AGENT_KEY_FD, c->key + have, PM_KEY_LEN - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(error, "the step key", "is missing");
        have += (size_t)n;
    }
    close(PM_AGENT_KEY_FD);
    return 0;
}

static int check(const struct pm_agent_config *c, char *error)
{
    if (strcmp(c->version, PM_VERSION) != 0) {
        snprintf(error, PM_ERROR_CAP,
                 "the plugin is pm-supervise %s, pm-agent is %s: install the same build on all nodes",
                 c->version, PM_VERSION);
        return -EINVAL;
    }
    if (c->node >= c->nnodes || c->nnodes == 0)
        return fail(error, "PM_AGENT_NODE", "is not in the step");
    if (pm_hostlist_count(c->nodelist) != (int)c->nnodes)
        return fail(error, "PM_AGENT_NODELIST", "does not name PM_AGENT_NNODES nodes");
    if (c->uid != geteuid())
        return fail(error, "PM_AGENT_UID", "is not who pm-agent runs as");
    return 0;
}

static int read_all(struct pm_agent_config *c, char *error)
{
    char *conf = NULL, uid[16];
    snprintf(uid, sizeof(uid), "%u", geteuid());
    const struct field fields[] = {
        {"PM_AGENT_VERSION", &c->version, NULL, NULL},
        {"PM_AGENT_ADDR", &c->coordinator, NULL, NULL},
        {"PM_AGENT_CONF", &conf, NULL, NULL},
        {"PM_AGENT_NODELIST", &c->nodelist, NULL, NULL},
        {"PM_AGENT_NODENAME", &c->node_name, NULL, NULL},
        {"PM_AGENT_LIBEXEC", &c->libexec, NULL, PM_LIBEXEC_DIR},
        {"PM_AGENT_TMPDIR", &c->tmpdir, NULL, "/tmp"},
        {"PM_AGENT_COMMAND", &c->command, NULL, ""},
        {"PM_AGENT_PLACE", &c->place, NULL, ""},
        {"PM_AGENT_LAUNCH", NULL, &c->launch, NULL},
        {"PM_AGENT_JOB", NULL, &c->job, NULL},
        {"PM_AGENT_STEP", NULL, &c->step, NULL},
        {"PM_AGENT_NODE", NULL, &c->node, NULL},
        {"PM_AGENT_NNODES", NULL, &c->nnodes, NULL},
        {"PM_AGENT_NTASKS", NULL, &c->ntasks, NULL},
        {"PM_AGENT_GPUS", NULL, &c->has_gpus, "0"},
        {"PM_AGENT_UID", NULL, &c->uid, uid},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(fields) / sizeof(*fields); i++)
        r = read_field(&fields[i], error);
    pm_options_default(&c->options);
    if (r == 0)
        r = pm_options_decode(&c->options, conf, error);
    free(conf);
    if (r == 0)
        r = read_local_ranks(c, error);
    if (r == 0)
        r = read_key(c, error);
    return r == 0 ? check(c, error) : r;
}

int pm_agent_config_read(struct pm_agent_config *c, char *error)
{
    int r = read_all(c, error);
    if (r < 0 && !error[0])
        snprintf(error, PM_ERROR_CAP, "cannot read its configuration: %s", strerror(-r));
    return r;
}

void pm_agent_config_done(struct pm_agent_config *c)
{
    char *texts[] = {c->version, c->coordinator, c->nodelist, c->node_name,
                     c->libexec, c->tmpdir,      c->command,  c->place};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        free(texts[i]);
    free(c->local_ranks);
    sodium_memzero(c, sizeof(*c));
}
