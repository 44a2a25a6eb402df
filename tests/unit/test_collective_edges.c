// SPDX-License-Identifier: Apache-2.0
//
// Fences and direct modex where two epochs meet, before the world is known, with ranks placed in turn, at
// their limits, and when asked what is not theirs.
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/collective_net.h"

TestSuite(collective_edges, .timeout = 60);

static struct pm_set all, pair;

static struct net *three_nodes(void)
{
    pm_set_clear(&all);
    pm_set_clear(&pair);
    cr_assert(pm_set_add_span(&all, 0, 5) == 0 && pm_set_add_span(&pair, 0, 1) == 0);
    return net_new(3, 2, 2);
}

static void done(struct net *net)
{
    net_free(net);
    pm_set_done(&all);
    pm_set_done(&pair);
}

static void modex(struct net *net, uint32_t node, uint32_t epoch, uint64_t id, uint32_t rank)
{
    struct pm_event event = {.type = PM_EVENT_MODEX, .epoch = epoch, .id = id, .rank = rank};
    net_event(net, node, &event);
}

static void server_is_ready(struct net *net, uint32_t node, uint32_t epoch)
{
    struct pm_event event = {.type = PM_EVENT_SERVER_READY, .epoch = epoch};
    net_event(net, node, &event);
}

static void is_answered(const struct net *net, uint32_t node, uint64_t id, int32_t status,
                        const char *data)
{
    const struct net_done *d = net_answer(net, node, id);
    cr_assert_not_null(d, "node %u, id %lu is not answered", node, id);
    cr_assert_eq(d->status, status, "node %u, id %lu: %d", node, id, d->status);
    if (data)
        cr_assert(d->len == strlen(data) && (!d->len || memcmp(d->data, data, d->len) == 0));
}

static struct net_fetch *fetch_of(struct net *net, uint32_t epoch, uint32_t rank)
{
    for (size_t i = 0; i < net->n_fetches; i++)
        if (net->fetches[i].epoch == epoch && net->fetches[i].rank == rank)
            return &net->fetches[i];
    return NULL;
}

// --- two epochs -------------------------------------------------------------------------------------

Test(collective_edges, fences_of_two_epochs_do_not_mix)
{
    struct net *net = three_nodes();
    for (uint32_t node = 0; node < 3; node++) {
        for (uint32_t epoch = 2; epoch-- > 0;) {
            net_fence(net, &(struct net_fence){.node = node, .id = 10 + epoch, .ranks = &all,
                                               .epoch = epoch, .collect = epoch == 1});
            if (node == 0)
                net_fence(net, &(struct net_fence){.node = node, .id = 20 + epoch,
                                                   .ranks = &pair, .epoch = epoch});
        }
    }
    net_run(net);
    for (uint32_t node = 0; node < 3; node++) {
        is_answered(net, node, 10, PM_STATUS_OK, "");
        is_answered(net, node, 11, PM_STATUS_OK, "0;1;2;");
    }
    is_answered(net, 0, 20, PM_STATUS_OK, "");
    is_answered(net, 0, 21, PM_STATUS_OK, "");
    done(net);
}

Test(collective_edges, questions_of_two_epochs_do_not_mix)
{
    struct net *net = three_nodes();
    server_is_ready(net, 2, 0);
    modex(net, 0, 1, 1, 5);
    modex(net, 0, 0, 2, 5);
    modex(net, 0, 0, 3, 4);
    modex(net, 0, 1, 4, 4);
    net_run(net);
    cr_assert(fetch_of(net, 0, 5) && fetch_of(net, 0, 4) && !fetch_of(net, 1, 5));
    server_is_ready(net, 2, 1);
    cr_assert(fetch_of(net, 1, 5) && fetch_of(net, 1, 4));
    server_is_ready(net, 2, 0); // too late: it serves epoch 1 now
    struct net_fetch stray = {.node = 2, .epoch = 1, .id = fetch_of(net, 0, 5)->id};
    net_fetched(net, &stray, PM_STATUS_OK, "of another epoch");
    net_fetched(net, fetch_of(net, 1, 5), PM_STATUS_OK, "new");
    net_fetched(net, fetch_of(net, 0, 4), PM_STATUS_OK, "old");
    net_run(net);
    is_answered(net, 0, 1, PM_STATUS_OK, "new");
    is_answered(net, 0, 3, PM_STATUS_OK, "old");
    done(net);
}

static void epoch_is_over(struct net *net, uint32_t node, uint32_t epoch)
{
    struct pm_actions out = {0};
    struct pm_core *core = net_core(net, node);
    core->out = &out;
    pm_collective_epoch_over(core, epoch);
    core->out = NULL;
    for (size_t i = 0; i < out.n; i++)
        if (out.list[i].type == PM_ACTION_MODEX_DONE)
            cr_assert_eq(out.list[i].epoch, epoch, "one of another epoch has ended");
    pm_actions_done(&out);
}

Test(collective_edges, the_end_of_an_epoch_ends_nothing_of_the_next)
{
    struct net *net = three_nodes();
    modex(net, 2, 0, 1, 4);
    modex(net, 2, 1, 2, 4);
    modex(net, 2, 1, 3, 0);
    pm_collective_rank_lost(net_core(net, PM_NODE_COORDINATOR), 1, 9);
    epoch_is_over(net, PM_NODE_COORDINATOR, 0);
    epoch_is_over(net, 2, 0);
    epoch_is_over(net, 2, 0);
    cr_assert_eq(net_core(net, 2)->collective->n_modexes, 2);
    cr_assert_eq(net_core(net, 2)->collective->n_fetches, 1);
    cr_assert(pm_set_has(&net_core(net, PM_NODE_COORDINATOR)->collective->lost, 9));
    done(net);
}

Test(collective_edges, a_rank_lost_in_an_older_epoch_is_history)
{
    struct net *net = three_nodes();
    struct pm_core *root = net_core(net, PM_NODE_COORDINATOR);
    pm_collective_rank_lost(root, 2, 1);
    pm_collective_rank_lost(root, 1, 3);
    cr_assert(!pm_set_has(&root->collective->lost, 3));
    done(net);
}

// --- before the world is known --------------------------------------------------------------------------

static void world_is_known(struct net *net, bool known)
{
    for (uint32_t i = 0; i <= net->n; i++)
        net->cores[i].world_known = known;
}

Test(collective_edges, a_fence_before_the_world_is_known_waits_for_it)
{
    struct net *net = three_nodes();
    world_is_known(net, false);
    for (uint32_t node = 0; node < 3; node++)
        net_fence(net, &(struct net_fence){.node = node, .id = 1, .ranks = &all,
                                           .failed = node == 9});
    net_run(net);
    cr_assert_null(net_answer(net, 0, 1), "nobody knows who takes part");
    world_is_known(net, true);
    net_move(net, 1, NET_DETACHED);
    net_move(net, 1, PM_NODE_COORDINATOR);
    net_run(net);
    for (uint32_t node = 0; node < 3; node++)
        is_answered(net, node, 1, PM_STATUS_OK, NULL);
    done(net);
}

Test(collective_edges, a_local_failure_before_the_world_is_known_blames_nobody)
{
    struct net *net = three_nodes();
    net_core(net, 1)->world_known = false;
    net_fence(net, &(struct net_fence){.node = 1, .id = 1, .ranks = &all, .failed = true});
    net_run(net);
    cr_assert(pm_set_empty(&net->told));
    net_core(net, 1)->world_known = true;
    net_fence(net, &(struct net_fence){.node = 0, .id = 2, .ranks = &pair, .failed = true});
    net_fence(net, &(struct net_fence){.node = 1, .id = 3, .ranks = &pair, .failed = true});
    cr_assert(pm_set_has(&net->told, 0) && !pm_set_has(&net->told, 2), "only participants");
    done(net);
}

static bool ask(struct net *net, uint32_t to, uint32_t node, uint32_t rank)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_MODEX_ASK);
    pm_write_u32(&w, 0);
    pm_write_u32(&w, node);
    pm_write_u32(&w, 0);
    pm_write_u32(&w, rank);
    pm_write_u64(&w, 0);
    bool good = net_inject(net, PM_NODE_COORDINATOR, to, w.data, w.len);
    pm_writer_done(&w);
    return good;
}

Test(collective_edges, a_question_before_the_world_is_known_is_asked_again)
{
    struct net *net = three_nodes();
    modex(net, 0, 0, 1, 3);
    net_core(net, 1)->world_known = false;
    net_run(net);
    cr_assert_null(fetch_of(net, 0, 3));
    modex(net, 1, 0, 2, 0);
    is_answered(net, 1, 2, PM_STATUS_NOT_FOUND, NULL);
    net_core(net, 1)->world_known = true;
    server_is_ready(net, 1, 0);
    net_advance(net, 2000);
    cr_assert_not_null(fetch_of(net, 0, 3));
    net_fetched(net, fetch_of(net, 0, 3), PM_STATUS_OK, "");
    net_run(net);
    is_answered(net, 0, 1, PM_STATUS_OK, "");
    done(net);
}

Test(collective_edges, a_question_for_a_rank_that_is_not_here_is_answered_so)
{
    struct net *net = three_nodes();
    modex(net, 0, 0, 1, 3);
    cr_assert(ask(net, 1, 1, 0));
    cr_assert(ask(net, 1, 1, 99));
    cr_assert_eq(net_core(net, 1)->collective->n_fetches, 0);
    cr_assert_eq(pm_set_add(&net->dead, 2), 0);
    cr_assert(ask(net, 1, 2, 4));
    net_run(net);
    cr_assert_eq(net->rejected, 0);
    done(net);
}

// --- placement, limits, times -------------------------------------------------------------------------

// Ranks 0, 2, 4 on node 0, 1, 3, 5 on node 1.
static void place_in_turn(struct net *net)
{
    struct pm_world *world = &net->cores[0].world;
    for (uint32_t node = 0; node < 2; node++)
        pm_set_clear(&world->ranks_of_node[node]);
    for (uint32_t rank = 0; rank < 6; rank++) {
        cr_assert_eq(pm_set_add(&world->ranks_of_node[rank % 2], rank), 0);
        world->node_of_rank[rank] = rank % 2;
    }
}

// Node 3 waits without a rank: it hosts nobody, but node 0, 1 and 2 do.
Test(collective_edges, a_fence_of_all_ranks_waits_for_no_node_without_one)
{
    struct net *net = net_new(4, 2, 2);
    struct pm_set ranks = {0};
    cr_assert_eq(pm_set_add_span(&ranks, 0, 5), 0);
    for (uint32_t i = 0; i <= 4; i++)
        net->cores[i].world.nranks = 6;
    struct pm_world *world = &net->cores[0].world;
    cr_assert_eq(pm_set_remove(&world->hosts, 3), 0);
    pm_set_clear(&world->ranks_of_node[3]);
    for (uint32_t i = 1; i <= 4; i++)
        net->cores[i].world.hosts = world->hosts;
    for (uint32_t node = 0; node < 3; node++)
        net_fence(net, &(struct net_fence){.node = node, .id = 1, .ranks = &ranks,
                                           .collect = true, .data = node ? "" : "zero"});
    net_run(net);
    for (uint32_t node = 0; node < 3; node++)
        is_answered(net, node, 1, PM_STATUS_OK, "zero");
    pm_set_done(&ranks);
    net_free(net);
}

Test(collective_edges, ranks_placed_in_turn_fence_like_any)
{
    struct net *net = net_new(2, 3, 2);
    struct pm_set ranks = {0};
    place_in_turn(net);
    cr_assert_eq(pm_set_add_span(&ranks, 1, 5), 0);
    for (uint32_t node = 0; node < 2; node++)
        net_fence(net, &(struct net_fence){.node = node, .id = 1, .ranks = &ranks,
                                           .collect = true, .data = node ? "" : "zero"});
    net_run(net);
    is_answered(net, 0, 1, PM_STATUS_OK, "zero");
    is_answered(net, 1, 1, PM_STATUS_OK, "zero");
    pm_set_done(&ranks);
    net_free(net);
}

Test(collective_edges, pending_fences_are_limited)
{
    struct net *net = three_nodes();
    uint32_t *pending = &net_core(net, 1)->collective->n_pending;
    *pending += PM_FENCE_PENDING_MAX - 1;
    net_fence(net, &(struct net_fence){.node = 1, .id = 1, .ranks = &all});
    cr_assert_null(net_answer(net, 1, 1));
    net_fence(net, &(struct net_fence){.node = 1, .id = 2, .ranks = &all});
    is_answered(net, 1, 2, PM_STATUS_ERROR, NULL);
    cr_assert_not_null(strstr(net->says, "pending"));
    *pending -= PM_FENCE_PENDING_MAX - 1;
    done(net);
}

Test(collective_edges, a_timeout_beyond_all_time_is_none)
{
    struct net *net = three_nodes();
    for (uint32_t node = 0; node < 2; node++)
        net_fence(net, &(struct net_fence){.node = node, .id = 1, .ranks = &all,
                                           .timeout_ms = UINT64_MAX});
    net_advance(net, 1000000);
    cr_assert_null(net_answer(net, 0, 1));
    net_fence(net, &(struct net_fence){.node = 2, .id = 1, .ranks = &all});
    net_run(net);
    is_answered(net, 0, 1, PM_STATUS_OK, NULL);
    done(net);
}

Test(collective_edges, a_fence_whose_time_is_over_still_goes_up)
{
    struct net *net = net_new(7, 1, 2);
    struct pm_set ranks = {0};
    cr_assert_eq(pm_set_add_span(&ranks, 0, 6), 0);
    net_fence(net, &(struct net_fence){.node = 2, .id = 1, .ranks = &ranks, .timeout_ms = 1});
    net->now_ns += 5 * NET_MS; // the frame was long on its way
    net_run(net);
    net_fence(net, &(struct net_fence){.node = 0, .id = 1, .ranks = &ranks});
    net_advance(net, 2000);
    is_answered(net, 2, 1, PM_STATUS_TIMEOUT, NULL);
    is_answered(net, 0, 1, PM_STATUS_TIMEOUT, NULL);
    pm_set_done(&ranks);
    net_free(net);
}

// A parent that says so lies or confuses two steps: who did not take part cannot have succeeded.
Test(collective_edges, a_success_without_us_is_an_error)
{
    struct net *net = three_nodes();
    struct pm_writer w = {0};
    const struct pm_fence_key key = {.hash = pm_set_hash(&all), .has_ranks = true, .ranks = all};
    pm_write_u8(&w, PM_FRAME_FENCE_DOWN);
    pm_write_fence_key(&w, &key);
    pm_write_i32(&w, PM_STATUS_OK);
    pm_write_u32(&w, PM_RANK_NONE);
    pm_write_u8(&w, 0);
    pm_write_bytes(&w, NULL, 0);
    cr_assert(net_inject(net, PM_NODE_COORDINATOR, 1, w.data, w.len));
    net_fence(net, &(struct net_fence){.node = 1, .id = 1, .ranks = &all});
    is_answered(net, 1, 1, PM_STATUS_ERROR, NULL);
    pm_writer_done(&w);
    done(net);
}
