// SPDX-License-Identifier: Apache-2.0
//
// Stands before pm_core_new() and pm_core_step() of whatever scenario it is linked with. Before a step is
// made it is tried on clones, once for each allocation in it, with that one failing and with that one and
// all after it failing. The contract: -ENOMEM, or the same actions and the same state as if nothing had
// failed; never another error, a crash, an endless loop, or a block that is not freed with the core.
#include "tests/kth/kth_step.h"

#include <errno.h>
#include <string.h>

#include "pmix_server/core/record.h"
#include "tests/kth/kth.h"

#define CLONE_EVERY 8  // steps; a clone takes most of the time

int __real_pm_core_new(const struct pm_core_config *config, uint64_t now_ns, struct pm_core **ret);
int __real_pm_core_step(struct pm_core *core, const struct pm_event *event, struct pm_actions *ret);
int __wrap_pm_core_new(const struct pm_core_config *config, uint64_t now_ns, struct pm_core **ret);
int __wrap_pm_core_step(struct pm_core *core, const struct pm_event *event, struct pm_actions *ret);

static struct {
    uint64_t steps, tries, errors;
} done;

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_action(const struct pm_action *a, const struct pm_action *b)
{
    return a->type == b->type && a->link == b->link && a->node == b->node && a->local == b->local &&
           a->rank == b->rank && a->epoch == b->epoch && a->id == b->id && a->signal == b->signal &&
           a->status == b->status && a->deadline_ns == b->deadline_ns && a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, a->len) == 0) && same_text(a->text, b->text) &&
           !a->log == !b->log;
}

static bool same_actions(const struct pm_actions *a, const struct pm_actions *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (!same_action(&a->list[i], &b->list[i]))
            return false;
    return a->n == b->n;
}

// A line that finds no memory is dropped, counted and said later (node_report.c): this is no error.
static bool says_something(const struct pm_event *event, const struct pm_actions *reference)
{
    bool says = event->type == PM_EVENT_SAY ||
                (event->type == PM_EVENT_FRAME && event->len && event->data[0] == PM_FRAME_SAY);
    for (size_t i = 0; i < reference->n; i++) {
        const struct pm_action *a = &reference->list[i];
        says |= a->type == PM_ACTION_SEND && a->len && a->data[0] == PM_FRAME_SAY;
    }
    return says;
}

struct reference {
    struct pm_actions actions;
    uint64_t digest;
};

// False: the k-th allocation does not exist.
static bool try_step(const struct pm_core *core, const struct pm_event *event,
                     const struct reference *reference, uint64_t k, enum kth_mode mode)
{
    int64_t live = kth_live_blocks();
    struct pm_actions actions = {0};
    struct pm_core *clone = pm_core_clone(core);
    KTH_CHECK(clone, "no memory");
    kth_arm(k, mode);
    int rc = __real_pm_core_step(clone, event, &actions);
    bool reached = kth_disarm();
    done.tries++;
    done.errors += rc < 0;
    KTH_CHECK(rc == 0 || (rc == -ENOMEM && reached), "event %d, k %llu: %d", event->type,
              (unsigned long long)k, rc);
    bool same = same_actions(&actions, &reference->actions) &&
                pm_core_digest(clone, event->now_ns) == reference->digest;
    KTH_CHECK(rc < 0 || same || says_something(event, &reference->actions),
              "event %d, k %llu: a failure that nobody was told of", event->type,
              (unsigned long long)k);
    pm_actions_done(&actions);
    pm_core_free(clone);
    KTH_CHECK(kth_live_blocks() == live, "event %d, k %llu: a leak", event->type,
              (unsigned long long)k);
    return reached;
}

static void sweep_clone(const struct pm_core *core)
{
    bool reached = true;
    for (uint64_t k = 1; reached; k++) {
        int64_t live = kth_live_blocks();
        kth_arm(k, KTH_ONCE);
        struct pm_core *clone = pm_core_clone(core);
        reached = kth_disarm();
        KTH_CHECK(!clone == reached, "clone, k %llu", (unsigned long long)k);
        pm_core_free(clone);
        KTH_CHECK(kth_live_blocks() == live, "clone, k %llu: a leak", (unsigned long long)k);
    }
}

static void sweep_step(const struct pm_core *core, const struct pm_event *event)
{
    struct reference reference = {0};
    struct pm_core *clone = pm_core_clone(core);
    KTH_CHECK(clone && __real_pm_core_step(clone, event, &reference.actions) == 0, "no memory");
    reference.digest = pm_core_digest(clone, event->now_ns);
    pm_core_free(clone);
    for (uint64_t k = 1; try_step(core, event, &reference, k, KTH_ONCE); k++)
        ;
    for (uint64_t k = 1; try_step(core, event, &reference, k, KTH_FROM_NOW); k++)
        ;
    pm_actions_done(&reference.actions);
}

int __wrap_pm_core_step(struct pm_core *core, const struct pm_event *event, struct pm_actions *ret)
{
    if (done.steps++ % CLONE_EVERY == 0)
        sweep_clone(core);
    sweep_step(core, event);
    return __real_pm_core_step(core, event, ret);
}

int __wrap_pm_core_new(const struct pm_core_config *config, uint64_t now_ns, struct pm_core **ret)
{
    bool reached = true;
    for (uint64_t k = 1; reached; k++) {
        int64_t live = kth_live_blocks();
        struct pm_core *core = NULL;
        kth_arm(k, KTH_ONCE);
        int rc = __real_pm_core_new(config, now_ns, &core);
        reached = kth_disarm();
        KTH_CHECK(rc == (reached ? -ENOMEM : 0), "new, k %llu: %d", (unsigned long long)k, rc);
        pm_core_free(core);
        KTH_CHECK(kth_live_blocks() == live, "new, k %llu: a leak", (unsigned long long)k);
    }
    return __real_pm_core_new(config, now_ns, ret);
}

void kth_step_report(void)
{
    printf("%llu steps, %llu tries, %llu of them -ENOMEM\n", (unsigned long long)done.steps,
           (unsigned long long)done.tries, (unsigned long long)done.errors);
}
