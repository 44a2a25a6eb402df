// SPDX-License-Identifier: Apache-2.0
//
// Output of the core: the list of actions of one step, and the hash that pm_core_digest is made of.
//
// Without memory an action is written to a scratch one and lost; the error is sticky in the list,
// so that pm_core_step returns -ENOMEM and the shell knows that the list is not whole.
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/internal.h"

static struct pm_action scratch_action;
static struct pm_log scratch_log;

void pm_actions_clear(struct pm_actions *a)
{
    for (size_t i = 0; i < a->n; i++) {
        if (!a->list[i].borrowed)
            free(a->list[i].data);
        free(a->list[i].text);
        free(a->list[i].log);
    }
    a->n = 0;
    a->error = 0;
}

void pm_actions_done(struct pm_actions *a)
{
    if (!a)
        return;
    pm_actions_clear(a);
    free(a->list);
    *a = (struct pm_actions){0};
}

struct pm_action *pm_emit(struct pm_core *core, enum pm_action_type type)
{
    struct pm_actions *out = core->out;
    assert(out && type > PM_ACTION_NONE && type < PM_ACTION_MAX);
    if (out->n == out->cap) {
        size_t cap = out->cap ? 2 * out->cap : 16;
        struct pm_action *list = reallocarray(out->list, cap, sizeof(*list));
        if (!list) {
            out->error = -ENOMEM;
            scratch_action = (struct pm_action){.type = type};
            return &scratch_action;
        }
        out->list = list;
        out->cap = cap;
    }
    struct pm_action *a = &out->list[out->n++];
    *a = (struct pm_action){.type = type};
    return a;
}

// A copy that the actions own; NULL without memory and for the scratch action, which nobody frees.
static void *action_copy(struct pm_core *core, const struct pm_action *a, const void *p, size_t len)
{
    if (a == &scratch_action)
        return NULL;
    uint8_t *copy = malloc(len + 1);
    if (!copy) {
        core->out->error = -ENOMEM;
        return NULL;
    }
    if (len > 0)
        memcpy(copy, p, len);
    copy[len] = 0;
    return copy;
}

void pm_action_set_data(struct pm_core *core, struct pm_action *a, const void *data, size_t len)
{
    free(a->data);
    a->data = action_copy(core, a, data, len);
    a->len = a->data ? len : 0;
}

// Below this a copy is cheaper than a comparison that fails.
#define SHARE_MIN 4096u

void pm_action_share_data(struct pm_core *core, struct pm_action *a, const void *data, size_t len)
{
    const struct pm_actions *out = core->out;
    const struct pm_action *before = out->n >= 2 && a == &out->list[out->n - 1] ? a - 1 : NULL;
    bool is_same = before && before->type == a->type && len >= SHARE_MIN && before->len == len &&
                   memcmp(before->data, data, len) == 0;
    if (!is_same) {
        pm_action_set_data(core, a, data, len);
        return;
    }
    a->data = before->data;
    a->len = len;
    a->borrowed = true;
}

void pm_action_set_text(struct pm_core *core, struct pm_action *a, const char *text)
{
    free(a->text);
    a->text = text ? action_copy(core, a, text, strlen(text)) : NULL;
}

static void say(struct pm_core *core, bool verbose, const char *text)
{
    if (!core->coordinator) {
        pm_node_say(core, verbose, text);
        return;
    }
    struct pm_action *a = pm_emit(core, PM_ACTION_SAY);
    a->node = PM_NODE_COORDINATOR;
    a->verbose = verbose;
    pm_action_set_text(core, a, text);
}

void pm_say(struct pm_core *core, const char *format, ...)
{
    char text[2 * PM_TEXT_CAP];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    say(core, false, text);
}

void pm_say_verbose(struct pm_core *core, const char *format, ...)
{
    if (!core->config.options->verbose)
        return;
    char text[2 * PM_TEXT_CAP];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    say(core, true, text);
}

struct pm_log *pm_log_record(struct pm_core *core, const char *kind)
{
    struct pm_action *a = pm_emit(core, core->coordinator ? PM_ACTION_LOG : PM_ACTION_NODE_LOG);
    struct pm_log *log = a == &scratch_action ? NULL : calloc(1, sizeof(*log));
    a->log = log;
    if (!log) {
        core->out->error = -ENOMEM;
        log = &scratch_log;
    }
    *log = (struct pm_log){.kind = kind, .rank = PM_RANK_NONE, .node = UINT32_MAX, .spare = UINT32_MAX};
    return log;
}

void pm_digest_bytes(struct pm_digest *d, const void *p, size_t n)
{
    const uint8_t *bytes = p;
    uint64_t h = d->h ? d->h : 0xcbf29ce484222325u; // FNV-1a
    for (size_t i = 0; i < n; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    d->h = h;
}

void pm_digest_u64(struct pm_digest *d, uint64_t v)
{
    uint64_t h = (d->h ^ v) * 0x9e3779b97f4a7c15u; // most of a hash is numbers: no byte by byte
    d->h = (h ^ h >> 32) * 0xd6e8feb86659fd93u + 1;
}

void pm_digest_set(struct pm_digest *d, const struct pm_set *s)
{
    pm_digest_u64(d, s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        pm_digest_u64(d, s->spans[i].first);
        pm_digest_u64(d, s->spans[i].last);
    }
}

// Numbers of one node are only compared with one another, and the first one with none but itself: its edge
// is where the numbered tree has it.
void pm_digest_attach(struct pm_digest *d, uint32_t node, uint32_t attach)
{
    uint32_t number = d->newest ? d->newest[node] - attach : attach;
    pm_digest_u64(d, (uint64_t)number << 2 | (uint64_t)(attach == 1) << 1 | (attach != 0));
}

void pm_digest_time(struct pm_digest *d, uint64_t t_ns, uint64_t now_ns)
{
    bool never = t_ns == 0 || t_ns == UINT64_MAX; // not a point in time, and none is like it
    pm_digest_u64(d, never ? ~t_ns ^ 1ull << 62 : t_ns - now_ns);
}

void pm_digest_due(struct pm_digest *d, uint64_t t_ns, uint64_t now_ns)
{
    pm_digest_u64(d, t_ns <= now_ns ? 0 : t_ns == UINT64_MAX ? t_ns : t_ns - now_ns);
}

void pm_digest_age(struct pm_digest *d, uint64_t t_ns, uint64_t now_ns, uint64_t cap_ns)
{
    uint64_t age_ns = now_ns - t_ns;
    pm_digest_u64(d, t_ns == 0 ? UINT64_MAX : age_ns < cap_ns ? age_ns : cap_ns);
}
