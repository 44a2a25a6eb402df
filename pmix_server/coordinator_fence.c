// SPDX-License-Identifier: Apache-2.0
//
// Runs the site's fence program for each lost node that the core asks for, beside the loop, and tells the core how it
// went: always, for ranks that are to start elsewhere wait for the answer. At most PM_FENCE_OFF_AT_ONCE run at once; the others
// wait in the order in which they were asked for, and the time of each begins with its start. Those that still wait when the
// step is over (srun has ended by itself) are not started, which is said.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/program.h"
#include "pmix_server/io/util.h"

struct fence {
    struct coordinator *c;
    uint32_t node;
    enum pm_cause cause;
    uint64_t begun_ns;
    STAILQ_ENTRY(fence) entry;  // while it waits
};

static void start_waiting(struct coordinator *c);

int pm_fence_check(const struct coordinator *c, char *error)
{
    const struct pm_options *o = &c->options;
    if (!o->fence_required || access(o->fence, X_OK) == 0)
        return 0;
    snprintf(error, PM_ERROR_CAP, "plugstack.conf: fence=%.300s, which this site requires, cannot be run on this host: %s",
             o->fence, strerror(errno));
    return -EINVAL;
}

static void tell(struct coordinator *c, uint32_t node, bool failed, const char *text)
{
    pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_FENCED_OFF, .node = node, .flag_failed = failed,
                                             .text = text});
}

static void on_ended(pid_t pid, int status, void *arg)
{
    struct fence *f = arg;
    char text[PM_TEXT_CAP];
    bool good = pm_program_outcome(status, f->c->options.fence_timeout_ms, text, sizeof(text));
    if (good)
        pm_duration_format((pm_clock_ns() - f->begun_ns) / 1000000, text, sizeof(text));
    tell(f->c, f->node, !good, text);
    f->c->n_fences--;
    start_waiting(f->c);
    free(f);
}

static int run(struct coordinator *c, struct fence *f)
{
    const char *cause = pm_cause_name(f->cause);
    char host[PM_TEXT_CAP], job[16], variables[4][PM_TEXT_CAP + 32];
    pm_core_host(c->core, f->node, host);
    (void)snprintf(job, sizeof(job), "%u", c->job);
    (void)snprintf(variables[0], sizeof(variables[0]), "PM_LOSS_NODE=%s", host);
    (void)snprintf(variables[1], sizeof(variables[1]), "PM_LOSS_CAUSE=%s", cause);
    (void)snprintf(variables[2], sizeof(variables[2]), "PM_LOSS_JOB=%u", c->job);
    (void)snprintf(variables[3], sizeof(variables[3]), "PM_LOSS_STEP=%u", c->step);
    char *env[] = {variables[0], variables[1], variables[2], variables[3], NULL};
    char *argv[] = {c->options.fence, host, (char *)(uintptr_t)cause, job, NULL};
    const struct pm_program program = {.argv = argv, .env = env, .limit_ms = c->options.fence_timeout_ms,
                                       .mask = pm_signals_old_mask(c->signals)};
    pid_t pid = pm_program_start(&program);
    return pid < 0 ? pid : pm_children_watch(c->children, pid, on_ended, f);
}

static void say_not_started(struct coordinator *c, uint32_t node, int error)
{
    char text[PM_TEXT_CAP];
    (void)snprintf(text, sizeof(text), "could not be started (%.100s)", strerror(error));
    tell(c, node, true, text);
}

static void start(struct coordinator *c, struct fence *f)
{
    f->begun_ns = pm_clock_ns();
    int r = run(c, f);
    c->n_fences += r == 0;
    if (r == 0)
        return;
    say_not_started(c, f->node, -r);
    free(f);
}

static void start_waiting(struct coordinator *c)
{
    while (c->n_fences < PM_FENCE_OFF_AT_ONCE && !c->has_verdict && !STAILQ_EMPTY(&c->fences)) {
        struct fence *f = STAILQ_FIRST(&c->fences);
        STAILQ_REMOVE_HEAD(&c->fences, entry);
        start(c, f);
    }
}

void pm_fence_off(struct coordinator *c, uint32_t node, enum pm_cause cause)
{
    struct fence *f = calloc(1, sizeof(*f));
    if (!f) {
        say_not_started(c, node, ENOMEM);
        return;
    }
    *f = (struct fence){.c = c, .node = node, .cause = cause};
    STAILQ_INSERT_TAIL(&c->fences, f, entry);
    start_waiting(c);
}

void pm_fence_end(struct coordinator *c)
{
    unsigned n = 0;
    for (struct fence *f; (f = STAILQ_FIRST(&c->fences)); n++) {
        STAILQ_REMOVE_HEAD(&c->fences, entry);
        free(f);
    }
    if (!n)
        return;
    char line[PM_TEXT_CAP];
    (void)snprintf(line, sizeof(line), "fence was not run for %u node%s: the step ended first", n, n == 1 ? "" : "s");
    pm_coordinator_say(c, line);
}
