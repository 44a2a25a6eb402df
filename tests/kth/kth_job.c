// SPDX-License-Identifier: Apache-2.0
//
// The question to Slurm after the job, with each call failing in turn: the core gets one answer, and no squeue is
// left, however long it would have taken.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"
#include "tests/kth/kth.h"
#include "tests/kth/kth_calls.h"

enum { BOUND_MS = 5000 };

static unsigned answers;
static enum pm_job_state answered;

// Stands in for loop.c.
void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    answers++;
    answered = event->job_state;
}

static void say_nothing(int severity, const char *text) {}
static void on_signal(const struct signalfd_siginfo *info, void *arg) {}

static void nobody_is_left(uint64_t k)
{
    pid_t pid = 0;
    for (int ms = 0; ms < BOUND_MS && pid >= 0; ms++) {
        pid = waitpid(-1, NULL, WNOHANG);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    KTH_CHECK(pid < 0 && errno == ECHILD, "squeue is left, k %llu", (unsigned long long)k);
}

static bool try(const char *srun, uint64_t k)
{
    struct coordinator c = {.exe = srun, .job = 1};
    int64_t live = kth_live_blocks();
    sigset_t none;
    sigemptyset(&none);
    c.base = event_base_new();
    c.children = pm_children_new();
    KTH_CHECK(c.base && c.children && pm_signals_new(c.base, &none, on_signal, &c, &c.signals) == 0, "no memory");
    answers = 0;
    kth_arm(k, KTH_ONCE);
    pm_job_ask(&c);
    bool reached = kth_disarm();
    KTH_CHECK(answers == reached && (!reached || answered == PM_JOB_UNKNOWN), "%u answers, k %llu", answers,
              (unsigned long long)k);
    pm_job_done(&c);
    nobody_is_left(k);
    pm_signals_free(c.signals);
    pm_children_free(c.children);
    event_base_free(c.base);
    KTH_CHECK(kth_live_blocks() == live, "a leak, k %llu", (unsigned long long)k);
    return reached;
}

// A Slurm whose squeue does not answer.
static void make_squeue(char *folder, char *ret_srun, size_t cap)
{
    char path[128];
    KTH_CHECK(mkdtemp(folder), "no folder");
    snprintf(path, sizeof(path), "%s/squeue", folder);
    FILE *f = fopen(path, "we");
    KTH_CHECK(f && fputs("#!/bin/sh\nexec sleep 60\n", f) >= 0 && fclose(f) == 0, "no file");
    KTH_CHECK(chmod(path, 0700) == 0, "no file");
    snprintf(ret_srun, cap, "%s/srun", folder);
}

static void remove_squeue(const char *folder)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/squeue", folder);
    KTH_CHECK(unlink(path) == 0 && rmdir(folder) == 0, "the folder is left");
}

int main(void)
{
    char folder[] = "/tmp/kth_job.XXXXXX", srun[64];
    uint64_t k = 1;
    make_squeue(folder, srun, sizeof(srun));
    event_set_mem_functions(malloc, realloc, free);
    event_set_log_callback(say_nothing);
    kth_calls_mode(KTH_CALLS_FAIL);
    while (try(srun, k))
        k++;
    remove_squeue(folder);
    printf("%llu calls\n", (unsigned long long)k - 1);
    return 0;
}
