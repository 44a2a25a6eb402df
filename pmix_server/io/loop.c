// SPDX-License-Identifier: Apache-2.0
//
// See loop.h for the contract.
#include "pmix_server/io/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "pmix_server/io/util.h"

struct queued {
    struct pm_event event;  // with own copies of what it points to
    struct pm_set set;
    STAILQ_ENTRY(queued) entry;
};

struct pm_loop {
    struct pm_loop_config config;
    struct event *timer;
    STAILQ_HEAD(, queued) queue;
    bool busy;
    bool dead;
};

static void queued_free(struct queued *q)
{
    free((void *)q->event.data);
    free((void *)q->event.text);
    pm_set_done(&q->set);
    free(q);
}

static struct queued *queued_copy(const struct pm_event *event)
{
    struct queued *q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->event = *event;
    uint8_t *data = event->len ? malloc(event->len) : NULL;
    q->event.data = data;
    q->event.text = event->text ? strdup(event->text) : NULL;
    q->event.set = event->set ? &q->set : NULL;
    bool good = (data || !event->len) && (q->event.text || !event->text) &&
                (!event->set || pm_set_copy(&q->set, event->set) == 0);
    if (!good) {
        queued_free(q);
        return NULL;
    }
    if (data)
        memcpy(data, event->data, event->len);
    return q;
}

static void loop_fail(struct pm_loop *loop, int error)
{
    if (loop->dead)
        return;
    loop->dead = true;
    loop->config.failed(error, loop->config.arg);
}

// Without a timer the step would hang: -ENOMEM.
static int rearm(struct pm_loop *loop)
{
    uint64_t deadline = loop->dead ? UINT64_MAX : pm_core_deadline_ns(loop->config.core);
    if (deadline == UINT64_MAX) {
        evtimer_del(loop->timer);
        return 0;
    }
    uint64_t now = pm_clock_ns();
    // Rounded up: a timer that fires early would only be armed again.
    uint64_t us = deadline > now ? (deadline - now + 999) / 1000 : 0;
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    return evtimer_add(loop->timer, &tv) ? -ENOMEM : 0;
}

static void step(struct pm_loop *loop, const struct pm_event *event)
{
    struct pm_event stamped = *event;
    struct pm_actions actions = {0};
    stamped.now_ns = pm_clock_ns();
    int r = pm_core_step(loop->config.core, &stamped, &actions);
    for (size_t i = 0; r == 0 && i < actions.n && !loop->dead; i++) {
        struct pm_action *action = &actions.list[i];
        pm_action_f handler = action->type < PM_ACTION_MAX ? loop->config.handlers[action->type]
                                                           : NULL;
        assert(handler);
        handler(action, loop->config.arg);
    }
    pm_actions_done(&actions);
    if (r < 0)
        loop_fail(loop, r);
}

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    if (loop->dead)
        return;
    if (loop->busy) {
        struct queued *q = queued_copy(event);
        if (q)
            STAILQ_INSERT_TAIL(&loop->queue, q, entry);
        else
            loop_fail(loop, -ENOMEM);
        return;
    }
    loop->busy = true;
    step(loop, event);
    while (!STAILQ_EMPTY(&loop->queue)) {
        struct queued *q = STAILQ_FIRST(&loop->queue);
        STAILQ_REMOVE_HEAD(&loop->queue, entry);
        if (!loop->dead)
            step(loop, &q->event);
        queued_free(q);
    }
    loop->busy = false;
    if (rearm(loop) < 0)
        loop_fail(loop, -ENOMEM);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct pm_loop *loop = arg;
    loop->config.before_timer(loop->config.arg);
    pm_loop_post(loop, &(struct pm_event){.type = PM_EVENT_TIMER});
}

int pm_loop_new(const struct pm_loop_config *config, struct pm_loop **ret)
{
    struct pm_loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    loop->config = *config;
    STAILQ_INIT(&loop->queue);
    loop->timer = evtimer_new(config->base, on_timer, loop);
    if (!loop->timer || rearm(loop) < 0) {
        if (loop->timer)
            event_free(loop->timer);
        free(loop);
        return -ENOMEM;
    }
    *ret = loop;
    return 0;
}

struct pm_loop *pm_loop_free(struct pm_loop *loop)
{
    if (!loop)
        return NULL;
    while (!STAILQ_EMPTY(&loop->queue)) {
        struct queued *q = STAILQ_FIRST(&loop->queue);
        STAILQ_REMOVE_HEAD(&loop->queue, entry);
        queued_free(q);
    }
    event_free(loop->timer);
    free(loop);
    return NULL;
}
