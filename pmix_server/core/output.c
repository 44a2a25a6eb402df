// SPDX-License-Identifier: Apache-2.0
//
// See output.h.
#include "pmix_server/core/output.h"

void pm_output_watch_begin(struct pm_output_watch *w, uint32_t lost, const struct pm_output_look *first, uint64_t now_ns)
{
    *w = (struct pm_output_watch){.lost = lost, .last = *first, .busy_ns = now_ns};
}

static bool is_quiet(const struct pm_output_look *look, const struct pm_output_look *before)
{
    return !look->unknown && !look->unread && !look->stuck && look->traffic == before->traffic &&
           look->connections == before->connections;
}

bool pm_output_watch_look(struct pm_output_watch *w, const struct pm_output_look *look, uint64_t now_ns)
{
    if (!is_quiet(look, &w->last))
        w->busy_ns = now_ns;
    w->last = *look;
    uint64_t enough_ms = look->connections > w->lost ? PM_OUTPUT_QUIET_OPEN_MS : PM_OUTPUT_QUIET_MS;
    return now_ns - w->busy_ns >= enough_ms * 1000000;
}
