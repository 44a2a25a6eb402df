// SPDX-License-Identifier: Apache-2.0
//
// The cores of 1k, 4k and 16k nodes with 8 ranks each, without I/O: form, fence, lose a rank and
// start again, fence again. Prints what each phase costs in CPU time, frames at the coordinator and
// memory, and fails if 16k nodes cost more than 20 times what 1k nodes do.
//
// One thing is cut short. Every node of a collecting fence gets every node's data, so all nodes
// together move n * n * 512 bytes, 128 GiB at 16k, in a program that plays all of them. The result
// of that fence therefore goes down one path of the tree only; what the others would have got is
// counted.
//
// In reality every core has a cache of its own; here all share one. So that the smaller sizes do
// not look cheap only because they fit into it, 16 worlds of 1k, 4 of 4k and 1 of 16k take turns,
// event by event.
//
// Not Criterion: it runs for a while, and its output is a table. `scale N` runs N nodes alone.
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/core_harness.h"

#define RANKS            8u
#define BYTES_PER_RANK   64u
#define BIG_FRAME        65536u
#define MAX_RATIO        20.0
#define FACTOR           16u // between the smallest and the largest size
#define WARM_BYTES       ((size_t)900 << 20)
#define PHASE_LIMIT_MS   120000u

struct world {
    uint32_t n;
    struct harness *h;
    uint32_t epoch;
    uint64_t fence_id;
    bool fencing; // the nodes that were cut off are aborted later, which is right
    uint32_t wanted;
    uint32_t done;
    uint64_t cut_bytes;
    uint32_t cut_from; // who sent the last large frame
    uint32_t cut_link; // the only one on which it may
    uint64_t began_ns;
    struct harness_stats before;
    bool finished;
};

struct phase {
    const char *name;
    void (*begin)(struct world *w);
    bool (*is_done)(struct world *w);
};

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "scale: %s\n", what);
    exit(1);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool is_result(uint8_t frame)
{
    enum { FENCE_DOWN = 0x31, FENCE_BEGIN = 0x34, FENCE_PIECE };
    return frame == FENCE_DOWN || frame == FENCE_BEGIN || frame == FENCE_PIECE;
}

// Counts the results; of the frames with a large one lets each node send those to its first child.
static bool on_action(struct harness *h, void *context, uint32_t node,
                      const struct pm_action *action)
{
    (void)h;
    struct world *w = context;
    if (action->type == PM_ACTION_FENCE_DONE && w->fencing) {
        check(action->status == PM_STATUS_OK, "a fence failed");
        w->done++;
    }
    bool is_big = action->type == PM_ACTION_SEND && action->len > BIG_FRAME &&
                  is_result(action->data[0]);
    if (!is_big)
        return false;
    if (w->cut_from != node)
        w->cut_link = action->link;
    bool is_first = action->link == w->cut_link;
    w->cut_from = node;
    w->cut_bytes += is_first ? 0 : action->len;
    return !is_first;
}

// --- Phases
// -----------------------------------------------------------------------------------------

static void form_begin(struct world *w)
{
    const struct harness_config config = {
        .nnodes = w->n, .ranks_per_node = RANKS, .hook = on_action, .ctx = w};
    w->h = harness_new(&config);
    harness_launch(w->h, 0);
}

static bool runs(struct world *w)
{
    struct pm_core *core = harness_core(w->h, PM_NODE_COORDINATOR);
    return pm_core_state(core) == PM_STATE_RUNNING && pm_core_epoch(core) == w->epoch;
}

static void fence_begin(struct world *w, bool collect)
{
    static const uint8_t data[RANKS * BYTES_PER_RANK];
    struct pm_set all = {0};
    check(pm_set_add_span(&all, 0, w->n * RANKS - 1) == 0, "no memory");
    w->done = 0;
    w->wanted = collect && (size_t)w->n * sizeof(data) > BIG_FRAME ? 1 : w->n;
    w->fencing = true;
    w->cut_from = PM_NODE_COORDINATOR - 1;
    struct pm_event event = {.type = PM_EVENT_FENCE,
                             .epoch = w->epoch,
                             .id = ++w->fence_id,
                             .set = &all,
                             .flag_collect = collect,
                             .data = collect ? data : NULL,
                             .len = collect ? sizeof(data) : 0};
    for (uint32_t i = 0; i < w->n; i++)
        harness_post(w->h, i, &event, i % 97 * 1000);
    pm_set_done(&all);
}

static void bare_begin(struct world *w)
{
    fence_begin(w, false);
}

static void data_begin(struct world *w)
{
    fence_begin(w, true);
}

static bool fence_is_done(struct world *w)
{
    if (w->done < w->wanted)
        return false;
    w->fencing = false;
    return true;
}

static void restart_begin(struct world *w)
{
    w->epoch++;
    harness_rank_ends(w->h, w->n / 2, 3, 9);
}

static bool restart_is_done(struct world *w)
{
    if (!runs(w))
        return false;
    check(harness_ranks_alive(w->h) == w->n * RANKS, "not all ranks are alive");
    return true;
}

static const struct phase phases[] = {
    {"form", form_begin, runs},
    {"fence", bare_begin, fence_is_done},
    {"fence 64 B", data_begin, fence_is_done},
    {"restart", restart_begin, restart_is_done},
    {"fence again", bare_begin, fence_is_done},
};

// --- Measurement
// ------------------------------------------------------------------------------------

static void begin(struct world *w, const struct phase *phase)
{
    w->finished = false;
    phase->begin(w);
    w->began_ns = harness_now_ns(w->h);
    w->before = *harness_stats(w->h);
}

// Worlds take turns, one event each.
static double play(struct world *worlds, uint32_t n_worlds, const struct phase *phase)
{
    double seconds = -cpu_seconds();
    for (uint32_t i = 0; i < n_worlds; i++)
        begin(&worlds[i], phase);
    for (uint32_t left = n_worlds; left > 0;) {
        for (uint32_t i = 0; i < n_worlds; i++) {
            struct world *w = &worlds[i];
            if (w->finished)
                continue;
            check(harness_step(w->h), "nothing is left to happen");
            check(harness_now_ns(w->h) < w->began_ns + PHASE_LIMIT_MS * HARNESS_MS, phase->name);
            w->finished = phase->is_done(w);
            left -= w->finished;
        }
    }
    return (seconds + cpu_seconds()) / n_worlds;
}

static void print(struct world *w, const char *name, double seconds)
{
    const struct harness_stats *stats = harness_stats(w->h);
    printf("%8u  %-12s %9.3f s %9" PRIu64 " us %10" PRIu64 " %10" PRIu64 "\n", w->n, name, seconds,
           (harness_now_ns(w->h) - w->began_ns) / 1000,
           stats->coordinator_frames - w->before.coordinator_frames,
           stats->frames - w->before.frames);
    fflush(stdout);
}

struct sum {
    double seconds;
    double memory;
};

// What one world of n nodes costs when n_worlds of them take turns.
static struct sum measure(uint32_t n, uint32_t n_worlds)
{
    struct world *worlds = calloc(n_worlds, sizeof(*worlds));
    check(worlds != NULL, "no memory");
    struct sum sum = {0};
    for (uint32_t i = 0; i < n_worlds; i++)
        worlds[i].n = n;
    for (size_t i = 0; i < sizeof(phases) / sizeof(*phases); i++) {
        double seconds = play(worlds, n_worlds, &phases[i]);
        sum.seconds += seconds;
        print(&worlds[0], phases[i].name, seconds);
        for (uint32_t k = 0; k < n_worlds; k++)
            harness_run_ms(worlds[k].h, 5); // what is still on its way
    }
    const struct mallinfo2 memory = mallinfo2();
    sum.memory = (double)(memory.uordblks + memory.hblkhd) / n_worlds;
    printf("%8u  %-12s %9.3f s, %.0f KiB, %.1f KiB per node\n", n, "all", sum.seconds,
           sum.memory / 1024, sum.memory / 1024 / n);
    for (uint32_t i = 0; i < n_worlds; i++)
        harness_free(worlds[i].h);
    free(worlds);
    return sum;
}

// Page faults of the first touch are no cost of the cores: have the pages, and keep them.
static void warm_up(size_t bytes)
{
    mallopt(M_PERTURB, 0); // meson asks for it, and it would cost more than what is measured
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    void *p = malloc(bytes);
    check(p != NULL, "no memory");
    memset(p, 1, bytes);
    free(p);
}

int main(int argc, char **argv)
{
    printf("%8s  %-12s %11s %12s %10s %10s\n", "nodes", "phase", "CPU", "virtual", "at root",
           "frames");
    if (argc > 1) {
        measure((uint32_t)strtoul(argv[1], NULL, 10), 1);
        return 0;
    }
    warm_up(WARM_BYTES);
    struct sum small = measure(1024, FACTOR);
    measure(4096, FACTOR / 4);
    struct sum large = measure(1024 * FACTOR, 1);
    double time_ratio = large.seconds / small.seconds;
    double memory_ratio = large.memory / small.memory;
    printf("16k / 1k: time %.1f, memory %.1f (at most %.0f)\n", time_ratio, memory_ratio,
           MAX_RATIO);
    return time_ratio <= MAX_RATIO && memory_ratio <= MAX_RATIO ? 0 : 1;
}
