// SPDX-License-Identifier: Apache-2.0
//
// See picture.h: asks the machine, the kernel and the device files, in this order.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/topology/allowed.h"
#include "pmix_server/topology/devices.h"
#include "pmix_server/topology/discover.h"
#include "pmix_server/topology/picture.h"

static int take(const char *root, bool gpus, struct pm_picture *p)
{
    int rc = pm_discover_host(root, gpus, &p->machine, p->error);
    if (rc < 0)
        return rc;
    rc = pm_allowed_affinity(0, &p->affinity);
    if (rc == 0)
        rc = pm_allowed_cgroup(root, &p->cgroup);
    if (rc == -ENOENT)
        rc = 0;
    if (rc == 0 && gpus)
        rc = pm_devices_admitted(root, &p->machine, &p->admitted);
    if (rc == 0 && gpus)
        rc = pm_devices_migs(root, &p->machine, &p->migs, &p->n_migs);
    if (rc < 0)
        snprintf(p->error, sizeof(p->error), "cannot find out which CPUs and GPUs may be used: %s",
                 strerror(-rc));
    return rc;
}

// A picture is whole, or a sentence only.
static void keep_sentence(struct pm_picture *p)
{
    char why[PM_ERROR_CAP];
    memcpy(why, p->error, sizeof(why));
    pm_picture_done(p);
    memcpy(p->error, why, sizeof(why));
}

void pm_picture_take(const char *root, struct pm_picture *ret_picture)
{
    *ret_picture = (struct pm_picture){0};
    if (take(root, true, ret_picture) < 0)
        keep_sentence(ret_picture);
}

void pm_picture_take_without_gpus(const char *root, struct pm_picture *ret_picture)
{
    *ret_picture = (struct pm_picture){0};
    if (take(root, false, ret_picture) < 0)
        keep_sentence(ret_picture);
}

void pm_picture_take_xml(const char *path, struct pm_picture *ret_picture)
{
    *ret_picture = (struct pm_picture){0};
    if (pm_discover_xml(path, &ret_picture->machine, &ret_picture->affinity, ret_picture->error) < 0)
        keep_sentence(ret_picture);
}
