// SPDX-License-Identifier: Apache-2.0
//
// Stand-ins for what a shell does with each action of its core: shims and ranks, servers, srun, the lines on
// its stderr. See core_harness.h.
#include <string.h>

#include "tests/unit/core_harness_impl.h"

static void append(char **text, size_t *len, const char *line)
{
    size_t more = strlen(line) + 1;
    *text = realloc(*text, *len + more + 1);
    CHECK(*text);
    memcpy(*text + *len, line, more - 1);
    *len += more;
    (*text)[*len - 1] = '\n';
    (*text)[*len] = 0;
}

// --- local stand-ins -----------------------------------------------------------------------------

static void post_rank(struct harness *h, uint32_t slot, uint32_t local, enum pm_event_type type,
                      int32_t wait_status)
{
    const struct harness_rank *r = &h->slots[slot].ranks[local];
    struct pm_event e = {.type = type,
                         .local = local,
                         .epoch = r->epoch,
                         .pid = r->pid,
                         .incarnation = r->incarnation,
                         .wait_status = wait_status};
    harness_post(h, slot, &e, HARNESS_LOCAL_NS);
}

static void start_rank(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    struct harness_rank *r = &h->slots[slot].ranks[a->local];
    CHECK(!r->alive); // two incarnations at once
    *r = (struct harness_rank){.alive = true,
                               .rank = a->rank,
                               .epoch = a->epoch,
                               .incarnation = a->incarnation,
                               .pid = ++h->next_pid};
    post_rank(h, slot, a->local, PM_EVENT_RANK_STARTED, 0);
}

static void rank_ends(struct harness *h, uint32_t slot, uint32_t local, int32_t wait_status)
{
    struct harness_rank *r = &h->slots[slot].ranks[local];
    if (!r->alive)
        return;
    r->alive = false;
    post_rank(h, slot, local, PM_EVENT_RANK_EXITED, wait_status);
}

void harness_post_simple(struct harness *h, uint32_t slot, enum pm_event_type type, uint32_t epoch,
                         uint64_t delay_ns)
{
    struct pm_event e = {.type = type, .epoch = epoch, .port = (uint16_t)(20000 + h->seq % 10000)};
    harness_post(h, harness_node(h, slot), &e, delay_ns);
}

static void answer_fetch(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    char data[32];
    int len = snprintf(data, sizeof(data), "blob of %u", a->rank);
    struct pm_event e = {.type = PM_EVENT_FETCHED,
                         .epoch = a->epoch,
                         .id = a->id,
                         .len = (size_t)len,
                         .data = (const uint8_t *)data};
    harness_post(h, slot, &e, HARNESS_LOCAL_NS);
}

static void pause_ranks(struct harness *h, uint32_t slot, bool stopped)
{
    for (uint32_t i = 0; i < h->slots[slot].n_ranks; i++)
        h->slots[slot].ranks[i].stopped = stopped && h->slots[slot].ranks[i].alive;
}

// srun ends when every task has: on each node the agent is gone and the host not simply silent.
static void task_ends(struct harness *h, uint32_t slot)
{
    if (slot == h->config.nnodes || h->slots[slot].off)
        return;
    if (++h->n_over < h->config.nnodes || h->srun_over || !h->slots[h->config.nnodes].core)
        return;
    h->srun_over = true;
    harness_post_simple(h, h->config.nnodes, PM_EVENT_SRUN_EXITED, 0, HARNESS_MS);
}

void harness_slot_gone(struct harness *h, uint32_t slot)
{
    struct slot *s = &h->slots[slot];
    for (uint32_t i = 0; i < s->n_ranks; i++)
        s->ranks[i].alive = false;
    bool was = s->core != NULL;
    s->core = pm_core_free(s->core);
    s->timer_ns = UINT64_MAX;
    if (was)
        task_ends(h, slot);
}

static void process_ends(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    (void)a;
    h->slots[slot].ended = true;
    harness_net_end_all(h, slot, PM_LINK_CLOSED);
    harness_slot_gone(h, slot);
}

static void end_step(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    (void)slot;
    (void)a;
    for (uint32_t i = 0; i < h->config.nnodes; i++)
        if (h->slots[i].core)
            harness_kill(h, i);
    if (h->srun_over)
        return;
    h->srun_over = true;
    harness_post_simple(h, h->config.nnodes, PM_EVENT_SRUN_EXITED, 0, 10 * HARNESS_MS);
}

static void die(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    char line[PM_TEXT_CAP + 32];
    snprintf(line, sizeof(line), "%u: %s", slot, a->text ? a->text : "");
    append(&h->died, &h->died_len, line);
    harness_kill(h, harness_node(h, slot));
}

static void signal_rank(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    const struct harness_rank *r = &h->slots[slot].ranks[a->local];
    bool deadly = a->signal == 2 || a->signal == 9 || a->signal == 15;
    if (deadly && r->alive && r->epoch == a->epoch)
        rank_ends(h, slot, a->local, a->signal);
}

static void kill_rank(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    rank_ends(h, slot, a->local, 9);
    post_rank(h, slot, a->local, PM_EVENT_RANK_GONE, 0);
}

static void close_link(struct harness *h, uint32_t slot, const struct pm_action *a) { harness_net_close(h, slot, a->link); }

static void pause_or_resume(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    pause_ranks(h, slot, a->type == PM_ACTION_PAUSE);
}

static void prepare_server(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    harness_post_simple(h, slot, PM_EVENT_SERVER_READY, a->epoch, HARNESS_LOCAL_NS);
    harness_post_simple(h, slot, PM_EVENT_PORT, 0, HARNESS_MS);
}

static void notify(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    if (a->last)
        harness_post_simple(h, slot, PM_EVENT_NOTIFIED, a->epoch, HARNESS_LOCAL_NS);
}

static void ask_nodes(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    (void)a;
    harness_post_simple(h, slot, PM_EVENT_NODE_STATES, 0, HARNESS_MS);
}

static void ask_job_state(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    struct pm_event e = {.type = PM_EVENT_JOB_STATE, .job_state = (uint8_t)h->job_state};
    (void)slot;
    (void)a;
    harness_post(h, PM_NODE_COORDINATOR, &e, 10 * HARNESS_MS);
}

static void say(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    (void)slot;
    if (!a->verbose || h->options.verbose)
        append(&h->said, &h->said_len, a->text ? a->text : "");
}

static void say_bound(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    struct pm_reader r = pm_reader_of(a->data, a->len);
    struct pm_set nodes = {0};
    char line[256], set[64];
    (void)slot;
    pm_read_set(&r, &nodes, 64);
    (void)snprintf(line, sizeof(line), "%s: %s", pm_set_format(&nodes, set, sizeof(set)), a->text);
    append(&h->said, &h->said_len, line);
    pm_set_done(&nodes);
}

static void leave(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    h->exited = true;
    h->status = a->status;
    process_ends(h, slot, a);
}

// What is not here has no effect on the others.
static void (*const handlers[PM_ACTION_MAX])(struct harness *h, uint32_t slot, const struct pm_action *a) = {
    [PM_ACTION_DIAL] = harness_net_dial,
    [PM_ACTION_SEND] = harness_net_send,
    [PM_ACTION_CLOSE] = close_link,
    [PM_ACTION_PREPARE_SERVER] = prepare_server,
    [PM_ACTION_START_RANK] = start_rank,
    [PM_ACTION_SIGNAL_RANK] = signal_rank,
    [PM_ACTION_KILL_RANK] = kill_rank,
    [PM_ACTION_PAUSE] = pause_or_resume,
    [PM_ACTION_RESUME] = pause_or_resume,
    [PM_ACTION_NOTIFY] = notify,
    [PM_ACTION_FETCH] = answer_fetch,
    [PM_ACTION_END_AGENT] = process_ends,
    [PM_ACTION_DIE] = die,
    [PM_ACTION_ASK_NODES] = ask_nodes,
    [PM_ACTION_SAY] = say,
    [PM_ACTION_BOUND] = say_bound,
    [PM_ACTION_END_STEP] = end_step,
    [PM_ACTION_ASK_JOB_STATE] = ask_job_state,
    [PM_ACTION_EXIT] = leave,
};

void harness_act(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    if (a->type < PM_ACTION_MAX && handlers[a->type])
        handlers[a->type](h, slot, a);
}

// --- what tests do and ask ----------------------------------------------------------------------

void harness_rank_ends(struct harness *h, uint32_t node, uint32_t local, int32_t wait_status)
{
    rank_ends(h, harness_slot(h, node), local, wait_status);
}

void harness_all_ranks_end(struct harness *h)
{
    for (uint32_t i = 0; i < h->config.nnodes; i++)
        for (uint32_t k = 0; k < h->slots[i].n_ranks; k++)
            rank_ends(h, i, k, 0);
}

void harness_job_state(struct harness *h, enum pm_job_state state)
{
    h->job_state = state;
}
