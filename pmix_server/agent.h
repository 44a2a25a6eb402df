// SPDX-License-Identifier: Apache-2.0
//
// pm-agent: one per node and step, as the job's user, below local task 0's shim. It executes what its
// core decides: tells shims what to start and kill, runs the PMIx servers, keeps its place in the tree.
// This header is shared by agent*.c only; each file owns the part of the struct that carries its name.
#ifndef PM_AGENT_H
#define PM_AGENT_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "pmix_server/agent_world.h"
#include "pmix_server/core/core.h"
#include "pmix_server/io/children.h"
#include "pmix_server/io/event_log.h"
#include "pmix_server/io/loop.h"
#include "pmix_server/io/peers.h"
#include "pmix_server/io/room.h"
#include "pmix_server/io/signals.h"
#include "pmix_server/wire/shim_proto.h"

#define PM_AGENT_LISTENER_FD 3
#define PM_AGENT_KEY_FD 4
#define PM_AGENT_PATH_CAP 1024

// --- agent_config.c: what the shim put into our environment ------------------------------------------
struct pm_agent_config {
    char *version;
    char *coordinator;  // address list
    char *nodelist;
    char *node_name;
    char *libexec;
    char *tmpdir;
    char *command;  // of the ranks, with its arguments; "": not known, or not one for all
    char *place;  // switches above this node, "spine.leaf"; "": not known
    struct pm_options options;
    uint32_t launch;
    uint32_t job;
    uint32_t step;
    uint32_t node;
    uint32_t nnodes;
    uint32_t ntasks;
    uint32_t uid;
    uint32_t n_local;
    uint32_t *local_ranks;
    uint32_t has_gpus;  // the task that started us has GPUs
    uint8_t key[PM_KEY_LEN];
};
// Reads PM_AGENT_* and the key from fd 4 (closed then). 0, or negative errno with a sentence (PM_ERROR_CAP).
int pm_agent_config_read(struct pm_agent_config *c, char *error);
void pm_agent_config_done(struct pm_agent_config *c);

// --- agent_oom.c: has the kernel's OOM killer been at work? -----------------------------------------
// Count of OOM kills in the memory cgroup that process `pid` is in, which is kept in `path`
// (PM_AGENT_PATH_CAP bytes, "" if there is none) for pm_oom_read() when the process is gone.
void pm_oom_open(uint32_t pid, char *path, uint64_t *ret_count);
uint64_t pm_oom_read(const char *path);
// The least memory limit of our own cgroup and those above it; 0: there is none.
uint64_t pm_memory_limit_mib(void);

// What has to be removed if this agent dies; in memory that it shares with its janitor.
struct pm_agent_legacy {
    char folder[PM_AGENT_PATH_CAP];  // of the step; "": not made
    uint32_t job;
    uint32_t step;
    uint32_t epoch;     // newest
    uint32_t n_epochs;  // begun so far
};

struct agent;
struct packet;
struct server;
struct pm_facts;
struct pm_agent_bind;

// One local task.
struct shim {
    struct agent *agent;
    uint32_t local;
    int fd;  // -1: not there
    struct event *readable;
    struct pm_room room;
    STAILQ_HEAD(, packet) queue;
    unsigned n_queued;
    uint32_t pid;
    bool was_there;
    struct pm_facts *facts;  // what the task was given, see agent_bind.h
    bool ended;      // END is wanted or out: what follows is no loss
    bool end_override;
    int32_t end_status;
    struct pm_action start;  // the newest, without its pointers
    bool held;  // it was not sent: its epoch has no server at the moment
    // The rank, as far as we must know it to judge its end or to kill it ourselves.
    uint32_t rank_pid;
    uint64_t rank_start;  // starttime of /proc/PID/stat: the pid's identity
    uint32_t epoch;
    uint32_t incarnation;
    char oom_path[PM_AGENT_PATH_CAP];
    uint64_t oom_count;
};

// A connection that has not said who it is.
struct caller {
    struct agent *agent;
    int fd;
    uint32_t pid;
    struct event *event;
    LIST_ENTRY(caller) entry;
};

struct agent {
    // agent.c
    struct event_base *base;
    struct pm_core *core;
    struct pm_loop *loop;
    struct pm_peers *peers;
    struct pm_children *children;
    struct pm_signals *signals;
    struct pm_agent_config config;
    uint64_t memory_mib;  // that the step may use here; 0: no limit
    char refusal[PM_ERROR_CAP];  // why this agent cannot work; "": it can
    bool dying;       // DIE was given: leave when the ranks are gone
    bool ending;      // END_AGENT was given
    bool ends_sent;   // and the shims were told
    struct event *linger;
    struct event *end_timer;
    uint64_t notices;
    // agent_shims.c
    struct shim *shims;  // config.n_local
    struct event *acceptable;  // NULL: nobody may join any more
    LIST_HEAD(, caller) callers;
    unsigned n_callers;
    unsigned n_refused;
    unsigned n_connected;
    unsigned n_joined;  // shims that were ever there
    bool any_started;
    // agent_lease.c
    int lease_fd;  // -1: none
    // agent_server.c
    LIST_HEAD(, server) servers;
    struct event *watchdog;
    struct event *standby_timer;
    unsigned standby_failures;
    unsigned drain_turn;
    uint64_t last_watch_ns;
    // agent_folder.c
    struct pm_agent_legacy *legacy;
    int folder_lock;
    unsigned n_folders;
    // agent_world.c
    struct pm_agent_world world;
    // agent_port.c
    uint16_t last_port;
    // agent_log.c
    struct pm_event_log *log;
    bool log_failed;
    // agent_bind.c
    struct pm_agent_bind *bind;
    // agent_health.c
    pid_t health;           // the check that runs; 0: none
    uint64_t health_check;  // number of the newest
};

// --- agent.c ------------------------------------------------------------------------------------------
// Leaves when everything that is queued for shims is out, or after `ms`.
void pm_agent_leave(struct agent *a, uint64_t ms);
void pm_agent_say(struct agent *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
// How many ranks of the world are on this node now.
uint32_t pm_agent_n_ranks(const struct agent *a);
// This agent cannot work: shims that are there and those that come are told why, then it ends.
void pm_agent_refuse(struct agent *a, const char *why);

// --- agent_actions.c ------------------------------------------------------------------------------------
extern const pm_action_f pm_agent_handlers[PM_ACTION_MAX];
// The server of `epoch` is ready: STARTs that waited for it go out.
void pm_agent_start_held(struct agent *a, uint32_t epoch);
// Tells the shims of running ranks what a start of `epoch` would most likely be, by what its server has
// said; so that they do what can be done ahead.
void pm_agent_prepare_starts(struct agent *a, const struct server *standby, uint32_t epoch);
// A server was reaped: if that was all that the end waited for, the shims are told now.
void pm_agent_end_if_clean(struct agent *a);
// A rank is gone: if DIE was given and it was the last one, leaves.
void pm_agent_leave_if_dead(struct agent *a);

// --- agent_shims.c --------------------------------------------------------------------------------------
int pm_shims_open(struct agent *a);  // 0, or negative errno and nothing is open
void pm_shims_done(struct agent *a);
// Queues one packet. NULL w or a writer with an error: out of memory, the link is given up.
void pm_shim_send(struct shim *s, const struct pm_writer *w);
void pm_shim_send_type(struct shim *s, enum pm_shim_msg type);  // packets without content
void pm_shims_refuse(struct agent *a);
void pm_shims_drain(struct agent *a);

// --- agent_lease.c --------------------------------------------------------------------------------------
int pm_lease_open(struct agent *a);  // 0 or negative errno; pm_lease_done() in any case
void pm_lease_done(struct agent *a);
// end_ns: CLOCK_BOOTTIME, not 0. Before the first one no lease is in force.
void pm_lease_set(struct agent *a, uint64_t end_ns);

// --- agent_bind*.c: where the ranks run -------------------------------------------------------------------
int pm_bind_open(struct agent *a);  // begins to look at the node. 0 or -ENOMEM
void pm_bind_done(struct agent *a);
void pm_bind_facts_read(struct shim *s, struct pm_reader *r);  // the end of HELLO
void pm_bind_facts_done(struct shim *s);
void pm_bind_on_unbound(struct shim *s, struct pm_reader *r);
bool pm_bind_is_pending(const struct agent *a);  // nothing can be said about ranks yet; pm_servers_release() follows
// CPUs of the rank that local task `local` has in the world that is known now, "0-3"; NULL: its task's, and then
// *ret_package_rank (see wire/nspace.h) is not valid.
const char *pm_bind_cpus(struct agent *a, uint32_t local, uint16_t *ret_package_rank);
void pm_bind_write_place(struct agent *a, uint32_t local, struct pm_writer *w);
char *const *pm_bind_env(struct agent *a, uint32_t local, uint32_t *ret_n);

// --- agent_tree.c: a rank whose shim is gone, or does not obey ------------------------------------------------------------
// SIGKILLs the rank and whatever carries its step, rank and incarnation in its environment.
void pm_tree_kill(const struct shim *s);
// Signals the rank's own process, if there is one.
void pm_tree_signal(const struct shim *s, int signal);
uint64_t pm_tree_start_time(uint32_t pid);  // 0: no such process

// --- agent_server.c ---------------------------------------------------------------------------------------
int pm_servers_open(struct agent *a);
// It is known where the ranks run: servers that wait for that get their namespace.
void pm_servers_release(struct agent *a);
void pm_servers_kill(struct agent *a);  // all of them; they are reaped by the loop
void pm_servers_done(struct agent *a);  // kills all, removes what they leave
void pm_server_prepare(struct agent *a, uint32_t epoch);
void pm_server_drop(struct agent *a, uint32_t epoch);
// Server that holds the environments of `epoch`, NULL: none is ready.
struct server *pm_server_of(struct agent *a, uint32_t epoch);
char *const *pm_server_env(const struct server *s, uint32_t local, uint32_t *ret_n);
// Handles what the servers have said, before a rank's end is judged.
void pm_servers_drain(struct agent *a);
void pm_server_rank_started(struct agent *a);   // it may be time for a standby server
void pm_server_fenced(struct agent *a);         // the same
void pm_server_rank_born(struct agent *a, const struct shim *shim);  // tells it the rank's pid
void pm_server_rank_ended(struct agent *a, uint32_t epoch, uint32_t rank);
// One message to the server of `epoch`; dropped if there is none. False: there is none.
bool pm_server_send(struct agent *a, uint32_t epoch, const struct pm_writer *w);
// The same, with `data` behind what `head` holds.
bool pm_server_send_data(struct agent *a, uint32_t epoch, const struct pm_writer *head,
                         const void *data, size_t len);
// Number of the notice after which NOTIFIED is to be posted.
void pm_server_expect_notified(struct agent *a, uint32_t epoch, uint64_t id);

// --- agent_folder.c ---------------------------------------------------------------------------------------
// Makes a folder (mode 0700) in `parent` whose name starts with `name` and locks it, so that
// pm_folder_sweep_stale() of others knows that its owner lives. Writes its path; returns the fd of the lock,
// or negative errno.
int pm_folder_make(const char *parent, const char *name, char *path, size_t cap);
// With all that is in it, never through links. True if it is gone.
bool pm_folder_remove(const char *path);
// Removes shared memory files that Open MPI left on this node in n epochs, from `epoch` on, of a step.
void pm_folder_sweep_epochs(uint32_t job, uint32_t step, uint32_t epoch, uint32_t n);
// Removes what agents of this user left in `tmpdir` that were killed with their janitor.
void pm_folder_sweep_stale(uint32_t uid, const char *tmpdir);

// Makes a new 0700 folder inside the step's own one (made first, if it is not there). Writes its
// path. 0 or negative errno.
int pm_folder_new(struct agent *a, char *path, size_t cap);
void pm_folder_done(struct agent *a);  // the step's folder, and what the last epochs left

// --- agent_janitor.c --------------------------------------------------------------------------------------
// Splits this process: the parent stays behind to clean up, the child returns and is the agent. NULL:
// no memory. To be called before anything else is set up.
struct pm_agent_legacy *pm_janitor_fork(void);

// --- agent_size.c: what the node offers --------------------------------------------------------------------
// GPUs of all tasks that have joined, each once.
uint32_t pm_size_gpus(const struct agent *a);

// --- agent_health.c: --pm-health ---------------------------------------------------------------------------
void pm_health_check(struct agent *a, uint64_t check);  // answered by PM_EVENT_HEALTH
void pm_health_done(struct agent *a);                   // ends one that still runs

// --- agent_port.c: a port that was free a moment ago, for the next MASTER_PORT --------------------------
void pm_port_offer(struct agent *a);

// --- agent_log.c: --pm-log-nodes --------------------------------------------------------------------------
void pm_agent_log_open(struct agent *a);
void pm_agent_log(struct agent *a, const struct pm_log *record);

#endif
