// SPDX-License-Identifier: Apache-2.0
//
// The core inside libevent: events in, actions executed by a table of handlers, one timer.
//
// Handlers may call pm_loop_post(): what they post is copied and handled after the actions in hand, so
// the core is never entered twice and the order of cause and effect is kept.
#ifndef PM_IO_LOOP_H
#define PM_IO_LOOP_H

#include <event2/event.h>

#include "pmix_server/core/core.h"

struct pm_loop;

typedef void (*pm_action_f)(struct pm_action *action, void *arg);

struct pm_loop_config {
    struct event_base *base;
    struct pm_core *core;         // borrowed
    const pm_action_f *handlers;  // PM_ACTION_MAX of them; NULL: our bug, ends the process
    void *arg;                    // of handlers
    // Before a TIMER event: handle all input that can be read, so that nobody is judged by a late look.
    void (*before_timer)(void *arg);
    // The core failed (no memory, or our bug): `error` is negative. Nothing more is handled.
    void (*failed)(int error, void *arg);
};

int pm_loop_new(const struct pm_loop_config *config, struct pm_loop **ret);
struct pm_loop *pm_loop_free(struct pm_loop *loop);
// Sets event->now_ns and hands it to the core. What event points to is borrowed for the call.
void pm_loop_post(struct pm_loop *loop, const struct pm_event *event);

#endif
