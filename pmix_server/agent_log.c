// SPDX-License-Identifier: Apache-2.0
//
// --pm-log-nodes=DIR: what this node did to its ranks, in DIR/pm-supervise.JOB.STEP.NODE.jsonl. If the name is
// taken (job numbers start again when a site reinstalls), ".1", ".2", ... is put behind it.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/agent.h"

#define NAMES_MAX 100

void pm_agent_log_open(struct agent *a)
{
    const struct pm_agent_config *c = &a->config;
    struct pm_event_log_id id = {.writer = c->node_name, .job = c->job, .step = c->step,
                                 .launch = c->launch};
    char path[PM_PATH_CAP + 512];
    int r = -EEXIST;
    if (!c->options.log_nodes[0])
        return;
    for (int i = 0; i < NAMES_MAX && r == -EEXIST; i++) {
        int n = snprintf(path, sizeof(path), "%s/pm-supervise.%u.%u.%s.jsonl", c->options.log_nodes,
                         c->job, c->step, c->node_name);
        if (i)
            snprintf(path + n, sizeof(path) - (size_t)n, ".%d", i);
        r = pm_event_log_new(path, &id, &a->log);
    }
    if (r < 0)
        pm_agent_say(a, "--pm-log-nodes: cannot make %.150s: %s; this node writes no log", path,
                     strerror(-r));
}

void pm_agent_log(struct agent *a, const struct pm_log *record)
{
    int r = a->log ? pm_event_log_write(a->log, record) : 0;
    if (r == 0 || a->log_failed)
        return;
    a->log_failed = true;
    pm_agent_say(a, "--pm-log-nodes: cannot write: %s; this node's log has gaps from here on",
                 strerror(-r));
}
