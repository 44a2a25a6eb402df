// SPDX-License-Identifier: Apache-2.0
//
// What a person should know about a map: per rank what it got and why not more, and for the node
// what was left idle or is crowded. Each note is one sentence; a table says when there is one.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const names[PM_BIND_REASONS] = {
    [PM_WHY_NEAR] = "near",
    [PM_WHY_LENT] = "lent",
    [PM_WHY_FAR] = "far",
    [PM_WHY_EQUAL] = "equal",
    [PM_WHY_GPU_SHARED] = "gpu-shared",
    [PM_WHY_GPU_UNKNOWN] = "gpu-unknown",
    [PM_WHY_GIVEN] = "given",
    [PM_WHY_CPU_SHARED] = "cpu-shared",
    [PM_WHY_MIXED] = "mixed-kinds",
    [PM_WHY_SPANS] = "spans-numa",
    [PM_WHY_MEMORY_FROM] = "memory-from",
    [PM_WHY_NIC_FAR] = "nic-far",
    [PM_WHY_IDLE_CORES] = "idle-cores",
    [PM_WHY_IDLE_GPUS] = "idle-gpus",
    [PM_WHY_CROWDED] = "crowded",
    [PM_WHY_FEWER_CPUS] = "fewer-cpus",
    [PM_WHY_FAR_GPUS] = "far-gpus",
};

const char *pm_bind_reason_name(enum pm_bind_reason reason)
{
    return reason < PM_BIND_REASONS ? names[reason] : "unknown";
}

static int grow(struct pm_bind_notes *notes)
{
    if (notes->n < notes->cap)
        return 0;
    uint32_t cap = notes->cap ? 2 * notes->cap : 4;
    struct pm_bind_note *grown = realloc(notes->notes, cap * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    notes->notes = grown;
    notes->cap = cap;
    return 0;
}

int pm_bind_say(struct pm_bind_notes *notes, enum pm_bind_reason reason, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    if (grow(notes) < 0)
        return -ENOMEM;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        return -ENOMEM;
    notes->notes[notes->n++] = (struct pm_bind_note){reason, text};
    return 0;
}

// ---- of a rank ----

// What the sentences of a rank are made of.
struct facts {
    uint32_t near;  // cores that hang with its GPUs
    uint32_t numas; // NUMA nodes
    uint32_t kinds;
    uint32_t sharers; // other ranks with one of its GPUs
    bool unknown;     // a GPU whose place is not known
    bool no_memory;   // a NUMA node without memory
};

static bool core_is_near(const struct pm_plan *plan, const struct pm_bind_rank *rank, uint32_t core)
{
    for (uint32_t i = 0; i < rank->n_gpus; i++) {
        uint32_t place = plan->request->gpus[rank->gpus[i]];
        if (place == PM_PLACE_NONE || pm_set_empty(&plan->machine->gpus[place].near) ||
            pm_set_intersects(&plan->machine->gpus[place].near, &plan->machine->cores[core].pus))
            return true;
    }
    return false;
}

static bool gpu_unknown(const struct pm_plan *plan, const struct pm_bind_rank *rank)
{
    for (uint32_t i = 0; i < rank->n_gpus; i++) {
        uint32_t place = plan->request->gpus[rank->gpus[i]];
        if (place == PM_PLACE_NONE || pm_set_empty(&plan->machine->gpus[place].near))
            return true;
    }
    return false;
}

static uint32_t count_sharers(const struct pm_bind_rank *rank, const uint32_t *users)
{
    uint32_t most = 1;
    for (uint32_t i = 0; i < rank->n_gpus; i++)
        most = users[rank->gpus[i]] > most ? users[rank->gpus[i]] : most;
    return most - 1;
}

static struct facts gather(const struct pm_plan *plan, const struct pm_bind_rank *rank,
                           const uint32_t *users)
{
    const struct pm_machine *machine = plan->machine;
    struct facts facts = {.sharers = count_sharers(rank, users),
                          .unknown = gpu_unknown(plan, rank)};
    uint32_t kind = machine->cores[rank->cores[0]].kind;
    facts.kinds = 1;
    for (uint32_t i = 0; i < rank->n_cores; i++) {
        const struct pm_machine_core *core = &machine->cores[rank->cores[i]];
        facts.near += core_is_near(plan, rank, rank->cores[i]);
        facts.kinds += core->kind != kind && facts.kinds == 1;
        facts.no_memory |= machine->numas[core->numa].memory_bytes == 0;
    }
    for (uint32_t i = 0; i < machine->n_numas; i++)
        facts.numas += pm_set_intersects(&machine->numas[i].pus, &rank->pus);
    return facts;
}

static int say_place(const struct pm_bind_request *request, struct pm_bind_rank *rank,
                     const struct facts *facts)
{
    if (pm_cpus_given(request))
        return pm_bind_say(&rank->why, PM_WHY_GIVEN, "its CPUs were given by --cpu-bind");
    if (rank->n_gpus == 0 || request->options.mode == PM_BIND_CORES)
        return pm_bind_say(&rank->why, PM_WHY_EQUAL, "an equal share of the cores");
    if (facts->unknown)
        return pm_bind_say(&rank->why, PM_WHY_GPU_UNKNOWN,
                           "the machine does not tell where its GPU is");
    if (facts->near == rank->n_cores)
        return pm_bind_say(&rank->why, PM_WHY_NEAR, "all of its cores are near its GPUs");
    if (facts->near == 0)
        return pm_bind_say(&rank->why, PM_WHY_FAR, "no core near its GPUs was left for it");
    return pm_bind_say(&rank->why, PM_WHY_LENT,
                       "%" PRIu32 " of its %" PRIu32 " cores are near its GPUs, the others lent",
                       facts->near, rank->n_cores);
}

static int say_rank(const struct pm_plan *plan, struct pm_bind_rank *rank,
                    const struct facts *facts)
{
    const struct pm_bind_request *request = plan->request;
    struct pm_bind_notes *why = &rank->why;
    int rc = say_place(request, rank, facts);
    if (rc == 0 && pm_gpus_given(request))
        rc = pm_bind_say(why, PM_WHY_GIVEN, "its GPUs were chosen by Slurm");
    if (rc == 0 && facts->sharers)
        rc = pm_bind_say(why, PM_WHY_GPU_SHARED, "%" PRIu32 " other rank%s its GPU",
                         facts->sharers, facts->sharers == 1 ? " uses" : "s use");
    if (rc == 0 && request->n_ranks > plan->n_cores)
        rc = pm_bind_say(why, PM_WHY_CPU_SHARED, "there are more ranks than cores");
    if (rc == 0 && facts->kinds > 1)
        rc = pm_bind_say(why, PM_WHY_MIXED, "its cores are of several kinds");
    if (rc == 0 && facts->numas > 1)
        rc =
            pm_bind_say(why, PM_WHY_SPANS, "its cores are on %" PRIu32 " NUMA nodes", facts->numas);
    if (rc == 0 && facts->no_memory)
        rc = pm_bind_say(why, PM_WHY_MEMORY_FROM,
                         "a NUMA node of its cores has no memory: the nearest one is used");
    if (rc == 0 && rank->n_gpus && pm_has_usable_nic(plan->machine) &&
        (!rank->n_nics || rank->nics[0].rail >= PM_RAIL_PACKAGE))
        rc = pm_bind_say(why, PM_WHY_NIC_FAR, "no NIC is near its GPUs");
    return rc;
}

// ---- of the node ----

static bool is_kind_used(const struct pm_plan *plan, const struct pm_set *used, uint32_t kind)
{
    for (uint32_t i = 0; i < plan->n_units; i++)
        if (plan->machine->cores[plan->units[i].core].kind == kind &&
            pm_set_has(used, plan->pus[plan->units[i].first]))
            return true;
    return false;
}

// Why they are, and what to say to have them used; `kind`: all of a kind of cores are idle.
static const char *why_idle(const struct pm_plan *plan, bool kind)
{
    const struct pm_bind_options *options = &plan->request->options;
    if (options->cpus || options->reach == PM_REACH_STRICT)
        return "";
    if (kind)
        return ", so that no rank has cores of two kinds (--pm-bind=mixed-kinds uses them all)";
    return plan->has_gpus ? ", so that shares are equal and near the GPUs (--pm-bind=fill uses them all)"
                          : ", so that shares are equal (--pm-bind=fill uses them all)";
}

static int say_cores(const struct pm_plan *plan, struct pm_binding *binding)
{
    struct pm_set used = {0};
    int rc = 0;
    for (uint32_t r = 0; r < binding->n_ranks && rc == 0; r++)
        rc = pm_set_union(&used, &binding->ranks[r].pus);
    uint32_t idle = 0;
    bool kind = false;
    for (uint32_t i = 0; i < plan->n_units && rc == 0; i++)
        if (!pm_set_has(&used, plan->pus[plan->units[i].first])) {
            idle++;
            kind |= !is_kind_used(plan, &used, plan->machine->cores[plan->units[i].core].kind);
        }
    pm_set_done(&used);
    if (rc < 0 || idle == 0 || pm_cpus_given(plan->request))
        return rc;
    return pm_bind_say(&binding->notes, PM_WHY_IDLE_CORES,
                       "%" PRIu32 " of %" PRIu32 " granted cores stay idle%s", idle, plan->n_units,
                       why_idle(plan, kind));
}

static int say_gpus(const struct pm_plan *plan, struct pm_binding *binding, const uint32_t *users)
{
    const struct pm_bind_request *request = plan->request;
    uint32_t idle = 0, far = 0;
    for (uint32_t i = 0; i < request->n_gpus; i++) {
        const struct pm_set *near =
            request->gpus[i] == PM_PLACE_NONE ? NULL : &plan->machine->gpus[request->gpus[i]].near;
        idle += users[i] == 0;
        far += near && !pm_set_empty(near) && !pm_set_intersects(near, request->allowed);
    }
    int rc = 0;
    if (idle)
        rc =
            pm_bind_say(&binding->notes, PM_WHY_IDLE_GPUS,
                        "%" PRIu32 " of %" PRIu32 " granted GPUs stay idle", idle, request->n_gpus);
    if (rc == 0 && far)
        rc = pm_bind_say(&binding->notes, PM_WHY_FAR_GPUS,
                         "no granted core is near %" PRIu32 " of the %" PRIu32 " granted GPUs", far,
                         request->n_gpus);
    return rc;
}

static int say_crowd(const struct pm_plan *plan, struct pm_binding *binding)
{
    const struct pm_bind_options *options = &plan->request->options;
    if (binding->n_ranks > plan->n_cores)
        return pm_bind_say(&binding->notes, PM_WHY_CROWDED,
                           "%" PRIu32 " ranks share %" PRIu32 " core%s", binding->n_ranks,
                           plan->n_cores, plan->n_cores == 1 ? "" : "s");
    for (uint32_t r = 0; r < binding->n_ranks && options->cpus; r++)
        if (pm_set_count(&binding->ranks[r].pus) < options->cpus)
            return pm_bind_say(&binding->notes, PM_WHY_FEWER_CPUS,
                               "rank %" PRIu32 " has %" PRIu64 " CPUs instead of %" PRIu32
                               ": %" PRIu32 " CPUs were granted for %" PRIu32 " ranks",
                               r, pm_set_count(&binding->ranks[r].pus), options->cpus, plan->n_pus,
                               binding->n_ranks);
    return 0;
}

int pm_bind_why(const struct pm_plan *plan, struct pm_binding *binding)
{
    uint32_t *users = calloc((size_t)plan->request->n_gpus + 1, sizeof(*users));
    int rc = users ? 0 : -ENOMEM;
    for (uint32_t r = 0; r < binding->n_ranks && rc == 0; r++)
        for (uint32_t i = 0; i < binding->ranks[r].n_gpus; i++)
            users[binding->ranks[r].gpus[i]]++;
    for (uint32_t r = 0; r < binding->n_ranks && rc == 0; r++) {
        struct facts facts = gather(plan, &binding->ranks[r], users);
        rc = say_rank(plan, &binding->ranks[r], &facts);
    }
    rc = rc < 0 ? rc : say_cores(plan, binding);
    rc = rc < 0 ? rc : say_gpus(plan, binding, users);
    rc = rc < 0 ? rc : say_crowd(plan, binding);
    free(users);
    return rc;
}
