// SPDX-License-Identifier: Apache-2.0
//
// A map in words: what a rank got, one short text for each thing, and all ranks of a node in a sentence.
// --pm-bind-report and pm-bind print the same.
#ifndef PM_TOPOLOGY_REPORT_H
#define PM_TOPOLOGY_REPORT_H

#include "pmix_server/topology/granted.h"
#include "pmix_server/topology/map.h"

// What is shown; everything is borrowed.
struct pm_map_report {
    const struct pm_machine *machine;
    const struct pm_bind_request *request;
    const struct pm_binding *binding;
    const struct pm_granted *granted;  // token of each position in request.gpus; NULL: none
};

enum pm_report_column {
    PM_REPORT_CPUS = 0,  // "0-15,128-143"
    PM_REPORT_CORES,     // "16"
    PM_REPORT_NUMA,      // "1", "1,2": nodes that its CPUs are in
    PM_REPORT_GPUS,      // "0@06:00.0,1@16:00.0": token and PCI address
    PM_REPORT_NICS,      // "mlx5_0/PXB": name and distance
    PM_REPORT_MEMORY,    // "prefer 1"
    PM_REPORT_WHY,       // "near,gpu-shared"
    PM_REPORT_COLUMNS,
};

extern const char *const pm_report_titles[PM_REPORT_COLUMNS];  // "CPUS", ...

// Words: "PXB"; "prefer"; "06:00.0", with the domain where it is not 0 (buf of PM_REPORT_PCI bytes).
enum { PM_REPORT_PCI = 24 };
const char *pm_report_rail(enum pm_rail rail);
const char *pm_report_memory(enum pm_bind_memory memory);
const char *pm_report_pci(const struct pm_pci *pci, char *buf);
// The GPU at a position of request.gpus, NULL: the machine does not show it; and its token, "?" if
// there is none.
const struct pm_machine_gpu *pm_report_gpu(const struct pm_map_report *report, uint32_t position);
const char *pm_report_token(const struct pm_map_report *report, uint32_t position);

// malloc'd texts, NULL without memory. "-" where there is nothing.
char *pm_report_cell(const struct pm_map_report *report, uint32_t rank, enum pm_report_column column);
// "rank 3: cpus 0-15 (16 cores), numa 1, gpu 0@06:00.0, nic mlx5_0/PXB, memory prefer 1; near".
// `number` is what the rank is called.
char *pm_report_line(const struct pm_map_report *report, uint32_t rank, uint32_t number);
// "4 ranks, 32 cores each (128 of 128 used), 1 GPU each (4 of 4 used), ...".
char *pm_report_summary(const struct pm_map_report *report);

#endif
