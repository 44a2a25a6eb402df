// SPDX-License-Identifier: Apache-2.0
//
// pmix_probe's verbs about exchanged data: put, commit, get, fence, fence-wait.
//
// A value's bytes follow from (owner, epoch, key) alone, so every reader can check every byte, and
// a value of an older epoch is found out. Each fence round uses a key of its own. A fence prints
// the clock at entry and exit: the latest entry must not be later than the earliest exit. Line:
// "fence rank=R epoch=E step=N round=K ranks=LIST collect=B enter_ns=.. exit_ns=.. rc=S checked=N"
// where checked counts the participants whose bytes were right.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"

enum { PENDING_MAX = 16, PAYLOAD_MAX = 16 << 20, KEY_MAX = 128 };

// One fence under way; its callback comes on libpmix' thread.
struct pending {
    const struct probe_step *step;
    long round;
    int64_t enter_ns;
    int64_t exit_ns;
    pmix_status_t status;
    bool done;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct pending pending[PENDING_MAX];
static size_t pending_count;

// --- values ---

static size_t size_of(const struct probe_step *step)
{
    return (size_t)test_number(probe_text(step, "bytes", "0"), 0, PAYLOAD_MAX, "bytes");
}

static void fill(char *bytes, size_t size, long owner, long epoch, const char *key)
{
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(owner + 1) + (uint64_t)epoch;
    for (const char *at = key; *at != '\0'; at++)
        state = (state ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (char)state;
    }
}

static char *pattern(size_t size, long owner, long epoch, const char *key)
{
    char *bytes = malloc(size + 1);
    if (bytes == NULL)
        test_die("no memory for %zu bytes", size);
    fill(bytes, size, owner, epoch, key);
    return bytes;
}

static void put_value(const struct probe *probe, pmix_scope_t scope, const char *key, size_t size)
{
    char *bytes = pattern(size, probe->me.rank, probe->me.epoch, key);
    pmix_value_t value = {
        .type = PMIX_BYTE_OBJECT,
        .data.bo = {.bytes = bytes, .size = size},
    };
    probe_must(PMIx_Put(scope, key, &value), "PMIx_Put");
    free(bytes);
}

// Gets one value and checks it. checked: set if the bytes were compared and right.
static pmix_status_t get_value(const struct probe *probe, long owner, const char *key, size_t size,
                               int timeout_s)
{
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, probe->self.nspace, (pmix_rank_t)owner);
    pmix_info_t timeout;
    PMIX_INFO_LOAD(&timeout, PMIX_TIMEOUT, &timeout_s, PMIX_INT);
    pmix_value_t *value = NULL;
    pmix_status_t status = PMIx_Get(&proc, key, &timeout, timeout_s > 0, &value);
    if (status != PMIX_SUCCESS)
        return status;
    char *wanted = pattern(size, owner, probe->me.epoch, key);
    if (value->type != PMIX_BYTE_OBJECT || value->data.bo.size != size ||
        memcmp(value->data.bo.bytes, wanted, size) != 0)
        test_die("rank %ld: '%s' of rank %ld is not what that rank put: %zu bytes", probe->me.rank,
                 key, owner, value->type == PMIX_BYTE_OBJECT ? value->data.bo.size : 0);
    free(wanted);
    PMIX_VALUE_RELEASE(value);
    return PMIX_SUCCESS;
}

void probe_put(struct probe *probe, const struct probe_step *step)
{
    const char *scope = probe_text(step, "scope", "global");
    pmix_scope_t value = strcmp(scope, "local") == 0    ? PMIX_LOCAL
                         : strcmp(scope, "remote") == 0 ? PMIX_REMOTE
                                                        : PMIX_GLOBAL;
    put_value(probe, value, probe_text(step, "key", "probe"), size_of(step));
}

void probe_commit(struct probe *probe, const struct probe_step *step)
{
    (void)step;
    probe_must(PMIx_Commit(), "PMIx_Commit");
    test_say("commit rank=%ld boottime_ns=%lld", probe->me.rank, (long long)test_boottime_ns());
}

void probe_get(struct probe *probe, const struct probe_step *step)
{
    const char *key = probe_text(step, "key", "probe");
    long owner = probe_number(step, "rank", 0);
    int64_t enter_ns = test_boottime_ns();
    pmix_status_t status =
        get_value(probe, owner, key, size_of(step), (int)probe_number(step, "timeout", 0));
    int64_t exit_ns = test_boottime_ns();
    test_say("get rank=%ld of=%ld key=%s enter_ns=%lld exit_ns=%lld rc=%d name=%s", probe->me.rank,
             owner, key, (long long)enter_ns, (long long)exit_ns, status,
             PMIx_Error_string(status));
    probe_expect(step, status, "PMIx_Get");
}

// --- fences ---

static void round_key(char key[static KEY_MAX], const struct probe_step *step, long round)
{
    (void)snprintf(key, KEY_MAX, "probe.step%ld.round%ld", step->number, round);
}

static void fence_done(pmix_status_t status, void *data)
{
    struct pending *fence = data;
    int64_t now_ns = test_boottime_ns();
    (void)pthread_mutex_lock(&lock);
    fence->exit_ns = now_ns;
    fence->status = status;
    fence->done = true;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

static struct pending *start_fence(const struct probe *probe, const struct probe_step *step,
                                   long round)
{
    if (pending_count == PENDING_MAX)
        test_die("step '%s': more than %d fences at once", step->text, PENDING_MAX);
    struct pending *fence = &pending[pending_count++];
    *fence = (struct pending){.step = step, .round = round, .enter_ns = test_boottime_ns()};
    size_t proc_count;
    pmix_proc_t *procs = probe_participants(probe, probe_text(step, "ranks", "*"), &proc_count);
    bool collect = probe_flag(step, "collect");
    int timeout_s = (int)probe_number(step, "timeout", 0);
    // The library may keep pointers to both until the callback, so they are leaked on purpose.
    pmix_info_t *info;
    PMIX_INFO_CREATE(info, 2);
    size_t info_count = 0;
    if (collect) {
        PMIX_INFO_LOAD(&info[info_count], PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
        info_count++;
    }
    if (timeout_s > 0) {
        PMIX_INFO_LOAD(&info[info_count], PMIX_TIMEOUT, &timeout_s, PMIX_INT);
        info_count++;
    }
    pmix_status_t status = PMIx_Fence_nb(procs, proc_count, info_count > 0 ? info : NULL,
                                         info_count, fence_done, fence);
    if (status != PMIX_SUCCESS) // there will be no callback
        fence_done(status == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : status, fence);
    return fence;
}

// Reads back what every participant put for this round; returns how many there were.
static long check_round(const struct probe *probe, const struct pending *fence)
{
    const struct probe_step *step = fence->step;
    size_t size = size_of(step);
    long checked = 0;
    char key[KEY_MAX];
    round_key(key, step, fence->round);
    for (long rank = 0; size > 0 && rank < probe->size; rank++) {
        if (!test_list_has(probe_text(step, "ranks", "*"), rank))
            continue;
        pmix_status_t status = get_value(probe, rank, key, size, 10);
        if (status != PMIX_SUCCESS)
            test_die("step '%s' round %ld: rank %ld cannot get the value of rank %ld: %d (%s)",
                     step->text, fence->round, probe->me.rank, rank, status,
                     PMIx_Error_string(status));
        checked++;
    }
    return checked;
}

static void finish_fence(const struct probe *probe, struct pending *fence)
{
    (void)pthread_mutex_lock(&lock);
    while (!fence->done)
        (void)pthread_cond_wait(&changed, &lock);
    (void)pthread_mutex_unlock(&lock);
    long checked = fence->status == PMIX_SUCCESS ? check_round(probe, fence) : 0;
    test_say("fence rank=%ld epoch=%ld step=%ld round=%ld ranks=%s collect=%d enter_ns=%lld "
             "exit_ns=%lld rc=%d checked=%ld name=%s",
             probe->me.rank, probe->me.epoch, fence->step->number, fence->round,
             probe_text(fence->step, "ranks", "*"), probe_flag(fence->step, "collect"),
             (long long)fence->enter_ns, (long long)fence->exit_ns, fence->status, checked,
             PMIx_Error_string(fence->status));
    probe_expect(fence->step, fence->status, "PMIx_Fence");
}

static void run_round(const struct probe *probe, const struct probe_step *step, long round)
{
    if (size_of(step) > 0) {
        char key[KEY_MAX];
        round_key(key, step, round);
        put_value(probe, PMIX_GLOBAL, key, size_of(step));
        probe_must(PMIx_Commit(), "PMIx_Commit");
    }
    if (probe->me.rank == probe_number(step, "late", -1) &&
        round == probe_number(step, "late-round", 0))
        test_sleep_ms(probe_number(step, "late-ms", 0));
    struct pending *fence = start_fence(probe, step, round);
    if (probe_flag(step, "nb"))
        return;
    finish_fence(probe, fence);
    pending_count--;
}

void probe_fence(struct probe *probe, const struct probe_step *step)
{
    if (!test_list_has(probe_text(step, "ranks", "*"), probe->me.rank))
        return;
    if (pending_count > 0 && !probe_flag(step, "nb"))
        test_die("step '%s': put fence-wait before it", step->text);
    long rounds = probe_number(step, "rounds", 1);
    for (long round = 0; round < rounds; round++)
        run_round(probe, step, round);
}

void probe_fence_wait(struct probe *probe, const struct probe_step *step)
{
    (void)step;
    for (size_t i = 0; i < pending_count; i++)
        finish_fence(probe, &pending[i]);
    pending_count = 0;
}
