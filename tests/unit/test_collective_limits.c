// SPDX-License-Identifier: Apache-2.0
//
// Fences: how much of everything there may be, what is forgotten and what is sent only once, frames that are wrong,
// copies.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_fences.h"

TestSuite(collective_limits, .timeout = 120);

static void fence_of_bytes(struct net *net, uint32_t node, const struct pm_set *ranks, uint64_t id,
                           size_t len)
{
    uint8_t *data = calloc(1, len);
    struct pm_event event = {.type = PM_EVENT_FENCE,
                             .id = id,
                             .set = ranks,
                             .flag_collect = true,
                             .data = data,
                             .len = len};
    net_event(net, node, &event);
    free(data);
}

Test(collective_limits, contribution_at_the_limit_passes_and_one_above_fails_everywhere)
{
    struct net *net = net_new(2, 1, 1);
    SET all = span(0, 1);
    fence_of_bytes(net, 0, &all, 1, PM_FENCE_DATA_MAX);
    fence_of_bytes(net, 1, &all, 1, 1);
    net_run(net);
    expect(net, 0, 1, 1, PM_STATUS_OK);
    cr_assert_eq(net_answer(net, 1, 1)->len, PM_FENCE_DATA_MAX + 1u);
    fence_of_bytes(net, 0, &all, 2, PM_FENCE_DATA_MAX + 1u);
    fence_of_bytes(net, 1, &all, 2, 1);
    net_run(net);
    expect(net, 0, 1, 2, PM_STATUS_ERROR);
    cr_assert(strstr(net->says, "64 MiB"), "%s", net->says);
    net_free(net);
}

Test(collective_limits, result_above_the_limit_fails_everywhere)
{
    struct net *net = net_new(4, 1, 4);
    SET all = span(0, 3);
    for (uint32_t i = 0; i < 4; i++)
        fence_of_bytes(net, i, &all, 1, PM_FENCE_DATA_MAX);
    net_run(net);
    expect(net, 0, 3, 1, PM_STATUS_ERROR);
    net_free(net);
}

Test(collective_limits, memo_is_bounded_and_what_it_forgot_ends_with_an_error)
{
    struct net *net = net_new(3, 1, 1);
    SET pair = span(0, 1);
    for (uint64_t id = 1; id <= 100; id++) {
        enter(net, 0, 1, (struct net_fence){.id = id, .ranks = &pair, .collect = true});
        net_run(net);
    }
    struct pm_collective *root = net_core(net, PM_NODE_COORDINATOR)->collective;
    struct pm_collective *agent = net_core(net, 0)->collective;
    cr_assert_eq(root->signatures[0]->n_decided, PM_FENCE_MEMO_ROOT);
    cr_assert_eq(agent->signatures[0]->n_decided, PM_FENCE_MEMO_AGENT);
    cr_assert_eq(root->n_pending, 0);
    cr_assert_eq(root->memo_bytes, PM_FENCE_MEMO_ROOT * 4);
    // Asked for number 0 once more.
    struct pm_writer w = {0};
    struct pm_fence_key key = {.hash = pm_set_hash(&pair), .has_ranks = true, .ranks = pair};
    SET node = span(1, 1);
    pm_write_u8(&w, PM_FRAME_FENCE_UP);
    pm_write_fence_key(&w, &key);
    pm_write_u8(&w, 0);
    pm_write_u64(&w, 0);
    pm_write_set(&w, &node);
    cr_assert(net_inject(net, 0, PM_NODE_COORDINATOR, w.data, w.len));
    cr_assert_eq(root->n_pending, 0, "no second decision");
    cr_assert_eq(net->n_queue, 1);
    pm_writer_done(&w);
    net_free(net);
}

Test(collective_limits, memo_of_large_results_is_bounded_in_bytes)
{
    struct net *net = net_new(2, 1, 2);
    SET all = span(0, 1);
    for (uint64_t id = 1; id <= 8; id++) {
        fence_of_bytes(net, 0, &all, id, 15u << 20);
        fence_of_bytes(net, 1, &all, id, 0);
        net_run(net);
    }
    struct pm_collective *root = net_core(net, PM_NODE_COORDINATOR)->collective;
    cr_assert(root->memo_bytes <= PM_FENCE_MEMO_BYTES);
    cr_assert(root->memo_bytes >= (45u << 20));
    net_free(net);
}

Test(collective_limits, number_of_sets_is_limited_at_the_coordinator)
{
    struct net *net = net_new(2, 20000, 2);
    for (uint32_t i = 0; i <= PM_SIGNATURES_MAX; i++) {
        SET pair = {0};
        pm_set_add(&pair, i);
        pm_set_add(&pair, 20000 + i);
        enter(net, 0, 1, (struct net_fence){.id = i + 1, .ranks = &pair});
        net_run(net);
        expect(net, 0, 1, i + 1, i < PM_SIGNATURES_MAX ? PM_STATUS_OK : PM_STATUS_ERROR);
        net->n_done = 0;
    }
    net_free(net);
}

Test(collective_limits, set_is_sent_once_per_link)
{
    struct net *net = net_new(3, 1000, 1);
    SET many = {0};
    for (uint32_t r = 0; r < 3000; r += 2)
        pm_set_add(&many, r);
    enter(net, 0, 2, (struct net_fence){.id = 1, .ranks = &many});
    net_run(net);
    enter(net, 0, 2, (struct net_fence){.id = 2, .ranks = &many});
    for (size_t i = 0; i < net->n_queue; i++)
        cr_assert(net->queue[i].len < 64, "%zu bytes", net->queue[i].len);
    net_run(net);
    expect(net, 0, 2, 2, PM_STATUS_OK);
    net_move(net, 2, 0);
    enter(net, 0, 2, (struct net_fence){.id = 3, .ranks = &many});
    net_run(net);
    expect(net, 0, 2, 3, PM_STATUS_OK);
    net_free(net);
}

Test(collective_limits, node_that_does_not_know_the_world_yet_forwards)
{
    struct net *net = net_new(7, 1, 2);
    net_core(net, 0)->world_known = false;
    SET leaves = span(1, 6);
    enter(net, 1, 6, (struct net_fence){.id = 1, .ranks = &leaves, .collect = true});
    net_run(net);
    expect(net, 1, 6, 1, PM_STATUS_OK);
    expect_data(net, 3, 1, "1;2;3;4;5;6;");
    net_free(net);
}

Test(collective_limits, malformed_frames_are_refused_and_change_nothing)
{
    struct net *net = net_new(3, 1, 2);
    SET all = span(0, 2);
    enter(net, 1, 1, (struct net_fence){.id = 1, .ranks = &all, .collect = true});
    cr_assert_eq(net->n_queue, 1);
    const struct net_frame good = net->queue[0];
    struct pm_digest before = {0}, after = {0};
    struct pm_collective *root = net_core(net, PM_NODE_COORDINATOR)->collective;
    pm_collective_digest(root, net->now_ns, &before);
    for (size_t len = 0; len < good.len; len++)
        cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, good.data, len), "%zu bytes", len);
    uint8_t *longer = calloc(1, good.len + 1);
    memcpy(longer, good.data, good.len);
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, longer, good.len + 1), "trailing byte");
    longer[0] = 0x3f;
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, longer, good.len), "unknown type");
    pm_collective_digest(root, net->now_ns, &after);
    cr_assert_eq(before.h, after.h);
    free(longer);
    net_free(net);
}

Test(collective_limits, contributor_outside_the_world_is_refused)
{
    struct net *net = net_new(3, 1, 2);
    SET all = span(0, 2);
    SET nodes = span(1, 3);
    struct pm_writer w = {0};
    struct pm_fence_key key = {.hash = pm_set_hash(&all), .has_ranks = true, .ranks = all};
    pm_write_u8(&w, PM_FRAME_FENCE_UP);
    pm_write_fence_key(&w, &key);
    pm_write_u8(&w, 0);
    pm_write_u64(&w, 0);
    pm_write_set(&w, &nodes);
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, w.data, w.len));
    cr_assert_not(net_inject(net, PM_NODE_COORDINATOR, 0, w.data, w.len - 1));
    pm_writer_done(&w);
    net_free(net);
}

Test(collective_limits, coordinator_refuses_a_result)
{
    struct net *net = net_new(1, 1, 2);
    SET all = span(0, 0);
    enter(net, 0, 0, (struct net_fence){.id = 1, .ranks = &all});
    net_step(net);
    cr_assert_eq(net->n_queue, 1);
    cr_assert_eq(net->queue[0].data[0], PM_FRAME_FENCE_DOWN);
    cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, net->queue[0].data, net->queue[0].len));
    net_free(net);
}

Test(collective_limits, clone_is_equal_and_lives_on_its_own)
{
    struct net *net = net_new(7, 2, 2);
    SET all = span(0, 13);
    SET some = span(0, 3);
    enter(net, 0, 1, (struct net_fence){.id = 1, .ranks = &some, .collect = true});
    enter(net, 0, 5,
          (struct net_fence){.id = 2, .ranks = &all, .collect = true, .timeout_ms = 500});
    net_modex(net, 0, 3, 12, 100);
    net_run(net);
    for (uint32_t i = 0; i <= 7; i++) {
        struct pm_collective *old = net->cores[i].collective;
        struct pm_collective *copy = pm_collective_clone(old);
        cr_assert_eq(net_digest(net, copy), net_digest(net, old));
        pm_collective_free(old);
        net->cores[i].collective = copy;
    }
    enter(net, 6, 6, (struct net_fence){.id = 2, .ranks = &all, .collect = true});
    net_advance(net, 1000);
    expect(net, 0, 6, 2, PM_STATUS_OK);
    net_free(net);
}

Test(collective_limits, digest_does_not_depend_on_the_absolute_time)
{
    struct pm_digest d[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
        struct net *net = net_new(3, 1, 2);
        net->now_ns += (uint64_t)i * 12345 * NET_MS;
        SET all = span(0, 2);
        enter(net, 0, 1, (struct net_fence){.id = 1, .ranks = &all, .timeout_ms = 700});
        net_run(net);
        pm_collective_digest(net_core(net, PM_NODE_COORDINATOR)->collective, net->now_ns, &d[i]);
        net_free(net);
    }
    cr_assert_eq(d[0].h, d[1].h);
}
