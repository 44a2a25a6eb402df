// SPDX-License-Identifier: Apache-2.0
//
// What pm-discover found out about a node, as bytes for the one who started it: the machine and what of
// it this process may use, or one sentence why that is not known. A reader checks that everything in it
// fits together: the mapper need not.
#ifndef PM_TOPOLOGY_PICTURE_H
#define PM_TOPOLOGY_PICTURE_H

#include "pmix_server/topology/machine.h"
#include "pmix_server/wire/options.h"

struct pm_picture {
    char error[PM_ERROR_CAP];     // "" = found; otherwise everything below is empty
    struct pm_machine machine;
    struct pm_set affinity;       // CPUs that this process may run on
    struct pm_set cgroup;         // CPUs of its cpuset; empty: it is in none
    struct pm_set admitted;       // places in machine.gpus that it can open
    uint32_t *migs;               // place of the GPU of each MIG device that it can open
    uint32_t n_migs;
};

// This host as this process sees it; never fails, but may say so in ret_picture->error. `root` as for
// pm_discover_host(). pm_picture_done() frees it.
void pm_picture_take(const char *root, struct pm_picture *ret_picture);
// The same for a step without GPUs: no device file is opened, which would wake GPUs that sleep, and none is admitted.
void pm_picture_take_without_gpus(const char *root, struct pm_picture *ret_picture);
// An XML file; `affinity` is what whoever wrote it was allowed to use.
void pm_picture_take_xml(const char *path, struct pm_picture *ret_picture);
// What `take` does, in a forked process that has so much time: hwloc (2.9) crashes on some damaged XML
// files and may hang on a host. For programs without sockets and threads; waits for it.
typedef void pm_picture_take_f(const char *root_or_path, struct pm_picture *ret_picture);
void pm_picture_in_child(pm_picture_take_f *take, const char *root_or_path, int limit_ms,
                         struct pm_picture *ret_picture);
void pm_picture_done(struct pm_picture *picture);

// Errors are the writer's: w->error.
void pm_picture_write(struct pm_writer *w, const struct pm_picture *picture);
// All of it to a file descriptor. 0 or a negative errno.
int pm_picture_send(int fd, const struct pm_writer *w);
// 0; -EBADMSG: these bytes are no picture, or one of another version; -ENOMEM. *ret_picture is then empty.
int pm_picture_read(const void *data, size_t len, struct pm_picture *ret_picture);

#endif
