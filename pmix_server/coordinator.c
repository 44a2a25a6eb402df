// SPDX-License-Identifier: Apache-2.0
//
// pm-coordinator --exe=SRUN --program=N --libexec=DIR -- ARGV...
//
// Takes the place of the srun that the user started (the plugin execs it there, so the pid is the one
// that the user's shell waits for), runs the real srun as its child and ends with the verdict on the
// step. Wiring only: decisions are the core's, see pmix_server/core/.
//
// Exit status: the step's verdict; 125 if supervision could not start, also for words on the command line
// that it cannot work with. A step that was never launched ends with srun's own status.
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "pm_config.h"
#include "pmix_server/coordinator.h"
#include "pmix_server/io/listen.h"
#include "pmix_server/io/util.h"

#define NOFILE_WANTED 65536u
#define END_TIMEOUT_MS 5000
#define LINES_IDLE_MS 1000   // how long who reads stderr may take nothing at the end
#define LINES_WHOLE_MS 5000  // and how long he has at all
#define COORDINATOR_KEEP (64u << 20)  // bytes of free memory

struct arguments {
    const char *exe;
    const char *libexec;
    int program;
    char **argv;  // of srun
};

enum option_key { KEY_EXE = 256, KEY_PROGRAM, KEY_LIBEXEC };

static const struct argp_option argp_options[] = {
    {.name = "exe", .key = KEY_EXE, .arg = "PATH", .doc = "the real srun"},
    {.name = "program", .key = KEY_PROGRAM, .arg = "N", .doc = "where the program starts in ARGV"},
    {.name = "libexec", .key = KEY_LIBEXEC, .arg = "DIR", .doc = "where pm-agent is on the nodes"},
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case KEY_EXE:
        a->exe = arg;
        return 0;
    case KEY_LIBEXEC:
        a->libexec = arg;
        return 0;
    case KEY_PROGRAM:
        a->program = atoi(arg);
        return a->program >= 0 ? 0 : EINVAL;
    case ARGP_KEY_ARGS:
        a->argv = state->argv + state->next;
        return 0;
    case ARGP_KEY_END:
        if (!a->exe || !a->argv)
            argp_error(state, "is started by srun --pm-supervise, not by hand");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {.options = argp_options, .parser = parse_option,
                                 .args_doc = "-- SRUN ARGV...",
                                 .doc = "Supervises one step; started by srun --pm-supervise."};

void pm_coordinator_finish(struct coordinator *c, int status)
{
    if (!c->has_verdict) {
        c->verdict = status;
        pm_coordinator_bound_flush(c);
        pm_losses_ledger(c);
        pm_fence_end(c);
    }
    c->has_verdict = true;
    if (c->srun)
        pm_srun_end(c, SIGTERM, END_TIMEOUT_MS);
    else
        event_base_loopbreak(c->base);
}

static void on_core_failed(int error, void *arg)
{
    struct coordinator *c = arg;
    char text[PM_TEXT_CAP];
    snprintf(text, sizeof(text), "pm-coordinator cannot go on: %s; stopping the step",
             strerror(-error));
    pm_coordinator_say(c, text);
    pm_coordinator_finish(c, PM_EXIT_LOST);
}

static void before_timer(void *arg) { pm_peers_drain(((struct coordinator *)arg)->peers); }

// One fd per link; srun would propagate a raised limit to the ranks, so it gets the old one back.
static void raise_nofile(const struct coordinator *c)
{
    struct rlimit limit = c->inherited.nofile;
    limit.rlim_cur = limit.rlim_max < NOFILE_WANTED ? limit.rlim_max : NOFILE_WANTED;
    if (limit.rlim_cur > c->inherited.nofile.rlim_cur)
        setrlimit(RLIMIT_NOFILE, &limit);
}

// Spares are nodes of the step: as many as the world may shrink to, one at least, have to be left for the ranks.
static int check_nodes(const struct coordinator *c, char *error)
{
    const char *given = getenv("SLURM_NNODES"), *from = c->argv.nodes ? "--nodes" : "SLURM_NNODES";
    uint32_t nodes = c->argv.nodes ? c->argv.nodes : given ? pm_srun_nodes_parse(given) : 0;
    uint32_t spares = c->options.spares, least = c->options.shrink ? c->options.min_nodes : 1;
    if (!nodes || (!spares && least <= nodes) || (spares < nodes && least <= nodes - spares))
        return 0;
    if (spares >= nodes)
        snprintf(error, PM_ERROR_CAP,
                 "--pm-spares=%u leaves no node for the ranks: the step has %u node%s (%s), and the last %u of them "
                 "would wait; ask for more nodes or for fewer spares",
                 spares, nodes, nodes == 1 ? "" : "s", from, spares);
    else
        snprintf(error, PM_ERROR_CAP,
                 "--pm-min-nodes=%u is more than the ranks have from the start: the step has %u node%s (%s), of which "
                 "%u wait as spares; ask for more nodes or for a smaller minimum",
                 least, nodes, nodes == 1 ? "" : "s", from, spares);
    return -EINVAL;
}

// As srun has it: the command line, then the environment, where a job's --hint may come from.
static uint32_t threads_per_core(const struct coordinator *c)
{
    const char *hint = getenv("SLURM_HINT"), *threads = getenv("SLURM_THREADS_PER_CORE");
    if (c->argv.threads_given)
        return c->argv.threads_per_core;
    return hint ? pm_srun_hint_parse(hint) : threads ? pm_srun_threads_parse(threads) : 0;
}

// What the user has asked srun for stays: the agents leave it alone. A number of threads goes before the words of
// --pm-bind, of which the last one counts.
static int keep_what_was_bound(struct coordinator *c, char *error)
{
    char words[sizeof(c->options.bind) + 64], smt[24] = "";
    uint32_t threads = threads_per_core(c);
    if (threads)
        snprintf(smt, sizeof(smt), "smt=%u,", threads);
    snprintf(words, sizeof(words), "%s%s%s%s", smt, c->options.bind,
             c->argv.cpu_bind || getenv("SLURM_CPU_BIND") ? ",keep-cpus" : "",
             c->argv.mem_bind || getenv("SLURM_MEM_BIND") ? ",keep-memory" : "");
    if (strlen(words) >= sizeof(c->options.bind)) {
        snprintf(error, PM_ERROR_CAP, "--pm-bind=%s: takes fewer words together with --cpu-bind, --mem-bind or --hint",
                 c->options.bind);
        return -EINVAL;
    }
    strcpy(c->options.bind, words);
    return 0;
}

// srun takes it for --container, also where sbatch --container has left it behind.
static int check_container(char *error)
{
    const char *bundle = getenv("SLURM_CONTAINER");
    if (!bundle || !*bundle)
        return 0;
    snprintf(error, PM_ERROR_CAP, "SLURM_CONTAINER=%.200s: --pm-supervise does not support OCI containers; unset it",
             bundle);
    return -EINVAL;
}

// Refuses what cannot work before anything else is made. 0, -EINVAL with a sentence, or -ENOMEM without.
static int read_input(struct coordinator *c, const struct arguments *a, char *error)
{
    const char *conf = getenv("SLURM_PM_STEP_CONF");
    pm_options_default(&c->options);
    if (!conf || pm_options_decode(&c->options, conf, error) < 0) {
        if (!conf)
            snprintf(error, PM_ERROR_CAP, "is started by srun --pm-supervise, not by hand");
        return -EINVAL;
    }
    int r = pm_srun_argv_rewrite(a->argv, a->program, &c->argv, error);
    if (r == 0)
        r = pm_relaunch_read(c, error);
    if (r < 0)
        return r;
    const char *wait = getenv("SLURM_WAIT");
    if (!c->argv.wait_given && wait && pm_srun_wait_parse(wait, &c->argv.wait_s) < 0)
        c->argv.wait_s = 0;  // srun ignores it, too
    r = check_container(error);
    if (r == 0)
        r = keep_what_was_bound(c, error);
    if (r == 0)
        r = check_nodes(c, error);
    if (r == 0)
        r = pm_fence_check(c, error);
    if (r == 0)
        r = pm_coordinator_bound_check(c, error);
    return r < 0 ? r : pm_coordinator_log_check(c, error);
}

static int open_listener(struct coordinator *c, char *error)
{
    struct pm_peers_config config = {
        .base = c->base,
        .secure = {.key = c->key, .version = PM_VERSION, .launch = c->launch,
                   .node = PM_NODE_COORDINATOR},
        .port_min = c->options.port_min, .port_max = c->options.port_max,
        .coordinator = "", .nodelist = "",
    };
    size_t n = 0;
    PM_CLEANUP_FREE uint16_t *ports =
        pm_listen_ports_of_range(c->options.port_min, c->options.port_max, &n);
    int r = ports ? pm_peers_new(&config, &c->peers) : -ENOMEM;
    if (r == 0)
        r = pm_peers_listen(c->peers, ports, n);
    if (r < 0 && c->options.port_min)
        snprintf(error, PM_ERROR_CAP, "cannot listen on any port of --pm-port-range=%u-%u: %s",
                 c->options.port_min, c->options.port_max, strerror(-r));
    else if (r < 0)
        snprintf(error, PM_ERROR_CAP, "cannot listen for the nodes: %s", strerror(-r));
    return r;
}

// "login1:40123", for the sentence that names a node which has not joined.
static void name_ourselves(const struct coordinator *c, char *buf, size_t cap)
{
    char host[256] = "this host";
    const char *colon = strrchr(pm_peers_addresses(c->peers), ':');
    gethostname(host, sizeof(host) - 1);
    snprintf(buf, cap, "%s%s", host, colon ? colon : "");
}

static int start_core(struct coordinator *c)
{
    char name[512];
    name_ourselves(c, name, sizeof(name));
    struct pm_core_config config = {.node = PM_NODE_COORDINATOR, .launch = c->launch,
                                    .options = &c->options, .addresses = name,
                                    .wait_ms = (uint64_t)c->argv.wait_s * 1000};
    pm_relaunch_config(c, &config);
    int r = pm_core_new(&config, pm_clock_ns(), &c->core);
    if (r < 0)
        return r;
    struct pm_loop_config loop = {.base = c->base, .core = c->core,
                                  .handlers = pm_coordinator_handlers, .arg = c,
                                  .before_timer = before_timer, .failed = on_core_failed};
    r = pm_loop_new(&loop, &c->loop);
    if (r == 0)
        pm_peers_set_loop(c->peers, c->loop);
    return r;
}

// Without a terminal srun disregards --pty.
static int open_lines(struct coordinator *c)
{
    bool raw = c->argv.pty && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    return pm_lines_new(c->base, STDERR_FILENO, raw, &c->lines);
}

static int start(struct coordinator *c, char *error)
{
    struct event_config *config = event_config_new();
    if (config)
        event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME);
    c->base = config ? event_base_new_with_config(config) : NULL;
    if (config)
        event_config_free(config);
    c->children = pm_children_new();
    if (!c->base || !c->children || open_lines(c) < 0) {
        snprintf(error, PM_ERROR_CAP, "out of memory");
        return -ENOMEM;
    }
    raise_nofile(c);
    int r = open_listener(c, error);
    if (r < 0)
        return r;
    r = start_core(c);
    if (r == 0)
        r = pm_srun_start(c);
    if (r < 0)
        snprintf(error, PM_ERROR_CAP, "cannot start supervision: %s", strerror(-r));
    return r;
}

static void stop(struct coordinator *c)
{
    if (c->srun)
        kill(c->srun, SIGKILL);
    pm_job_done(c);
    pm_nodes_done(c);
    pm_output_done(c);
    pm_losses_done(c);
    pm_fence_end(c);
    pm_coordinator_bound_done(c);
    pm_srun_done(c);
    c->peers = pm_peers_free(c->peers);
    c->loop = pm_loop_free(c->loop);
    c->core = pm_core_free(c->core);
    c->children = pm_children_free(c->children);
    pm_coordinator_log_done(c);
    pm_srun_argv_done(&c->argv);
    if (c->lines)
        pm_lines_flush(c->lines, LINES_IDLE_MS, LINES_WHOLE_MS);
    c->lines = pm_lines_free(c->lines);
    if (c->base)
        event_base_free(c->base);
    sodium_memzero(c->key, sizeof(c->key));
}

// A caller may have closed 0, 1 or 2. None of our own fds may get such a number, for we write to 2; and the
// real srun finds them closed, as it would have without us.
static void occupy_stdio(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    static struct coordinator c = {.report_fd = -1};
    struct arguments a = {.libexec = PM_LIBEXEC_DIR};
    char error[PM_ERROR_CAP] = "";
    STAILQ_INIT(&c.early);
    STAILQ_INIT(&c.losses);
    STAILQ_INIT(&c.fences);
    STAILQ_INIT(&c.bound);
    occupy_stdio();
    pm_srun_inherit(&c.inherited);
    prctl(PR_SET_DUMPABLE, 0);  // the key of the step is in our memory
    pm_memory_keep(COORDINATOR_KEEP);
    if (argp_parse(&argp, argc, argv, 0, NULL, &a))
        return PM_EXIT_CANNOT_SUPERVISE;
    if (sodium_init() < 0) {
        pm_coordinator_say(&c, "libsodium does not work here");
        return PM_EXIT_CANNOT_SUPERVISE;
    }
    c.exe = a.exe;
    c.libexec = a.libexec;
    randombytes_buf(c.key, sizeof(c.key));
    int r = read_input(&c, &a, error);
    if (r == 0)
        r = start(&c, error);
    if (r < 0)
        pm_coordinator_say(&c, error[0] ? error : strerror(-r));
    else
        event_base_dispatch(c.base);
    int status = r < 0 ? PM_EXIT_CANNOT_SUPERVISE : c.verdict;
    sigset_t mask = {0};
    if (c.relaunch)
        mask = *pm_signals_old_mask(c.signals);
    stop(&c);
    return c.relaunch ? pm_relaunch_exec(&c.inherited, &mask, argv) : status;
}
