// SPDX-License-Identifier: Apache-2.0
//
// Options that contradict each other. See options.h for the contract.
#include <inttypes.h>
#include <string.h>

#include "pmix_server/wire/options_parts.h"

int pm_options_check(const struct pm_options *o, char *error)
{
    if (o->log[0] && strcmp(o->log, o->log_nodes) == 0)
        return pm_option_refuse(error, "--pm-log and --pm-log-nodes name the same path; the first takes a "
                                "file, the second a folder");
    if (o->fence_required && !o->fence[0])
        return pm_option_refuse(error, "plugstack.conf: fence-required needs fence=PATH");
    if (o->restart_window_ms && o->restart_window_ms < o->min_uptime_ms)
        return pm_option_refuse(error, "the window of --pm-max-restarts is shorter than --pm-min-uptime, so "
                                "no two restarts would ever count together; make it longer");
    if (o->spares && o->mode == PM_MODE_NOTIFY)
        return pm_option_refuse(error, "--pm-spares=%" PRIu32 " with --pm-supervise=notify: nothing starts again "
                                "there, so spares would wait for nothing; leave one of them out",
                                o->spares);
    if (o->shrink && o->mode == PM_MODE_NOTIFY)
        return pm_option_refuse(error, "--pm-shrink with --pm-supervise=notify: nothing starts again there, so the "
                                "world never gets smaller; leave one of them out");
    if (o->relaunch && o->mode == PM_MODE_NOTIFY)
        return pm_option_refuse(error, "--pm-relaunch=%" PRIu32 " with --pm-supervise=notify: nothing starts again there, also "
                                "not on other nodes; leave one of them out", o->relaunch);
    return 0;
}

static bool without_shrink(const struct pm_options *o) { return !o->shrink; }
static bool without_health(const struct pm_options *o) { return !o->health[0]; }
static bool blames_in_notify(const struct pm_options *o) { return o->mode == PM_MODE_NOTIFY && o->blame > 0; }

// Options that do nothing beside others: said by a user they are a mistake, but a site may well set or bound what only
// some users need.
static const struct {
    const char *name;
    bool (*is_useless)(const struct pm_options *o);
    const char *why;
} useless[] = {
    {"min-nodes", without_shrink, "without --pm-shrink: the world never gets smaller there; add --pm-shrink"},
    {"health-timeout", without_health, "without --pm-health: nothing is run that it could end; add --pm-health"},
    {"blame", blames_in_notify, "with --pm-supervise=notify: nothing starts again there, so no node is swapped; take another mode"},
};

int pm_options_check_said(const struct pm_options *o, const char *(*said)(const char *name), char *error)
{
    for (size_t i = 0; i < sizeof(useless) / sizeof(*useless); i++) {
        const char *text = said(useless[i].name);
        if (text && useless[i].is_useless(o))
            return pm_option_refuse(error, "--pm-%s=%.64s %s, or leave it out", useless[i].name, text, useless[i].why);
    }
    return 0;
}
