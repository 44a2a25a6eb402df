// SPDX-License-Identifier: Apache-2.0
//
// Runs --pm-health on this node when the core asks for it, beside the loop, as the user, in a process group of its own and
// with a time limit (io/program.h), and tells the core how it went: always, for ranks that are to start wait for it. Its
// one argument is what it is for: "join" or "use". It does not outlive this agent.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/program.h"

#define WHY_CAP 128

static void tell(struct agent *a, bool failed, bool missing, const char *why)
{
    char text[PM_TEXT_CAP];
    snprintf(text, sizeof(text), "--pm-health %.*s", WHY_CAP, why);
    pm_loop_post(a->loop, &(struct pm_event){.type = PM_EVENT_HEALTH, .id = a->health_check, .flag_failed = failed,
                                             .flag_exec = missing, .text = text});
}

static void on_ended(pid_t pid, int status, void *arg)
{
    struct agent *a = arg;
    char why[WHY_CAP] = "";
    (void)pid;
    a->health = 0;
    bool good = pm_program_outcome(status, a->config.options.health_timeout_ms, why, sizeof(why));
    tell(a, !good, false, why);
}

// 0, or why not as an errno. A folder that may be searched is X_OK, too.
static int cannot_run(const char *path)
{
    struct stat st;
    if (access(path, X_OK) < 0 || stat(path, &st) < 0)
        return errno;
    return S_ISREG(st.st_mode) ? 0 : EISDIR;
}

void pm_health_check(struct agent *a, uint64_t check)
{
    char joins[] = "join", use[] = "use";
    char *const argv[] = {a->config.options.health, check == 1 ? joins : use, NULL}, *const env[] = {NULL};
    const struct pm_program program = {.argv = argv, .env = env, .mask = pm_signals_old_mask(a->signals),
                                       .limit_ms = a->config.options.health_timeout_ms, .ends_with_us = true};
    char why[WHY_CAP];
    a->health_check = check;
    int error = cannot_run(a->config.options.health);
    if (error) {
        snprintf(why, sizeof(why), "cannot be run here (%s)", strerror(error));
        tell(a, true, true, why);
        return;
    }
    pid_t pid = pm_program_start(&program);
    int r = pid < 0 ? pid : pm_children_watch(a->children, pid, on_ended, a);
    a->health = pid > 0 ? pid : 0;
    if (r < 0) {
        snprintf(why, sizeof(why), "could not be started (%s)", strerror(-r));
        tell(a, true, false, why);
    }
}

void pm_health_done(struct agent *a)
{
    if (!a->health)
        return;
    pm_children_forget(a->children, a->health);
    pm_program_stop(a->health);
    a->health = 0;
}
