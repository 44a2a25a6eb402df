// SPDX-License-Identifier: Apache-2.0
//
// --pm-bind-report: nodes whose ranks are bound alike come as one text (core/bound.h), and are told once: a summary
// with their names, and a line for each of their ranks with the numbers that it has on all of them. Told when
// all nodes have spoken, or WAIT_MS after the first; what comes later is told then.
//
// A file is a plain one, which is overwritten if it is there: no link is followed and no reader waited for. What
// cannot be written is said once; the step goes on.
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/util.h"
#include "pmix_server/wire/hostlist.h"

#define WAIT_MS 3000
#define RANKS_SHOWN 96  // bytes
#define SPANS_MAX 1048576u

struct bound_kind {
    struct pm_set nodes;
    char *text;
    STAILQ_ENTRY(bound_kind) entry;
};

// NULL: it can be written, as far as its type goes.
static const char *type_error(const struct stat *st)
{
    return S_ISREG(st->st_mode) ? NULL : S_ISLNK(st->st_mode) ? "is a link" : "is no file";
}

int pm_coordinator_bound_check(const struct coordinator *c, char *error)
{
    const char *pattern = c->options.bind_report;
    char path[PM_PATH_CAP];
    struct stat st;
    if (!pattern[0] || !strcmp(pattern, "-"))
        return 0;
    if (pm_event_log_expand(pattern, UINT32_MAX, UINT32_MAX, path, sizeof(path)) < 0) {
        snprintf(error, PM_ERROR_CAP, "--pm-bind-report=%.200s: takes a file name with %%j (job) and %%s (step) in "
                 "it, %%%% is a plain %%", pattern);
        return -EINVAL;
    }
    if (lstat(path, &st) == 0 && type_error(&st)) {
        snprintf(error, PM_ERROR_CAP, "--pm-bind-report=%.200s: %s; without a name it is told on stderr", pattern,
                 type_error(&st));
        return -EINVAL;
    }
    if (access(dirname(path), W_OK | X_OK) == 0)
        return 0;
    snprintf(error, PM_ERROR_CAP, "--pm-bind-report=%.200s: cannot write there: %s", pattern, strerror(errno));
    return -EINVAL;
}

// --- where it goes ---------------------------------------------------------------------------------------

static void cannot_write(struct coordinator *c, const char *path, const char *why)
{
    char text[PM_TEXT_CAP];
    if (c->bound_failed)
        return;
    snprintf(text, sizeof(text), "--pm-bind-report: cannot write %.150s: %.60s", path, why);
    pm_coordinator_say(c, text);
    c->bound_failed = true;
}

// NULL with `why` (static, or strerror's) if that cannot be.
static FILE *open_plain(const char *path, bool anew, const char **why)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    bool good = fd >= 0 && fstat(fd, &st) == 0;
    *why = good ? type_error(&st) : strerror(errno);
    if (good && !*why && anew && ftruncate(fd, 0) < 0)
        *why = strerror(errno);
    FILE *file = *why ? NULL : fdopen(fd, "a");
    if (file)
        return file;
    if (!*why)
        *why = strerror(errno);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static FILE *open_file(struct coordinator *c, const char *path)
{
    const char *why;
    FILE *file = open_plain(path, !c->bound_begun && !c->launch, &why);
    if (!file)
        cannot_write(c, path, why);
    return file;
}

static void close_file(struct coordinator *c, FILE *file, const char *path)
{
    errno = 0;
    bool failed = fflush(file) != 0 || ferror(file);
    const char *why = errno ? strerror(errno) : "a line is missing";
    if (fclose(file) != 0 || failed)
        cannot_write(c, path, why);
    c->bound_begun = true;
}

static void tell(struct coordinator *c, FILE *file, const char *line)
{
    if (file)
        fprintf(file, "%s\n", line);
    else
        pm_coordinator_say(c, line);
}

// --- lines ---------------------------------------------------------------------------------------------------

static char *names_of(const struct coordinator *c, const struct pm_set *nodes)
{
    uint32_t n = (uint32_t)pm_set_count(nodes), i = 0;
    char **names = calloc(n + 1u, sizeof(*names)), *list = NULL;
    for (uint32_t node = pm_set_next(nodes, 0); names && i < n; node = pm_set_next(nodes, node + 1)) {
        char name[PM_TEXT_CAP];
        names[i] = strdup(pm_core_host(c->core, node, name));
        i += names[i] != NULL;
    }
    if (names && i == n)
        list = pm_hostlist_join(names, n);
    for (uint32_t k = 0; k < i; k++)
        free(names[k]);
    free(names);
    return list;
}

// Numbers of the k-th ranks of these nodes.
static void ranks_of(const struct coordinator *c, const struct pm_set *nodes, uint32_t k, char *buf)
{
    const struct pm_world *world = pm_core_world(c->core);
    struct pm_set ranks = {0};
    for (uint32_t node = pm_set_next(nodes, 0); node < world->nnodes; node = pm_set_next(nodes, node + 1)) {
        uint32_t rank = pm_set_next(&world->ranks_of_node[node], 0);
        for (uint32_t i = 0; i < k && rank != UINT32_MAX; i++)
            rank = pm_set_next(&world->ranks_of_node[node], rank + 1);
        if (rank != UINT32_MAX)
            (void)pm_set_add(&ranks, rank);  // without memory there is one number less
    }
    pm_set_format(&ranks, buf, RANKS_SHOWN);
    pm_set_done(&ranks);
}

static void tell_kind(struct coordinator *c, FILE *file, const struct bound_kind *kind)
{
    PM_CLEANUP_FREE char *names = names_of(c, &kind->nodes), *copy = strdup(kind->text);
    char *rest = copy, *line;
    for (uint32_t i = 0; names && rest && (line = strsep(&rest, "\n")); i++) {
        PM_CLEANUP_FREE char *text = NULL;
        char ranks[RANKS_SHOWN] = "";
        bool is_note = strncmp(line, "note: ", 6) == 0;
        if (i > 0 && !is_note)
            ranks_of(c, &kind->nodes, i - 1, ranks);
        int len = i == 0 || is_note ? asprintf(&text, "bind: %s: %s", names, line)
                                    : asprintf(&text, "bind: rank%s %s: %s", strpbrk(ranks, ",-") ? "s" : "", ranks, line);
        if (len < 0)
            text = NULL;
        else
            tell(c, file, text);
    }
}

static void forget(struct coordinator *c)
{
    while (!STAILQ_EMPTY(&c->bound)) {
        struct bound_kind *kind = STAILQ_FIRST(&c->bound);
        STAILQ_REMOVE_HEAD(&c->bound, entry);
        pm_set_done(&kind->nodes);
        free(kind->text);
        free(kind);
    }
}

void pm_coordinator_bound_flush(struct coordinator *c)
{
    struct bound_kind *kind;
    FILE *file = NULL;
    char path[PM_PATH_CAP];
    bool to_file = strcmp(c->options.bind_report, "-") != 0;
    if (c->bound_timer)
        evtimer_del(c->bound_timer);
    if (to_file && !STAILQ_EMPTY(&c->bound)) {
        int rc = pm_event_log_expand(c->options.bind_report, c->job, c->step, path, sizeof(path));
        if (rc < 0)
            cannot_write(c, c->options.bind_report, strerror(-rc));
        else
            file = open_file(c, path);
    }
    STAILQ_FOREACH(kind, &c->bound, entry)
        if (file || !to_file)
            tell_kind(c, file, kind);
    if (file)
        close_file(c, file, path);
    forget(c);
}

// --- what comes --------------------------------------------------------------------------------------------

static void on_timer(evutil_socket_t fd, short what, void *arg) { pm_coordinator_bound_flush(arg); }

static struct bound_kind *kind_of(struct coordinator *c, const char *text)
{
    struct bound_kind *kind;
    STAILQ_FOREACH(kind, &c->bound, entry)
        if (!strcmp(kind->text, text))
            return kind;
    kind = calloc(1, sizeof(*kind));
    if (kind && !(kind->text = strdup(text))) {
        free(kind);
        kind = NULL;
    }
    if (kind)
        STAILQ_INSERT_TAIL(&c->bound, kind, entry);
    return kind;
}

static void wait_for_more(struct coordinator *c)
{
    struct timeval tv = pm_timeval_of_ms(WAIT_MS);
    if (!c->bound_timer)
        c->bound_timer = evtimer_new(c->base, on_timer, c);
    if (!c->bound_timer || (!evtimer_pending(c->bound_timer, NULL) && evtimer_add(c->bound_timer, &tv)))
        pm_coordinator_bound_flush(c);
}

void pm_coordinator_bound(struct coordinator *c, const struct pm_action *a)
{
    struct pm_set nodes = {0};
    struct pm_reader r = pm_reader_of(a->data, a->len);
    pm_read_set(&r, &nodes, SPANS_MAX);
    struct bound_kind *kind = a->text && c->options.bind_report[0] ? kind_of(c, a->text) : NULL;
    if (kind && pm_set_union(&kind->nodes, &nodes) == 0 && pm_set_union(&c->bound_nodes, &nodes) == 0) {
        if (pm_set_covers(&c->bound_nodes, &pm_core_world(c->core)->hosts))
            pm_coordinator_bound_flush(c);
        else
            wait_for_more(c);
    }
    pm_set_done(&nodes);
}

void pm_coordinator_bound_done(struct coordinator *c)
{
    if (c->bound_timer)
        event_free(c->bound_timer);
    forget(c);
    pm_set_done(&c->bound_nodes);
}
