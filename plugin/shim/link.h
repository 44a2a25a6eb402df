// SPDX-License-Identifier: Apache-2.0
//
// The shim's connection to its agent: packets in, packets out, nothing decided. See shim_proto.h
// for the messages. Sends never block: an agent that does not read must not keep the shim from
// watching the lease.
#ifndef PM_SHIM_LINK_H
#define PM_SHIM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin/shim/shim.h"
#include "pmix_server/wire/buf.h"

// Connects and checks that the listener was made by config->listener_uid. Returns an fd at or above
// PM_FD_FLOOR, close-on-exec and non-blocking, or a negative errno (-EPERM: made by somebody else).
int pm_link_connect(const struct pm_shim_config *config);

// Sends one packet and resets w. 0 or negative errno; -EAGAIN: the agent has not read for long.
int pm_link_send(int fd, struct pm_writer *w);
// True if so much lies unread with the agent that what can be left out should be.
bool pm_link_is_crowded(int fd);

// Receives one packet into buf. Returns its length, 0 at the end of the connection, or a negative
// errno (-EAGAIN: nothing there, -EBADMSG: too long or empty). *ret_fd is the fd that came with it
// (close-on-exec, the caller's), or -1.
long pm_link_receive(int fd, void *buf, size_t cap, int *ret_fd);

#endif
