// SPDX-License-Identifier: Apache-2.0
//
// A site's bounds on what users may ask for. The table says where the value of an option stands in struct
// pm_options; options that have no order (a mode, a list, a path) are not in it. A bound is read by the
// option's own parse function, so it is written like the option. See options.h for the contract.
#include "pmix_server/wire/options_parts.h"

#include <stdio.h>
#include <string.h>

#define MIN_KEY ":min="
#define MAX_KEY ":max="

struct pm_bound_value {
    const char *name;
    size_t size;       // of the field: 4 or 8
    size_t low, high;  // where; two for a value with two ends
    size_t window;     // of a budget, uint64_t; 0: it is none
};

#define ENDS(low, high) sizeof(((struct pm_options *)0)->low), offsetof(struct pm_options, low), \
    offsetof(struct pm_options, high)
#define FIELD(field) ENDS(field, field)

static const struct pm_bound_value values[] = {
    {"max-restarts", FIELD(max_restarts), offsetof(struct pm_options, restart_window_ms)},
    {"min-uptime", FIELD(min_uptime_ms)},
    {"backoff", ENDS(backoff_ms, backoff_max_ms)},
    {"grace", FIELD(grace_ms)},
    {"spares", FIELD(spares)},
    {"shrink", FIELD(shrink)},
    {"min-nodes", FIELD(min_nodes)},
    {"relaunch", FIELD(relaunch)},
    {"max-node-losses", FIELD(max_node_losses), offsetof(struct pm_options, node_loss_window_ms)},
    {"blame", FIELD(blame)},
    {"health-timeout", FIELD(health_timeout_ms)},
    {"node-timeout", FIELD(node_timeout_ms)},
    {"orphan-timeout", FIELD(orphan_timeout_ms)},
    {"start-timeout", FIELD(start_timeout_ms)},
    {"join-window", FIELD(join_window_ms)},
    {"port-range", ENDS(port_min, port_max)},
    {"fanout", FIELD(fanout)},
    {"verbose", FIELD(verbose)},
};

static uint64_t get(const struct pm_bound_value *v, const struct pm_options *o, size_t offset)
{
    const char *at = (const char *)o + offset;
    return v->size == sizeof(uint64_t) ? *(const uint64_t *)(const void *)at
                                       : *(const uint32_t *)(const void *)at;
}

static void put(const struct pm_bound_value *v, struct pm_options *o, size_t offset, uint64_t value)
{
    char *at = (char *)o + offset;
    if (v->size == sizeof(uint64_t))
        *(uint64_t *)(void *)at = value;
    else
        *(uint32_t *)(void *)at = (uint32_t)value;
}

static uint64_t *window_of(const struct pm_bound_value *v, struct pm_options *o)
{
    return v->window ? (uint64_t *)(void *)((char *)o + v->window) : NULL;
}

static const struct pm_bound_value *value_of(const char *name)
{
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (strcmp(values[i].name, name) == 0)
            return &values[i];
    return NULL;
}

static bool is_named(const struct pm_option_bound *b, const char *name)
{
    return strcmp(b->value->name, name) == 0;
}

bool pm_bound_is(const char *arg)
{
    return arg[strcspn(arg, ":=")] == ':';
}

// One value, where the option itself may take two: a port is written "A-A" for its parse function.
static int read_limit(struct pm_option_bound *b, const char *text, char *detail)
{
    struct pm_options scratch;
    char ports[64];
    pm_options_default(&scratch);
    if (strpbrk(text, ":-") || strlen(text) > sizeof ports / 2 - 1)
        return pm_option_refuse(detail, "a bound is one value");
    (void)snprintf(ports, sizeof ports, "%s-%s", text, text);
    int rc = b->spec->parse(b->spec, is_named(b, "port-range") ? ports : text, &scratch, detail);
    if (rc < 0)
        return rc;
    b->limit = get(b->value, &scratch, b->value->low);
    const uint64_t *window_ms = window_of(b->value, &scratch);
    b->window_ms = window_ms ? *window_ms : 0;
    return 0;
}

int pm_bound_parse(struct pm_option_bound *ret, const char *arg, char *error)
{
    char name[32], detail[PM_ERROR_CAP];
    size_t len = strcspn(arg, ":");
    const char *key = arg + len, *text = strchr(key, '=');
    (void)snprintf(name, sizeof name, "%.*s", (int)len, arg);
    *ret = (struct pm_option_bound){.spec = pm_option_find(arg, len), .value = value_of(name)};
    if (!ret->spec || !ret->value)
        return pm_option_refuse(error, "plugstack.conf: %.64s: there is no option %.32s with a min or max", arg, name);
    ret->is_max = strncmp(key, MAX_KEY, strlen(MAX_KEY)) == 0;
    if (!ret->is_max && strncmp(key, MIN_KEY, strlen(MIN_KEY)) != 0)
        return pm_option_refuse(error, "plugstack.conf: %.64s: a bound is written %s" MIN_KEY "VALUE or %s" MAX_KEY
                                "VALUE", arg, name, name);
    ret->text = text + 1;
    if (read_limit(ret, ret->text, detail) < 0)
        return pm_option_refuse(error, "plugstack.conf: %.64s: %.300s", arg, detail);
    return 0;
}

// N in every window of W is more than N once, and not more than N in every shorter one.
static bool window_allowed(const struct pm_option_bound *b, const struct pm_options *o)
{
    uint64_t window_ms = b->value->window ? *window_of(b->value, (struct pm_options *)(uintptr_t)o) : 0;
    return !b->is_max || window_ms == 0 || (b->window_ms != 0 && window_ms >= b->window_ms);
}

bool pm_bound_allows(const struct pm_option_bound *b, const struct pm_options *o, const char *text)
{
    uint64_t low = get(b->value, o, b->value->low), high = get(b->value, o, b->value->high);
    // The longest wait of a backoff that says only the first one is ours to choose.
    if (is_named(b, "backoff") && text && !strchr(text, ':'))
        high = low;
    // Any port: the bound leaves some out.
    if (is_named(b, "port-range") && low == 0)
        return false;
    return b->is_max ? high <= b->limit && low <= b->limit && window_allowed(b, o) : low >= b->limit;
}

void pm_bound_clamp(const struct pm_option_bound *b, struct pm_options *o)
{
    if (is_named(b, "port-range") && o->port_min == 0) {
        o->port_min = 1;
        o->port_max = 65535;
    }
    const size_t ends[] = {b->value->low, b->value->high};
    for (size_t i = 0; i < 2; i++) {
        uint64_t v = get(b->value, o, ends[i]);
        if (b->is_max ? v > b->limit : v < b->limit)
            put(b->value, o, ends[i], b->limit);
    }
    if (!window_allowed(b, o))
        *window_of(b->value, o) = b->window_ms;
}

char *pm_bound_sentence(const struct pm_option_bound *b, char *buf, size_t cap)
{
    (void)snprintf(buf, cap, "this site allows at %s %.64s (%s%s in plugstack.conf)",
                   b->is_max ? "most" : "least", b->text, b->value->name, b->is_max ? MAX_KEY : MIN_KEY);
    return buf;
}
