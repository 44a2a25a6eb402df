// SPDX-License-Identifier: Apache-2.0
//
// What the two halves of the pair test share: pair.c (command line, ranks, costs) and pair_servers.c
// (the servers, their messages, and the stand-in for the tree).
#ifndef PM_TESTS_PMIX_SERVER_PAIR_H
#define PM_TESTS_PMIX_SERVER_PAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/server_proto.h"
#include "pmix_server/wire/set.h"

enum { NODES_MAX = 64, RANKS_MAX = 1024, EXIT_BROKEN = 2, ENV_MAX = 256 };

struct options {
    const char *server;
    const char *dir;
    unsigned nodes;
    unsigned ppn;
    unsigned epoch;
    int kill_rank;       // -1: none
    unsigned kill_ms;    // after READY
    unsigned limit_s;
    bool no_died;        // do not tell servers about ended ranks
    bool no_notify;      // raise no events
    bool replace;        // kill and replace each server before the ranks start
    bool let_go;         // at the end let the servers end by themselves
    bool measure;        // ask for PSS and CPU at the end
    bool verbose;
    char **command;
};

struct node {
    pid_t pid;
    int fd;
    char dir[256];
    uint16_t port;
    uint8_t *in;
    size_t in_len;
    size_t in_cap;
    bool ready;
    unsigned pongs;
    int64_t started_ns;
    int64_t inited_ns;
    double init_cpu_ms;
    int64_t nspace_ns;
    int64_t ready_ns;
};

struct rank {
    pid_t pid;
    bool ended;
    bool finalized;
    bool connected;
    bool aborted;
    int wait_status;
    char *env[ENV_MAX];
    unsigned n_env;
};

extern struct options opt;
extern struct node nodes[NODES_MAX];
extern struct rank ranks[RANKS_MAX];
extern unsigned n_ranks;   // on all nodes
extern unsigned n_fences;  // relayed
extern bool killed;        // by us: bad ends are expected

int64_t now_ns(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Kills everything, ends the program with EXIT_BROKEN.
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
// CPU time of all threads of a process.
double cpu_ms(pid_t pid);

unsigned node_of(unsigned rank);
// port 0: any.
void start_server(unsigned node, uint16_t port);
void send_nspace(unsigned node);
void frame_begin(struct pm_writer *w, uint8_t type);
void frame_send(unsigned node, struct pm_writer *w);
// Reads what a server has sent and acts on it.
void receive(unsigned node);
// A rank was lost: fences that wait for it end.
void settle_fences(void);

#endif
