// SPDX-License-Identifier: Apache-2.0
//
// pm-agent: started by local task 0's shim with the step's listener on fd 3 and the step key in a pipe
// on fd 4; everything else is in PM_AGENT_* (agent_config.c). Ends by its links only: signals that Slurm
// sends to the step are for the ranks. `pm-agent --sweep` (plugin/sweep.c) only removes what agents of this
// user left that were killed.
//
// Wiring only: decisions are the core's, see pmix_server/core/. It has no stdio, so what it has to say goes
// through the tree to srun, and before it has joined, through the shims that it refuses.
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "pm_config.h"
#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define REFUSE_MS 10000  // how long shims that come late are told why
#define AGENT_KEEP (16u << 20)  // bytes of free memory, until the next tick of the watchdog

static const int ignored_signals[] = {SIGINT,  SIGTERM, SIGHUP,  SIGUSR1, SIGUSR2, SIGQUIT, SIGALRM,
                                      SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGXCPU};

static void on_linger(evutil_socket_t fd, short what, void *arg)
{
    event_base_loopbreak(((struct agent *)arg)->base);
}

void pm_agent_leave(struct agent *a, uint64_t ms)
{
    struct timeval tv = pm_timeval_of_ms(ms);
    if (evtimer_add(a->linger, &tv))
        event_base_loopbreak(a->base);
}

void pm_agent_say(struct agent *a, const char *format, ...)
{
    char text[PM_TEXT_CAP];
    int n = snprintf(text, sizeof(text), "%.100s: ", a->config.node_name ? a->config.node_name : "?");
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
    va_end(args);
    if (a->loop)
        pm_loop_post(a->loop, &(struct pm_event){.type = PM_EVENT_SAY, .text = text});
}

void pm_agent_refuse(struct agent *a, const char *why)
{
    snprintf(a->refusal, sizeof(a->refusal), "%s", why);
    if (a->shims)
        pm_shims_refuse(a);
    bool all_told = a->config.n_local && a->n_refused >= a->config.n_local;
    pm_agent_leave(a, !a->shims ? 0 : all_told ? 100 : REFUSE_MS);
}

uint32_t pm_agent_n_ranks(const struct agent *a)
{
    const struct pm_world *world = pm_core_world(a->core);
    return world->map_version ? (uint32_t)pm_set_count(&world->ranks_of_node[a->config.node]) : 0;
}

static void on_core_failed(int error, void *arg)
{
    struct agent *a = arg;
    char why[PM_ERROR_CAP];
    snprintf(why, sizeof(why), "it cannot go on: %s", strerror(-error));
    if (!a->any_started) {
        pm_agent_refuse(a, why);
        return;
    }
    // The shims kill their ranks when our links end; the coordinator sees a lost agent. Nobody is left to read
    // the sentence, but it makes the exit status that of a failure.
    memcpy(a->refusal, why, sizeof(why));
    pm_agent_leave(a, 0);
}

static void before_timer(void *arg)
{
    struct agent *a = arg;
    pm_peers_drain(a->peers);
    pm_servers_drain(a);
    pm_shims_drain(a);
}

static void on_signal(const struct signalfd_siginfo *info, void *arg)
{
    pm_children_reap(((struct agent *)arg)->children, false);
}

static void process_setup(void)
{
    for (size_t i = 0; i < sizeof(ignored_signals) / sizeof(*ignored_signals); i++)
        signal(ignored_signals[i], SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    setsid();  // fails if the shim did it
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_DUMPABLE, 0);  // the step's key is in our memory
    prctl(PR_SET_NAME, "pm-agent");
}

static int base_open(struct agent *a)
{
    struct event_config *config = event_config_new();
    if (config)
        event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
    a->base = config ? event_base_new_with_config(config) : NULL;
    if (config)
        event_config_free(config);
    a->linger = a->base ? evtimer_new(a->base, on_linger, a) : NULL;
    a->children = pm_children_new();
    if (!a->linger || !a->children)
        return -ENOMEM;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return pm_signals_new(a->base, &set, on_signal, a, &a->signals);
}

static int peers_open(struct agent *a, char *error)
{
    const struct pm_agent_config *c = &a->config;
    struct pm_peers_config config = {
        .base = a->base,
        .secure = {.key = c->key, .version = PM_VERSION, .launch = c->launch, .node = c->node},
        .port_min = c->options.port_min, .port_max = c->options.port_max,
        .coordinator = c->coordinator, .nodelist = c->nodelist,
    };
    int r = pm_peers_new(&config, &a->peers);
    if (r == 0)
        r = pm_peers_listen_derived(a->peers);
    if (r < 0 && c->options.port_min)
        snprintf(error, PM_ERROR_CAP, "cannot listen on any port of --pm-port-range=%u-%u: %s",
                 c->options.port_min, c->options.port_max, strerror(-r));
    else if (r < 0)
        snprintf(error, PM_ERROR_CAP, "cannot listen for other nodes: %s", strerror(-r));
    return r;
}

static int core_open(struct agent *a)
{
    const struct pm_agent_config *c = &a->config;
    struct pm_core_config config = {
        .node = c->node, .launch = c->launch, .options = &c->options, .nnodes = c->nnodes,
        .ntasks = c->ntasks, .n_local = c->n_local, .local_ranks = c->local_ranks,
        .addresses = pm_peers_addresses(a->peers), .nodelist = c->nodelist, .place = c->place,
    };
    int r = pm_core_new(&config, pm_clock_ns(), &a->core);
    if (r < 0)
        return r;
    struct pm_loop_config loop = {.base = a->base, .core = a->core, .handlers = pm_agent_handlers,
                                  .arg = a, .before_timer = before_timer,
                                  .failed = on_core_failed};
    r = pm_loop_new(&loop, &a->loop);
    if (r == 0)
        pm_peers_set_loop(a->peers, a->loop);
    return r;
}

static void work(struct agent *a)
{
    char error[PM_ERROR_CAP] = "";
    a->memory_mib = a->config.options.spares ? pm_memory_limit_mib() : 0;  // nobody compares it without
    int r = pm_bind_open(a);
    if (r == 0)
        r = peers_open(a, error);
    if (r == 0)
        r = core_open(a);
    if (r == 0)
        r = pm_servers_open(a);
    if (r == 0)
        r = pm_shims_open(a);
    if (r < 0) {
        if (!error[0])
            snprintf(error, sizeof(error), "%s", strerror(-r));
        // A core that runs would reach for shims that are not there.
        a->peers = pm_peers_free(a->peers);
        a->loop = pm_loop_free(a->loop);
        if (!a->shims)
            (void)pm_shims_open(a);
        pm_agent_refuse(a, error);
        return;
    }
    pm_folder_sweep_stale(a->config.uid, a->config.tmpdir);
    pm_agent_log_open(a);
    pm_port_offer(a);
}

static void stop(struct agent *a)
{
    for (uint32_t i = 0; a->shims && !a->ends_sent && i < a->config.n_local; i++)
        pm_tree_kill(&a->shims[i]);  // whoever is left: its shim may be stopped
    pm_health_done(a);
    pm_servers_done(a);
    pm_folder_done(a);
    pm_shims_done(a);
    a->peers = pm_peers_free(a->peers);
    a->loop = pm_loop_free(a->loop);
    pm_bind_done(a);
    pm_agent_world_done(a);
    a->core = pm_core_free(a->core);
    a->log = pm_event_log_free(a->log);
    a->signals = pm_signals_free(a->signals);
    a->children = pm_children_free(a->children);
    struct event *events[] = {a->linger, a->end_timer};
    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
        if (events[i])
            event_free(events[i]);
    }
    if (a->base)
        event_base_free(a->base);
    pm_agent_config_done(&a->config);
}

static int run(struct agent *a)
{
    char error[PM_ERROR_CAP] = "libsodium does not work here";
    if (base_open(a) < 0)
        return PM_EXIT_CANNOT_SUPERVISE;
    if (sodium_init() >= 0)
        error[0] = '\0';
    if (error[0] || pm_agent_config_read(&a->config, error) < 0) {
        (void)pm_shims_open(a);
        pm_agent_refuse(a, error);
    } else {
        work(a);
    }
    event_base_dispatch(a->base);
    return a->refusal[0] ? PM_EXIT_CANNOT_SUPERVISE : 0;
}

int main(int argc, char **argv)
{
    static struct agent a = {.lease_fd = -1, .folder_lock = -1};
    if (argc == 2 && !strcmp(argv[1], "--sweep")) {
        pm_folder_sweep_stale(geteuid(), "/tmp");
        return 0;
    }
    if (argc > 1 || !getenv("PM_AGENT_VERSION")) {
        fprintf(stderr, "pm-agent: is started by Slurm through pm_supervise.so, not by hand\n");
        return PM_EXIT_CANNOT_SUPERVISE;
    }
    process_setup();
    pm_memory_keep(AGENT_KEEP);
    a.legacy = pm_janitor_fork();
    if (!a.legacy)
        return PM_EXIT_CANNOT_SUPERVISE;
    int status = run(&a);
    stop(&a);
    return status;
}
