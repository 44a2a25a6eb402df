// SPDX-License-Identifier: Apache-2.0
//
// The harness: a queue of things that will happen, in order of time and then of their making. See
// core_harness.h.
#include "tests/unit/core_harness.h"

#include <string.h>

#include "tests/unit/core_harness_impl.h"

#define START_NS (1000 * HARNESS_MS)

// --- queue -------------------------------------------------------------------------------------

static bool before(const struct heap_entry *a, const struct heap_entry *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->seq < b->seq;
}

void harness_push(struct harness *h, struct item *item, uint64_t at_ns)
{
    item->at_ns = at_ns;
    struct heap_entry entry = {at_ns, ++h->seq, item};
    item->next = NULL;
    if (h->n_heap == h->cap_heap) {
        h->cap_heap = h->cap_heap ? 2 * h->cap_heap : 256;
        h->heap = reallocarray(h->heap, h->cap_heap, sizeof(*h->heap));
        CHECK(h->heap);
    }
    size_t i = h->n_heap++;
    for (; i > 0 && before(&entry, &h->heap[(i - 1) / 2]); i = (i - 1) / 2)
        h->heap[i] = h->heap[(i - 1) / 2];
    h->heap[i] = entry;
}

static struct item *pop(struct harness *h)
{
    struct item *first = h->heap[0].item;
    struct heap_entry last = h->heap[--h->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n_heap)
            break;
        if (child + 1 < h->n_heap && before(&h->heap[child + 1], &h->heap[child]))
            child++;
        if (!before(&h->heap[child], &last))
            break;
        h->heap[i] = h->heap[child];
        i = child;
    }
    h->heap[i] = last;
    return first;
}

struct item *harness_item(enum item_kind kind, uint32_t slot)
{
    struct item *item = calloc(1, sizeof(*item));
    CHECK(item);
    item->kind = kind;
    item->slot = slot;
    return item;
}

void harness_item_free(struct item *item)
{
    free(item->data);
    free(item->text);
    pm_set_done(&item->set);
    free(item);
}

uint32_t harness_slot(const struct harness *h, uint32_t node)
{
    CHECK(node == PM_NODE_COORDINATOR || node < h->config.nnodes);
    return node == PM_NODE_COORDINATOR ? h->config.nnodes : node;
}

uint32_t harness_node(const struct harness *h, uint32_t slot)
{
    return slot == h->config.nnodes ? PM_NODE_COORDINATOR : slot;
}

static uint64_t rate_of(const struct harness *h, uint32_t slot)
{
    return h->config.rates ? h->config.rates[slot] : 1000;
}

uint64_t harness_local_ns(const struct harness *h, uint32_t slot, uint64_t real_ns)
{
    return real_ns * rate_of(h, slot) / 1000;
}

uint64_t harness_real_ns(const struct harness *h, uint32_t slot, uint64_t local_ns)
{
    uint64_t rate = rate_of(h, slot);
    return local_ns > UINT64_MAX / 1000 - rate ? local_ns : (local_ns * 1000 + rate - 1) / rate;
}

void harness_post(struct harness *h, uint32_t node, const struct pm_event *event, uint64_t delay_ns)
{
    struct item *item = harness_item(ITEM_EVENT, harness_slot(h, node));
    item->event = *event;
    if (event->data) {
        item->data = malloc(event->len + 1);
        CHECK(item->data);
        memcpy(item->data, event->data, event->len);
        item->event.data = item->data;
    }
    if (event->text)
        item->event.text = item->text = strdup(event->text);
    if (event->set) {
        CHECK(pm_set_copy(&item->set, event->set) == 0);
        item->event.set = &item->set;
    }
    harness_push(h, item, h->now_ns + delay_ns);
}

// --- steps -------------------------------------------------------------------------------------

static const char *const action_names[PM_ACTION_MAX] = {
    "none",       "dial",         "send",        "close",      "prepare-server",
    "start-rank", "signal-rank",  "kill-rank",   "pause",      "resume",
    "set-lease",  "notify",       "drop-server", "fence-done", "modex-done",
    "fetch",      "fetch-cancel", "end-shim",    "end-agent",  "die",
    "node-log",   "say",          "log",         "end-step",   "fence-off",
    "await-output", "ask-job-state", "exit",
};

static void trace(struct harness *h, uint32_t slot, const struct pm_action *a)
{
    fprintf(stderr, "[%10.3f] %d %s", (double)h->now_ns / 1e6, (int)harness_node(h, slot),
            action_names[a->type]);
    if (a->type == PM_ACTION_DIAL)
        fprintf(stderr, " link %u node %d", a->link, (int)a->node);
    if (a->type == PM_ACTION_SEND && a->len > 0)
        fprintf(stderr, " link %u type %02x len %zu", a->link, a->data[0], a->len);
    if (a->type == PM_ACTION_CLOSE)
        fprintf(stderr, " link %u", a->link);
    if (a->log)
        fprintf(stderr, " %s %s -> %s node %d %s", a->log->kind, a->log->from ? a->log->from : "",
                a->log->to ? a->log->to : "", (int)a->log->node, a->log->reason);
    fprintf(stderr, " epoch %u %s\n", a->epoch, a->text ? a->text : "");
}

static void arm(struct harness *h, uint32_t slot)
{
    struct slot *s = &h->slots[slot];
    uint64_t due = harness_real_ns(h, slot, pm_core_deadline_ns(s->core));
    if (due < h->now_ns)
        due = h->now_ns;
    if (due == s->timer_ns)
        return;
    s->timer_ns = due;
    if (due != UINT64_MAX)
        harness_push(h, harness_item(ITEM_TIMER, slot), due);
}

void harness_step_core(struct harness *h, uint32_t slot, struct pm_event *event)
{
    struct slot *s = &h->slots[slot];
    struct pm_actions actions = {0};
    event->now_ns = harness_local_ns(h, slot, h->now_ns);
    h->stats.steps++;
    CHECK(pm_core_step(s->core, event, &actions) == 0);
    for (size_t i = 0; i < actions.n && s->core; i++) {
        const struct pm_action *a = &actions.list[i];
        h->stats.actions[a->type]++;
        if (h->config.trace)
            trace(h, slot, a);
        if (!h->config.hook || !h->config.hook(h, h->config.ctx, harness_node(h, slot), a))
            harness_act(h, slot, a);
    }
    pm_actions_done(&actions);
    if (s->core)
        arm(h, slot);
}

static void keep_for_later(struct slot *s, struct item *item)
{
    item->next = NULL;
    if (s->backlog_tail)
        s->backlog_tail->next = item;
    else
        s->backlog = item;
    s->backlog_tail = item;
}

static void count_frame(struct harness *h, const struct item *item)
{
    h->stats.frames++;
    h->stats.bytes += item->event.len;
    h->stats.coordinator_frames += item->slot == h->config.nnodes;
}

static void deliver(struct harness *h, struct item *item)
{
    struct slot *s = &h->slots[item->slot];
    bool timer = item->kind == ITEM_TIMER;
    if (item->kind == ITEM_START) {
        if (!s->core && !s->killed)
            harness_start_agent(h, item->slot);
    } else if (item->kind == ITEM_DIAL) {
        harness_net_dial_arrives(h, item);
    } else if (s->core && !(timer && s->timer_ns != item->at_ns && s->timer_ns > h->now_ns)) {
        if (s->paused) {
            keep_for_later(s, item);
            return;
        }
        if (item->wire && !harness_net_passes(h, item))
            return;
        if (timer) {
            item->event = (struct pm_event){.type = PM_EVENT_TIMER};
            s->timer_ns = 0;
        }
        if (item->event.type == PM_EVENT_FRAME)
            count_frame(h, item);
        harness_step_core(h, item->slot, &item->event);
    }
    harness_item_free(item);
}

bool harness_step(struct harness *h)
{
    if (h->n_heap == 0)
        return false;
    struct item *item = pop(h);
    CHECK(item->at_ns >= h->now_ns);
    h->now_ns = item->at_ns;
    deliver(h, item);
    return true;
}

void harness_run_ms(struct harness *h, uint64_t ms)
{
    uint64_t until = h->now_ns + ms * HARNESS_MS;
    while (h->n_heap > 0 && h->heap[0].at_ns <= until)
        (void)harness_step(h);
    h->now_ns = until;
}

bool harness_run_until(struct harness *h, bool (*pred)(struct harness *h, void *arg), void *arg,
                       uint64_t max_ms)
{
    uint64_t until = h->now_ns + max_ms * HARNESS_MS;
    while (!pred(h, arg)) {
        if (h->n_heap == 0 || h->heap[0].at_ns > until) {
            h->now_ns = until;
            return false;
        }
        (void)harness_step(h);
    }
    return true;
}

static bool state_is(struct harness *h, void *arg)
{
    struct pm_core *core = h->slots[h->config.nnodes].core;
    return core && pm_core_state(core) == *(enum pm_state *)arg;
}

bool harness_run_until_state(struct harness *h, enum pm_state state, uint64_t max_ms)
{
    return harness_run_until(h, state_is, &state, max_ms);
}

static bool has_exited(struct harness *h, void *arg)
{
    (void)arg;
    return h->exited;
}

bool harness_run_until_exit(struct harness *h, uint64_t max_ms)
{
    return harness_run_until(h, has_exited, NULL, max_ms);
}

// --- life --------------------------------------------------------------------------------------

void harness_default_options(struct pm_options *o)
{
    *o = (struct pm_options){
        .mode = PM_MODE_WORLD,
        .max_restarts = 3,
        .max_node_losses = PM_UNLIMITED,
        .min_uptime_ms = 5000,
        .grace_ms = 5000,
        .node_timeout_ms = 10000,
        .orphan_timeout_ms = 60000,
        .start_timeout_ms = 120000,
        .join_window_ms = 15000,
        .fanout = 32,
    };
    o->fatal.exits[93 / 64] = 1ull << 93 % 64;
}

struct harness *harness_new(const struct harness_config *config)
{
    struct harness *h = calloc(1, sizeof(*h));
    CHECK(h && config->nnodes > 0);
    h->config = *config;
    if (config->options)
        h->options = *config->options;
    else
        harness_default_options(&h->options);
    h->now_ns = START_NS;
    h->job_state = PM_JOB_RUNNING;
    h->n = config->nnodes + 1;
    h->slots = calloc(h->n, sizeof(*h->slots));
    CHECK(h->slots);
    struct pm_core_config c = {
        .node = PM_NODE_COORDINATOR,
        .launch = 1,
        .options = &h->options,
        .wait_ms = config->wait_ms,
        .isolation_floor = config->isolation_floor,
        .fence_piece = config->fence_piece,
    };
    CHECK(pm_core_new(&c, harness_local_ns(h, config->nnodes, h->now_ns), &h->slots[config->nnodes].core) == 0);
    arm(h, config->nnodes);
    return h;
}

void harness_free(struct harness *h)
{
    for (uint32_t i = 0; i < h->n; i++)
        harness_resume(h, harness_node(h, i)); // the backlog goes back into the heap
    for (size_t i = 0; i < h->n_heap; i++)
        harness_item_free(h->heap[i].item);
    for (uint32_t i = 0; i < h->n; i++) {
        pm_core_free(h->slots[i].core);
        free(h->slots[i].wires);
        free(h->slots[i].ranks);
    }
    for (size_t i = 0; i < h->n_wires; i++) {
        for (int end = 0; end < 2; end++)
            for (struct item *item = h->wires[i]->held[end], *next; item; item = next) {
                next = item->next;
                harness_item_free(item);
            }
        free(h->wires[i]);
    }
    free(h->wires);
    free(h->heap);
    free(h->slots);
    free(h->one_way);
    free(h->said);
    free(h->died);
    free(h);
}

static void launch(struct harness *h)
{
    struct pm_event e = {.type = PM_EVENT_LAUNCHED,
                         .job = 7,
                         .step = 0,
                         .nnodes = h->config.nnodes,
                         .ntasks = h->config.nnodes * h->config.ranks_per_node};
    harness_post(h, PM_NODE_COORDINATOR, &e, 0);
}

void harness_launch(struct harness *h, uint64_t stagger_ns)
{
    launch(h);
    for (uint32_t i = 0; i < h->config.nnodes; i++)
        harness_push(h, harness_item(ITEM_START, i), h->now_ns + i * stagger_ns);
}

void harness_launch_without(struct harness *h, const struct pm_set *late)
{
    launch(h);
    for (uint32_t i = 0; i < h->config.nnodes; i++)
        if (!pm_set_has(late, i))
            harness_push(h, harness_item(ITEM_START, i), h->now_ns);
}

void harness_start_agent(struct harness *h, uint32_t node)
{
    struct slot *s = &h->slots[harness_slot(h, node)];
    CHECK(!s->core && node != PM_NODE_COORDINATOR);
    uint32_t per_node = h->config.ranks_per_node;
    uint32_t *ranks = calloc(per_node + 1ul, sizeof(*ranks));
    s->ranks = calloc(per_node + 1ul, sizeof(*s->ranks));
    CHECK(ranks && s->ranks);
    s->n_ranks = per_node;
    for (uint32_t i = 0; i < per_node; i++)
        ranks[i] = node * per_node + i;
    char addresses[32], place[32];
    snprintf(addresses, sizeof(addresses), "node%u:4000", node);
    snprintf(place, sizeof(place), "top.leaf%u", node / 2);
    struct pm_core_config c = {
        .node = node,
        .launch = 1,
        .options = &h->options,
        .nnodes = h->config.nnodes,
        .ntasks = h->config.nnodes * per_node,
        .n_local = per_node,
        .local_ranks = ranks,
        .addresses = addresses,
        .place = h->options.spares ? place : NULL,
        .fence_piece = h->config.fence_piece,
    };
    CHECK(pm_core_new(&c, harness_local_ns(h, node, h->now_ns), &s->core) == 0);
    free(ranks);
    arm(h, node);
    harness_post_simple(h, node, PM_EVENT_PORT, 0, 0);
    for (uint32_t i = 0; i < per_node; i++) {
        struct pm_event e = {.type = PM_EVENT_SHIM_JOINED, .local = i, .pid = ++h->next_pid};
        harness_post(h, node, &e, HARNESS_LOCAL_NS);
    }
}

// --- what tests ask ------------------------------------------------------------------------------

uint64_t harness_now_ns(const struct harness *h)
{
    return h->now_ns;
}

struct pm_core *harness_core(struct harness *h, uint32_t node)
{
    return h->slots[harness_slot(h, node)].core;
}

const struct harness_stats *harness_stats(const struct harness *h)
{
    return &h->stats;
}

struct harness_rank *harness_rank(struct harness *h, uint32_t node, uint32_t local)
{
    struct slot *s = &h->slots[harness_slot(h, node)];
    CHECK(local < s->n_ranks);
    return &s->ranks[local];
}

uint32_t harness_ranks_alive(const struct harness *h)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->n; i++)
        for (uint32_t k = 0; k < h->slots[i].n_ranks; k++)
            n += h->slots[i].ranks[k].alive;
    return n;
}

const char *harness_said(const struct harness *h)
{
    return h->said ? h->said : "";
}

const char *harness_died(const struct harness *h)
{
    return h->died ? h->died : "";
}

bool harness_exited(const struct harness *h, int32_t *ret_status)
{
    if (h->exited && ret_status)
        *ret_status = h->status;
    return h->exited;
}
