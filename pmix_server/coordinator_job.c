// SPDX-License-Identifier: Apache-2.0
//
// Asks Slurm for the state of our own job, with `squeue` as the user would: no libslurm, and nothing
// that can block the loop. Used when so many nodes are silent that we doubt ourselves.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/io/util.h"

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

static void ask_end(struct coordinator *c)
{
    if (c->asked) {
        pm_children_forget(c->children, c->asked);
        kill(c->asked, SIGKILL);
        c->asked = 0;
    }
    if (c->answer)
        event_free(c->answer);
    if (c->answer_fd >= 0)
        close(c->answer_fd);
    c->answer = NULL;
    c->answer_fd = -1;
}

static void answer(struct coordinator *c, enum pm_job_state state)
{
    ask_end(c);
    pm_loop_post(c->loop, &(struct pm_event){.type = PM_EVENT_JOB_STATE,
                                             .job_state = (uint8_t)state});
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct coordinator *c = arg;
    char text[64] = "";
    enum pm_job_state state = PM_JOB_UNKNOWN;
    ssize_t n = what & EV_READ ? read(fd, text, sizeof(text) - 1) : 0;
    text[n > 0 ? strcspn(text, " \n") : 0] = '\0';
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
        if (!strcmp(states[i].text, text))
            state = states[i].state;
    }
    answer(c, state);
}

// squeue of the same installation as srun, else the one in PATH.
static void child_ask(const struct coordinator *c, int fd)
{
    char path[PM_PATH_CAP], job[16];
    const char *slash = strrchr(c->exe, '/');
    snprintf(path, sizeof(path), "%.*s/squeue", slash ? (int)(slash - c->exe) : 1,
             slash ? c->exe : ".");
    snprintf(job, sizeof(job), "%u", c->job);
    sigprocmask(SIG_SETMASK, pm_signals_old_mask(c->signals), NULL);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(fd, 1);
    dup2(null, 2);
    execl(path, "squeue", "-h", "-j", job, "-o", "%T", (char *)NULL);
    execlp("squeue", "squeue", "-h", "-j", job, "-o", "%T", (char *)NULL);
    _exit(127);
}

static void on_asked_ended(pid_t pid, int status, void *arg)
{
    struct coordinator *c = arg;
    c->asked = 0;
}

void pm_job_ask(struct coordinator *c)
{
    int fds[2];
    if (c->answer)
        return;
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        answer(c, PM_JOB_UNKNOWN);
        return;
    }
    c->answer_fd = fds[0];
    pid_t pid = fork();
    if (pid == 0)
        child_ask(c, fds[1]);
    close(fds[1]);
    struct timeval tv = pm_timeval_of_ms(ASK_TIMEOUT_MS);
    c->asked = pid > 0 ? pid : 0;
    c->answer = event_new(c->base, fds[0], EV_READ, on_answer, c);
    if (pid < 0 || !c->answer || event_add(c->answer, &tv)) {
        answer(c, PM_JOB_UNKNOWN);
        return;
    }
    if (pm_children_watch(c->children, pid, on_asked_ended, c) < 0)
        answer(c, PM_JOB_UNKNOWN);
}

void pm_job_done(struct coordinator *c) { ask_end(c); }
