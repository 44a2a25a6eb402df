// SPDX-License-Identifier: Apache-2.0
//
// What both records (record.h) share: failures, causes, sets with limits.
#include "pmix_server/core/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int pm_set_merge(struct pm_set *into, const struct pm_set *from, bool *changed)
{
    if (pm_set_covers(into, from))
        return 0;
    *changed = true;
    return pm_set_union(into, from);
}

void pm_read_set_below(struct pm_reader *r, struct pm_set *set, uint32_t limit)
{
    pm_read_set(r, set, PM_SPANS_MAX);
    if (!r->error && set->n && set->spans[set->n - 1].last >= limit)
        r->error = -EBADMSG;
    if (r->error)
        pm_set_clear(set);
}

enum pm_cause pm_read_cause(struct pm_reader *r)
{
    uint8_t cause = pm_read_u8(r);
    if (cause < PM_CAUSE_MAX)
        return (enum pm_cause)cause;
    r->error = -EBADMSG;
    return PM_CAUSE_NONE;
}

bool pm_cause_is_loss(enum pm_cause cause)
{
    return cause == PM_CAUSE_SHIM_LOST || cause == PM_CAUSE_AGENT_LOST ||
           cause == PM_CAUSE_NODE_LOST || cause == PM_CAUSE_UNHEALTHY;
}

void pm_text_copy(char *into, size_t cap, const char *text)
{
    (void)snprintf(into, cap, "%s", text ? text : "");
}

// A failed rank and a lost node do not say the same, whatever their numbers.
bool pm_failure_same(const struct pm_failure *a, const struct pm_failure *b)
{
    if (a->cause != b->cause || a->rank != b->rank)
        return false;
    if (pm_cause_is_loss(a->cause))
        return a->node == b->node;
    return a->epoch == b->epoch && a->incarnation == b->incarnation &&
           (a->rank != PM_RANK_NONE || a->node == b->node);
}

void pm_write_failure(struct pm_writer *w, const struct pm_failure *failure)
{
    pm_write_u32(w, failure->node);
    pm_write_u32(w, failure->rank);
    pm_write_u32(w, failure->epoch);
    pm_write_u32(w, failure->incarnation);
    pm_write_u32(w, failure->pid);
    pm_write_u8(w, (uint8_t)failure->cause);
    pm_write_i32(w, failure->wait_status);
    pm_write_var(w, failure->uptime_ms);
    pm_write_u8(w, failure->connected);
    pm_write_str(w, failure->text);
}

void pm_read_failure(struct pm_reader *r, struct pm_failure *ret, uint32_t nnodes, uint32_t nranks)
{
    *ret = (struct pm_failure){0};
    ret->node = pm_read_u32(r);
    ret->rank = pm_read_u32(r);
    ret->epoch = pm_read_u32(r);
    ret->incarnation = pm_read_u32(r);
    ret->pid = pm_read_u32(r);
    ret->cause = pm_read_cause(r);
    ret->wait_status = pm_read_i32(r);
    ret->uptime_ms = pm_read_var(r);
    ret->connected = pm_read_u8(r) != 0;
    pm_read_str(r, ret->text, sizeof(ret->text));
    if (ret->node >= nnodes || (ret->rank != PM_RANK_NONE && ret->rank >= nranks))
        r->error = -EBADMSG;
}

// How long the rank had lived decides something in rank mode only: left out.
void pm_digest_failure(struct pm_digest *d, const struct pm_failure *failure)
{
    pm_digest_u64(d, (uint64_t)failure->node << 32 | failure->rank);
    pm_digest_u64(d, (uint64_t)failure->epoch << 32 | failure->incarnation);
    pm_digest_u64(d, (uint64_t)failure->cause << 32 | (uint32_t)failure->wait_status);
    pm_digest_u64(d, failure->connected);
}
