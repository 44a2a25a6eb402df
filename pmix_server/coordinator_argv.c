// SPDX-License-Identifier: Apache-2.0
//
// See coordinator_argv.h for the contract. The walk follows getopt_long() with POSIXLY_CORRECT: options
// in order, values attached or in the next word, short options in clusters ("-lK1").
#include "pmix_server/coordinator_argv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct walk {
    char *const *argv;
    int end;  // index of the program
    int at;   // word in hand
    struct pm_srun_argv *out;
    char *error;
};

// What we do with an option of srun. 0: keep, 1: drop, or -EINVAL with a sentence.
typedef int (*treat_f)(struct walk *w, const char *value);

static int keep(struct walk *w, const char *word)
{
    char *copy = strdup(word);
    if (!copy)
        return -ENOMEM;
    w->out->argv[w->out->argc++] = copy;
    return 0;
}

static int treat_drop(struct walk *w, const char *value) { return 1; }

static int treat_pty(struct walk *w, const char *value)
{
    w->out->pty = true;
    return 0;
}

static int treat_multi_prog(struct walk *w, const char *value)
{
    w->out->multi_prog = true;
    return 0;
}

static int treat_cpu_bind(struct walk *w, const char *value)
{
    w->out->cpu_bind = true;
    return 0;
}

static int treat_mem_bind(struct walk *w, const char *value)
{
    w->out->mem_bind = true;
    return 0;
}

// memory_bound also means one core of each socket, which is all that is granted then.
uint32_t pm_srun_hint_parse(const char *text)
{
    static const char *const single[] = {"compute_bound", "memory_bound", "nomultithread"};
    uint32_t threads = 0;
    for (size_t len; *text; text += len + (text[len] == ',')) {
        len = strcspn(text, ",");
        for (size_t i = 0; i < sizeof(single) / sizeof(*single); i++)
            threads |= strlen(single[i]) == len && strncasecmp(text, single[i], len) == 0;
    }
    return threads;
}

static int note_threads(struct walk *w, uint32_t threads)
{
    w->out->threads_given = true;
    w->out->threads_per_core = threads;
    return 0;
}

static int treat_hint(struct walk *w, const char *value) { return note_threads(w, pm_srun_hint_parse(value)); }

static int treat_threads(struct walk *w, const char *value) { return note_threads(w, pm_srun_threads_parse(value)); }

// "SOCKETS:CORES:THREADS", of which the last ones may be missing.
static int treat_extra_node_info(struct walk *w, const char *value)
{
    const char *cores = strchr(value, ':'), *threads = cores ? strchr(cores + 1, ':') : NULL;
    return threads ? note_threads(w, pm_srun_threads_parse(threads + 1)) : 0;
}

// srun itself refuses what is no number; "*" stands for any.
uint32_t pm_srun_threads_parse(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    return *end || end == text || text[0] == '-' || v > PM_SRUN_THREADS_MAX ? 0 : (uint32_t)v;
}

static int treat_mpi(struct walk *w, const char *value)
{
    if (!strcmp(value, "none") || !strncmp(value, "pmix", 4))
        return 1;
    snprintf(w->error, PM_ERROR_CAP,
             "--mpi=%s cannot be used with --pm-supervise, which brings its own PMIx server: "
             "leave --mpi out",
             value);
    return -EINVAL;
}

static int treat_het(struct walk *w, const char *value)
{
    snprintf(w->error, PM_ERROR_CAP,
             "--pm-supervise does not support heterogeneous steps (--het-group): "
             "start one step for each component");
    return -EINVAL;
}

// slurmstepd makes an OCI container once per task: a second incarnation would find its folder taken, and pm-shim is not in
// the image.
static int treat_container(struct walk *w, const char *value)
{
    snprintf(w->error, PM_ERROR_CAP,
             "--pm-supervise does not support OCI containers (--container): let the program start in its container itself, "
             "or use a SPANK plugin for containers");
    return -EINVAL;
}

int pm_srun_wait_parse(const char *text, uint32_t *ret_s)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || v > UINT32_MAX)
        return -EINVAL;
    *ret_s = (uint32_t)v;
    return 0;
}

static int treat_wait(struct walk *w, const char *value)
{
    if (pm_srun_wait_parse(value, &w->out->wait_s) < 0) {
        snprintf(w->error, PM_ERROR_CAP, "--wait=%s: takes a number of seconds", value);
        return -EINVAL;
    }
    w->out->wait_given = true;
    return 1;
}

// srun itself refuses what is neither.
uint32_t pm_srun_nodes_parse(const char *text)
{
    const char *dash = strchr(text, '-');
    char *end;
    errno = 0;
    unsigned long v = strtoul(dash ? dash + 1 : text, &end, 10);
    unsigned long factor = *end == 'k' || *end == 'K' ? 1024 : *end == 'm' || *end == 'M' ? 1048576 : 1;
    if (factor > 1)
        end++;
    bool good = !errno && *end == '\0' && text[0] != '-' && v <= UINT32_MAX / factor;
    return good ? (uint32_t)(v * factor) : 0;
}

static int treat_nodes(struct walk *w, const char *value)
{
    w->out->nodes = pm_srun_nodes_parse(value);
    return 0;
}

static int treat_exclude(struct walk *w, const char *value)
{
    free(w->out->exclude);
    w->out->exclude = strdup(value);
    return w->out->exclude ? 0 : -ENOMEM;
}

#define NODES_ARE_NAMED "--nodelist or --nodefile names its nodes"

static const struct treatment {
    const char *name;
    char letter;
    treat_f treat;            // NULL: keep
    const char *no_relaunch;  // NULL: goes together with what pm_srun_argv_without() adds
} treatments[] = {
    {"nodelist", 'w', NULL, NODES_ARE_NAMED}, {"nodefile", 'F', NULL, NODES_ARE_NAMED},
    {"relative", 'r', NULL, "srun takes no --exclude beside --relative"},
    {"exclusive", 0, NULL, "srun takes no --overlap beside --exclusive"},
    {"exclude", 'x', treat_exclude},
    {"mpi", 0, treat_mpi},        {"kill-on-bad-exit", 'K', treat_drop},
    {"no-kill", 'k', treat_drop}, {"wait", 'W', treat_wait},
    {"pty", 0, treat_pty},        {"het-group", 0, treat_het},
    {"multi-prog", 0, treat_multi_prog},
    {"container", 0, treat_container},
    {"pack-group", 0, treat_het}, {"nodes", 'N', treat_nodes},
    {"cpu-bind", 0, treat_cpu_bind}, {"cpu_bind", 0, treat_cpu_bind},
    {"mem-bind", 0, treat_mem_bind}, {"mem_bind", 0, treat_mem_bind},
    {"hint", 0, treat_hint},      {"threads-per-core", 0, treat_threads},
    {"extra-node-info", 'B', treat_extra_node_info},
};

static const struct treatment *treatment_of(const char *name, char letter)
{
    for (size_t i = 0; i < sizeof(treatments) / sizeof(*treatments); i++) {
        if (name ? !strcmp(treatments[i].name, name) : treatments[i].letter == letter)
            return &treatments[i];
    }
    return NULL;
}

// By its name, or by its letter if that is NULL; `value` may be NULL. As treat_f.
static int treat(struct walk *w, const char *name, char letter, const char *value)
{
    const struct treatment *t = treatment_of(name, letter);
    if (t && t->no_relaunch)
        w->out->no_relaunch = t->no_relaunch;
    return t && t->treat ? t->treat(w, value ? value : "") : 0;
}

// "--name", "--name=value" or "--name" "value".
static int take_long(struct walk *w)
{
    const char *word = w->argv[w->at];
    size_t len = strcspn(word + 2, "=");
    const struct pm_srun_option *o = pm_srun_option_long(word + 2, len);
    const char *value = word[2 + len] ? word + 2 + len + 1 : NULL;
    const char *next = NULL;
    if (!value && o && o->arg == PM_SRUN_ARG_REQUIRED && w->at + 1 < w->end)
        value = next = w->argv[++w->at];
    int r = o ? treat(w, o->name, 0, value) : 0;
    if (r)
        return r < 0 ? r : 0;
    r = keep(w, word);
    return r < 0 || !next ? r : keep(w, next);
}

// "-lK1", "-W5", "-W" "5": what is dropped is cut out of the cluster.
static int take_short(struct walk *w)
{
    const char *word = w->argv[w->at], *next = NULL;
    char *kept = calloc(1, strlen(word) + 1);
    if (!kept)
        return -ENOMEM;
    size_t n = 0;
    kept[n++] = '-';
    int r = 0;
    for (const char *p = word + 1; *p && r >= 0; p++) {
        enum pm_srun_arg arg = pm_srun_option_short(*p);
        const char *value = arg == PM_SRUN_ARG_NONE ? NULL : p + 1;
        if (arg == PM_SRUN_ARG_REQUIRED && !*value && w->at + 1 < w->end)
            value = next = w->argv[++w->at];
        r = treat(w, NULL, *p, value);
        size_t len = value && !next ? strlen(p) : 1;
        if (r == 0) {
            memcpy(kept + n, p, len);
            n += len;
        } else {
            next = NULL;
        }
        p += len - 1;
    }
    if (r >= 0)
        r = n > 1 ? keep(w, kept) : 0;
    if (r == 0 && next)
        r = keep(w, next);
    free(kept);
    return r;
}

static int walk_options(struct walk *w)
{
    for (; w->at < w->end; w->at++) {
        const char *word = w->argv[w->at];
        int r;
        if (!strcmp(word, "--"))
            return 0;
        if (!strncmp(word, "--", 2))
            r = take_long(w);
        else if (word[0] == '-' && word[1])
            r = take_short(w);
        else
            r = keep(w, word);  // value of an option that we do not know
        if (r < 0)
            return r;
    }
    return 0;
}

static int refuse_components(struct walk *w, int argc)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(w->argv[i], ":")) {
            snprintf(w->error, PM_ERROR_CAP,
                     "--pm-supervise does not support heterogeneous steps (a lone \":\" on the "
                     "command line): start one step for each component");
            return -EINVAL;
        }
    }
    return 0;
}

// The words from `program` on.
static int note_command(struct pm_srun_argv *out, char *const *program)
{
    size_t len = 0;
    for (char *const *word = program; *word && len <= PM_SRUN_COMMAND_MAX; word++)
        len += strlen(*word) + 1;
    if (!len || len > PM_SRUN_COMMAND_MAX || out->multi_prog)
        return 0;
    char *at = out->command = malloc(len);
    if (!at)
        return -ENOMEM;
    for (char *const *word = program; *word; word++)
        at += sprintf(at, "%s%s", word == program ? "" : " ", *word);
    return 0;
}

int pm_srun_argv_rewrite(char *const *argv, int program, struct pm_srun_argv *ret, char *error)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    struct pm_srun_argv out = {.argv = calloc((size_t)argc + 1, sizeof(char *))};
    struct walk w = {.argv = argv, .end = program > 0 && program < argc ? program : argc, .at = 1,
                     .out = &out, .error = error};
    if (!out.argv)
        return -ENOMEM;
    int r = argc ? keep(&w, argv[0]) : -EINVAL;
    if (r == 0)
        r = refuse_components(&w, argc);
    if (r == 0)
        r = walk_options(&w);
    out.program = out.argc;
    for (; r == 0 && w.at < argc; w.at++)
        r = keep(&w, argv[w.at]);
    if (r == 0)
        r = note_command(&out, argv + w.end);
    if (out.exclude && strchr(out.exclude, '/'))
        out.no_relaunch = "--exclude names a file";
    if (r < 0) {
        pm_srun_argv_done(&out);
        return r;
    }
    *ret = out;
    return 0;
}

// Of two --exclude srun takes the last.
int pm_srun_argv_without(struct pm_srun_argv *a, const char *nodes)
{
    char *exclude = NULL, *overlap = strdup("--overlap");
    char **longer = realloc(a->argv, ((size_t)a->argc + 3) * sizeof(*longer));
    if (longer)
        a->argv = longer;
    if (!longer || !overlap || asprintf(&exclude, "--exclude=%s%s%s", a->exclude ? a->exclude : "",
                                        a->exclude ? "," : "", nodes) < 0) {
        free(overlap);
        return -ENOMEM;
    }
    char **at = a->argv + a->program;
    memmove(at + 2, at, ((size_t)(a->argc - a->program) + 1) * sizeof(*at));
    at[0] = overlap;
    at[1] = exclude;
    a->program += 2;
    a->argc += 2;
    return 0;
}

void pm_srun_argv_done(struct pm_srun_argv *a)
{
    free(a->exclude);
    for (int i = 0; i < a->argc; i++)
        free(a->argv[i]);
    free(a->argv);
    free(a->command);
    *a = (struct pm_srun_argv){0};
}
