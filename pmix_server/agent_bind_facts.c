// SPDX-License-Identifier: Apache-2.0
//
// What each task was given: the end of HELLO (wire/shim_proto.h). And what comes back from a rank that does not
// run where it was sent to.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/agent_bind.h"

#define ERRNO_MAX 4095  // of Linux

static int add_mask(struct pm_set *set, const uint8_t *mask, size_t len)
{
    int rc = 0;
    for (uint32_t bit = 0; bit < 8 * len && rc == 0; bit++)
        if (mask[bit / 8] >> bit % 8 & 1)
            rc = pm_set_add(set, bit);
    return rc;
}

static void facts_free(struct pm_facts *f)
{
    for (uint32_t i = 0; f && i < f->n_env; i++)
        free(f->env[i]);
    if (f) {
        free(f->env);
        pm_set_done(&f->cpus);
    }
    free(f);
}

void pm_bind_facts_done(struct shim *s)
{
    facts_free(s->facts);
    s->facts = NULL;
}

void pm_bind_facts_read(struct shim *s, struct pm_reader *r)
{
    struct pm_facts *f = calloc(1, sizeof(*f));
    size_t len;
    const uint8_t *mask = pm_read_bytes(r, PM_PLACE_CPU_BYTES, &len);
    uint32_t n = pm_read_count(r, PM_SHIM_FACTS_MAX, 4);
    if (f)
        f->env = calloc(n + 1u, sizeof(*f->env));
    if (!f || !f->env || add_mask(&f->cpus, mask, len) < 0)
        pm_reader_no_memory(r);
    for (; !r->error && f->n_env < n; f->n_env++)
        f->env[f->n_env] = pm_read_strdup(r, PM_SHIM_FACT_CAP);
    pm_bind_facts_done(s);
    if (pm_reader_end(r) < 0)
        facts_free(f);
    else
        s->facts = f;
}

const char *pm_facts_find(const struct pm_facts *f, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; f && i < f->n_env; i++)
        if (!strncmp(f->env[i], name, len) && f->env[i][len] == '=')
            return f->env[i] + len + 1;
    return NULL;
}

bool pm_facts_has_own(const struct pm_facts *f, const char *prefix)
{
    if (pm_facts_find(f, "PM_EPOCH"))
        return false;
    for (uint32_t i = 0; f && i < f->n_env; i++)
        if (!strncmp(f->env[i], prefix, strlen(prefix)))
            return true;
    return false;
}

// As devices.c names them. Of one whose file is not known nobody can say that it may not be opened.
static bool is_listed(const char *names, const struct pm_machine_gpu *gpu)
{
    char name[32];
    int len = snprintf(name, sizeof(name), "%s%u", gpu->vendor == PM_GPU_NVIDIA ? "nvidia" : "renderD", gpu->minor);
    if (gpu->minor == PM_PLACE_NONE)
        return true;
    for (const char *at = names; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strcspn(at, ",") == (size_t)len && memcmp(at, name, (size_t)len) == 0)
            return true;
    }
    return false;
}

int pm_facts_admitted(const struct pm_facts *f, const struct pm_machine *m, const struct pm_set *all,
                      struct pm_set *admitted)
{
    const char *names = pm_facts_find(f, PM_SHIM_DEVICES);
    int rc = 0;
    for (uint32_t i = 0; names && *names && i < m->n_gpus && rc == 0; i++)
        if (is_listed(names, &m->gpus[i]))
            rc = pm_set_add(admitted, i);
    return rc == 0 && pm_set_empty(admitted) ? pm_set_copy(admitted, all) : rc;
}

// --- a rank that runs elsewhere ------------------------------------------------------------------------

static void describe(const struct pm_place *place, bool memory, char *buf, size_t cap)
{
    static const char *const policies[PM_PLACE_MEMORIES] = {"another policy", "prefer", "bind", "interleave"};
    struct pm_set set = {0};
    char text[64];
    (void)add_mask(&set, memory ? place->nodes : place->cpus, memory ? place->node_bytes : place->cpu_bytes);
    pm_set_format(&set, text, sizeof(text));
    snprintf(buf, cap, "%s %s", memory ? policies[place->memory] : "CPUs", pm_set_empty(&set) ? "none" : text);
    pm_set_done(&set);
}

static void tell(struct shim *s, const char *text)
{
    struct pm_agent_bind *b = s->agent->bind;
    if (!b->told_unbound)
        pm_agent_say(s->agent, "%s", text);
    b->told_unbound = true;
}

void pm_bind_on_unbound(struct shim *s, struct pm_reader *r)
{
    struct pm_log log = {.kind = "bind-mismatch", .rank = s->start.rank, .node = s->agent->config.node,
                         .spare = UINT32_MAX};
    struct pm_place got;
    char wanted[96], is[96];
    log.epoch = pm_read_u32(r);
    log.incarnation = pm_read_u32(r);
    bool memory = pm_read_u8(r) == 1;
    int error = pm_read_i32(r);
    pm_read_place(r, &got);
    if (pm_reader_end(r) < 0 || error > 0 || error < -ERRNO_MAX)
        return;
    describe(&s->agent->bind->ranks[s->local].place, memory, wanted, sizeof(wanted));
    describe(&got, memory, is, sizeof(is));
    if (error)
        snprintf(log.reason, sizeof(log.reason), "rank %u cannot have %s: %s", log.rank, wanted, strerror(-error));
    else
        snprintf(log.reason, sizeof(log.reason), "rank %u was to have %s and has %s", log.rank, wanted, is);
    pm_agent_log(s->agent, &log);
    tell(s, log.reason);
}
