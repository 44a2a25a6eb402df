// SPDX-License-Identifier: Apache-2.0
//
// GPUs by a list that a person typed; see pm_bind.h.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pmix_server/topology/pm_bind.h"
#include "pmix_server/wire/options.h"

struct picked {
    const struct pm_machine *machine;
    uint32_t *order;  // place of GPU number i; all of machine.gpus
    struct pm_granted granted;
};

static int refuse(const struct picked *p, const char *item, size_t len, char *error)
{
    uint32_t n = p->machine->n_gpus;
    char numbers[32];
    snprintf(numbers, sizeof(numbers), n == 1 ? "0" : "0-%u", n ? n - 1 : 0);
    if (n == 0)
        snprintf(error, PM_ERROR_CAP, "--gpus: %.*s: the machine shows no GPU", (int)len, item);
    else
        snprintf(error, PM_ERROR_CAP, "--gpus: %.*s is no GPU of the machine, which has %s (see pm-bind --list)",
                 (int)len, item, numbers);
    return -EINVAL;
}

static void pick(struct picked *p, uint32_t number)
{
    struct pm_granted *g = &p->granted;
    for (uint32_t i = 0; i < g->n; i++) {
        if (g->gpus[i].gpu == p->order[number])
            return;
    }
    struct pm_granted_gpu *gpu = &g->gpus[g->n++];
    gpu->gpu = p->order[number];
    gpu->vendors = 1u << p->machine->gpus[gpu->gpu].vendor;
    snprintf(gpu->token, sizeof(gpu->token), "%u", number);
}

static bool has_address(const struct pm_machine_gpu *gpu, const char *item, size_t len)
{
    char text[PM_REPORT_PCI];
    const struct pm_pci *p = &gpu->pci;
    int n = snprintf(text, sizeof(text), "%04x:%02x:%02x.%x", p->domain, p->bus, p->device, p->function);
    size_t skip = strncmp(text, "0000:", 5) == 0 && len == (size_t)n - 5 ? 5 : 0;
    return len == (size_t)n - skip && strncasecmp(text + skip, item, len) == 0;
}

static bool has_name(const struct pm_machine_gpu *gpu, const char *item, size_t len)
{
    return len > strlen("GPU-") && strncasecmp(gpu->uuid, item, len) == 0;
}

static bool pick_named(struct picked *p, const char *item, size_t len)
{
    uint32_t before = p->granted.n;
    bool found = false;
    for (uint32_t i = 0; i < p->machine->n_gpus; i++) {
        const struct pm_machine_gpu *gpu = &p->machine->gpus[p->order[i]];
        if (!has_address(gpu, item, len) && !has_name(gpu, item, len))
            continue;
        pick(p, i);
        found = true;
        if (has_name(gpu, item, len) && p->granted.n > before)
            snprintf(p->granted.gpus[p->granted.n - 1].token, PM_TOKEN_CAP, "%s", gpu->uuid);
    }
    return found;
}

static bool pick_numbers(struct picked *p, const char *item, size_t len)
{
    unsigned first, last;
    int used = 0;
    if (sscanf(item, "%6u-%6u%n", &first, &last, &used) != 2 || used != (int)len) {
        used = 0;
        if (sscanf(item, "%6u%n", &first, &used) != 1 || used != (int)len)
            return false;
        last = first;
    }
    if (first > last || last >= p->machine->n_gpus)
        return false;
    for (unsigned i = first; i <= last; i++)
        pick(p, i);
    return true;
}

static int pick_list(struct picked *p, const char *list, char *error)
{
    if (!list || strcmp(list, "all") == 0) {
        for (uint32_t i = 0; i < p->machine->n_gpus; i++)
            pick(p, i);
        return 0;
    }
    if (strcmp(list, "none") == 0 || !*list)
        return 0;
    for (const char *at = list;; at++) {
        size_t len = strcspn(at, ",");
        if (!pick_numbers(p, at, len) && !pick_named(p, at, len))
            return refuse(p, at, len, error);
        at += len;
        if (!*at)
            return 0;
    }
}

int pm_bind_gpus_read(const struct pm_machine *machine, const char *list, struct pm_granted *ret_granted,
                      char *error)
{
    struct picked p = {.machine = machine, .order = calloc(machine->n_gpus + 1, sizeof(uint32_t)),
                       .granted = {.gpus = calloc(machine->n_gpus + 1, sizeof(*p.granted.gpus))}};
    int rc = p.order && p.granted.gpus ? 0 : -ENOMEM;
    for (unsigned v = 0, n = 0; v < PM_GPU_VENDORS && rc == 0; v++)
        n += pm_gpus_in_order(machine, v, NULL, p.order + n);
    if (rc == 0)
        rc = pick_list(&p, list, error);
    if (rc == 0)
        *ret_granted = p.granted;
    else
        free(p.granted.gpus);
    free(p.order);
    return rc;
}
