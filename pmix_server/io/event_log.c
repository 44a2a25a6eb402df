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
    log->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
    if (log->fd < 0) {
        int r = -errno;
        free(log);
        return r;
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

static void add_uint(json_t *o, const char *name, uint64_t v)
{
    json_object_set_new_nocheck(o, name, json_integer((json_int_t)v));
}

static void add_text(json_t *o, const char *name, const char *text)
{
    if (!text || !*text)
        return;
    json_t *s = json_string(text);
    // Text from a rank's world that is no UTF-8 is left out rather than breaking the line.
    json_object_set_new_nocheck(o, name, s ? s : json_string("(not UTF-8)"));
}

static void add_status(json_t *o, int status)
{
    json_t *s = WIFSIGNALED(status) ? json_pack("{s:i}", "signal", WTERMSIG(status))
                                    : json_pack("{s:i}", "exit", WEXITSTATUS(status));
    json_object_set_new_nocheck(o, "status", s);
}

static void add_head(json_t *o, const struct pm_event_log *log, const struct pm_log *record)
{
    char wall[64];
    add_text(o, "time", pm_clock_wall(wall, sizeof(wall)));
    add_uint(o, "t_ns", pm_clock_ns());
    add_text(o, "kind", record->kind);
    add_text(o, "writer", log->id.writer);
    add_uint(o, "job", log->id.job);
    add_uint(o, "step", log->id.step);
    add_uint(o, "launch", log->id.launch);
    add_uint(o, "epoch", record->epoch);
}

static void add_subject(json_t *o, const struct pm_log *record)
{
    if (record->rank != PM_RANK_NONE) {
        add_uint(o, "rank", record->rank);
        add_uint(o, "incarnation", record->incarnation);
    }
    if (record->node != UINT32_MAX)
        add_uint(o, "node", record->node);
    if (record->pid)
        add_uint(o, "pid", record->pid);
    if (record->cause != PM_CAUSE_NONE)
        add_text(o, "cause", pm_cause_name(record->cause));
    if (record->has_status)
        add_status(o, record->wait_status);
}

// JSON's numbers are doubles to many readers, which lose the last bits of a hash.
static void add_hash(json_t *o, const char *name, uint64_t v)
{
    char text[17];
    snprintf(text, sizeof(text), "%016" PRIx64, v);
    add_text(o, name, text);
}

static void add_rest(json_t *o, const struct pm_log *record)
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
                     {"timeout_ms", record->timeout_ms}};
    add_text(o, "action", record->action);
    add_text(o, "from", record->from);
    add_text(o, "to", record->to);
    add_text(o, "reason", record->reason);
    for (size_t i = 0; i < sizeof(durations) / sizeof(*durations); i++) {
        if (durations[i].value)
            add_uint(o, durations[i].name, durations[i].value);
    }
    if (record->has_fence) {
        add_hash(o, "fence", record->fence);
        add_hash(o, "digest", record->digest);
    }
}

int pm_event_log_write(struct pm_event_log *log, const struct pm_log *record)
{
    json_t *o = json_object();
    add_head(o, log, record);
    add_subject(o, record);
    add_rest(o, record);
    PM_CLEANUP_FREE char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    PM_CLEANUP_FREE char *line = NULL;
    if (!text || asprintf(&line, "%s\n", text) < 0) {
        line = NULL;
        return -ENOMEM;
    }
    return pm_fd_write_all(log->fd, line, strlen(line));
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
