// SPDX-License-Identifier: Apache-2.0
//
// The parsers of wire/ that take bytes from others: sets, the namespace of an epoch, and the
// environment that START brings to a shim.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "plugin/shim/rank.h"
#include "pmix_server/wire/nspace.h"
#include "pmix_server/wire/set.h"

static void set(const uint8_t *data, size_t size)
{
    struct pm_set a = {0}, b = {0};
    struct pm_writer w = {0};
    struct pm_reader r = pm_reader_of(data, size);
    pm_read_set(&r, &a, 1000);
    if (pm_reader_end(&r) == 0) {
        pm_write_set(&w, &a);
        r = pm_reader_of(w.data, w.len);
        pm_read_set(&r, &b, 1000);
        FUZZ_CHECK(pm_reader_end(&r) == 0 && pm_set_equal(&a, &b));
        FUZZ_CHECK(pm_set_covers(&a, &b) && pm_set_hash(&a) == pm_set_hash(&b));
        FUZZ_CHECK(pm_set_subtract(&a, &b) == 0 && pm_set_empty(&a));
    }
    char text[16];
    pm_set_format(&b, text, sizeof(text));
    FUZZ_CHECK(strlen(text) < sizeof(text));
    pm_writer_done(&w);
    pm_set_done(&a);
    pm_set_done(&b);
}

static void nspace(const uint8_t *data, size_t size)
{
    struct pm_nspace_info info = {0};
    struct pm_writer w = {0};
    struct pm_reader r = pm_reader_of(data, size);
    pm_read_nspace(&r, &info);
    if (pm_reader_end(&r) == 0) {
        FUZZ_CHECK(pm_nspace_info_check(&info) == 0);
        pm_write_nspace(&w, &info);
        FUZZ_CHECK(w.error == 0 && w.len == size && memcmp(w.data, data, size) == 0);
    }
    pm_writer_done(&w);
    pm_nspace_info_done(&info);
}

static void start(const uint8_t *data, size_t size)
{
    struct pm_shim_start start = {0};
    struct pm_reader r = pm_reader_of(data, size);
    if (pm_start_read(&r, &start) == 0) {
        for (uint32_t i = 0; i < start.n; i++)
            FUZZ_CHECK(strchr(start.entries[i], '='));
    }
    pm_start_free(&start);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    void (*const targets[])(const uint8_t *, size_t) = {set, nspace, start};
    targets[data[0] % 3](data + 1, size - 1);
    return 0;
}
