// SPDX-License-Identifier: Apache-2.0
//
// See machine.h.
#include "pmix_server/topology/machine.h"

#include <stdlib.h>

static void domains_done(struct pm_machine_domain *domains, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        pm_set_done(&domains[i].pus);
    free(domains);
}

void pm_machine_done(struct pm_machine *machine)
{
    for (uint32_t i = 0; i < machine->n_cores; i++)
        pm_set_done(&machine->cores[i].pus);
    for (uint32_t i = 0; i < machine->n_numas; i++)
        pm_set_done(&machine->numas[i].pus);
    for (uint32_t i = 0; i < machine->n_gpus; i++)
        pm_set_done(&machine->gpus[i].near);
    for (uint32_t i = 0; i < machine->n_nics; i++)
        pm_set_done(&machine->nics[i].near);
    domains_done(machine->l3s, machine->n_l3s);
    domains_done(machine->packages, machine->n_packages);
    free(machine->cores);
    free(machine->numas);
    free(machine->gpus);
    free(machine->nics);
    free(machine->numa_hops);
    free(machine->rails);
    pm_set_done(&machine->pus);
    *machine = (struct pm_machine){0};
}
