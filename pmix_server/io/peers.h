// SPDX-License-Identifier: Apache-2.0
//
// All links of one process by the numbers that the core knows them by: turns DIAL, SEND and CLOSE into
// connections, and what happens to connections into LINK_UP, FRAME and LINK_DOWN events.
//
// A stranger is nobody here: until its handshake is done a connection has no number and no event; at
// most PM_PEERS_STRANGERS_MAX of them exist, each for PM_HANDSHAKE_MS. When there are as many, the oldest one that
// lets us wait makes room for the next after PM_PEERS_PATIENCE_MS, so that nobody keeps others out by saying nothing.
// One whose HELLO was authentic keeps its place: it may be on a busy host. One that was sent away before its HELLO
// came takes the close for no refusal (dial.h), and dials again.
#ifndef PM_IO_PEERS_H
#define PM_IO_PEERS_H

#include "pmix_server/io/conn.h"
#include "pmix_server/io/loop.h"

#define PM_PEERS_STRANGERS_MAX 64
#define PM_PEERS_PATIENCE_MS 100

struct pm_peers;

struct pm_peers_config {
    struct event_base *base;
    struct pm_secure_config secure;  // key is copied
    uint32_t port_min;               // range of derived ports; 0: see pm_secure_derived_port()
    uint32_t port_max;
    const char *coordinator;  // its address list, "" at the coordinator
    const char *nodelist;     // Slurm's host list, to dial nodes by name; "" at the coordinator
};

int pm_peers_new(const struct pm_peers_config *config, struct pm_peers **ret);
struct pm_peers *pm_peers_free(struct pm_peers *p);
// Where events go; before anything else happens.
void pm_peers_set_loop(struct pm_peers *p, struct pm_loop *loop);
// Listens on the first free one of `ports` (0: any). 0 or negative errno.
int pm_peers_listen(struct pm_peers *p, const uint16_t *ports, size_t n);
// As above, on the ports derived from the key for our own node; if all are taken, on any of the range.
int pm_peers_listen_derived(struct pm_peers *p);
// Own addresses with the port that we listen on, "a:p,[b]:p"; "" before.
const char *pm_peers_addresses(const struct pm_peers *p);

void pm_peers_dial(struct pm_peers *p, const struct pm_action *action);
void pm_peers_send(struct pm_peers *p, const struct pm_action *action);
void pm_peers_close(struct pm_peers *p, const struct pm_action *action);
// Handles all input that can be read now.
void pm_peers_drain(struct pm_peers *p);

#endif
