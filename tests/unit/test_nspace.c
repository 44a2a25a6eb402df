// SPDX-License-Identifier: Apache-2.0
//
// The namespace of an epoch on the wire: what is written is read back, and every message that breaks
// a promise of nspace.h is refused and leaves nothing behind, also when it is cut or has a bit flipped.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/nspace.h"

TestSuite(nspace, .timeout = 20);

enum { NODES = 4 };

static struct pm_set sets[NODES];
static char *cpusets[] = {(char *)"0-3", (char *)""};
static uint16_t package_ranks[] = {1, PM_NSPACE_NO_PACKAGE};
static struct pm_nspace_info info;

// Ranks 0,1 on node 0, 2,5 on node 1, 3,4 on node 2; node 3 is a spare. We are node 1.
static void setup(void)
{
    memset(sets, 0, sizeof sets);
    pm_set_add_span(&sets[0], 0, 1);
    pm_set_add(&sets[1], 2);
    pm_set_add(&sets[1], 5);
    pm_set_add_span(&sets[2], 3, 4);
    info = (struct pm_nspace_info){
        .name = "pm.12.0.3", .job = 12, .step = 0, .epoch = 3, .node = 1, .nnodes = NODES,
        .nranks = 6, .nodelist = (char *)"n[1-4]", .ranks_of_node = sets, .wdir = (char *)"/home/u",
        .command = (char *)"./solve -n 5", .n_cpusets = 2, .cpusets = cpusets,
        .package_ranks = package_ranks};
}

static void teardown(void)
{
    for (size_t i = 0; i < NODES; i++)
        pm_set_done(&sets[i]);
}

static int read_back(const struct pm_writer *w, size_t len, struct pm_nspace_info *ret)
{
    struct pm_reader r = pm_reader_of(w->data, len);
    pm_read_nspace(&r, ret);
    return pm_reader_end(&r);
}

static void expect_refused(const char *why)
{
    struct pm_writer w = {0};
    struct pm_nspace_info got = {0};
    cr_expect(pm_nspace_info_check(&info) == -EINVAL, "%s passed the check", why);
    pm_write_nspace(&w, &info);
    cr_expect(read_back(&w, w.len, &got) == -EBADMSG, "%s was read", why);
    cr_expect(got.name[0] == '\0' && !got.ranks_of_node && !got.nodelist, "%s left something", why);
    pm_nspace_info_done(&got);
    pm_writer_done(&w);
}

Test(nspace, reads_back_what_was_written, .init = setup, .fini = teardown)
{
    struct pm_writer w = {0};
    struct pm_nspace_info got = {0};
    cr_assert(pm_nspace_info_check(&info) == 0);
    pm_write_nspace(&w, &info);
    cr_assert(w.error == 0 && read_back(&w, w.len, &got) == 0);
    cr_expect_str_eq(got.name, info.name);
    cr_expect_str_eq(got.nodelist, info.nodelist);
    cr_expect_str_eq(got.wdir, info.wdir);
    cr_expect_str_eq(got.command, info.command);
    cr_expect(got.job == 12 && got.step == 0 && got.epoch == 3 && got.node == 1);
    cr_expect(got.nnodes == NODES && got.nranks == 6 && got.n_cpusets == 2);
    for (int i = 0; i < NODES; i++)
        cr_expect(pm_set_equal(&got.ranks_of_node[i], &sets[i]), "node %d", i);
    cr_expect_str_eq(got.cpusets[0], "0-3");
    cr_expect_str_eq(got.cpusets[1], "");
    cr_expect(got.package_ranks[0] == 1 && got.package_ranks[1] == PM_NSPACE_NO_PACKAGE);
    pm_nspace_info_done(&got);
    pm_writer_done(&w);
}

Test(nspace, unknown_texts_and_cpusets_may_be_left_out, .init = setup, .fini = teardown)
{
    struct pm_writer w = {0};
    struct pm_nspace_info got = {0};
    info.wdir = info.command = NULL;
    info.n_cpusets = 0;
    pm_write_nspace(&w, &info);
    cr_assert(read_back(&w, w.len, &got) == 0);
    cr_expect(got.wdir[0] == '\0' && got.command[0] == '\0' && got.n_cpusets == 0);
    pm_nspace_info_done(&got);
    pm_writer_done(&w);
}

Test(nspace, broken_promises_are_refused, .init = setup, .fini = teardown)
{
    info.name[0] = '\0';
    expect_refused("an empty name");
    setup();
    info.node = NODES;
    expect_refused("a node out of range");
    setup();
    info.nodelist = (char *)"n[1-3]";
    expect_refused("fewer names than nodes");
    setup();
    info.nranks = 7;
    expect_refused("a rank that is nowhere");
    setup();
    pm_set_add(&sets[3], 0);
    expect_refused("a rank on two nodes");
    setup();
    pm_set_add(&sets[3], 0);
    info.nranks = 7;
    expect_refused("a rank on two nodes and one nowhere");
    setup();
    pm_set_remove(&sets[1], 5);
    pm_set_add(&sets[1], 6);
    expect_refused("a gap in the ranks");
    setup();
    info.n_cpusets = 1;
    expect_refused("one CPU set for two ranks");
}

Test(nspace, cut_and_damaged_messages_leave_nothing, .init = setup, .fini = teardown)
{
    struct pm_writer w = {0};
    struct pm_nspace_info got = {0};
    pm_write_nspace(&w, &info);
    for (size_t len = 0; len < w.len; len++) {
        cr_expect(read_back(&w, len, &got) < 0, "cut to %zu bytes it was read", len);
        pm_nspace_info_done(&got);
    }
    for (size_t bit = 0; bit < 8 * w.len; bit++) {
        w.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (read_back(&w, w.len, &got) == 0)
            cr_expect(pm_nspace_info_check(&got) == 0, "bit %zu broke a promise unnoticed", bit);
        pm_nspace_info_done(&got);
        w.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    pm_writer_done(&w);
}
