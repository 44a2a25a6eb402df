// SPDX-License-Identifier: Apache-2.0
//
// See infos.h for the contract.
#include "pmix_server/pmix/infos.h"

#include <pmix.h>
#include <pmix_server.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void pm_infos_done(struct pm_infos *infos)
{
    for (size_t i = 0; i < infos->n; i++)
        PMIX_INFO_DESTRUCT(&infos->list[i]);
    free(infos->list);
    *infos = (struct pm_infos){0};
}

void pm_infos_reserve(struct pm_infos *infos, size_t n)
{
    if (infos->error != PMIX_SUCCESS || infos->n + n <= infos->cap)
        return;
    pmix_info_t *list = reallocarray(infos->list, infos->n + n, sizeof(*list));
    if (!list) {
        infos->error = PMIX_ERR_NOMEM;
        return;
    }
    infos->list = list;
    infos->cap = infos->n + n;
}

// The next free element, zeroed, or NULL after a failure.
static pmix_info_t *next_info(struct pm_infos *infos, const char *key)
{
    if (infos->n == infos->cap)
        pm_infos_reserve(infos, infos->cap ? infos->cap : 16);
    if (infos->error != PMIX_SUCCESS)
        return NULL;
    pmix_info_t *info = &infos->list[infos->n++];
    memset(info, 0, sizeof(*info));
    PMIX_LOAD_KEY(info->key, key);
    return info;
}

void pm_infos_add(struct pm_infos *infos, const char *key, const void *value, pmix_data_type_t type)
{
    pmix_info_t *info = next_info(infos, key);
    if (info)
        PMIX_INFO_LOAD(info, key, value, type);
}

void pm_infos_add_str(struct pm_infos *infos, const char *key, const char *value)
{
    pm_infos_add(infos, key, value, PMIX_STRING);
}

void pm_infos_add_u16(struct pm_infos *infos, const char *key, uint16_t value)
{
    pm_infos_add(infos, key, &value, PMIX_UINT16);
}

void pm_infos_add_u32(struct pm_infos *infos, const char *key, uint32_t value)
{
    pm_infos_add(infos, key, &value, PMIX_UINT32);
}

void pm_infos_add_rank(struct pm_infos *infos, const char *key, pmix_rank_t value)
{
    pm_infos_add(infos, key, &value, PMIX_PROC_RANK);
}

void pm_infos_add_flag(struct pm_infos *infos, const char *key, bool value)
{
    pm_infos_add(infos, key, &value, PMIX_BOOL);
}

// Adds `array` without copying it; frees it on failure.
static void add_array(struct pm_infos *infos, const char *key, pmix_data_array_t array)
{
    pmix_data_array_t *holder = malloc(sizeof(*holder));
    pmix_info_t *info = holder ? next_info(infos, key) : NULL;
    if (!info) {
        if (infos->error == PMIX_SUCCESS)
            infos->error = PMIX_ERR_NOMEM;
        free(holder);
        free(array.array);
        return;
    }
    *holder = array;
    info->value.type = PMIX_DATA_ARRAY;
    info->value.data.darray = holder;
}

void pm_infos_add_infos(struct pm_infos *infos, const char *key, struct pm_infos *child)
{
    if (child->error != PMIX_SUCCESS && infos->error == PMIX_SUCCESS)
        infos->error = child->error;
    size_t n = child->n;
    pmix_info_t *list = child->list;
    *child = (struct pm_infos){0};
    add_array(infos, key, (pmix_data_array_t){.type = PMIX_INFO, .size = n, .array = list});
}

void pm_infos_add_procs(struct pm_infos *infos, const char *key, const char *nspace,
                        const pmix_rank_t *ranks, size_t n)
{
    pmix_proc_t *procs = calloc(n, sizeof(*procs));
    for (size_t i = 0; procs && i < n; i++)
        PMIX_LOAD_PROCID(&procs[i], nspace, ranks[i]);
    if (!procs && infos->error == PMIX_SUCCESS)
        infos->error = PMIX_ERR_NOMEM;
    add_array(infos, key, (pmix_data_array_t){.type = PMIX_PROC, .size = n, .array = procs});
}
