// SPDX-License-Identifier: Apache-2.0
//
// What the coordinator makes of the answers of sinfo and scontrol, without Slurm and without a loop: the test is the command that is
// asked, the step's list of nodes and the one that is told.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pmix_server/coordinator.h"

TestSuite(coordinator_nodes, .timeout = 20);

static struct {
    struct pm_question question;
    enum pm_event_type event;  // that answers
    char names[4096];
    int refuse;        // pm_ask_begin() fails with it
    unsigned lookups;  // in the step's list
    unsigned told;
    bool failed;
    struct pm_set out;
} seen;

const char *pm_core_host(const struct pm_core *core, uint32_t node, char *buf)
{
    (void)core;
    seen.lookups++;
    (void)snprintf(buf, PM_TEXT_CAP, "n%u", node);
    return buf;
}

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    (void)loop;
    cr_assert_eq(event->type, seen.event);
    seen.told++;
    seen.failed = event->flag_failed;
    pm_set_clear(&seen.out);
    cr_assert_eq(pm_set_copy(&seen.out, event->set), 0);
}

int pm_ask_begin(const struct pm_question *question, struct pm_ask **ret)
{
    (void)ret;
    seen.question = *question;
    (void)snprintf(seen.names, sizeof(seen.names), "%s", question->argv[4]);
    return seen.refuse;
}

struct pm_ask *pm_ask_end(struct pm_ask *ask)
{
    cr_assert_null(ask);
    return NULL;
}

const sigset_t *pm_signals_old_mask(const struct pm_signals *signals)
{
    (void)signals;
    return NULL;
}

static uint64_t just_now_ms = 60000;

static void ask_about(struct coordinator *c, enum pm_nodes_question what, uint32_t first, uint32_t last)
{
    struct pm_set nodes = {0};
    struct pm_writer w = {0};
    cr_assert_eq(pm_set_add_span(&nodes, first, last), 0);
    pm_write_set(&w, &nodes);
    seen.event = what == PM_NODES_BOOTED ? PM_EVENT_BOOTED : PM_EVENT_NODE_STATES;
    pm_nodes_ask(c, what, &(struct pm_action){.data = w.data, .len = w.len, .timeout_ms = just_now_ms});
    pm_writer_done(&w);
    pm_set_done(&nodes);
}

static void ask(struct coordinator *c, uint32_t first, uint32_t last) { ask_about(c, PM_NODES_DRAINED, first, last); }

static void expect_out(const char *nodes)
{
    char buf[64];
    cr_expect_eq(seen.told, 1);
    cr_expect(!seen.failed);
    cr_expect_str_eq(pm_set_format(&seen.out, buf, sizeof(buf)), nodes);
}

// By name n10 comes before n8: what is looked up is the name, what is told is the number.
Test(coordinator_nodes, those_that_are_out_are_told)
{
    struct coordinator c = {0};
    ask(&c, 8, 12);
    cr_assert_str_eq(seen.names, "n[8-9,10-12]");
    seen.question.answered("n8 idle\nn9 draining\nn10 down*\nn11 mixed\nn10 down*\nn12 failing\nn7 drained\n", seen.question.arg);
    expect_out("9-10,12");
    pm_nodes_done(&c);
    pm_set_done(&seen.out);
}

Test(coordinator_nodes, lines_that_say_nothing_are_passed_over)
{
    struct coordinator c = {0};
    ask(&c, 1, 3);
    seen.question.answered("n1\n drained\nn22 drained\nn drained\nn2  drained\n\nn3 drained", seen.question.arg);
    expect_out("3");
    pm_nodes_done(&c);
    pm_set_done(&seen.out);
}

Test(coordinator_nodes, without_an_answer_that_is_told)
{
    struct coordinator c = {0};
    ask(&c, 1, 3);
    seen.question.answered(NULL, seen.question.arg);
    cr_assert(seen.told == 1 && seen.failed);
    seen.refuse = -ENOENT;
    ask(&c, 1, 3);
    cr_assert(seen.told == 2 && seen.failed);
    pm_nodes_ask(&c, PM_NODES_DRAINED, &(struct pm_action){.data = (uint8_t[]){0x7f}, .len = 1}); // no set
    cr_assert(seen.told == 3 && seen.failed);
    pm_nodes_done(&c);
}

// The step's list is walked for each name: once for each that is asked for, however many lines there are.
Test(coordinator_nodes, an_answer_of_many_lines_is_not_looked_up_in_the_list)
{
    enum { NODES = 1024, PARTITIONS = 8 };
    struct coordinator c = {0};
    size_t cap = (size_t)NODES * PARTITIONS * 16 + 1, len = 0;
    char *text = malloc(cap), wanted[64];
    ask(&c, 5000, 5000 + NODES - 1);
    for (uint32_t i = 0; i < NODES * PARTITIONS; i++)
        len += (size_t)snprintf(text + len, cap - len, "n%u drained\n", 5000 + i % NODES);
    seen.question.answered(text, seen.question.arg);
    (void)snprintf(wanted, sizeof(wanted), "%d-%d", 5000, 5000 + NODES - 1);
    expect_out(wanted);
    cr_expect_eq(seen.lookups, NODES);
    free(text);
    pm_nodes_done(&c);
    pm_set_done(&seen.out);
}

// Times are of whole seconds, so one that booted in the second of the launch has booted since.
Test(coordinator_nodes, those_that_have_just_booted_are_told)
{
    long long now = (long long)time(NULL);
    struct coordinator c = {.launched_s = now - 1000};
    const struct { long long boot, start; } nodes[] = {
        {now - 5000, now - 4000}, {now - 100, now - 5}, {now - 1000, now - 50}, {now - 1001, now - 5}, {now - 900, now - 70},
    };
    char text[1024] = "";
    ask_about(&c, PM_NODES_BOOTED, 1, 7);
    cr_expect_str_eq(seen.question.variable, "SLURM_TIME_FORMAT=%s");
    for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
                       "NodeName=n%zu Arch=x86_64 OS=Linux 6.1 #1  BootTime=%lld SlurmdStartTime=%lld LastBusyTime=1\n",
                       i + 1, nodes[i].boot, nodes[i].start);
    strcat(text, "NodeName=n6 BootTime=None SlurmdStartTime=None\n   BootTime=1\nNodeName=n7");
    seen.question.answered(text, seen.question.arg);
    expect_out("2-3");
    pm_nodes_done(&c);
    pm_set_done(&seen.out);
}

// The core says how long ago that may be.
Test(coordinator_nodes, just_now_is_as_long_as_the_question_says)
{
    long long now = (long long)time(NULL);
    struct coordinator c = {.launched_s = now - 1000};
    char text[128];
    (void)snprintf(text, sizeof(text), "NodeName=n1 BootTime=%lld SlurmdStartTime=%lld LastBusyTime=1\n", now - 110,
                   now - 100);
    for (unsigned wide = 0; wide < 2; wide++) {
        just_now_ms = wide ? 130000 : 60000;
        seen.told = 0;
        ask_about(&c, PM_NODES_BOOTED, 1, 1);
        seen.question.answered(text, seen.question.arg);
        expect_out(wide ? "1" : "");
    }
    pm_nodes_done(&c);
    pm_set_done(&seen.out);
}
