// SPDX-License-Identifier: Apache-2.0
//
// A core inside libevent, with every allocation failing in turn, libevent's included: events that are
// posted, also from inside an action, are handled and the timer comes, or the shell is told that the core
// has failed. It must not wait for ever.
#include <errno.h>
#include <event2/event.h>

#include "pmix_server/io/loop.h"
#include "pmix_server/io/util.h"
#include "tests/kth/kth.h"

// libevent has room for 8 timers: so many that the loop's own needs memory.
enum { START_TIMEOUT_MS = 20, BOUND_MS = 2000, TIMERS = 8 };

static struct event_base *base;
static struct event *bounds[TIMERS];
static struct pm_loop *loop;
static bool has_ended, has_failed;
static unsigned says;

// The step's end is what the timer leads to; what is said meanwhile makes more to say.
static void on_say(struct pm_action *action, void *arg)
{
    static const struct pm_event more = {.type = PM_EVENT_SAY, .text = "more"};
    if (says++ < 3)
        pm_loop_post(loop, &more);
}

static void on_end(struct pm_action *action, void *arg)
{
    has_ended = true;
    event_base_loopbreak(base);
}

static void on_other(struct pm_action *action, void *arg) {}
static void before_timer(void *arg) {}

static void on_failed(int error, void *arg)
{
    KTH_CHECK(error == -ENOMEM && !has_failed, "%d", error);
    has_failed = true;
    event_base_loopbreak(base);
}

static void on_bound(evutil_socket_t fd, short what, void *arg)
{
    event_base_loopbreak(base);
}

static struct pm_core *core_new(void)
{
    struct pm_core *core = NULL;
    static struct pm_options options; // as long as the core
    struct pm_core_config config = {.node = PM_NODE_COORDINATOR, .launch = 1, .options = &options};
    pm_options_default(&options);
    options.start_timeout_ms = START_TIMEOUT_MS;
    KTH_CHECK(pm_core_new(&config, pm_clock_ns(), &core) == 0, "no memory");
    return core;
}

static int flow(struct pm_core *core)
{
    static pm_action_f handlers[PM_ACTION_MAX];
    for (int i = 0; i < PM_ACTION_MAX; i++)
        handlers[i] = on_other;
    handlers[PM_ACTION_SAY] = on_say;
    handlers[PM_ACTION_END_STEP] = on_end;
    const struct pm_loop_config config = {.base = base, .core = core, .handlers = handlers,
                                          .before_timer = before_timer, .failed = on_failed};
    has_ended = has_failed = false;
    says = 0;
    int rc = pm_loop_new(&config, &loop);
    if (rc < 0)
        return rc;
    static const struct pm_event launched = {.type = PM_EVENT_LAUNCHED, .nnodes = 1, .ntasks = 1};
    static const struct pm_event line = {.type = PM_EVENT_SAY, .text = "a line"};
    pm_loop_post(loop, &line);
    pm_loop_post(loop, &launched);
    if (!has_failed)
        event_base_dispatch(base);
    KTH_CHECK(has_ended || has_failed, "the timer does not come and nobody is told");
    KTH_CHECK(has_failed || says > 3, "%u lines", says);
    loop = pm_loop_free(loop);
    return has_failed ? -ENOMEM : 0;
}

static bool try(uint64_t k, enum kth_mode mode)
{
    int64_t live = kth_live_blocks();
    struct timeval tv = pm_timeval_of_ms(BOUND_MS);
    struct pm_core *core = core_new();
    base = event_base_new();
    for (int i = 0; i < TIMERS; i++) {
        bounds[i] = base ? evtimer_new(base, on_bound, NULL) : NULL;
        KTH_CHECK(bounds[i] && event_add(bounds[i], &tv) == 0, "no memory");
    }
    kth_arm(k, mode);
    int rc = flow(core);
    bool reached = kth_disarm();
    KTH_CHECK(rc == 0 || (rc == -ENOMEM && reached), "k %llu: %d", (unsigned long long)k, rc);
    for (int i = 0; i < TIMERS; i++)
        event_free(bounds[i]);
    event_base_free(base);
    pm_core_free(core);
    KTH_CHECK(kth_live_blocks() == live, "k %llu: a leak", (unsigned long long)k);
    return reached;
}

static void say_nothing(int severity, const char *text) {}

int main(void)
{
    uint64_t once = 1, from_now = 1;
    event_set_mem_functions(malloc, realloc, free);
    event_set_log_callback(say_nothing);
    while (try(once, KTH_ONCE))
        once++;
    while (try(from_now, KTH_FROM_NOW))
        from_now++;
    printf("%llu allocations\n", (unsigned long long)once - 1);
    return 0;
}
