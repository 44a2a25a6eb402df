// SPDX-License-Identifier: Apache-2.0
//
// Runs a fuzz target over seeds without a fuzzer: `seeds DIR` takes every file of DIR, every prefix
// of it and every file with one byte changed, so that the boundaries of every field are crossed.
#include <dirent.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define SEED_MAX 65536
#define CHANGES_MAX                                                                                \
    600 // positions that are cut and changed; the rest of a long seed only as a whole

static void run(const uint8_t *data, size_t len)
{
    // Its own allocation of this very size, so that a sanitizer sees a read past the end.
    uint8_t *copy = malloc(len ? len : 1);
    FUZZ_CHECK(copy);
    memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static void run_around(uint8_t *data, size_t len)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    run(data, len);
    for (size_t i = 0; i < len && i < CHANGES_MAX; i++) {
        run(data, i);
        for (size_t k = 0; k < sizeof(masks); k++) {
            data[i] ^= masks[k];
            run(data, len);
            data[i] ^= masks[k];
        }
    }
}

static size_t read_file(const char *dir, const char *name, uint8_t *buf)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    FUZZ_CHECK(f);
    size_t len = fread(buf, 1, SEED_MAX, f);
    fclose(f);
    return len;
}

int main(int argc, char **argv)
{
    static uint8_t buf[SEED_MAX];
    FUZZ_CHECK(argc == 2);
    DIR *dir = opendir(argv[1]);
    FUZZ_CHECK(dir);
    unsigned n = 0;
    run(buf, 0);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        run_around(buf, read_file(argv[1], entry->d_name, buf));
        n++;
    }
    closedir(dir);
    printf("%u seeds\n", n);
    return n ? 0 : 1;
}
