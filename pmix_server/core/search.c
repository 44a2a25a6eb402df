// SPDX-License-Identifier: Apache-2.0
//
// See search.h.
#include "pmix_server/core/search.h"

#include <string.h>

uint32_t pm_lower_bound(struct pm_sorted s, uint32_t key)
{
    uint32_t low = 0, high = s.n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2, number;
        memcpy(&number, (const char *)s.list + mid * s.stride + s.at, sizeof(number));
        if (number < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}
