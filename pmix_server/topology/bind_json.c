// SPDX-License-Identifier: Apache-2.0
//
// pm-bind's JSON: machine, granted, ranks, notes and summary; see pm-bind(1). Built whole and then
// written, so that a document is complete or not there.
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "pmix_server/topology/pm_bind.h"

static json_t *json_set(const struct pm_set *set)
{
    char *text = pm_set_text(set);
    json_t *value = text ? json_string(text) : NULL;
    free(text);
    return value;
}

static json_t *json_numbers(const struct pm_set *set)
{
    json_t *list = json_array();
    for (uint32_t v = pm_set_next(set, 0); v != UINT32_MAX; v = pm_set_next(set, v + 1))
        json_array_append_new(list, json_integer(v));
    return list;
}

static json_t *json_pci(const struct pm_pci *pci)
{
    return json_sprintf("%04x:%02x:%02x.%x", pci->domain, pci->bus, pci->device, pci->function);
}

static json_t *json_gpu(const struct pm_machine_gpu *gpu)
{
    static const char *const vendors[PM_GPU_VENDORS] = {"nvidia", "amd", "intel"};
    return json_pack("{s:o, s:i, s:s, s:s, s:s, s:o}", "pci", json_pci(&gpu->pci), "partition", (int)gpu->partition,
                     "vendor", vendors[gpu->vendor], "model", gpu->model, "uuid", gpu->uuid, "near",
                     json_set(&gpu->near));
}

static json_t *json_nic(const struct pm_machine_nic *nic)
{
    static const char *const classes[] = {"fabric", "rdma-ethernet", "ethernet"};
    return json_pack("{s:s, s:o, s:s, s:o, s:b, s:b}", "name", nic->name, "pci", json_pci(&nic->pci), "class",
                     classes[nic->class], "near", json_set(&nic->near), "down", nic->down, "second_port",
                     nic->second_port);
}

static json_t *json_numa(const struct pm_machine_numa *numa)
{
    json_t *number = numa->os_index == PM_PLACE_NONE ? json_null() : json_integer(numa->os_index);
    return json_pack("{s:o, s:i, s:o, s:I}", "node", number, "package", (int)numa->package, "cpus",
                     json_set(&numa->pus), "memory_bytes", (json_int_t)numa->memory_bytes);
}

// A file's name may be any bytes.
static json_t *json_name(const char *name)
{
    json_t *value = json_string(name);
    return value ? value : json_null();
}

static json_t *json_machine(const struct pm_bind_view *view)
{
    const struct pm_machine *m = view->report.machine;
    json_t *numas = json_array(), *gpus = json_array(), *nics = json_array();
    for (uint32_t i = 0; i < m->n_numas; i++)
        json_array_append_new(numas, json_numa(&m->numas[i]));
    for (uint32_t i = 0; i < m->n_gpus; i++)
        json_array_append_new(gpus, json_gpu(&m->gpus[i]));
    for (uint32_t i = 0; i < m->n_nics; i++)
        json_array_append_new(nics, json_nic(&m->nics[i]));
    return json_pack("{s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "name", json_name(view->title), "packages", (int)m->n_packages,
                     "l3s", (int)m->n_l3s, "cores", (int)m->n_cores, "cpus", json_set(&m->pus), "numa", numas, "gpus",
                     gpus, "nics", nics);
}

static json_t *json_notes(const struct pm_bind_notes *notes)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < notes->n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "reason", pm_bind_reason_name(notes->notes[i].reason),
                                              "text", notes->notes[i].text));
    return list;
}

static json_t *json_rank_gpus(const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < rank->n_gpus; i++) {
        const struct pm_machine_gpu *gpu = pm_report_gpu(report, rank->gpus[i]);
        json_array_append_new(list, json_pack("{s:s, s:o, s:i}", "token", pm_report_token(report, rank->gpus[i]), "pci",
                                              gpu ? json_pci(&gpu->pci) : json_null(), "partition",
                                              gpu ? (int)gpu->partition : 0));
    }
    return list;
}

static json_t *json_rank_nics(const struct pm_map_report *report, const struct pm_bind_rank *rank)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < rank->n_nics; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", report->machine->nics[rank->nics[i].nic].name,
                                              "rail", pm_report_rail(rank->nics[i].rail)));
    return list;
}

static json_t *json_rank(const struct pm_map_report *report, uint32_t r)
{
    const struct pm_bind_rank *rank = &report->binding->ranks[r];
    return json_pack("{s:i, s:o, s:i, s:i, s:{s:s, s:o}, s:o, s:o, s:o}", "rank", (int)r, "cpus", json_set(&rank->pus),
                     "cores", (int)rank->n_cores, "threads", (int)rank->threads, "memory", "policy",
                     pm_report_memory(rank->memory), "nodes", json_numbers(&rank->memory_nodes), "gpus",
                     json_rank_gpus(report, rank), "nics", json_rank_nics(report, rank), "why", json_notes(&rank->why));
}

int pm_bind_write_json(FILE *out, const struct pm_bind_view *view)
{
    const struct pm_map_report *report = &view->report;
    json_t *ranks = json_array();
    for (uint32_t r = 0; r < report->binding->n_ranks; r++)
        json_array_append_new(ranks, json_rank(report, r));
    json_t *all = json_pack("{s:o, s:o, s:o, s:o, s:s}", "machine", json_machine(view), "allowed",
                            json_set(report->request->allowed), "ranks", ranks, "notes",
                            json_notes(&report->binding->notes), "summary", view->summary);
    int rc = all && json_dumpf(all, out, JSON_INDENT(2)) == 0 ? 0 : -ENOMEM;
    json_decref(all);
    fputc('\n', out);
    return rc;
}
