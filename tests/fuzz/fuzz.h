// SPDX-License-Identifier: Apache-2.0
//
// What every fuzz target is: the libFuzzer entry point. Built with clang and -Dfuzz=true it is a
// fuzzer of its own; always built with seeds_main.c it runs the seeds of tests/fuzz/seeds/ once, as
// a test.
#ifndef PM_TESTS_FUZZ_H
#define PM_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// Takes any bytes; a crash, a leak or a failed FUZZ_CHECK is a finding. Returns 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
