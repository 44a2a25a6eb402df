// SPDX-License-Identifier: Apache-2.0
//
// pm-bind's picture: the machine, with each core and device in the colours of the ranks that have it.
// Plain SVG 1.1 without scripts, fonts or style sheets, so that every viewer shows the same.
#include "pmix_server/topology/bind_svg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/pm_bind.h"

#define STRIPES_MAX 8       // ranks that are told apart in one core or device
#define LEGEND_MAX 64       // ranks with a line of their own
#define LEGEND_LINE 18
#define LEGEND_INDENT 90     // for "rank 12"
#define CELL_TEXT_MAX 44    // characters of a legend's cell
#define CHAR_WIDTH 7

// The first ranks have colours that were chosen for each other, the others follow around the circle.
static const char *const palette[] = {"#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948",
                                      "#b07aa1", "#ff9da7", "#9c755f", "#5b4b9a", "#d37295", "#8cd17d"};
#define PALETTE (sizeof(palette) / sizeof(*palette))

struct owners {
    uint32_t ranks[STRIPES_MAX];
    uint32_t n;  // may be more than are in `ranks`
};

struct drawing {
    FILE *out;
    const struct pm_bind_view *view;
    const struct pm_machine *machine;
    struct svg_layout layout;
    struct owners *cores, *devices;
    int x0, y0;  // of the first package
};

static void add_owner(struct owners *o, uint32_t rank)
{
    for (uint32_t i = 0; i < o->n && i < STRIPES_MAX; i++) {
        if (o->ranks[i] == rank)
            return;
    }
    if (o->n < STRIPES_MAX)
        o->ranks[o->n] = rank;
    o->n++;
}

static void find_owners(struct drawing *d)
{
    const struct pm_bind_request *request = d->view->report.request;
    const struct pm_binding *b = d->view->report.binding;
    for (uint32_t r = 0; r < b->n_ranks; r++) {
        const struct pm_bind_rank *rank = &b->ranks[r];
        for (uint32_t i = 0; i < rank->n_cores; i++)
            add_owner(&d->cores[rank->cores[i]], r);
        for (uint32_t i = 0; i < rank->n_gpus; i++) {
            uint32_t place = request->gpus[rank->gpus[i]];
            if (place != PM_PLACE_NONE)
                add_owner(&d->devices[place], r);
        }
        for (uint32_t i = 0; i < rank->n_nics; i++)
            add_owner(&d->devices[d->machine->n_gpus + rank->nics[i].nic], r);
    }
}

// "#rrggbb" for a hue of 0..359, with the lightness that suits it.
static char *colour_of(uint32_t rank, char buf[8])
{
    if (rank < PALETTE) {
        memcpy(buf, palette[rank], 8);
        return buf;
    }
    uint32_t hue = (rank * 222) % 360, sector = hue / 60, part = hue % 60;
    int low = 70 + (int)(rank / 9 % 3) * 30, high = 225, rising = low + (high - low) * (int)part / 60;
    int falling = high + low - rising;
    const int rgb[6][3] = {{high, rising, low}, {falling, high, low}, {low, high, rising},
                           {low, falling, high}, {rising, low, high}, {high, low, falling}};
    snprintf(buf, 8, "#%02x%02x%02x", rgb[sector][0] & 0xff, rgb[sector][1] & 0xff, rgb[sector][2] & 0xff);
    return buf;
}

static bool is_dark(const char *colour)
{
    unsigned r = 0, g = 0, b = 0;
    sscanf(colour, "#%2x%2x%2x", &r, &g, &b);
    return r * 299 + g * 587 + b * 114 < 140000;
}

// XML text; everything that is not printable ASCII becomes a question mark.
static void put_escaped(FILE *out, const char *text, size_t max)
{
    for (size_t i = 0; i < max && text[i]; i++) {
        switch (text[i]) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(text[i] >= ' ' && text[i] <= '~' ? text[i] : '?', out);
        }
    }
    if (strlen(text) > max)
        fputs("...", out);
}

static void put_text(struct drawing *d, int x, int y, const char *attributes, const char *text)
{
    fprintf(d->out, "<text x=\"%d\" y=\"%d\" %s>", x, y, attributes);
    put_escaped(d->out, text, SIZE_MAX);
    fputs("</text>\n", d->out);
}

struct rect {
    int x, y, w, h;
};

static void put_box(struct drawing *d, struct rect at, const char *fill, const char *title)
{
    fprintf(d->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" fill=\"%s\" stroke=\"#b8bec6\"/>\n", at.x,
            at.y, at.w, at.h, fill);
    put_text(d, at.x + SVG_PAD, at.y + 15, "font-size=\"11\" fill=\"#4a5260\"", title);
}

// A thing in the colours of its owners; without one it is white, or grey if it was not granted.
static void put_stripes(struct drawing *d, struct rect at, const struct owners *o, bool granted)
{
    uint32_t n = o->n < STRIPES_MAX ? o->n : STRIPES_MAX;
    char colour[8];
    for (uint32_t i = 0; i < n; i++) {
        int from = at.w * (int)i / (int)n, to = at.w * (int)(i + 1) / (int)n;
        fprintf(d->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\" fill=\"%s\"/>\n", at.x + from, at.y,
                to - from, at.h, n == 1 ? 3 : 0, colour_of(o->ranks[i], colour));
    }
    fprintf(d->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"3\" fill=\"%s\" stroke=\"%s\"%s/>\n", at.x, at.y,
            at.w, at.h, n ? "none" : granted ? "#ffffff" : "#e3e6ea", granted ? "#6b7480" : "#b8bec6",
            granted ? "" : " stroke-dasharray=\"2 2\"");
}

static const char *ink_on(const struct owners *o, char colour[8])
{
    if (o->n == 0)
        return "#4a5260";
    return is_dark(colour_of(o->ranks[0], colour)) ? "#ffffff" : "#1b1f24";
}

static void put_title(struct drawing *d, const char *what, const struct pm_set *pus, const struct owners *o)
{
    char cpus[128];
    fputs("<title>", d->out);
    put_escaped(d->out, what, SIZE_MAX);
    if (pus->n)
        fprintf(d->out, ", CPUs %s", pm_set_format(pus, cpus, sizeof(cpus)));
    for (uint32_t i = 0; i < o->n && i < STRIPES_MAX; i++)
        fprintf(d->out, "%s%u", i ? ", " : ", rank ", o->ranks[i]);
    fprintf(d->out, "%s</title>\n", o->n > STRIPES_MAX ? ", ..." : "");
}

static void put_core(struct drawing *d, int x, int y, uint32_t c)
{
    const struct pm_machine_core *core = &d->machine->cores[c];
    const struct owners *o = &d->cores[c];
    char what[32], attributes[96], colour[8];
    snprintf(what, sizeof(what), "core %u", c);
    fputs("<g>", d->out);
    put_title(d, what, &core->pus, o);
    put_stripes(d, (struct rect){x, y, SVG_CELL, SVG_CELL}, o,
                pm_set_intersects(&core->pus, d->view->report.request->allowed));
    if (o->n == 1) {
        snprintf(what, sizeof(what), "%u", o->ranks[0]);
        snprintf(attributes, sizeof(attributes), "font-size=\"%d\" text-anchor=\"middle\" fill=\"%s\"",
                 o->ranks[0] < 100 ? 10 : 8, ink_on(o, colour));
        put_text(d, x + SVG_CELL / 2, y + 14, attributes, what);
    }
    fputs("</g>\n", d->out);
}

// "GPU 0@06:00.0": its tokens; "mlx5_0".
static void name_device(const struct drawing *d, uint32_t device, char *name, size_t cap)
{
    const struct pm_machine *m = d->machine;
    const struct pm_bind_request *request = d->view->report.request;
    if (device >= m->n_gpus) {
        const struct pm_machine_nic *nic = &m->nics[device - m->n_gpus];
        snprintf(name, cap, "%s%s", nic->name, nic->down ? " (down)" : "");
        return;
    }
    const char *token = NULL;
    for (uint32_t i = 0; i < request->n_gpus && !token; i++) {
        if (request->gpus[i] == device)
            token = pm_report_token(&d->view->report, i);
    }
    char pci[PM_REPORT_PCI];
    snprintf(name, cap, "GPU %.5s %s", token ? token : "", pm_report_pci(&m->gpus[device].pci, pci));
}

static bool is_granted(const struct drawing *d, uint32_t device)
{
    const struct pm_bind_request *request = d->view->report.request;
    bool granted = device >= d->machine->n_gpus;
    for (uint32_t i = 0; i < request->n_gpus; i++)
        granted |= request->gpus[i] == device;
    return granted;
}

// The ranks that use a NIC stand in it as dots: many may share one.
static void put_nic(struct drawing *d, struct rect at, uint32_t device, const char *name)
{
    const struct owners *o = &d->devices[device];
    bool down = d->machine->nics[device - d->machine->n_gpus].down;
    char colour[8];
    put_title(d, name, &d->machine->nics[device - d->machine->n_gpus].near, o);
    fprintf(d->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\" fill=\"%s\" stroke=\"#b8bec6\"%s/>\n", at.x,
            at.y, at.w, at.h, SVG_CHIP / 2, down ? "#f4f6f8" : "#ffffff", down ? " stroke-dasharray=\"3 2\"" : "");
    put_text(d, at.x + 12, at.y + 16, down ? "font-size=\"11\" fill=\"#8a929c\"" : "font-size=\"11\" fill=\"#1b1f24\"", name);
    for (uint32_t i = 0; i < o->n && i < STRIPES_MAX; i++)
        fprintf(d->out, "<circle cx=\"%d\" cy=\"%d\" r=\"5\" fill=\"%s\"/>\n", at.x + at.w - 14 - 7 * (int)i, at.y + at.h / 2,
                colour_of(o->ranks[i], colour));
}

static void put_gpu(struct drawing *d, struct rect at, uint32_t device, const char *name)
{
    const struct pm_machine_gpu *gpu = &d->machine->gpus[device];
    const struct owners *o = &d->devices[device];
    char attributes[96], colour[8];
    put_title(d, gpu->model[0] ? gpu->model : name, &gpu->near, o);
    put_stripes(d, at, o, is_granted(d, device));
    snprintf(attributes, sizeof(attributes), "font-size=\"11\" fill=\"%s\"", ink_on(o, colour));
    put_text(d, at.x + 8, at.y + 16, attributes, name);
}

static void put_chip(struct drawing *d, struct rect at, uint32_t device)
{
    char name[64];
    name_device(d, device, name, sizeof(name));
    fputs("<g>", d->out);
    if (device < d->machine->n_gpus)
        put_gpu(d, at, device, name);
    else
        put_nic(d, at, device, name);
    fputs("</g>\n", d->out);
}

static void put_shelf(struct drawing *d, struct rect at, const struct svg_shelf *shelf)
{
    int columns = (int)svg_shelf_columns(at.w);
    int width = (at.w + SVG_GAP) / columns - SVG_GAP;
    for (uint32_t i = 0; i < shelf->n; i++) {
        int column = (int)i % columns, row = (int)i / columns;
        put_chip(d, (struct rect){at.x + column * (width + SVG_GAP), at.y + row * (SVG_CHIP + SVG_GAP), width, SVG_CHIP},
                 shelf->devices[i]);
    }
}

static void put_group(struct drawing *d, int x, int y, uint32_t numa, uint32_t group)
{
    const struct svg_layout *l = &d->layout;
    int n = 0;
    fprintf(d->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"4\" fill=\"#f4f6f8\" stroke=\"#d5dae0\"/>\n", x, y,
            l->group_width, l->group_height);
    for (uint32_t c = 0; c < d->machine->n_cores; c++) {
        if (d->machine->cores[c].numa != numa || l->groups[c] != group)
            continue;
        put_core(d, x + SVG_GAP + n % l->group_columns * (SVG_CELL + SVG_GAP),
                 y + SVG_GAP + n / l->group_columns * (SVG_CELL + SVG_GAP), c);
        n++;
    }
}

static uint32_t count_groups(const struct drawing *d, uint32_t numa)
{
    uint32_t n = 0;
    for (uint32_t c = 0; c < d->machine->n_cores; c++) {
        if (d->machine->cores[c].numa == numa && d->layout.groups[c] >= n)
            n = d->layout.groups[c] + 1;
    }
    return n;
}

static void put_numa(struct drawing *d, int x, int y, uint32_t i)
{
    const struct svg_layout *l = &d->layout;
    const struct pm_machine_numa *numa = &d->machine->numas[i];
    char title[64] = "no memory";
    if (numa->os_index != PM_PLACE_NONE)
        snprintf(title, sizeof(title), "NUMA %u", numa->os_index);
    if (numa->memory_bytes)
        snprintf(title + strlen(title), 32, ", %llu GiB", (unsigned long long)(numa->memory_bytes >> 30));
    put_box(d, (struct rect){x, y, l->numa_width, l->numa_height}, "#ffffff", title);
    uint32_t groups = count_groups(d, i);
    for (uint32_t g = 0; g < groups; g++)
        put_group(d, x + SVG_PAD + (int)(g % l->groups_per_row) * (l->group_width + SVG_PAD),
                  y + SVG_HEAD + (int)(g / l->groups_per_row) * (l->group_height + SVG_PAD), i, g);
    put_shelf(d, (struct rect){x + SVG_PAD, y + SVG_HEAD + l->numa_cores_height + SVG_PAD, l->numa_width - 2 * SVG_PAD, 0},
              &l->numas[i]);
}

static void put_package(struct drawing *d, int x, int y, uint32_t p)
{
    const struct svg_layout *l = &d->layout;
    char title[32];
    int n = 0, per_row = (int)l->numas_per_row;
    snprintf(title, sizeof(title), "package %u", p);
    put_box(d, (struct rect){x, y, l->package_width, l->package_height}, "#e9edf2", title);
    for (uint32_t i = 0; i < d->machine->n_numas; i++) {
        if (d->machine->numas[i].package != p)
            continue;
        put_numa(d, x + SVG_PAD + n % per_row * (l->numa_width + SVG_PAD),
                 y + SVG_HEAD + n / per_row * (l->numa_height + SVG_PAD), i);
        n++;
    }
    put_shelf(d, (struct rect){x + SVG_PAD, y + SVG_HEAD + l->package_numas_height + SVG_PAD,
                               l->package_width - 2 * SVG_PAD, 0}, &l->packages[p]);
}

static void put_machine(struct drawing *d)
{
    const struct svg_layout *l = &d->layout;
    int per_row = (int)l->packages_per_row;
    for (uint32_t p = 0; p < d->machine->n_packages; p++)
        put_package(d, d->x0 + (int)p % per_row * (l->package_width + SVG_PAD),
                    d->y0 + (int)p / per_row * (l->package_height + SVG_PAD), p);
    int shelf = svg_shelf_height(&l->elsewhere, l->width);
    put_shelf(d, (struct rect){d->x0, d->y0 + l->height - shelf, l->width, 0}, &l->elsewhere);
}

// The columns of the legend; cores and reasons are seen in the picture.
static const enum pm_report_column legend_columns[] = {PM_REPORT_CPUS, PM_REPORT_GPUS, PM_REPORT_NICS, PM_REPORT_MEMORY,
                                               PM_REPORT_WHY};
enum { LEGEND_COLUMNS = sizeof(legend_columns) / sizeof(*legend_columns) };

struct legend {
    char *cells[LEGEND_MAX][LEGEND_COLUMNS];
    int widths[LEGEND_COLUMNS];  // pixels
    uint32_t n;
    int width, height;
};

static int legend_fill(struct legend *l, const struct pm_map_report *report)
{
    uint32_t ranks = report->binding->n_ranks;
    for (int c = 0; c < LEGEND_COLUMNS; c++)
        l->widths[c] = (int)strlen(pm_report_titles[legend_columns[c]]) * CHAR_WIDTH + 20;
    for (l->n = 0; l->n < ranks && l->n < LEGEND_MAX; l->n++) {
        for (int c = 0; c < LEGEND_COLUMNS; c++) {
            char *cell = pm_report_cell(report, l->n, legend_columns[c]);
            if (!cell)
                return -ENOMEM;
            size_t len = strlen(cell);
            int width = (int)(len > CELL_TEXT_MAX ? CELL_TEXT_MAX + 3 : len) * CHAR_WIDTH + 20;
            l->cells[l->n][c] = cell;
            l->widths[c] = width > l->widths[c] ? width : l->widths[c];
        }
    }
    l->width = LEGEND_INDENT;
    for (int c = 0; c < LEGEND_COLUMNS; c++)
        l->width += l->widths[c];
    l->height = l->n ? ((int)l->n + 1 + (ranks > l->n)) * LEGEND_LINE : 0;
    return 0;
}

static void legend_done(struct legend *l)
{
    for (uint32_t i = 0; i < LEGEND_MAX; i++) {
        for (int c = 0; c < LEGEND_COLUMNS; c++)
            free(l->cells[i][c]);
    }
}

static void put_legend(struct drawing *d, const struct legend *l, int y)
{
    static const char plain[] = "font-size=\"12\" font-family=\"monospace\" fill=\"#1b1f24\"";
    uint32_t ranks = d->view->report.binding->n_ranks;
    char text[48], colour[8];
    for (int c = 0, x = d->x0 + LEGEND_INDENT; c < LEGEND_COLUMNS && l->n; x += l->widths[c++])
        put_text(d, x, y + 12, "font-size=\"10\" fill=\"#8a929c\"", pm_report_titles[legend_columns[c]]);
    y += LEGEND_LINE;
    for (uint32_t r = 0; r < l->n; r++, y += LEGEND_LINE) {
        int x = d->x0 + LEGEND_INDENT;
        snprintf(text, sizeof(text), "rank %u", r);
        fprintf(d->out, "<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"14\" rx=\"3\" fill=\"%s\"/>\n", d->x0, y,
                colour_of(r, colour));
        put_text(d, d->x0 + 20, y + 12, plain, text);
        for (int c = 0; c < LEGEND_COLUMNS; x += l->widths[c++]) {
            fprintf(d->out, "<text x=\"%d\" y=\"%d\" %s>", x, y + 12, plain);
            put_escaped(d->out, l->cells[r][c], CELL_TEXT_MAX);
            fputs("</text>\n", d->out);
        }
    }
    if (ranks > l->n) {
        snprintf(text, sizeof(text), "and %u more ranks", ranks - l->n);
        put_text(d, d->x0 + 20, y + 12, plain, text);
    }
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static void put_all(struct drawing *d, const struct legend *l)
{
    const struct pm_bind_view *v = d->view;
    int text = (int)strlen(v->summary) * CHAR_WIDTH, below = l->height ? l->height + 2 * SVG_PAD : 0;
    int width = larger(larger(d->layout.width, l->width), text) + 4 * SVG_PAD;
    int height = SVG_TOP + d->layout.height + below + 2 * SVG_PAD;
    fprintf(d->out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
            "font-family=\"Helvetica, Arial, sans-serif\" role=\"img\">\n", width, height, width, height);
    fprintf(d->out, "<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#ffffff\" stroke=\"#d5dae0\"/>\n", width, height);
    put_text(d, d->x0, 34, "font-size=\"18\" font-weight=\"bold\" fill=\"#1b1f24\"", v->title);
    put_text(d, d->x0, 54, "font-size=\"12\" fill=\"#4a5260\"", v->summary);
    put_machine(d);
    put_legend(d, l, d->y0 + d->layout.height + 2 * SVG_PAD);
    fputs("</svg>\n", d->out);
}

int pm_bind_write_svg(FILE *out, const struct pm_bind_view *view)
{
    const struct pm_machine *m = view->report.machine;
    struct legend legend = {0};
    struct drawing d = {.out = out, .view = view, .machine = m, .x0 = 2 * SVG_PAD, .y0 = SVG_TOP,
                        .cores = calloc(m->n_cores + 1, sizeof(struct owners)),
                        .devices = calloc((size_t)m->n_gpus + m->n_nics + 1, sizeof(struct owners))};
    int rc = svg_layout_make(&d.layout, m);
    if (rc == 0)
        rc = d.cores && d.devices ? legend_fill(&legend, &view->report) : -ENOMEM;
    if (rc == 0) {
        find_owners(&d);
        put_all(&d, &legend);
    }
    legend_done(&legend);
    svg_layout_done(&d.layout);
    free(d.cores);
    free(d.devices);
    return rc;
}
