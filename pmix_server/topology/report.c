// SPDX-License-Identifier: Apache-2.0
//
// See report.h.
#include "pmix_server/topology/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const pm_report_titles[PM_REPORT_COLUMNS] = {"CPUS", "CORES", "NUMA", "GPU", "NIC", "MEMORY", "WHY"};

const char *pm_report_rail(enum pm_rail rail)
{
    static const char *const names[] = {"PIX", "PXB", "PHB", "NODE", "PACKAGE", "SYS"};
    return names[rail];
}

const char *pm_report_memory(enum pm_bind_memory memory)
{
    static const char *const names[] = {"auto", "default", "prefer", "bind", "interleave"};
    return names[memory];
}

const char *pm_report_pci(const struct pm_pci *pci, char *buf)
{
    int len = pci->domain ? snprintf(buf, PM_REPORT_PCI, "%04x:", pci->domain) : 0;
    snprintf(buf + len, PM_REPORT_PCI - (size_t)len, "%02x:%02x.%x", pci->bus, pci->device, pci->function);
    return buf;
}

const struct pm_machine_gpu *pm_report_gpu(const struct pm_map_report *report, uint32_t position)
{
    uint32_t place = report->request->gpus[position];
    return place == PM_PLACE_NONE ? NULL : &report->machine->gpus[place];
}

const char *pm_report_token(const struct pm_map_report *report, uint32_t position)
{
    return report->granted && position < report->granted->n ? report->granted->gpus[position].token : "?";
}

static void put_set(FILE *out, const struct pm_set *set)
{
    for (uint32_t i = 0; i < set->n; i++) {
        const struct pm_span *span = &set->spans[i];
        fprintf(out, "%s%u", i ? "," : "", span->first);
        if (span->last > span->first)
            fprintf(out, "-%u", span->last);
    }
}

static void put_cpus(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    put_set(out, &rank->pus);
}

static void put_cores(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    fprintf(out, "%u", rank->n_cores);
}

// A die without memory is called by the node that its memory comes from: "(0)".
static void put_numa(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    const char *comma = "";
    for (uint32_t i = 0; i < report->machine->n_numas; i++) {
        const struct pm_machine_numa *numa = &report->machine->numas[i];
        bool has_number = numa->os_index != PM_PLACE_NONE;
        if (!pm_set_intersects(&numa->pus, &rank->pus))
            continue;
        if (has_number)
            fprintf(out, "%s%u", comma, numa->os_index);
        else
            fprintf(out, "%s(%u)", comma, numa->memory_from);
        comma = ",";
    }
}

// One of several on a PCI function.
static bool is_part(const struct pm_machine *m, const struct pm_machine_gpu *gpu)
{
    const struct pm_machine_gpu *end = m->gpus + m->n_gpus;
    return gpu->partition > 0 || (gpu + 1 < end && gpu[1].partition == 1);
}

static void put_gpus(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < rank->n_gpus; i++) {
        const struct pm_machine_gpu *gpu = pm_report_gpu(report, rank->gpus[i]);
        char pci[PM_REPORT_PCI];
        fprintf(out, "%s%s@%s", i ? "," : "", pm_report_token(report, rank->gpus[i]),
                gpu ? pm_report_pci(&gpu->pci, pci) : "?");
        if (gpu && is_part(report->machine, gpu))
            fprintf(out, "/%u", gpu->partition);
    }
}

static void put_nics(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < rank->n_nics; i++)
        fprintf(out, "%s%s/%s", i ? "," : "", report->machine->nics[rank->nics[i].nic].name,
                pm_report_rail(rank->nics[i].rail));
}

static void put_memory(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    fprintf(out, "%s", pm_report_memory(rank->memory));
    if (rank->memory != PM_MEMORY_DEFAULT && !pm_set_empty(&rank->memory_nodes)) {
        fprintf(out, " ");
        put_set(out, &rank->memory_nodes);
    }
}

static void put_why(FILE *out, const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < rank->why.n; i++)
        fprintf(out, "%s%s", i ? "," : "", pm_bind_reason_name(rank->why.notes[i].reason));
}

char *pm_report_cell(const struct pm_map_report *report, uint32_t rank, enum pm_report_column column)
{
    static void (*const put[])(FILE *, const struct pm_map_report *, const struct pm_bind_rank *) = {
        put_cpus, put_cores, put_numa, put_gpus, put_nics, put_memory, put_why};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    put[column](out, report, &report->binding->ranks[rank]);
    if (ftell(out) == 0)
        fputc('-', out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

char *pm_report_line(const struct pm_map_report *report, uint32_t rank, uint32_t number)
{
    static const struct around {
        const char *before, *after, *after_1;
    } around[PM_REPORT_COLUMNS] = {{" cpus ", "", ""},  {" (", " cores)", " core)"}, {", numa ", "", ""}, {", gpu ", "", ""},
                                   {", nic ", "", ""}, {", memory ", "", ""},       {"; ", "", ""}};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    bool complete = out != NULL;
    if (!out)
        return NULL;
    fprintf(out, "rank %u:", number);
    for (unsigned column = 0; column < PM_REPORT_COLUMNS; column++) {
        char *cell = pm_report_cell(report, rank, column);
        complete &= cell != NULL;
        bool is_1 = cell && strcmp(cell, "1") == 0;
        fprintf(out, "%s%s%s", around[column].before, cell ? cell : "", is_1 ? around[column].after_1 : around[column].after);
        free(cell);
    }
    if (fclose(out) == 0 && complete)
        return text;
    free(text);
    return NULL;
}

// How many of something each rank has, and how many of them are used at all.
struct share {
    uint32_t least, most, used, granted;
};

static void count(struct share *share, uint32_t n, bool is_first)
{
    share->least = is_first || n < share->least ? n : share->least;
    share->most = is_first || n > share->most ? n : share->most;
}

static bool has_core(const struct pm_bind_rank *rank, const struct pm_machine_core *core)
{
    return pm_set_intersects(&rank->pus, &core->pus);
}

static struct share share_cores(const struct pm_map_report *report)
{
    const struct pm_machine *m = report->machine;
    const struct pm_binding *b = report->binding;
    struct share share = {0};
    for (uint32_t r = 0; r < b->n_ranks; r++)
        count(&share, b->ranks[r].n_cores, r == 0);
    for (uint32_t c = 0; c < m->n_cores; c++) {
        bool used = false;
        for (uint32_t r = 0; r < b->n_ranks && !used; r++)
            used = has_core(&b->ranks[r], &m->cores[c]);
        share.used += used;
        share.granted += pm_set_intersects(&m->cores[c].pus, report->request->allowed);
    }
    return share;
}

static struct share share_gpus(const struct pm_map_report *report)
{
    const struct pm_binding *b = report->binding;
    struct share share = {.granted = report->request->n_gpus};
    for (uint32_t r = 0; r < b->n_ranks; r++)
        count(&share, b->ranks[r].n_gpus, r == 0);
    for (uint32_t g = 0; g < share.granted; g++) {
        bool used = false;
        for (uint32_t r = 0; r < b->n_ranks && !used; r++) {
            for (uint32_t i = 0; i < b->ranks[r].n_gpus; i++)
                used |= b->ranks[r].gpus[i] == g;
        }
        share.used += used;
    }
    return share;
}

static void put_share(FILE *out, const struct share *share, const char *what)
{
    bool same = share->least == share->most;
    fprintf(out, ", %u", share->least);
    if (!same)
        fprintf(out, "-%u", share->most);
    fprintf(out, " %s%s each (%u of %u used)", what, share->most == 1 ? "" : "s", share->used, share->granted);
}

// "; 3 near, 1 lent": what is said about ranks, in the order of the reasons.
static void put_reasons(FILE *out, const struct pm_binding *b)
{
    const char *between = "; ";
    for (unsigned reason = 0; reason < PM_BIND_REASONS; reason++) {
        uint32_t n = 0;
        for (uint32_t r = 0; r < b->n_ranks; r++) {
            for (uint32_t i = 0; i < b->ranks[r].why.n; i++)
                n += b->ranks[r].why.notes[i].reason == (enum pm_bind_reason)reason;
        }
        if (n) {
            fprintf(out, "%s%u %s", between, n, pm_bind_reason_name((enum pm_bind_reason)reason));
            between = ", ";
        }
    }
}

char *pm_report_summary(const struct pm_map_report *report)
{
    const struct pm_binding *b = report->binding;
    struct share cores = share_cores(report), gpus = share_gpus(report);
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    fprintf(out, "%u rank%s", b->n_ranks, b->n_ranks == 1 ? "" : "s");
    put_share(out, &cores, "core");
    if (gpus.granted)
        put_share(out, &gpus, "GPU");
    put_reasons(out, b);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
