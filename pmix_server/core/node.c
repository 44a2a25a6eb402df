// SPDX-License-Identifier: Apache-2.0
//
// The agent's side of supervision: life of the module, and what comes over the tree. Local facts
// are node_facts.c's, what is done about the wanted state is node_life.c's, and what goes up
// node_report.c's.
#include "pmix_server/core/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- life --------------------------------------------------------------------------------------

int pm_node_new(struct pm_core *core)
{
    struct pm_node *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    core->node = n;
    pm_report_init(&n->report);
    n->say_tokens = PM_SAY_BURST;
    n->cut = true;
    n->n_local = core->config.n_local;
    n->locals = calloc(n->n_local + 1u, sizeof(*n->locals));
    if (!n->locals)
        return -ENOMEM;
    bool map_tells = pm_options_ranks_move(core->config.options);
    for (uint32_t i = 0; i < n->n_local; i++)
        n->locals[i].rank = map_tells ? PM_RANK_NONE : core->config.local_ranks[i];
    n->dirty = true;
    return 0;
}

struct pm_node *pm_node_free(struct pm_node *n)
{
    if (!n)
        return NULL;
    pm_wanted_done(&n->wanted);
    pm_report_done(&n->report);
    pm_set_done(&n->notified);
    pm_set_done(&n->told_lost);
    while (n->n_children)
        pm_node_child_forget(n, n->children[0].node);
    free(n->children);
    for (uint32_t i = 0; i < n->n_say; i++)
        free(n->say[i].text);
    pm_bound_done(&n->bound);
    free(n->wanted_frame.data);
    free(n->map_frame.data);
    free(n->locals);
    free(n);
    return NULL;
}

static int blob_set(struct pm_blob *blob, const void *data, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    if (!copy)
        return -ENOMEM;
    if (len)
        memcpy(copy, data, len);
    free(blob->data);
    *blob = (struct pm_blob){.data = copy, .len = len};
    return 0;
}

static int clone_children(struct pm_node *c, const struct pm_node *n)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n->n_children; i++) {
        struct pm_failures failures = {.more = n->children[i].failures.more};
        for (uint32_t k = 0; rc == 0 && k < n->children[i].failures.n; k++)
            rc = pm_failures_add(&failures, &n->children[i].failures.list[k]);
        if (rc == 0)
            rc = pm_node_child_failures(c, n->children[i].node, &failures);
        pm_failures_clear(&failures);
    }
    return rc;
}

static int clone_say(struct pm_node *c, const struct pm_node *n)
{
    for (uint32_t i = 0; i < n->n_say; i++) {
        char *text = strdup(n->say[i].text);
        if (!text)
            return -ENOMEM;
        c->say[c->n_say] = n->say[i];
        c->say[c->n_say++].text = text;
    }
    return 0;
}

// Forgets what *c shares with the original after a plain copy of the struct.
static void clone_unshare(struct pm_node *c)
{
    c->wanted = (struct pm_wanted){0};
    c->wanted_frame = c->map_frame = (struct pm_blob){0};
    c->locals = NULL;
    c->notified = c->told_lost = (struct pm_set){0};
    pm_report_init(&c->report);
    c->report.joined = (struct pm_set){0};
    c->children = NULL;
    c->n_children = 0;
    c->n_say = 0;
    c->bound = (struct pm_bound_texts){0};
}

struct pm_node *pm_node_clone(const struct pm_node *n)
{
    struct pm_node *c = malloc(sizeof(*c));
    if (!c)
        return NULL;
    *c = *n;
    clone_unshare(c);
    c->locals = malloc((n->n_local + 1u) * sizeof(*c->locals));
    bool ok = c->locals != NULL;
    if (ok)
        memcpy(c->locals, n->locals, n->n_local * sizeof(*c->locals));
    ok = ok && pm_wanted_copy(&c->wanted, &n->wanted) == 0 &&
         pm_report_copy(&c->report, &n->report) == 0 &&
         pm_set_copy(&c->notified, &n->notified) == 0 &&
         pm_set_copy(&c->told_lost, &n->told_lost) == 0 &&
         blob_set(&c->wanted_frame, n->wanted_frame.data, n->wanted_frame.len) == 0 &&
         blob_set(&c->map_frame, n->map_frame.data, n->map_frame.len) == 0 &&
         clone_children(c, n) == 0 && clone_say(c, n) == 0 && pm_bound_copy(&c->bound, &n->bound) == 0;
    return ok ? c : pm_node_free(c);
}

static void digest_local(struct pm_digest *d, const struct pm_local *local, uint64_t now_ns)
{
    pm_digest_u64(d, local->rank);
    const bool flags[] = {local->shim_joined, local->shim_lost,  local->has_run,
                          local->was_started, local->over,       local->connected,
                          local->finalized,   local->termed,     local->killed,
                          local->left,        local->has_failure};
    pm_digest_bytes(d, flags, sizeof(flags));
    pm_digest_u64(d, (uint64_t)local->state << 32 | (uint32_t)local->wait_status);
    pm_digest_u64(d, (uint64_t)local->epoch << 32 | local->incarnation);
    pm_digest_time(d, local->linger_ns, now_ns);
    pm_digest_age(d, local->missed_ns, now_ns, PM_MISSED_NS + PM_LINGER_NS);
    bool dying = local->killed && local->state != PM_LOCAL_IDLE;
    pm_digest_age(d, dying ? local->killed_ns : 0, now_ns, PM_UNREAPABLE_NS + 2000 * PM_MS);
    if (local->has_failure)
        pm_digest_failure(d, &local->failure);
}

// Of the lines only that there are some, and how many.
static void digest_reports(const struct pm_node *n, uint64_t now_ns, struct pm_digest *d)
{
    pm_report_digest(&n->report, d);
    pm_digest_u64(d, (uint64_t)n->dirty << 3 | (uint64_t)n->joined_dirty << 2 |
                         (uint64_t)n->failures_dirty << 1 | n->cut);
    pm_digest_age(d, n->sent_ns, now_ns, PM_COALESCE_NS); // else the next report goes at once
    for (uint32_t c = 0; c < n->n_children; c++) {
        if (n->children[c].failures.n == 0)
            continue;
        pm_digest_u64(d, n->children[c].node);
        pm_failures_digest(&n->children[c].failures, d);
    }
    pm_digest_u64(d, (uint64_t)n->n_say << 32 | n->say_dropped);
    if (n->n_say || n->say_dropped)
        pm_digest_due(d, n->say_refill_ns, now_ns);
    pm_digest_u64(d, n->bound.n);
    if (n->bound.n)
        pm_digest_due(d, n->bound.due_ns, now_ns);
}

void pm_node_digest(const struct pm_node *n, uint64_t now_ns, struct pm_digest *d)
{
    pm_wanted_digest(&n->wanted, d);
    pm_digest_u64(d, (uint64_t)(n->map_frame.len != 0) << 1 | (n->wanted_frame.len != 0));
    for (uint32_t i = 0; i < n->n_local; i++)
        digest_local(d, &n->locals[i], now_ns);
    for (int i = 0; i < 2; i++)
        pm_digest_u64(d, (uint64_t)n->servers[i].epoch << 32 | n->servers[i].tries << 2 |
                             (uint32_t)n->servers[i].asked << 1 | n->servers[i].ready);
    pm_digest_u64(d, (uint64_t)n->servers[0].map_version << 32 | n->servers[1].map_version);
    pm_digest_u64(d, n->port != 0);
    if (n->has_server_failure)
        pm_digest_failure(d, &n->server_failure);
    pm_digest_u64(d, n->size.memory_mib << 16 | n->size.gpus);
    pm_digest_u64(d, (uint64_t)n->check << 33 | (uint64_t)n->checked << 1 | n->is_unfit);
    if (n->is_unfit)
        pm_digest_failure(d, &n->health_failure);
    pm_digest_u64(d, (uint64_t)n->halt << 32 | n->halt_epoch);
    bool waits = n->halt == PM_HALT_NOTIFYING || n->halt == PM_HALT_GRACE;
    pm_digest_due(d, waits ? n->halt_deadline_ns : 0, now_ns);
    pm_digest_set(d, &n->notified);
    pm_digest_set(d, &n->told_lost);
    pm_digest_u64(d, n->notice_serial);
    pm_digest_u64(d, (uint64_t)n->has_server_failure << 2 | (uint64_t)n->paused << 1 | n->ended);
    digest_reports(n, now_ns, d);
}

uint64_t pm_node_deadline_ns(const struct pm_node *n)
{
    uint64_t life = pm_node_life_deadline_ns(n);
    uint64_t report = pm_node_report_deadline_ns(n);
    return life < report ? life : report;
}

uint32_t pm_node_epoch(const struct pm_node *n)
{
    return n->wanted.epoch;
}

uint32_t pm_node_rank_of(const struct pm_node *n, uint32_t local)
{
    return local < n->n_local ? n->locals[local].rank : PM_RANK_NONE;
}

// --- events ------------------------------------------------------------------------------------

static void settle(struct pm_core *core)
{
    pm_node_drive(core);
    pm_node_check(core);
    pm_node_report(core);
}

// After the end nothing is done any more, but what becomes of the ranks still goes into the node's log.
static bool still_matters(const struct pm_node *n, const struct pm_event *event)
{
    return !n->ended || event->type == PM_EVENT_RANK_EXITED || event->type == PM_EVENT_RANK_GONE;
}

void pm_node_event(struct pm_core *core, const struct pm_event *event)
{
    if (!still_matters(core->node, event))
        return;
    pm_node_fact(core, event);
    if (!core->node->ended)
        settle(core);
}

void pm_node_fence_lost(struct pm_core *core, uint32_t epoch, uint32_t rank)
{
    if (!core->node->ended && pm_node_fact_fence_lost(core, epoch, rank))
        settle(core);
}

// --- the tree ----------------------------------------------------------------------------------

static void forward(struct pm_core *core, const struct pm_blob *blob)
{
    struct pm_writer w = {.data = blob->data, .len = blob->len, .cap = blob->len};
    if (blob->data)
        pm_send_children(core, &w);
}

// Keeps the frame as it came, its type in front, for children of today and tomorrow.
static void keep_frame(struct pm_core *core, struct pm_blob *blob, uint8_t type,
                       const struct pm_reader *body)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, type);
    pm_write_raw(&w, body->at, body->left);
    if (w.error || blob_set(blob, w.data, w.len) < 0)
        core->out->error = -ENOMEM;
    pm_writer_done(&w);
    forward(core, blob);
}

static void frame_wanted(struct pm_core *core, struct pm_reader *r)
{
    struct pm_node *n = core->node;
    const struct pm_reader body = *r;
    struct pm_wanted wanted;
    pm_read_wanted(r, &wanted, core->config.nnodes, core->config.ntasks);
    if (pm_reader_end(r) < 0 || wanted.launch != core->config.launch)
        r->error = -EBADMSG;
    if (r->error || wanted.version <= n->wanted.version || wanted.epoch < n->wanted.epoch) {
        pm_wanted_done(&wanted);
        return;
    }
    bool new_epoch = wanted.epoch > n->wanted.epoch;
    pm_wanted_done(&n->wanted);
    n->wanted = wanted;
    if (new_epoch)
        pm_node_enter_epoch(core, wanted.epoch);
    keep_frame(core, &n->wanted_frame, PM_FRAME_WANTED, &body);
    settle(core);
}

static void frame_map(struct pm_core *core, struct pm_reader *r)
{
    const struct pm_reader body = *r;
    struct pm_world shape = {.map_version = pm_read_u32(r)};
    shape.nnodes = pm_read_u32(r);
    shape.nranks = pm_read_u32(r);
    bool whole = shape.nranks == core->config.ntasks;
    bool part = pm_options_ranks_move(core->config.options) && shape.nranks && shape.nranks < core->config.ntasks;
    if (shape.nnodes != core->config.nnodes || (!whole && !part))
        r->error = -EBADMSG;
    if (r->error || (core->world_known && shape.map_version <= core->world.map_version))
        return;
    struct pm_world world;
    struct pm_map_fault fault;
    int rc = pm_world_from_bytes(&shape, r->at, r->left, &world, &fault);
    if (rc == -ENOMEM)
        core->out->error = -ENOMEM;
    else if (rc != 0)
        r->error = -EBADMSG;
    if (rc != 0)
        return;
    pm_world_release(&core->world);
    core->world = world;
    core->world_known = true;
    pm_node_take_ranks(core);
    keep_frame(core, &core->node->map_frame, PM_FRAME_MAP, &body);
    settle(core);
}

static void frame_report(struct pm_core *core, uint32_t from, struct pm_reader *r)
{
    struct pm_node *n = core->node;
    struct pm_report report;
    pm_read_report(r, &report, core->config.nnodes, core->config.ntasks);
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG;
    bool changed = false;
    uint64_t before = pm_set_count(&n->report.joined);
    if (!r->error && (pm_report_union(&n->report, &report, &changed) < 0 ||
                      pm_node_child_failures(n, from, &report.failures) < 0))
        core->out->error = -ENOMEM;
    n->dirty |= changed;
    n->joined_dirty |= pm_set_count(&n->report.joined) != before;
    pm_report_done(&report);
    if (!r->error)
        settle(core);
}

static void frame_say(struct pm_core *core, struct pm_reader *r)
{
    char text[PM_SAY_CAP];
    uint32_t node = pm_read_u32(r);
    bool verbose = pm_read_u8(r) != 0;
    pm_read_str(r, text, sizeof(text));
    if (pm_reader_end(r) < 0)
        r->error = -EBADMSG;
    else
        pm_node_say_from(core, node, verbose, text);
}

static void frame_bound(struct pm_core *core, struct pm_reader *r)
{
    struct pm_set nodes;
    char *text;
    pm_bound_read(r, core->config.nnodes, &nodes, &text);
    if (text)
        pm_node_bound(core, &nodes, text);
    pm_set_done(&nodes);
    free(text);
}

void pm_node_frame(struct pm_core *core, uint32_t link, uint32_t from, uint8_t type,
                   struct pm_reader *r)
{
    (void)link;
    if (core->node->ended)
        return;
    switch (type) {
    case PM_FRAME_WANTED:
        frame_wanted(core, r);
        break;
    case PM_FRAME_MAP:
        frame_map(core, r);
        break;
    case PM_FRAME_REPORT:
        frame_report(core, from, r);
        break;
    case PM_FRAME_SAY:
        frame_say(core, r);
        break;
    case PM_FRAME_BOUND:
        frame_bound(core, r);
        break;
    default:
        r->error = -EBADMSG;
    }
}

void pm_node_on_parent(struct pm_core *core)
{
    if (core->node->ended)
        return;
    core->node->cut = false;
    core->node->dirty = true;
    core->node->sent_ns = 0;
    pm_node_report(core);
    pm_node_say_flush(core);
    pm_node_bound_flush(core);
}

void pm_node_on_child(struct pm_core *core, uint32_t child)
{
    const struct pm_blob *blobs[] = {&core->node->map_frame, &core->node->wanted_frame};
    for (size_t i = 0; i < 2; i++) {
        struct pm_writer w = {.data = blobs[i]->data, .len = blobs[i]->len, .cap = blobs[i]->len};
        if (blobs[i]->len)
            (void)pm_send_child(core, child, &w);
    }
}

void pm_node_on_child_gone(struct pm_core *core, uint32_t child)
{
    pm_node_child_forget(core->node, child);
}

void pm_node_on_lease(struct pm_core *core, bool held)
{
    struct pm_node *n = core->node;
    if (n->ended || n->paused == !held)
        return;
    n->paused = !held;
    pm_emit(core, held ? PM_ACTION_RESUME : PM_ACTION_PAUSE);
    struct pm_log *log = pm_log_record(core, held ? "resume" : "pause");
    log->node = core->config.node;
    log->epoch = n->wanted.epoch;
    log->lease_end_ns = held ? 0 : pm_lease_end_ns(core);
    settle(core);
}

void pm_node_on_first_lease(struct pm_core *core)
{
    if (!core->node->ended)
        settle(core);
}

void pm_node_on_outcast(struct pm_core *core, const char *why)
{
    struct pm_node *n = core->node;
    if (n->ended)
        return;
    n->ended = true;
    pm_action_set_text(core, pm_emit(core, PM_ACTION_DIE), why);
}
