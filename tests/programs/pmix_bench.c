// SPDX-License-Identifier: Apache-2.0
//
// Times a PMIx server from a rank's side, the same way under srun --mpi=pmix and srun
// --pm-supervise: PMIx_Init, first fence, barriers, collecting fences, direct modex. Also leaves
// time stamps per rank and epoch, from which the restart latency follows.
//
// Order matters: the empty collecting fences run while nothing is committed, and once more when each
// rank has published 1 KiB, as any MPI program has; direct modex runs before any fence has brought the
// values; each round puts one and the same key again, so that the size per rank stays what its name
// says. A fence's time is rank 0's; of init, first fence and the gets also the worst rank's are given.
// Rank 0 prints one JSON object at the end.

#include <argp.h>
#include <errno.h>
#include <pmix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

enum { GET_BYTES = 64, GET_TIMEOUT_S = 20, JSON_SIZE = TEST_LINE_MAX - 1 };

struct settings {
    long rounds;
    long gets;
    const char *stamp_dir;
    long die_rank;
    long die_after_s;
    long lives;
};

// n samples in nanoseconds; failed counts what gave an error and has no sample.
struct samples {
    int64_t *ns;
    size_t count;
    long failed;
};

struct bench {
    struct test_identity me;
    pmix_proc_t self;
    long size;
    long nodes;
    char *local_peers;
    int64_t init_ns;
    int64_t first_fence_ns;
    struct samples empty, barrier, kib1, empty_after_kib1, kib16, kib1_new, kib16_new, get;
};

// What every rank tells rank 0 at the end.
struct report {
    int64_t init_ns, first_fence_ns, get_p50_ns, get_p99_ns, get_count, get_failed;
};

static void must(pmix_status_t status, const char *call)
{
    if (status != PMIX_SUCCESS)
        test_die("%s failed with %d (%s)", call, status, PMIx_Error_string(status));
}

// --- samples ---

static struct samples samples_new(long count)
{
    int64_t *ns = calloc((size_t)count + 1, sizeof *ns);
    if (ns == NULL)
        test_die("no memory for %ld samples", count);
    return (struct samples){.ns = ns};
}

static int compare_ns(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

// Nearest rank; 0 without samples. Sorts.
static int64_t percentile(struct samples *samples, size_t percent)
{
    if (samples->count == 0)
        return 0;
    qsort(samples->ns, samples->count, sizeof *samples->ns, compare_ns);
    size_t rank = (samples->count * percent + 99) / 100;
    return samples->ns[rank > 0 ? rank - 1 : 0];
}

// 0 without samples. What a program waits per fence if its fences get slower with each round.
static int64_t mean(const struct samples *samples)
{
    int64_t sum = 0;
    for (size_t i = 0; i < samples->count; i++)
        sum += samples->ns[i];
    return samples->count ? sum / (int64_t)samples->count : 0;
}

// --- time stamps ---

// Written at once, a file per epoch and rank: a rank that is killed has left what it saw.
static void stamp(const struct settings *set, const struct bench *bench, const char *what)
{
    if (set->stamp_dir == NULL)
        return;
    int64_t now_ns = test_boottime_ns();
    char path[TEST_LINE_MAX];
    int length = snprintf(path, sizeof path, "%s/epoch-%ld.rank-%ld", set->stamp_dir,
                          bench->me.epoch, bench->me.rank);
    if (length < 0 || (size_t)length >= sizeof path)
        test_die("--stamps: the path is too long");
    test_file_append(path, "%s %lld", what, (long long)now_ns);
}

// --- PMIx ---

static void get_job_value(const struct bench *bench, const char *key, pmix_value_t **ret_value)
{
    pmix_proc_t job;
    PMIX_LOAD_PROCID(&job, bench->self.nspace, PMIX_RANK_WILDCARD);
    must(PMIx_Get(&job, key, NULL, 0, ret_value), key);
}

static void init(struct bench *bench)
{
    int64_t begin_ns = test_boottime_ns();
    must(PMIx_Init(&bench->self, NULL, 0), "PMIx_Init");
    bench->init_ns = test_boottime_ns() - begin_ns;
    bench->me.rank = bench->self.rank;
}

static void read_job(struct bench *bench)
{
    pmix_value_t *value = NULL;
    get_job_value(bench, PMIX_JOB_SIZE, &value);
    bench->size = value->data.uint32;
    PMIX_VALUE_RELEASE(value);
    get_job_value(bench, PMIX_NUM_NODES, &value);
    bench->nodes = value->data.uint32;
    PMIX_VALUE_RELEASE(value);
    get_job_value(bench, PMIX_LOCAL_PEERS, &value);
    bench->local_peers = strdup(value->data.string);
    if (bench->local_peers == NULL)
        test_die("no memory");
    PMIX_VALUE_RELEASE(value);
}

static int64_t timed_fence(bool collect)
{
    pmix_info_t info;
    PMIX_INFO_LOAD(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
    int64_t begin_ns = test_boottime_ns();
    must(PMIx_Fence(NULL, 0, &info, collect ? 1 : 0), "PMIx_Fence");
    return test_boottime_ns() - begin_ns;
}

static void put_bytes(const char *key, const void *bytes, size_t size)
{
    char *copy = malloc(size);
    if (copy == NULL)
        test_die("no memory for %zu bytes", size);
    memcpy(copy, bytes, size);
    pmix_value_t value = {.type = PMIX_BYTE_OBJECT, .data.bo = {.bytes = copy, .size = size}};
    must(PMIx_Put(PMIX_GLOBAL, key, &value), "PMIx_Put");
    must(PMIx_Commit(), "PMIx_Commit");
    free(copy);
}

// --- the phases ---

static struct samples run_fences(long rounds, bool collect)
{
    struct samples samples = samples_new(rounds);
    for (long i = 0; i < rounds; i++)
        samples.ns[samples.count++] = timed_fence(collect);
    return samples;
}

// Only the fence is timed, not the put; the key's bytes differ from round to round and do not
// shrink when compressed.
// `new_keys`: a key of its own per round; then what a rank has published grows, and a server hands
// all of it to its host in each fence.
static struct samples run_data_fences(const struct bench *bench, long rounds, size_t size,
                                      bool new_keys)
{
    struct samples samples = samples_new(rounds);
    unsigned char *bytes = malloc(size);
    if (bytes == NULL)
        test_die("no memory for %zu bytes", size);
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(bench->me.rank + 1);
    for (long i = 0; i < rounds; i++) {
        for (size_t at = 0; at < size; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes[at] = (unsigned char)state;
        }
        char name[64];
        snprintf(name, sizeof name, "bench.%zu.%ld", size, new_keys ? i : -1);
        put_bytes(name, bytes, size);
        samples.ns[samples.count++] = timed_fence(true);
    }
    free(bytes);
    return samples;
}

static bool get_once(const struct bench *bench, long from, int64_t *ret_ns)
{
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, bench->self.nspace, (pmix_rank_t)from);
    int timeout_s = GET_TIMEOUT_S;
    pmix_info_t info;
    PMIX_INFO_LOAD(&info, PMIX_TIMEOUT, &timeout_s, PMIX_INT);
    pmix_value_t *value = NULL;
    int64_t begin_ns = test_boottime_ns();
    pmix_status_t status = PMIx_Get(&proc, "bench.get", &info, 1, &value);
    *ret_ns = test_boottime_ns() - begin_ns;
    bool good = status == PMIX_SUCCESS && value->type == PMIX_BYTE_OBJECT &&
                value->data.bo.size == GET_BYTES;
    if (value != NULL)
        PMIX_VALUE_RELEASE(value);
    return good;
}

// Each remote rank is asked once, starting behind our own rank: a second get would not leave the
// node.
static struct samples run_gets(const struct bench *bench, long gets)
{
    struct samples samples = samples_new(bench->size);
    for (long i = 1; i < bench->size && (long)samples.count + samples.failed < gets; i++) {
        long from = (bench->me.rank + i) % bench->size;
        if (test_list_has(bench->local_peers, from))
            continue;
        if (get_once(bench, from, &samples.ns[samples.count]))
            samples.count++;
        else
            samples.failed++;
    }
    return samples;
}

static void run_phases(const struct settings *set, struct bench *bench)
{
    bench->empty = run_fences(set->rounds, true);
    char bytes[GET_BYTES] = {0};
    put_bytes("bench.get", bytes, sizeof bytes);
    bench->get = run_gets(bench, set->gets);
    bench->kib1 = run_data_fences(bench, set->rounds, 1024, false);
    bench->empty_after_kib1 = run_fences(set->rounds, true);
    bench->barrier = run_fences(set->rounds, false);
    bench->kib16 = run_data_fences(bench, set->rounds, 16384, false);
    bench->kib1_new = run_data_fences(bench, set->rounds, 1024, true);
    bench->kib16_new = run_data_fences(bench, set->rounds, 16384, true);
}

// --- the report ---

static void send_report(struct bench *bench)
{
    struct report report = {
        .init_ns = bench->init_ns,
        .first_fence_ns = bench->first_fence_ns,
        .get_p50_ns = percentile(&bench->get, 50),
        .get_p99_ns = percentile(&bench->get, 99),
        .get_count = (int64_t)bench->get.count,
        .get_failed = bench->get.failed,
    };
    put_bytes("bench.report", &report, sizeof report);
    (void)timed_fence(true);
}

static void keep_max(int64_t *max, int64_t value)
{
    if (value > *max)
        *max = value;
}

// The worst of every rank; counts are added up.
static struct report merge_reports(const struct bench *bench)
{
    struct report worst = {0};
    for (long rank = 0; rank < bench->size; rank++) {
        pmix_proc_t proc;
        PMIX_LOAD_PROCID(&proc, bench->self.nspace, (pmix_rank_t)rank);
        pmix_value_t *value = NULL;
        must(PMIx_Get(&proc, "bench.report", NULL, 0, &value), "PMIx_Get of a report");
        struct report one;
        if (value->type != PMIX_BYTE_OBJECT || value->data.bo.size != sizeof one)
            test_die("the report of rank %ld has another size", rank);
        memcpy(&one, value->data.bo.bytes, sizeof one);
        PMIX_VALUE_RELEASE(value);
        keep_max(&worst.init_ns, one.init_ns);
        keep_max(&worst.first_fence_ns, one.first_fence_ns);
        keep_max(&worst.get_p50_ns, one.get_p50_ns);
        keep_max(&worst.get_p99_ns, one.get_p99_ns);
        worst.get_count += one.get_count;
        worst.get_failed += one.get_failed;
    }
    return worst;
}

static size_t add_samples(char *json, size_t used, const char *name, struct samples *samples)
{
    int more = snprintf(json + used, JSON_SIZE - used,
                        ",\"%s\":{\"n\":%zu,\"mean_ns\":%lld,\"p50_ns\":%lld,\"p99_ns\":%lld}",
                        name, samples->count, (long long)mean(samples),
                        (long long)percentile(samples, 50), (long long)percentile(samples, 99));
    return used + (size_t)more;
}

static void print_report(struct bench *bench)
{
    struct report worst = merge_reports(bench);
    char json[JSON_SIZE];
    int begin = snprintf(
        json, sizeof json,
        "{\"program\":\"pmix_bench\",\"ranks\":%ld,\"nodes\":%ld,\"epoch\":%ld,"
        "\"init_ns\":%lld,\"init_max_ns\":%lld,\"first_fence_ns\":%lld,\"first_fence_max_ns\":%lld",
        bench->size, bench->nodes, bench->me.epoch, (long long)bench->init_ns,
        (long long)worst.init_ns, (long long)bench->first_fence_ns,
        (long long)worst.first_fence_ns);
    size_t used = (size_t)begin;
    used = add_samples(json, used, "barrier", &bench->barrier);
    used = add_samples(json, used, "collect_empty", &bench->empty);
    used = add_samples(json, used, "collect_empty_after_1k", &bench->empty_after_kib1);
    used = add_samples(json, used, "collect_1k", &bench->kib1);
    used = add_samples(json, used, "collect_16k", &bench->kib16);
    used = add_samples(json, used, "collect_1k_new_key", &bench->kib1_new);
    used = add_samples(json, used, "collect_16k_new_key", &bench->kib16_new);
    used = add_samples(json, used, "get", &bench->get);
    (void)snprintf(json + used, JSON_SIZE - used,
                   ",\"get_all\":{\"n\":%lld,\"failed\":%lld,\"p50_max_ns\":%lld,"
                   "\"p99_max_ns\":%lld}}",
                   (long long)worst.get_count, (long long)worst.get_failed,
                   (long long)worst.get_p50_ns, (long long)worst.get_p99_ns);
    test_print("%s", json);
}

// --- main ---

// Everybody is past the first fence before one rank dies; the others wait for their end.
static void die_or_wait(const struct settings *set, const struct bench *bench)
{
    (void)timed_fence(true);
    if (bench->me.rank != set->die_rank)
        for (;;)
            (void)pause();
    (void)sleep((unsigned)set->die_after_s);
    stamp(set, bench, "die");
    if (kill(getpid(), SIGKILL) < 0)
        test_die("kill: %s", strerror(errno));
}

static const struct argp_option options[] = {
    {"rounds", 'n', "N", 0, "fences of each kind (20); 0: only init and the first fence", 0},
    {"gets", 'g', "N", 0, "remote ranks that each rank asks by direct modex (all)", 0},
    {"stamps", 's', "DIR", 0,
     "append 'main|init|fence|die BOOTTIME_NS' lines to DIR/epoch-E.rank-R", 0},
    {"die", 'd', "RANK", 0, "after the first fence RANK kills itself and the others wait", 0},
    {"die-after", 'a', "SECONDS", 0, "time between the first fence and --die (0)", 0},
    {"lives", 'l', "N", 0, "--die holds in the first N incarnations (1)", 0},
    {0},
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct settings *set = state->input;
    switch (key) {
    case 'n':
        set->rounds = test_number(text, 0, 1000000, "--rounds");
        return 0;
    case 'g':
        set->gets = test_number(text, 0, INT32_MAX, "--gets");
        return 0;
    case 's':
        set->stamp_dir = text;
        return 0;
    case 'd':
        set->die_rank = test_number(text, 0, INT32_MAX, "--die");
        return 0;
    case 'a':
        set->die_after_s = test_number(text, 0, 3600, "--die-after");
        return 0;
    case 'l':
        set->lives = test_number(text, 0, INT32_MAX, "--lives");
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is no option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = parse_option,
    .doc = "Times a PMIx server; rank 0 prints one JSON object.\v"
           "The epoch comes from PM_EPOCH: a loop of plain sruns sets it by hand.",
};

int main(int argc, char **argv)
{
    struct settings set = {.rounds = 20, .gets = INT32_MAX, .die_rank = -1, .lives = 1};
    struct bench bench = {0};
    test_begin("pmix_bench");
    bench.me = test_identity_read();
    argp_parse(&parser, argc, argv, 0, NULL, &set);

    stamp(&set, &bench, "main");
    init(&bench);
    stamp(&set, &bench, "init");
    bench.first_fence_ns = timed_fence(true);
    stamp(&set, &bench, "fence");
    if (set.die_rank >= 0 && bench.me.incarnation < set.lives)
        die_or_wait(&set, &bench);
    read_job(&bench);
    if (set.rounds > 0)
        run_phases(&set, &bench);
    send_report(&bench);
    if (bench.me.rank == 0)
        print_report(&bench);
    must(PMIx_Finalize(NULL, 0), "PMIx_Finalize");
    free(bench.local_peers);
    return 0;
}
