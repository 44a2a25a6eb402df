// SPDX-License-Identifier: Apache-2.0
//
// Asks Slurm for the state of our own job, when so many nodes are silent that we doubt ourselves.
#include <stdio.h>
#include <string.h>

#include "pmix_server/coordinator.h"

#define ASK_TIMEOUT_MS 5000

static const struct {
    const char *text;
    enum pm_job_state state;
} states[] = {
    {"RUNNING", PM_JOB_RUNNING},     {"SUSPENDED", PM_JOB_SUSPENDED}, {"STOPPED", PM_JOB_SUSPENDED},
    {"COMPLETING", PM_JOB_GONE},     {"COMPLETED", PM_JOB_GONE},      {"CANCELLED", PM_JOB_GONE},
    {"FAILED", PM_JOB_GONE},         {"TIMEOUT", PM_JOB_GONE},        {"NODE_FAIL", PM_JOB_GONE},
    {"OUT_OF_MEMORY", PM_JOB_GONE},
};

static void on_answer(const char *text, void *arg)
{
    struct coordinator *c = arg;
    enum pm_job_state state = PM_JOB_UNKNOWN;
    size_t len = text ? strcspn(text, " \n") : 0;
    c->job_question = NULL;
    for (size_t i = 0; len && i < sizeof(states) / sizeof(*states); i++) {
        if (strlen(states[i].text) == len && !strncmp(states[i].text, text, len))
            state = states[i].state;
    }
    pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_JOB_STATE, .job_state = (uint8_t)state});
}

void pm_job_ask(struct coordinator *c)
{
    char job[16];
    const char *const argv[] = {"squeue", "-h", "-j", job, "-o", "%T", NULL};
    const struct pm_question question = {.base = c->base, .children = c->children, .near = c->exe, .argv = argv,
                                         .mask = pm_signals_old_mask(c->signals), .limit_ms = ASK_TIMEOUT_MS,
                                         .answered = on_answer, .arg = c};
    snprintf(job, sizeof(job), "%u", c->job);
    if (!c->job_question && pm_ask_begin(&question, &c->job_question) < 0)
        on_answer(NULL, c);
}

void pm_job_done(struct coordinator *c) { c->job_question = pm_ask_end(c->job_question); }
