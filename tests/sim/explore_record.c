// SPDX-License-Identifier: Apache-2.0
//
// See explore_hash.c: the two records of record.h, whose version only means something beside another one.
#include "tests/sim/explore.h"

#include "pmix_server/core/node.h"
#include "pmix_server/core/supervisor.h"

// How far behind the coordinator's; 0 is "none yet".
static void hash_version(struct pm_digest *d, const struct x_world *w, uint64_t version)
{
    uint64_t newest = w->cores[x_nnodes]->core->supervisor->wanted.version;
    pm_digest_u64(d, version ? newest - version : UINT64_MAX);
}

void x_hash_version(struct pm_digest *d, const struct x_world *w, const struct pm_core *agent)
{
    hash_version(d, w, agent->node->wanted.version);
}

static void hash_wanted(struct pm_digest *d, const struct x_world *w, struct pm_reader *r)
{
    struct pm_wanted wanted;
    pm_read_wanted(r, &wanted, x_nnodes, x_nnodes);
    pm_wanted_digest(&wanted, d);
    hash_version(d, w, wanted.version);
    pm_wanted_done(&wanted);
}

static void hash_report(struct pm_digest *d, struct pm_reader *r)
{
    struct pm_report report;
    pm_read_report(r, &report, x_nnodes, x_nnodes);
    pm_report_digest(&report, d);
    pm_report_done(&report);
}

bool x_hash_record(struct pm_digest *d, const struct x_world *w, uint8_t type, struct pm_reader *r)
{
    if (type == PM_FRAME_WANTED)
        hash_wanted(d, w, r);
    else if (type == PM_FRAME_REPORT)
        hash_report(d, r);
    else
        return type == PM_FRAME_SAY; // only read by people
    return true;
}
