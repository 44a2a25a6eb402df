// SPDX-License-Identifier: Apache-2.0
//
// See event_log.h for the contract and the fields.
#include "pmix_server/io/event_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/io/util.h"

struct pm_event_log {
    int fd;
    char writer[256];
    struct pm_event_log_id id;
};

int pm_event_log_new(const char *path, const struct pm_event_log_id *id, struct pm_event_log **ret)
{
    struct pm_event_log *log = calloc(1, sizeof(*log));
    if (!log)
        return -ENOMEM;
    log->id = *id;
    snprintf(log->writer, sizeof(log->writer), "%s", id->writer);
    log->id.writer = log->writer;
    int how = id->append ? O_NOFOLLOW : O_EXCL; // which does not follow either
    log->fd = open(path, O_WRONLY | O_CREAT | how | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    struct stat st;
    int r = log->fd < 0 || fstat(log->fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EEXIST;
    if (r < 0) {
        if (log->fd >= 0)
            close(log->fd);
        free(log);
        return r == -ENXIO ? -EEXIST : r;  // a FIFO that nobody reads
    }
    *ret = log;
    return 0;
}

struct pm_event_log *pm_event_log_free(struct pm_event_log *log)
{
    if (log) {
        close(log->fd);
        free(log);
    }
    return NULL;
}

// A line in the making. Without memory a field would be missing, so the whole line is.
struct line {
    json_t *o;
    bool failed;
};

static void add(struct line *l, const char *name, json_t *value)
{
    l->failed |= json_object_set_new_nocheck(l->o, name, value) < 0;  // also for NULL
}

static void add_uint(struct line *l, const char *name, uint64_t v)
{
    add(l, name, json_integer((json_int_t)v));
}

static void add_text(struct line *l, const char *name, const char *text)
{
    if (!text || !*text)
        return;
    // NULL for lack of memory or for text from a rank's world that is no UTF-8: another try tells.
    json_t *s = json_string(text);
    if (!s)
        s = json_string(text);
    add(l, name, s ? s : json_string("(not UTF-8)"));
}

static void add_status(struct line *l, int status)
{
    json_t *s = WIFSIGNALED(status) ? json_pack("{s:i}", "signal", WTERMSIG(status))
                                    : json_pack("{s:i}", "exit", WEXITSTATUS(status));
    add(l, "status", s);
}

static void add_head(struct line *l, const struct pm_event_log *log, const struct pm_log *record)
{
    char wall[64];
    add_text(l, "time", pm_clock_wall(wall, sizeof(wall)));
    add_uint(l, "t_ns", pm_clock_ns());
    add_text(l, "kind", record->kind);
    add_text(l, "writer", log->id.writer);
    add_uint(l, "job", log->id.job);
    add_uint(l, "step", log->id.step);
    add_uint(l, "launch", log->id.launch);
    add_uint(l, "epoch", record->epoch);
}

static void add_subject(struct line *l, const struct pm_log *record)
{
    if (record->rank != PM_RANK_NONE) {
        add_uint(l, "rank", record->rank);
        add_uint(l, "incarnation", record->incarnation);
    }
    if (record->node != UINT32_MAX)
        add_uint(l, "node", record->node);
    if (record->pid)
        add_uint(l, "pid", record->pid);
    if (record->cause != PM_CAUSE_NONE)
        add_text(l, "cause", pm_cause_name(record->cause));
    if (record->has_status)
        add_status(l, record->wait_status);
}

// JSON's numbers are doubles to many readers, which lose the last bits of a hash.
static void add_hash(struct line *l, const char *name, uint64_t v)
{
    char text[17];
    snprintf(text, sizeof(text), "%016" PRIx64, v);
    add_text(l, name, text);
}

static void add_rest(struct line *l, const struct pm_log *record)
{
    const struct {
        const char *name;
        uint64_t value;
    } durations[] = {{"halt_ms", record->halt_ms},
                     {"place_ms", record->place_ms},
                     {"start_ms", record->start_ms},
                     {"wireup_ms", record->wireup_ms},
                     {"restarts", record->restarts},
                     {"lease_end_ns", record->lease_end_ns},
                     {"silent_ms", record->silent_ms},
                     {"timeout_ms", record->timeout_ms},
                     {"late_ms", record->late_ms},
                     {"lost_ms", record->lost_ms}};
    add_text(l, "action", record->action);
    add_text(l, "from", record->from);
    add_text(l, "to", record->to);
    add_text(l, "reason", record->reason);
    for (size_t i = 0; i < sizeof(durations) / sizeof(*durations); i++) {
        if (durations[i].value)
            add_uint(l, durations[i].name, durations[i].value);
    }
    if (record->idle)
        add(l, "idle", json_true());
    if (record->spare != UINT32_MAX) {
        add_uint(l, "spare", record->spare);
        add_uint(l, "spares_left", record->spares_left);
    }
    if (record->has_fence) {
        add_hash(l, "fence", record->fence);
        add_hash(l, "digest", record->digest);
    }
}

int pm_event_log_write(struct pm_event_log *log, const struct pm_log *record)
{
    struct line l = {.o = json_object()};
    add_head(&l, log, record);
    add_subject(&l, record);
    add_rest(&l, record);
    // Not json_dumps(): jansson 2.14 leaves keys out when its buffer cannot grow.
    size_t len = l.failed ? 0 : json_dumpb(l.o, NULL, 0, JSON_COMPACT);
    PM_CLEANUP_FREE char *text = len ? malloc(len + 1) : NULL;
    bool good = text && json_dumpb(l.o, text, len, JSON_COMPACT) == len;
    json_decref(l.o);
    if (!good)
        return -ENOMEM;
    text[len] = '\n';
    return pm_fd_write_all(log->fd, text, len + 1);
}

int pm_event_log_expand(const char *pattern, uint32_t job, uint32_t step, char *buf, size_t cap)
{
    size_t at = 0;
    for (const char *p = pattern; *p; p++) {
        char piece[16] = {*p};
        if (*p == '%') {
            p++;
            if (*p == 'j' || *p == 's')
                snprintf(piece, sizeof(piece), "%u", *p == 'j' ? job : step);
            else if (*p != '%')
                return -EINVAL;
        }
        size_t len = strlen(piece);
        if (at + len >= cap)
            return -ENAMETOOLONG;
        memcpy(buf + at, piece, len);
        at += len;
    }
    buf[at] = '\0';
    return 0;
}

bool pm_event_log_per_step(const char *pattern)
{
    const char *p = strchr(pattern, '%');
    while (p && p[1] && p[1] != 's')
        p = strchr(p + 2, '%');
    return p && p[1];
}
