// SPDX-License-Identifier: Apache-2.0
//
// See map.h: what may be asked, and the order of the stages.
#include "pmix_server/topology/map_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// A program with more ranks than this for each PU is not waiting for CPUs; with more than this in
// all the map takes seconds.
enum { RANKS_PER_PU_MAX = 64, RANKS_MAX = 16384 };

static void notes_done(struct pm_bind_notes *notes)
{
    for (uint32_t i = 0; i < notes->n; i++)
        free(notes->notes[i].text);
    free(notes->notes);
}

void pm_binding_done(struct pm_binding *binding)
{
    for (uint32_t r = 0; r < binding->n_ranks; r++) {
        struct pm_bind_rank *rank = &binding->ranks[r];
        pm_set_done(&rank->pus);
        pm_set_done(&rank->memory_nodes);
        free(rank->nics);
        free(rank->cores);
        free(rank->gpus);
        notes_done(&rank->why);
    }
    free(binding->ranks);
    notes_done(&binding->notes);
    *binding = (struct pm_binding){0};
}

__attribute__((format(printf, 2, 3))) static int refuse(struct pm_binding *binding,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(binding->sentence, sizeof(binding->sentence), format, args);
    va_end(args);
    return -EINVAL;
}

static int check_machine(const struct pm_machine *machine, struct pm_binding *binding)
{
    if (machine->n_cores == 0 || pm_set_empty(&machine->pus))
        return refuse(binding, "the topology shows no CPUs: nothing can be pinned");
    for (uint32_t i = 0; i < machine->n_cores; i++) {
        const struct pm_machine_core *core = &machine->cores[i];
        if (core->numa >= machine->n_numas || core->package >= machine->n_packages ||
            (core->l3 != PM_PLACE_NONE && core->l3 >= machine->n_l3s) ||
            core->kind >= machine->n_cores || !pm_set_covers(&machine->pus, &core->pus))
            return refuse(binding, "the topology contradicts itself at core %" PRIu32, i);
    }
    return 0;
}

static int check_cpus(const struct pm_machine *machine, const struct pm_bind_request *request,
                      struct pm_binding *binding)
{
    char granted[64], shown[64];
    if (pm_set_empty(request->allowed))
        return refuse(binding, "no CPU was granted on this node");
    if (pm_set_covers(&machine->pus, request->allowed))
        return 0;
    return refuse(binding,
                  "CPUs %s were granted, but the topology shows %s: is it of another machine?",
                  pm_set_format(request->allowed, granted, sizeof(granted)),
                  pm_set_format(&machine->pus, shown, sizeof(shown)));
}

static int check_gpus(const struct pm_machine *machine, const struct pm_bind_request *request,
                      struct pm_binding *binding)
{
    for (uint32_t i = 0; i < request->n_gpus; i++)
        if (request->gpus[i] != PM_PLACE_NONE && request->gpus[i] >= machine->n_gpus)
            return refuse(binding,
                          "granted GPU %" PRIu32 " would be number %" PRIu32
                          " of the machine, but the topology shows %" PRIu32 " GPUs",
                          i, request->gpus[i], machine->n_gpus);
    return 0;
}

static int check_ranks(const struct pm_bind_request *request, struct pm_binding *binding)
{
    uint64_t pus = pm_set_count(request->allowed);
    if (request->n_ranks == 0)
        return refuse(binding, "there is no rank to pin");
    if (request->n_ranks > pus * RANKS_PER_PU_MAX || request->n_ranks > RANKS_MAX)
        return refuse(binding,
                      "%" PRIu32 " ranks on %" PRIu64
                      " CPUs are not pinned: more than %d for each, "
                      "or than %d in all",
                      request->n_ranks, pus, RANKS_PER_PU_MAX, RANKS_MAX);
    return 0;
}

// CPUs and GPUs are given for all ranks or for none.
static int check_given(const struct pm_bind_request *request, struct pm_binding *binding)
{
    const struct pm_bind_given *given = request->given;
    for (uint32_t r = 0; given && r < request->n_ranks; r++) {
        if (!given[r].pus != !given[0].pus || !given[r].gpus != !given[0].gpus)
            return refuse(
                binding,
                "CPUs or GPUs are given for some ranks only (rank %" PRIu32 " differs from 0)", r);
        if (given[r].pus &&
            (pm_set_empty(given[r].pus) || !pm_set_covers(request->allowed, given[r].pus)))
            return refuse(binding,
                          "the CPUs given to rank %" PRIu32 " are none or not among those granted",
                          r);
        for (uint32_t i = 0; given[r].gpus && i < given[r].n_gpus; i++)
            if (given[r].gpus[i] >= request->n_gpus)
                return refuse(binding, "rank %" PRIu32 " was given GPU %" PRIu32 " of %" PRIu32, r,
                              given[r].gpus[i], request->n_gpus);
        if (given[r].gpus && given[r].n_gpus > request->n_gpus)
            return refuse(binding, "rank %" PRIu32 " was given more GPUs than were granted", r);
    }
    return 0;
}

static int check_request(const struct pm_machine *machine, const struct pm_bind_request *request,
                         struct pm_binding *binding)
{
    int rc = check_machine(machine, binding);
    rc = rc < 0 ? rc : check_cpus(machine, request, binding);
    rc = rc < 0 ? rc : check_gpus(machine, request, binding);
    rc = rc < 0 ? rc : check_ranks(request, binding);
    return rc < 0 ? rc : check_given(request, binding);
}

// GPUs first, then cores near them; or the other way round where cores are fixed.
static int place(struct pm_plan *plan, struct pm_binding *binding)
{
    const struct pm_bind_request *request = plan->request;
    bool given = pm_cpus_given(request);
    plan->has_gpus = request->n_gpus > 0 && request->options.mode != PM_BIND_CORES && !given;
    int rc = plan->has_gpus ? pm_plan_gpus_by_place(plan) : 0;
    if (rc == 0)
        rc = pm_plan_teams(plan);
    if (rc == 0)
        rc = given ? pm_bind_given_pus(plan, binding) : pm_plan_cores(plan);
    if (rc == 0 && !given)
        rc = pm_plan_again(plan);
    if (rc == 0 && !given)
        rc = pm_bind_pus(plan, binding);
    if (rc == 0 && request->n_gpus && !plan->has_gpus)
        rc = pm_plan_gpus_by_cores(plan, binding);
    return rc;
}

static int fill_in(struct pm_plan *plan, struct pm_binding *binding)
{
    int rc = place(plan, binding);
    rc = rc < 0 ? rc : pm_bind_cores_and_gpus(plan, binding);
    rc = rc < 0 ? rc : pm_bind_memory(plan, binding);
    rc = rc < 0 ? rc : pm_bind_nics(plan, binding);
    rc = rc < 0 ? rc : pm_bind_check(plan, binding);
    return rc < 0 ? rc : pm_bind_why(plan, binding);
}

static int map(struct pm_plan *plan, struct pm_binding *binding)
{
    binding->ranks = calloc(plan->request->n_ranks, sizeof(*binding->ranks));
    if (!binding->ranks)
        return -ENOMEM;
    binding->n_ranks = plan->request->n_ranks;
    int rc = pm_plan_units(plan);
    rc = rc < 0 ? rc : pm_plan_domains(plan);
    rc = rc < 0 ? rc : pm_plan_near(plan);
    return rc < 0 ? rc : fill_in(plan, binding);
}

int pm_bind_ranks(const struct pm_machine *machine, const struct pm_bind_request *request,
                  struct pm_binding *ret_binding)
{
    struct pm_binding binding = {0};
    struct pm_plan plan = {.machine = machine, .request = request};
    int rc = 0;
    if (request->options.mode != PM_BIND_NONE)
        rc = check_request(machine, request, &binding);
    if (rc == 0 && request->options.mode != PM_BIND_NONE)
        rc = map(&plan, &binding);
    pm_plan_done(&plan);
    *ret_binding = binding;
    if (rc < 0) {
        pm_binding_done(ret_binding);
        snprintf(ret_binding->sentence, sizeof(ret_binding->sentence), "%s",
                 rc == -ENOMEM ? "no memory to compute where ranks should run" : binding.sentence);
    }
    return rc;
}
