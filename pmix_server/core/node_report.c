// SPDX-License-Identifier: Apache-2.0
//
// What an agent tells its parent: the record of its subtree, and lines for srun's stderr.
//
// A record goes at once when it is complete (each mark is reached by all nodes below or by none) or
// when the last one is some milliseconds old; otherwise it waits for the rest, so that 16k nodes
// that reach a mark one by one do not make 16k frames. Lines are a convenience: they are limited in
// rate and number, and what is dropped is counted and said.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/node.h"

// --- facts of this node ------------------------------------------------------------------------

static bool never_ran(const struct pm_node *n, const struct pm_local *local)
{
    return !local->has_run || local->epoch != n->wanted.epoch || local->rank == PM_RANK_NONE;
}

// Needs no decision any more?
static bool local_settled(const struct pm_node *n, const struct pm_local *local)
{
    bool drains = n->wanted.phase == PM_PHASE_DRAIN, user_stop = drains || n->report.user_signal;
    if (never_ran(n, local))
        return drains;
    if (drains && local->shim_lost)
        return true; // its rank has died with it, and nobody is left to say so
    bool waits = !drains && local->incarnation < pm_wanted_incarnation(&n->wanted, local->rank);
    if (!local->over || local->linger_ns || waits)
        return false;
    return user_stop || (local->wait_status == 0 && !local->has_failure) ||
           pm_set_has(&n->wanted.dead, local->rank);
}

// Will it never take part in anything again, without a decision that says so? Others must not wait for it.
static bool local_gone(const struct pm_node *n, const struct pm_local *local)
{
    bool drains = n->wanted.phase == PM_PHASE_DRAIN;
    if (local->rank == PM_RANK_NONE)
        return false;
    if (never_ran(n, local) || local->shim_lost)
        return drains;
    return local->left || (drains && local->over && !local->finalized);
}

static bool local_started(const struct pm_node *n, const struct pm_local *local)
{
    return !never_ran(n, local) && local->was_started;
}

static bool local_connected(const struct pm_node *n, const struct pm_local *local)
{
    return !never_ran(n, local) && local->connected;
}

static bool local_halted(const struct pm_node *n, const struct pm_local *local)
{
    (void)local;
    return n->halt == PM_HALT_DONE && n->halt_epoch == n->wanted.epoch;
}

static bool (*const reached[PM_MARK_MAX])(const struct pm_node *n, const struct pm_local *local) = {
    [PM_MARK_STARTED] = local_started,
    [PM_MARK_CONNECTED] = local_connected,
    [PM_MARK_ENDED] = local_settled,
    [PM_MARK_HALTED] = local_halted,
};

// By all local ranks; where there is none, by the node alone.
static bool all_reached(const struct pm_node *n, enum pm_mark mark)
{
    bool any = false;
    if (n->wanted.phase == PM_PHASE_FORM)
        return false;
    for (uint32_t i = 0; i < n->n_local; i++) {
        if (n->locals[i].rank == PM_RANK_NONE)
            continue;
        any = true;
        if (!reached[mark](n, &n->locals[i]))
            return false;
    }
    return any || mark != PM_MARK_HALTED || local_halted(n, NULL);
}

bool pm_node_all_joined(const struct pm_node *n)
{
    for (uint32_t i = 0; i < n->n_local; i++)
        if (!n->locals[i].shim_joined)
            return false;
    return true;
}

static void add_to(struct pm_core *core, struct pm_set *set, uint32_t v)
{
    struct pm_node *n = core->node;
    if (pm_set_has(set, v))
        return;
    if (pm_set_add(set, v) < 0)
        core->out->error = -ENOMEM;
    n->dirty = true;
}

static void report_map(struct pm_core *core)
{
    struct pm_node *n = core->node;
    for (uint32_t i = 0; i < n->n_local; i++)
        if (pm_map_add(&n->report.map, core->config.local_ranks[i], 1, core->config.node) < 0)
            core->out->error = -ENOMEM;
    struct pm_span own = {core->config.node, core->config.node};
    const struct pm_set self = {.spans = &own, .n = 1};
    if (pm_places_add(&n->report.places, core->config.place, &self, &n->dirty) < 0)
        core->out->error = -ENOMEM;
    if (core->config.options->spares &&
        pm_sizes_add(&n->report.sizes, &n->size, core->config.node, &n->dirty) < 0)
        core->out->error = -ENOMEM;
    const char *nodelist = core->config.nodelist;
    if (!nodelist || !nodelist[0] || n->report.nodelist)
        return;
    n->report.nodelist = strdup(nodelist);
    if (!n->report.nodelist)
        core->out->error = -ENOMEM;
}

static void report_joined(struct pm_core *core)
{
    struct pm_node *n = core->node;
    if (pm_set_has(&n->report.joined, core->config.node) || !pm_node_all_joined(n))
        return;
    add_to(core, &n->report.joined, core->config.node);
    n->joined_dirty = true;
    report_map(core);
}

void pm_node_refuse(struct pm_core *core, const char *why)
{
    struct pm_report *report = &core->node->report;
    if (core->config.node >= report->cannot_node)
        return;
    report->cannot_node = core->config.node;
    pm_text_copy(report->cannot_text, sizeof(report->cannot_text), why);
    core->node->dirty = true;
}

// A rank that was started again alone runs again.
static void report_again(struct pm_core *core, const struct pm_local *local)
{
    struct pm_node *n = core->node;
    const struct pm_again *again = pm_wanted_again_of(&n->wanted, local->rank);
    if (again && again->serial > n->wanted.again_known && local_started(n, local) &&
        local->incarnation == pm_wanted_incarnation(&n->wanted, local->rank))
        add_to(core, &n->report.again, again->serial);
}

static void report_epoch(struct pm_core *core)
{
    struct pm_node *n = core->node;
    if (n->report.epoch < n->wanted.epoch) {
        pm_report_next_epoch(&n->report, n->wanted.epoch);
        n->dirty = true;
    }
    if (n->report.epoch != n->wanted.epoch)
        return; // a child is ahead: it has heard of the next epoch before us
    for (int mark = 0; mark < PM_MARK_MAX; mark++)
        if (all_reached(n, (enum pm_mark)mark))
            add_to(core, &n->report.marks[mark], core->config.node);
    for (uint32_t i = 0; i < n->n_local; i++) {
        const struct pm_local *local = &n->locals[i];
        if (local_gone(n, local))
            add_to(core, &n->report.left, local->rank);
        report_again(core, local);
        if (!n->report.any_ended && !never_ran(n, local) && local_settled(n, local))
            n->report.any_ended = n->dirty = true;
    }
}

// What the coordinator has learned once and for all leaves the record when the wanted state shows that it
// is there.
static void report_forget_known(struct pm_core *core)
{
    struct pm_node *n = core->node;
    struct pm_span serials = {.last = n->wanted.again_known};
    const struct pm_set known = {.spans = &serials, .n = 1};
    if (pm_set_subtract(&n->report.again, &known) < 0)
        core->out->error = -ENOMEM;
    if (n->wanted.map_version)
        pm_map_clear(&n->report.map);
    if (n->wanted.map_version) {
        pm_places_done(&n->report.places);
        pm_places_done(&n->report.sizes);
    }
    if (n->wanted.have_nodelist && n->report.nodelist) {
        free(n->report.nodelist);
        n->report.nodelist = NULL;
    }
}

// --- failures ----------------------------------------------------------------------------------

static int add_unhandled(struct pm_node *n, struct pm_failures *all,
                         const struct pm_failure *failure)
{
    if (pm_wanted_handles(&n->wanted, failure))
        return 0;
    return pm_failures_add(all, failure);
}

static int merge_failures(struct pm_node *n, struct pm_failures *all)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n->n_local; i++)
        if (n->locals[i].has_failure)
            rc = add_unhandled(n, all, &n->locals[i].failure);
    if (rc == 0 && n->has_server_failure)
        rc = add_unhandled(n, all, &n->server_failure);
    if (rc == 0 && n->is_unfit)
        rc = add_unhandled(n, all, &n->health_failure);
    for (uint32_t c = 0; rc == 0 && c < n->n_children; c++) {
        const struct pm_failures *list = &n->children[c].failures;
        for (uint32_t i = 0; rc == 0 && i < list->n; i++)
            rc = add_unhandled(n, all, &list->list[i]);
        all->more += list->n ? list->more : 0;
    }
    return rc;
}

static void report_failures(struct pm_core *core)
{
    struct pm_node *n = core->node;
    struct pm_failures all = {0};
    if (merge_failures(n, &all) < 0)
        core->out->error = -ENOMEM;
    if (pm_failures_equal(&all, &n->report.failures)) {
        pm_failures_clear(&all);
        return;
    }
    n->failures_dirty |= !n->report.failures.n;
    pm_failures_clear(&n->report.failures);
    n->report.failures = all;
    n->dirty = true;
}

int pm_node_child_failures(struct pm_node *n, uint32_t from, struct pm_failures *failures)
{
    uint32_t i = 0;
    while (i < n->n_children && n->children[i].node != from)
        i++;
    if (i == n->n_children) {
        if (!failures->n)
            return 0;
        struct pm_child_failures *grown =
            realloc(n->children, (n->n_children + 1u) * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        n->children = grown;
        n->children[n->n_children++] = (struct pm_child_failures){.node = from};
    }
    pm_failures_clear(&n->children[i].failures);
    n->children[i].failures = *failures;
    *failures = (struct pm_failures){0};
    return 0;
}

void pm_node_child_forget(struct pm_node *n, uint32_t child)
{
    for (uint32_t i = 0; i < n->n_children; i++) {
        if (n->children[i].node != child)
            continue;
        pm_failures_clear(&n->children[i].failures);
        n->children[i] = n->children[--n->n_children];
        return;
    }
}

// --- sending -----------------------------------------------------------------------------------

// No mark is reached by some of the subtree and not yet by others.
static bool report_complete(const struct pm_node *n)
{
    for (int mark = 0; mark < PM_MARK_MAX; mark++)
        if (!pm_set_empty(&n->report.marks[mark]) &&
            !pm_set_covers(&n->report.marks[mark], &n->report.joined))
            return false;
    return !n->joined_dirty;
}

static bool report_due(const struct pm_core *core)
{
    const struct pm_node *n = core->node;
    return n->dirty && !n->cut &&
           (n->failures_dirty || !n->sent_ns || core->now_ns >= n->sent_ns + PM_COALESCE_NS || report_complete(n));
}

static void report_send(struct pm_core *core)
{
    struct pm_node *n = core->node;
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_REPORT);
    pm_write_report(&w, &n->report);
    if (w.error)
        core->out->error = w.error;
    else if (pm_send_parent(core, &w)) {
        n->dirty = n->joined_dirty = n->failures_dirty = n->cut = false;
        n->sent_ns = core->now_ns;
    } else {
        n->cut = true;
    }
    pm_writer_done(&w);
}

void pm_node_report(struct pm_core *core)
{
    struct pm_node *n = core->node;
    if (n->ended)
        return;
    report_joined(core);
    report_epoch(core);
    report_failures(core);
    report_forget_known(core);
    if (report_due(core))
        report_send(core);
}

uint64_t pm_node_report_deadline_ns(const struct pm_node *n)
{
    uint64_t due = UINT64_MAX;
    if (n->cut || n->ended)
        return due;
    if (n->dirty)
        due = n->sent_ns + PM_COALESCE_NS;
    if ((n->n_say || n->say_dropped) && n->say_refill_ns < due)
        due = n->say_refill_ns;
    if (n->bound.n && n->bound.due_ns < due)
        due = n->bound.due_ns;
    return due;
}

// --- lines -------------------------------------------------------------------------------------

static void say_refill(struct pm_core *core)
{
    struct pm_node *n = core->node;
    const uint64_t step_ns = 1000 * PM_MS / PM_SAY_PER_S;
    if (core->now_ns < n->say_refill_ns)
        return;
    uint64_t steps = 1 + (core->now_ns - n->say_refill_ns) / step_ns;
    uint64_t tokens = n->say_tokens + steps;
    n->say_tokens = tokens > PM_SAY_BURST ? PM_SAY_BURST : (uint32_t)tokens;
    n->say_refill_ns = core->now_ns + step_ns;
}

static bool say_send(struct pm_core *core, const struct pm_say_line *line)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_SAY);
    pm_write_u32(&w, line->node);
    pm_write_u8(&w, line->verbose);
    pm_write_str(&w, line->text);
    bool sent = !w.error && pm_send_parent(core, &w);
    pm_writer_done(&w);
    core->node->cut = !sent;
    return sent;
}

static bool say_send_dropped(struct pm_core *core)
{
    struct pm_node *n = core->node;
    char text[64];
    (void)snprintf(text, sizeof(text), "pm-supervise: %u lines dropped here", n->say_dropped);
    const struct pm_say_line line = {.node = core->config.node, .text = text};
    if (!say_send(core, &line))
        return false;
    n->say_dropped = 0;
    return true;
}

void pm_node_say_flush(struct pm_core *core)
{
    struct pm_node *n = core->node;
    say_refill(core);
    uint32_t sent = 0;
    while (sent < n->n_say && n->say_tokens > 0) {
        if (!say_send(core, &n->say[sent]))
            break;
        n->say_tokens--;
        free(n->say[sent++].text);
    }
    n->n_say -= sent;
    memmove(n->say, n->say + sent, n->n_say * sizeof(n->say[0]));
    if (n->say_dropped && !n->n_say && n->say_tokens > 0 && say_send_dropped(core))
        n->say_tokens--;
}

void pm_node_say_from(struct pm_core *core, uint32_t node, bool verbose, const char *text)
{
    struct pm_node *n = core->node;
    char *copy = n->n_say < PM_SAY_QUEUE_MAX ? strndup(text, PM_SAY_CAP - 1) : NULL;
    if (copy)
        n->say[n->n_say++] = (struct pm_say_line){.node = node, .verbose = verbose, .text = copy};
    else
        n->say_dropped++;
    pm_node_say_flush(core);
}

void pm_node_say(struct pm_core *core, bool verbose, const char *text)
{
    pm_node_say_from(core, core->config.node, verbose, text);
}

void pm_node_bound_flush(struct pm_core *core)
{
    if (!pm_bound_flush(core, &core->node->bound))
        core->node->cut = true;
}

void pm_node_bound(struct pm_core *core, const struct pm_set *nodes, const char *text)
{
    if (pm_bound_add(&core->node->bound, nodes, text, core->now_ns) < 0)
        core->out->error = -ENOMEM;
}
