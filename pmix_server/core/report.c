// SPDX-License-Identifier: Apache-2.0
//
// The record that flows up (record.h). Facts of a node only grow within an epoch, so a union needs
// no order; failures are the exception: they go when the wanted state shows them handled, and so
// each agent merges the lists of its children anew instead of keeping a sum.
#include "pmix_server/core/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void pm_report_init(struct pm_report *report)
{
    *report = (struct pm_report){.cannot_node = UINT32_MAX};
}

void pm_report_done(struct pm_report *report)
{
    pm_set_done(&report->joined);
    for (int i = 0; i < PM_MARK_MAX; i++)
        pm_set_done(&report->marks[i]);
    pm_set_done(&report->left);
    pm_set_done(&report->again);
    pm_set_done(&report->fit);
    pm_map_done(&report->map);
    pm_places_done(&report->places);
    pm_places_done(&report->sizes);
    free(report->nodelist);
    free(report->failures.list);
    pm_report_init(report);
}

void pm_report_next_epoch(struct pm_report *report, uint32_t epoch)
{
    report->epoch = epoch;
    for (int i = 0; i < PM_MARK_MAX; i++)
        pm_set_clear(&report->marks[i]);
    pm_set_clear(&report->left);
    pm_set_clear(&report->again);
    report->any_ended = false;
}

static int union_of_epoch(struct pm_report *into, const struct pm_report *from, bool *changed)
{
    if (from->epoch < into->epoch)
        return 0;
    if (from->epoch > into->epoch) {
        pm_report_next_epoch(into, from->epoch);
        *changed = true;
    }
    int rc = pm_set_merge(&into->left, &from->left, changed);
    if (rc == 0)
        rc = pm_set_merge(&into->again, &from->again, changed);
    for (int i = 0; rc == 0 && i < PM_MARK_MAX; i++)
        rc = pm_set_merge(&into->marks[i], &from->marks[i], changed);
    *changed |= from->any_ended && !into->any_ended;
    into->any_ended |= from->any_ended;
    return rc;
}

static int union_of_check(struct pm_report *into, const struct pm_report *from, bool *changed)
{
    if (from->check < into->check)
        return 0;
    if (from->check > into->check) {
        into->check = from->check;
        pm_set_clear(&into->fit);
        *changed = true;
    }
    return pm_set_merge(&into->fit, &from->fit, changed);
}

static int union_of_forming(struct pm_report *into, const struct pm_report *from, bool *changed)
{
    bool map_changed = false;
    int rc = pm_map_union(&into->map, &from->map, &map_changed);
    *changed |= map_changed;
    if (rc == 0)
        rc = pm_places_union(&into->places, &from->places, changed);
    if (rc == 0)
        rc = pm_places_union(&into->sizes, &from->sizes, changed);
    if (rc == 0 && from->nodelist && !into->nodelist) {
        into->nodelist = strdup(from->nodelist);
        *changed = true;
        rc = into->nodelist ? 0 : -ENOMEM;
    }
    if (from->cannot_node < into->cannot_node) {
        into->cannot_node = from->cannot_node;
        pm_text_copy(into->cannot_text, sizeof(into->cannot_text), from->cannot_text);
        *changed = true;
    }
    return rc;
}

int pm_report_union(struct pm_report *into, const struct pm_report *from, bool *ret_changed)
{
    bool changed = false;
    int rc = pm_set_merge(&into->joined, &from->joined, &changed);
    if (rc == 0)
        rc = union_of_epoch(into, from, &changed);
    if (rc == 0)
        rc = union_of_check(into, from, &changed);
    if (rc == 0)
        rc = union_of_forming(into, from, &changed);
    if (!into->user_signal && from->user_signal) {
        into->user_signal = from->user_signal;
        changed = true;
    }
    if (from->port_serial > into->port_serial) {
        into->port_serial = from->port_serial;
        into->port = from->port;
        changed = true;
    }
    *ret_changed = changed;
    return rc;
}

int pm_report_copy(struct pm_report *into, const struct pm_report *from)
{
    pm_report_init(into);
    bool changed;
    int rc = pm_report_union(into, from, &changed);
    for (uint32_t i = 0; rc == 0 && i < from->failures.n; i++)
        rc = pm_failures_add(&into->failures, &from->failures.list[i]);
    into->failures.more = from->failures.more;
    if (rc < 0)
        pm_report_done(into);
    return rc;
}

int pm_failures_add(struct pm_failures *list, const struct pm_failure *failure)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (pm_failure_same(&list->list[i], failure))
            return 0;
    if (list->n == PM_FAILURES_MAX) {
        list->more += list->more < UINT32_MAX;
        return 0;
    }
    if (!list->list) {
        list->list = calloc(PM_FAILURES_MAX, sizeof(*list->list));
        if (!list->list)
            return -ENOMEM;
    }
    list->list[list->n++] = *failure;
    return 0;
}

void pm_failures_clear(struct pm_failures *list)
{
    free(list->list);
    *list = (struct pm_failures){0};
}

bool pm_failures_equal(const struct pm_failures *a, const struct pm_failures *b)
{
    if (a->n != b->n || a->more != b->more)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!pm_failure_same(&a->list[i], &b->list[i]))
            return false;
    return true;
}

// Parts that are rarely there, or only while the step forms.
enum {
    HAS_MAP = 1,
    HAS_NODELIST = 2,
    HAS_CANNOT = 4,
    HAS_ANY_ENDED = 8,
    HAS_PLACES = 16,
    HAS_CHECK = 32,
    HAS_SIZES = 64,
    HAS_ALL = 127,
};

static uint8_t report_flags(const struct pm_report *report)
{
    return (uint8_t)((report->map.n ? HAS_MAP : 0) | (report->nodelist ? HAS_NODELIST : 0) |
                     (report->cannot_node != UINT32_MAX ? HAS_CANNOT : 0) |
                     (report->any_ended ? HAS_ANY_ENDED : 0) |
                     (report->places.n ? HAS_PLACES : 0) | (report->check ? HAS_CHECK : 0) |
                     (report->sizes.n ? HAS_SIZES : 0));
}

void pm_write_report(struct pm_writer *w, const struct pm_report *report)
{
    uint8_t flags = report_flags(report);
    pm_write_u8(w, flags);
    pm_write_set(w, &report->joined);
    pm_write_u32(w, report->epoch);
    for (int i = 0; i < PM_MARK_MAX; i++)
        pm_write_set(w, &report->marks[i]);
    pm_write_set(w, &report->left);
    pm_write_set(w, &report->again);
    pm_write_i32(w, report->user_signal);
    pm_write_u64(w, report->port_serial);
    pm_write_u16(w, report->port);
    if (flags & HAS_CHECK) {
        pm_write_u32(w, report->check);
        pm_write_set(w, &report->fit);
    }
    if (flags & HAS_CANNOT) {
        pm_write_u32(w, report->cannot_node);
        pm_write_str(w, report->cannot_text);
    }
    if (flags & HAS_MAP)
        pm_write_map(w, &report->map);
    if (flags & HAS_NODELIST)
        pm_write_str(w, report->nodelist);
    if (flags & HAS_PLACES)
        pm_write_places(w, &report->places);
    if (flags & HAS_SIZES)
        pm_write_places(w, &report->sizes);
    pm_write_u8(w, (uint8_t)report->failures.n);
    for (uint32_t i = 0; i < report->failures.n; i++)
        pm_write_failure(w, &report->failures.list[i]);
    pm_write_u32(w, report->failures.more);
}

static void read_forming(struct pm_reader *r, struct pm_report *ret, uint8_t flags, uint32_t nnodes,
                         uint32_t nranks)
{
    if (flags & HAS_CANNOT) {
        ret->cannot_node = pm_read_u32(r);
        pm_read_str(r, ret->cannot_text, sizeof(ret->cannot_text));
        if (ret->cannot_node >= nnodes)
            r->error = -EBADMSG;
    }
    if (flags & HAS_MAP)
        pm_read_map(r, &ret->map, nranks);
    for (uint32_t i = 0; i < ret->map.n; i++)
        if (ret->map.runs[i].node >= nnodes)
            r->error = -EBADMSG;
    if (flags & HAS_NODELIST)
        ret->nodelist = pm_read_strdup(r, PM_NODELIST_MAX);
    if (flags & HAS_PLACES)
        pm_read_places(r, &ret->places, nnodes);
    if (flags & HAS_SIZES)
        pm_read_places(r, &ret->sizes, nnodes);
}

static void read_failures(struct pm_reader *r, struct pm_report *ret, uint32_t nnodes,
                          uint32_t nranks)
{
    uint8_t n = pm_read_u8(r);
    if (n > PM_FAILURES_MAX)
        r->error = -EBADMSG;
    for (uint8_t i = 0; i < n && !r->error; i++) {
        struct pm_failure failure;
        pm_read_failure(r, &failure, nnodes, nranks);
        if (!r->error && pm_failures_add(&ret->failures, &failure) < 0)
            pm_reader_no_memory(r);
    }
    ret->failures.more = pm_read_u32(r);
}

void pm_read_report(struct pm_reader *r, struct pm_report *ret, uint32_t nnodes, uint32_t nranks)
{
    pm_report_init(ret);
    uint8_t flags = pm_read_u8(r);
    if (flags & ~HAS_ALL)
        r->error = -EBADMSG;
    ret->any_ended = flags & HAS_ANY_ENDED;
    pm_read_set_below(r, &ret->joined, nnodes);
    ret->epoch = pm_read_u32(r);
    for (int i = 0; i < PM_MARK_MAX; i++)
        pm_read_set_below(r, &ret->marks[i], nnodes);
    pm_read_set_below(r, &ret->left, nranks);
    pm_read_set(r, &ret->again, PM_SPANS_MAX);
    ret->user_signal = pm_read_i32(r);
    if (ret->user_signal < 0 || ret->user_signal > 64) // SIGRTMAX
        r->error = -EBADMSG;
    ret->port_serial = pm_read_u64(r);
    ret->port = pm_read_u16(r);
    if (flags & HAS_CHECK) {
        ret->check = pm_read_u32(r);
        pm_read_set_below(r, &ret->fit, nnodes);
        if (ret->check == 0)
            r->error = -EBADMSG;
    }
    read_forming(r, ret, flags, nnodes, nranks);
    read_failures(r, ret, nnodes, nranks);
}

// But for the texts, which decide nothing.
void pm_report_digest(const struct pm_report *report, struct pm_digest *d)
{
    pm_digest_set(d, &report->joined);
    pm_digest_u64(d, report->epoch);
    for (int i = 0; i < PM_MARK_MAX; i++)
        pm_digest_set(d, &report->marks[i]);
    pm_digest_set(d, &report->left);
    pm_digest_set(d, &report->again);
    pm_digest_u64(d, (uint64_t)report->any_ended << 32 | (uint32_t)report->user_signal);
    pm_digest_u64(d, report->port_serial << 16 | report->port);
    pm_digest_u64(d, report->cannot_node);
    pm_digest_u64(d, report->check);
    pm_digest_set(d, &report->fit);
    pm_digest_u64(d, report->nodelist != NULL);
    pm_digest_u64(d, report->map.n);
    for (uint32_t i = 0; i < report->map.n; i++)
        pm_digest_u64(d, (uint64_t)report->map.runs[i].rank << 32 | report->map.runs[i].node);
    pm_places_digest(&report->places, d);
    pm_places_digest(&report->sizes, d);
    pm_failures_digest(&report->failures, d);
}

void pm_failures_digest(const struct pm_failures *list, struct pm_digest *d)
{
    pm_digest_u64(d, (uint64_t)list->n << 32 | list->more);
    for (uint32_t i = 0; i < list->n; i++)
        pm_digest_failure(d, &list->list[i]);
}
