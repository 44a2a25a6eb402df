// SPDX-License-Identifier: Apache-2.0
//
// What flows along the tree for membership: up, edges, addresses and reports about children,
// gathered for a few milliseconds; down, {view, dead}, as a whole each time; and single frames that
// the coordinator routes to one agent (confirm an adoption, dial a suspect).
//
// Edges are level-triggered (whole on every new link). A report is repeated at every tick until its
// cause is gone, so a lost one needs no rule. Addresses may be lost with a link: then the node is
// found by its name.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"

#define REPORT_SIZE  33
#define REPORTS_MAX  (1u << 20)
#define ADDRESS_SIZE 8 // at least
#define SPANS_MAX    (1u << 24)

// --- addresses ---------------------------------------------------------------------------------

static uint32_t address_index(const struct pm_addresses *a, uint32_t node)
{
    uint32_t low = 0, high = a->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (a->list[mid].node < node)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const char *pm_addresses_get(const struct pm_addresses *a, uint32_t node)
{
    uint32_t i = address_index(a, node);
    return i < a->n && a->list[i].node == node ? a->list[i].text : "";
}

int pm_addresses_set(struct pm_addresses *a, uint32_t node, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    uint32_t i = address_index(a, node);
    if (i < a->n && a->list[i].node == node) {
        free(a->list[i].text);
        a->list[i].text = copy;
        return 0;
    }
    if (a->n == a->cap) {
        uint32_t cap = a->cap ? 2 * a->cap : 8;
        struct pm_address *list = reallocarray(a->list, cap, sizeof(*list));
        if (!list) {
            free(copy);
            return -ENOMEM;
        }
        a->list = list;
        a->cap = cap;
    }
    memmove(&a->list[i + 1], &a->list[i], (a->n - i) * sizeof(*a->list));
    a->list[i].node = node;
    a->list[i].text = copy;
    a->n++;
    return 0;
}

void pm_addresses_clear(struct pm_addresses *a)
{
    for (uint32_t i = 0; i < a->n; i++)
        free(a->list[i].text);
    a->n = 0;
}

void pm_addresses_done(struct pm_addresses *a)
{
    pm_addresses_clear(a);
    free(a->list);
    *a = (struct pm_addresses){0};
}

int pm_addresses_copy(struct pm_addresses *to, const struct pm_addresses *from)
{
    *to = (struct pm_addresses){0};
    for (uint32_t i = 0; i < from->n; i++)
        if (pm_addresses_set(to, from->list[i].node, from->list[i].text) < 0)
            return -ENOMEM;
    return 0;
}

// --- up ----------------------------------------------------------------------------------------

static void schedule_up(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    uint64_t due = m->up_free_ns > core->now_ns ? m->up_free_ns : core->now_ns;
    m->up_due_ns = pm_min_ns(m->up_due_ns, due);
}

static void note_news(struct pm_core *core, const struct pm_edge *edge)
{
    struct pm_membership *m = core->membership;
    bool plain = edge->attached && edge->attach == 1 &&
                 edge->parent == pm_tree_parent(edge->node, m->fanout);
    int r = pm_set_add(plain ? &m->news_plain : &m->news_known, edge->node);
    if (r == 0 && !plain)
        r = pm_set_remove(&m->news_plain, edge->node);
    if (r < 0)
        pm_out_of_memory(core);
    schedule_up(core);
}

void pm_relay_edge(struct pm_core *core, const struct pm_edge *edge)
{
    struct pm_membership *m = core->membership;
    int changed = pm_edges_merge(&m->edges, edge, m->fanout);
    if (changed < 0)
        pm_out_of_memory(core);
    if (changed <= 0)
        return;
    for (uint32_t i = 0; i < m->n_children; i++)
        m->children[i].subtree_valid = false;
    if (!core->coordinator) {
        note_news(core, edge);
        return;
    }
    pm_judge_edge(core, edge);
    if (!edge->attached || edge->attach > 1)
        pm_relay_view(core);
}

// While a step forms all edges are plain. Then sets tell what is new, and nobody has to look at each of a
// hundred thousand nodes. False: there are others, or suspects that an edge may clear.
static bool relay_plain(struct pm_core *core, const struct pm_set *plain)
{
    struct pm_membership *m = core->membership;
    struct pm_set fresh = {0};
    if (m->edges.n > 0 || m->judge.n > 0)
        return false;
    int r = pm_set_copy(&fresh, plain);
    if (r == 0)
        r = pm_set_subtract(&fresh, &m->edges.plain);
    if (r == 0)
        r = pm_set_union(&m->edges.plain, &fresh);
    if (r == 0 && !core->coordinator)
        r = pm_set_union(&m->news_plain, &fresh);
    if (r < 0)
        pm_out_of_memory(core);
    for (uint32_t i = 0; i < m->n_children; i++)
        m->children[i].subtree_valid &= pm_set_empty(&fresh);
    if (!core->coordinator && !pm_set_empty(&fresh))
        schedule_up(core);
    pm_set_done(&fresh);
    return true;
}

void pm_relay_edges(struct pm_core *core, const struct pm_edges *from)
{
    uint32_t fanout = core->membership->fanout;
    bool done = relay_plain(core, &from->plain);
    for (uint32_t node = pm_set_next(&from->plain, 0); !done && node != UINT32_MAX;
         node = pm_set_next(&from->plain, node + 1)) {
        struct pm_edge edge = {node, pm_tree_parent(node, fanout), 1, true};
        pm_relay_edge(core, &edge);
    }
    for (uint32_t i = 0; i < from->n; i++)
        pm_relay_edge(core, &from->known[i]);
}

void pm_relay_address(struct pm_core *core, uint32_t node, const char *text)
{
    struct pm_membership *m = core->membership;
    struct pm_addresses *into = core->coordinator ? &m->addresses : &m->news_addresses;
    if (pm_addresses_set(into, node, text) < 0)
        pm_out_of_memory(core);
    if (!core->coordinator)
        schedule_up(core);
}

void pm_relay_report(struct pm_core *core, const struct pm_child_report *report)
{
    struct pm_membership *m = core->membership;
    if (core->coordinator) {
        pm_judge_report(core, report);
        return;
    }
    schedule_up(core);
    for (uint32_t i = 0; i < m->n_reports; i++)
        if (m->reports[i].node == report->node) {
            m->reports[i] = *report;
            return;
        }
    if (m->n_reports == m->cap_reports) {
        uint32_t cap = m->cap_reports ? 2 * m->cap_reports : 8;
        struct pm_child_report *list = reallocarray(m->reports, cap, sizeof(*list));
        if (!list) {
            pm_out_of_memory(core);
            return;
        }
        m->reports = list;
        m->cap_reports = cap;
    }
    m->reports[m->n_reports++] = *report;
}

static void write_reports(struct pm_writer *w, const struct pm_membership *m)
{
    pm_write_var(w, m->n_reports);
    for (uint32_t i = 0; i < m->n_reports; i++) {
        const struct pm_child_report *p = &m->reports[i];
        pm_write_u32(w, p->node);
        pm_write_u32(w, p->attach);
        pm_write_u32(w, p->parent);
        pm_write_u32(w, p->via);
        pm_write_u8(w, p->kind);
        pm_write_u64(w, p->silent_ns);
        pm_write_u64(w, p->granted_ns);
    }
}

static void send_up(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_UP);
    pm_edges_write_some(&m->edges, &m->news_plain, &m->news_known, m->fanout, &w);
    pm_write_var(&w, m->news_addresses.n);
    for (uint32_t i = 0; i < m->news_addresses.n; i++) {
        pm_write_u32(&w, m->news_addresses.list[i].node);
        pm_write_str(&w, m->news_addresses.list[i].text);
    }
    write_reports(&w, m);
    pm_link_send(core, m->parent_link, &w);
    // What has changed since an ATTACH that is under way is news for that parent, too.
    if (!m->seek.asked) {
        pm_set_clear(&m->news_plain);
        pm_set_clear(&m->news_known);
    }
    pm_addresses_clear(&m->news_addresses);
    m->n_reports = 0;
    m->up_due_ns = UINT64_MAX;
    m->up_free_ns = core->now_ns + PM_COALESCE_NS;
}

static void read_addresses(struct pm_core *core, struct pm_reader *r, bool apply)
{
    uint32_t n = pm_read_count(r, SPANS_MAX, ADDRESS_SIZE);
    for (uint32_t i = 0; i < n && r->error == 0; i++) {
        char text[PM_ADDRESSES_MAX];
        uint32_t node = pm_read_u32(r);
        pm_read_str(r, text, sizeof(text));
        if (node >= pm_node_limit(core))
            r->error = -EBADMSG;
        if (r->error == 0 && apply)
            pm_relay_address(core, node, text);
    }
}

static void read_reports(struct pm_core *core, struct pm_reader *r, bool apply)
{
    uint32_t n = pm_read_count(r, REPORTS_MAX, REPORT_SIZE);
    for (uint32_t i = 0; i < n && r->error == 0; i++) {
        struct pm_child_report p = {.node = pm_read_u32(r)};
        p.attach = pm_read_u32(r);
        p.parent = pm_read_u32(r);
        p.via = pm_read_u32(r);
        p.kind = pm_read_u8(r);
        p.silent_ns = pm_read_u64(r);
        p.granted_ns = pm_read_u64(r);
        if (p.kind >= PM_REPORT_ENDED || p.parent >= pm_node_limit(core))
            r->error = -EBADMSG;
        if (r->error == 0 && apply)
            pm_relay_report(core, &p);
    }
}

// Read twice: nothing of a malformed frame is applied.
static void on_up(struct pm_core *core, struct pm_reader *r)
{
    struct pm_edges edges = {0};
    if (pm_edges_read(r, &edges, pm_node_limit(core)) == -ENOMEM)
        pm_out_of_memory(core);
    struct pm_reader again = *r;
    read_addresses(core, r, false);
    read_reports(core, r, false);
    if (pm_reader_end(r) < 0) {
        r->error = -EBADMSG;
    } else {
        pm_relay_edges(core, &edges);
        read_addresses(core, &again, true);
        read_reports(core, &again, true);
    }
    pm_edges_done(&edges);
}

// --- down --------------------------------------------------------------------------------------

void pm_relay_view(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    uint64_t due = m->view_free_ns > core->now_ns ? m->view_free_ns : core->now_ns;
    m->view_due_ns = pm_min_ns(m->view_due_ns, due);
}

void pm_relay_down(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_DOWN);
    pm_write_u64(&w, m->view);
    pm_write_set(&w, &m->dead);
    pm_send_children(core, &w);
    pm_writer_done(&w);
}

void pm_relay_flush(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    if (m->up_due_ns <= core->now_ns && m->parent_link != 0)
        send_up(core);
    if (m->view_due_ns > core->now_ns)
        return;
    m->view_due_ns = UINT64_MAX;
    m->view_free_ns = core->now_ns + PM_COALESCE_NS;
    m->view++;
    pm_relay_down(core);
    pm_on_view(core);
}

void pm_relay_news(struct pm_core *core, uint64_t view, const struct pm_set *dead)
{
    struct pm_membership *m = core->membership;
    bool newer = view > m->view;
    bool more = !pm_set_covers(&m->dead, dead);
    if (newer)
        m->view = view;
    if (more && pm_set_union(&m->dead, dead) < 0)
        pm_out_of_memory(core);
    if (pm_set_has(&m->dead, m->self)) {
        pm_seek_outcast(core, "this node was declared dead");
        return;
    }
    if (newer || more)
        pm_relay_down(core);
    for (uint32_t i = m->n_children; more && i > 0; i--)
        if (pm_set_has(&m->dead, m->children[i - 1].node))
            pm_child_refuse(core, m->children[i - 1].node);
    if (more) {
        pm_links_refuse_strangers(core);
        pm_seek_news(core);
    }
    if (newer)
        pm_on_view(core);
}

static void on_down(struct pm_core *core, struct pm_reader *r)
{
    uint64_t view = pm_read_u64(r);
    struct pm_set dead = {0};
    pm_read_set(r, &dead, SPANS_MAX);
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG;
    else
        pm_relay_news(core, view, &dead);
    pm_set_done(&dead);
}

// --- to and from one agent ---------------------------------------------------------------------

bool pm_relay_route(struct pm_core *core, uint32_t to, struct pm_writer *frame)
{
    uint32_t hop = pm_next_hop(core, to);
    bool sent = hop != PM_NODE_NONE && pm_send_child(core, hop, frame);
    pm_writer_done(frame);
    return sent;
}

static void pass_on(struct pm_core *core, uint8_t type, uint32_t to, struct pm_reader *r)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, type);
    pm_write_u32(&w, to);
    size_t left = r->left;
    pm_write_raw(&w, pm_read_raw(r, left), left);
    pm_relay_route(core, to, &w);
}

static void on_confirm(struct pm_core *core, struct pm_reader *r)
{
    uint32_t node = pm_read_u32(r);
    uint32_t attach = pm_read_u32(r);
    if (pm_reader_end(r) < 0) {
        r->error = -EBADMSG;
        return;
    }
    struct pm_child *c = pm_child_find(core->membership, node);
    if (!c || c->attach != attach || c->reported != PM_REPORT_FINE)
        return;
    c->withheld = c->owed = false;
    pm_lease_grant(core, c);
}

void pm_relay_probe(struct pm_core *core, uint32_t target, uint64_t id, const char *addresses)
{
    struct pm_membership *m = core->membership;
    if (m->n_probes >= PM_PROBES_MAX || target == m->self)
        return;
    uint64_t timeout = m->t_ns / 8 > 250 * PM_MS ? m->t_ns / 8 : 250 * PM_MS;
    uint32_t id_link = pm_link_dial(core, target, PM_ROLE_PROBE, addresses, timeout);
    struct pm_link *link = pm_link_find(m, id_link);
    if (!link)
        return;
    link->probe_id = id;
    m->n_probes++;
}

// A child that is asked about and that we hear needs no dial: a late report (by another way up) may
// have overtaken our word that it is fine, so the word is given again.
static bool vouch(struct pm_core *core, uint32_t target)
{
    struct pm_child *c = pm_child_find(core->membership, target);
    if (!c)
        return false;
    c->owed = true;
    pm_lease_check_child(core, c, true);
    return c->reported == PM_REPORT_FINE;
}

static void on_probe(struct pm_core *core, struct pm_reader *r)
{
    char addresses[PM_ADDRESSES_MAX];
    uint32_t target = pm_read_u32(r);
    uint64_t id = pm_read_u64(r);
    pm_read_str(r, addresses, sizeof(addresses));
    if (pm_reader_end(r) < 0 || target >= PM_NODE_NONE)
        r->error = -EBADMSG;
    else if (!vouch(core, target))
        pm_relay_probe(core, target, id, addresses);
}

void pm_relay_probe_ended(struct pm_core *core, uint64_t id, uint32_t target, uint8_t end)
{
    struct pm_membership *m = core->membership;
    m->n_probes--;
    if (core->coordinator) {
        pm_judge_probed(core, id, PM_NODE_COORDINATOR, target, end);
        return;
    }
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_PROBED);
    pm_write_u64(&w, id);
    pm_write_u32(&w, m->self);
    pm_write_u32(&w, target);
    pm_write_u8(&w, end);
    pm_send_parent(core, &w);
    pm_writer_done(&w);
}

static void on_probed(struct pm_core *core, struct pm_reader *r)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_PROBED);
    pm_write_raw(&w, r->at, r->left);
    uint64_t id = pm_read_u64(r);
    uint32_t prober = pm_read_u32(r);
    uint32_t target = pm_read_u32(r);
    uint8_t end = pm_read_u8(r);
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG;
    else if (core->coordinator)
        pm_judge_probed(core, id, prober, target, end);
    else
        pm_send_parent(core, &w);
    pm_writer_done(&w);
}

void pm_relay_frame(struct pm_core *core, struct pm_link *link, uint8_t type, struct pm_reader *r)
{
    (void)link;
    if (type == PM_FRAME_UP) {
        on_up(core, r);
    } else if (type == PM_FRAME_DOWN) {
        on_down(core, r);
    } else if (type == PM_FRAME_PROBED) {
        on_probed(core, r);
    } else {
        uint32_t to = pm_read_u32(r);
        if (r->error == 0 && to != core->membership->self)
            pass_on(core, type, to, r);
        else if (type == PM_FRAME_CONFIRM)
            on_confirm(core, r);
        else
            on_probe(core, r);
    }
}
