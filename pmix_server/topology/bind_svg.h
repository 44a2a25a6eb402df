// SPDX-License-Identifier: Apache-2.0
//
// Where everything stands in pm-bind's picture, in pixels. Boxes of one sort have one size, so that equal
// things look equal: packages in rows, NUMA nodes in them, cores of an L3 side by side, and below the
// cores the devices that are near to them.
#ifndef PM_TOPOLOGY_BIND_SVG_H
#define PM_TOPOLOGY_BIND_SVG_H

#include "pmix_server/topology/machine.h"

enum {
    SVG_CELL = 20,     // a core
    SVG_GAP = 4,       // between cores
    SVG_PAD = 10,      // inside a box, and between boxes
    SVG_HEAD = 20,     // height of a box's title
    SVG_CHIP = 24,     // height of a device
    SVG_CHIP_WIDTH = 120,
    SVG_TOP = 72,      // above the packages: title and summary
};

// Devices are numbered through: GPUs first, then NICs.
struct svg_shelf {  // the devices of one box
    uint32_t *devices;
    uint32_t n;
};

struct svg_layout {
    const struct pm_machine *machine;
    struct svg_shelf *numas, *packages, elsewhere;
    uint32_t *groups;           // core i is in group groups[i] of its NUMA node (an L3, or what is in it)
    uint32_t groups_per_row;
    int group_columns, group_width, group_height;
    uint32_t numas_per_row, packages_per_row;
    int numa_width, numa_height, numa_cores_height;
    int package_width, package_height, package_numas_height;
    int width, height;          // of all, without title and legend
};

// 0 or -ENOMEM; svg_layout_done() in both cases.
int svg_layout_make(struct svg_layout *layout, const struct pm_machine *machine);
void svg_layout_done(struct svg_layout *layout);

// Chips in a row of this width, and the height of all of a shelf (0: it is empty).
uint32_t svg_shelf_columns(int width);
int svg_shelf_height(const struct svg_shelf *shelf, int width);

#endif
