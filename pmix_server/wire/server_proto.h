// SPDX-License-Identifier: Apache-2.0
//
// What an agent and its pm-pmix-server say to each other.
//
// A SOCK_STREAM socket pair, fd 3 in the server. A message is u32 length (of what follows), u8 type,
// payload; at most PM_SERVER_FRAME_MAX bytes. Ranks travel as pm_set. "id" is chosen by the side that
// asks and is unique per connection and direction. Either side ends the connection on a malformed
// message. The agent kills the server at the end of the epoch and never waits for it.
//
// Server's life: exec with argv {pm-pmix-server, DIR} where DIR is the step's 0700 directory for it;
// PMIx_server_init; INITED; (standby until) NSPACE; then ENV for each local rank, then READY.
// SLURMD_NODENAME in its environment, if set, is the host name that ranks are told.
//
// Silent replacement of a server that no rank has connected to yet: kill and reap the old one, exec a
// new one with argv {pm-pmix-server, DIR, PORT}, DIR and PORT (of INITED) being the old one's, and send
// the same NSPACE: the environment that the ranks already have is then valid for the new server. If
// it cannot have the port it says FAILED, and the ranks must be started again.
#ifndef PM_WIRE_SERVER_PROTO_H
#define PM_WIRE_SERVER_PROTO_H

#include <stdint.h>

#define PM_SERVER_FD 3
#define PM_SERVER_FRAME_MAX (1u << 30)

enum pm_server_msg {
    PM_SERVER_NONE = 0,
    // agent -> server
    PM_SERVER_NSPACE,   // see struct pm_nspace_info: encoded by pm_write_nspace
    PM_SERVER_FENCE_DONE,   // u64 id, i32 status (enum pm_server_status), bytes data
    PM_SERVER_MODEX_DONE,   // u64 id, i32 status, bytes data: answer to MODEX
    PM_SERVER_FETCH,        // u64 id, u32 local rank: give me that rank's blob; answered by FETCHED, may take
                            // until the rank commits; FETCH_CANCEL u64 id forgets it
    PM_SERVER_FETCH_CANCEL,
    PM_SERVER_NOTIFY,       // u64 id, i32 cause (enum pm_cause of core/core.h; the server maps it to a PMIx code),
                            // u32 dead rank (of any node), i32 wait status, str text; answered by NOTIFIED u64 id
    PM_SERVER_PING,         // u64 n; answered by PONG from the PMIx progress thread's health check
    PM_SERVER_BORN,         // u32 local rank, u32 pid: its process, so that the server sees it end before its connection
    PM_SERVER_DIED,         // u32 local rank: its process ended and will not be started again in this epoch (so that
                            // what waits for it can end). Not for a rank that is restarted alone
    // server -> agent
    PM_SERVER_INITED,     // str PMIx version (below 64 bytes), u16 port that ranks connect to
    PM_SERVER_ENV,        // u32 rank, u32 n, n x str "NAME=value"
    PM_SERVER_READY,      // (nothing): all ENV sent, clients may connect
    PM_SERVER_CONNECTED,  // u32 rank; once per connection: a rank's forked children may connect too
    PM_SERVER_FINALIZED,  // u32 rank
    PM_SERVER_ABORT,      // u32 rank that asked, i32 status, str message, set of targets (empty: all)
    PM_SERVER_FENCE,      // u64 id, u8 collect, u64 timeout_ms (0 none), u8 local failure, set of ranks, bytes data.
                          // Fences whose participants are all local never leave the server
    PM_SERVER_MODEX,      // u64 id, u32 rank wanted, u64 timeout_ms
    PM_SERVER_FETCHED,    // u64 id, i32 status, bytes data
    PM_SERVER_NOTIFIED,   // u64 id
    PM_SERVER_PONG,       // u64 n
    PM_SERVER_SAY,        // str: a line for srun's stderr
    PM_SERVER_FAILED,     // str: why the server cannot serve; it exits next
    PM_SERVER_MAX,
};

// Results that cross this protocol and the tree; mapped to PMIX_* codes in pmix_server/pmix/ only.
enum pm_server_status {
    PM_STATUS_OK = 0,
    PM_STATUS_TIMEOUT = 1,
    PM_STATUS_LOST = 2,       // a participant was lost
    PM_STATUS_NOT_FOUND = 3,
    PM_STATUS_ABORTED = 4,    // the epoch ended
    PM_STATUS_ERROR = 5,
};

#endif
