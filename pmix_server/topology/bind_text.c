// SPDX-License-Identifier: Apache-2.0
//
// pm-bind's text: a table with one line for each rank and one line for all, and the list of devices.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/pm_bind.h"

static void put_machine(FILE *out, const struct pm_bind_view *view)
{
    const struct pm_machine *m = view->report.machine;
    const struct count {
        uint32_t n;
        const char *name;
    } counts[] = {{m->n_packages, "package"}, {m->n_numas, "NUMA node"}, {m->n_l3s, "L3 cache"},
                  {m->n_cores, "core"}, {(uint32_t)pm_set_count(&m->pus), "CPU"}, {m->n_gpus, "GPU"}, {m->n_nics, "NIC"}};
    fprintf(out, "%s:", view->title);
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
        fprintf(out, "%s %u %s%s", i ? "," : "", counts[i].n, counts[i].name, counts[i].n == 1 ? "" : "s");
    fputc('\n', out);
}

struct table {
    char **cells;  // of rank r: cells[r * PM_REPORT_COLUMNS ...]
    size_t widths[PM_REPORT_COLUMNS];
    uint32_t n_ranks;
};

static void table_done(struct table *t)
{
    for (size_t i = 0; t->cells && i < (size_t)t->n_ranks * PM_REPORT_COLUMNS; i++)
        free(t->cells[i]);
    free(t->cells);
}

static int table_fill(struct table *t, const struct pm_map_report *report)
{
    t->n_ranks = report->binding->n_ranks;
    t->cells = calloc((size_t)t->n_ranks * PM_REPORT_COLUMNS + 1, sizeof(char *));
    if (!t->cells)
        return -ENOMEM;
    for (unsigned column = 0; column < PM_REPORT_COLUMNS; column++)
        t->widths[column] = strlen(pm_report_titles[column]);
    for (uint32_t r = 0; r < t->n_ranks; r++) {
        for (unsigned column = 0; column < PM_REPORT_COLUMNS; column++) {
            char *cell = pm_report_cell(report, r, column);
            if (!cell)
                return -ENOMEM;
            t->cells[(size_t)r * PM_REPORT_COLUMNS + column] = cell;
            if (strlen(cell) > t->widths[column])
                t->widths[column] = strlen(cell);
        }
    }
    return 0;
}

// The last column is not padded.
static void put_row(FILE *out, const struct table *t, const char *rank, const char *const *cells)
{
    fprintf(out, "%4s", rank);
    for (unsigned column = 0; column < PM_REPORT_COLUMNS; column++) {
        int width = column + 1 < PM_REPORT_COLUMNS ? (int)t->widths[column] : 0;
        fprintf(out, "  %-*s", width, cells[column]);
    }
    fputc('\n', out);
}

static void put_sentences(FILE *out, const struct pm_bind_notes *notes)
{
    for (uint32_t i = 0; i < notes->n; i++)
        fprintf(out, "      %s\n", notes->notes[i].text);
}

int pm_bind_write_text(FILE *out, const struct pm_bind_view *view)
{
    const struct pm_binding *b = view->report.binding;
    struct table t = {0};
    int rc = table_fill(&t, &view->report);
    put_machine(out, view);
    if (rc == 0 && b->n_ranks)
        put_row(out, &t, "RANK", pm_report_titles);
    for (uint32_t r = 0; rc == 0 && r < b->n_ranks; r++) {
        char number[16];
        snprintf(number, sizeof(number), "%u", r);
        put_row(out, &t, number, (const char *const *)(t.cells + (size_t)r * PM_REPORT_COLUMNS));
        if (view->explain)
            put_sentences(out, &b->ranks[r].why);
    }
    fprintf(out, "%s\n", view->summary);
    for (uint32_t i = 0; i < b->notes.n; i++)
        fprintf(out, "note: %s\n", b->notes.notes[i].text);
    table_done(&t);
    return rc;
}

static const char *or_dash(const char *text)
{
    return text[0] ? text : "-";
}

static void put_gpu(FILE *out, const struct pm_machine *m, uint32_t number, uint32_t place)
{
    const struct pm_machine_gpu *gpu = &m->gpus[place];
    char pci[PM_REPORT_PCI], near[64];
    fprintf(out, "GPU %-3u %s", number, pm_report_pci(&gpu->pci, pci));
    if (gpu->partition)
        fprintf(out, "/%u", gpu->partition);
    fprintf(out, "  %s  %s  near CPUs %s\n", or_dash(gpu->model), or_dash(gpu->uuid),
            or_dash(pm_set_format(&gpu->near, near, sizeof(near))));
}

// How far each NIC is from each GPU: one row for each GPU.
static void put_rails(FILE *out, const struct pm_machine *m, const uint32_t *order)
{
    if (m->n_gpus == 0 || m->n_nics == 0)
        return;
    fprintf(out, "       ");
    for (uint32_t n = 0; n < m->n_nics; n++)
        fprintf(out, "  %-*s", n + 1 == m->n_nics ? 0 : 7, m->nics[n].name);
    for (uint32_t g = 0; g < m->n_gpus; g++) {
        fprintf(out, "\nGPU %-3u", g);
        for (uint32_t n = 0; n < m->n_nics; n++) {
            size_t len = strlen(m->nics[n].name), width = n + 1 == m->n_nics ? 0 : len > 7 ? len : 7;
            fprintf(out, "  %-*s", (int)width, pm_report_rail(m->rails[(size_t)order[g] * m->n_nics + n]));
        }
    }
    fputc('\n', out);
}

static void put_nic(FILE *out, const struct pm_machine_nic *nic)
{
    static const char *const classes[] = {"fabric", "RDMA Ethernet", "Ethernet"};
    char pci[PM_REPORT_PCI], near[64];
    fprintf(out, "NIC %-12s %s  %s  near CPUs %s%s%s\n", nic->name, pm_report_pci(&nic->pci, pci),
            classes[nic->class], or_dash(pm_set_format(&nic->near, near, sizeof(near))), nic->down ? "  link down" : "",
            nic->second_port ? "  second port of its card" : "");
}

static void put_numa(FILE *out, const struct pm_machine_numa *numa)
{
    char cpus[64];
    if (numa->os_index == PM_PLACE_NONE)
        fprintf(out, "NUMA -  ");
    else
        fprintf(out, "NUMA %-3u", numa->os_index);
    fprintf(out, " package %u  CPUs %s  ", numa->package, pm_set_format(&numa->pus, cpus, sizeof(cpus)));
    if (numa->memory_bytes)
        fprintf(out, "%llu MiB\n", (unsigned long long)(numa->memory_bytes >> 20));
    else
        fprintf(out, "no memory known\n");
}

int pm_bind_write_list(FILE *out, const struct pm_bind_view *view)
{
    const struct pm_machine *m = view->report.machine;
    uint32_t *order = calloc(m->n_gpus + 1, sizeof(*order)), n = 0;
    if (!order)
        return -ENOMEM;
    put_machine(out, view);
    for (uint32_t i = 0; i < m->n_numas; i++)
        put_numa(out, &m->numas[i]);
    for (unsigned v = 0; v < PM_GPU_VENDORS; v++)
        n += pm_gpus_in_order(m, v, NULL, order + n);
    for (uint32_t i = 0; i < n; i++)
        put_gpu(out, m, i, order[i]);
    for (uint32_t i = 0; i < m->n_nics; i++)
        put_nic(out, &m->nics[i]);
    put_rails(out, m, order);
    free(order);
    return 0;
}
