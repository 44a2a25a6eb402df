// SPDX-License-Identifier: Apache-2.0
//
// The record that flows down (record.h): only the coordinator writes it, everybody else takes the
// one with the highest version.
#include "pmix_server/core/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *pm_phase_name(enum pm_phase phase)
{
    static const char *const names[PM_PHASE_MAX] = {
        [PM_PHASE_FORM] = "form",   [PM_PHASE_START] = "start", [PM_PHASE_HALT] = "halt",
        [PM_PHASE_DRAIN] = "drain", [PM_PHASE_STOP] = "stop",   [PM_PHASE_KILL] = "kill",
        [PM_PHASE_END] = "end",
    };
    return (unsigned)phase < PM_PHASE_MAX ? names[phase] : "?";
}

void pm_wanted_done(struct pm_wanted *wanted)
{
    pm_set_done(&wanted->dead);
    pm_set_done(&wanted->left);
    pm_set_done(&wanted->lost);
    pm_set_done(&wanted->probe);
    free(wanted->again);
    free(wanted->notices);
    *wanted = (struct pm_wanted){0};
}

static void *copy_array(const void *from, uint32_t n, size_t size)
{
    void *into = malloc(n ? n * size : 1);
    if (into && n)
        memcpy(into, from, n * size);
    return into;
}

int pm_wanted_copy(struct pm_wanted *into, const struct pm_wanted *from)
{
    *into = *from;
    into->dead = into->left = into->lost = into->probe = (struct pm_set){0};
    into->again = copy_array(from->again, from->n_again, sizeof(*from->again));
    into->notices = copy_array(from->notices, from->n_notices, sizeof(*from->notices));
    if (into->again && into->notices && pm_set_copy(&into->dead, &from->dead) == 0 &&
        pm_set_copy(&into->left, &from->left) == 0 && pm_set_copy(&into->lost, &from->lost) == 0 &&
        pm_set_copy(&into->probe, &from->probe) == 0)
        return 0;
    pm_wanted_done(into);
    return -ENOMEM;
}

// Index of the first entry with this rank or a higher one.
static uint32_t again_lower(const struct pm_wanted *wanted, uint32_t rank)
{
    uint32_t lo = 0, hi = wanted->n_again;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (wanted->again[mid].rank < rank)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct pm_again *pm_wanted_again_of(const struct pm_wanted *wanted, uint32_t rank)
{
    uint32_t at = again_lower(wanted, rank);
    return at < wanted->n_again && wanted->again[at].rank == rank ? &wanted->again[at] : NULL;
}

uint32_t pm_wanted_incarnation(const struct pm_wanted *wanted, uint32_t rank)
{
    const struct pm_again *alone = pm_wanted_again_of(wanted, rank);
    return wanted->epoch + (alone ? alone->times : 0);
}

int pm_wanted_again(struct pm_wanted *wanted, uint32_t rank)
{
    uint32_t at = again_lower(wanted, rank);
    if (at < wanted->n_again && wanted->again[at].rank == rank) {
        wanted->again[at].times++;
        wanted->again[at].serial = ++wanted->again_serial;
        return 0;
    }
    struct pm_again *again = realloc(wanted->again, (wanted->n_again + 1u) * sizeof(*again));
    if (!again)
        return -ENOMEM;
    memmove(&again[at + 1], &again[at], (wanted->n_again - at) * sizeof(*again));
    again[at] = (struct pm_again){.rank = rank, .times = 1, .serial = ++wanted->again_serial};
    wanted->again = again;
    wanted->n_again++;
    return 0;
}

int pm_wanted_notice(struct pm_wanted *wanted, const struct pm_failure *failure)
{
    struct pm_notice *notices =
        realloc(wanted->notices, (wanted->n_notices + 1u) * sizeof(*notices));
    if (!notices)
        return -ENOMEM;
    wanted->notices = notices;
    uint64_t serial = wanted->n_notices ? notices[wanted->n_notices - 1].serial + 1 : 1;
    if (wanted->n_notices == PM_NOTICES_MAX) {
        memmove(&notices[0], &notices[1], (PM_NOTICES_MAX - 1) * sizeof(*notices));
        wanted->n_notices--;
    }
    struct pm_notice *notice = &notices[wanted->n_notices++];
    *notice = (struct pm_notice){.serial = serial,
                                 .rank = failure->rank,
                                 .incarnation = failure->incarnation,
                                 .cause = failure->cause,
                                 .wait_status = failure->wait_status};
    pm_text_copy(notice->text, sizeof(notice->text), failure->text);
    return 0;
}

bool pm_wanted_handles(const struct pm_wanted *wanted, const struct pm_failure *failure)
{
    if (wanted->phase == PM_PHASE_END)
        return true;
    bool drains = wanted->phase == PM_PHASE_DRAIN;
    if (drains && failure->cause == PM_CAUSE_SHIM_LOST && failure->epoch == wanted->epoch)
        return pm_set_has(&wanted->dead, failure->rank);
    if (pm_cause_is_loss(failure->cause))
        return pm_set_has(&wanted->lost, failure->node);
    if (failure->epoch != wanted->epoch)
        return failure->epoch < wanted->epoch;
    // The decision to end the epoch covers all that fails in it. Who drains may have no end before an abort.
    if (wanted->phase > PM_PHASE_START && !(drains && failure->cause == PM_CAUSE_ABORT))
        return true;
    if (failure->rank == PM_RANK_NONE)
        return false;
    return failure->incarnation < pm_wanted_incarnation(wanted, failure->rank) ||
           pm_set_has(&wanted->dead, failure->rank);
}

static void write_again(struct pm_writer *w, const struct pm_wanted *wanted)
{
    uint32_t before = 0;
    pm_write_var(w, wanted->again_known);
    pm_write_var(w, wanted->n_again);
    for (uint32_t i = 0; i < wanted->n_again; i++) {
        pm_write_var(w, wanted->again[i].rank - before);
        pm_write_var(w, wanted->again[i].times);
        pm_write_var(w, wanted->again[i].serial);
        before = wanted->again[i].rank;
    }
}

static void write_notices(struct pm_writer *w, const struct pm_wanted *wanted)
{
    pm_write_u8(w, (uint8_t)wanted->n_notices);
    for (uint32_t i = 0; i < wanted->n_notices; i++) {
        const struct pm_notice *notice = &wanted->notices[i];
        pm_write_var(w, notice->serial);
        pm_write_u32(w, notice->rank);
        pm_write_u32(w, notice->incarnation);
        pm_write_u8(w, (uint8_t)notice->cause);
        pm_write_i32(w, notice->wait_status);
        pm_write_str(w, notice->text);
    }
}

enum { HAVE_NODELIST = 1, HAS_END_STATUS = 2, HAS_CHECK = 4, HAS_ALL = 7 };

static uint8_t wanted_flags(const struct pm_wanted *wanted)
{
    return (uint8_t)((wanted->have_nodelist ? HAVE_NODELIST : 0) |
                     (wanted->has_end_status ? HAS_END_STATUS : 0) | (wanted->check ? HAS_CHECK : 0));
}

void pm_write_wanted(struct pm_writer *w, const struct pm_wanted *wanted)
{
    pm_write_u64(w, wanted->version);
    pm_write_u32(w, wanted->launch);
    pm_write_u32(w, wanted->epoch);
    pm_write_u8(w, (uint8_t)wanted->phase);
    pm_write_u64(w, wanted->view);
    pm_write_u32(w, wanted->map_version);
    pm_write_u64(w, wanted->grace_ms);
    pm_write_u16(w, wanted->port);
    pm_write_u32(w, wanted->host);
    pm_write_u8(w, (uint8_t)wanted->restart_cause);
    pm_write_u32(w, wanted->restart_rank);
    pm_write_u8(w, wanted_flags(wanted));
    pm_write_i32(w, wanted->end_status);
    pm_write_set(w, &wanted->dead);
    pm_write_set(w, &wanted->left);
    pm_write_set(w, &wanted->lost);
    if (wanted->check) {
        pm_write_u32(w, wanted->check);
        pm_write_set(w, &wanted->probe);
    }
    write_again(w, wanted);
    write_notices(w, wanted);
}

static void read_again(struct pm_reader *r, struct pm_wanted *ret, uint32_t nranks)
{
    uint64_t known = pm_read_var(r);
    uint32_t n = pm_read_count(r, nranks, 3);
    if (known > UINT32_MAX)
        r->error = -EBADMSG;
    ret->again_known = (uint32_t)known;
    ret->again = calloc(n + 1u, sizeof(*ret->again));
    if (!ret->again)
        pm_reader_no_memory(r);
    uint64_t rank = 0;
    for (uint32_t i = 0; i < n && !r->error; i++) {
        uint64_t gap = pm_read_var(r);
        uint64_t times = pm_read_var(r);
        uint64_t serial = pm_read_var(r);
        rank += gap;
        if (gap >= nranks || rank >= nranks || (i && !gap) || times > UINT32_MAX ||
            serial > UINT32_MAX)
            r->error = -EBADMSG;
        else
            ret->again[ret->n_again++] = (struct pm_again){
                .rank = (uint32_t)rank, .times = (uint32_t)times, .serial = (uint32_t)serial};
    }
}

static void read_notices(struct pm_reader *r, struct pm_wanted *ret, uint32_t nranks)
{
    uint8_t n = pm_read_u8(r);
    if (n > PM_NOTICES_MAX)
        r->error = -EBADMSG;
    ret->notices = calloc(PM_NOTICES_MAX, sizeof(*ret->notices));
    if (!ret->notices)
        pm_reader_no_memory(r);
    for (uint8_t i = 0; i < n && !r->error; i++) {
        struct pm_notice *notice = &ret->notices[ret->n_notices++];
        notice->serial = pm_read_var(r);
        notice->rank = pm_read_u32(r);
        notice->incarnation = pm_read_u32(r);
        notice->cause = pm_read_cause(r);
        notice->wait_status = pm_read_i32(r);
        pm_read_str(r, notice->text, sizeof(notice->text));
        if (notice->rank >= nranks || (i && notice->serial <= ret->notices[i - 1].serial))
            r->error = -EBADMSG;
    }
}

void pm_read_wanted(struct pm_reader *r, struct pm_wanted *ret, uint32_t nnodes, uint32_t nranks)
{
    *ret = (struct pm_wanted){0};
    ret->version = pm_read_u64(r);
    ret->launch = pm_read_u32(r);
    ret->epoch = pm_read_u32(r);
    uint8_t phase = pm_read_u8(r);
    ret->phase = phase < PM_PHASE_MAX ? (enum pm_phase)phase : PM_PHASE_FORM;
    ret->view = pm_read_u64(r);
    ret->map_version = pm_read_u32(r);
    ret->grace_ms = pm_read_u64(r);
    ret->port = pm_read_u16(r);
    ret->host = pm_read_u32(r);
    ret->restart_cause = pm_read_cause(r);
    ret->restart_rank = pm_read_u32(r);
    uint8_t flags = pm_read_u8(r);
    ret->have_nodelist = flags & HAVE_NODELIST;
    ret->has_end_status = flags & HAS_END_STATUS;
    ret->end_status = pm_read_i32(r);
    if (phase >= PM_PHASE_MAX || flags > HAS_ALL)
        r->error = -EBADMSG;
    pm_read_set_below(r, &ret->dead, nranks);
    pm_read_set_below(r, &ret->left, nranks);
    pm_read_set_below(r, &ret->lost, nnodes);
    if (flags & HAS_CHECK) {
        ret->check = pm_read_u32(r);
        pm_read_set_below(r, &ret->probe, nnodes);
        if (ret->check == 0)
            r->error = -EBADMSG;
    }
    read_again(r, ret, nranks);
    read_notices(r, ret, nranks);
}

static void digest_notice(const struct pm_notice *notice, struct pm_digest *d)
{
    pm_digest_u64(d, notice->serial);
    pm_digest_u64(d, (uint64_t)notice->rank << 32 | notice->incarnation);
    pm_digest_u64(d, (uint64_t)notice->cause << 32 | (uint32_t)notice->wait_status);
}

// Not the version, which means something only beside another one; nor texts, and the view, which decide
// nothing.
void pm_wanted_digest(const struct pm_wanted *wanted, struct pm_digest *d)
{
    pm_digest_u64(d, wanted->launch);
    pm_digest_u64(d, (uint64_t)wanted->epoch << 32 | (uint32_t)wanted->phase);
    pm_digest_u64(d, (uint64_t)wanted->map_version << 32 | wanted->port);
    pm_digest_u64(d, wanted->grace_ms);
    pm_digest_u64(d, (uint64_t)wanted->host << 32 | wanted->restart_rank);
    pm_digest_u64(d, (uint64_t)wanted->restart_cause << 32 | (uint32_t)wanted->end_status);
    pm_digest_u64(d, (uint64_t)wanted->have_nodelist << 32 | wanted->has_end_status);
    pm_digest_set(d, &wanted->dead);
    pm_digest_set(d, &wanted->left);
    pm_digest_set(d, &wanted->lost);
    pm_digest_u64(d, wanted->check);
    pm_digest_set(d, &wanted->probe);
    pm_digest_u64(d, (uint64_t)wanted->n_again << 32 | wanted->n_notices);
    for (uint32_t i = 0; i < wanted->n_again; i++) {
        pm_digest_u64(d, (uint64_t)wanted->again[i].rank << 32 | wanted->again[i].times);
        pm_digest_u64(d, wanted->again[i].serial);
    }
    pm_digest_u64(d, (uint64_t)wanted->again_serial << 32 | wanted->again_known);
    for (uint32_t i = 0; i < wanted->n_notices; i++)
        digest_notice(&wanted->notices[i], d);
}
