// SPDX-License-Identifier: Apache-2.0
//
// Direct modex over a tree of collective modules without links (collective_net.h): routing,
// coalescing, waiting, repetition, and the one answer that each question gets.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_net.h"

TestSuite(modex, .timeout = 60);

static void ready(struct net *net, uint32_t node, uint32_t epoch)
{
    struct pm_event event = {.type = PM_EVENT_SERVER_READY, .epoch = epoch};
    net_event(net, node, &event);
}

static struct net *ready_net(uint32_t n, uint32_t per_node, uint32_t fanout)
{
    struct net *net = net_new(n, per_node, fanout);
    for (uint32_t i = 0; i < n; i++)
        ready(net, i, 0);
    return net;
}

static void expect(const struct net *net, uint32_t node, uint64_t id, int32_t status,
                   const char *data)
{
    const struct net_done *d = net_answer(net, node, id);
    cr_assert(d, "node %u has no answer for %u", node, (unsigned)id);
    cr_assert_eq(d->status, status, "status %d", d->status);
    cr_assert_eq(d->len, strlen(data));
    cr_assert(d->len == 0 || memcmp(d->data, data, d->len) == 0);
}

Test(modex, remote_rank_is_fetched_on_its_node_and_the_answer_comes_back)
{
    struct net *net = ready_net(30, 2, 3);
    net_modex(net, 29, 1, 11, 0); // node 5
    net_run(net);
    cr_assert_eq(net->n_fetches, 1);
    cr_assert_eq(net->fetches[0].node, 5);
    cr_assert_eq(net->fetches[0].rank, 11);
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "blob");
    net_run(net);
    expect(net, 29, 1, PM_STATUS_OK, "blob");
    net_free(net);
}

Test(modex, every_pair_of_nodes_finds_each_other)
{
    struct net *net = ready_net(13, 1, 2);
    for (uint32_t from = 0; from < 13; from++) {
        for (uint32_t to = 0; to < 13; to++)
            net_modex(net, from, 100 + to, to, 0);
    }
    net_run(net);
    cr_assert_eq(net->n_fetches, 13, "one fetch per rank, not per question");
    for (size_t i = 0; i < 13; i++)
        net_fetched(net, &net->fetches[i], PM_STATUS_OK, "x");
    net_run(net);
    for (uint32_t from = 0; from < 13; from++) {
        for (uint32_t to = 0; to < 13; to++)
            expect(net, from, 100 + to, PM_STATUS_OK, "x");
    }
    net_free(net);
}

Test(modex, local_rank_is_fetched_at_once)
{
    struct net *net = ready_net(3, 4, 2);
    net_modex(net, 1, 1, 6, 0);
    cr_assert_eq(net->sent, 0);
    cr_assert_eq(net->n_fetches, 1);
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "here");
    expect(net, 1, 1, PM_STATUS_OK, "here");
    net_free(net);
}

Test(modex, questions_for_one_rank_go_out_once_and_all_are_answered)
{
    struct net *net = ready_net(2, 4, 2);
    for (uint64_t id = 1; id <= 20; id++)
        net_modex(net, 0, id, 5, 0);
    cr_assert_eq(net->sent, 1);
    net_run(net);
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "b");
    net_run(net);
    for (uint64_t id = 1; id <= 20; id++)
        expect(net, 0, id, PM_STATUS_OK, "b");
    net_modex(net, 0, 21, 5, 0);
    net_run(net);
    cr_assert_eq(net->n_fetches, 2, "answers are not kept");
    net_free(net);
}

Test(modex, data_that_is_not_there_yet_is_waited_for)
{
    struct net *net = ready_net(3, 1, 2);
    net_modex(net, 0, 1, 2, 0);
    net_advance(net, 600000);
    cr_assert_null(net_answer(net, 0, 1));
    cr_assert_eq(net->n_fetches, 1, "repeated questions do not fetch again");
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "late");
    net_run(net);
    expect(net, 0, 1, PM_STATUS_OK, "late");
    net_free(net);
}

Test(modex, repetition_becomes_rare)
{
    struct net *net = ready_net(3, 1, 3);
    net_modex(net, 0, 1, 2, 0);
    net_advance(net, 600000);
    cr_assert(net->root_frames <= 28, "%zu frames in ten minutes", net->root_frames);
    net_free(net);
}

Test(modex, timeout_is_told_to_whom_it_belongs_and_the_others_wait_on)
{
    struct net *net = ready_net(3, 1, 2);
    net_modex(net, 0, 1, 2, 100);
    net_modex(net, 0, 2, 2, 5000);
    net_advance(net, 200);
    expect(net, 0, 1, PM_STATUS_TIMEOUT, "");
    cr_assert_null(net_answer(net, 0, 2));
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "b");
    net_run(net);
    expect(net, 0, 2, PM_STATUS_OK, "b");
    net_free(net);
}

Test(modex, fetch_is_cancelled_when_nobody_waits_any_more)
{
    struct net *net = ready_net(3, 1, 2);
    net_modex(net, 0, 1, 2, 100);
    net_advance(net, 300);
    expect(net, 0, 1, PM_STATUS_TIMEOUT, "");
    cr_assert(net->fetches[0].cancelled);
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "too late");
    net_run(net);
    expect(net, 0, 1, PM_STATUS_TIMEOUT, "");
    net_free(net);
}

Test(modex, question_survives_the_loss_of_every_frame_on_its_way)
{
    for (int cut = 0; cut < 8; cut++) {
        struct net *net = ready_net(7, 1, 2);
        net_modex(net, 6, 1, 3, 0);
        for (int i = 0; i < cut && net_step(net); i++) {
            if (net->n_fetches == 1 && !net->fetches[0].cancelled) {
                net_fetched(net, &net->fetches[0], PM_STATUS_OK, "b");
                net->fetches[0].cancelled = true;
            }
        }
        net_move(net, 0, NET_DETACHED);
        net_run(net);
        net_move(net, 3, PM_NODE_COORDINATOR);
        net_move(net, 0, PM_NODE_COORDINATOR);
        net_advance(net, 1500);
        for (size_t i = 0; i < net->n_fetches; i++)
            net_fetched(net, &net->fetches[i], PM_STATUS_OK, "b");
        net_run(net);
        expect(net, 6, 1, PM_STATUS_OK, "b");
        net_free(net);
    }
}

Test(modex, frame_for_a_node_that_left_the_subtree_is_not_played_back_and_forth)
{
    struct net *net = ready_net(7, 1, 2);
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_MODEX_ASK);
    pm_write_u32(&w, 0);
    pm_write_u32(&w, 3); // below 0
    pm_write_u32(&w, 6);
    pm_write_u32(&w, 3);
    pm_write_u64(&w, 0);
    cr_assert(net_inject(net, PM_NODE_COORDINATOR, 2, w.data, w.len));
    cr_assert_eq(net->n_queue, 0);
    pm_writer_done(&w);
    net_free(net);
}

Test(modex, dead_node_and_lost_rank_end_the_question)
{
    struct net *net = ready_net(5, 2, 2);
    net_modex(net, 0, 1, 8, 0);
    net_modex(net, 0, 2, 3, 0);
    net_run(net);
    net_kill(net, 4);
    expect(net, 0, 1, PM_STATUS_LOST, "");
    net_modex(net, 0, 3, 9, 0);
    expect(net, 0, 3, PM_STATUS_LOST, "");
    net_rank_lost(net, 1, 3); // its own agent hears of it
    net_run(net);
    expect(net, 0, 2, PM_STATUS_LOST, "");
    net_free(net);
}

// Its agent may be silent, and the server busy.
Test(modex, a_node_that_hears_of_a_lost_rank_waits_for_nobody_else)
{
    struct net *net = ready_net(5, 2, 2);
    net_modex(net, 0, 1, 3, 0);
    net_run(net);
    net_rank_lost(net, 0, 3);
    expect(net, 0, 1, PM_STATUS_LOST, "");
    net_free(net);
}

// Nobody may be left who could answer: the server of a rank that was never started knows of no end. Another epoch has other
// ranks.
Test(modex, who_asks_for_a_rank_that_is_known_to_be_lost_waits_for_nobody)
{
    struct net *net = ready_net(5, 2, 2);
    net_rank_lost(net, 0, 3);
    net_modex(net, 0, 1, 3, 0);
    expect(net, 0, 1, PM_STATUS_LOST, "");
    net_modex(net, 0, 2, 2, 0);
    cr_assert_null(net_answer(net, 0, 2), "its neighbour lives");
    struct pm_event next = {.type = PM_EVENT_MODEX, .epoch = 1, .id = 3, .rank = 3};
    net_event(net, 0, &next);
    cr_assert_null(net_answer(net, 0, 3), "it is not lost in epoch 1");
    net_free(net);
}

Test(modex, rank_outside_the_world_is_not_found)
{
    struct net *net = ready_net(2, 2, 2);
    net_modex(net, 0, 1, 4, 0);
    expect(net, 0, 1, PM_STATUS_NOT_FOUND, "");
    net_free(net);
}

Test(modex, epoch_over_ends_questions_and_fetches)
{
    struct net *net = ready_net(3, 1, 3);
    net_modex(net, 0, 1, 2, 0);
    net_modex(net, 2, 1, 0, 0);
    net_run(net);
    for (uint32_t i = 0; i < 3; i++) {
        struct pm_core *core = net_core(net, i);
        struct pm_actions out = {0};
        core->out = &out;
        pm_collective_epoch_over(core, 0);
        cr_assert_eq(out.n, i == 1 ? 0 : 2);
        for (size_t k = 0; k < out.n; k++) {
            bool is_done = out.list[k].type == PM_ACTION_MODEX_DONE;
            cr_assert(is_done || out.list[k].type == PM_ACTION_FETCH_CANCEL);
            cr_assert(!is_done || out.list[k].status == PM_STATUS_ABORTED);
        }
        pm_actions_done(&out);
    }
    net_modex(net, 0, 2, 2, 0);
    expect(net, 0, 2, PM_STATUS_ABORTED, "");
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "old");
    cr_assert_eq(net->n_queue, 0);
    net_free(net);
}

Test(modex, fetch_waits_for_the_server_and_is_repeated_to_a_new_one)
{
    struct net *net = net_new(2, 1, 2);
    ready(net, 0, 0);
    net_modex(net, 0, 1, 1, 0);
    net_run(net);
    cr_assert_eq(net->n_fetches, 0);
    ready(net, 1, 0);
    cr_assert_eq(net->n_fetches, 1);
    ready(net, 1, 0); // the first one died before any rank had connected
    cr_assert_eq(net->n_fetches, 2);
    cr_assert_eq(net->fetches[0].id, net->fetches[1].id);
    net_fetched(net, &net->fetches[1], PM_STATUS_OK, "b");
    net_run(net);
    expect(net, 0, 1, PM_STATUS_OK, "b");
    net_free(net);
}

Test(modex, questions_are_limited)
{
    struct net *net = ready_net(2, 2, 2);
    for (uint64_t id = 1; id <= PM_MODEX_PENDING_MAX; id++)
        net_modex(net, 0, id, 2, 0);
    cr_assert_eq(net->n_done, 0);
    net_modex(net, 0, PM_MODEX_PENDING_MAX + 1u, 2, 0);
    cr_assert_eq(net->n_done, 1);
    cr_assert_eq(net->done[0].status, PM_STATUS_ERROR);
    net_free(net);
}

Test(modex, too_much_data_and_unknown_status_become_errors)
{
    struct net *net = ready_net(2, 2, 2);
    net_modex(net, 0, 1, 2, 0);
    net_modex(net, 0, 2, 3, 0);
    net_run(net);
    net_fetched(net, &net->fetches[0], 77, "x");
    uint8_t *data = calloc(1, PM_FENCE_DATA_MAX + 1u);
    struct pm_event event = {.type = PM_EVENT_FETCHED,
                             .id = net->fetches[1].id,
                             .data = data,
                             .len = PM_FENCE_DATA_MAX + 1u};
    net_event(net, 1, &event);
    net_run(net);
    expect(net, 0, 1, PM_STATUS_ERROR, "");
    expect(net, 0, 2, PM_STATUS_ERROR, "");
    free(data);
    net_free(net);
}

Test(modex, malformed_frames_are_refused)
{
    struct net *net = ready_net(2, 1, 2);
    net_modex(net, 0, 1, 1, 0);
    struct net_frame f = net->queue[0];
    for (size_t len = 0; len < f.len; len++)
        cr_assert_not(net_inject(net, 0, PM_NODE_COORDINATOR, f.data, len));
    net_run(net);
    net_fetched(net, &net->fetches[0], PM_STATUS_OK, "b");
    f = net->queue[0];
    cr_assert_eq(f.data[0], PM_FRAME_MODEX_ANSWER);
    for (size_t len = 0; len < f.len; len++)
        cr_assert_not(net_inject(net, 1, PM_NODE_COORDINATOR, f.data, len));
    net_run(net);
    expect(net, 0, 1, PM_STATUS_OK, "b");
    net_free(net);
}
