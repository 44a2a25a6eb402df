// SPDX-License-Identifier: Apache-2.0
//
// The blobs that libpmix gives its host, taken apart. Their layout is nowhere promised, so a blob that
// only looks like one must be refused or written again byte for byte, and any part of one that is kept
// must be a blob again.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "pmix_server/pmix/modex_blob.h"

// Keeps every kval but those whose bit is set; what is written then reads as what was kept.
static void cut(struct pm_modex_blob *blob, uint8_t bits)
{
    struct pm_modex_blob part = {0};
    struct pm_writer w = {0};
    size_t kept = 0, len;
    for (size_t i = 0; i < blob->n_kvals; i++) {
        blob->kvals[i].keep = !(bits >> i % 8 & 1);
        kept += blob->kvals[i].keep;
    }
    pm_modex_blob_write(blob, &w);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    const uint8_t *data = pm_read_bytes(&r, w.len, &len);
    FUZZ_CHECK(w.error == 0 && pm_reader_end(&r) == 0);
    FUZZ_CHECK(pm_modex_blob_parse(&part, data, len) == 0 && part.n_kvals == kept);
    FUZZ_CHECK(pm_modex_blob_is(&part, data, len));
    pm_modex_blob_done(&part);
    pm_writer_done(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pm_modex_blob blob = {0};
    if (size == 0)
        return 0;
    if (pm_modex_blob_parse(&blob, data + 1, size - 1) == 0 &&
        pm_modex_blob_is(&blob, data + 1, size - 1))
        cut(&blob, data[0]);
    pm_modex_blob_done(&blob);
    return 0;
}
