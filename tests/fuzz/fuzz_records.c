// SPDX-License-Identifier: Apache-2.0
//
// The records of the tree: what a reader takes, its writer writes again in a form that reads as the
// same record, and taking it in twice changes nothing.
#include "tests/fuzz/fuzz.h"

#include "pmix_server/core/placement.h"
#include "pmix_server/core/record.h"

#define NODES 64u
#define RANKS 512u

static uint64_t digest_report(const struct pm_report *report)
{
    struct pm_digest d = {0};
    pm_report_digest(report, &d);
    return d.h;
}

static void report(const uint8_t *data, size_t size)
{
    struct pm_report a = {0}, b = {0};
    struct pm_writer w = {0};
    pm_report_init(&a);
    pm_report_init(&b);
    struct pm_reader r = pm_reader_of(data, size);
    pm_read_report(&r, &a, NODES, RANKS);
    if (pm_reader_end(&r) == 0) {
        pm_write_report(&w, &a);
        r = pm_reader_of(w.data, w.len);
        pm_read_report(&r, &b, NODES, RANKS);
        FUZZ_CHECK(pm_reader_end(&r) == 0);
        FUZZ_CHECK(digest_report(&a) == digest_report(&b));
        bool changed = true;
        FUZZ_CHECK(pm_report_union(&a, &b, &changed) == 0);
        FUZZ_CHECK(!changed);
    }
    pm_writer_done(&w);
    pm_report_done(&a);
    pm_report_done(&b);
}

static void wanted(const uint8_t *data, size_t size)
{
    struct pm_wanted a = {0}, b = {0};
    struct pm_writer w = {0};
    struct pm_digest d[2] = {{0}, {0}};
    struct pm_reader r = pm_reader_of(data, size);
    pm_read_wanted(&r, &a, NODES, RANKS);
    if (pm_reader_end(&r) == 0) {
        pm_write_wanted(&w, &a);
        r = pm_reader_of(w.data, w.len);
        pm_read_wanted(&r, &b, NODES, RANKS);
        FUZZ_CHECK(pm_reader_end(&r) == 0);
        pm_wanted_digest(&a, &d[0]);
        pm_wanted_digest(&b, &d[1]);
        FUZZ_CHECK(d[0].h == d[1].h);
    }
    pm_writer_done(&w);
    pm_wanted_done(&a);
    pm_wanted_done(&b);
}

static void map(const uint8_t *data, size_t size)
{
    struct pm_map map = {0};
    struct pm_reader r = pm_reader_of(data, size);
    pm_read_map(&r, &map, RANKS);
    if (pm_reader_end(&r) == 0) {
        bool changed = true;
        struct pm_map copy = {0};
        FUZZ_CHECK(pm_map_union(&copy, &map, NULL) == 0);
        FUZZ_CHECK(pm_map_union(&copy, &map, &changed) == 0 && !changed);
        pm_map_done(&copy);
    }
    pm_map_done(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    void (*const targets[])(const uint8_t *, size_t) = {report, wanted, map};
    targets[data[0] % 3](data + 1, size - 1);
    return 0;
}
