// SPDX-License-Identifier: Apache-2.0
//
// See modex_blob.h for the contract.
#include "pmix_server/pmix/modex_blob.h"

#include <errno.h>
#include <pmix_common.h>
#include <stdlib.h>
#include <string.h>

enum { ONE = 2 };  // the count 1, zigzag
enum { FLAG_COLLECT = 1, FLAG_MAP = 2 };

// --- reading ---

// How long a value is, by its type.
enum shape { UNKNOWN, EMPTY, OCTET, NUMBER, TWO_NUMBERS, STRING, OBJECT, STRING_AND_NUMBER };

static const uint8_t shapes[] = {
    [PMIX_UNDEF] = EMPTY,
    [PMIX_BOOL] = OCTET,
    [PMIX_BYTE] = OCTET,
    [PMIX_INT8] = OCTET,
    [PMIX_UINT8] = OCTET,
    [PMIX_SIZE] = NUMBER,
    [PMIX_INT] = NUMBER,
    [PMIX_INT16] = NUMBER,
    [PMIX_INT32] = NUMBER,
    [PMIX_INT64] = NUMBER,
    [PMIX_UINT] = NUMBER,
    [PMIX_UINT16] = NUMBER,
    [PMIX_UINT32] = NUMBER,
    [PMIX_UINT64] = NUMBER,
    [PMIX_TIME] = NUMBER,
    [PMIX_STATUS] = NUMBER,
    [PMIX_PROC_RANK] = NUMBER,
    [PMIX_PID] = TWO_NUMBERS,  // the first is the type behind pid_t
    [PMIX_TIMEVAL] = TWO_NUMBERS,
    [PMIX_STRING] = STRING,
    [PMIX_FLOAT] = STRING,
    [PMIX_DOUBLE] = STRING,
    [PMIX_BYTE_OBJECT] = OBJECT,
    [PMIX_COMPRESSED_STRING] = OBJECT,
    [PMIX_COMPRESSED_BYTE_OBJECT] = OBJECT,
    [PMIX_PROC] = STRING_AND_NUMBER,
};

static void refuse(struct pm_reader *r)
{
    r->error = -EBADMSG;
}

static void read_one(struct pm_reader *r)
{
    if (pm_read_u8(r) != ONE)
        refuse(r);
}

// A length or count that libpmix packs as a signed 32-bit number.
static size_t read_signed(struct pm_reader *r)
{
    uint64_t v = pm_read_var(r);
    if (v & 1 || v >> 1 > INT32_MAX)
        refuse(r);
    return r->error ? 0 : (size_t)(v >> 1);
}

// Up to eight bytes with a continuation bit each, then at most one with eight bits of content.
static void skip_number(struct pm_reader *r)
{
    for (int i = 0; i < 8; i++)
        if (!(pm_read_u8(r) & 0x80))
            return;
    pm_read_u8(r);
}

static void skip_string(struct pm_reader *r)
{
    size_t len = read_signed(r);
    pm_read_raw(r, len);
}

static struct pm_modex_bytes read_name(struct pm_reader *r)
{
    size_t len = read_signed(r);
    const uint8_t *name = pm_read_raw(r, len);
    if (!name || !len || strnlen((const char *)name, len) != len - 1) {
        refuse(r);
        return (struct pm_modex_bytes){0};
    }
    return (struct pm_modex_bytes){name, len};
}

// What a byte object holds.
static struct pm_reader read_object(struct pm_reader *r)
{
    uint64_t len = pm_read_var(r);
    if (len > r->left)
        refuse(r);
    const uint8_t *data = r->error ? NULL : pm_read_raw(r, (size_t)len);
    return pm_reader_of(data, data ? (size_t)len : 0);
}

static void skip_shape(struct pm_reader *r, enum shape shape)
{
    switch (shape) {
    case EMPTY:
        return;
    case OCTET:
        pm_read_u8(r);
        return;
    case TWO_NUMBERS:
        skip_number(r);
        skip_number(r);
        return;
    case STRING:
        skip_string(r);
        return;
    case OBJECT:
        read_object(r);
        return;
    case STRING_AND_NUMBER:
        skip_string(r);
        skip_number(r);
        return;
    case NUMBER:
        skip_number(r);
        return;
    case UNKNOWN:
        refuse(r);
    }
}

static struct pm_modex_bytes read_value(struct pm_reader *r)
{
    const uint8_t *begin = r->at;
    uint64_t type = pm_read_var(r);
    skip_shape(r, type < sizeof(shapes) ? (enum shape)shapes[type] : UNKNOWN);
    return (struct pm_modex_bytes){begin, (size_t)(r->at - begin)};
}

// Room for one more item; NULL without memory.
static void *grow(void *items, size_t n, size_t *cap, size_t item_size)
{
    if (n < *cap)
        return items;
    size_t more = *cap ? 2 * *cap : 16;
    void *ret = reallocarray(items, more, item_size);
    if (ret)
        *cap = more;
    return ret;
}

static void fail(struct pm_reader *r, int error)
{
    if (!r->error)
        r->error = error;
}

static void read_kval(struct pm_reader *r, struct pm_modex_blob *blob, uint32_t rank)
{
    struct pm_modex_kval kval = {.rank = rank, .keep = true};
    read_one(r);
    if (blob->has_map) {
        uint64_t key = pm_read_var(r);
        if (r->error || key >= blob->n_map) {
            refuse(r);
            return;
        }
        kval.key = (uint32_t)key;
        kval.name = blob->map[key];
        read_one(r);
    } else {
        kval.name = read_name(r);
    }
    kval.value = read_value(r);
    void *kvals = grow(blob->kvals, blob->n_kvals, &blob->cap_kvals, sizeof(kval));
    if (!kvals) {
        fail(r, -ENOMEM);
        return;
    }
    blob->kvals = kvals;
    blob->kvals[blob->n_kvals++] = kval;
}

static void read_rank(struct pm_reader *bucket, struct pm_modex_blob *blob)
{
    read_one(bucket);
    struct pm_reader r = read_object(bucket);
    if (bucket->error)
        return;
    read_one(&r);
    uint64_t number = pm_read_var(&r);
    if (number >= UINT32_MAX)
        refuse(&r);
    struct pm_modex_rank rank = {.rank = (uint32_t)number, .first = blob->n_kvals};
    while (r.left && !r.error)
        read_kval(&r, blob, rank.rank);
    rank.n = blob->n_kvals - rank.first;
    void *ranks = r.error ? NULL
                : grow(blob->ranks, blob->n_ranks, &blob->cap_ranks, sizeof(rank));
    if (!ranks) {
        fail(bucket, r.error ? r.error : -ENOMEM);
        return;
    }
    blob->ranks = ranks;
    blob->ranks[blob->n_ranks++] = rank;
}

static void read_map(struct pm_reader *r, struct pm_modex_blob *blob)
{
    read_one(r);
    uint64_t n = pm_read_var(r);
    size_t count = read_signed(r);
    if (r->error || !n || n != count || n > r->left) {
        refuse(r);
        return;
    }
    blob->map = calloc(count, sizeof(*blob->map));
    if (!blob->map) {
        fail(r, -ENOMEM);
        return;
    }
    while (blob->n_map < count && !r->error)
        blob->map[blob->n_map++] = read_name(r);
}

static int read_blob(struct pm_modex_blob *blob, const void *data, size_t len)
{
    struct pm_reader outer = pm_reader_of(data, len);
    read_one(&outer);
    struct pm_reader r = read_object(&outer);
    if (pm_reader_end(&outer))
        return -EBADMSG;
    read_one(&r);
    uint8_t flags = pm_read_u8(&r);
    if (!(flags & FLAG_COLLECT) || flags & ~(FLAG_COLLECT | FLAG_MAP))
        return -EBADMSG;
    blob->has_map = flags & FLAG_MAP;
    if (blob->has_map)
        read_map(&r, blob);
    while (r.left && !r.error)
        read_rank(&r, blob);
    return r.error;
}

int pm_modex_blob_parse(struct pm_modex_blob *blob, const void *data, size_t len)
{
    int error = read_blob(blob, data, len);
    if (error)
        pm_modex_blob_done(blob);
    return error;
}

void pm_modex_blob_done(struct pm_modex_blob *blob)
{
    free(blob->map);
    free(blob->ranks);
    free(blob->kvals);
    *blob = (struct pm_modex_blob){0};
}

// --- writing: the same steps count, compare or write ---

struct sink {
    size_t len;            // so far
    struct pm_writer *w;   // write here, or
    const uint8_t *same;   // compare with this, or only count
    size_t same_len;
    bool differs;
};

// The key map of what is kept: new numbers, 0 for names that are not used.
struct numbers {
    uint32_t *of;
    uint32_t n;
};

static void put(struct sink *s, const void *data, size_t len)
{
    if (s->w)
        pm_write_raw(s->w, data, len);
    if (s->same && !s->differs) {
        const uint8_t *at = s->same + s->len;
        s->differs = len > s->same_len - s->len || (at != data && memcmp(at, data, len));
    }
    s->len += len;
}

static void put_number(struct sink *s, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    put(s, bytes, n);
}

static void put_one(struct sink *s)
{
    put_number(s, ONE);
}

static void put_name(struct sink *s, const struct pm_modex_bytes *name)
{
    put_number(s, (uint64_t)name->len << 1);
    put(s, name->data, name->len);
}

static void put_rank(struct sink *s, const struct pm_modex_blob *blob,
                     const struct numbers *numbers, const struct pm_modex_rank *rank)
{
    put_one(s);
    put_number(s, rank->rank);
    for (size_t i = rank->first; i < rank->first + rank->n; i++) {
        const struct pm_modex_kval *kval = &blob->kvals[i];
        if (!kval->keep)
            continue;
        put_one(s);
        if (blob->has_map) {
            put_number(s, numbers->of[kval->key] - 1);
            put_one(s);
        } else {
            put_name(s, &kval->name);
        }
        put(s, kval->value.data, kval->value.len);
    }
}

static void put_map(struct sink *s, const struct pm_modex_blob *blob,
                    const struct numbers *numbers)
{
    put_one(s);
    put_number(s, numbers->n);
    put_number(s, (uint64_t)numbers->n << 1);
    for (size_t i = 0; i < blob->n_map; i++)
        if (numbers->of[i])
            put_name(s, &blob->map[i]);
}

// A rank that commits nothing has no kvals; one whose kvals are all left out is left out itself.
static bool is_kept(const struct pm_modex_blob *blob, const struct pm_modex_rank *rank)
{
    for (size_t i = rank->first; i < rank->first + rank->n; i++)
        if (blob->kvals[i].keep)
            return true;
    return rank->n == 0;
}

static void put_bucket(struct sink *s, const struct pm_modex_blob *blob,
                       const struct numbers *numbers)
{
    put_one(s);
    uint8_t flags = FLAG_COLLECT | (numbers->n ? FLAG_MAP : 0);
    put(s, &flags, 1);
    if (numbers->n)
        put_map(s, blob, numbers);
    for (size_t i = 0; i < blob->n_ranks; i++) {
        if (!is_kept(blob, &blob->ranks[i]))
            continue;
        struct sink counted = {0};
        put_rank(&counted, blob, numbers, &blob->ranks[i]);
        put_one(s);
        put_number(s, counted.len);
        put_rank(s, blob, numbers, &blob->ranks[i]);
    }
}

static void put_blob(struct sink *s, const struct pm_modex_blob *blob,
                     const struct numbers *numbers)
{
    struct sink counted = {0};
    put_bucket(&counted, blob, numbers);
    put_one(s);
    put_number(s, counted.len);
    put_bucket(s, blob, numbers);
}

// Numbers (from 1) the names that are used, in their order. 0 or -ENOMEM.
static int number_names(const struct pm_modex_blob *blob, struct numbers *ret)
{
    *ret = (struct numbers){.of = calloc(blob->n_map + 1, sizeof(*ret->of))};
    if (!ret->of)
        return -ENOMEM;
    for (size_t i = 0; blob->has_map && i < blob->n_kvals; i++)
        if (blob->kvals[i].keep)
            ret->of[blob->kvals[i].key] = 1;
    for (size_t i = 0; i < blob->n_map; i++)
        if (ret->of[i])
            ret->of[i] = ++ret->n;
    return 0;
}

bool pm_modex_blob_is(const struct pm_modex_blob *blob, const void *data, size_t len)
{
    struct numbers numbers;
    if (number_names(blob, &numbers) < 0)
        return false;
    struct sink s = {.same = data, .same_len = len};
    put_blob(&s, blob, &numbers);
    free(numbers.of);
    return !s.differs && s.len == len;
}

void pm_modex_blob_write(const struct pm_modex_blob *blob, struct pm_writer *w)
{
    struct numbers numbers;
    if (number_names(blob, &numbers) < 0) {
        w->error = -ENOMEM;
        return;
    }
    struct sink counted = {0}, s = {.w = w};
    put_blob(&counted, blob, &numbers);
    pm_write_u32(w, (uint32_t)counted.len);
    put_blob(&s, blob, &numbers);
    free(numbers.of);
}
