// SPDX-License-Identifier: Apache-2.0
//
// The numbered tree, and edges: who hangs where, whatever the order of the news.
#include <criterion/criterion.h>
#include <errno.h>

#include "pmix_server/core/membership.h"

static const uint32_t fanouts[] = {2, 3, 32, 1024};

Test(tree, children_and_parents_agree)
{
    for (size_t f = 0; f < sizeof(fanouts) / sizeof(*fanouts); f++) {
        uint32_t fanout = fanouts[f], nnodes = 5000, counted = 0;
        for (uint32_t node = 0; node < nnodes; node++) {
            uint32_t parent = pm_tree_parent(node, fanout);
            uint32_t first = parent == PM_NODE_COORDINATOR ? 0 : fanout * (parent + 1);
            cr_assert(parent == PM_NODE_COORDINATOR || parent < node);
            cr_assert(node >= first && node < first + fanout);
            counted += pm_tree_n_children(node, nnodes, fanout);
        }
        counted += pm_tree_n_children(PM_NODE_COORDINATOR, nnodes, fanout);
        cr_assert_eq(counted, nnodes);
    }
}

Test(tree, ancestors_lead_to_the_coordinator)
{
    cr_assert_eq(pm_tree_ancestor(14, 2, 1), 6);
    cr_assert_eq(pm_tree_ancestor(14, 2, 2), 2);
    cr_assert_eq(pm_tree_ancestor(14, 2, 3), 0);
    cr_assert_eq(pm_tree_ancestor(14, 2, 4), PM_NODE_COORDINATOR);
    cr_assert_eq(pm_tree_ancestor(14, 2, 99), PM_NODE_COORDINATOR);
    cr_assert_eq(pm_tree_ancestor(14, 2, 0), 14);
}

Test(tree, spares_hang_at_their_nearest_ancestor_that_is_none)
{
    cr_assert_eq(pm_tree_home(14, 2, UINT32_MAX), 6);
    cr_assert_eq(pm_tree_home(14, 2, 7), 6);
    cr_assert_eq(pm_tree_home(14, 2, 6), 2);
    cr_assert_eq(pm_tree_home(14, 2, 2), 0);
    cr_assert_eq(pm_tree_home(5, 2, 1), PM_NODE_COORDINATOR); // its parent 1 waits, too
    for (uint32_t first = 1; first < 40; first++)
        for (uint32_t node = 0; node < 40; node++) {
            uint32_t home = pm_tree_home(node, 3, first);
            cr_assert(home == PM_NODE_COORDINATOR || (home < first && home < node));
        }
}

Test(tree, next_hop_is_the_child_on_the_way)
{
    cr_assert_eq(pm_tree_next_hop(PM_NODE_COORDINATOR, 14, 2), 0);
    cr_assert_eq(pm_tree_next_hop(0, 14, 2), 2);
    cr_assert_eq(pm_tree_next_hop(6, 14, 2), 14);
    cr_assert_eq(pm_tree_next_hop(1, 14, 2), PM_NODE_NONE);
    cr_assert_eq(pm_tree_next_hop(14, 14, 2), PM_NODE_NONE);
    cr_assert(pm_tree_is_ancestor(PM_NODE_COORDINATOR, 0, 2));
    cr_assert(pm_tree_is_ancestor(2, 14, 2));
    cr_assert_not(pm_tree_is_ancestor(14, 2, 2));
}

Test(tree, the_last_ids_do_not_overflow)
{
    cr_assert_eq(pm_tree_n_children(PM_NODE_NONE - 1, UINT32_MAX, 1024), 0);
    cr_assert_eq(pm_tree_parent(PM_NODE_NONE - 1, 2), (PM_NODE_NONE - 1) / 2 - 1);
}

// --- edges -------------------------------------------------------------------------------------

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

// The slow truth: one edge per node.
static bool naive_under(const struct pm_edge *edges, uint32_t node, uint32_t top)
{
    while (node != top) {
        if (node == PM_NODE_COORDINATOR || !edges[node].attached)
            return false;
        node = edges[node].parent;
    }
    return true;
}

static void make_random_edge(struct pm_edge *edge, uint32_t node, uint32_t fanout)
{
    bool plain = below(3) > 0;
    edge->node = node;
    edge->attach++;
    edge->attached = true;
    edge->parent = plain ? pm_tree_parent(node, fanout)
                         : (node > 0 && below(4) ? below(node) : PM_NODE_COORDINATOR);
}

static void merge(struct pm_edges *e, const struct pm_edge *edge, uint32_t fanout)
{
    cr_assert_geq(pm_edges_merge(e, edge, fanout), 0);
}

static void check_subtrees(const struct pm_edges *e, const struct pm_edge *naive, uint32_t n,
                           uint32_t fanout)
{
    for (uint32_t top = 0; top < n; top += 1 + below(5)) {
        struct pm_set set = {0};
        cr_assert_eq(pm_edges_subtree(e, top, fanout, &set), 0);
        for (uint32_t node = 0; node < n; node++) {
            bool want = naive_under(naive, node, top);
            cr_assert_eq(pm_set_has(&set, node), want, "node %u below %u", node, top);
            cr_assert_eq(pm_edges_under(e, node, top, fanout), want);
        }
        pm_set_done(&set);
    }
}

Test(edges, subtrees_are_what_a_walk_of_every_node_says)
{
    enum { N = 200 };
    for (uint32_t round = 0; round < 60; round++) {
        random_state = round + 1;
        uint32_t fanout = 2 + below(5);
        struct pm_edge naive[N] = {0};
        struct pm_edges e = {0};
        for (uint32_t node = 0; node < N; node++) {
            naive[node] = (struct pm_edge){node, pm_tree_parent(node, fanout), 1, true};
            merge(&e, &naive[node], fanout);
        }
        for (uint32_t i = below(40); i > 0; i--) {
            uint32_t node = below(N);
            if (below(3) == 0)
                naive[node].attached = false;
            else
                make_random_edge(&naive[node], node, fanout);
            merge(&e, &naive[node], fanout);
        }
        check_subtrees(&e, naive, N, fanout);
        pm_edges_done(&e);
    }
}

Test(edges, any_order_of_news_ends_in_the_same_edges)
{
    enum { NEWS = 12 };
    for (uint32_t round = 0; round < 200; round++) {
        random_state = round + 77;
        struct pm_edge news[NEWS];
        for (uint32_t i = 0; i < NEWS; i++) {
            uint32_t attach = 1 + below(3), node = 5 + below(2);
            uint32_t parent = attach == 1 ? pm_tree_parent(node, 2) : attach == 2 ? 0 : 1;
            news[i] = (struct pm_edge){node, parent, attach, below(2)};
        }
        struct pm_edges a = {0}, b = {0};
        for (uint32_t i = 0; i < NEWS; i++) {
            merge(&a, &news[i], 2);
            merge(&b, &news[NEWS - 1 - i], 2);
            merge(&b, &news[below(NEWS)], 2);
        }
        struct pm_digest da = {0}, db = {0};
        for (uint32_t i = 0; i < NEWS; i++)
            merge(&b, &news[i], 2);
        pm_edges_digest(&a, &da);
        pm_edges_digest(&b, &db);
        cr_assert_eq(da.h, db.h);
        pm_edges_done(&a);
        pm_edges_done(&b);
    }
}

Test(edges, a_loss_report_older_than_an_adoption_changes_nothing)
{
    struct pm_edges e = {0};
    merge(&e, &(struct pm_edge){6, 2, 1, true}, 2);
    merge(&e, &(struct pm_edge){6, 0, 2, true}, 2);
    cr_assert_eq(pm_edges_merge(&e, &(struct pm_edge){6, 2, 1, false}, 2), 0);
    struct pm_edge now = {0};
    cr_assert(pm_edges_get(&e, 6, 2, &now));
    cr_assert(now.attached && now.parent == 0 && now.attach == 2);
    pm_edges_done(&e);
}

Test(edges, the_wire_form_reads_back_and_a_cycle_is_refused)
{
    struct pm_edges e = {0}, back = {0};
    for (uint32_t node = 0; node < 40; node++)
        merge(&e, &(struct pm_edge){node, pm_tree_parent(node, 3), 1, true}, 3);
    merge(&e, &(struct pm_edge){17, PM_NODE_COORDINATOR, 2, true}, 3);
    merge(&e, &(struct pm_edge){20, 5, 1, false}, 3);
    struct pm_writer w = {0};
    pm_edges_write(&e, 3, &w);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    cr_assert_eq(pm_edges_read(&r, &back, 1000), 0);
    cr_assert_eq(pm_reader_end(&r), 0);
    struct pm_digest a = {0}, b = {0};
    pm_edges_digest(&e, &a);
    pm_edges_digest(&back, &b);
    cr_assert_eq(a.h, b.h);
    pm_edges_done(&back);
    pm_writer_done(&w);

    struct pm_edges bad = {.known = &(struct pm_edge){3, 9, 1, true}, .n = 1};
    pm_edges_write(&bad, 3, &w);
    r = pm_reader_of(w.data, w.len);
    cr_assert_eq(pm_edges_read(&r, &back, 1000), -EBADMSG);
    pm_writer_done(&w);
    pm_edges_done(&e);
}
