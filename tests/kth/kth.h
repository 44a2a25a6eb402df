// SPDX-License-Identifier: Apache-2.0
//
// Failure on demand: the k-th call from now fails, in this process and nowhere else, whichever thread makes it.
// kth_memory.c takes the place of malloc and its relatives by the linker's --wrap, kth_calls.c that of system
// calls by defining them in the program itself. Nothing fails and nothing is counted unless armed, so that a test
// arms only around what it tries.
#ifndef PM_TESTS_KTH_H
#define PM_TESTS_KTH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum kth_mode {
    KTH_ONCE,      // the k-th call fails, those after it do not
    KTH_FROM_NOW,  // the k-th and all after it
};

// k from 1. The caller arms again for the next k until kth_disarm() says that it was not reached.
void kth_arm(uint64_t k, enum kth_mode mode);
// True if the k-th call was made, so that something has failed.
bool kth_disarm(void);
// Called by the first call that fails, before it does.
void kth_on_failure(void (*f)(void));
// Where the first failing call stood, as an address for addr2line -e of this program.
uint64_t kth_where(void);

// False: allocations neither fail nor count; true is the beginning.
void kth_memory_is_tried(bool tried);
// The same for what kth_files.c has, but opendir(), which is an allocation.
void kth_files_are_tried(bool tried);
// With which errno an open() fails; EMFILE is the beginning.
void kth_open_fails_with(int error);

// False: calls that a shared library makes do not count, only those of the program's own code, which is told by the
// address that the call returns to. For libpmix, which ends the process by itself; true is the beginning.
void kth_libraries_are_tried(bool tried);

// For kth_*.c: counts one call made from `where`; true if it has to fail.
bool kth_fails(const void *where);

// Blocks that were allocated by wrapped calls and not freed yet.
int64_t kth_live_blocks(void);

#define KTH_CHECK(cond, ...)                                                                       \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s; ", __FILE__, __LINE__, #cond);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "; the failing call: %#llx\n", (unsigned long long)kth_where());       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
