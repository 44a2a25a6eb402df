// SPDX-License-Identifier: Apache-2.0
//
// Where in a list of records, sorted by a number that each of them has, one is or belongs.
#ifndef PM_CORE_SEARCH_H
#define PM_CORE_SEARCH_H

#include <stddef.h>
#include <stdint.h>

struct pm_sorted {
    const void *list; // NULL if n is 0
    uint32_t n;
    size_t stride; // bytes from one record to the next
    size_t at;     // bytes from the start of a record to its number, a uint32_t
};

// The first record whose number is not less than `key`; n: there is none.
uint32_t pm_lower_bound(struct pm_sorted s, uint32_t key);

#endif
