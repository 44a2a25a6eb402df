// SPDX-License-Identifier: Apache-2.0
//
// Fences in pieces, over the tree of collective_net.h: contributions on their way up (fence.c), results on
// their way down (fence_down.c): order, what goes on when, links that are lost in the middle, frames that are
// wrong.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/collective_net.h"

TestSuite(collective_pieces, .timeout = 60);

enum { NODES = 15, PIECE = 5 };

// Nodes 0..14 with two children each (2 and 3 below 0, 6 and 7 below 2, 14 below 6), node i's data is
// "<i>;": 35 bytes, 7 pieces.
static const char expected[] = "0;1;2;3;4;5;6;7;8;9;10;11;12;13;14;";
static struct pm_span all_ranks = {0, NODES - 1};
static const struct pm_set all = {.spans = &all_ranks, .n = 1, .cap = 1};

static struct net *net_in_pieces(void)
{
    struct net *net = net_new(NODES, 1, 2);
    net_core(net, PM_NODE_COORDINATOR)->config.fence_piece = PIECE;
    return net;
}

static void enter_all(struct net *net, uint64_t id, uint32_t epoch)
{
    for (uint32_t i = 0; i < NODES; i++)
        net_fence(net, &(struct net_fence){
                           .node = i, .id = id, .ranks = &all, .collect = true, .epoch = epoch});
}

static void expect_all(const struct net *net, uint64_t id)
{
    for (uint32_t i = 0; i < NODES; i++) {
        const struct net_done *d = net_answer(net, i, id);
        cr_assert(d, "node %u has no answer", i);
        cr_assert_eq(d->status, PM_STATUS_OK, "node %u: status %d", i, d->status);
        cr_assert_eq(d->len, strlen(expected), "node %u: %zu bytes", i, d->len);
        cr_assert_eq(memcmp(d->data, expected, d->len), 0, "node %u: other bytes", i);
    }
}

static const struct pm_flow *flow_of(struct net *net, uint32_t node)
{
    return &net_core(net, node)->collective->flow;
}

// Until `node` has `n` bytes of a result; false: it never has.
static bool run_until(struct net *net, uint32_t node, size_t n)
{
    while (flow_of(net, node)->at < n) {
        if (!net_step(net))
            return false;
    }
    return true;
}

Test(collective_pieces, a_large_result_goes_down_in_pieces_and_each_goes_on_at_once)
{
    uint32_t n_early = 0;
    for (uint32_t seed = 1; seed <= 50; seed++) {
        struct net *net = net_in_pieces();
        net->shuffle = seed;
        enter_all(net, 1, 0);
        cr_assert(run_until(net, 14, PIECE));
        bool is_early = flow_of(net, 0)->total; // 14 has a part before its ancestor has all
        cr_assert_eq(net_answer(net, 0, 1) == NULL, is_early, "goes on with a part");
        n_early += is_early;
        net_run(net);
        expect_all(net, 1);
        cr_assert_eq(net->sent, NODES * (1 + 7));
        for (uint32_t i = 0; i < NODES; i++)
            cr_assert_eq(flow_of(net, i)->total, 0);
        net_free(net);
    }
    cr_assert_gt(n_early, 10);
}

Test(collective_pieces, a_result_of_up_to_two_pieces_is_one_frame)
{
    const size_t half = sizeof(expected) / 2; // of an odd number of bytes, rounded up
    for (uint32_t less = 0; less < 2; less++) {
        struct net *net = net_in_pieces();
        net_core(net, PM_NODE_COORDINATOR)->config.fence_piece = (uint32_t)half - less;
        enter_all(net, 1, 0);
        net_run(net);
        expect_all(net, 1);
        cr_assert_eq(net->sent, NODES * (less ? 1 + 3 : 1 + 1));
        net_free(net);
    }
}

Test(collective_pieces, contributions_are_given_up_with_the_first_piece)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 0, PIECE));
    const struct pm_fence *f = net_core(net, 0)->collective->signatures[0]->fences;
    cr_assert_eq(f->n_chunks, 0);
    cr_assert_not(f->decided);
    net_run(net);
    expect_all(net, 1);
    net_free(net);
}

Test(collective_pieces, a_new_parent_at_any_moment_loses_nothing_and_repeats_nothing)
{
    static const uint32_t moved[] = {2, 3, 6, 14};
    static const uint32_t to[] = {PM_NODE_COORDINATOR, 0, 1, 4};
    for (uint32_t k = 0; k < 16; k++) {
        for (int cut = 0; cut < 120; cut++) {
            struct net *net = net_in_pieces();
            enter_all(net, 1, 0);
            for (int i = 0; i < cut; i++)
                net_step(net);
            net_move(net, moved[k % 4], to[k / 4]);
            net_advance(net, 1000);
            expect_all(net, 1);
            net_free(net);
        }
    }
}

// It gets a part twice: the second time from the first piece on.
Test(collective_pieces, a_new_parent_in_the_middle_begins_again)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 2, 3 * PIECE));
    net_move(net, 2, 1);
    cr_assert_eq(flow_of(net, 2)->total, 0);
    cr_assert(run_until(net, 2, PIECE));
    cr_assert_eq(flow_of(net, 2)->at, PIECE);
    net_run(net);
    expect_all(net, 1);
    net_free(net);
}

// A node that has the result passes it on to another, and loses its parent meanwhile.
Test(collective_pieces, whoever_waits_below_a_node_that_has_the_result_is_not_forgotten)
{
    for (int cut = 0; cut < 40; cut++) {
        struct net *net = net_in_pieces();
        enter_all(net, 1, 0);
        cr_assert(run_until(net, 14, PIECE));
        net_move(net, 14, NET_DETACHED);
        net_run(net);
        cr_assert_null(net_answer(net, 14, 1));
        net_move(net, 14, 3); // has it all, and asks above for 14
        for (int i = 0; i < cut; i++)
            net_step(net);
        net_move(net, 3, 1);
        net_advance(net, 1000);
        expect_all(net, 1);
        net_free(net);
    }
}

// The fence with this number failed, says the parent.
static void inject_error(struct net *net, uint32_t to, uint64_t seq)
{
    struct pm_writer w = {0};
    const struct pm_fence_key key = {.hash = pm_set_hash(&all), .seq = seq};
    pm_write_u8(&w, PM_FRAME_FENCE_DOWN);
    pm_write_fence_key(&w, &key);
    pm_write_i32(&w, PM_STATUS_ERROR);
    pm_write_u32(&w, PM_RANK_NONE);
    pm_write_set(&w, &(struct pm_set){0});
    pm_write_bytes(&w, NULL, 0);
    cr_assert(net_inject(net, net->parent[to], to, w.data, w.len));
    pm_writer_done(&w);
}

Test(collective_pieces, an_error_that_comes_in_between_ends_nothing_else)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 2, 2 * PIECE));
    inject_error(net, 2, 7);
    net_run(net);
    expect_all(net, 1);
    net_free(net);
}

Test(collective_pieces, an_error_of_the_fence_itself_ends_it_for_all_below)
{
    struct net *net = net_in_pieces();
    net->is_blind = true;
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 2, 2 * PIECE));
    inject_error(net, 2, 0);
    cr_assert_eq(flow_of(net, 2)->total, 0);
    net_run(net);
    for (uint32_t i = 0; i < NODES; i++) {
        bool is_below = i == 2 || i == 6 || i == 7 || i == 14;
        cr_assert_eq(net_answer(net, i, 1)->status, is_below ? PM_STATUS_ERROR : PM_STATUS_OK,
                     "node %u", i);
    }
    net_free(net);
}

// Many fences end at a node while it passes a result on to one that missed it.
Test(collective_pieces, whoever_waits_below_is_not_forgotten_with_old_fences)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 14, PIECE));
    net_move(net, 14, NET_DETACHED);
    net_run(net);
    net_move(net, 14, 3);
    cr_assert(run_until(net, 3, PIECE));
    for (uint64_t seq = 1; seq <= 2 * PM_FENCE_MEMO_AGENT; seq++)
        inject_error(net, 3, seq);
    cr_assert_eq(flow_of(net, 3)->at, PIECE);
    net_move(net, 3, 0);
    net_run(net);
    expect_all(net, 1);
    net_free(net);
}

static const struct net_frame *first_frame(const struct net *net, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < net->n_queue; i++) {
        if (net->queue[i].from == from && net->queue[i].to == to)
            return &net->queue[i];
    }
    return NULL;
}

Test(collective_pieces, a_child_that_comes_back_gets_it_from_the_first_piece_on)
{
    uint32_t n_middle = 0;
    for (uint32_t seed = 1; seed <= 50; seed++) {
        struct net *net = net_in_pieces();
        net->shuffle = seed;
        enter_all(net, 1, 0);
        cr_assert(run_until(net, 14, PIECE));
        n_middle += flow_of(net, 6)->total > 0;
        net_move(net, 14, 6);
        while (!flow_of(net, 14)->total) {
            const struct net_frame *f = first_frame(net, 6, 14);
            cr_assert(!f || f->data[0] == PM_FRAME_FENCE_BEGIN);
            cr_assert(net_step(net));
        }
        net_run(net);
        expect_all(net, 1);
        net_free(net);
    }
    cr_assert_gt(n_middle, 10);
}

// Whose contribution came by another way, and who enters when the rest is under way. That is its own
// misfortune: a child that asks later is still told of a success.
Test(collective_pieces, who_enters_in_the_middle_is_not_given_a_part)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 6, PIECE));
    net_move(net, 14, NET_DETACHED);
    struct pm_fence *f = net_core(net, 6)->collective->signatures[0]->fences;
    f->has_local = false; // as if it had been another one that contributed
    pm_writer_done(&net_core(net, 6)->collective->flow.bytes);
    cr_assert(run_until(net, 6, 2 * PIECE));
    f->has_local = true;
    net_run(net);
    cr_assert_eq(net_answer(net, 6, 1)->status, PM_STATUS_ERROR);
    net_move(net, 14, 6);
    net_advance(net, 1000);
    cr_assert_eq(net_answer(net, 14, 1)->status, PM_STATUS_OK);
    net_free(net);
}

// Two nodes are a piece or nearly one, so that all the others go up while 2 and 11 are still awaited.
Test(collective_pieces, contributions_go_up_while_others_still_come)
{
    struct net *net = net_in_pieces();
    for (uint32_t i = 0; i < NODES; i++)
        net_core(net, i)->config.fence_piece = PIECE;
    for (uint32_t i = NODES; i-- > 0;)
        if (i != 2 && i != 11)
            net_fence(net, &(struct net_fence){.node = i, .id = 1, .ranks = &all, .collect = true});
    net_run(net);
    const struct pm_fence *root = net_core(net, PM_NODE_COORDINATOR)->collective->signatures[0]->fences;
    for (uint32_t i = 0; i < NODES; i++)
        cr_assert_eq(pm_set_has(&root->have, i), i != 2 && i != 11, "node %u", i);
    for (uint32_t i = 2; i <= 11; i += 9)
        net_fence(net, &(struct net_fence){.node = i, .id = 1, .ranks = &all, .collect = true});
    net_run(net);
    expect_all(net, 1);
    net_free(net);
}

// What was sent to the parent of before is sent once more, in the same order.
Test(collective_pieces, contributions_in_pieces_survive_a_new_parent_at_any_moment)
{
    static const uint32_t moved[] = {0, 2, 6};
    for (uint32_t k = 0; k < 3; k++) {
        for (int cut = 0; cut < 60; cut++) {
            struct net *net = net_in_pieces();
            for (uint32_t i = 0; i < NODES; i++)
                net_core(net, i)->config.fence_piece = PIECE;
            enter_all(net, 1, 0);
            for (int i = 0; i < cut; i++)
                net_step(net);
            net_move(net, moved[k], PM_NODE_COORDINATOR);
            net_advance(net, 1000);
            expect_all(net, 1);
            net_free(net);
        }
    }
}

static bool is_ask(const struct net_frame *f)
{
    return f->from == 1 && f->to == PM_NODE_COORDINATOR && f->data[0] == PM_FRAME_FENCE_UP;
}

// The result has passed the node that they come to: one more is for all of them.
Test(collective_pieces, many_that_ask_too_late_are_answered_by_one_result)
{
    static const uint32_t orphans[] = {6, 7, 5, 13, 14};
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 1, PIECE));
    for (size_t i = 0; i < 5; i++)
        net_move(net, orphans[i], NET_DETACHED);
    for (size_t i = 0; i < 5; i++)
        net_move(net, orphans[i], 1);
    size_t n_asks = 0;
    for (size_t sent = net->sent; net_step(net); sent = net->sent)
        for (; sent < net->sent; sent++)
            n_asks += is_ask(&net->queue[net->n_queue - (net->sent - sent)]);
    cr_assert_eq(n_asks, 1);
    expect_all(net, 1);
    net_free(net);
}

// A set without node 2, through which the result comes down to its three last.
static struct pm_span some_spans[] = {{5, 7}, {14, 14}};
static const struct pm_set some = {.spans = some_spans, .n = 2, .cap = 2};

// The result is on its way, and node 2 has no room to take note of it.
static struct net *net_without_room(void)
{
    struct net *net = net_new(NODES, 1, 2);
    net_core(net, PM_NODE_COORDINATOR)->config.fence_piece = 2;
    for (uint32_t i = 5; i < NODES; i++)
        if (pm_set_has(&some, i))
            net_fence(net, &(struct net_fence){.node = i, .id = 1, .ranks = &some, .collect = true});
    cr_assert(run_until(net, 0, 1));
    struct pm_collective *c = net_core(net, 2)->collective;
    pm_signature_remove_fence(net_core(net, 2), c->signatures[0], c->signatures[0]->fences);
    c->n_pending = PM_FENCE_PENDING_MAX;
    cr_assert(run_until(net, 2, 1));
    cr_assert_null(c->signatures[0]->fences);
    return net;
}

Test(collective_pieces, whoever_waits_below_a_node_without_room_is_told_that_the_rest_will_not_come)
{
    struct net *net = net_without_room();
    net_move(net, 2, 1);
    net_advance(net, 1000);
    cr_assert_eq(net_answer(net, 5, 1)->status, PM_STATUS_OK);
    for (uint32_t i = 6; i < NODES; i += i == 6 ? 1 : 7) {
        cr_assert(net_answer(net, i, 1), "node %u waits", i);
        cr_assert_eq(net_answer(net, i, 1)->status, PM_STATUS_ERROR);
    }
    net_free(net);
}

// What `from` has sent there comes before everything else.
static void deliver_next(struct net *net, uint32_t from, uint32_t to)
{
    size_t i = 0;
    while (net->queue[i].from != from || net->queue[i].to != to)
        cr_assert_lt(++i, net->n_queue);
    struct net_frame f = net->queue[i];
    memmove(&net->queue[1], &net->queue[0], i * sizeof(f));
    net->queue[0] = f;
    cr_assert(net_step(net));
}

Test(collective_pieces, whoever_asks_a_node_that_has_room_again_is_not_forgotten)
{
    struct net *net = net_without_room();
    net_move(net, 14, NET_DETACHED);
    net_core(net, 2)->collective->n_pending = 0;
    net_move(net, 14, 2);
    deliver_next(net, 14, 2);
    cr_assert(flow_of(net, 2)->total, "in the middle");
    net_advance(net, 1000);
    for (uint32_t i = 5; i < NODES; i++) {
        if (!pm_set_has(&some, i))
            continue;
        cr_assert(net_answer(net, i, 1), "node %u waits", i);
        cr_assert_eq(net_answer(net, i, 1)->status, PM_STATUS_OK);
    }
    net_free(net);
}

Test(collective_pieces, the_end_of_the_epoch_ends_it_in_the_middle)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 6, PIECE));
    size_t n_done = net->n_done;
    for (uint32_t i = 0; i < NODES; i++) {
        struct pm_actions out = {0};
        struct pm_core *core = net_core(net, i);
        core->out = &out;
        pm_collective_epoch_over(core, 0);
        pm_actions_done(&out);
        cr_assert_eq(flow_of(net, i)->total, 0);
    }
    net_run(net);
    cr_assert_eq(net->n_done, n_done);
    cr_assert_eq(net->rejected, 0);
    enter_all(net, 2, 1);
    net_run(net);
    expect_all(net, 2);
    net_free(net);
}

Test(collective_pieces, a_copy_in_the_middle_is_equal_and_lives_on_its_own)
{
    struct net *net = net_in_pieces();
    enter_all(net, 1, 0);
    cr_assert(run_until(net, 6, 2 * PIECE));
    for (uint32_t i = 0; i <= NODES; i++) {
        struct pm_collective *old = net->cores[i].collective;
        struct pm_collective *copy = pm_collective_clone(old);
        cr_assert_eq(net_digest(net, copy), net_digest(net, old));
        copy->flow.at++;
        cr_assert_eq(net_digest(net, copy) != net_digest(net, old), copy->flow.total != 0);
        copy->flow.at--;
        pm_collective_free(old);
        net->cores[i].collective = copy;
    }
    net_run(net);
    expect_all(net, 1);
    net_free(net);
}

// --- Frames that are wrong
// -------------------------------------------------------------------------------

struct begin {
    int32_t status;
    const char *data;
    uint32_t total;
};

static bool inject_begin(struct net *net, uint32_t to, const struct begin *b)
{
    struct pm_writer w = {0};
    const struct pm_fence_key key = {.hash = pm_set_hash(&all), .has_ranks = true, .ranks = all};
    pm_write_u8(&w, PM_FRAME_FENCE_BEGIN);
    pm_write_fence_key(&w, &key);
    pm_write_i32(&w, b->status);
    pm_write_u32(&w, PM_RANK_NONE);
    pm_write_set(&w, &(struct pm_set){0});
    pm_write_bytes(&w, b->data, strlen(b->data));
    pm_write_u32(&w, b->total);
    bool is_taken = net_inject(net, PM_NODE_COORDINATOR, to, w.data, w.len);
    pm_writer_done(&w);
    return is_taken;
}

static bool inject_piece(struct net *net, uint32_t to, const struct pm_fence_key *key, uint32_t at,
                         const char *data)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_FENCE_PIECE);
    pm_write_fence_key(&w, key);
    pm_write_u32(&w, at);
    pm_write_bytes(&w, data, strlen(data));
    bool is_taken = net_inject(net, PM_NODE_COORDINATOR, to, w.data, w.len);
    pm_writer_done(&w);
    return is_taken;
}

Test(collective_pieces, a_beginning_that_is_none_is_refused)
{
    static const struct begin wrong[] = {
        {PM_STATUS_OK, "", 5},       {PM_STATUS_OK, "abc", 3},
        {PM_STATUS_OK, "abc", 0},    {PM_STATUS_OK, "abc", PM_FENCE_RESULT_MAX + 1},
        {PM_STATUS_ERROR, "abc", 5}, {-1, "abc", 5},
    };
    struct net *net = net_in_pieces();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        cr_assert_not(inject_begin(net, 0, &wrong[i]), "number %zu", i);
    cr_assert_not(
        inject_begin(net, PM_NODE_COORDINATOR, &(struct begin){PM_STATUS_OK, "abc", 5}));
    cr_assert_eq(net_core(net, 0)->collective->n_signatures, 0);
    cr_assert_eq(flow_of(net, 0)->total, 0);
    cr_assert(inject_begin(net, 0, &(struct begin){PM_STATUS_OK, "abc", 5}));
    cr_assert_eq(flow_of(net, 0)->total, 5);
    net_free(net);
}

Test(collective_pieces, a_piece_in_its_wrong_place_is_refused_and_one_that_nobody_wants_ignored)
{
    const struct pm_fence_key key = {.hash = pm_set_hash(&all)};
    const struct pm_fence_key other = {.hash = pm_set_hash(&all), .seq = 1};
    const struct pm_fence_key with_ranks = {.hash = key.hash, .has_ranks = true, .ranks = all};
    struct net *net = net_in_pieces();
    cr_assert(inject_piece(net, 0, &key, 3, "de"), "nothing is under way");
    net_fence(net, &(struct net_fence){.node = 0, .id = 1, .ranks = &all, .collect = true});
    cr_assert(inject_begin(net, 0, &(struct begin){PM_STATUS_OK, "abc", 6}));
    cr_assert(inject_piece(net, 0, &other, 3, "de"));
    cr_assert_not(inject_piece(net, 0, &key, 2, "de"), "heard before");
    cr_assert_not(inject_piece(net, 0, &key, 4, "e"), "a hole");
    cr_assert_not(inject_piece(net, 0, &key, 3, "defg"), "too long");
    cr_assert_not(inject_piece(net, 0, &key, 3, ""), "empty");
    cr_assert_not(inject_piece(net, 0, &with_ranks, 3, "de"));
    cr_assert_not(inject_piece(net, PM_NODE_COORDINATOR, &key, 3, "de"));
    cr_assert_eq(flow_of(net, 0)->at, 3);
    cr_assert(inject_piece(net, 0, &key, 3, "de"));
    cr_assert_null(net_answer(net, 0, 1));
    cr_assert(inject_piece(net, 0, &key, 5, "f"));
    cr_assert_eq(net_answer(net, 0, 1)->len, 6);
    cr_assert_eq(memcmp(net_answer(net, 0, 1)->data, "abcdef", 6), 0);
    cr_assert(inject_piece(net, 0, &key, 6, "g"), "it is over");
    net_free(net);
}

// What it knows of the fence is that its result came, in part, and that a child wants it.
Test(collective_pieces, a_question_that_came_in_the_middle_is_asked_again)
{
    struct net *net = net_in_pieces();
    net_fence(net, &(struct net_fence){.node = 1, .id = 1, .ranks = &all, .collect = true});
    net_advance(net, PM_FENCE_HOLD_MS);
    cr_assert(inject_begin(net, 0, &(struct begin){PM_STATUS_OK, "abc", 6}));
    net_fence(net, &(struct net_fence){.node = 5, .id = 1, .ranks = &all, .collect = true});
    net_move(net, 5, 0);
    net_advance(net, PM_FENCE_HOLD_MS);
    const struct pm_fence *root = net_core(net, PM_NODE_COORDINATOR)->collective->signatures[0]->
                                  fences;
    cr_assert(pm_set_has(&root->have, 5));
    net_move(net, 0, 4);
    net_advance(net, 3 * PM_FENCE_HOLD_MS);
    const struct pm_fence *parent = net_core(net, 4)->collective->signatures[0]->fences;
    cr_assert(pm_set_has(&parent->have, 5));
    net_free(net);
}
