// SPDX-License-Identifier: Apache-2.0
//
// Names of the messages of shim_proto.h, for logs.
#include "pmix_server/wire/shim_proto.h"

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
