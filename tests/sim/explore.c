// SPDX-License-Identifier: Apache-2.0
//
// pm-sim explore --nodes N --faults F [--from STATE] [--only FAULT] [--ranks-end] [--must-close]
//                [--spares N] [--shrink] [--relaunch] [--latency-us L] [--delay-us D] [--every-order]
//                [--seconds S] [--mib M] [--states N] [--audit]
//
// All futures of a small world, up to F faults at any moments: every state that differs is visited
// once. Ranks run until something happens to them; with --ranks-end they may also end with 0 at any
// moment. Breadth first, so that what is found is short; depth first when many wait. Checked
// in each state: the invariants of explore_act.c, and that something can happen unless the step is
// over. When no new state is left (closure): from each of them the step can still come to its end,
// or run. A limit that ends the search before closure is no failure, unless --must-close. With --audit
// the hash itself is checked, too (explore_audit.c).
//
// Without --latency-us all that is sent arrives at one instant, in any order. With it all takes that long,
// and up to D more, and of the orders of processes at one instant one is tried (explore_reduce.c), with
// --every-order all.
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "tests/sim/commands.h"
#include "tests/sim/explore.h"

#define MANY 30000 // worlds that wait: beyond that depth first

struct waiting {
    struct x_world *world;
    uint32_t number;
    uint32_t next; // choice
};

struct search {
    uint64_t max_states, max_bytes;
    double until;
    // Visited: hash -> number, open addressing
    uint64_t *hashes;
    uint32_t *numbers;
    uint64_t cap;
    // By number
    uint32_t *parent;
    uint16_t *choice; // of the parent that led here
    uint64_t n, cap_n;
    struct x_world *root;
    // To be expanded: a ring
    struct waiting *ring;
    uint64_t head, n_ring, cap_ring;
    uint32_t (*edges)[2];
    uint64_t n_edges, cap_edges;
    uint32_t *ends; // numbers of states where the step is over
    uint64_t n_ends, cap_ends;
    uint64_t transitions;
    uint64_t n_instants, instants; // worlds where time has just passed, and the sum of their hashes
    uint32_t widest;
    bool deep; // depth first
    struct x_audit *audit; // NULL: nobody asks whether the hash is right
    bool must_close;
};

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// Of this process, all in all: the machine may have other work.
static double processor_seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void *grow(void *list, uint64_t n, uint64_t *cap, size_t size)
{
    if (n < *cap)
        return list;
    *cap = *cap ? 2 * *cap : 1024;
    list = realloc(list, *cap * size);
    SIM_ASSERT(list);
    return list;
}

static uint64_t resident_bytes(void)
{
    unsigned long long size = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%llu %llu", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * 4096;
}

// --- visited -------------------------------------------------------------------------------------

static void rehash(struct search *s)
{
    uint64_t old = s->cap, *hashes = s->hashes;
    uint32_t *numbers = s->numbers;
    s->cap = old ? 2 * old : 1 << 16;
    s->hashes = sim_alloc(s->cap, sizeof(*s->hashes));
    s->numbers = sim_alloc(s->cap, sizeof(*s->numbers));
    for (uint64_t i = 0; i < old; i++) {
        uint64_t at = hashes[i] & (s->cap - 1);
        if (!hashes[i])
            continue;
        while (s->hashes[at])
            at = (at + 1) & (s->cap - 1);
        s->hashes[at] = hashes[i];
        s->numbers[at] = numbers[i];
    }
    free(hashes);
    free(numbers);
}

// The number of the state with this hash; *ret_new: it is a new one.
static uint32_t visit(struct search *s, uint64_t hash, uint32_t parent, uint16_t choice,
                      bool *ret_new)
{
    if (s->n * 3 >= s->cap * 2)
        rehash(s);
    hash = hash ? hash : 1;
    uint64_t at = hash & (s->cap - 1);
    while (s->hashes[at] && s->hashes[at] != hash)
        at = (at + 1) & (s->cap - 1);
    *ret_new = !s->hashes[at];
    if (!*ret_new)
        return s->numbers[at];
    s->hashes[at] = hash;
    s->numbers[at] = (uint32_t)s->n;
    uint64_t cap = s->cap_n;
    s->parent = grow(s->parent, s->n, &cap, sizeof(*s->parent));
    s->choice = grow(s->choice, s->n, &s->cap_n, sizeof(*s->choice));
    s->parent[s->n] = parent;
    s->choice[s->n] = choice;
    return (uint32_t)s->n++;
}

// --- to be expanded ------------------------------------------------------------------------------

static void put(struct search *s, const struct x_world *w, uint32_t number)
{
    if (s->n_ring == s->cap_ring) {
        uint64_t cap = s->cap_ring ? 2 * s->cap_ring : 1024;
        struct waiting *ring = sim_alloc(cap, sizeof(*ring));
        for (uint64_t i = 0; i < s->n_ring; i++)
            ring[i] = s->ring[(s->head + i) & (s->cap_ring - 1)];
        free(s->ring);
        s->ring = ring;
        s->head = 0;
        s->cap_ring = cap;
    }
    s->ring[(s->head + s->n_ring++) & (s->cap_ring - 1)] =
        (struct waiting){x_world_keep(w), number, 0};
}

// The one to go on with: the oldest, or the newest when it is time to go deep.
static struct waiting *current(struct search *s)
{
    uint64_t at = s->head + (s->deep ? s->n_ring - 1 : 0);
    return &s->ring[at & (s->cap_ring - 1)];
}

static void drop_current(struct search *s)
{
    struct waiting *w = current(s);
    x_world_drop(w->world);
    free(w->world);
    if (!s->deep)
        s->head = (s->head + 1) & (s->cap_ring - 1);
    s->n_ring--;
}

// --- what was found ------------------------------------------------------------------------------

static void tell_path(struct search *s, uint32_t number, uint16_t last, const char *what)
{
    struct sim fake = {.p.nnodes = x_nnodes, .ntasks = x_nnodes, .nranks = x_nnodes, .trace = stdout};
    struct x_choice choices[X_CHOICES_MAX];
    uint32_t path[100000], n = 0;
    char name[64];
    for (uint32_t at = number; at != 0 && n < 100000; at = s->parent[at])
        path[n++] = s->choice[at];
    printf("FAILED: %s; %u steps:\n", what, n + 1);
    struct x_world *w = sim_alloc(1, sizeof(*w));
    x_world_copy(w, s->root);
    x_trace = &fake;
    for (uint32_t i = n + 1; i-- > 0;) {
        uint32_t c = i > 0 ? path[i - 1] : last;
        if (c >= x_world_choices(w, choices))
            break;
        fake.now_ns = w->now_ns - SIM_S;
        sim_tracef(&fake, "  -- %s", x_choice_name(w, choices[c], name, sizeof(name)));
        x_world_do(w, choices[c]);
    }
    x_trace = NULL;
    x_world_drop(w);
    free(w);
}

// --- the search ----------------------------------------------------------------------------------

static bool is_end(const struct x_world *w)
{
    return w->done || (!x_ranks_end && x_world_state(w) == PM_STATE_RUNNING);
}

static void note_end(struct search *s, const struct waiting *at)
{
    if (at->next > 0 || !is_end(at->world))
        return;
    s->ends = grow(s->ends, s->n_ends, &s->cap_ends, sizeof(*s->ends));
    s->ends[s->n_ends++] = at->number;
}

// Only of those that are no ends: the others need no way to one.
static void note_edge(struct search *s, uint32_t from, uint32_t to)
{
    s->edges = grow(s->edges, s->n_edges, &s->cap_edges, sizeof(*s->edges));
    s->edges[s->n_edges][0] = from;
    s->edges[s->n_edges++][1] = to;
}

// Does a world with the same hash have the same future? `number`: of a new one.
static bool audit(struct search *s, const struct x_world *w, uint64_t hash, uint32_t number)
{
    uint32_t other;
    if (number != UINT32_MAX) {
        x_audit_keep(s->audit, w, hash, number);
    } else if (!x_audit_same(s->audit, w, hash, &other)) {
        char what[sizeof(x_violation)];
        memcpy(what, x_violation, sizeof(what));
        tell_path(s, s->parent[other], s->choice[other], what);
        return false;
    }
    return true;
}

// One choice of a world, and where it leads. False: a violation.
static bool follow(struct search *s, struct waiting *from, struct x_choice choice)
{
    static struct x_world next;
    bool is_new;
    uint32_t number = from->number;
    uint16_t index = (uint16_t)from->next++;
    x_world_copy(&next, from->world);
    x_world_do(&next, choice);
    s->transitions++;
    if (x_violation[0]) {
        char what[sizeof(x_violation)];
        memcpy(what, x_violation, sizeof(what));
        x_world_drop(&next);
        tell_path(s, number, index, what);
        return false;
    }
    uint64_t hash = x_world_hash(&next);
    uint32_t to = visit(s, hash, number, index, &is_new);
    bool sound = !s->audit || audit(s, &next, hash, is_new ? to : UINT32_MAX);
    if (!sound)
        tell_path(s, number, index, "the second one");
    if (!is_end(from->world))
        note_edge(s, number, to);
    if (is_new && choice.kind == X_TIME) {
        s->n_instants++;
        s->instants += sim_rng_mix(hash);
    }
    if (is_new)
        put(s, &next, to); // *from may have moved
    x_world_drop(&next);
    return sound;
}

// Breadth first a world is done with at once; going deep, each new one comes before its siblings.
static bool expand(struct search *s)
{
    struct x_choice choices[X_CHOICES_MAX];
    struct waiting *from = current(s);
    uint32_t n = x_world_choices(from->world, choices);
    note_end(s, from);
    if (n == 0 && !from->world->done) {
        tell_path(s, from->number, UINT16_MAX, "nothing can happen, and the step is not over");
        return false;
    }
    s->widest = n > s->widest ? n : s->widest;
    uint64_t before = s->n_ring;
    while (from->next < n && (!s->deep || s->n_ring == before)) {
        if (!follow(s, from, choices[from->next]))
            return false;
        if (!s->deep)
            from = current(s);
        else
            from = &s->ring[(s->head + before - 1) & (s->cap_ring - 1)];
    }
    if (from->next >= n && (!s->deep || s->n_ring == before))
        drop_current(s);
    return true;
}

// From each state an end can be reached: backwards from the ends, until nothing is added.
static bool all_can_end(struct search *s)
{
    bool *can = sim_alloc(s->n, sizeof(*can));
    bool more = true;
    for (uint64_t i = 0; i < s->n_ends; i++)
        can[s->ends[i]] = true;
    while (more) {
        more = false;
        for (uint64_t i = s->n_edges; i-- > 0;)
            if (can[s->edges[i][1]] && !can[s->edges[i][0]])
                more = can[s->edges[i][0]] = true;
    }
    uint64_t first = 0;
    while (first < s->n && can[first])
        first++;
    free(can);
    if (first < s->n)
        tell_path(s, (uint32_t)first, UINT16_MAX, "6: from here the step cannot end any more");
    return first == s->n;
}

static const char *limit(struct search *s)
{
    s->deep = s->n_ring > MANY;
    if (s->n >= s->max_states)
        return "states";
    if (s->transitions % 1024)
        return NULL;
    if (now() >= s->until)
        return "time";
    uint64_t bytes = resident_bytes();
    return bytes >= s->max_bytes ? "memory" : NULL;
}

static void search_done(struct search *s)
{
    while (s->n_ring > 0)
        drop_current(s);
    free(s->hashes);
    free(s->numbers);
    free(s->parent);
    free(s->choice);
    free(s->ring);
    free(s->edges);
    free(s->ends);
}

static bool explore(struct search *s, struct x_world *root, const char *from)
{
    bool is_new, good = true;
    const char *stopped = NULL;
    double start = now(), start_cpu = processor_seconds();
    s->root = root;
    put(s, root, visit(s, x_world_hash(root), 0, 0, &is_new));
    while (good && s->n_ring > 0 && !stopped) {
        good = expand(s);
        stopped = limit(s);
    }
    bool closed = good && s->n_ring == 0;
    if (closed)
        good = all_can_end(s);
    if (s->must_close && !closed)
        good = false;
    double seconds = now() - start;
    printf("explore %u nodes, %u spares%s%s x %u faults%s%s from %s: %s, %" PRIu64 " states, %" PRIu64
           " transitions, %" PRIu64 " instants (%016" PRIx64 "), %" PRIu64
           " ends, at most %u choices, %.1f s (%.1f s of a core), %" PRIu64 " MiB\n",
           x_nnodes, x_spares, x_shrink ? ", shrink" : "", x_relaunch ? ", relaunch" : "", x_max_faults, x_only ? " " : "",
           x_only ? x_fault_name(x_only) : "", from,
           !good ? "FAILED" : closed ? "closed" : stopped, s->n, s->transitions, s->n_instants,
           s->instants, s->n_ends, s->widest, seconds, processor_seconds() - start_cpu,
           resident_bytes() >> 20);
    fflush(stdout);
    return good;
}

// --- where it begins -----------------------------------------------------------------------------

// Without faults and in the simplest order, to the last world before `state`, or the first in it.
static struct x_world *drive(enum pm_state state, bool before)
{
    struct x_world *w = x_world_new(), *last = NULL;
    struct x_choice choices[X_CHOICES_MAX];
    for (uint32_t i = 0; i < 10000 && x_world_state(w) != state; i++) {
        if (last) {
            x_world_drop(last);
            free(last);
        }
        last = x_world_keep(w);
        if (state == PM_STATE_HALTING && x_world_state(w) == PM_STATE_RUNNING && !w->faults)
            choices[0] = (struct x_choice){X_RANK_DIES, 1};
        else
            SIM_ASSERT(x_world_choices(w, choices) > 0);
        x_world_do(w, choices[0]);
        SIM_ASSERT(!x_violation[0]);
    }
    SIM_ASSERT(x_world_state(w) == state && last);
    struct x_world *rest = before ? w : last;
    x_world_drop(rest);
    free(rest);
    return before ? last : w;
}

static const struct begin {
    const char *name;
    enum pm_state state;
    bool before;
} begins[] = {
    {"FORMING", PM_STATE_STARTING, true},
    {"STARTING", PM_STATE_STARTING, false},
    {"RUNNING", PM_STATE_RUNNING, false},
    {"HALTING", PM_STATE_HALTING, false},
};

static uint64_t number_of(int argc, char **argv, const char *name, uint64_t otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name))
            return strtoull(argv[i + 1], NULL, 10);
    return otherwise;
}

static const char *text_of(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name))
            return argv[i + 1];
    return NULL;
}

int sim_command_explore(int argc, char **argv)
{
    const char *from = text_of(argc, argv, "--from"), *only = text_of(argc, argv, "--only");
    bool good = true;
    bool must_close = false, audited = false;
    x_nnodes = (uint32_t)number_of(argc, argv, "--nodes", 2);
    x_delay_ns = number_of(argc, argv, "--delay-us", 0) * 1000;
    x_latency_ns = number_of(argc, argv, "--latency-us", 0) * 1000;
    x_only = only ? x_fault_of(only) : X_DELIVER;
    x_spares = (uint32_t)number_of(argc, argv, "--spares", 0);
    if (x_nnodes < 1 || x_nnodes > X_NODES || x_spares >= x_nnodes || (only && !x_only)) {
        fprintf(stderr, "pm-sim explore: 1 to %d nodes, fewer spares, and a fault that there is\n", X_NODES);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        x_shrink |= !strcmp(argv[i], "--shrink");
        x_relaunch |= !strcmp(argv[i], "--relaunch");
        x_ranks_end |= !strcmp(argv[i], "--ranks-end");
        must_close |= !strcmp(argv[i], "--must-close");
        x_every_order |= !strcmp(argv[i], "--every-order");
        audited |= !strcmp(argv[i], "--audit");
    }
    for (size_t i = 0; good && i < sizeof(begins) / sizeof(begins[0]); i++) {
        if (from && strcmp(from, begins[i].name))
            continue;
        if (begins[i].state == PM_STATE_HALTING && x_nnodes - x_spares < 2)
            continue; // of a single rank it is over at once
        struct search s = {
            .max_states = number_of(argc, argv, "--states", UINT32_MAX - 1),
            .max_bytes = number_of(argc, argv, "--mib", 2048) << 20,
            .must_close = must_close,
            .audit = audited ? x_audit_new() : NULL,
            .until = now() + (double)number_of(argc, argv, "--seconds", 3600),
        };
        x_max_faults = 0;
        struct x_world *root = drive(begins[i].state, begins[i].before);
        x_max_faults = root->faults + (uint32_t)number_of(argc, argv, "--faults", 1);
        root = realloc(root, sizeof(*root));
        SIM_ASSERT(root);
        good = explore(&s, root, begins[i].name);
        if (s.audit)
            printf("audit: %" PRIu64 " pairs of worlds with the same hash\n", x_audit_done(s.audit));
        search_done(&s);
        x_world_drop(root);
        free(root);
    }
    return good ? 0 : 1;
}
