// SPDX-License-Identifier: Apache-2.0
//
// See life_stand.h.
#include "tests/unit/life_stand.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stand stand;
static uint32_t per_node_now;

// --- stand-ins for the other modules -----------------------------------------------------------

const char *pm_cause_name(enum pm_cause cause)
{
    static const char *const names[PM_CAUSE_MAX] = {
        "none", "exit", "signal",      "oom",       "abort",      "no-finalize",
        "exec", "pmix-server", "shim-lost", "agent-lost", "node-lost", "unhealthy"};
    return names[cause];
}

const char *pm_state_name(enum pm_state state)
{
    static const char *const names[PM_STATE_MAX] = {"NONE",      "FORMING",  "STARTING",
                                                    "RUNNING",   "HALTING",  "PLACING",
                                                    "FINISHING", "STOPPING", "DONE"};
    return names[state];
}

static void capture_wanted(const struct pm_writer *frame)
{
    struct pm_reader r = pm_reader_of(frame->data + 1, frame->len - 1);
    pm_wanted_done(&stand.wanted);
    pm_read_wanted(&r, &stand.wanted, stand.core.supervisor->nnodes, stand.core.supervisor->nranks);
    assert(pm_reader_end(&r) == 0);
    assert(frame->len <= sizeof(stand.wanted_bytes));
    memcpy(stand.wanted_bytes, frame->data, frame->len);
    stand.wanted_len = frame->len;
    stand.n_wanted++;
}

void pm_send_children(struct pm_core *core, const struct pm_writer *frame)
{
    if (!core->coordinator)
        return;
    if (frame->data[0] == PM_FRAME_WANTED)
        capture_wanted(frame);
    else
        stand.n_maps += frame->data[0] == PM_FRAME_MAP;
}

bool pm_send_child(struct pm_core *core, uint32_t child, const struct pm_writer *frame)
{
    (void)child;
    pm_send_children(core, frame);
    return true;
}

bool pm_send_parent(struct pm_core *core, const struct pm_writer *frame)
{
    if (stand.no_parent)
        return false;
    struct pm_reader r = pm_reader_of(frame->data + 1, frame->len - 1);
    if (frame->data[0] == PM_FRAME_REPORT) {
        pm_report_done(&stand.report);
        pm_read_report(&r, &stand.report, core->config.nnodes, core->config.ntasks);
        assert(pm_reader_end(&r) == 0);
        stand.n_reports++;
    } else if (frame->data[0] == PM_FRAME_SAY) {
        char text[PM_SAY_CAP];
        (void)pm_read_u32(&r);
        (void)pm_read_u8(&r);
        pm_read_str(&r, text, sizeof(text));
        size_t len = strlen(stand.said);
        (void)snprintf(stand.said + len, sizeof(stand.said) - len, "%s\n", text);
    }
    return true;
}

uint64_t pm_view(const struct pm_core *core)
{
    (void)core;
    return 1;
}
const struct pm_set *pm_dead_nodes(const struct pm_core *core)
{
    (void)core;
    return &stand.dead;
}
const struct pm_set *pm_suspect_nodes(const struct pm_core *core)
{
    (void)core;
    return &stand.suspect;
}
uint64_t pm_longest_silence_ms(const struct pm_core *core)
{
    (void)core;
    return 0;
}
uint64_t pm_longest_late_ms(const struct pm_core *core)
{
    (void)core;
    return 0;
}
uint64_t pm_silent_ms(const struct pm_core *core, uint32_t node)
{
    (void)core;
    return pm_set_has(&stand.silent, node) ? 10000 : 0;
}

bool pm_was_silent(const struct pm_core *core, uint32_t node) { return pm_silent_ms(core, node) > 0; }

bool pm_was_refused(const struct pm_core *core, uint32_t node)
{
    (void)core;
    return pm_set_has(&stand.refused, node);
}

const char *pm_death_proof(const struct pm_core *core, uint32_t node)
{
    (void)core;
    (void)node;
    return "";
}

bool pm_lease_over(const struct pm_core *core, uint32_t node)
{
    (void)core;
    (void)node;
    return !stand.lease_not_over;
}
uint64_t pm_lease_end_ns(const struct pm_core *core)
{
    (void)core;
    return UINT64_MAX;
}
void pm_membership_stop(struct pm_core *core)
{
    (void)core;
    stand.membership_stopped = true;
}
void pm_membership_declare(struct pm_core *core, uint32_t node, enum pm_cause cause)
{
    (void)pm_set_add(&stand.dead, node);
    pm_supervisor_on_node_dead(core, node, cause);
}
void pm_collective_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    (void)core;
    (void)epoch;
    (void)pm_set_add(&stand.lost_ranks, rank);
}
void pm_collective_epoch_over(struct pm_core *core, uint32_t epoch)
{
    (void)core;
    (void)epoch;
    stand.epochs_over++;
}

// --- life --------------------------------------------------------------------------------------

void stand_options(struct pm_options *o)
{
    *o = (struct pm_options){.mode = PM_MODE_WORLD,
                             .max_restarts = 3,
                             .max_node_losses = PM_UNLIMITED,
                             .min_uptime_ms = 5000,
                             .grace_ms = 5000,
                             .node_timeout_ms = 10000,
                             .orphan_timeout_ms = 60000,
                             .start_timeout_ms = 120000,
                             .join_window_ms = 15000,
                             .fanout = 32};
    o->fatal.exits[93 / 64] |= 1ull << 93 % 64;
}

static void stand_new(const struct pm_options *o)
{
    stand = (struct stand){.exit_status = -1};
    pm_report_init(&stand.report);
    stand.core.now_ns = 1000000 * PM_MS;
    stand.core.out = &stand.out;
    stand.core.config.launch = 7;
    stand.core.config.addresses = "login1:40123";
    stand.core.config.options = &stand.options;
    if (o)
        stand.options = *o;
    else
        stand_options(&stand.options);
}

void stand_coordinator(uint32_t nnodes, uint32_t per_node, const struct pm_options *o)
{
    stand_new(o);
    per_node_now = per_node;
    stand.core.coordinator = true;
    stand.core.config.node = PM_NODE_COORDINATOR;
    int rc = pm_supervisor_new(&stand.core);
    assert(rc == 0);
    stand_event(&(struct pm_event){
        .type = PM_EVENT_LAUNCHED, .nnodes = nnodes, .ntasks = nnodes * per_node});
}

void stand_agent(uint32_t node, uint32_t nnodes, uint32_t per_node)
{
    stand_agent_with_spares(node, nnodes, per_node, 0);
}

void stand_agent_with_spares(uint32_t node, uint32_t nnodes, uint32_t per_node, uint32_t spares)
{
    static uint32_t ranks[64];
    stand_new(NULL);
    stand.options.spares = spares;
    per_node_now = per_node;
    for (uint32_t i = 0; i < per_node; i++)
        ranks[i] = node * per_node + i;
    stand.core.config.node = node;
    stand.core.config.nnodes = nnodes;
    stand.core.config.ntasks = nnodes * per_node;
    stand.core.config.n_local = per_node;
    stand.core.config.local_ranks = ranks;
    stand.core.config.nodelist = "node[0-99]";
    int rc = pm_node_new(&stand.core);
    assert(rc == 0);
    pm_node_on_parent(&stand.core);
}

void stand_forget(void)
{
    pm_actions_clear(&stand.out);
    stand.said[0] = '\0';
}

void stand_done(void)
{
    pm_node_free(stand.core.node);
    pm_supervisor_free(stand.core.supervisor);
    pm_world_release(&stand.core.world);
    pm_wanted_done(&stand.wanted);
    pm_report_done(&stand.report);
    pm_actions_done(&stand.out);
    pm_set_done(&stand.dead);
    pm_set_done(&stand.suspect);
    pm_set_done(&stand.drained);
    pm_set_done(&stand.booted);
    pm_set_done(&stand.silent);
    pm_set_done(&stand.refused);
    pm_set_done(&stand.lost_ranks);
}

// --- steps -------------------------------------------------------------------------------------

static void look_at(size_t from)
{
    for (size_t i = from; i < stand.out.n; i++) {
        const struct pm_action *a = &stand.out.list[i];
        size_t len = strlen(stand.said);
        if (a->type == PM_ACTION_SAY)
            (void)snprintf(stand.said + len, sizeof(stand.said) - len, "%s%s\n",
                           a->verbose ? "~" : "", a->text);
        if (a->type == PM_ACTION_EXIT)
            stand.exit_status = a->status;
    }
    assert(stand.out.error == 0);
}

// Slurm answers at once, also what was asked in a call that did not go through here.
static void answer_questions(void)
{
    for (size_t i = 0; i < stand.out.n && !stand.slurm_is_slow; i++) {
        bool nodes = stand.out.list[i].type == PM_ACTION_ASK_NODES;
        if ((!nodes && stand.out.list[i].type != PM_ACTION_ASK_BOOTED) || stand.out.list[i].last)
            continue;
        stand.out.list[i].last = true;
        size_t from = stand.out.n;
        const struct pm_event e = {.type = nodes ? PM_EVENT_NODE_STATES : PM_EVENT_BOOTED, .now_ns = stand.core.now_ns,
                                   .flag_failed = stand.slurm_fails, .set = nodes ? &stand.drained : &stand.booted};
        pm_supervisor_event(&stand.core, &e);
        look_at(from);
    }
}

void stand_event(const struct pm_event *event)
{
    size_t from = stand.out.n;
    struct pm_event e = *event;
    e.now_ns = stand.core.now_ns;
    if (stand.core.coordinator)
        pm_supervisor_event(&stand.core, &e);
    else
        pm_node_event(&stand.core, &e);
    look_at(from);
    answer_questions();
}

static uint64_t deadline(void)
{
    return stand.core.coordinator ? pm_supervisor_deadline_ns(stand.core.supervisor)
                                  : pm_node_deadline_ns(stand.core.node);
}

void stand_run_ms(uint64_t ms)
{
    uint64_t until = stand.core.now_ns + ms * PM_MS;
    uint32_t at_once = 0;
    while (deadline() <= until) {
        uint64_t due = deadline();
        at_once = due <= stand.core.now_ns ? at_once + 1 : 0;
        assert(at_once < 10); // a timer that comes again and again
        if (due > stand.core.now_ns)
            stand.core.now_ns = due;
        stand_event(&(struct pm_event){.type = PM_EVENT_TIMER});
    }
    stand.core.now_ns = until;
}

bool stand_frame(uint8_t type, const void *data, size_t len)
{
    size_t from = stand.out.n;
    struct pm_reader r = pm_reader_of(data, len);
    if (stand.core.coordinator)
        pm_supervisor_frame(&stand.core, 1, 0, type, &r);
    else
        pm_node_frame(&stand.core, 1, 0, type, &r);
    look_at(from);
    answer_questions();
    return r.error == 0;
}

bool stand_report(const struct pm_report *report)
{
    struct pm_writer w = {0};
    pm_write_report(&w, report);
    bool good = stand_frame(PM_FRAME_REPORT, w.data, w.len);
    pm_writer_done(&w);
    return good;
}

bool stand_wanted(struct pm_wanted *wanted)
{
    struct pm_writer w = {0};
    wanted->launch = 7;
    wanted->version++;
    pm_write_wanted(&w, wanted);
    bool good = stand_frame(PM_FRAME_WANTED, w.data, w.len);
    pm_writer_done(&w);
    return good;
}

static void add_ranks(struct pm_map *map, uint32_t first, uint32_t last)
{
    for (uint32_t node = first; node <= last; node++)
        (void)pm_map_add(map, node * per_node_now, per_node_now, node);
}

void stand_map_of(const struct pm_map *map, uint32_t version, uint32_t nranks)
{
    struct pm_writer w = {0};
    pm_write_u32(&w, version);
    pm_write_u32(&w, stand.core.config.nnodes);
    pm_write_u32(&w, nranks);
    pm_write_map(&w, map);
    bool good = stand_frame(PM_FRAME_MAP, w.data, w.len);
    assert(good);
    pm_writer_done(&w);
}

void stand_map(void)
{
    struct pm_map map = {0};
    add_ranks(&map, 0, stand.core.config.nnodes - 1);
    stand_map_of(&map, 1, stand.core.config.ntasks);
    pm_map_done(&map);
}

void stand_join(uint32_t first, uint32_t last)
{
    struct pm_report report;
    pm_report_init(&report);
    (void)pm_set_add_span(&report.joined, first, last);
    add_ranks(&report.map, first, last);
    report.nodelist = strdup("node[0-99]");
    if (first == 0) {
        report.port = 5000;
        report.port_serial = 1;
    }
    bool good = stand_report(&report);
    assert(good);
    pm_report_done(&report);
}

void stand_mark(enum pm_mark mark, uint32_t epoch, uint32_t first, uint32_t last)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = epoch;
    (void)pm_set_add_span(&report.marks[mark], first, last);
    if (mark == PM_MARK_HALTED) {
        report.port = (uint16_t)(5001 + epoch);
        report.port_serial = epoch + 2;
    }
    bool good = stand_report(&report);
    assert(good);
    pm_report_done(&report);
}

struct pm_failure stand_failure(uint32_t rank, enum pm_cause cause, int32_t wait_status)
{
    return (struct pm_failure){.node = rank / per_node_now,
                               .rank = rank,
                               .epoch = stand.wanted.epoch,
                               .incarnation = pm_wanted_incarnation(&stand.wanted, rank),
                               .pid = 8123,
                               .cause = cause,
                               .wait_status = wait_status,
                               .uptime_ms = 724000,
                               .connected = true};
}

void stand_fail(const struct pm_failure *failure)
{
    struct pm_report report;
    pm_report_init(&report);
    report.epoch = failure->epoch;
    (void)pm_failures_add(&report.failures, failure);
    bool good = stand_report(&report);
    assert(good);
    pm_report_done(&report);
}

void stand_running(void)
{
    uint32_t last = stand.core.supervisor->nnodes - 1;
    stand_join(0, last);
    stand_mark(PM_MARK_STARTED, 0, 0, last);
    assert(stand_state() == PM_STATE_RUNNING);
}

enum pm_state stand_state(void)
{
    return pm_supervisor_state(stand.core.supervisor);
}

uint32_t stand_count(enum pm_action_type type, const struct pm_action **ret_last)
{
    uint32_t n = 0;
    for (size_t i = 0; i < stand.out.n; i++) {
        if (stand.out.list[i].type != type)
            continue;
        n++;
        if (ret_last)
            *ret_last = &stand.out.list[i];
    }
    return n;
}

bool stand_said(const char *text)
{
    return strstr(stand.said, text) != NULL;
}
