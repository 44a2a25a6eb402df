// SPDX-License-Identifier: Apache-2.0
//
// The site's fence programs of a whole rack, without a loop, a core or programs: the test is all of them, and the clock.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/program.h"
#include "pmix_server/io/util.h"

#define NODES 40

static struct coordinator c = {.fences = STAILQ_HEAD_INITIALIZER(c.fences)};

// What was started, in that order; a pid is its number plus 1.
static struct {
    char host[32];
    pm_child_f ended;
    void *arg;
} programs[NODES];
static unsigned n_programs, running, n_answers, n_failed;
static uint32_t last_node;
static uint64_t now_ns, limit_ms;
static char text[PM_TEXT_CAP], said[PM_TEXT_CAP];
static bool cannot_start;

TestSuite(coordinator_fence, .timeout = 20);

const char *pm_cause_name(enum pm_cause cause)
{
    (void)cause;
    return "node-lost";
}

uint64_t pm_clock_ns(void) { return now_ns; }

const char *pm_core_host(const struct pm_core *core, uint32_t node, char *buf)
{
    (void)core;
    (void)snprintf(buf, PM_TEXT_CAP, "n%u", node);
    return buf;
}

pid_t pm_program_start(const struct pm_program *program)
{
    if (cannot_start)
        return -EAGAIN;
    cr_assert_lt(n_programs, NODES);
    (void)snprintf(programs[n_programs].host, sizeof(programs->host), "%.30s", program->argv[1]);
    limit_ms = program->limit_ms;
    running++;
    return (pid_t)++n_programs;
}

bool pm_program_outcome(int status, uint64_t limit, char *buf, size_t cap)
{
    (void)limit;
    if (status)
        (void)snprintf(buf, cap, "ended with exit code %d", status >> 8);
    return status == 0;
}

int pm_children_watch(struct pm_children *children, pid_t pid, pm_child_f ended, void *arg)
{
    (void)children;
    programs[pid - 1].ended = ended;
    programs[pid - 1].arg = arg;
    return 0;
}

const sigset_t *pm_signals_old_mask(const struct pm_signals *signals)
{
    (void)signals;
    return NULL;
}

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    (void)loop;
    cr_assert_eq(event->type, PM_EVENT_FENCED_OFF);
    n_answers++;
    n_failed += event->flag_failed;
    last_node = event->node;
    (void)snprintf(text, sizeof(text), "%s", event->text);
}

void pm_coordinator_say(struct coordinator *coordinator, const char *line)
{
    (void)coordinator;
    (void)snprintf(said, sizeof(said), "%s", line);
}

static void a_rack_is_lost(void)
{
    strcpy(c.options.fence, "/site/fence");
    c.options.fence_timeout_ms = 30000;
    for (uint32_t node = 0; node < NODES; node++)
        pm_fence_off(&c, node, PM_CAUSE_NODE_LOST);
}

static void ends(unsigned i, int status)
{
    running--;
    programs[i].ended((pid_t)i + 1, status, programs[i].arg);
}

Test(coordinator_fence, sixteen_run_and_the_others_wait_in_their_order)
{
    a_rack_is_lost();
    cr_assert_eq(n_programs, 16);
    ends(3, 0);
    cr_assert_eq(n_programs, 17);
    cr_expect_str_eq(programs[16].host, "n16");
    cr_expect_eq(last_node, 3);
    for (unsigned i = 0; i < NODES; i++)
        if (i != 3) {
            ends(i, 0);
            cr_assert_leq(running, 16);
        }
    cr_expect_eq(n_programs, NODES);
    cr_expect_eq(n_answers, NODES);
    cr_expect_str_eq(programs[NODES - 1].host, "n39");
    cr_expect_eq(n_failed, 0);
}

// As its time limit is, what is said of it is from its own start on.
Test(coordinator_fence, the_time_of_each_begins_with_its_start)
{
    a_rack_is_lost();
    now_ns = 5000000000;
    ends(0, 0);
    cr_expect_str_eq(text, "5 s");
    now_ns += 2000000000;
    ends(16, 0);
    cr_expect_eq(last_node, 16);
    cr_expect_str_eq(text, "2 s");
    cr_expect_eq(limit_ms, 30000);
}

Test(coordinator_fence, one_that_fails_makes_room_too)
{
    a_rack_is_lost();
    ends(0, 3 << 8);
    cr_expect_eq(n_failed, 1);
    cr_expect_str_eq(text, "ended with exit code 3");
    cr_expect_eq(n_programs, 17);
}

Test(coordinator_fence, each_that_cannot_be_started_is_answered)
{
    cannot_start = true;
    a_rack_is_lost();
    cr_expect_eq(n_answers, NODES);
    cr_expect_eq(n_failed, NODES);
    cr_expect_str_eq(text, "could not be started (Resource temporarily unavailable)");
}

Test(coordinator_fence, those_that_wait_at_the_end_are_not_started)
{
    a_rack_is_lost();
    pm_fence_end(&c);
    c.has_verdict = true;
    cr_expect_str_eq(said, "fence was not run for 24 nodes: the step ended first");
    ends(0, 0);
    cr_expect_eq(n_programs, 16);
    said[0] = '\0';
    pm_fence_end(&c);
    cr_expect_str_eq(said, "");
}
