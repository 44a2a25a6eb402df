// SPDX-License-Identifier: Apache-2.0
//
// A growing array of pmix_info_t with a sticky error, and nothing else.
#ifndef PM_PMIX_INFOS_H
#define PM_PMIX_INFOS_H

#include <pmix_common.h>
#include <stddef.h>
#include <stdint.h>

// Zero-initialise it; pm_infos_done() frees it with all values.
struct pm_infos {
    pmix_info_t *list;
    size_t n;
    size_t cap;
    pmix_status_t error;  // PMIX_SUCCESS or the first failure
};

void pm_infos_done(struct pm_infos *infos);
// Makes room for n more, so that nothing is wasted on growth: an info takes half a kilobyte.
void pm_infos_reserve(struct pm_infos *infos, size_t n);
// Copies *value; `type` says what it points to (for PMIX_STRING and PMIX_REGEX: the bytes themselves).
void pm_infos_add(struct pm_infos *infos, const char *key, const void *value, pmix_data_type_t type);
void pm_infos_add_str(struct pm_infos *infos, const char *key, const char *value);
void pm_infos_add_u16(struct pm_infos *infos, const char *key, uint16_t value);
void pm_infos_add_u32(struct pm_infos *infos, const char *key, uint32_t value);
void pm_infos_add_rank(struct pm_infos *infos, const char *key, pmix_rank_t value);
void pm_infos_add_flag(struct pm_infos *infos, const char *key, bool value);
// Adds the content of *child as an array of infos and empties *child.
void pm_infos_add_infos(struct pm_infos *infos, const char *key, struct pm_infos *child);
// Adds an array of n procs of namespace `nspace`.
void pm_infos_add_procs(struct pm_infos *infos, const char *key, const char *nspace,
                        const pmix_rank_t *ranks, size_t n);

#endif
