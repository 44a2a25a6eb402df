// SPDX-License-Identifier: Apache-2.0
//
// A value is left out of a fence when every server has it, and never when one of them may have
// another: whatever happened to fences before, to fewer ranks, to values that went back to what they
// were, and to ranks that somebody fetched from.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/pmix/delta.h"
#include "pmix_server/pmix/modex_blob.h"

TestSuite(delta, .timeout = 60);

enum { TEXT = 256 };

static uint64_t last_id;

// A byte object of one byte.
struct put {
    uint32_t rank;
    const char *name;
    uint8_t fill;
};

static void put_small(struct pm_writer *w, const struct put *put)
{
    size_t len = strlen(put->name) + 1;
    pm_write_u8(w, 2);
    pm_write_var(w, 2 * len);
    pm_write_raw(w, put->name, len);
    pm_write_u8(w, 27);
    pm_write_u8(w, 1);
    pm_write_u8(w, put->fill);
}

static void put_object(struct pm_writer *w, const struct pm_writer *content)
{
    pm_write_u8(w, 2);
    pm_write_var(w, content->len);
    pm_write_raw(w, content->data, content->len);
}

// What libpmix gives its host, without a map of names. One rank's data per kval: libpmix puts all of a
// rank into one, which makes no difference here.
static struct pm_writer blob_of(const struct put *puts, size_t n)
{
    struct pm_writer bucket = {0}, blob = {0};
    pm_write_u8(&bucket, 2);
    pm_write_u8(&bucket, 1);
    for (size_t i = 0; i < n; i++) {
        struct pm_writer rank = {0};
        pm_write_u8(&rank, 2);
        pm_write_var(&rank, puts[i].rank);
        put_small(&rank, &puts[i]);
        put_object(&bucket, &rank);
        pm_writer_done(&rank);
    }
    put_object(&blob, &bucket);
    pm_writer_done(&bucket);
    return blob;
}

// The kvals of a blob that is to be sent: "RANK.NAME=FILL ..." in order.
static void describe(const struct pm_writer *w, char ret[static TEXT])
{
    struct pm_modex_blob sent = {0};
    struct pm_reader r = pm_reader_of(w->data, w->len);
    size_t len;
    const uint8_t *data = pm_read_bytes(&r, w->len, &len);
    cr_assert_eq(pm_reader_end(&r), 0);
    cr_assert_eq(pm_modex_blob_parse(&sent, data, len), 0);
    ret[0] = '\0';
    for (size_t i = 0; i < sent.n_kvals; i++) {
        const struct pm_modex_kval *kval = &sent.kvals[i];
        size_t used = strlen(ret);
        snprintf(ret + used, TEXT - used, "%s%u.%s=%u", i ? " " : "", kval->rank,
                 (const char *)kval->name.data, kval->value.data[2]);
    }
    pm_modex_blob_done(&sent);
}

// Begins a fence in which libpmix has `puts` to offer and `wanted` is to be sent. Returns its id.
static uint64_t begin(bool of_world, const char *wanted, const struct put *puts, size_t n)
{
    struct pm_writer blob = blob_of(puts, n), w = {0};
    pm_delta_write(++last_id, of_world, blob.data, blob.len, &w);
    char sent[TEXT];
    describe(&w, sent);
    cr_assert_str_eq(sent, wanted, "sent '%s', not '%s'", sent, wanted);
    pm_writer_done(&w);
    pm_writer_done(&blob);
    return last_id;
}

#define PUTS(...)                           \
    (const struct put[]){__VA_ARGS__}, \
        sizeof((const struct put[]){__VA_ARGS__}) / sizeof(struct put)
#define BEGIN(wanted, ...) begin(true, wanted, PUTS(__VA_ARGS__))
#define BEGIN_OF_FEW(wanted, ...) begin(false, wanted, PUTS(__VA_ARGS__))
#define FENCE(wanted, ...) pm_delta_fence_done(BEGIN(wanted, __VA_ARGS__), true)
#define FENCE_OF_FEW(wanted, ...) pm_delta_fence_done(BEGIN_OF_FEW(wanted, __VA_ARGS__), true)

static const struct put a1 = {0, "a", 1}, a2 = {0, "a", 2}, b1 = {0, "b", 1}, other_a1 = {1, "a", 1};

Test(delta, what_all_have_is_left_out)
{
    FENCE("0.a=1", a1);
    FENCE("0.b=1", a1, b1);
    FENCE("", a1, b1);
    FENCE("1.a=1", other_a1, b1, a1);
    FENCE_OF_FEW("", b1, a1);
}

Test(delta, another_value_is_sent_and_so_is_the_old_one_when_it_comes_back)
{
    FENCE("0.a=1", a1);
    FENCE("0.a=2", a2);
    FENCE("", a2);
    FENCE("0.a=1", a1);
    FENCE("", a1);
}

Test(delta, a_fence_of_fewer_ranks_makes_nothing_known)
{
    FENCE_OF_FEW("0.a=1", a1);
    FENCE("0.a=1", a1);
    FENCE_OF_FEW("0.a=2", a2);  // some have 2 now
    FENCE("0.a=1", a1);
    FENCE("", a1);
    FENCE_OF_FEW("0.a=2", a2);
    FENCE("0.a=2", a2);
}

Test(delta, a_fence_that_failed_makes_nothing_known)
{
    pm_delta_fence_done(BEGIN("0.a=1", a1), false);
    FENCE("0.a=1", a1);
    pm_delta_fence_done(BEGIN("0.a=2", a2), false);
    FENCE("0.a=1", a1);
}

Test(delta, nothing_is_known_before_a_fence_has_ended)
{
    uint64_t first = BEGIN("0.a=1", a1);
    uint64_t second = BEGIN_OF_FEW("0.a=2", a2);
    pm_delta_fence_done(first, true);  // its value may have been followed by the second's
    FENCE("0.a=1", a1);
    pm_delta_fence_done(second, true);
    FENCE("", a1);
    first = BEGIN("0.b=1", b1);
    second = BEGIN("0.b=1", b1);
    pm_delta_fence_done(first, true);
    pm_delta_fence_done(second, true);
    FENCE("", b1);
}

Test(delta, many_fences_at_once_make_less_known_but_nothing_wrong)
{
    for (unsigned i = 0; i < 100; i++)
        BEGIN("0.a=1", a1);
    pm_delta_fence_done(last_id, true);
    FENCE("0.a=1", a1);
    pm_delta_fence_done(0, true);
    pm_delta_fence_done(last_id + 1000, false);
}

Test(delta, a_rank_that_was_fetched_from_is_sent_again)
{
    FENCE("0.a=1 1.a=1", a1, other_a1);
    pm_delta_rank_fetched(1);
    FENCE("1.a=1", a1, other_a1);
    uint64_t id = BEGIN("0.a=2", a2, other_a1);
    pm_delta_rank_fetched(0);
    pm_delta_fence_done(id, true);
    FENCE("0.a=2", a2, other_a1);
    FENCE("", a2, other_a1);
}

Test(delta, a_name_that_comes_twice_is_sent_whole_and_forgets_all)
{
    FENCE("0.a=1 0.b=1", a1, b1);
    FENCE("0.a=1 0.a=2 0.b=1", a1, a2, b1);
    FENCE("0.a=1 0.b=1", a1, b1);
    FENCE("", a1, b1);
}

Test(delta, what_is_not_understood_is_sent_as_it_is_and_forgets_all)
{
    static const uint8_t strange[] = {1, 2, 3, 4, 5};
    FENCE("0.a=1", a1);
    struct pm_writer w = {0};
    pm_delta_write(++last_id, true, strange, sizeof(strange), &w);
    cr_assert_eq(w.len, 4 + sizeof(strange));
    cr_assert_arr_eq(w.data + 4, strange, sizeof(strange));
    pm_delta_fence_done(last_id, true);
    pm_writer_done(&w);
    FENCE("0.a=1", a1);
}

// Fences one key of each of many ranks; returns how many bytes are sent.
static size_t fence_column(unsigned column, struct put *puts, uint32_t n_ranks)
{
    char name[16];
    snprintf(name, sizeof(name), "key%u", column);
    for (uint32_t rank = 0; rank < n_ranks; rank++)
        puts[rank] = (struct put){rank, name, 1};
    struct pm_writer blob = blob_of(puts, n_ranks), w = {0};
    pm_delta_write(++last_id, true, blob.data, blob.len, &w);
    pm_delta_fence_done(last_id, true);
    cr_assert_eq(w.error, 0);
    size_t sent = w.len;
    pm_writer_done(&w);
    pm_writer_done(&blob);
    return sent;
}

Test(delta, more_keys_than_can_be_remembered_are_sent_every_time)
{
    enum { RANKS = 8192, COLUMNS = PM_DELTA_KEYS_MAX / RANKS };
    struct put *puts = calloc(RANKS, sizeof(*puts));
    cr_assert_not_null(puts);
    size_t last = 0;
    for (unsigned column = 0; column <= COLUMNS; column++)
        last = fence_column(column, puts, RANKS);
    cr_assert_lt(fence_column(0, puts, RANKS), 16);
    cr_assert_lt(fence_column(COLUMNS - 1, puts, RANKS), 16);
    cr_assert_eq(fence_column(COLUMNS, puts, RANKS), last);
    free(puts);
}
