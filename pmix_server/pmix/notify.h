// SPDX-License-Identifier: Apache-2.0
//
// Events about dead ranks to the clients of this node.
#ifndef PM_PMIX_NOTIFY_H
#define PM_PMIX_NOTIFY_H

#include <stdint.h>

// NOTIFY of server_proto.h: raises one event. NOTIFIED `id` is sent when it is in the sockets of all
// local clients that registered for its code and they have had 5 ms to read it: NOTIFIED lets the agent
// send the signal that the event announces, and nothing tells when a client's handler has run. Main
// thread; does not wait.
struct pm_death {
    uint64_t id;
    const char *nspace;
    uint32_t rank;  // of any node
    int32_t cause;  // enum pm_cause
    int32_t wait_status;
    const char *text;
};
void pm_notify_death(const struct pm_death *death);
// Sends what is due; milliseconds until it must be called again, -1: not by time.
int pm_notify_tick(void);

#endif
