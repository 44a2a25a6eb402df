// SPDX-License-Identifier: Apache-2.0
//
// The nodes that were declared lost, from the records of the core: each is told to syslog and to the site's
// on-node-loss program at once, and all stand in the ledger at the end of the step, on stderr and in --pm-log. So do those that
// live and were taken out; nobody else is told of them.
//
// Nothing here can hold the step up: programs run beside the loop, and what of them is still to be started when
// the step ends is left out and said. Without memory a node is missing here; the decision about it is not.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/program.h"
#include "pmix_server/io/system_log.h"
#include "pmix_server/io/util.h"

#define PROGRAMS_MAX 16       // at once
#define PROGRAM_LIMIT_MS 10000
#define LEDGER_LINES_MAX 100  // on stderr; --pm-log has them all
#define NS_PER_MS 1000000u

enum told { TOLD_NOT = 0, TOLD_RUNNING, TOLD_DONE };

struct loss {
    struct coordinator *c;
    const char *verb;  // static: "lost", "refused", "blamed"
    uint32_t node;
    uint32_t epoch;       // it was part of
    uint32_t next_epoch;  // that ran without it, its own if it was lost before that ran; valid if back_ns
    bool idle;            // nothing stopped for it
    enum pm_cause cause;
    enum told told;  // to the site's program
    uint64_t declared_ns;
    uint64_t silent_ms;
    uint64_t back_ns;  // when the next epoch ran; 0: it never did
    char host[PM_TEXT_CAP];
    char evidence[PM_TEXT_CAP];
    char time[40];
    STAILQ_ENTRY(loss) entry;
};

static void tell_syslog(const struct coordinator *c, const struct loss *l)
{
    char line[3 * PM_TEXT_CAP];
    (void)snprintf(line, sizeof(line), "job %u step %u: %s is declared lost (%s): %s", c->job, c->step, l->host,
                   pm_cause_name(l->cause), l->evidence);
    pm_syslog_warning("pm-coordinator", line);
}

// --- the site's program --------------------------------------------------------------------------------

static void tell_waiting(struct coordinator *c);

static void on_program_ended(pid_t pid, int status, void *arg)
{
    struct loss *l = arg;
    char why[PM_TEXT_CAP], line[3 * PM_TEXT_CAP];
    l->told = TOLD_DONE;
    l->c->programs--;
    if (!pm_program_outcome(status, PROGRAM_LIMIT_MS, why, sizeof(why))) {
        (void)snprintf(line, sizeof(line), "on-node-loss for %s %s", l->host, why);
        pm_coordinator_say(l->c, line);
    }
    tell_waiting(l->c);
}

static void say_not_started(struct coordinator *c, const struct loss *l, int error)
{
    char line[2 * PM_TEXT_CAP];
    (void)snprintf(line, sizeof(line), "on-node-loss for %s could not be started: %s", l->host, strerror(error));
    pm_coordinator_say(c, line);
}

static void run_program(struct coordinator *c, struct loss *l)
{
    char numbers[4][64], host[PM_TEXT_CAP + 16], cause[64], when[64], evidence[PM_TEXT_CAP + 32], job[16];
    const char *cause_name = pm_cause_name(l->cause);
    (void)snprintf(job, sizeof(job), "%u", c->job);
    (void)snprintf(host, sizeof(host), "PM_LOSS_NODE=%s", l->host);
    (void)snprintf(cause, sizeof(cause), "PM_LOSS_CAUSE=%s", cause_name);
    (void)snprintf(when, sizeof(when), "PM_LOSS_TIME=%s", l->time);
    (void)snprintf(evidence, sizeof(evidence), "PM_LOSS_EVIDENCE=%s", l->evidence);
    (void)snprintf(numbers[0], sizeof(numbers[0]), "PM_LOSS_JOB=%u", c->job);
    (void)snprintf(numbers[1], sizeof(numbers[1]), "PM_LOSS_STEP=%u", c->step);
    (void)snprintf(numbers[2], sizeof(numbers[2]), "PM_LOSS_EPOCH=%u", l->epoch);
    (void)snprintf(numbers[3], sizeof(numbers[3]), "PM_LOSS_SILENT_MS=%llu",
                   (unsigned long long)l->silent_ms);
    char *env[] = {host, cause, when, evidence, numbers[0], numbers[1], numbers[2], numbers[3], NULL};
    char *argv[] = {c->options.on_node_loss, l->host, (char *)(uintptr_t)cause_name, job, NULL};
    const struct pm_program program = {.argv = argv, .env = env, .limit_ms = PROGRAM_LIMIT_MS,
                                       .mask = pm_signals_old_mask(c->signals)};
    pid_t pid = pm_program_start(&program);
    int r = pid < 0 ? pid : pm_children_watch(c->children, pid, on_program_ended, l);
    l->told = r < 0 ? TOLD_DONE : TOLD_RUNNING;
    c->programs += r == 0;
    if (r < 0)
        say_not_started(c, l, -r);
}

static void tell_waiting(struct coordinator *c)
{
    struct loss *l;
    STAILQ_FOREACH(l, &c->losses, entry) {
        if (c->programs >= PROGRAMS_MAX)
            return;
        if (l->told == TOLD_NOT && !c->has_verdict)
            run_program(c, l);
    }
}

// --- what the core says ----------------------------------------------------------------------------------

static struct loss *add(struct coordinator *c, const struct pm_log *record, const char *verb)
{
    struct loss *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    *l = (struct loss){.c = c, .verb = verb, .node = record->node, .epoch = record->epoch, .cause = record->cause,
                       .silent_ms = record->silent_ms, .idle = record->idle, .declared_ns = pm_clock_ns()};
    pm_core_host(c->core, l->node, l->host);
    pm_clock_wall(l->time, sizeof(l->time));
    (void)snprintf(l->evidence, sizeof(l->evidence), "%s", record->reason);
    STAILQ_INSERT_TAIL(&c->losses, l, entry);
    return l;
}

static void add_lost(struct coordinator *c, const struct pm_log *record)
{
    const struct loss *l = add(c, record, "lost");
    if (!l)
        return;
    tell_syslog(c, l);
    if (c->options.on_node_loss[0])
        tell_waiting(c);
}

// It lives, and the site has nothing to do about it.
static void add_retired(struct coordinator *c, const struct pm_log *record, const char *verb)
{
    struct loss *l = add(c, record, verb);
    if (l)
        l->told = TOLD_DONE;
}

static void runs_again(struct coordinator *c, uint32_t epoch)
{
    struct loss *l;
    STAILQ_FOREACH(l, &c->losses, entry) {
        if (l->back_ns || epoch < l->epoch)
            continue;
        l->back_ns = pm_clock_ns();
        l->next_epoch = epoch;
    }
}

void pm_losses_note(struct coordinator *c, const struct pm_log *record)
{
    if (!strcmp(record->kind, "lost"))
        add_lost(c, record);
    else if (!strcmp(record->kind, "failure") && record->cause == PM_CAUSE_UNHEALTHY)
        add_retired(c, record, "refused");
    else if (!strcmp(record->kind, "blamed"))
        add_retired(c, record, "blamed");
    else if (!strcmp(record->kind, "state") && !strcmp(record->to, pm_state_name(PM_STATE_RUNNING)))
        runs_again(c, record->epoch);
}

// --- the ledger ----------------------------------------------------------------------------------------

// From the last that was heard of it.
static uint64_t lost_ms(const struct loss *l)
{
    if (l->idle)
        return 0;
    uint64_t end_ns = l->back_ns ? l->back_ns : pm_clock_ns();
    return (end_ns - l->declared_ns) / NS_PER_MS + l->silent_ms;
}

// What the verdict puts an end to: another launch may follow.
static const char *what_ended(const struct coordinator *c) { return c->relaunch ? "this launch" : "the step"; }

static void write_line(struct coordinator *c, const struct loss *l)
{
    char ms[32], lost[96], line[4 * PM_TEXT_CAP];
    (void)pm_duration_format(lost_ms(l), ms, sizeof(ms));
    if (l->idle)
        (void)snprintf(lost, sizeof(lost), "no time lost");
    else if (l->back_ns)
        (void)snprintf(lost, sizeof(lost), "%s until epoch %u ran", ms, l->next_epoch);
    else
        (void)snprintf(lost, sizeof(lost), "%s until %s ended", ms, what_ended(c));
    (void)snprintf(line, sizeof(line), "%s in epoch %u: %s at %s (%s): %s; %s", l->verb, l->epoch,
                   l->host, l->time, l->cause ? pm_cause_name(l->cause) : "--pm-blame", l->evidence, lost);
    pm_coordinator_say(c, line);
}

static void write_record(struct coordinator *c, const struct loss *l)
{
    struct pm_log record = {.kind = "ledger", .epoch = l->epoch, .rank = PM_RANK_NONE, .node = l->node,
                            .spare = UINT32_MAX, .cause = l->cause, .silent_ms = l->silent_ms, .lost_ms = lost_ms(l)};
    (void)snprintf(record.reason, sizeof(record.reason), "%.100s: %.140s", l->host, l->evidence);
    pm_coordinator_log(c, &record);
}

void pm_losses_ledger(struct coordinator *c)
{
    unsigned lines = 0, untold = 0;
    char line[PM_TEXT_CAP];
    struct loss *l;
    STAILQ_FOREACH(l, &c->losses, entry) {
        write_record(c, l);
        if (lines++ < LEDGER_LINES_MAX)
            write_line(c, l);
        untold += l->told == TOLD_NOT && c->options.on_node_loss[0];
    }
    if (lines > LEDGER_LINES_MAX) {
        (void)snprintf(line, sizeof(line), "lost: %u more nodes, all of them in --pm-log",
                       lines - LEDGER_LINES_MAX);
        pm_coordinator_say(c, line);
    }
    if (untold) {
        (void)snprintf(line, sizeof(line), "on-node-loss was not run for %u nodes: %s ended first", untold,
                       what_ended(c));
        pm_coordinator_say(c, line);
    }
}

void pm_losses_done(struct coordinator *c)
{
    while (!STAILQ_EMPTY(&c->losses)) {
        struct loss *l = STAILQ_FIRST(&c->losses);
        STAILQ_REMOVE_HEAD(&c->losses, entry);
        free(l);
    }
}
