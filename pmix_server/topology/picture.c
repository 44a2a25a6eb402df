// SPDX-License-Identifier: Apache-2.0
//
// See picture.h. Reader and writer are one walk over the fields (struct wire), so they cannot differ.
#include "pmix_server/topology/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pm_config.h"

#define PARTS_MAX 65536u  // of each sort
#define SPANS_MAX 65536u

// Either a writer or a reader.
struct wire {
    struct pm_writer *w;
    struct pm_reader *r;
};

static void u8(struct wire *io, uint8_t *v)
{
    if (io->w)
        pm_write_u8(io->w, *v);
    else
        *v = pm_read_u8(io->r);
}

static void flag(struct wire *io, bool *v)
{
    uint8_t byte = *v;
    u8(io, &byte);
    *v = byte != 0;
}

static void u32(struct wire *io, uint32_t *v)
{
    if (io->w)
        pm_write_u32(io->w, *v);
    else
        *v = pm_read_u32(io->r);
}

static void u64(struct wire *io, uint64_t *v)
{
    if (io->w)
        pm_write_u64(io->w, *v);
    else
        *v = pm_read_u64(io->r);
}

static void text(struct wire *io, char *buf, size_t cap)
{
    if (io->w)
        pm_write_str(io->w, buf);
    else
        pm_read_str(io->r, buf, cap);
}

static void set(struct wire *io, struct pm_set *s)
{
    if (io->w)
        pm_write_set(io->w, s);
    else
        pm_read_set(io->r, s, SPANS_MAX);
}

// A count and, for a reader, the zeroed array for it. Each item takes at least one byte.
static void *array(struct wire *io, void *items, uint32_t *n, size_t bytes)
{
    if (io->w) {
        pm_write_var(io->w, *n);
        return items;
    }
    *n = pm_read_count(io->r, PARTS_MAX, 1);
    void *fresh = *n ? calloc(*n, bytes) : NULL;
    if (*n && !fresh) {
        pm_reader_no_memory(io->r);
        *n = 0;
    }
    return fresh;
}

static void pci(struct wire *io, struct pm_pci *p)
{
    u32(io, &p->domain);
    u8(io, &p->bus);
    u8(io, &p->device);
    u8(io, &p->function);
}

static void core(struct wire *io, struct pm_machine_core *c)
{
    set(io, &c->pus);
    u32(io, &c->l3);
    u32(io, &c->numa);
    u32(io, &c->package);
    u32(io, &c->kind);
}

static void numa(struct wire *io, struct pm_machine_numa *n)
{
    u32(io, &n->os_index);
    set(io, &n->pus);
    u32(io, &n->package);
    u64(io, &n->memory_bytes);
    u32(io, &n->memory_from);
}

static void domain(struct wire *io, struct pm_machine_domain *d)
{
    u32(io, &d->os_index);
    set(io, &d->pus);
}

static void gpu(struct wire *io, struct pm_machine_gpu *g)
{
    uint8_t vendor = (uint8_t)g->vendor;
    pci(io, &g->pci);
    u8(io, &vendor);
    g->vendor = vendor;
    u32(io, &g->partition);
    set(io, &g->near);
    text(io, g->model, sizeof(g->model));
    text(io, g->uuid, sizeof(g->uuid));
    u32(io, &g->minor);
    u32(io, &g->runtime);
}

static void nic(struct wire *io, struct pm_machine_nic *n)
{
    uint8_t class = (uint8_t)n->class;
    pci(io, &n->pci);
    u8(io, &class);
    n->class = class;
    text(io, n->name, sizeof(n->name));
    set(io, &n->near);
    flag(io, &n->down);
    flag(io, &n->second_port);
}

static void parts(struct wire *io, struct pm_machine *m)
{
    m->cores = array(io, m->cores, &m->n_cores, sizeof(*m->cores));
    for (uint32_t i = 0; i < m->n_cores; i++)
        core(io, &m->cores[i]);
    m->l3s = array(io, m->l3s, &m->n_l3s, sizeof(*m->l3s));
    for (uint32_t i = 0; i < m->n_l3s; i++)
        domain(io, &m->l3s[i]);
    m->numas = array(io, m->numas, &m->n_numas, sizeof(*m->numas));
    for (uint32_t i = 0; i < m->n_numas; i++)
        numa(io, &m->numas[i]);
    m->packages = array(io, m->packages, &m->n_packages, sizeof(*m->packages));
    for (uint32_t i = 0; i < m->n_packages; i++)
        domain(io, &m->packages[i]);
    m->gpus = array(io, m->gpus, &m->n_gpus, sizeof(*m->gpus));
    for (uint32_t i = 0; i < m->n_gpus; i++)
        gpu(io, &m->gpus[i]);
    m->nics = array(io, m->nics, &m->n_nics, sizeof(*m->nics));
    for (uint32_t i = 0; i < m->n_nics; i++)
        nic(io, &m->nics[i]);
    set(io, &m->pus);
}

// A reader takes as many bytes as the matrix needs, so it cannot be made to allocate more than came.
static void matrices(struct wire *io, struct pm_machine *m)
{
    bool has_hops = m->numa_hops != NULL;
    size_t hops = (size_t)m->n_numas * m->n_numas, rails = (size_t)m->n_gpus * m->n_nics;
    flag(io, &has_hops);
    if (io->r && !io->r->error && (has_hops ? hops * 2 : 0) + rails > io->r->left)
        io->r->error = -EBADMSG;
    if (io->r && !io->r->error) {
        m->numa_hops = has_hops ? calloc(hops + 1, sizeof(*m->numa_hops)) : NULL;
        m->rails = calloc(rails + 1, sizeof(*m->rails));
        if (!m->rails || (has_hops && !m->numa_hops))
            pm_reader_no_memory(io->r);
    }
    if (io->r && io->r->error)
        return;
    for (size_t i = 0; i < hops && has_hops; i++) {
        if (io->w)
            pm_write_u16(io->w, m->numa_hops[i]);
        else
            m->numa_hops[i] = pm_read_u16(io->r);
    }
    for (size_t i = 0; i < rails; i++)
        u8(io, &m->rails[i]);
}

static void walk(struct wire *io, struct pm_picture *p)
{
    char version[32] = PM_VERSION;
    text(io, version, sizeof(version));
    if (io->r && !io->r->error && strcmp(version, PM_VERSION) != 0)
        io->r->error = -EBADMSG;
    text(io, p->error, sizeof(p->error));
    parts(io, &p->machine);
    matrices(io, &p->machine);
    set(io, &p->affinity);
    set(io, &p->cgroup);
    set(io, &p->admitted);
    p->migs = array(io, p->migs, &p->n_migs, sizeof(*p->migs));
    for (uint32_t i = 0; i < p->n_migs; i++)
        u32(io, &p->migs[i]);
}

// Everything that is used as a place is one.
static bool fits(const struct pm_picture *p)
{
    const struct pm_machine *m = &p->machine;
    bool fit = true;
    for (uint32_t i = 0; i < m->n_cores; i++) {
        const struct pm_machine_core *c = &m->cores[i];
        fit &= !pm_set_empty(&c->pus) && c->numa < m->n_numas && c->package < m->n_packages &&
               (c->l3 == PM_PLACE_NONE || c->l3 < m->n_l3s);
    }
    for (uint32_t i = 0; i < m->n_numas; i++)
        fit &= m->numas[i].package < m->n_packages;
    for (uint32_t i = 0; i < m->n_gpus; i++)
        fit &= m->gpus[i].vendor < PM_GPU_VENDORS;
    for (uint32_t i = 0; i < m->n_nics; i++)
        fit &= m->nics[i].class <= PM_NIC_ETHERNET;
    for (size_t i = 0; i < (size_t)m->n_gpus * m->n_nics; i++)
        fit &= m->rails[i] <= PM_RAIL_SYS;
    for (uint32_t i = 0; i < p->n_migs; i++)
        fit &= p->migs[i] < m->n_gpus;
    return fit && (p->error[0] || m->n_cores > 0);
}

void pm_picture_write(struct pm_writer *w, const struct pm_picture *picture)
{
    struct pm_picture read_only = *picture;  // a writer changes nothing in it
    struct wire io = {.w = w};
    walk(&io, &read_only);
}

int pm_picture_read(const void *data, size_t len, struct pm_picture *ret_picture)
{
    struct pm_reader r = pm_reader_of(data, len);
    struct wire io = {.r = &r};
    *ret_picture = (struct pm_picture){0};
    walk(&io, ret_picture);
    int rc = pm_reader_end(&r);
    if (rc == 0 && !fits(ret_picture))
        rc = -EBADMSG;
    if (rc < 0)
        pm_picture_done(ret_picture);
    return rc;
}

void pm_picture_done(struct pm_picture *picture)
{
    pm_machine_done(&picture->machine);
    pm_set_done(&picture->affinity);
    pm_set_done(&picture->cgroup);
    pm_set_done(&picture->admitted);
    free(picture->migs);
    *picture = (struct pm_picture){0};
}
