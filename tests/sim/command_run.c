// SPDX-License-Identifier: Apache-2.0
//
// pm-sim run: one seed, a range of them, or a list of past failures.
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "tests/sim/commands.h"

struct totals {
    uint64_t seeds, failed, events, steps, restarts, restarted, virtual_ns;
    uint64_t cells[PM_STATE_MAX][SIM_FAULT_MAX];
    uint32_t *per_seed; // events
    uint64_t cap;
};

static void count(struct totals *t, const struct sim *s, bool good)
{
    if (t->seeds == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 1024;
        t->per_seed = realloc(t->per_seed, t->cap * sizeof(*t->per_seed));
        SIM_ASSERT(t->per_seed);
    }
    t->per_seed[t->seeds++] = (uint32_t)s->stats.events;
    t->failed += !good;
    t->events += s->stats.events;
    t->steps += s->stats.steps;
    t->restarts += s->stats.restarts;
    t->restarted += s->stats.restarts > 0;
    t->virtual_ns += s->now_ns;
    for (int state = 0; state < PM_STATE_MAX; state++)
        for (int k = 0; k < SIM_FAULT_MAX; k++)
            t->cells[state][k] += s->stats.cells[state][k];
}

// --trace-all: heartbeats, too.
static bool trace_all;
static enum sim_profile profile;

static bool run_seed(struct totals *t, uint64_t seed, FILE *trace)
{
    struct sim_params p;
    sim_params_of_seed(&p, seed, profile);
    struct sim *s = sim_new(&p);
    s->trace = trace;
    s->trace_all = trace_all;
    if (trace)
        sim_params_print(&p, trace);
    bool good = sim_run(s);
    if (!good)
        printf("FAILED seed %" PRIu64 " at %.3f s: %s\n  replay: pm-sim run --profile %s --seed %" PRIu64
               " --trace\n", seed, (double)s->now_ns / 1e9, s->violation, sim_profile_name(profile), seed);
    fflush(stdout);
    count(t, s, good);
    sim_free(s);
    return good;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_cells(const struct totals *t)
{
    for (int state = PM_STATE_FORMING; state < PM_STATE_MAX; state++)
        for (int k = SIM_FAULT_NONE + 1; k < SIM_FAULT_MAX; k++)
            printf("cell %s %s %" PRIu64 "\n", pm_state_name((enum pm_state)state),
                   sim_fault_name((enum sim_fault_kind)k), t->cells[state][k]);
}

// For scripts/simulate, which adds up several of them.
static void print_raw(const struct totals *t, double seconds)
{
    for (uint64_t i = 0; i < t->seeds; i++)
        printf("seed %u\n", t->per_seed[i]);
    printf("sum %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %.1f\n",
           t->seeds, t->failed, t->events, t->virtual_ns, t->restarts, t->restarted, seconds);
}

static int finish(struct totals *t, double seconds, bool cells)
{
    if (t->seeds)
        qsort(t->per_seed, t->seeds, sizeof(*t->per_seed), compare);
    if (cells)
        print_cells(t);
    printf("%" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64 " events (median %u), %.1f job-hours, "
           "%" PRIu64 " restarts, %" PRIu64 " seeds with one, %.0f events per CPU second\n",
           t->seeds, t->failed, t->events, t->seeds ? t->per_seed[t->seeds / 2] : 0,
           (double)t->virtual_ns / 3.6e12, t->restarts, t->restarted,
           seconds > 0 ? (double)t->events / seconds : 0);
    free(t->per_seed);
    return t->failed ? 1 : 0;
}

static double now(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// One seed a line, text behind it: what it once found.
static void run_list(struct totals *t, const char *path)
{
    char line[512];
    FILE *f = fopen(path, "r");
    if (!f) {
        fprintf(stderr, "pm-sim: cannot read %s\n", path);
        exit(2);
    }
    while (fgets(line, sizeof(line), f))
        if (line[0] >= '0' && line[0] <= '9')
            (void)run_seed(t, strtoull(line, NULL, 10), NULL);
    fclose(f);
}

static void take_profile(const char *name)
{
    for (profile = 0; profile < SIM_PROFILE_MAX; profile++)
        if (!strcmp(name, sim_profile_name(profile)))
            return;
    fprintf(stderr, "pm-sim: there is no profile \"%s\"; profiles: swarm, spares\n", name);
    exit(2);
}

int sim_command_run(int argc, char **argv)
{
    struct totals t = {0};
    uint64_t first = 1, last = 0;
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID), limit = 0;
    FILE *trace = NULL;
    bool cells = false, raw = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--trace"))
            trace = stdout;
        else if (!strcmp(argv[i], "--trace-all"))
            trace_all = (trace = stdout) != NULL;
        else if (!strcmp(argv[i], "--raw"))
            raw = true;
        else if (!strcmp(argv[i], "--cells"))
            cells = true;
        else if (!strcmp(argv[i], "--seed"))
            first = last = strtoull(arg, NULL, 10);
        else if (!strcmp(argv[i], "--seeds") && sscanf(arg, "%" SCNu64 "-%" SCNu64, &first, &last) == 2)
            ;
        else if (!strcmp(argv[i], "--profile"))
            take_profile(arg);
        else if (!strcmp(argv[i], "--seconds"))
            limit = strtod(arg, NULL);
        else if (!strcmp(argv[i], "--list"))
            run_list(&t, arg);
    }
    for (uint64_t seed = first; seed <= last && (limit <= 0 || now(CLOCK_MONOTONIC) - start < limit); seed++)
        (void)run_seed(&t, seed, trace);
    if (raw)
        print_raw(&t, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return finish(&t, now(CLOCK_PROCESS_CPUTIME_ID) - cpu, cells);
}
