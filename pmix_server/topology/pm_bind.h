// SPDX-License-Identifier: Apache-2.0
//
// What the files of the tool pm-bind share: what it was asked, what it works on, and how it is shown.
#ifndef PM_TOPOLOGY_PM_BIND_H
#define PM_TOPOLOGY_PM_BIND_H

#include <stdio.h>

#include "pmix_server/topology/report.h"

struct pm_bind_asked {
    const char *topology;  // XML file, NULL: this host
    const char *cpus, *gpus;  // lists, NULL: all that may be used
    uint32_t n_tasks;
    bool has_n_tasks;
    struct pm_bind_options options;
};

struct pm_bind_input {
    struct pm_machine machine;
    struct pm_set allowed;
    struct pm_granted granted;
    uint32_t *gpus;  // places of granted.gpus
};

// Reads the machine and what of it is granted. 0 or a negative errno with a sentence in error
// (PM_ERROR_CAP bytes); pm_bind_input_done() in both cases.
int pm_bind_input_read(const struct pm_bind_asked *asked, struct pm_bind_input *ret_input, char *error);
void pm_bind_input_done(struct pm_bind_input *input);

// GPUs by a list that a person typed: numbers and ranges (in the runtime's order, the first vendor's
// first), PCI addresses, beginnings of UUIDs; "all" or "none". NULL: all. Errors as above.
int pm_bind_gpus_read(const struct pm_machine *machine, const char *list, struct pm_granted *ret_granted,
                      char *error);

struct pm_bind_view {
    struct pm_map_report report;
    const char *title;   // what machine this is
    const char *summary;
    bool explain;        // also the sentences on each rank
};

// Each writes a whole document to `out`; 0 or -ENOMEM. What the stream says to it is the caller's.
int pm_bind_write_text(FILE *out, const struct pm_bind_view *view);
int pm_bind_write_list(FILE *out, const struct pm_bind_view *view);  // the devices, without ranks
int pm_bind_write_json(FILE *out, const struct pm_bind_view *view);
int pm_bind_write_svg(FILE *out, const struct pm_bind_view *view);

#endif
