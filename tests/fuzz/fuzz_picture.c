// SPDX-License-Identifier: Apache-2.0
//
// Pictures of a node, whatever the bytes: one that is read is written and read again the same.
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "pmix_server/topology/picture.h"

static void write_again(const struct pm_picture *picture)
{
    struct pm_writer w = {0}, again = {0};
    struct pm_picture copy;
    pm_picture_write(&w, picture);
    FUZZ_CHECK(w.error == 0);
    FUZZ_CHECK(pm_picture_read(w.data, w.len, &copy) == 0);
    pm_picture_write(&again, &copy);
    FUZZ_CHECK(again.len == w.len && memcmp(again.data, w.data, w.len) == 0);
    pm_picture_done(&copy);
    pm_writer_done(&w);
    pm_writer_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pm_picture picture;
    int rc = pm_picture_read(data, size, &picture);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG);
    if (rc == 0)
        write_again(&picture);
    pm_picture_done(&picture);
    return 0;
}
