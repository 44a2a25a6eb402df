// SPDX-License-Identifier: Apache-2.0
//
// See made.h.
#include "tests/topology/made.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static void *room(void *memory, size_t n, size_t size)
{
    void *grown = reallocarray(memory, n ? n : 1, size);
    if (!grown)
        abort();
    return grown;
}

static void add_set(struct pm_set *into, const struct pm_set *from)
{
    if (pm_set_union(into, from) < 0)
        abort();
}

static void add_pu(struct pm_set *into, uint32_t pu)
{
    if (pm_set_add(into, pu) < 0)
        abort();
}

static void make_core(struct pm_machine *m, const struct made_shape *s, uint32_t i)
{
    uint32_t group = i / s->cores, numa = s->l3s ? group / s->l3s : group,
             step = s->pu_step ? s->pu_step : 1;
    struct pm_machine_core *core = &m->cores[i];
    *core = (struct pm_machine_core){
        .l3 = s->l3s ? group : PM_PLACE_NONE, .numa = numa, .package = numa / s->numas};
    for (uint32_t t = 0; t < s->threads; t++)
        add_pu(&core->pus, s->pu_first + (t * m->n_cores + i) * step);
    if (s->l3s)
        add_set(&m->l3s[group].pus, &core->pus);
    add_set(&m->numas[numa].pus, &core->pus);
    add_set(&m->packages[core->package].pus, &core->pus);
    add_set(&m->pus, &core->pus);
}

struct pm_machine made_machine(struct made_shape s)
{
    struct pm_machine m = {.n_packages = s.packages, .n_numas = s.packages * s.numas};
    m.n_l3s = m.n_numas * s.l3s;
    m.n_cores = m.n_numas * (s.l3s ? s.l3s : 1) * s.cores;
    m.cores = room(NULL, m.n_cores, sizeof(*m.cores));
    m.l3s = room(NULL, m.n_l3s, sizeof(*m.l3s));
    m.numas = room(NULL, m.n_numas, sizeof(*m.numas));
    m.packages = room(NULL, m.n_packages, sizeof(*m.packages));
    for (uint32_t i = 0; i < m.n_l3s; i++)
        m.l3s[i] = (struct pm_machine_domain){.os_index = i};
    for (uint32_t i = 0; i < m.n_packages; i++)
        m.packages[i] = (struct pm_machine_domain){.os_index = i};
    for (uint32_t i = 0; i < m.n_numas; i++)
        m.numas[i] = (struct pm_machine_numa){
            .os_index = i, .package = i / s.numas, .memory_bytes = 1ull << 30, .memory_from = i};
    for (uint32_t i = 0; i < m.n_cores; i++)
        make_core(&m, &s, i);
    return m;
}

uint32_t made_gpu(struct pm_machine *m, enum pm_gpu_vendor vendor, const struct pm_set *near)
{
    m->gpus = room(m->gpus, m->n_gpus + 1, sizeof(*m->gpus));
    m->gpus[m->n_gpus] = (struct pm_machine_gpu){.pci.domain = m->n_gpus / 256,
                                                 .pci.bus = (uint8_t)m->n_gpus,
                                                 .vendor = vendor,
                                                 .minor = PM_PLACE_NONE,
                                                 .runtime = PM_PLACE_NONE};
    add_set(&m->gpus[m->n_gpus].near, near);
    return m->n_gpus++;
}

uint32_t made_nic(struct pm_machine *m, enum pm_nic_class class, const char *name,
                  const struct pm_set *near)
{
    m->nics = room(m->nics, m->n_nics + 1, sizeof(*m->nics));
    m->nics[m->n_nics] =
        (struct pm_machine_nic){.pci.bus = (uint8_t)(128 + m->n_nics), .class = class};
    snprintf(m->nics[m->n_nics].name, sizeof(m->nics[m->n_nics].name), "%s", name);
    add_set(&m->nics[m->n_nics].near, near);
    return m->n_nics++;
}

static enum pm_rail rail(const struct pm_machine *m, const struct pm_set *a, const struct pm_set *b)
{
    for (uint32_t i = 0; i < m->n_numas; i++)
        if (pm_set_intersects(&m->numas[i].pus, a) && pm_set_intersects(&m->numas[i].pus, b))
            return PM_RAIL_NODE;
    for (uint32_t i = 0; i < m->n_packages; i++)
        if (pm_set_intersects(&m->packages[i].pus, a) && pm_set_intersects(&m->packages[i].pus, b))
            return PM_RAIL_PACKAGE;
    return PM_RAIL_SYS;
}

void made_rails(struct pm_machine *m)
{
    m->rails = room(m->rails, (size_t)m->n_gpus * m->n_nics, sizeof(*m->rails));
    for (uint32_t g = 0; g < m->n_gpus; g++)
        for (uint32_t n = 0; n < m->n_nics; n++)
            m->rails[g * m->n_nics + n] = (uint8_t)rail(m, &m->gpus[g].near, &m->nics[n].near);
}
