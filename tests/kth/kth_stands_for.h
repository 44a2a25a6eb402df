// SPDX-License-Identifier: Apache-2.0
//
// How a definition in the program takes the place of one of the C library's, and hands over to it unless
// its turn to fail has come.
#ifndef PM_TESTS_KTH_STANDS_FOR_H
#define PM_TESTS_KTH_STANDS_FOR_H

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/kth/kth.h"

static inline void *kth_next_of(void **cache, const char *name)
{
    if (!*cache)
        *cache = dlsym(RTLD_NEXT, name);
    if (!*cache)
        abort();
    return *cache;
}

// `tried`: whether calls of this kind count at the moment. `failure` is what is returned with errno `error`.
#define KTH_STANDS_FOR(tried, ret, name, params, args, failure, error)                             \
    ret name params                                                                                \
    {                                                                                              \
        static void *cache;                                                                        \
        ret(*next) params = (ret(*) params)kth_next_of(&cache, #name);                             \
        if ((tried) && kth_fails(__builtin_return_address(0))) {                                   \
            errno = error;                                                                         \
            return failure;                                                                        \
        }                                                                                          \
        return next args;                                                                          \
    }

// dlsym() gives functions as void *.
#pragma GCC diagnostic ignored "-Wpedantic"

#endif
