// SPDX-License-Identifier: Apache-2.0
//
// The pm-pmix-server that waits for the next epoch.
//
// It is started when the node has nothing better to do: after the first fence that all local ranks can have
// been in, since ranks of other nodes may still be on their way to it; else a second after they have
// connected, or two after their start. Its priority is that of the others: one without any CPU would never be
// ready, and would keep what it holds in the kernel. It is given its namespace as well: epochs are numbered,
// and mostly the world stays where it is, so a restart finds it ready. On a node that waits as a spare it is
// only initialised.
#include "pmix_server/agent_server.h"
#include "pmix_server/io/util.h"

#define STANDBY_MS 2000
#define CONNECTED_MS 1000    // after the last local rank has connected
#define FENCED_MS 100        // and a fence has ended: first its ranks go on
#define STANDBY_TRIES 3

static struct server *serving(struct agent *a)
{
    struct server *s, *newest = NULL;
    LIST_FOREACH(s, &a->servers, entry) {
        if (s->has_epoch && s->state == SERVER_READY && (!newest || s->epoch > newest->epoch))
            newest = s;
    }
    return newest;
}

static bool wanted(const struct agent *a)
{
    const struct pm_options *o = &a->config.options;
    return (o->max_restarts > 0 || pm_options_ranks_move(o)) && o->mode != PM_MODE_NOTIFY && !a->ending &&
           a->standby_failures < STANDBY_TRIES;
}

// Where no epoch is served (a spare) it is only initialised.
static void standby_start(struct agent *a)
{
    const struct server *now = serving(a);
    bool spare = !now && pm_core_world(a->core)->map_version && pm_agent_n_ranks(a) == 0;
    if (!wanted(a) || pm_server_find(a, false, 0) || (!now && !spare))
        return;
    if (pm_server_start(a, now ? now->epoch + 1 : 0, true, NULL) < 0)
        a->standby_failures++;
    else
        pm_server_find(a, false, 0)->blank = spare;
}

static void on_standby_timer(evutil_socket_t fd, short what, void *arg)
{
    struct agent *a = arg;
    standby_start(a);
    if (a->config.options.spares && !pm_core_world(a->core)->map_version)
        pm_server_rank_started(a);  // whether this is a spare is not known yet
}

void pm_server_ranks_connected(struct agent *a)
{
    struct timeval tv = pm_timeval_of_ms(CONNECTED_MS);
    evtimer_add(a->standby_timer, &tv);
}

void pm_server_fenced(struct agent *a)
{
    const struct server *s = serving(a);
    struct timeval tv = pm_timeval_of_ms(FENCED_MS);
    if (s && s->n_connected == pm_agent_n_ranks(a) && !pm_server_find(a, false, 0))
        evtimer_add(a->standby_timer, &tv);
}

void pm_server_rank_started(struct agent *a)
{
    struct timeval tv = pm_timeval_of_ms(STANDBY_MS);
    if (!evtimer_pending(a->standby_timer, NULL))
        evtimer_add(a->standby_timer, &tv);
}

bool pm_server_standby_open(struct agent *a)
{
    a->standby_timer = evtimer_new(a->base, on_standby_timer, a);
    if (a->standby_timer && a->config.options.spares)
        pm_server_rank_started(a);  // no rank will, on a spare
    return a->standby_timer != NULL;
}
