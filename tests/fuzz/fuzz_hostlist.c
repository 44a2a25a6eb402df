// SPDX-License-Identifier: Apache-2.0
//
// Host lists of Slurm: counting, naming one and expanding all agree with each other, whatever the
// text.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "pmix_server/wire/hostlist.h"

enum { EXPAND_MAX = 100 };

static void expand(const char *list, uint32_t n)
{
    char **names, name[64];
    uint32_t count;
    int rc = pm_hostlist_expand(list, &names, &count);
    if (rc < 0)  // a name of more than 255 bytes
        return;
    FUZZ_CHECK(count == n);
    for (uint32_t i = 0; i < n; i++) {
        rc = pm_hostlist_nth(list, i, name, sizeof(name));
        FUZZ_CHECK(rc < 0 ? strlen(names[i]) >= sizeof(name) : strcmp(names[i], name) == 0);
        FUZZ_CHECK(!strpbrk(names[i], "[],"));
    }
    pm_hostlist_free(names, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *list = malloc(size + 1), name[64];
    FUZZ_CHECK(list);
    if (size)
        memcpy(list, data, size);
    list[size] = '\0';
    int n = pm_hostlist_count(list);
    if (n > 0) {
        FUZZ_CHECK((uint32_t)n <= PM_HOSTLIST_MAX);
        (void)pm_hostlist_nth(list, (uint32_t)n - 1, name, sizeof(name));
        FUZZ_CHECK(pm_hostlist_nth(list, (uint32_t)n, name, sizeof(name)) < 0);
    }
    if (n > 0 && n <= EXPAND_MAX)
        expand(list, (uint32_t)n);
    free(list);
    return 0;
}
