// SPDX-License-Identifier: Apache-2.0
//
// Times a PMIx server from a rank's side, the same way under srun --mpi=pmix and srun
// --pm-supervise: PMIx_Init, first fence, barriers, collecting fences, direct modex. Also leaves
// time stamps per rank and epoch, from which the restart latency follows.
//
// A fence's time runs from the last rank's entry to the last rank's return: what a rank does before
// it enters (making its value, PMIx_Put and PMIx_Commit) is no part of it. The ranks' clocks are
// compared, so all nodes must share one kernel, as those of a devcluster do. Of init, first fence and
// the gets the worst rank's time is given.
//
// Order matters (see `phases`): the empty collecting fences run while nothing is published, and again
// when there is something, as mpi/pmix sends in each fence all that was ever published; direct modex
// runs before any fence has brought the values.
// Rank 0 prints one JSON object at the end.

#include <argp.h>
#include <errno.h>
#include <pmix.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

enum { GET_BYTES = 64, GET_TIMEOUT_S = 20, JSON_SIZE = TEST_LINE_MAX - 1, MAIN_ONLY_S = 2 };

struct settings {
    long rounds;
    long gets;
    const char *stamp_dir;
    long die_rank;
    long die_after_s;
    long lives;
    bool main_only;
};

// Each rank publishes `bytes` before each fence of a phase: under one key, whose value changes, or under
// a key of its own per round; then what a rank has published grows.
enum keys { KEYS_NONE, KEYS_SAME, KEYS_NEW };

struct phase {
    const char *name;
    bool collect;
    size_t bytes;
    enum keys keys;
};

static const struct phase phases[] = {
    {"collect_empty", true, 0, KEYS_NONE},
    {"collect_1k", true, 1024, KEYS_SAME},
    {"collect_empty_after_1k", true, 0, KEYS_NONE},
    {"collect_another_1k", true, 1024, KEYS_SAME},
    {"collect_empty_after_2k", true, 0, KEYS_NONE},
    {"barrier", false, 0, KEYS_NONE},
    {"collect_16k", true, 16384, KEYS_SAME},
    {"collect_empty_after_18k", true, 0, KEYS_NONE},
    {"collect_1k_new_key", true, 1024, KEYS_NEW},
    {"collect_16k_new_key", true, 16384, KEYS_NEW},
};

enum { N_PHASES = sizeof phases / sizeof *phases };

// What every rank tells rank 0 at the end: these, then entry and return of each fence, phase by phase.
enum { GET_COUNT, GET_FAILED, INIT_NS, FIRST_FENCE_NS, GET_P50_NS, GET_P99_NS, N_FIXED };

struct bench {
    struct test_identity me;
    pmix_proc_t self;
    long size;
    long nodes;
    long rounds;
    char *local_peers;
    int64_t *report;
    size_t report_len;  // numbers
};

static void must(pmix_status_t status, const char *call)
{
    if (status != PMIX_SUCCESS)
        test_die("%s failed with %d (%s)", call, status, PMIx_Error_string(status));
}

// --- samples ---

static int64_t *numbers_new(size_t count)
{
    int64_t *numbers = calloc(count + 1, sizeof *numbers);
    if (numbers == NULL)
        test_die("no memory for %zu numbers", count);
    return numbers;
}

static int compare_ns(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left;
    int64_t b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

// Nearest rank; 0 without samples. Sorts.
static int64_t percentile(int64_t *ns, size_t count, size_t percent)
{
    if (count == 0)
        return 0;
    qsort(ns, count, sizeof *ns, compare_ns);
    size_t rank = (count * percent + 99) / 100;
    return ns[rank > 0 ? rank - 1 : 0];
}

// 0 without samples. What a program waits per fence if its fences get slower with each round.
static int64_t mean(const int64_t *ns, size_t count)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ns[i];
    return count ? sum / (int64_t)count : 0;
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
    bench->report[INIT_NS] = test_boottime_ns() - begin_ns;
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

static void fence(bool collect)
{
    pmix_info_t info;
    PMIX_INFO_LOAD(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
    must(PMIx_Fence(NULL, 0, &info, collect ? 1 : 0), "PMIx_Fence");
}

static void first_fence(struct bench *bench)
{
    int64_t begin_ns = test_boottime_ns();
    fence(true);
    bench->report[FIRST_FENCE_NS] = test_boottime_ns() - begin_ns;
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

// Bytes that differ from rank to rank and round to round and do not shrink when compressed.
static void fill(unsigned char *bytes, size_t size, uint64_t *state)
{
    for (size_t at = 0; at < size; at++) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        bytes[at] = (unsigned char)*state;
    }
}

// Entry and return of fence `round` of phase `number` in a report.
static int64_t *stamps_of(const struct bench *bench, size_t number, long round)
{
    return bench->report + N_FIXED + (number * (size_t)bench->rounds + (size_t)round) * 2;
}

static void run_phase(const struct bench *bench, size_t number)
{
    const struct phase *phase = &phases[number];
    unsigned char *bytes = malloc(phase->bytes + 1);
    if (bytes == NULL)
        test_die("no memory for %zu bytes", phase->bytes);
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)(bench->me.rank + 1);
    for (long round = 0; round < bench->rounds; round++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%ld", phase->name, phase->keys == KEYS_NEW ? round : -1);
        fill(bytes, phase->bytes, &state);
        if (phase->keys != KEYS_NONE)
            put_bytes(name, bytes, phase->bytes);
        int64_t *at = stamps_of(bench, number, round);
        at[0] = test_boottime_ns();
        fence(phase->collect);
        at[1] = test_boottime_ns();
    }
    free(bytes);
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
static void run_gets(const struct bench *bench, long gets)
{
    int64_t *ns = numbers_new((size_t)bench->size), *report = bench->report;
    for (long i = 1; i < bench->size && report[GET_COUNT] + report[GET_FAILED] < gets; i++) {
        long from = (bench->me.rank + i) % bench->size;
        if (test_list_has(bench->local_peers, from))
            continue;
        if (get_once(bench, from, &ns[report[GET_COUNT]]))
            report[GET_COUNT]++;
        else
            report[GET_FAILED]++;
    }
    report[GET_P50_NS] = percentile(ns, (size_t)report[GET_COUNT], 50);
    report[GET_P99_NS] = percentile(ns, (size_t)report[GET_COUNT], 99);
    free(ns);
}

static void run_phases(const struct settings *set, struct bench *bench)
{
    run_phase(bench, 0);
    char bytes[GET_BYTES] = {0};
    put_bytes("bench.get", bytes, sizeof bytes);
    run_gets(bench, set->gets);
    for (size_t number = 1; number < N_PHASES; number++)
        run_phase(bench, number);
}

// --- the report ---

static void send_report(struct bench *bench)
{
    put_bytes("bench.report", bench->report, bench->report_len * sizeof *bench->report);
    fence(true);
}

// The largest of every number of all ranks, of an entry too: a fence begins with the last one.
// The two counts are added up.
static void merge_report(const struct bench *bench, long rank, int64_t *merged)
{
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, bench->self.nspace, (pmix_rank_t)rank);
    pmix_value_t *value = NULL;
    must(PMIx_Get(&proc, "bench.report", NULL, 0, &value), "PMIx_Get of a report");
    if (value->type != PMIX_BYTE_OBJECT || value->data.bo.size != bench->report_len * sizeof *merged)
        test_die("the report of rank %ld has another size", rank);
    for (size_t i = 0; i < bench->report_len; i++) {
        int64_t number;
        memcpy(&number, value->data.bo.bytes + i * sizeof number, sizeof number);
        if (i <= GET_FAILED)
            merged[i] += number;
        else if (number > merged[i])
            merged[i] = number;
    }
    PMIX_VALUE_RELEASE(value);
}

static void add(char *json, size_t *used, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int more = vsnprintf(json + *used, JSON_SIZE - *used, format, args);
    va_end(args);
    if (more < 0 || (size_t)more >= JSON_SIZE - *used)
        test_die("the report is too long");
    *used += (size_t)more;
}

static void add_phase(const struct bench *bench, size_t number, char *json, size_t *used)
{
    size_t n = (size_t)bench->rounds;
    int64_t *ns = numbers_new(n);
    for (long round = 0; round < bench->rounds; round++) {
        const int64_t *at = stamps_of(bench, number, round);
        ns[round] = at[1] - at[0];
    }
    add(json, used, ",\"%s\":{\"n\":%zu,\"mean_ns\":%lld,\"p50_ns\":%lld,\"p99_ns\":%lld}",
        phases[number].name, n, (long long)mean(ns, n), (long long)percentile(ns, n, 50),
        (long long)percentile(ns, n, 99));
    free(ns);
}

static void print_report(const struct bench *bench)
{
    struct bench all = *bench;
    all.report = numbers_new(bench->report_len);
    for (long rank = 0; rank < bench->size; rank++)
        merge_report(bench, rank, all.report);
    char json[JSON_SIZE];
    size_t used = 0;
    add(json, &used, "{\"program\":\"pmix_bench\",\"ranks\":%ld,\"nodes\":%ld,\"epoch\":%ld",
        bench->size, bench->nodes, bench->me.epoch);
    add(json, &used, ",\"init_max_ns\":%lld,\"first_fence_max_ns\":%lld",
        (long long)all.report[INIT_NS], (long long)all.report[FIRST_FENCE_NS]);
    for (size_t number = 0; number < N_PHASES; number++)
        add_phase(&all, number, json, &used);
    add(json, &used, ",\"get\":{\"n\":%lld,\"failed\":%lld,\"p50_ns\":%lld,"
        "\"p50_max_ns\":%lld,\"p99_max_ns\":%lld}}",
        (long long)all.report[GET_COUNT], (long long)all.report[GET_FAILED],
        (long long)bench->report[GET_P50_NS], (long long)all.report[GET_P50_NS],
        (long long)all.report[GET_P99_NS]);
    test_print("%s", json);
    free(all.report);
}

// --- main ---

// Everybody is past the first fence before one rank dies; the others wait for their end.
static void die_or_wait(const struct settings *set, const struct bench *bench)
{
    fence(true);
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
    {"main-only", 'm', NULL, 0, "later incarnations wait in main, and end without PMIx", 0},
    {0},
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct settings *set = state->input;
    switch (key) {
    case 'n':
        set->rounds = test_number(text, 0, 10000, "--rounds");
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
    case 'm':
        set->main_only = true;
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

    bench.rounds = set.rounds;
    bench.report_len = N_FIXED + N_PHASES * (size_t)set.rounds * 2;
    bench.report = numbers_new(bench.report_len);

    stamp(&set, &bench, "main");
    if (set.main_only && bench.me.incarnation >= set.lives) {
        (void)sleep(MAIN_ONLY_S);
        free(bench.report);
        return 0;
    }
    init(&bench);
    stamp(&set, &bench, "init");
    first_fence(&bench);
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
    free(bench.report);
    free(bench.local_peers);
    return 0;
}
