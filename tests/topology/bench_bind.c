// SPDX-License-Identifier: Apache-2.0
//
// bench_bind DIR [--search STEPS] [--only NAME] [--cases] [--bind OPTIONS]: our mapper against what
// Slurm does without us and against mpibind, on every machine (hwloc XML) of a folder, whole and in
// part, for many numbers of ranks; as a table. With --search also against the best mapping that so
// many steps of a random search find.
//
// Ends with 1 if ours hit a gate, was refused or had unequal shares, or if others with equal shares
// were better, or the search by more than half a point.
#include <argp.h>
#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pmix_server/topology/discover.h"
#include "pmix_server/topology/map.h"
#include "pmix_server/wire/options.h"
#include "tests/topology/cases.h"
#include "tests/topology/launchers.h"
#include "tests/topology/made.h"
#include "tests/topology/search.h"

enum { OURS = LAUNCHERS, BEST, BEST_EQUAL, FOUND, COLUMNS, RANKS_MAX = 24 };

struct sums {
    double all[COLUMNS], gpu[COLUMNS], part[COLUMNS];
    uint32_t n_all, n_gpu, n_part;
};

struct bench {
    const char *folder, *only;
    uint32_t steps;
    bool cases;
    struct pm_bind_options options;
    struct sums sums;
    uint32_t beaten, gates, refused, missed, unequal, machines;
    uint32_t beaten_by_unequal;  // by shares that rows 5, 7 and 13 of the case table forbid
    uint32_t gates_of[COLUMNS];
    double missed_by, slowest_ms;
};

// One number of ranks on one grant of one machine.
struct one {
    struct bench *bench;
    const char *machine;
    const struct grant *grant;
    bool whole;
    struct score_case c;
    struct score_rank *ranks;
    struct score scores[COLUMNS];
    double ms;
};

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void keep_best(struct one *one, int column, const struct score *score)
{
    if (score->total > one->scores[column].total)
        one->scores[column] = *score;
}

static int take_ours(struct one *one, const struct pm_binding *binding)
{
    for (uint32_t r = 0; r < binding->n_ranks; r++) {
        const struct pm_bind_rank *from = &binding->ranks[r];
        struct score_rank *to = &one->ranks[r];
        to->gpus = calloc((size_t)from->n_gpus + 1, sizeof(*to->gpus));
        if (!to->gpus || pm_set_copy(&to->pus, &from->pus) < 0)
            return -ENOMEM;
        to->n_gpus = from->n_gpus;
        memcpy(to->gpus, from->gpus, from->n_gpus * sizeof(*to->gpus));
    }
    return score_mapping(&one->c, one->ranks, &one->scores[OURS]);
}

static int map_ours(struct one *one)
{
    struct pm_bind_request request = {.allowed = &one->grant->allowed,
                                      .gpus = one->grant->gpus,
                                      .n_gpus = one->grant->n_gpus,
                                      .n_ranks = one->c.n_ranks,
                                      .options = one->bench->options};
    struct pm_binding binding;
    double start = cpu_ms();
    int rc = pm_bind_ranks(one->c.machine, &request, &binding);
    one->ms = cpu_ms() - start;
    if (rc < 0) {
        printf("%s, %s, %u ranks: refused: %s\n", one->machine, one->grant->name, one->c.n_ranks,
               binding.sentence);
        one->bench->refused++;
    }
    rc = rc < 0 ? rc : take_ours(one, &binding);
    pm_binding_done(&binding);
    return rc;
}

// From ours (is there something close by?), and from equal shares (is there something else?).
static void search(struct one *one)
{
    const uint32_t steps = one->bench->steps;
    const struct search_plan plans[] = {{steps / 4, 0.3, 1}, {steps / 4, 3, 2}, {steps / 2, 3, 3}};
    struct score found;
    for (int i = 0; i < 3; i++)
        if (search_mapping(&one->c, i < 2 ? one->ranks : NULL, &plans[i], &found) == 0)
            keep_best(one, FOUND, &found);
}

static int score_launchers(struct one *one)
{
    int n = one->c.n_gpus ? LAUNCHERS_OF_SLURM : 2; // without GPUs they differ in their cores only
    for (int i = 0; i < LAUNCHERS; i++) {
        if (i >= n && i < LAUNCHERS_OF_SLURM) {
            one->scores[i] = one->scores[i % 2];
            continue;
        }
        int rc = launch(&launchers[i], &one->c, one->ranks);
        rc = rc < 0 ? rc : score_mapping(&one->c, one->ranks, &one->scores[i]);
        ranks_done(one->ranks, one->c.n_ranks);
        if (rc < 0)
            return rc;
        keep_best(one, BEST, &one->scores[i]);
        if (score_keeps_to_rows(&one->scores[i]))
            keep_best(one, BEST_EQUAL, &one->scores[i]);
    }
    return 0;
}

static void add(double *sums, uint32_t *n, const struct one *one)
{
    for (int i = 0; i < COLUMNS; i++)
        sums[i] += one->scores[i].total;
    (*n)++;
}

static void print_parts(const char *who, const struct score *score)
{
    printf("    %-6s %6.2f", who, score->total);
    for (int i = 0; i < SCORE_PARTS; i++)
        printf(" %s %.3f", score_part_names[i], score->part[i]);
    printf(" apart: cores %u, GPUs %u", score->cores_apart, score->gpus_apart);
    printf("%s%s\n", score->gate ? " GATE " : "", score->gate ? score->gate : "");
}

static void report(const struct one *one, const char *what)
{
    printf("%s, %s, %u ranks: %s\n", one->machine, one->grant->name, one->c.n_ranks, what);
    print_parts("ours", &one->scores[OURS]);
    print_parts("best", &one->scores[BEST]);
    if (one->bench->steps)
        print_parts("found", &one->scores[FOUND]);
    for (int i = 0; i < LAUNCHERS && one->bench->cases; i++)
        printf("    %6.2f %s\n", one->scores[i].total, launchers[i].name);
}

static bool is_below(const struct score *score, const struct score *other)
{
    return score->total < other->total - 1e-6;
}

// Tells of what should not be.
static void complain(const struct one *one)
{
    const struct bench *b = one->bench;
    const struct score *s = one->scores;
    if (one->ms > 5)
        report(one, "slow");
    if (s[OURS].gate || is_below(&s[OURS], &s[BEST_EQUAL]))
        report(one, "beaten");
    else if (!score_keeps_to_rows(&s[OURS]))
        report(one, "shares are not equal");
    else if (s[FOUND].total - s[OURS].total > 0.5)
        report(one, "the search finds better");
    else if (is_below(&s[OURS], &s[BEST]))
        report(one, "beaten by unequal shares");
    else if (b->cases)
        report(one, "good");
}

static void count(struct one *one)
{
    struct bench *b = one->bench;
    const struct score *s = one->scores;
    double missed = s[FOUND].total - s[OURS].total;
    for (int i = 0; i < COLUMNS; i++)
        b->gates_of[i] += s[i].gate != NULL;
    if (one->whole)
        add(b->sums.all, &b->sums.n_all, one);
    if (one->whole && one->c.n_gpus)
        add(b->sums.gpu, &b->sums.n_gpu, one);
    if (!one->whole)
        add(b->sums.part, &b->sums.n_part, one);
    b->slowest_ms = one->ms > b->slowest_ms ? one->ms : b->slowest_ms;
    b->missed_by = missed > b->missed_by ? missed : b->missed_by;
    b->gates += s[OURS].gate != NULL;
    b->beaten += is_below(&s[OURS], &s[BEST_EQUAL]);
    b->beaten_by_unequal += is_below(&s[OURS], &s[BEST]) && !is_below(&s[OURS], &s[BEST_EQUAL]);
    b->unequal += !score_keeps_to_rows(&s[OURS]);
    b->missed += missed > 0.5;
    complain(one);
}

static int run(struct one *one)
{
    int rc = score_launchers(one);
    rc = rc < 0 ? rc : map_ours(one);
    keep_best(one, FOUND, &one->scores[OURS]);
    keep_best(one, FOUND, &one->scores[BEST_EQUAL]);
    if (rc == 0 && one->bench->steps)
        search(one);
    ranks_done(one->ranks, one->c.n_ranks);
    return rc;
}

static int run_case(const struct one *on, uint32_t n_ranks)
{
    struct one one = *on;
    one.c.n_ranks = n_ranks;
    int rc = score_case_init(&one.c);
    one.ranks = calloc(n_ranks, sizeof(*one.ranks));
    if (!one.ranks)
        rc = -ENOMEM;
    rc = rc < 0 ? rc : run(&one);
    if (rc == 0)
        count(&one);
    free(one.ranks);
    score_case_done(&one.c);
    return rc == -ENOMEM ? rc : 0;
}

static uint32_t count_cores(const struct pm_machine *machine, const struct pm_set *allowed)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < machine->n_cores; i++)
        n += pm_set_intersects(&machine->cores[i].pus, allowed);
    return n;
}

static int run_whole(const struct one *on)
{
    uint32_t cores = count_cores(on->c.machine, on->c.allowed);
    int rc = 0;
    for (uint32_t n = 1; n <= RANKS_MAX && rc == 0; n++)
        rc = run_case(on, n);
    if (rc == 0 && on->c.n_gpus > RANKS_MAX)
        rc = run_case(on, on->c.n_gpus);
    if (rc == 0 && cores > RANKS_MAX)
        rc = run_case(on, cores);
    return rc;
}

static int run_part(const struct one *on)
{
    static const uint32_t parts[] = {1, 2, 3, 4, 5, 7, 8, 12};
    int rc = 0;
    for (uint32_t i = 0; i < sizeof(parts) / sizeof(*parts) && rc == 0; i++)
        rc = run_case(on, parts[i]);
    return rc;
}

static int run_machine(struct bench *bench, const char *name, const struct pm_machine *machine,
                       const struct pm_set *usable)
{
    bench->machines++;
    for (uint32_t kind = 0; kind < GRANTS; kind++) {
        struct grant grant;
        int rc = grant_of(machine, usable, kind, &grant);
        if (rc < 0)
            return rc;
        if (rc > 0)
            continue;
        const struct one on = {.bench = bench,
                               .machine = name,
                               .grant = &grant,
                               .whole = kind == 0,
                               .c = {.machine = machine,
                                     .allowed = &grant.allowed,
                                     .gpus = grant.gpus,
                                     .n_gpus = grant.n_gpus}};
        rc = on.whole ? run_whole(&on) : run_part(&on);
        grant_done(&grant);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int run_file(struct bench *bench, const char *path, const char *name)
{
    struct pm_machine machine;
    struct pm_set usable = {0};
    char error[PM_ERROR_CAP];
    if (pm_discover_xml(path, &machine, &usable, error) < 0) {
        printf("%s: left out: %s\n", name, error);
        return 0;
    }
    int rc = pm_set_empty(&usable) ? 0 : run_machine(bench, name, &machine, &usable);
    pm_machine_done(&machine);
    pm_set_done(&usable);
    return rc;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int run_folder(struct bench *bench)
{
    char *paths[] = {(char *)bench->folder, NULL};
    FTS *walk = fts_open(paths, FTS_NOCHDIR | FTS_LOGICAL, by_name);
    int rc = walk ? 0 : -errno;
    for (FTSENT *e; rc == 0 && (e = fts_read(walk));) {
        size_t len = strlen(e->fts_name);
        if (e->fts_info == FTS_F && len > 4 && strcmp(e->fts_name + len - 4, ".xml") == 0 &&
            (!bench->only || strstr(e->fts_name, bench->only)))
            rc = run_file(bench, e->fts_path, e->fts_name);
    }
    if (walk)
        fts_close(walk);
    return rc;
}

static double mean(double sum, uint32_t n)
{
    return n ? sum / n : 0;
}

// The mapper's time on a big machine of regular shape: 256 cores, 512 PUs, 8 GPUs. Best of five.
static double time_big(uint32_t n_ranks)
{
    const struct made_shape shape = {.packages = 2, .numas = 4, .l3s = 4, .cores = 8, .threads = 2};
    struct pm_machine m = made_machine(shape);
    uint32_t gpus[8];
    double best = 1e9;
    for (uint32_t i = 0; i < 8; i++)
        gpus[i] = made_gpu(&m, PM_GPU_NVIDIA, &m.numas[i].pus);
    const struct pm_bind_request request = {
        .allowed = &m.pus, .gpus = gpus, .n_gpus = 8, .n_ranks = n_ranks};
    for (int i = 0; i < 5; i++) {
        struct pm_binding binding;
        double start = cpu_ms();
        if (pm_bind_ranks(&m, &request, &binding) == 0 && cpu_ms() - start < best)
            best = cpu_ms() - start;
        pm_binding_done(&binding);
    }
    pm_machine_done(&m);
    return best;
}

static void print_table(const struct bench *b)
{
    printf("\n| who | whole machines | of these, with GPUs | parts of machines | gates hit "
           "|\n|---|---|---|---|---|\n");
    for (int i = 0; i < COLUMNS - (b->steps == 0); i++) {
        static const char *const names[COLUMNS] = {
            [OURS] = "**pm-supervise**", [BEST] = "best of the others per case",
            [BEST_EQUAL] = "the same, with shares as equal as rows 5, 7 and 13 ask",
            [FOUND] = "best that the search finds"};
        const char *name = i < LAUNCHERS ? launchers[i].name : names[i];
        printf("| %s | %.1f | %.1f | %.1f | %u |\n", name, mean(b->sums.all[i], b->sums.n_all),
               mean(b->sums.gpu[i], b->sums.n_gpu), mean(b->sums.part[i], b->sums.n_part),
               b->gates_of[i]);
    }
    printf("\n%u machines; %u, %u and %u cases. Ours: beaten %u times, and %u times by unequal shares; "
           "unequal %u times, %u gates, %u refused, slowest %.2f ms.\n",
           b->machines, b->sums.n_all, b->sums.n_gpu, b->sums.n_part, b->beaten, b->beaten_by_unequal,
           b->unequal, b->gates, b->refused, b->slowest_ms);
    printf("128 ranks on 512 PUs with 8 GPUs: %.2f ms; 100 ranks: %.2f ms.\n", time_big(128),
           time_big(100));
    if (b->steps)
        printf("Search, %u steps a case: better by more than 0.5 in %u cases, at most by %.2f.\n",
               b->steps, b->missed, b->missed_by);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct bench *b = state->input;
    char sentence[PM_BIND_SENTENCE_BYTES];
    switch (key) {
    case 's':
        b->steps = (uint32_t)strtoul(arg, NULL, 10);
        return 0;
    case 'o':
        b->only = arg;
        return 0;
    case 'c':
        b->cases = true;
        return 0;
    case 'b':
        if (pm_bind_options_read(arg, &b->options, sentence) < 0)
            argp_error(state, "--bind: %s", sentence);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0)
            argp_usage(state);
        b->folder = arg;
        return 0;
    case ARGP_KEY_END:
        if (state->arg_num != 1)
            argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"search", 's', "STEPS", 0, "also look for better mappings, so many steps a case", 0},
        {"only", 'o', "NAME", 0, "machines with NAME in their file's name", 0},
        {"cases", 'c', NULL, 0, "print every case, with the score of each launcher", 0},
        {"bind", 'b', "OPTIONS", 0, "what our mapper is asked for, as with srun --pm-bind", 0},
        {0},
    };
    static const struct argp argp = {
        options, parse, "DIR", "Scores our mapping and Slurm's on hwloc XML files.", 0, 0, 0};
    struct bench bench = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &bench);
    int rc = run_folder(&bench);
    if (rc < 0) {
        fprintf(stderr, "bench_bind: %s: %s\n", bench.folder, strerror(-rc));
        return 2;
    }
    print_table(&bench);
    return bench.beaten || bench.unequal || bench.gates || bench.refused || bench.missed ? 1 : 0;
}
