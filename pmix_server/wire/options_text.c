// SPDX-License-Identifier: Apache-2.0
//
// Options as one line of text and back, for the environment of the step and for agents, and
// durations as people read them. The text is written and read by this build only (a peer of
// another build is refused before it is read); reading goes through the same table as the
// command line, so nothing gets in that a user could not have said.
#include "pmix_server/wire/options_parts.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SECOND PM_OPTION_SECOND
#define MINUTE PM_OPTION_MINUTE
#define HOUR PM_OPTION_HOUR
#define SIGNAL_MAX 64

static int refuse(char *error, const char *why)
{
    snprintf(error, PM_ERROR_CAP, "supervision options: %s", why);
    return -EINVAL;
}

static bool has_bit(const uint64_t *bits, uint64_t n)
{
    return bits[n / 64] >> (n % 64) & 1;
}

struct line {
    char *buf;
    size_t len;
    size_t cap;
};

__attribute__((format(printf, 2, 3))) static void line_add(struct line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = l->cap > l->len ? l->cap - l->len : 0;
    int n = vsnprintf(room ? l->buf + l->len : NULL, room, format, args);
    va_end(args);
    assert(n >= 0);
    l->len += (size_t)n;
}

// Spaces end a value, so a space in a path is written "\s" and a backslash twice.
static void line_add_path(struct line *l, const char *key, const char *path)
{
    line_add(l, " %s=", key);
    for (; *path; path++)
        line_add(l, "%s%c", *path == ' ' || *path == '\\' ? "\\" : "",
                 *path == ' ' ? 's' : *path);
}

static void line_add_fatal(struct line *l, const struct pm_fatal *fatal)
{
    const char *comma = "";
    line_add(l, " fatal-exit=");
    size_t value = l->len;
    for (uint32_t code = 1; code < 256; code++)
        if (has_bit(fatal->exits, code)) {
            line_add(l, "%s%" PRIu32, comma, code);
            comma = ",";
        }
    for (uint32_t signal = 1; signal <= SIGNAL_MAX; signal++)
        if (has_bit(fatal->signals, signal - 1)) {
            line_add(l, "%sSIG%" PRIu32, comma, signal);
            comma = ",";
        }
    if (l->len == value)
        line_add(l, "none");
}

int pm_options_encode(const struct pm_options *o, char *buf, size_t cap)
{
    struct line l = {.buf = buf, .cap = cap};
    line_add(&l, "supervise=%s", pm_mode_name(o->mode));
    line_add(&l, " max-restarts=%" PRIu32 "/%" PRIu64 "ms", o->max_restarts, o->restart_window_ms);
    line_add(&l, " min-uptime=%" PRIu64 "ms", o->min_uptime_ms);
    line_add(&l, " backoff=%" PRIu64 "ms:%" PRIu64 "ms", o->backoff_ms, o->backoff_max_ms);
    line_add_fatal(&l, &o->fatal);
    line_add(&l, " grace=%" PRIu64 "ms", o->grace_ms);
    line_add(&l, " spares=%" PRIu32 " shrink=%" PRIu32 " min-nodes=%" PRIu32 " relaunch=%" PRIu32,
             o->spares, o->shrink, o->min_nodes, o->relaunch);
    if (o->max_node_losses != PM_UNLIMITED)
        line_add(&l, " max-node-losses=%" PRIu32 "/%" PRIu64 "ms", o->max_node_losses,
                 o->node_loss_window_ms);
    line_add(&l, " blame=%" PRIu32, o->blame);
    line_add_path(&l, "health", o->health);
    line_add(&l, " health-timeout=%" PRIu64 "ms", o->health_timeout_ms);
    line_add(&l, " node-timeout=%" PRIu64 "ms", o->node_timeout_ms);
    line_add(&l, " orphan-timeout=%" PRIu64 "ms", o->orphan_timeout_ms);
    line_add(&l, " start-timeout=%" PRIu64 "ms", o->start_timeout_ms);
    line_add(&l, " join-window=%" PRIu64 "ms", o->join_window_ms);
    if (o->port_min)
        line_add(&l, " port-range=%" PRIu32 "-%" PRIu32, o->port_min, o->port_max);
    line_add(&l, " fanout=%" PRIu32 " verbose=%" PRIu32, o->fanout, o->verbose);
    line_add(&l, " bind=%s", o->bind);
    line_add_path(&l, "bind-report", o->bind_report);
    line_add_path(&l, "log", o->log);
    line_add_path(&l, "log-nodes", o->log_nodes);
    line_add_path(&l, "on-node-loss", o->on_node_loss);
    line_add_path(&l, "fence", o->fence);
    line_add(&l, " fence-required=%" PRIu32 " fence-timeout=%" PRIu64 "ms", o->fence_required,
             o->fence_timeout_ms);
    return l.len < cap ? 0 : -E2BIG;
}

// Copies one value without its escapes; false if it is too long or badly escaped.
static bool unescape(const char *from, size_t len, char *to, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < cap; i++) {
        char c = from[i];
        if (c == '\\') {
            if (++i == len || (from[i] != 's' && from[i] != '\\'))
                return false;
            c = from[i] == 's' ? ' ' : '\\';
        }
        to[n++] = c;
        if (i + 1 == len) {
            to[n] = '\0';
            return true;
        }
    }
    to[n] = '\0';
    return len == 0;
}

int pm_options_decode(struct pm_options *o, const char *text, char *error)
{
    char name[32], value[PM_PATH_CAP];
    pm_options_default(o);
    for (const char *at = text, *end; at && *at; at = *end ? end + 1 : NULL) {
        end = strchrnul(at, ' ');
        const char *equals = memchr(at, '=', (size_t)(end - at));
        size_t name_len = equals ? (size_t)(equals - at) : 0;
        if (!name_len || name_len >= sizeof name)
            return refuse(error, "not a list of NAME=VALUE");
        memcpy(name, at, name_len);
        name[name_len] = '\0';
        if (!unescape(equals + 1, (size_t)(end - equals - 1), value, sizeof value))
            return refuse(error, "bad value");
        int rc = pm_options_set(o, "supervision options", name, value, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

char *pm_duration_format(uint64_t ms, char *buf, size_t cap)
{
    uint64_t s = ms / SECOND, tenths = ms % SECOND / 100;
    if (ms < SECOND)
        snprintf(buf, cap, "%" PRIu64 " ms", ms);
    else if (ms < MINUTE && tenths)
        snprintf(buf, cap, "%" PRIu64 ".%" PRIu64 " s", s, tenths);
    else if (ms < MINUTE)
        snprintf(buf, cap, "%" PRIu64 " s", s);
    else if (ms < HOUR)
        snprintf(buf, cap, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else
        snprintf(buf, cap, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    return buf;
}
