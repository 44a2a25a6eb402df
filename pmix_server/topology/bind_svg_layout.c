// SPDX-License-Identifier: Apache-2.0
//
// See bind_svg.h.
#include "pmix_server/topology/bind_svg.h"

#include <errno.h>
#include <stdlib.h>

// Columns for n equal things in a block that is about twice as wide as high.
static int columns_of(uint32_t n)
{
    static const uint32_t widths[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32};
    for (size_t i = 0; i < sizeof(widths) / sizeof(*widths); i++) {
        if (widths[i] * widths[i] >= 2 * n || widths[i] == n)
            return (int)widths[i];
    }
    return 48;
}

// In a row, for n boxes that should stand in a square.
static uint32_t per_row_of(uint32_t n)
{
    uint32_t root = 1;
    while (root * root < n)
        root++;
    return n <= 3 ? (n ? n : 1) : root;
}

static int rows_of(uint32_t n, uint32_t per_row)
{
    return (int)((n + per_row - 1) / per_row);
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

// Outer size of `n` boxes of `size` with padding between them.
static int span_of(int n, int size)
{
    return n > 0 ? n * size + (n - 1) * SVG_PAD : 0;
}

uint32_t svg_shelf_columns(int width)
{
    int n = (width + SVG_GAP) / (SVG_CHIP_WIDTH + SVG_GAP);
    return n > 0 ? (uint32_t)n : 1;
}

int svg_shelf_height(const struct svg_shelf *shelf, int width)
{
    return rows_of(shelf->n, svg_shelf_columns(width)) * (SVG_CHIP + SVG_GAP);
}

// The smallest box that holds all CPUs near to the device.
static struct svg_shelf *shelf_of(struct svg_layout *l, const struct pm_set *near)
{
    const struct pm_machine *m = l->machine;
    for (uint32_t i = 0; i < m->n_numas && near->n; i++) {
        if (pm_set_covers(&m->numas[i].pus, near))
            return &l->numas[i];
    }
    for (uint32_t i = 0; i < m->n_packages && near->n; i++) {
        if (pm_set_covers(&m->packages[i].pus, near))
            return &l->packages[i];
    }
    return &l->elsewhere;
}

static int place_devices(struct svg_layout *l)
{
    const struct pm_machine *m = l->machine;
    for (uint32_t i = 0; i < m->n_gpus + m->n_nics; i++) {
        bool is_gpu = i < m->n_gpus;
        struct svg_shelf *shelf = shelf_of(l, is_gpu ? &m->gpus[i].near : &m->nics[i - m->n_gpus].near);
        uint32_t *devices = realloc(shelf->devices, (shelf->n + 1) * sizeof(*devices));
        if (!devices)
            return -ENOMEM;
        shelf->devices = devices;
        devices[shelf->n++] = i;
    }
    return 0;
}

// A node's cores in groups by L3; the largest group and the most groups decide for all.
static void group_cores(struct svg_layout *l)
{
    const struct pm_machine *m = l->machine;
    uint32_t largest = 1, most = 1;
    for (uint32_t numa = 0; numa < m->n_numas; numa++) {
        uint32_t n = 0, size = 0, last = 0;
        for (uint32_t c = 0; c < m->n_cores; c++) {
            if (m->cores[c].numa != numa)
                continue;
            if (n == 0 || m->cores[c].l3 != last) {
                n++;
                size = 0;
            }
            last = m->cores[c].l3;
            l->groups[c] = n - 1;
            largest = ++size > largest ? size : largest;
        }
        most = n > most ? n : most;
    }
    l->group_columns = columns_of(largest);
    l->group_width = l->group_columns * (SVG_CELL + SVG_GAP) + SVG_GAP;
    l->group_height = rows_of(largest, (uint32_t)l->group_columns) * (SVG_CELL + SVG_GAP) + SVG_GAP;
    l->groups_per_row = per_row_of(most);
    l->numa_width = larger(span_of((int)l->groups_per_row, l->group_width), SVG_CHIP_WIDTH) + 2 * SVG_PAD;
    l->numa_cores_height = span_of(rows_of(most, l->groups_per_row), l->group_height);
}

static uint32_t most_numas(const struct pm_machine *m)
{
    uint32_t most = 1;
    for (uint32_t p = 0; p < m->n_packages; p++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < m->n_numas; i++)
            n += m->numas[i].package == p;
        most = n > most ? n : most;
    }
    return most;
}

// Height of a title, the contents and a shelf below them.
static int box_height(int contents, int shelf)
{
    return SVG_HEAD + contents + (shelf ? SVG_PAD + shelf - SVG_GAP : 0) + SVG_PAD;
}

static void measure(struct svg_layout *l)
{
    const struct pm_machine *m = l->machine;
    int shelf = 0, inner;
    for (uint32_t i = 0; i < m->n_numas; i++)
        shelf = larger(shelf, svg_shelf_height(&l->numas[i], l->numa_width - 2 * SVG_PAD));
    l->numa_height = box_height(l->numa_cores_height, shelf);
    uint32_t most = most_numas(m);
    l->numas_per_row = per_row_of(most);
    inner = span_of((int)l->numas_per_row, l->numa_width);
    l->package_width = inner + 2 * SVG_PAD;
    l->package_numas_height = span_of(rows_of(most, l->numas_per_row), l->numa_height);
    shelf = 0;
    for (uint32_t i = 0; i < m->n_packages; i++)
        shelf = larger(shelf, svg_shelf_height(&l->packages[i], inner));
    l->package_height = box_height(l->package_numas_height, shelf);
    l->packages_per_row = m->n_packages <= 4 && l->package_width > 600 ? (m->n_packages + 1) / 2 : per_row_of(m->n_packages);
    l->width = span_of((int)l->packages_per_row, l->package_width);
    shelf = svg_shelf_height(&l->elsewhere, l->width);
    l->height = span_of(rows_of(m->n_packages, l->packages_per_row), l->package_height) + (shelf ? SVG_PAD + shelf : 0);
}

int svg_layout_make(struct svg_layout *layout, const struct pm_machine *machine)
{
    *layout = (struct svg_layout){.machine = machine,
                                  .numas = calloc(machine->n_numas + 1, sizeof(struct svg_shelf)),
                                  .packages = calloc(machine->n_packages + 1, sizeof(struct svg_shelf)),
                                  .groups = calloc(machine->n_cores + 1, sizeof(uint32_t))};
    if (!layout->numas || !layout->packages || !layout->groups)
        return -ENOMEM;
    int rc = place_devices(layout);
    if (rc < 0)
        return rc;
    group_cores(layout);
    measure(layout);
    return 0;
}

void svg_layout_done(struct svg_layout *layout)
{
    const struct pm_machine *m = layout->machine;
    for (uint32_t i = 0; layout->numas && i < m->n_numas; i++)
        free(layout->numas[i].devices);
    for (uint32_t i = 0; layout->packages && i < m->n_packages; i++)
        free(layout->packages[i].devices);
    free(layout->elsewhere.devices);
    free(layout->numas);
    free(layout->packages);
    free(layout->groups);
}
