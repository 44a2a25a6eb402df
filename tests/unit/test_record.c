// SPDX-License-Identifier: Apache-2.0
//
// The two records: they survive the wire, their union has no order and no memory, and what breaks
// their limits is refused.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/record.h"
#include "pmix_server/core/sizes.h"

TestSuite(record, .timeout = 30);

#define NODES 64u
#define RANKS 256u

static void random_set(struct pm_set *set, uint32_t limit)
{
    for (int i = rand() % 6; i > 0; i--)
        cr_assert_eq(pm_set_add(set, (uint32_t)rand() % limit), 0);
}

static struct pm_failure random_failure(void)
{
    struct pm_failure f = {.node = (uint32_t)rand() % NODES,
                           .rank = rand() % 5 ? (uint32_t)rand() % RANKS : PM_RANK_NONE,
                           .epoch = (uint32_t)rand() % 3,
                           .incarnation = (uint32_t)rand() % 3,
                           .pid = (uint32_t)rand(),
                           .cause = (enum pm_cause)(1 + rand() % (PM_CAUSE_MAX - 1)),
                           .wait_status = rand() - RAND_MAX / 2,
                           .uptime_ms = (uint64_t)rand() << 20,
                           .connected = rand() % 2};
    pm_text_copy(f.text, sizeof(f.text), rand() % 2 ? "why" : "");
    return f;
}

static struct pm_report random_report(void)
{
    struct pm_report report;
    pm_report_init(&report);
    random_set(&report.joined, NODES);
    report.epoch = (uint32_t)rand() % 3;
    for (int i = 0; i < PM_MARK_MAX; i++)
        random_set(&report.marks[i], NODES);
    random_set(&report.left, RANKS);
    random_set(&report.again, RANKS);
    report.any_ended = rand() % 2;
    report.user_signal = 0;
    report.port_serial = (uint64_t)rand() % 4;
    report.port = report.port_serial ? (uint16_t)(4000 + report.port_serial) : 0;
    for (uint32_t i = 0; i < RANKS; i += 16)
        if (rand() % 2)
            cr_assert_eq(pm_map_add(&report.map, i, 16, i / 16), 0);
    report.check = (uint32_t)rand() % 3;
    if (report.check)
        random_set(&report.fit, NODES);
    bool changed = false;
    for (uint32_t i = 0; i < NODES; i++)
        if (rand() % 4 == 0)
            cr_assert_eq(pm_sizes_add(&report.sizes, &(struct pm_size){(uint32_t)rand() % 3, 64}, i, &changed), 0);
    if (rand() % 2)
        report.nodelist = strdup("node[0-63]");
    return report;
}

static struct pm_report through_the_wire(const struct pm_report *report)
{
    struct pm_writer w = {0};
    struct pm_report back;
    pm_write_report(&w, report);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_report(&r, &back, NODES, RANKS);
    cr_assert_eq(pm_reader_end(&r), 0);
    pm_writer_done(&w);
    return back;
}

static uint64_t digest_of(const struct pm_report *report)
{
    struct pm_digest d = {0};
    pm_report_digest(report, &d);
    return d.h;
}

// The digest has no statistics; what it leaves out is compared by bytes.
static void expect_equal(const struct pm_report *a, const struct pm_report *b)
{
    struct pm_writer x = {0}, y = {0};
    pm_write_report(&x, a);
    pm_write_report(&y, b);
    cr_assert_eq(x.len, y.len);
    cr_assert_arr_eq(x.data, y.data, x.len);
    cr_assert_eq(digest_of(a), digest_of(b));
    pm_writer_done(&x);
    pm_writer_done(&y);
}

Test(record, reports_survive_the_wire_and_a_copy)
{
    srand(1);
    for (int round = 0; round < 200; round++) {
        struct pm_report report = random_report();
        for (int i = rand() % 20; i > 0; i--) {
            struct pm_failure f = random_failure();
            cr_assert_eq(pm_failures_add(&report.failures, &f), 0);
        }
        if (rand() % 3 == 0) {
            report.cannot_node = 5;
            pm_text_copy(report.cannot_text, sizeof(report.cannot_text), "no agent");
        }
        struct pm_report back = through_the_wire(&report);
        expect_equal(&report, &back);
        struct pm_report copy;
        cr_assert_eq(pm_report_copy(&copy, &report), 0);
        expect_equal(&report, &copy);
        pm_report_done(&copy);
        pm_report_done(&back);
        pm_report_done(&report);
    }
}

// Lost, late and repeated frames: any order with any repetition gives the same union.
Test(record, union_has_no_order_and_is_idempotent)
{
    srand(2);
    for (int round = 0; round < 100; round++) {
        struct pm_report parts[6], a, b;
        pm_report_init(&a);
        pm_report_init(&b);
        bool changed;
        for (int i = 0; i < 6; i++) {
            parts[i] = random_report();
            cr_assert_eq(pm_report_union(&a, &parts[i], &changed), 0);
        }
        for (int i = 0; i < 30; i++)
            cr_assert_eq(pm_report_union(&b, &parts[rand() % 6], &changed), 0);
        for (int i = 5; i >= 0; i--)
            cr_assert_eq(pm_report_union(&b, &parts[i], &changed), 0);
        expect_equal(&a, &b);
        cr_assert_eq(pm_report_union(&b, &a, &changed), 0);
        cr_assert(!changed);
        for (int i = 0; i < 6; i++)
            pm_report_done(&parts[i]);
        pm_report_done(&a);
        pm_report_done(&b);
    }
}

Test(record, facts_of_an_older_epoch_change_nothing)
{
    struct pm_report now, old;
    bool changed;
    pm_report_init(&now);
    pm_report_init(&old);
    now.epoch = 2;
    old.epoch = 1;
    old.any_ended = true;
    cr_assert_eq(pm_set_add(&old.marks[PM_MARK_HALTED], 3), 0);
    cr_assert_eq(pm_report_union(&now, &old, &changed), 0);
    cr_assert(!changed);
    cr_assert(pm_set_empty(&now.marks[PM_MARK_HALTED]));
    cr_assert(!now.any_ended);
    cr_assert_eq(pm_report_union(&old, &now, &changed), 0);
    cr_assert(changed);
    cr_assert_eq(old.epoch, 2);
    cr_assert(pm_set_empty(&old.marks[PM_MARK_HALTED]));
    pm_report_done(&now);
    pm_report_done(&old);
}

Test(record, sixteen_failures_are_kept_and_the_rest_is_counted)
{
    struct pm_failures list = {0};
    for (uint32_t i = 0; i < PM_FAILURES_MAX + 5; i++) {
        struct pm_failure f = {.rank = i, .cause = PM_CAUSE_EXIT};
        cr_assert_eq(pm_failures_add(&list, &f), 0);
    }
    struct pm_failure again = {.rank = 3, .cause = PM_CAUSE_EXIT};
    cr_assert_eq(pm_failures_add(&list, &again), 0);
    cr_assert_eq(list.n, PM_FAILURES_MAX);
    cr_assert_eq(list.more, 5);
    pm_failures_clear(&list);
}

// --- wanted ------------------------------------------------------------------------------------

static struct pm_wanted random_wanted(void)
{
    struct pm_wanted w = {.version = (uint64_t)rand(),
                          .launch = 3,
                          .epoch = (uint32_t)rand() % 5,
                          .phase = (enum pm_phase)(rand() % PM_PHASE_MAX),
                          .view = (uint64_t)rand(),
                          .map_version = 1,
                          .grace_ms = 5000,
                          .port = 4711,
                          .host = 7,
                          .restart_cause = PM_CAUSE_OOM,
                          .restart_rank = 5,
                          .have_nodelist = rand() % 2,
                          .has_end_status = rand() % 2,
                          .end_status = rand()};
    random_set(&w.dead, RANKS);
    random_set(&w.left, RANKS);
    random_set(&w.lost, NODES);
    w.check = (uint32_t)rand() % 3;
    if (w.check)
        random_set(&w.probe, NODES);
    w.again_known = (uint32_t)rand();
    for (int i = rand() % 50; i > 0; i--)
        cr_assert_eq(pm_wanted_again(&w, (uint32_t)rand() % RANKS), 0);
    for (int i = rand() % 80; i > 0; i--) {
        struct pm_failure f = random_failure();
        f.rank = (uint32_t)rand() % RANKS;
        cr_assert_eq(pm_wanted_notice(&w, &f), 0);
    }
    return w;
}

Test(record, wanted_states_survive_the_wire_and_a_copy)
{
    srand(3);
    for (int round = 0; round < 200; round++) {
        struct pm_wanted wanted = random_wanted(), back, copy;
        struct pm_writer x = {0}, y = {0};
        pm_write_wanted(&x, &wanted);
        struct pm_reader r = pm_reader_of(x.data, x.len);
        pm_read_wanted(&r, &back, NODES, RANKS);
        cr_assert_eq(pm_reader_end(&r), 0);
        cr_assert_eq(pm_wanted_copy(&copy, &back), 0);
        pm_write_wanted(&y, &copy);
        cr_assert_eq(x.len, y.len);
        cr_assert_arr_eq(x.data, y.data, x.len);
        pm_wanted_done(&wanted);
        pm_wanted_done(&back);
        pm_wanted_done(&copy);
        pm_writer_done(&x);
        pm_writer_done(&y);
    }
}

Test(record, incarnations_count_epochs_and_lonely_restarts)
{
    struct pm_wanted w = {.epoch = 2};
    cr_assert_eq(pm_wanted_incarnation(&w, 9), 2);
    for (uint32_t rank = 20; rank > 0; rank--)
        cr_assert_eq(pm_wanted_again(&w, rank), 0);
    cr_assert_eq(pm_wanted_again(&w, 9), 0);
    cr_assert_eq(pm_wanted_incarnation(&w, 9), 4);
    cr_assert_eq(pm_wanted_incarnation(&w, 10), 3);
    cr_assert_eq(pm_wanted_incarnation(&w, 21), 2);
    pm_wanted_done(&w);
}

Test(record, the_newest_notices_are_kept)
{
    struct pm_wanted w = {0};
    for (uint32_t i = 1; i <= PM_NOTICES_MAX + 10; i++) {
        struct pm_failure f = {.rank = i};
        cr_assert_eq(pm_wanted_notice(&w, &f), 0);
    }
    cr_assert_eq(w.n_notices, PM_NOTICES_MAX);
    cr_assert_eq(w.notices[0].rank, 11);
    cr_assert_eq(w.notices[PM_NOTICES_MAX - 1].serial, PM_NOTICES_MAX + 10);
    pm_wanted_done(&w);
}

Test(record, a_failure_leaves_the_report_when_it_is_handled)
{
    struct pm_wanted w = {.epoch = 1, .phase = PM_PHASE_START};
    struct pm_failure f = {
        .node = 2, .rank = 5, .epoch = 1, .incarnation = 1, .cause = PM_CAUSE_EXIT};
    cr_assert(!pm_wanted_handles(&w, &f));
    cr_assert_eq(pm_wanted_again(&w, 5), 0);
    cr_assert(pm_wanted_handles(&w, &f)); // started again alone
    f.incarnation = 2;
    cr_assert(!pm_wanted_handles(&w, &f));
    cr_assert_eq(pm_set_add(&w.dead, 5), 0);
    cr_assert(pm_wanted_handles(&w, &f)); // stays dead
    f.rank = 6;
    w.phase = PM_PHASE_HALT;
    cr_assert(pm_wanted_handles(&w, &f)); // part of the decision to halt
    w.phase = PM_PHASE_START;
    f.epoch = 0;
    cr_assert(pm_wanted_handles(&w, &f)); // history
    f.epoch = 2;
    cr_assert(!pm_wanted_handles(&w, &f));
    f = (struct pm_failure){.node = 2, .rank = 5, .cause = PM_CAUSE_SHIM_LOST};
    w.phase = PM_PHASE_HALT;
    cr_assert(!pm_wanted_handles(&w, &f)); // a lost place is no matter of an epoch
    cr_assert_eq(pm_set_add(&w.lost, 2), 0);
    cr_assert(pm_wanted_handles(&w, &f));
    pm_wanted_done(&w);
}

// --- wire data that is wrong -------------------------------------------------------------------

Test(record, every_cut_and_every_flipped_byte_is_survived)
{
    srand(4);
    struct pm_wanted wanted = random_wanted();
    struct pm_report report = random_report();
    struct pm_failure f = random_failure();
    cr_assert_eq(pm_failures_add(&report.failures, &f), 0);
    struct pm_writer w[2] = {0};
    pm_write_report(&w[0], &report);
    pm_write_wanted(&w[1], &wanted);
    for (int which = 0; which < 2; which++) {
        for (size_t i = 0; i < w[which].len; i++) {
            uint8_t bytes[65536];
            struct pm_report r_back;
            struct pm_wanted w_back;
            memcpy(bytes, w[which].data, w[which].len);
            struct pm_reader cut = pm_reader_of(bytes, i);
            which ? pm_read_wanted(&cut, &w_back, NODES, RANKS)
                  : pm_read_report(&cut, &r_back, NODES, RANKS);
            cr_assert_neq(pm_reader_end(&cut), 0, "cut at %zu", i);
            which ? pm_wanted_done(&w_back) : pm_report_done(&r_back);
            bytes[i] ^= (uint8_t)(1 + rand() % 255);
            struct pm_reader flipped = pm_reader_of(bytes, w[which].len);
            which ? pm_read_wanted(&flipped, &w_back, NODES, RANKS)
                  : pm_read_report(&flipped, &r_back, NODES, RANKS);
            which ? pm_wanted_done(&w_back) : pm_report_done(&r_back);
        }
    }
    pm_writer_done(&w[0]);
    pm_writer_done(&w[1]);
    pm_report_done(&report);
    pm_wanted_done(&wanted);
}

static int read_report_of(const struct pm_report *report, uint32_t nnodes, uint32_t nranks)
{
    struct pm_writer w = {0};
    struct pm_report back;
    pm_write_report(&w, report);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_report(&r, &back, nnodes, nranks);
    int rc = pm_reader_end(&r);
    pm_report_done(&back);
    pm_writer_done(&w);
    return rc;
}

Test(record, nodes_and_ranks_beyond_the_step_are_refused)
{
    struct pm_report report;
    pm_report_init(&report);
    cr_assert_eq(pm_set_add(&report.joined, 7), 0);
    cr_assert_eq(pm_set_add(&report.left, 9), 0);
    cr_assert_eq(pm_map_add(&report.map, 8, 2, 7), 0);
    struct pm_failure f = {.node = 7, .rank = 9, .cause = PM_CAUSE_EXIT};
    cr_assert_eq(pm_failures_add(&report.failures, &f), 0);
    cr_assert_eq(read_report_of(&report, 8, 10), 0);
    cr_assert_neq(read_report_of(&report, 7, 10), 0);
    cr_assert_neq(read_report_of(&report, 8, 9), 0);
    pm_set_clear(&report.joined);
    pm_set_clear(&report.left);
    pm_map_clear(&report.map);
    cr_assert_neq(read_report_of(&report, 7, 10), 0);
    cr_assert_neq(read_report_of(&report, 8, 9), 0);
    pm_report_done(&report);
}
