// SPDX-License-Identifier: Apache-2.0
//
// The tables of membership: links by id, children by node, and what is sent on them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/membership.h"
#include "pmix_server/core/search.h"

#define NODE_ID_MAX (1u << 20)

uint64_t pm_min_ns(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t pm_max_ns(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void pm_out_of_memory(const struct pm_core *core)
{
    if (core->out)
        core->out->error = -ENOMEM;
}

void pm_node_limit_set(struct pm_core *core, uint32_t nnodes)
{
    uint32_t spares = core->config.options->spares;
    core->membership->nnodes = nnodes;
    core->membership->first_spare = spares && spares < nnodes ? nnodes - spares : UINT32_MAX;
}

// Before LAUNCHED the coordinator takes any node that there can be.
uint32_t pm_node_limit(const struct pm_core *core)
{
    uint32_t nnodes = core->membership->nnodes;
    return nnodes ? nnodes : NODE_ID_MAX;
}

// --- links -------------------------------------------------------------------------------------

static uint32_t link_index(const struct pm_membership *m, uint32_t id)
{
    const struct pm_sorted sorted = {.list = m->links, .n = m->n_links, .stride = sizeof(*m->links), .at = offsetof(struct pm_link, id)};
    return pm_lower_bound(sorted, id);
}

struct pm_link *pm_link_find(struct pm_membership *m, uint32_t id)
{
    uint32_t i = link_index(m, id);
    return i < m->n_links && m->links[i].id == id ? &m->links[i] : NULL;
}

struct pm_link *pm_link_add(struct pm_core *core, uint32_t id, uint32_t node,
                            enum pm_link_role role)
{
    struct pm_membership *m = core->membership;
    if (m->n_links == m->cap_links) {
        uint32_t cap = m->cap_links ? 2 * m->cap_links : 4;
        struct pm_link *links = reallocarray(m->links, cap, sizeof(*links));
        if (!links) {
            pm_out_of_memory(core);
            return NULL;
        }
        m->links = links;
        m->cap_links = cap;
    }
    uint32_t i = link_index(m, id);
    memmove(&m->links[i + 1], &m->links[i], (m->n_links - i) * sizeof(*m->links));
    m->n_links++;
    m->links[i] =
        (struct pm_link){.id = id, .node = node, .role = (uint8_t)role, .heard_ns = core->now_ns};
    return &m->links[i];
}

void pm_link_drop(struct pm_membership *m, uint32_t id)
{
    uint32_t i = link_index(m, id);
    if (i == m->n_links || m->links[i].id != id)
        return;
    if (id == m->parent_link) {
        m->parent_link = 0;
        m->parent = PM_NODE_NONE;
    }
    memmove(&m->links[i], &m->links[i + 1], (m->n_links - i - 1) * sizeof(*m->links));
    m->n_links--;
}

void pm_link_close(struct pm_core *core, uint32_t id)
{
    if (!pm_link_find(core->membership, id))
        return;
    pm_emit(core, PM_ACTION_CLOSE)->link = id;
    pm_link_drop(core->membership, id);
}

uint32_t pm_link_dial(struct pm_core *core, uint32_t node, enum pm_link_role role,
                      const char *addresses, uint64_t timeout_ns)
{
    struct pm_membership *m = core->membership;
    uint32_t id = m->last_dial + 2;
    if (!pm_link_add(core, id, node, role))
        return 0;
    m->last_dial = id;
    struct pm_action *a = pm_emit(core, PM_ACTION_DIAL);
    a->link = id;
    a->node = node;
    a->timeout_ms = timeout_ns / PM_MS;
    pm_action_set_text(core, a, addresses);
    return id;
}

void pm_link_emit(struct pm_core *core, uint32_t id, const struct pm_writer *frame)
{
    if (frame->error) {
        core->out->error = frame->error;
        return;
    }
    struct pm_action *a = pm_emit(core, PM_ACTION_SEND);
    a->link = id;
    pm_action_share_data(core, a, frame->data, frame->len);
}

void pm_link_send(struct pm_core *core, uint32_t id, struct pm_writer *frame)
{
    pm_link_emit(core, id, frame);
    pm_writer_done(frame);
}

void pm_link_redirect(struct pm_core *core, uint32_t id, uint32_t node, const char *addresses)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_REDIRECT);
    pm_write_u32(&w, node);
    pm_write_str(&w, addresses);
    pm_link_send(core, id, &w);
    pm_link_close(core, id);
}

void pm_link_refuse(struct pm_core *core, uint32_t id)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_REFUSED);
    pm_write_str(&w, "this node was declared dead");
    pm_link_send(core, id, &w);
    pm_link_close(core, id);
}

void pm_links_refuse_strangers(struct pm_core *core)
{
    struct pm_membership *m = core->membership;
    for (uint32_t i = m->n_links; i > 0; i--) {
        const struct pm_link *link = &m->links[i - 1];
        if (link->role == PM_ROLE_STRANGER && pm_set_has(&m->dead, link->node))
            pm_link_refuse(core, link->id);
    }
}

// --- children ----------------------------------------------------------------------------------

uint32_t pm_child_index(const struct pm_membership *m, uint32_t node)
{
    return pm_lower_bound((struct pm_sorted){.list = m->child_ids, .n = m->n_children, .stride = sizeof(*m->child_ids)},
                          node);
}

struct pm_child *pm_child_find(struct pm_membership *m, uint32_t node)
{
    uint32_t i = pm_child_index(m, node);
    return i < m->n_children && m->child_ids[i] == node ? &m->children[i] : NULL;
}

static int reserve_children(struct pm_membership *m)
{
    if (m->n_children < m->cap_children)
        return 0;
    uint32_t cap = m->cap_children ? 2 * m->cap_children : 4;
    struct pm_child *children = reallocarray(m->children, cap, sizeof(*children));
    if (!children)
        return -ENOMEM;
    m->children = children;
    uint32_t *ids = reallocarray(m->child_ids, cap, sizeof(*ids));
    if (!ids)
        return -ENOMEM;
    m->child_ids = ids;
    m->cap_children = cap;
    return 0;
}

struct pm_child *pm_child_add(struct pm_core *core, uint32_t node)
{
    struct pm_membership *m = core->membership;
    if (reserve_children(m) < 0) {
        pm_out_of_memory(core);
        return NULL;
    }
    uint32_t i = pm_child_index(m, node);
    memmove(&m->children[i + 1], &m->children[i], (m->n_children - i) * sizeof(*m->children));
    memmove(&m->child_ids[i + 1], &m->child_ids[i], (m->n_children - i) * sizeof(*m->child_ids));
    m->n_children++;
    m->child_ids[i] = node;
    m->children[i] = (struct pm_child){.node = node};
    return &m->children[i];
}

void pm_child_remove(struct pm_membership *m, uint32_t node)
{
    uint32_t i = pm_child_index(m, node);
    if (i == m->n_children || m->child_ids[i] != node)
        return;
    free(m->children[i].addresses);
    pm_set_done(&m->children[i].subtree);
    m->n_children--;
    memmove(&m->children[i], &m->children[i + 1], (m->n_children - i) * sizeof(*m->children));
    memmove(&m->child_ids[i], &m->child_ids[i + 1], (m->n_children - i) * sizeof(*m->child_ids));
}

void pm_child_lost(struct pm_core *core, uint32_t node)
{
    struct pm_membership *m = core->membership;
    struct pm_child *c = pm_child_find(m, node);
    if (!c)
        return;
    struct pm_edge edge = {node, m->self, c->attach, false};
    pm_child_remove(m, node);
    pm_relay_edge(core, &edge);
    pm_on_child_gone(core, node);
}

void pm_child_refuse(struct pm_core *core, uint32_t node)
{
    struct pm_child *c = pm_child_find(core->membership, node);
    if (!c)
        return;
    pm_link_refuse(core, c->link);
    pm_child_lost(core, node);
}
