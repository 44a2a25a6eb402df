// SPDX-License-Identifier: Apache-2.0
//
// pm-sim traces: runs each scenario of scenario*.c and compares its timeline, whole, with the file
// of its name; --update writes the files instead. A change of behaviour is so seen in review. What
// a reader does not need is left out, as the scenario says: heartbeats, and how the tree is made.
#include <errno.h>
#include <string.h>

#include "tests/sim/check.h"
#include "tests/sim/commands.h"
#include "tests/sim/scenario.h"

#define MAX_MS 400000u

struct run {
    const struct scenario *scenario;
    struct sim *sim;
    bool struck[SCENARIO_FAULTS];
};

// --- a run ---------------------------------------------------------------------------------------

static void strike(struct run *run)
{
    struct sim *s = run->sim;
    const struct pm_core *core = s->procs[s->p.nnodes].core;
    for (int i = 0; i < SCENARIO_FAULTS; i++) {
        const struct scenario_fault *f = &run->scenario->faults[i];
        if (run->struck[i] || f->fault.kind == SIM_FAULT_NONE)
            continue;
        if (f->state && (sim_state(s) != f->state || !core || pm_core_epoch(core) != f->epoch))
            continue;
        run->struck[i] = true;
        sim_fault_at(s, s->now_ns + f->after_ms * SIM_MS, &f->fault);
    }
}

static bool all_struck(const struct run *run)
{
    for (int i = 0; i < SCENARIO_FAULTS; i++)
        if (run->scenario->faults[i].fault.kind != SIM_FAULT_NONE && !run->struck[i])
            return false;
    return true;
}

static bool anything_left(const struct sim *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->procs[i].core)
            return true;
    return s->srun.alive;
}

static void live(struct run *run)
{
    struct sim *s = run->sim;
    sim_launch(s);
    strike(run);
    while (anything_left(s) && s->now_ns < MAX_MS * SIM_MS && sim_step(s))
        strike(run);
    if (!s->violation[0] && !all_struck(run))
        sim_violate(s, "a fault of the scenario did not strike");
    if (!s->violation[0] && !s->done)
        sim_violate(s, "the step does not end");
    if (!s->violation[0] && s->n_fault == 0)
        (void)sim_check_end(s);
}

// --- what a reader sees ----------------------------------------------------------------------------

static bool contains_any(const char *line, const char *const *words)
{
    for (; *words; words++)
        if (strstr(line, *words))
            return true;
    return false;
}

static const struct {
    uint32_t unless; // shown with this bit
    const char *words[20];
} rules[] = {
    {SHOW_TREE, {": dials ", ": link ", "  attach", "  redirect", "  up", "  confirm\n",
                 "  down view", "  probe\n", "  probed\n", "  call\n", ": closes link",
                 "agent starts"}},
    {SHOW_LOCAL, {": shim joined", ": launched", "server ready", ": rank started", ": rank exited",
                  ": rank gone", " connected epoch", " finalized epoch", ": notified",
                  "prepares server", "drops server", ": job state", ": ends\n", "  map\n"}},
    {SHOW_FENCES, {": fence ", "  fence "}},
    {SHOW_PINGS, {"  ping\n", "  grant\n"}},
    {0, {"  say\n"}},
};

static bool hidden(const struct scenario *c, const char *line)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
        if (!(c->show & rules[i].unless) && contains_any(line, rules[i].words))
            return true;
    return false;
}

// The text of a run; freed by the caller. *ret_good: no invariant was violated.
static char *timeline(const struct scenario *c, bool *ret_good)
{
    struct sim_params p;
    char *raw = NULL, *text = NULL;
    size_t raw_len, len;
    scenario_params(c, &p);
    struct run run = {.scenario = c, .sim = sim_new(&p)};
    run.sim->trace = open_memstream(&raw, &raw_len);
    run.sim->trace_all = c->show & SHOW_PINGS;
    FILE *out = open_memstream(&text, &len);
    SIM_ASSERT(run.sim->trace && out);
    live(&run);
    fclose(run.sim->trace);
    fprintf(out, "%s\n\n", c->says);
    for (char *line = raw; *line;) {
        size_t n = strcspn(line, "\n") + 1;
        char kept = line[n];
        line[n] = '\0';
        if (!hidden(c, line))
            fputs(line, out);
        line[n] = kept;
        line += n;
    }
    fclose(out);
    *ret_good = run.sim->violation[0] == '\0';
    if (!*ret_good)
        printf("%s: %s\n", c->name, run.sim->violation);
    sim_free(run.sim);
    free(raw);
    return text;
}

// --- files -----------------------------------------------------------------------------------------

static void path_of(const char *dir, const struct scenario *c, char *buf, size_t cap)
{
    int n = snprintf(buf, cap, "%s/%s.txt", dir, c->name);
    SIM_ASSERT(n > 0 && (size_t)n < cap);
}

static bool update(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    bool good = f && fputs(text, f) >= 0;
    if (f)
        good &= fclose(f) == 0;
    if (!good)
        printf("%s: %s\n", path, strerror(errno));
    return good;
}

static bool same(const char *path, const char *text)
{
    char command[8300];
    FILE *f = fopen(path, "r");
    size_t len = strlen(text), n = 0;
    char *kept = sim_alloc(len + 2, 1);
    if (f) {
        n = fread(kept, 1, len + 1, f);
        fclose(f);
    }
    bool equal = f && n == len && memcmp(kept, text, len) == 0;
    free(kept);
    if (equal)
        return true;
    (void)snprintf(command, sizeof(command), "diff -uN --label '%s' --label now '%s' -", path, path);
    fflush(stdout);
    FILE *diff = popen(command, "w");
    if (diff) {
        fputs(text, diff);
        (void)pclose(diff);
    }
    return false;
}

static bool one(const struct scenario *c, const char *dir, bool write)
{
    char path[4096];
    bool good;
    char *text = timeline(c, &good);
    path_of(dir, c, path, sizeof(path));
    if (!(write ? update(path, text) : same(path, text)))
        good = false;
    free(text);
    return good;
}

static bool wanted(const struct scenario *c, int argc, char **argv)
{
    bool any = false;
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], c->name))
            return true;
        any |= argv[i][0] != '-';
    }
    return !any;
}

int sim_command_traces(int argc, char **argv)
{
    bool write = false;
    uint32_t ran = 0, bad = 0;
    if (argc < 2) {
        fprintf(stderr, "pm-sim traces DIR [--update] [NAME...]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        write |= !strcmp(argv[i], "--update");
    const struct scenario *scenario;
    for (uint32_t i = 0; (scenario = scenario_at(i)); i++) {
        if (!wanted(scenario, argc - 2, argv + 2))
            continue;
        ran++;
        bad += !one(scenario, argv[1], write);
    }
    printf("%u scenarios, %u differ or fail\n", ran, bad);
    if (bad && !write)
        printf("if it is what you meant: pm-sim traces %s --update, and read the difference\n",
               argv[1]);
    return bad || !ran ? 1 : 0;
}
