// SPDX-License-Identifier: Apache-2.0
//
// Takes apart what libpmix gives its host to exchange in a collecting fence, and puts a part of it
// together again.
//
// The layout is libpmix' own and nowhere promised. Read from the sources of 4.2.2 and 5.0.7, which
// agree (src/server/pmix_server_ops.c _collect_data, src/mca/gds/base/gds_base_fns.c, src/mca/bfrops
// v41 with psquash/flex128, no type tags):
//
//   blob    := object(bucket)
//   object  := 1 size bytes          a byte object; "1" is the count that precedes all that is packed
//   bucket  := 1 u8 flags            bit 0: data was collected, bit 1: key names are in a map
//              [N count, N x string] the map
//              object(rank data) ... one per local rank that has committed something
//   rank data := 1 rank, kval ...
//   kval    := 1 index 1 type value  with a map
//            | 1 string type value   without
//   string  := length with its NUL, signed; bytes
//
// Numbers are LEB128, signed ones are zigzag. Reading is strict: what is not exactly this, in shortest
// form, to the last byte, or has a value of a type that is not in the table of modex_blob.c, is refused.
// On top of that, who parses asks pm_modex_blob_is() whether writing everything gives the same bytes.
// No memory is allocated by size fields alone. Libc only; no thread is special.
#ifndef PM_PMIX_MODEX_BLOB_H
#define PM_PMIX_MODEX_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/buf.h"

// Borrowed bytes.
struct pm_modex_bytes {
    const uint8_t *data;
    size_t len;
};

struct pm_modex_kval {
    uint32_t rank;                // who committed it
    uint32_t key;                 // index in the map; without a map unused
    struct pm_modex_bytes name;   // with its NUL
    struct pm_modex_bytes value;  // type and value
    bool keep;                    // what is written; true after parsing
};

// Kvals of one rank: kvals[first .. first + n).
struct pm_modex_rank {
    uint32_t rank;
    size_t first;
    size_t n;
};

// Points into the bytes that it was parsed from. Zero-initialise it; pm_modex_blob_done() frees it.
struct pm_modex_blob {
    bool has_map;
    struct pm_modex_bytes *map;
    size_t n_map;
    struct pm_modex_rank *ranks;
    size_t n_ranks;
    size_t cap_ranks;
    struct pm_modex_kval *kvals;
    size_t n_kvals;
    size_t cap_kvals;
};

// 0, -EBADMSG (not what is described above) or -ENOMEM.
int pm_modex_blob_parse(struct pm_modex_blob *blob, const void *data, size_t len);
void pm_modex_blob_done(struct pm_modex_blob *blob);
// Writing the kvals to be kept would give exactly these bytes.
bool pm_modex_blob_is(const struct pm_modex_blob *blob, const void *data, size_t len);
// Writes the kvals to be kept as a blob, as bytes of *w (u32 length first). A rank without any is left
// out, and so are names that nobody uses. On failure w->error is set.
void pm_modex_blob_write(const struct pm_modex_blob *blob, struct pm_writer *w);

#endif
