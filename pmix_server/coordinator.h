// SPDX-License-Identifier: Apache-2.0
//
// pm-coordinator: the process that the user's shell knows as srun. It runs the real srun as its child,
// holds the root of the tree, and executes what the core decides. This header is shared by
// coordinator*.c only; each file owns the part of the struct that carries its name.
#ifndef PM_COORDINATOR_H
#define PM_COORDINATOR_H

#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <termios.h>

#include "pmix_server/coordinator_argv.h"
#include "pmix_server/core/core.h"
#include "pmix_server/core/output.h"
#include "pmix_server/io/ask.h"
#include "pmix_server/io/children.h"
#include "pmix_server/io/event_log.h"
#include "pmix_server/io/lines.h"
#include "pmix_server/io/loop.h"
#include "pmix_server/io/peers.h"
#include "pmix_server/io/signals.h"
#include "pmix_server/wire/exit_codes.h"

#define PM_SIGNALS 32              // standard signals, 1..31

struct early_log {
    struct pm_log record;
    STAILQ_ENTRY(early_log) entry;
};

// What the process got from its parent and what the real srun must get back.
struct inherited {
    struct sigaction actions[PM_SIGNALS];
    struct rlimit nofile;
};

struct asked_node;
struct kind;
struct loss;
struct bound_kind;

enum pm_nodes_question {
    PM_NODES_DRAINED = 0,
    PM_NODES_BOOTED,
    PM_NODES_QUESTIONS,
};

struct nodes_question {
    struct coordinator *c;
    const struct kind *kind;
    long long just_now_s;  // slurmd was started so shortly ago, PM_NODES_BOOTED
    struct pm_ask *ask;  // NULL: none
    struct asked_node *asked;  // by name
    uint32_t n_asked;
};

struct coordinator {
    // coordinator.c
    struct event_base *base;
    struct pm_core *core;
    struct pm_loop *loop;
    struct pm_peers *peers;
    struct pm_children *children;
    struct pm_lines *lines;  // to stderr; NULL: nothing runs yet
    struct pm_options options;
    const char *exe;
    const char *libexec;
    uint32_t launch;
    uint8_t key[PM_KEY_LEN];
    struct inherited inherited;
    struct pm_srun_argv argv;
    struct pm_legacy legacy;  // of the launch before
    bool relaunch;            // another one follows
    bool launched;
    long long launched_s;  // when it was, by the clock on the wall, seconds since 1970
    uint32_t job;
    uint32_t step;
    bool has_verdict;  // nothing but the end of srun is waited for
    int verdict;
    // coordinator_srun.c
    struct pm_signals *signals;
    pid_t srun;  // 0: reaped, or not started
    bool stop_wanted;  // TERM or HUP came, QUIT, or INT twice
    uint64_t interrupted_ns;  // the last SIGINT; 0: none
    int srun_status;
    bool has_terminal;  // --pty: srun makes it raw
    struct termios terminal;  // as it was before
    int report_fd;
    struct event *report;
    struct event *kill_timer;
    // coordinator_job.c
    struct pm_ask *job_question;  // NULL: none
    // coordinator_nodes.c
    struct nodes_question nodes[PM_NODES_QUESTIONS];
    // coordinator_log.c
    struct pm_event_log *log;
    bool log_failed;
    STAILQ_HEAD(, early_log) early;
    unsigned n_early;
    unsigned n_missing;  // records that found no room there
    // coordinator_output.c
    struct event *output;  // NULL: nobody asked
    struct pm_output_watch output_watch;
    // coordinator_losses.c
    STAILQ_HEAD(, loss) losses;
    unsigned programs;  // on-node-loss, that run now
    // coordinator_fence.c
    STAILQ_HEAD(, fence) fences;  // that wait
    unsigned n_fences;            // that run now
    // coordinator_bound.c
    STAILQ_HEAD(, bound_kind) bound;  // not told yet
    struct pm_set bound_nodes;        // that have spoken
    struct event *bound_timer;
    bool bound_begun;   // the file has been written to
    bool bound_failed;  // and cannot be
};

// coordinator.c: the step has its verdict: end srun if it runs, then leave with `status`.
void pm_coordinator_finish(struct coordinator *c, int status);

// coordinator_actions.c
extern const pm_action_f pm_coordinator_handlers[PM_ACTION_MAX];
// One line on srun's stderr, "pm-supervise: " in front unless it is there. Never waits for who reads it.
void pm_coordinator_say(struct coordinator *c, const char *text);

// coordinator_srun.c
void pm_srun_inherit(struct inherited *in);
// Forks and execs the real srun, and listens for signals and its report. 0 or negative errno.
int pm_srun_start(struct coordinator *c);
// SIGTERM (or `sig`) now, SIGKILL after timeout_ms.
void pm_srun_end(struct coordinator *c, int sig, uint64_t timeout_ms);
void pm_srun_done(struct coordinator *c);

// coordinator_env.c: environment of the real srun, malloc'd and NULL-terminated; NULL without memory.
char **pm_srun_environment(const struct coordinator *c, char *const *from, int report_fd);
void pm_environment_free(char **env);

// coordinator_job.c: asks Slurm for the state of our job; answered by PM_EVENT_JOB_STATE.
void pm_job_ask(struct coordinator *c);
void pm_job_done(struct coordinator *c);

// coordinator_nodes.c: asks Slurm which of the action's nodes it has drained, or shows as down, answered by
// PM_EVENT_NODE_STATES; or which of them have booted since this launch began, answered by PM_EVENT_BOOTED.
void pm_nodes_ask(struct coordinator *c, enum pm_nodes_question what, const struct pm_action *a);
void pm_nodes_done(struct coordinator *c);
// Their names as Slurm writes them ("node[3-5,7]"); malloc'd, NULL without memory.
char *pm_nodes_names(const struct coordinator *c, const struct pm_set *nodes);

// coordinator_log.c
// Before anything starts: can --pm-log be made? 0, or -EINVAL with a sentence (PM_ERROR_CAP).
int pm_coordinator_log_check(const struct coordinator *c, char *error);
// Job and step are known. 0, or negative errno with a sentence.
int pm_coordinator_log_open(struct coordinator *c, char *error);
void pm_coordinator_log(struct coordinator *c, const struct pm_log *record);
void pm_coordinator_log_done(struct coordinator *c);

// coordinator_output.c: posts PM_EVENT_OUTPUT_READ, once, when srun has passed on what it can still get while
// `lost` nodes are lost.
void pm_output_await(struct coordinator *c, uint32_t lost);
void pm_output_done(struct coordinator *c);

// coordinator_fence.c
// Before anything starts: can a program that is required be run here? 0, or -EINVAL with a sentence (PM_ERROR_CAP).
int pm_fence_check(const struct coordinator *c, char *error);
// Runs it for `node`, when it is its turn; answered by PM_EVENT_FENCED_OFF.
void pm_fence_off(struct coordinator *c, uint32_t node, enum pm_cause cause);
// The step is over: those that wait are forgotten, and that is said.
void pm_fence_end(struct coordinator *c);

// coordinator_bound.c
// Before anything starts: can --pm-bind-report be written? 0, or -EINVAL with a sentence (PM_ERROR_CAP).
int pm_coordinator_bound_check(const struct coordinator *c, char *error);
void pm_coordinator_bound(struct coordinator *c, const struct pm_action *a);
void pm_coordinator_bound_flush(struct coordinator *c);  // tells what waits
void pm_coordinator_bound_done(struct coordinator *c);

// coordinator_relaunch.c
// Is this a further launch? Then c->legacy, c->launch and c->argv say so. 0, -ENOMEM, or -EINVAL with a sentence.
int pm_relaunch_read(struct coordinator *c, char *error);
void pm_relaunch_config(const struct coordinator *c, struct pm_core_config *config);
// PM_ACTION_RELAUNCH: main() is to call pm_relaunch_exec() when all is closed.
void pm_relaunch_wanted(struct coordinator *c, const struct pm_action *a);
// Becomes the next launch. Returns an exit status if it cannot.
int pm_relaunch_exec(const struct inherited *in, const sigset_t *mask, char **argv);

// coordinator_losses.c
// A record of the core on its way to the log.
void pm_losses_note(struct coordinator *c, const struct pm_log *record);
// The step has its verdict: a line and a record for each lost node.
void pm_losses_ledger(struct coordinator *c);
void pm_losses_done(struct coordinator *c);

#endif
