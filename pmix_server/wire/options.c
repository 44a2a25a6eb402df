// SPDX-License-Identifier: Apache-2.0
//
// See options.h for the contract. The table at the end is the one list of options; each row's
// parse function sees only the value and writes only what the value may be ("takes ..."), and
// pm_options_set puts the source and the value before it. Values of users reach a sentence only
// with control characters replaced and cut to a readable length.
#include "pmix_server/wire/options.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/wire/bind_options.h"
#include "pmix_server/wire/options_parts.h"

#define SECOND PM_OPTION_SECOND
#define MINUTE PM_OPTION_MINUTE
#define HOUR PM_OPTION_HOUR
#define DEFAULT_BACKOFF_MAX (5 * MINUTE)
#define SHOWN_VALUE_CAP 64

// --- small pieces -------------------------------------------------------------------------------

int pm_option_refuse(char *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, PM_ERROR_CAP, format, args);
    va_end(args);
    return -EINVAL;
}

bool pm_option_take_number(const char **text, uint64_t max, uint64_t *ret)
{
    assert(max >= 9);
    const char *at = *text;
    uint64_t v = 0;
    if (*at < '0' || *at > '9')
        return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (v > (max - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *text = at;
    *ret = v;
    return true;
}

static const struct {
    const char *name;
    uint64_t ms;
} units[] = {{"ms", 1}, {"s", SECOND}, {"m", MINUTE}, {"h", HOUR}, {"", SECOND}};

// NUMBER[ms|s|m|h] up to the end of the text or `stop`; a bare number is seconds.
static bool take_duration(const char **text, char stop, uint64_t *ret_ms)
{
    const char *at = *text;
    uint64_t v;
    if (!pm_option_take_number(&at, UINT64_MAX / HOUR, &v))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t len = strlen(units[i].name);
        if (strncmp(at, units[i].name, len) == 0 && (at[len] == '\0' || at[len] == stop)) {
            *ret_ms = v * units[i].ms;
            *text = at + len;
            return true;
        }
    }
    return false;
}

// "500ms", "5s", "2m", "1h": the largest unit that keeps the value exact.
static const char *exact_duration(uint64_t ms, char *buf, size_t cap)
{
    size_t unit = ms == 0 ? 1 : 3;
    while (ms % units[unit].ms)
        unit--;
    snprintf(buf, cap, "%" PRIu64 "%s", ms / units[unit].ms, units[unit].name);
    return buf;
}

static int refuse_duration(const struct pm_option_spec *spec, char *error, const char *form)
{
    char min[32], max[32];
    return pm_option_refuse(error, "takes %s from %s to %s (500ms, 5s, 2m, 1h; a bare number is seconds)", form,
                            exact_duration(spec->min, min, sizeof min),
                            exact_duration(spec->max, max, sizeof max));
}

static int parse_duration(const struct pm_option_spec *spec, const char *text, uint64_t *ret_ms,
                          char *error)
{
    uint64_t ms;
    if (!take_duration(&text, '\0', &ms) || ms < spec->min || ms > spec->max)
        return refuse_duration(spec, error, "a duration");
    *ret_ms = ms;
    return 0;
}

static int parse_number(const struct pm_option_spec *spec, const char *text, uint32_t *ret,
                        char *error)
{
    uint64_t v;
    if (!pm_option_take_number(&text, UINT32_MAX, &v) || *text || v < spec->min || v > spec->max)
        return pm_option_refuse(error, "takes a number from %" PRIu64 " to %" PRIu64, spec->min, spec->max);
    *ret = (uint32_t)v;
    return 0;
}

static int parse_path(const struct pm_option_spec *spec, const char *text, char *path, size_t cap,
                      char *error)
{
    size_t len = strlen(text);
    (void)spec;
    if (len >= cap)
        return pm_option_refuse(error, "takes a path of at most %zu bytes", cap - 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 127)
            return pm_option_refuse(error, "takes a path without control characters");
    memcpy(path, text, len + 1);
    return 0;
}

// A program is run by another process, whose folder is not that of who named it: "x" and "./x" say nothing there.
static int parse_program(const struct pm_option_spec *spec, const char *text, char *path, size_t cap,
                         char *error)
{
    if ((*text && *text != '/') || strlen(text) >= cap)
        return pm_option_refuse(error, "takes an absolute path of at most %zu bytes", cap - 1);
    return parse_path(spec, text, path, cap, error);
}

// --- one parse function a row -------------------------------------------------------------------

static int parse_fatal_exit(const struct pm_option_spec *spec, const char *text,
                            struct pm_options *o, char *error)
{
    (void)spec;
    return pm_option_fatal(text, &o->fatal, error);
}

static int parse_supervise(const struct pm_option_spec *spec, const char *text,
                           struct pm_options *o, char *error)
{
    (void)spec;
    if (!text || !*text)
        text = pm_mode_name(PM_MODE_WORLD);
    for (uint32_t mode = PM_MODE_OFF; mode <= PM_MODE_NOTIFY; mode++) {
        if (strcmp(text, pm_mode_name(mode)) == 0) {
            o->mode = mode;
            return 0;
        }
    }
    return pm_option_refuse(error, "takes world, rank, notify or off");
}

// N or N/DURATION: so many of something, in all or within a sliding window.
static int parse_budget(const struct pm_option_spec *spec, const char *text, uint32_t *ret_n,
                        uint64_t *ret_window_ms, char *error)
{
    uint64_t n, window_ms = 0;
    if (!pm_option_take_number(&text, spec->max, &n) || (*text && *text != '/'))
        return pm_option_refuse(error, "takes %s with N from %" PRIu64 " to %" PRIu64, spec->arginfo, spec->min,
                                spec->max);
    if (*text) {
        text++;
        // 0 is what "no window" is written as by pm_options_encode.
        if (!take_duration(&text, '\0', &window_ms) || window_ms > 8760 * HOUR)
            return pm_option_refuse(error, "takes %s with a DURATION of at most 8760h", spec->arginfo);
    }
    *ret_n = (uint32_t)n;
    *ret_window_ms = window_ms;
    return 0;
}

static int parse_max_restarts(const struct pm_option_spec *spec, const char *text,
                              struct pm_options *o, char *error)
{
    return parse_budget(spec, text, &o->max_restarts, &o->restart_window_ms, error);
}

static int parse_max_node_losses(const struct pm_option_spec *spec, const char *text,
                                 struct pm_options *o, char *error)
{
    if (strcmp(text, "unlimited") != 0)
        return parse_budget(spec, text, &o->max_node_losses, &o->node_loss_window_ms, error);
    o->max_node_losses = PM_UNLIMITED;
    o->node_loss_window_ms = 0;
    return 0;
}

static int parse_backoff(const struct pm_option_spec *spec, const char *text,
                         struct pm_options *o, char *error)
{
    uint64_t first, max;
    if (!take_duration(&text, ':', &first) || first > spec->max)
        return refuse_duration(spec, error, "DURATION[:MAX]");
    max = first > DEFAULT_BACKOFF_MAX ? first : DEFAULT_BACKOFF_MAX;
    if (*text == ':') {
        text++;
        if (!take_duration(&text, '\0', &max) || max > spec->max)
            return refuse_duration(spec, error, "DURATION[:MAX]");
    }
    if (max < first)
        return pm_option_refuse(error, "takes DURATION:MAX with MAX not below DURATION");
    o->backoff_ms = first;
    o->backoff_max_ms = max;
    return 0;
}

static int parse_port_range(const struct pm_option_spec *spec, const char *text,
                            struct pm_options *o, char *error)
{
    uint64_t min, max;
    if (strcmp(text, "any") == 0) {
        o->port_min = o->port_max = 0;
        return 0;
    }
    bool good = pm_option_take_number(&text, spec->max, &min) && *text == '-';
    text++;
    if (!good || !pm_option_take_number(&text, spec->max, &max) || *text || min < spec->min || max < min)
        return pm_option_refuse(error, "takes A-B with %" PRIu64 " <= A <= B <= %" PRIu64 ", or any",
                                spec->min, spec->max);
    o->port_min = (uint32_t)min;
    o->port_max = (uint32_t)max;
    return 0;
}

static int parse_bind(const struct pm_option_spec *spec, const char *text, struct pm_options *o,
                      char *error)
{
    struct pm_bind_options bind = {0};
    char sentence[PM_BIND_SENTENCE_BYTES];
    (void)spec;
    if (strlen(text) >= sizeof o->bind)
        return pm_option_refuse(error, "takes words of together at most %zu letters", sizeof o->bind - 1);
    if (pm_bind_options_read(text, &bind, sentence) < 0)
        return pm_option_refuse(error, "%s", sentence);
    strcpy(o->bind, text);
    return 0;
}

// Without a value: 1.
static int parse_switch(const struct pm_option_spec *spec, const char *text, uint32_t *ret, char *error)
{
    if (text && *text)
        return parse_number(spec, text, ret, error);
    *ret = 1;
    return 0;
}

#define PARSE_WITH(field, how)                                                                     \
    static int parse_##field(const struct pm_option_spec *spec, const char *text,                  \
                             struct pm_options *o, char *error)                                    \
    {                                                                                              \
        return how(spec, text, &o->field, error);                                                  \
    }
PARSE_WITH(min_uptime_ms, parse_duration)
PARSE_WITH(grace_ms, parse_duration)
PARSE_WITH(node_timeout_ms, parse_duration)
PARSE_WITH(orphan_timeout_ms, parse_duration)
PARSE_WITH(start_timeout_ms, parse_duration)
PARSE_WITH(join_window_ms, parse_duration)
PARSE_WITH(fanout, parse_number)
PARSE_WITH(fence_timeout_ms, parse_duration)
PARSE_WITH(spares, parse_number)
PARSE_WITH(blame, parse_number)
PARSE_WITH(health_timeout_ms, parse_duration)
PARSE_WITH(shrink, parse_switch)
PARSE_WITH(min_nodes, parse_number)
PARSE_WITH(relaunch, parse_number)
PARSE_WITH(verbose, parse_switch)
PARSE_WITH(fence_required, parse_switch)

#define PARSE_PATH_WITH(field, how)                                                                \
    static int parse_##field(const struct pm_option_spec *spec, const char *text,                  \
                             struct pm_options *o, char *error)                                    \
    {                                                                                              \
        return how(spec, text, o->field, sizeof o->field, error);                                  \
    }
PARSE_PATH_WITH(log, parse_path)
PARSE_PATH_WITH(log_nodes, parse_path)
PARSE_PATH_WITH(health, parse_program)
PARSE_PATH_WITH(on_node_loss, parse_program)
PARSE_PATH_WITH(fence, parse_program)

static int parse_bind_report(const struct pm_option_spec *spec, const char *text,
                             struct pm_options *o, char *error)
{
    return parse_path(spec, text ? text : "-", o->bind_report, sizeof o->bind_report, error);
}

const struct pm_option_spec pm_option_specs[] = {
    {"supervise", "world|rank|notify|off",
     "supervise the step; what a failed rank leads to: restart the world, restart the rank, or "
     "only tell the others", "off", 0, 0, true, parse_supervise},
    {"max-restarts", "N[/DURATION]",
     "restart budget of the whole step, or of a sliding window", "3", 0, 1000000, false,
     parse_max_restarts},
    {"min-uptime", "DURATION",
     "a world that dies younger than this failed to start; three in a row stop the step (0: off)",
     "5s", 0, 24 * HOUR, false, parse_min_uptime_ms},
    {"backoff", "DURATION[:MAX]",
     "wait before the 2nd, 3rd ... consecutive restart, doubling up to MAX", "0", 0, 24 * HOUR,
     false, parse_backoff},
    {"fatal-exit", "LIST",
     "exit codes and signals that are never restarted", "93", 0, 0, false, parse_fatal_exit},
    {"grace", "DURATION",
     "between SIGTERM and SIGKILL for survivors", "5s", 0, HOUR, false, parse_grace_ms},
    {"spares", "NODES",
     "the last NODES nodes of the step wait as spares: a lost node's ranks move there", "0", 0, 65536,
     false, parse_spares},
    {"shrink", "0|1",
     "when a node is lost and no spare is left, start the world again on fewer nodes", "0", 0, 1, true,
     parse_shrink},
    {"min-nodes", "NODES",
     "with --pm-shrink: the fewest nodes that the world goes on with", "1", 1, 65536, false, parse_min_nodes},
    {"relaunch", "N",
     "how many times the step may be launched again on other nodes of the job, when it has lost too many", "0", 0, 100,
     false, parse_relaunch},
    {"max-node-losses", "N[/DURATION]|unlimited",
     "how many lost nodes may be replaced by spares or done without, in all or in a sliding window", "unlimited", 0,
     65536, false, parse_max_node_losses},
    {"blame", "K",
     "a node whose ranks were first to fail K times is swapped for a spare in the next restart (0: off)", "0", 0,
     1000000, false, parse_blame},
    {"health", "PATH",
     "an executable that each node must end with 0, once after it has joined and, if it waits as a spare, again before "
     "its use; else the node is not used",
     "", 0, 0, false, parse_health},
    {"health-timeout", "DURATION",
     "how long health may take before it is killed and counts as failed", "30s", SECOND, HOUR, false,
     parse_health_timeout_ms},
    {"node-timeout", "DURATION",
     "silence after which a node is declared dead", "10s", SECOND, 10 * MINUTE, false,
     parse_node_timeout_ms},
    {"orphan-timeout", "DURATION",
     "how long stopped ranks wait for the coordinator to come back", "60s", 0, 168 * HOUR, false,
     parse_orphan_timeout_ms},
    {"start-timeout", "DURATION",
     "from the step's launch until all nodes have joined", "2m", SECOND, 24 * HOUR, false,
     parse_start_timeout_ms},
    {"join-window", "DURATION",
     "from the first node's join until the last one's", "15s", SECOND, 24 * HOUR, false,
     parse_join_window_ms},
    {"port-range", "A-B",
     "ports of our listeners (any: those of SrunPortRange, if the site has set it)", "any", 1, 65535, false,
     parse_port_range},
    {"fanout", "N",
     "children of each node in the tree", "32", 2, 1024, false, parse_fanout},
    {"bind", "auto|none|WORD,...",
     "run each rank on cores near its memory, GPUs and NIC, of what Slurm granted (none: Slurm's own binding)",
     "auto", 0, 0, false, parse_bind},
    {"bind-report", "FILE",
     "tell on stderr, or in FILE (%j, %s: job, step), where each rank was bound to", "", 0, 0, true,
     parse_bind_report},
    {"verbose", "0|1",
     "more from our own programs on stderr", "0", 0, 1, true, parse_verbose},
    {"log", "FILE",
     "event log, one JSON object a line; %j and %s stand for job and step", "", 0, 0, false,
     parse_log},
    {"log-nodes", "DIR",
     "each agent writes start, stop, kill and reap of its ranks to a file in DIR", "", 0, 0, false,
     parse_log_nodes},
    {"on-node-loss", "PATH",
     "a program of the site's that the coordinator runs, as the user, for each node it has declared lost",
     "", 0, 0, false, parse_on_node_loss, .site = true},
    {"fence", "PATH",
     "a program of the site's that makes sure that a lost node does no more harm (power-off, unmount); run "
     "before its ranks are started elsewhere and before the step ends", "", 0, 0, false, parse_fence,
     .site = true},
    {"fence-required", "0|1",
     "a lost node that fence could not make sure of stops the step", "0", 0, 1, true,
     parse_fence_required, .site = true},
    {"fence-timeout", "DURATION",
     "how long fence may take for one node before it is killed and counts as failed", "30s", SECOND, HOUR, false,
     parse_fence_timeout_ms, .site = true},
    {0},
};

// --- public -------------------------------------------------------------------------------------

void pm_options_default(struct pm_options *o)
{
    char error[PM_ERROR_CAP];
    *o = (struct pm_options){0};
    for (const struct pm_option_spec *spec = pm_option_specs; spec->name; spec++)
        (void)spec->parse(spec, spec->default_text, o, error);
}

const struct pm_option_spec *pm_option_find(const char *name, size_t len)
{
    for (const struct pm_option_spec *spec = pm_option_specs; spec->name; spec++)
        if (strlen(spec->name) == len && memcmp(spec->name, name, len) == 0)
            return spec;
    return NULL;
}

const char *pm_mode_name(uint32_t mode)
{
    static const char *const names[] = {
        [PM_MODE_OFF] = "off",
        [PM_MODE_WORLD] = "world",
        [PM_MODE_RANK] = "rank",
        [PM_MODE_NOTIFY] = "notify",
    };
    return mode <= PM_MODE_NOTIFY ? names[mode] : names[PM_MODE_OFF];
}

// A value as a sentence may show it.
static const char *shown(const char *text, char *buf, size_t cap)
{
    size_t n = 0;
    for (; n < cap - 4 && text[n]; n++)
        buf[n] = (unsigned char)text[n] < ' ' || text[n] == 127 ? '?' : text[n];
    strcpy(buf + n, text[n] ? "..." : "");
    return buf;
}

int pm_options_set(struct pm_options *o, const char *source, const char *name, const char *text,
                   char *error)
{
    char value[SHOWN_VALUE_CAP], detail[PM_ERROR_CAP];
    const struct pm_option_spec *spec = pm_option_find(name, strlen(name));
    if (!spec)
        return pm_option_refuse(error, "%s: there is no option %s", source, shown(name, value, sizeof value));
    if (!text && !spec->arg_optional)
        return pm_option_refuse(error, "%s: needs a value: %s", source, spec->arginfo);
    int rc = spec->parse(spec, text, o, detail);
    if (rc < 0)
        pm_option_refuse(error, "%.128s=%s: %.300s", source, shown(text, value, sizeof value), detail);
    return rc;
}
