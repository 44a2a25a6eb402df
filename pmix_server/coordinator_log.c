// SPDX-License-Identifier: Apache-2.0
//
// --pm-log: opened when job and step are known; records from before wait in memory, and how many found no room is said then.
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"

#define EARLY_MAX 1000

int pm_coordinator_log_check(const struct coordinator *c, char *error)
{
    char path[PM_PATH_CAP], folder[PM_PATH_CAP];
    if (!c->options.log[0])
        return 0;
    int r = pm_event_log_expand(c->options.log, UINT32_MAX, UINT32_MAX, path, sizeof(path));
    if (r < 0) {
        snprintf(error, PM_ERROR_CAP, "--pm-log=%.200s: %s", c->options.log,
                 r == -EINVAL ? "takes a file name with %j (job) and %s (step) in it, %% is a "
                                "plain %"
                              : "is too long");
        return -EINVAL;
    }
    snprintf(folder, sizeof(folder), "%s", path);
    if (access(dirname(folder), W_OK | X_OK) < 0) {
        snprintf(error, PM_ERROR_CAP, "--pm-log=%.200s: cannot write there: %s", c->options.log,
                 strerror(errno));
        return -EINVAL;
    }
    if (!strchr(c->options.log, '%') && !c->launch && access(path, F_OK) == 0) {
        snprintf(error, PM_ERROR_CAP,
                 "--pm-log=%.200s: the file is there already, and each step needs one of its own: "
                 "put %%j and %%s into the name",
                 c->options.log);
        return -EINVAL;
    }
    return 0;
}

static void write_early(struct coordinator *c)
{
    char text[PM_TEXT_CAP];
    while (!STAILQ_EMPTY(&c->early)) {
        struct early_log *e = STAILQ_FIRST(&c->early);
        STAILQ_REMOVE_HEAD(&c->early, entry);
        pm_coordinator_log(c, &e->record);
        free(e);
    }
    if (!c->n_missing)
        return;
    snprintf(text, sizeof(text), "--pm-log: %u records from before the step had its number are missing", c->n_missing);
    pm_coordinator_say(c, text);
}

int pm_coordinator_log_open(struct coordinator *c, char *error)
{
    char path[PM_PATH_CAP];
    if (!c->options.log[0])
        return 0;
    struct pm_event_log_id id = {.writer = "coordinator", .job = c->job, .step = c->step,
                                 .launch = c->launch,
                                 .append = c->launch && !pm_event_log_per_step(c->options.log)};
    int r = pm_event_log_expand(c->options.log, c->job, c->step, path, sizeof(path));
    if (r == 0)
        r = pm_event_log_new(path, &id, &c->log);
    if (r < 0) {
        snprintf(error, PM_ERROR_CAP, "--pm-log: cannot make %.300s: %s", path, strerror(-r));
        return r;
    }
    write_early(c);
    return 0;
}

static void keep_early(struct coordinator *c, const struct pm_log *record)
{
    struct early_log *e = c->n_early < EARLY_MAX ? calloc(1, sizeof(*e)) : NULL;
    if (!e) {
        c->n_missing++;
        return;
    }
    e->record = *record;
    c->n_early++;
    STAILQ_INSERT_TAIL(&c->early, e, entry);
}

void pm_coordinator_log(struct coordinator *c, const struct pm_log *record)
{
    if (!c->options.log[0])
        return;
    if (!c->log) {
        keep_early(c, record);
        return;
    }
    int r = pm_event_log_write(c->log, record);
    if (r < 0 && !c->log_failed) {
        char text[PM_TEXT_CAP];
        c->log_failed = true;
        snprintf(text, sizeof(text), "--pm-log: cannot write: %s; the log has gaps from here on",
                 strerror(-r));
        pm_coordinator_say(c, text);
    }
}

void pm_coordinator_log_done(struct coordinator *c)
{
    while (!STAILQ_EMPTY(&c->early)) {
        struct early_log *e = STAILQ_FIRST(&c->early);
        STAILQ_REMOVE_HEAD(&c->early, entry);
        free(e);
    }
    c->log = pm_event_log_free(c->log);
}
