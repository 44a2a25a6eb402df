// SPDX-License-Identifier: Apache-2.0
//
// Names of the messages of shim_proto.h, for logs, and the check that the page shared between
// agent and shims can be shared: its fields must be lock-free, because the two processes that
// use them share nothing else.
#include "pmix_server/wire/shim_proto.h"

#include <stdatomic.h>

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "the lease page needs lock-free atomics");

static const char *const names[PM_SHIM_MAX] = {
    [PM_SHIM_NONE] = "none",           [PM_SHIM_HELLO] = "hello",
    [PM_SHIM_STARTED] = "started",     [PM_SHIM_EXITED] = "exited",
    [PM_SHIM_TREE_GONE] = "tree-gone", [PM_SHIM_SIGNALLED] = "signalled",
    [PM_SHIM_SAY] = "say",             [PM_SHIM_WELCOME] = "welcome",
    [PM_SHIM_REFUSE] = "refuse",       [PM_SHIM_START] = "start",
    [PM_SHIM_SIGNAL] = "signal",       [PM_SHIM_KILL] = "kill",
    [PM_SHIM_PAUSE] = "pause",         [PM_SHIM_RESUME] = "resume",
    [PM_SHIM_END] = "end",             [PM_SHIM_PREPARE] = "prepare",
    [PM_SHIM_UNBOUND] = "unbound",
};

const char *pm_shim_msg_name(uint32_t msg)
{
    return msg < PM_SHIM_MAX ? names[msg] : "unknown";
}
