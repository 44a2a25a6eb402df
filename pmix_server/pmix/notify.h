// SPDX-License-Identifier: Apache-2.0
//
// Events about dead ranks to the clients of this node.
#ifndef PM_PMIX_NOTIFY_H
#define PM_PMIX_NOTIFY_H

#include <stdint.h>

// NOTIFY of server_proto.h: raises one event and sends NOTIFIED `id` when it is on its way to every
// local client that registered for its code. Main thread; does not wait.
struct pm_death {
    uint64_t id;
    const char *nspace;
    uint32_t rank;  // of any node
    int32_t cause;  // enum pm_cause
    int32_t wait_status;
    const char *text;
};
void pm_notify_death(const struct pm_death *death);

#endif
