// SPDX-License-Identifier: Apache-2.0
//
// One pm-pmix-server process as its agent sees it. Shared by agent_server*.c only: agent_server.c
// owns its life, agent_server_standby.c that of the one for the next epoch, agent_server_exec.c its
// start, agent_server_io.c what is said, agent_server_nspace.c what it is to serve.
#ifndef PM_AGENT_SERVER_H
#define PM_AGENT_SERVER_H

#include "pmix_server/agent.h"
#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/server_proto.h"

enum server_state {
    SERVER_NONE = 0,
    SERVER_STARTING,  // libpmix is being initialised
    SERVER_INITED,    // on standby, and which ranks it will serve is not known
    SERVER_SERVING,   // NSPACE is out
    SERVER_READY,
    SERVER_PROVING,  // was READY on standby, its epoch has come: has to show that it lives
    SERVER_DEAD,      // killed or lost; waits to be reaped
};

struct env_list {
    char **entries;
    uint32_t n;
};

struct server {
    struct agent *agent;
    enum server_state state;
    bool has_epoch;  // else: on standby, and the core knows nothing of it
    bool blank;      // on standby without a namespace: this node waits as a spare
    uint32_t epoch;
    uint32_t map_version;  // of the world that its namespace is of, 0: it has none
    pid_t pid;  // 0: reaped
    int fd;
    struct event *readable;
    struct pm_room room;
    struct event *start_timer;
    struct pm_writer in;
    size_t in_at;
    struct pm_writer out;
    size_t out_at;
    char folder[PM_AGENT_PATH_CAP];
    uint16_t port;
    bool reaping;         // its pid is no longer its own
    unsigned drained;     // turn of pm_servers_drain() that has been here
    bool dropped;         // by us: what follows is no loss
    bool keep_folder;     // a replacement serves the same ranks from it
    char why[PM_TEXT_CAP];  // of the loss, if known
    struct env_list *envs;  // one per local task
    uint32_t n_connected;   // distinct local ranks
    bool *connected;        // one per local task
    uint64_t notice;        // id of the NOTIFY after which NOTIFIED is posted; 0: none
    uint64_t ping;          // last one sent
    uint64_t pong;          // last one answered
    uint64_t pinged_ns;
    LIST_ENTRY(server) entry;
};

// --- agent_server.c
// Ends it: SIGKILL, and SERVER_LOST with `why` if an epoch depends on it.
void pm_server_lose(struct server *s, const char *why);
// With has_epoch the one of `epoch`, else the one on standby; NULL: there is none.
struct server *pm_server_find(struct agent *a, bool has_epoch, uint32_t epoch);
// `standby`: `epoch` is still to come. `old`: the lost server whose place it takes. 0 or negative errno.
int pm_server_start(struct agent *a, uint32_t epoch, bool standby, struct server *old);

// --- agent_server_standby.c
bool pm_server_standby_open(struct agent *a);     // false: no memory
void pm_server_ranks_connected(struct agent *a);  // all of this node's

// --- agent_server_exec.c
// In the fork: becomes the server that talks on fd, or says why not and exits. port 0: any.
__attribute__((noreturn)) void pm_server_become(const struct server *s, int fd, uint16_t port);

// --- agent_server_io.c
int pm_server_io_open(struct server *s, int fd);  // takes fd over, also on failure
void pm_server_io_close(struct server *s);
// A message: its length is put before `head`, `data` follows as it is.
void pm_server_write(struct server *s, const struct pm_writer *head, const void *data, size_t len);
void pm_server_read(struct server *s);
// The local task of `rank` in the world of now, or -1.
int pm_server_local_of(const struct agent *a, uint32_t rank);
// agent_server_nspace.c: what it is to serve; later, if nothing can be said about CPUs yet.
void pm_server_send_nspace(struct server *s);
// It is READY and its epoch has begun: ranks that wait for it are started, and the core is told.
void pm_server_serve(struct server *s);

#endif
