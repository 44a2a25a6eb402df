// SPDX-License-Identifier: Apache-2.0
//
// pm-sim scale: what a step costs at a size, as a table; with --csv one line per phase, for scripts; with
// --check it fails when the promises of doc/scale.md do not hold.
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/commands.h"
#include "tests/sim/scale_run.h"

static const char *const maps[SCALE_MAP_MAX] = {"block", "cyclic", "moved"};

struct arguments {
    struct scale_config config;
    struct scale_plan plan;
    bool csv;
    bool check;
    bool bad;
};

struct number {
    const char *name;
    size_t at;
    bool is_long;
    uint64_t factor;
};

#define FIELD(name, field, factor)                                                                  \
    {name, offsetof(struct arguments, field), sizeof(((struct arguments *)0)->field) == 8, factor}

static const struct number numbers[] = {
    FIELD("--nodes", config.nnodes, 1),
    FIELD("--ranks-per-node", config.per_node, 1),
    FIELD("--fanout", config.fanout, 1),
    FIELD("--hop-us", config.latency.hop_ns, 1000),
    FIELD("--slow-us", config.latency.slow_ns, 1000),
    FIELD("--slow-ppm", config.latency.slow_ppm, 1),
    FIELD("--gbit", config.gbit, 1),
    FIELD("--fence-bytes", config.fence_bytes, 1),
    FIELD("--fork-us", config.fork_ns, 1000),
    FIELD("--core-ns", config.core_ns, 1),
    FIELD("--seed", config.seed, 1),
    FIELD("--barriers", plan.barriers, 1),
    FIELD("--restarts", plan.restarts, 1),
    FIELD("--data-fences", plan.data_fences, 1),
};

static bool set_number(struct arguments *a, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        char *end;
        uint64_t v = strtoull(value, &end, 10) * numbers[i].factor;
        char *at = (char *)a + numbers[i].at;
        if (*value == '\0' || *end != '\0')
            return false;
        if (numbers[i].is_long)
            memcpy(at, &v, 8);
        else
            memcpy(at, &(uint32_t){(uint32_t)v}, 4);
        return true;
    }
    return false;
}

static bool set_map(struct arguments *a, const char *value)
{
    for (int i = 0; i < SCALE_MAP_MAX; i++)
        if (!strcmp(value, maps[i])) {
            a->config.map = (enum scale_map)i;
            return true;
        }
    return false;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments a = {
        .config = {.nnodes = 1024, .per_node = 8, .fanout = 32, .gbit = 100, .fence_bytes = 64,
                   .latency.hop_ns = 25000, .latency.slow_ns = 5000000, .fork_ns = 500000, .seed = 1},
        .plan = {.barriers = 5, .restarts = 3, .data_fences = 1, .loss = true},
    };
    bool has_costs = false;
    for (int i = 1; i < argc && !a.bad; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--csv")) {
            a.csv = true;
        } else if (!strcmp(argv[i], "--check")) {
            a.check = true;
        } else if (!strcmp(argv[i], "--no-loss")) {
            a.plan.loss = false;
        } else {
            if (!strcmp(argv[i], "--map"))
                a.bad = !set_map(&a, value);
            else if (!strcmp(argv[i], "--costs"))
                a.bad = scale_costs_parse(&a.config.costs, value) < 0, has_costs = true;
            else
                a.bad = !set_number(&a, argv[i], value);
            if (a.bad)
                fprintf(stderr, "pm-sim scale: %s %s\n", argv[i], value);
            i++;
        }
    }
    const struct scale_config *c = &a.config;
    bool sane = c->nnodes > 0 && c->per_node > 0 && c->per_node <= 64 && c->fanout > 1 && c->gbit > 0 &&
                c->latency.hop_ns > 0 && c->latency.slow_ns > 0;
    a.bad |= a.plan.barriers > SCALE_SAMPLES_MAX || a.plan.restarts > SCALE_SAMPLES_MAX ||
             a.plan.data_fences > SCALE_SAMPLES_MAX;
    a.bad |= !sane || (uint64_t)c->nnodes * c->per_node > 1u << 24;
    if (!a.bad && !has_costs)
        scale_costs_measure(&a.config.costs);
    return a;
}

// --- output ------------------------------------------------------------------------------------------

static double us(uint64_t ns)
{
    return (double)ns / 1000;
}

static void print_phase(const struct arguments *a, const struct scale_result *r, enum scale_phase phase)
{
    const struct scale_sample *s = &r->phases[phase];
    if (s->n == 0)
        return;
    uint64_t p50 = scale_quantile(s, 0.5), p99 = scale_quantile(s, 0.99);
    const struct scale_load *c = &s->coordinator, *b = &s->busiest;
    if (a->csv) {
        printf("%u,%u,%s,%" PRIu64 ",%u,%s,%u,%.1f,%.1f,%" PRIu64 ",%" PRIu64 ",%.1f,%.1f,%" PRIu64
               ",%" PRIu64 ",%.1f,%.1f\n",
               a->config.nnodes, a->config.fanout, maps[a->config.map],
               a->config.latency.hop_ns / 1000, a->config.latency.slow_ppm, scale_phase_name(phase),
               s->n, us(p50), us(p99), c->frames, c->bytes, us(c->cpu_ns), us(c->core_ns), b->frames,
               b->bytes, us(b->cpu_ns), us(b->core_ns));
        return;
    }
    printf("%-22s %4u %12.1f %12.1f %9" PRIu64 " %12" PRIu64 " %10.1f %9" PRIu64 " %12" PRIu64
           " %10.1f\n", scale_phase_name(phase), s->n, us(p50), us(p99), c->frames, c->bytes,
           us(c->cpu_ns), b->frames, b->bytes, us(b->cpu_ns));
}

static void print_head(const struct arguments *a, const struct scale_result *r)
{
    const struct scale_config *c = &a->config;
    if (a->csv)
        return;
    printf("%u nodes, %u ranks, fan-out %u, depth %u, map %s, hop %" PRIu64 " us, %u ppm at %" PRIu64
           " us, %" PRIu64 " Gbit/s\ncosts: ", c->nnodes, c->nnodes * c->per_node, c->fanout, r->depth,
           maps[c->map], c->latency.hop_ns / 1000, c->latency.slow_ppm, c->latency.slow_ns / 1000,
           c->gbit);
    scale_costs_print(&c->costs, stdout);
    printf("\n%-22s %4s %12s %12s %9s %12s %10s %9s %12s %10s\n", "", "n", "p50 us", "p99 us",
           "frames", "bytes", "CPU us", "frames", "bytes", "CPU us");
    printf("%-22s %4s %12s %12s %33s %33s\n", "", "", "", "", "at the coordinator", "busiest agent");
}

static void print_data(const struct arguments *a, const struct scale_result *r)
{
    const struct scale_config *c = &a->config;
    if (r->phases[SCALE_DATA].n == 0 || a->csv)
        return;
    double once = (double)r->phases[SCALE_DATA].busiest.cpu_ns / 1e9;
    double children = c->fanout < c->nnodes ? c->fanout : c->nnodes;
    double more = (children * c->costs.seal_byte_ns - c->costs.body_byte_ns) * (double)r->payload / 1e9;
    printf("fence with data: %u bytes a rank, %.1f MiB in all; busiest agent %.3f CPU s sealed once, "
           "%.3f CPU s sealed per link (computed)\n", c->fence_bytes, (double)r->payload / 1048576,
           once, once + more);
}

// When all ranks run: in barriers and restarts, at any process. Nobody needs a list of ranks then.
static uint64_t largest_later(const struct scale_result *r)
{
    static const enum scale_phase phases[] = {SCALE_FIRST, SCALE_BARRIER, SCALE_DETECT, SCALE_SWEEPS, SCALE_AGAIN};
    uint64_t largest = 0;
    for (size_t i = 0; i < sizeof(phases) / sizeof(*phases); i++) {
        const struct scale_sample *s = &r->phases[phases[i]];
        largest = s->coordinator.largest > largest ? s->coordinator.largest : largest;
        largest = s->busiest.largest > largest ? s->busiest.largest : largest;
    }
    return largest;
}

static void print_tail(const struct arguments *a, const struct scale_result *r, double seconds)
{
    const struct scale_config *c = &a->config;
    uint64_t ranks = (uint64_t)c->nnodes * c->per_node;
    uint64_t bytes = r->phases[SCALE_START].coordinator.bytes;
    if (a->csv) {
        printf("%u,%u,%s,memory,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.3f,%ld\n", c->nnodes,
               c->fanout, maps[c->map], r->core_mean, r->core_most, r->core_coordinator, r->world_bytes,
               seconds, r->rss_mib);
        return;
    }
    printf("coordinator: %.2f bytes a rank from launch to running, %.2f for a restart; largest frame "
           "%" PRIu64 " bytes, of a barrier or restart anywhere %" PRIu64 "\n", (double)bytes / (double)ranks,
           (double)r->phases[SCALE_AGAIN].coordinator.bytes / (double)ranks,
           r->phases[SCALE_START].coordinator.largest, largest_later(r));
    printf("core: %" PRIu64 " bytes for most agents, %" PRIu64 " with the most children, coordinator %"
           PRIu64 "; besides the table of the world, %" PRIu64 " bytes in every process\n",
           r->core_mean, r->core_most, r->core_coordinator, r->world_bytes);
    if (r->phases[SCALE_LOSS].n)
        printf("node loss: node 0 with %u children\n", r->orphans);
    printf("%" PRIu64 " steps of cores, %" PRIu64 " frames, %" PRIu64 " of them really sealed; %.1f s, "
           "of CPU at most %.1f s in a process; peak RSS %ld MiB in all\n", r->events, r->frames,
           r->sealed, seconds, r->cpu_s, r->rss_mib);
}

// What doc/scale.md promises; says what does not hold.
static bool holds(const struct arguments *a, const struct scale_result *r)
{
    uint64_t ranks = (uint64_t)a->config.nnodes * a->config.per_node;
    const struct {
        const char *what;
        uint64_t is, at_most;
    } limits[] = {
        {"ns until joined and map spread", scale_quantile(&r->phases[SCALE_JOIN], 0.5), 3 * SIM_S},
        {"ns of the three restart sweeps", scale_quantile(&r->phases[SCALE_SWEEPS], 0.5), 5 * SIM_MS},
        {"ns of a barrier", scale_quantile(&r->phases[SCALE_BARRIER], 0.5), 2 * SIM_MS},
        {"bytes a rank at the coordinator", r->phases[SCALE_START].coordinator.bytes / ranks, 64},
        {"bytes of an agent's core", r->core_most, 32 << 10},
        {"bytes of the largest frame of a barrier or restart", largest_later(r), 256},
    };
    bool all = true;
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        if (limits[i].is <= limits[i].at_most)
            continue;
        fprintf(stderr, "pm-sim scale: %" PRIu64 " %s, at most %" PRIu64 "\n", limits[i].is,
                limits[i].what, limits[i].at_most);
        all = false;
    }
    return all;
}

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// All cores share one heap here. With the few free blocks of a size that are kept at hand by default, a step
// would pay for looking through what all other cores have freed; the limit can only be set from outside.
static void run_with_many_blocks_at_hand(char **argv)
{
    if (setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=65535", false) == 0)
        (void)execv("/proc/self/exe", argv);
}

int sim_command_scale(int argc, char **argv)
{
    if (!getenv("GLIBC_TUNABLES"))
        run_with_many_blocks_at_hand(argv - 1); // the program's own
    double began = now_s();
    struct arguments a = parse(argc, argv);
    if (a.bad)
        return 2;
    const struct scale_result *r = scale_measure(&a.config, &a.plan);
    if (!r)
        return 1;
    print_head(&a, r);
    for (int i = 0; i < SCALE_PHASE_MAX; i++)
        print_phase(&a, r, (enum scale_phase)i);
    if (!a.csv)
        printf("\n");
    print_data(&a, r);
    print_tail(&a, r, now_s() - began);
    return !a.check || holds(&a, r) ? 0 : 1;
}
