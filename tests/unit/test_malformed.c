// SPDX-License-Identifier: Apache-2.0
//
// Frames that an attached peer must not send, and late ones that mean nothing any more. The first close
// their link, and the core goes on as if that link had ended by itself; the second lead to nothing.
// Nothing of a refused frame is applied.
//
// A world of 5 nodes with 2 ranks each and fan-out 2, in its second epoch: 0 and 1 hang below the
// coordinator, 2 and 3 below 0, 4 below 1.
#include <criterion/criterion.h>
#include <string.h>

#include "pmix_server/core/placement.h"
#include "pmix_server/core/record.h"
#include "tests/unit/core_harness_impl.h"

enum { NODES = 5, RANKS = 10, MAX_BYTES = 8192 };

#define COORDINATOR PM_NODE_COORDINATOR

static struct harness *h;
static struct pm_options options;

static void setup(void)
{
    harness_default_options(&options);
    options.fanout = 2;
    options.min_uptime_ms = 0;
    const struct harness_config config = {
        .nnodes = NODES, .ranks_per_node = 2, .options = &options};
    h = harness_new(&config);
    harness_launch(h, 0);
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 10000));
    harness_rank_ends(h, 2, 0, 9);
    cr_assert(harness_run_until_state(h, PM_STATE_HALTING, 10000));
    cr_assert(harness_run_until_state(h, PM_STATE_RUNNING, 60000));
    harness_run_ms(h, 5);
}

static void teardown(void)
{
    harness_free(h);
}

TestSuite(malformed, .init = setup, .fini = teardown, .timeout = 20);

// --- one frame to one core --------------------------------------------------------------------------

struct outcome {
    struct pm_actions actions;
    uint64_t digest;
    int rc;
};

static uint32_t link_between(uint32_t to, uint32_t from)
{
    const struct slot *s = &h->slots[harness_slot(h, to)];
    uint32_t a = harness_slot(h, to), b = harness_slot(h, from);
    for (uint32_t i = 0; i < s->n_wires; i++) {
        const struct wire *w = s->wires[i];
        int end = w->node[0] == a ? 0 : 1;
        if (w->node[end] == a && w->node[1 - end] == b)
            return w->id[end];
    }
    cr_assert_fail("no link");
    return 0;
}

// On a clone, so that each starts from the same world; then what has become due by it.
static struct outcome try(uint32_t to, const struct pm_event *event)
{
    struct outcome ret = {0};
    struct pm_core *core = pm_core_clone(harness_core(h, to));
    cr_assert_not_null(core);
    const struct pm_event timer = {.type = PM_EVENT_TIMER, .now_ns = event->now_ns};
    ret.rc = pm_core_step(core, event, &ret.actions);
    cr_assert_eq(pm_core_step(core, &timer, &ret.actions), 0);
    ret.digest = pm_core_digest(core, event->now_ns);
    pm_core_free(core);
    return ret;
}

static struct outcome try_frame(uint32_t to, uint32_t from, const void *data, size_t len)
{
    const struct pm_event event = {.type = PM_EVENT_FRAME,
                                   .now_ns = harness_now_ns(h),
                                   .link = link_between(to, from),
                                   .data = data,
                                   .len = len};
    return try(to, &event);
}

static void refused(uint32_t to, uint32_t from, const void *data, size_t len, const char *what)
{
    struct outcome o = try_frame(to, from, data, len);
    const struct pm_event down = {.type = PM_EVENT_LINK_DOWN,
                                  .now_ns = harness_now_ns(h),
                                  .link = link_between(to, from),
                                  .node = from,
                                  .link_end = PM_LINK_CLOSED};
    struct outcome ended = try(to, &down);
    cr_expect_eq(o.rc, 0);
    cr_expect(o.actions.n == ended.actions.n + 1 && o.actions.list[0].type == PM_ACTION_CLOSE &&
                  o.actions.list[0].link == down.link,
              "%s: %zu actions", what, o.actions.n);
    cr_expect_eq(o.digest, ended.digest, "%s: something of it was applied", what);
    pm_actions_done(&o.actions);
    pm_actions_done(&ended.actions);
}

static void ignored(uint32_t to, uint32_t from, const void *data, size_t len, const char *what)
{
    struct outcome o = try_frame(to, from, data, len);
    cr_expect(o.rc == 0 && o.actions.n == 0, "%s: %zu actions", what, o.actions.n);
    pm_actions_done(&o.actions);
}

// --- as bytes ------------------------------------------------------------------------------------------

static size_t bytes_of(const char *hex, uint8_t *bytes)
{
    size_t n = 0;
    for (; *hex; hex++) {
        unsigned digit = *hex <= '9' ? (unsigned)(*hex - '0') : (unsigned)(*hex - 'a' + 10);
        if (*hex == ' ')
            continue;
        bytes[n / 2] = (uint8_t)(bytes[n / 2] << 4 | digit);
        n++;
    }
    return n / 2;
}

static const struct row {
    uint32_t to, from;
    const char *hex;
    const char *what;
} bad[] = {
    {0, COORDINATOR, "", "an empty frame"},
    {0, COORDINATOR, "40", "a type that nobody owns"},
    {0, COORDINATOR, "0f", "a type below all"},
    {0, COORDINATOR, "1f", "an unknown type of membership"},
    {0, COORDINATOR, "24", "an unknown record"},
    {0, COORDINATOR, "36", "an unknown type of collectives"},
    {0, COORDINATOR, "14 00000001 00000000", "a PING from the parent"},
    {0, COORDINATOR, "15 00000000 0000000000000001", "a GRANT for no ping"},
    {0, COORDINATOR, "15 7fffffff 0000000000000001", "a GRANT for a ping to come"},
    {0, COORDINATOR, "15 01", "half a GRANT"},
    {0, COORDINATOR, "11 00000001", "half an ATTACHED"},
    {0, COORDINATOR, "13 00000005 61", "half a REFUSED"},
    {0, COORDINATOR, "17 00", "half a DOWN"},
    {0, COORDINATOR, "18 00000000 0000", "half a CONFIRM"},
    {0, COORDINATOR, "18", "a CONFIRM to nobody"},
    {0, COORDINATOR, "19 00000000 fffffffe 0000000000000001 00000000", "a PROBE of nobody"},
    {0, COORDINATOR, "19 00000000 00000003 0000000000000001", "half a PROBE"},
    {0, COORDINATOR, "20 00", "half a WANTED"},
    {0, COORDINATOR, "22 00000001 00", "half a SAY"},
    {0, COORDINATOR, "23 00000002 00000006 0000000a", "a MAP of more nodes"},
    {0, COORDINATOR, "23 00000002 00000005 0000000b", "a MAP of more ranks"},
    {0, COORDINATOR, "23 00000002 00000005 0000000a ff", "a MAP that is none"},
    {0, COORDINATOR, "23 00000002 00000005 0000000a 01 00 02 00 01", "a MAP without most ranks"},
    {0, COORDINATOR, "31 00000001 0000000000000000 0000000000000000 00 00000009 ffffffff 00 00000000",
     "a FENCE_DOWN with a result that is none"},
    {0, COORDINATOR, "31 00000001 0000000000000000 0000000000000000 00 ffffffff ffffffff 00 00000000",
     "a FENCE_DOWN with a negative result"},
    {0, COORDINATOR, "34 00000001 0000000000000000 0000000000000000 00 00000000 ffffffff 00 00000001 61",
     "a FENCE_BEGIN that does not say of how much"},
    {0, COORDINATOR,
     "34 00000001 0000000000000000 0000000000000000 00 00000000 ffffffff 00 00000001 61 00000001",
     "a FENCE_BEGIN with all"},
    {0, COORDINATOR,
     "34 00000001 0000000000000000 0000000000000000 00 00000000 ffffffff 00 00000001 61 0c000001",
     "a FENCE_BEGIN of too much"},
    {0, COORDINATOR, "35 00000001 0000000000000000 0000000000000000 00 00000001 00000000",
     "an empty FENCE_PIECE"},
    {0, COORDINATOR, "35 00000001 0000000000000000 0000000000000000 00 00000001 00000002 61",
     "half a FENCE_PIECE"},
    {0, COORDINATOR, "32 00000001 fffffffe 00000001 00000000 0000000000000000",
     "a MODEX_ASK of nobody"},
    {0, COORDINATOR, "32 00000001 00000000 fffffffe 00000000 0000000000000000",
     "a MODEX_ASK by nobody"},
    {0, COORDINATOR, "32 00000001 00000000 00000001 00000000 0000000000000000 00",
     "a MODEX_ASK and more"},
    {0, COORDINATOR, "33 00000001 00000000 00000000 ffffffff 00000000",
     "a MODEX_ANSWER with a negative result"},
    {0, COORDINATOR, "33 00000001 00000000 00000000 00000006 00000000",
     "a MODEX_ANSWER with a result that is none"},
    {0, COORDINATOR, "33 00000001 fffffffe 00000000 00000000 00000000", "a MODEX_ANSWER to nobody"},
    {0, 2, "15 00000001 0000000000000001", "a GRANT from a child"},
    {0, 2, "14 00000000 00000000", "a PING that does not grow"},
    {0, 2, "14 7fffffff 7fffffff 00", "a PING and more"},
    {0, 2, "14 7ffffffe 7fffffff", "a PING that has seen what is to come"},
    {0, 2, "10 00000000 fffffffe 00000000 00 00", "an ATTACH without a number"},
    {0, 2, "10 00000009 fffffffe 00000000 00 00 00", "an ATTACH and more"},
    {0, 2, "10 00000009 fffffffe 00000000 00 01 00000002 00000003 00000001 01",
     "an ATTACH with a parent below its child"},
    {0, 2, "10 00000009 fffffffe 00000000 00 01 fffffffe 00000000 00000001 01",
     "an ATTACH with an edge of nobody"},
    {0, 2, "10 00000009 fffffffe 00000000 00 01 00000002 00000000 00000000 01",
     "an ATTACH with an edge that was never made"},
    {0, 2, "10 00000009 fffffffe 00000000 01 04 ffffffff03 00", "an ATTACH of all nodes that could be"},
    {0, 2, "16 01 04 ffffffff03 00 00 00", "an UP of all nodes that could be"},
    {0, 2, "16 01 05 00 00 00 00", "an UP of the first node that is not there"},
    {0, 2, "16 00 01 00000005 00000000 00000001 01 00 00", "an edge of a node that is not there"},
    {0, 2, "16 00 00 01 00000005 00000000 00", "an address of a node that is not there"},
    {COORDINATOR, 0, "16 01 04 ffffffff03 00 00 00", "an UP of all nodes to the coordinator"},
    {0, 2, "16 00 00 01 00000002", "half an address"},
    {0, 2, "16 00 00 00 01 00000002 00000001 00000000 00000001 03 0000000000000000 0000000000000000",
     "a report of a kind that only the coordinator makes"},
    {0, 2, "16 00 00 00 01 00000002 00000001 00000000 00000001 01 0000000000000000", "half a report"},
    {0, 2, "16 00 00 00 01 00000002 00000001 00000005 00000001 01 0000000000000000 0000000000000000",
     "a report by a node that is not there"},
    {0, 2, "1a 0000000000000001 00000002 00000003", "half a PROBED"},
    {0, 2, "21 f0", "a REPORT with unknown parts"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 00 08 0000000000000000 00",
     "a FENCE_UP with unknown flags"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 00 00 0000000000000000 01 05 00",
     "a FENCE_UP for a node that is not there"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 02", "a FENCE_UP with half a key"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 01 01 00 00 00 0000000000000000 00",
     "a FENCE_UP whose ranks are not those of its hash"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 01 00 00 0000000000000000 00",
     "a FENCE_UP over no ranks"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 00 01 0000000000000000 01 02 00",
     "a FENCE_UP without the part of its node"},
    {0, 2, "30 00000001 0000000000000000 0000000000000000 00 01 0000000000000000 01 02 00 000000ff 61",
     "a FENCE_UP with half a part"},
    {COORDINATOR, 0, "10 00000001 fffffffe 00000000 00 00", "an ATTACH with an old number"},
    {COORDINATOR, 0, "20", "a WANTED from an agent"},
    {COORDINATOR, 0, "22 00000001 00", "half a SAY at the coordinator"},
    {COORDINATOR, 0, "31 00000001 0000000000000000 0000000000000000 00 00000000 ffffffff 00 00000000",
     "a FENCE_DOWN from an agent"},
    {COORDINATOR, 0, "35 00000001 0000000000000000 0000000000000000 00 00000001 00000001 61",
     "a FENCE_PIECE from an agent"},
    {COORDINATOR, 0, "1a 0000000000000001", "half a PROBED at the coordinator"},
};

Test(malformed, frames_that_are_not_of_the_protocol_close_their_link)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t bytes[256] = {0};
        refused(bad[i].to, bad[i].from, bytes, bytes_of(bad[i].hex, bytes), bad[i].what);
    }
}

static const struct row late[] = {
    {0, COORDINATOR, "11 00000000 0000000000000000 00", "an ATTACHED that answers an older ATTACH"},
    {0, COORDINATOR, "11 00000001 0000000000000000 00", "an ATTACHED that says nothing new"},
    {0, COORDINATOR, "17 0000000000000000 00", "a DOWN with an old view"},
    {0, COORDINATOR, "15 00000001 0000000000000000", "a GRANT of nothing"},
    {0, COORDINATOR, "18 00000000 00000009 00000001", "a CONFIRM for a child that is not there"},
    {0, COORDINATOR, "18 00000000 00000002 00000009", "a CONFIRM of another attachment"},
    {0, COORDINATOR, "18 00000004 00000009 00000001", "a CONFIRM for a node that is not below"},
    {0, COORDINATOR, "19 00000000 00000000 0000000000000001 00000000", "a PROBE of itself"},
    {0, COORDINATOR, "23 00000001 00000005 0000000a", "the MAP that it has"},
    {0, COORDINATOR, "31 00000000 0000000000000000 0000000000000000 00 00000000 ffffffff 00 00000000",
     "the result of a fence of the epoch before"},
    {0, COORDINATOR, "31 00000001 0000000000000009 0000000000000000 00 00000000 ffffffff 00 00000000",
     "the result of a fence that nobody here asked for"},
    {0, COORDINATOR, "32 00000000 00000000 00000001 00000000 0000000000000000",
     "a question of the epoch before"},
    {0, COORDINATOR, "33 00000000 00000000 00000000 00000000 00000000", "its answer"},
    {0, COORDINATOR, "33 00000001 00000000 00000000 00000000 00000000", "an answer nobody waits for"},
    {0, COORDINATOR, "33 00000001 00000004 00000000 00000000 00000000",
     "an answer for a node that is not below"},
    {0, 2, "30 00000000 0000000000000000 0000000000000000 00 00 0000000000000000 00",
     "a part of a fence of the epoch before"},
    {0, 2, "16 00 00 00 00", "an UP without news"},
    {COORDINATOR, 0, "1a 0000000000000001 00000002 00000003 02", "a PROBED that nobody waits for"},
    {COORDINATOR, 0, "16 00 00 00 01 00000002 00000009 00000000 00000001 01 0000000000000000 0000000000000000",
     "a report about an older attachment"},
    {COORDINATOR, 0, "16 00 00 00 01 00000063 00000001 00000000 00000001 01 0000000000000000 0000000000000000",
     "a report about a node that never attached"},
};

Test(malformed, frames_that_come_too_late_mean_nothing)
{
    for (size_t i = 0; i < sizeof(late) / sizeof(late[0]); i++) {
        uint8_t bytes[256] = {0};
        ignored(late[i].to, late[i].from, bytes, bytes_of(late[i].hex, bytes), late[i].what);
    }
}

// --- records ---------------------------------------------------------------------------------------------

static struct pm_report report;

static struct pm_report *fresh_report(void)
{
    pm_report_done(&report);
    report.epoch = 1;
    return &report;
}

static void report_is_refused(uint32_t to, uint32_t from, const char *what)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_REPORT);
    pm_write_report(&w, &report);
    cr_assert_eq(w.error, 0);
    refused(to, from, w.data, w.len, what);
    pm_writer_done(&w);
}

static void each_report_is_refused(uint32_t to, uint32_t from)
{
    struct pm_failure failure = {.node = 2, .rank = 4, .epoch = 1, .cause = PM_CAUSE_EXIT};
    cr_assert_eq(pm_set_add(&fresh_report()->joined, NODES), 0);
    report_is_refused(to, from, "a node that is not in the step has joined");
    cr_assert_eq(pm_set_add(&fresh_report()->marks[PM_MARK_HALTED], NODES), 0);
    report_is_refused(to, from, "a node that is not in the step has halted");
    cr_assert_eq(pm_set_add(&fresh_report()->left, RANKS), 0);
    report_is_refused(to, from, "a rank that is not in the step has left");
    fresh_report()->user_signal = 65;
    report_is_refused(to, from, "a signal above all");
    fresh_report()->user_signal = -1;
    report_is_refused(to, from, "a signal below all");
    fresh_report()->cannot_node = NODES;
    report_is_refused(to, from, "a node that is not in the step cannot start");
    cr_assert_eq(pm_map_add(&fresh_report()->map, 0, 1, NODES), 0);
    report_is_refused(to, from, "a rank on a node that is not in the step");
    failure.node = NODES;
    cr_assert_eq(pm_failures_add(&fresh_report()->failures, &failure), 0);
    report_is_refused(to, from, "a failure on a node that is not in the step");
    failure = (struct pm_failure){.node = 2, .rank = RANKS, .epoch = 1, .cause = PM_CAUSE_EXIT};
    cr_assert_eq(pm_failures_add(&fresh_report()->failures, &failure), 0);
    report_is_refused(to, from, "a failure of a rank that is not in the step");
    failure = (struct pm_failure){.node = 2, .rank = 4, .epoch = 1, .cause = PM_CAUSE_MAX};
    cr_assert_eq(pm_failures_add(&fresh_report()->failures, &failure), 0);
    report_is_refused(to, from, "a failure without a cause");
    pm_report_done(&report);
}

Test(malformed, records_of_nodes_and_ranks_that_are_not_there_close_their_link)
{
    pm_report_init(&report);
    each_report_is_refused(0, 2);
    each_report_is_refused(COORDINATOR, 0);
}

static struct pm_wanted wanted;

static struct pm_wanted *fresh_wanted(void)
{
    pm_wanted_done(&wanted);
    wanted = (struct pm_wanted){.version = 1000, .launch = 1, .epoch = 1, .phase = PM_PHASE_HALT};
    return &wanted;
}

static size_t wanted_bytes(uint8_t *bytes)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_WANTED);
    pm_write_wanted(&w, &wanted);
    cr_assert(w.error == 0 && w.len <= MAX_BYTES);
    memcpy(bytes, w.data, w.len);
    size_t len = w.len;
    pm_writer_done(&w);
    return len;
}

static void wanted_is_refused(const char *what)
{
    static uint8_t bytes[MAX_BYTES];
    refused(0, COORDINATOR, bytes, wanted_bytes(bytes), what);
}

Test(malformed, a_wanted_state_of_another_launch_or_step_closes_its_link)
{
    const struct pm_failure failure = {.node = 2, .rank = RANKS, .cause = PM_CAUSE_EXIT};
    fresh_wanted()->launch = 2;
    wanted_is_refused("another launch");
    fresh_wanted()->phase = PM_PHASE_MAX;
    wanted_is_refused("a phase that is none");
    fresh_wanted()->restart_cause = PM_CAUSE_MAX;
    wanted_is_refused("a cause that is none");
    cr_assert_eq(pm_set_add(&fresh_wanted()->dead, RANKS), 0);
    wanted_is_refused("a dead rank that is not in the step");
    cr_assert_eq(pm_set_add(&fresh_wanted()->lost, NODES), 0);
    wanted_is_refused("a lost node that is not in the step");
    cr_assert_eq(pm_wanted_again(fresh_wanted(), RANKS), 0);
    wanted_is_refused("a restarted rank that is not in the step");
    cr_assert_eq(pm_wanted_notice(fresh_wanted(), &failure), 0);
    wanted_is_refused("news of a rank that is not in the step");
    pm_wanted_done(&wanted);
}

// The bytes before `n_again`, in which everything is empty, are the same for all of these.
static void tail_is_refused(const char *hex, const char *what)
{
    static uint8_t bytes[MAX_BYTES];
    (void)fresh_wanted();
    size_t len = wanted_bytes(bytes) - 2;
    uint8_t tail[512] = {0};
    size_t n = bytes_of(hex, tail);
    memcpy(bytes + len, tail, n);
    refused(0, COORDINATOR, bytes, len + n, what);
}

Test(malformed, lists_of_a_wanted_state_that_break_their_order_close_its_link)
{
    tail_is_refused("02 03 01 00 01 00", "a rank twice");
    tail_is_refused("02 03 01 07 01 00", "a rank behind the last");
    tail_is_refused("02 03 01 ff01 01 00", "a gap behind the last");
    tail_is_refused("01 03 ffffffff7f 00", "restarts beyond all numbers");
    tail_is_refused("00 41", "more news than there may be");
    tail_is_refused("00 02 02 00000001 00000000 01 00000100 00000000"
                    "02 00000002 00000000 01 00000100 00000000", "news that do not grow");
    tail_is_refused("00 00 00", "more than the record");
}

Test(malformed, an_older_wanted_state_changes_nothing)
{
    static uint8_t bytes[MAX_BYTES];
    fresh_wanted()->version = 1;
    ignored(0, COORDINATOR, bytes, wanted_bytes(bytes), "an older version");
    fresh_wanted()->epoch = 0;
    ignored(0, COORDINATOR, bytes, wanted_bytes(bytes), "an older epoch");
    pm_wanted_done(&wanted);
}

// A frame of a process that is not attached any more.
Test(malformed, frames_of_a_link_that_is_gone_are_dropped)
{
    const uint8_t types[] = {0x14, 0x20, 0x30, 0x40};
    for (size_t i = 0; i < sizeof(types); i++) {
        const struct pm_event event = {.type = PM_EVENT_FRAME,
                                       .now_ns = harness_now_ns(h),
                                       .link = 0xfffffff0,
                                       .data = &types[i],
                                       .len = 1};
        struct outcome o = try(0, &event);
        cr_expect(o.rc == 0 && o.actions.n == 0, "type %#x", types[i]);
        pm_actions_done(&o.actions);
    }
}

// --- links ---------------------------------------------------------------------------------------------

static struct outcome try_link(uint32_t to, enum pm_event_type type, struct pm_event event)
{
    event.type = type;
    event.now_ns = harness_now_ns(h);
    return try(to, &event);
}

static void link_says(uint32_t to, struct pm_event event, const char *text, const char *what)
{
    struct outcome o = try_link(to, PM_EVENT_LINK_DOWN, event);
    cr_expect_eq(o.actions.n, text ? 1u : 0u, "%s: %zu actions", what, o.actions.n);
    if (text && o.actions.n == 1)
        cr_expect_str_eq(o.actions.list[0].text, text);
    pm_actions_done(&o.actions);
}

Test(malformed, only_the_coordinator_names_strangers_of_another_build)
{
    struct pm_event event = {
        .link = 0xfffffff0, .node = PM_NODE_NONE, .link_end = PM_LINK_REJECTED, .text = "old"};
    link_says(COORDINATOR, event, "old", "a stranger of another build");
    link_says(0, event, NULL, "the same at an agent");
    event.text = NULL;
    link_says(COORDINATOR, event, NULL, "one that says nothing");
    event.text = "noise";
    event.link_end = PM_LINK_CLOSED;
    link_says(COORDINATOR, event, NULL, "one that just goes");
}

static void is_closed(struct outcome o, uint32_t link, const char *what)
{
    cr_expect(o.actions.n == 1 && o.actions.list[0].type == PM_ACTION_CLOSE &&
                  o.actions.list[0].link == link,
              "%s: %zu actions", what, o.actions.n);
    pm_actions_done(&o.actions);
}

Test(malformed, links_that_nobody_dialled_or_that_lead_elsewhere_are_closed)
{
    struct outcome o = try_link(0, PM_EVENT_LINK_UP, (struct pm_event){.link = 9999, .node = 3});
    cr_expect_eq(o.actions.n, 0, "a dial that was given up already");
    pm_actions_done(&o.actions);
    harness_cut_one_way(h, 1, PM_NODE_COORDINATOR, true);
    harness_cut_one_way(h, PM_NODE_COORDINATOR, 1, true);
    harness_run_ms(h, 2600);
    // Node 1 dials; somebody else has its port.
    const struct slot *s = &h->slots[1];
    for (uint32_t i = 0; i < s->n_wires; i++)
        if (s->wires[i]->node[0] == 1 && !s->wires[i]->up[0]) {
            uint32_t link = s->wires[i]->id[0];
            o = try_link(1, PM_EVENT_LINK_UP, (struct pm_event){.link = link, .node = 77});
            cr_expect(o.actions.n > 0 && o.actions.list[0].type == PM_ACTION_CLOSE);
            pm_actions_done(&o.actions);
        }
}

Test(malformed, strangers_beyond_the_limit_are_closed_and_come_again)
{
    struct pm_core *core = pm_core_clone(harness_core(h, COORDINATOR));
    struct outcome o = {0};
    uint32_t link = 1000;
    for (; o.actions.n == 0 && link < 2000; link += 2) {
        const struct pm_event event = {.type = PM_EVENT_LINK_UP,
                                       .now_ns = harness_now_ns(h),
                                       .link = link,
                                       .node = 4};
        cr_assert_eq(pm_core_step(core, &event, &o.actions), 0);
    }
    cr_assert_lt(link, 1200, "there is no limit");
    is_closed(o, link - 2, "one too many");
    const struct pm_event own = {
        .type = PM_EVENT_LINK_UP, .now_ns = harness_now_ns(h), .link = link, .node = 1};
    o = (struct outcome){0};
    cr_assert_eq(pm_core_step(core, &own, &o.actions), 0);
    cr_expect_eq(o.actions.n, 0, "its own children have their places");
    pm_actions_done(&o.actions);
    pm_core_free(core);
}

Test(malformed, an_agent_has_no_state_but_an_epoch_and_every_value_a_name)
{
    cr_expect_eq(pm_core_state(harness_core(h, 0)), PM_STATE_NONE);
    cr_expect_eq(pm_core_epoch(harness_core(h, 0)), 1);
    cr_expect_str_eq(pm_cause_name(PM_CAUSE_MAX), "unknown");
    cr_expect_str_eq(pm_state_name(PM_STATE_MAX), "unknown");
    cr_expect_str_eq(pm_phase_name(PM_PHASE_MAX), "?");
    for (int i = 0; i < PM_CAUSE_MAX; i++)
        cr_expect_str_neq(pm_cause_name((enum pm_cause)i), "unknown");
    for (int i = 0; i < PM_STATE_MAX; i++)
        cr_expect_str_neq(pm_state_name((enum pm_state)i), "unknown");
    for (int i = 0; i < PM_PHASE_MAX; i++)
        cr_expect_str_neq(pm_phase_name((enum pm_phase)i), "?");
}
