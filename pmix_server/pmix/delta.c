// SPDX-License-Identifier: Apache-2.0
//
// See delta.h for the contract.
//
// A hash table with linear probing. An entry remembers the value that was sent last and the fence
// that carried it; that fence is under way (in `pending`), or the entry counts as known. An entry also
// has the age of its rank: who forgets a rank, or everything, makes the ranks older and need not look
// at the table.
#include "pmix_server/pmix/delta.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "pmix_server/pmix/modex_blob.h"

enum {
    HASH = crypto_shorthash_siphashx24_BYTES,
    KEY = crypto_shorthash_siphashx24_KEYBYTES,
    RANKS = 1024,       // ranks that are the same modulo this age together
    PENDING_MAX = 16,   // fences over all ranks at once whose success is noted
    CAP_MIN = 256,
};

struct entry {
    uint8_t id[HASH];     // of rank and name
    uint8_t value[HASH];
    uint64_t fence;       // 0: not known
    uint32_t age;         // of the rank when this was sent
    uint32_t visit;       // call of pm_delta_write that looked at it last; 0: entry is free
};

static struct {
    pthread_mutex_t mutex;
    bool has_key;
    uint8_t key[KEY];
    struct entry *entries;
    size_t n;
    size_t cap;  // power of two
    uint64_t pending[PENDING_MAX];
    uint32_t ages[RANKS];
    uint32_t visits;
} delta = {.mutex = PTHREAD_MUTEX_INITIALIZER};

// --- what is known ---

static void forget_all(void)
{
    for (size_t i = 0; i < RANKS; i++)
        delta.ages[i]++;
}

static uint64_t *find_pending(uint64_t fence)
{
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (delta.pending[i] == fence)
            return &delta.pending[i];
    return NULL;
}

static bool is_known(const struct entry *entry, const struct pm_modex_kval *kval,
                     const uint8_t value[static HASH])
{
    return entry->fence && !find_pending(entry->fence) && entry->age == delta.ages[kval->rank % RANKS]
           && !memcmp(entry->value, value, HASH);
}

// --- the table ---

static bool get_key(void)
{
    if (!delta.has_key)
        delta.has_key = getrandom(delta.key, KEY, 0) == KEY;
    return delta.has_key;
}

static void hash_kval(const struct pm_modex_kval *kval, uint8_t ret_id[static HASH],
                      uint8_t ret_value[static HASH])
{
    crypto_shorthash_siphashx24(ret_id, kval->name.data, kval->name.len, delta.key);
    for (int i = 0; i < 4; i++)
        ret_id[i] ^= (uint8_t)(kval->rank >> (8 * i));
    crypto_shorthash_siphashx24(ret_value, kval->value.data, kval->value.len, delta.key);
}

// Where the id is, or where it would be put. The ids of one name differ by little from rank to rank;
// multiplied they lie apart.
static struct entry *slot(struct entry *entries, size_t cap, const uint8_t id[static HASH])
{
    uint64_t start;
    memcpy(&start, id, sizeof(start));
    start = start * UINT64_C(0x9e3779b97f4a7c15) >> 32;
    for (size_t i = start & (cap - 1);; i = (i + 1) & (cap - 1))
        if (!entries[i].visit || !memcmp(entries[i].id, id, HASH))
            return &entries[i];
}

static bool grow(void)
{
    size_t cap = delta.cap ? 2 * delta.cap : CAP_MIN;
    struct entry *entries = calloc(cap, sizeof(*entries));
    if (!entries)
        return false;
    for (size_t i = 0; i < delta.cap; i++)
        if (delta.entries[i].visit)
            *slot(entries, cap, delta.entries[i].id) = delta.entries[i];
    free(delta.entries);
    delta.entries = entries;
    delta.cap = cap;
    return true;
}

// Finds or makes the entry; NULL if there is no room.
static struct entry *get_entry(const uint8_t id[static HASH])
{
    if (delta.cap) {
        struct entry *entry = slot(delta.entries, delta.cap, id);
        if (entry->visit)
            return entry;
    }
    if (delta.n >= PM_DELTA_KEYS_MAX || (2 * (delta.n + 1) > delta.cap && !grow()))
        return NULL;
    struct entry *entry = slot(delta.entries, delta.cap, id);
    *entry = (struct entry){.visit = UINT32_MAX};  // not 0 and no visit yet, see next_visit
    memcpy(entry->id, id, HASH);
    delta.n++;
    return entry;
}

static uint32_t next_visit(void)
{
    if (++delta.visits == UINT32_MAX)
        delta.visits = 1;
    return delta.visits;
}

// --- a fence ---

// Decides which kvals to keep and notes that `fence` (0: one that makes nothing known) carries them.
// False if one rank has a name twice: then there is more to a value than its name (PMIX_QUALIFIED_VALUE).
static bool choose(struct pm_modex_blob *blob, uint64_t fence)
{
    uint32_t visit = next_visit();
    for (size_t i = 0; i < blob->n_kvals; i++) {
        struct pm_modex_kval *kval = &blob->kvals[i];
        uint8_t id[HASH], value[HASH];
        hash_kval(kval, id, value);
        struct entry *entry = get_entry(id);
        if (!entry)
            continue;
        if (entry->visit == visit)
            return false;
        entry->visit = visit;
        kval->keep = !is_known(entry, kval, value);
        if (!kval->keep)
            continue;
        entry->fence = fence;
        entry->age = delta.ages[kval->rank % RANKS];
        memcpy(entry->value, value, HASH);
    }
    return true;
}

// True: *blob says what to send.
static bool reduce(struct pm_modex_blob *blob, uint64_t fence, const void *data, size_t len)
{
    return get_key() && pm_modex_blob_parse(blob, data, len) == 0
           && pm_modex_blob_is(blob, data, len) && choose(blob, fence);
}

void pm_delta_write(uint64_t id, bool of_world, const void *data, size_t len, struct pm_writer *w)
{
    struct pm_modex_blob blob = {0};
    pthread_mutex_lock(&delta.mutex);
    uint64_t *free_place = of_world ? find_pending(0) : NULL;
    if (free_place)
        *free_place = id;
    if (reduce(&blob, free_place ? id : 0, data, len)) {
        pm_modex_blob_write(&blob, w);
    } else {
        forget_all();
        pm_write_bytes(w, data, len);
    }
    pthread_mutex_unlock(&delta.mutex);
    pm_modex_blob_done(&blob);
}

void pm_delta_fence_done(uint64_t id, bool ok)
{
    pthread_mutex_lock(&delta.mutex);
    uint64_t *pending = id ? find_pending(id) : NULL;
    if (pending)
        *pending = 0;
    for (size_t i = 0; pending && !ok && i < delta.cap; i++)
        if (delta.entries[i].fence == id)
            delta.entries[i].fence = 0;
    pthread_mutex_unlock(&delta.mutex);
}

void pm_delta_rank_fetched(uint32_t rank)
{
    pthread_mutex_lock(&delta.mutex);
    delta.ages[rank % RANKS]++;
    pthread_mutex_unlock(&delta.mutex);
}
