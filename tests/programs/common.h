// SPDX-License-Identifier: Apache-2.0
//
// What every program of tests/programs shares: who am I, clocks, and lines that a test can parse.
//
// A line is "PROGRAM: verb key=value ...", and goes out with one write(2), so that lines of several
// ranks never mix. A test program that cannot do its work (bad option, failed call) says why on
// stderr and exits with TEST_EXIT_BROKEN: never with a number that a test injects as a failure.
// All functions end the process on an error instead of returning it; none is for threads, except
// test_say.

#ifndef PM_TESTS_PROGRAMS_COMMON_H
#define PM_TESTS_PROGRAMS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TEST_EXIT_BROKEN = 99,
    TEST_LINE_MAX = 4096, // bytes of a line, newline included
};

#define TEST_NS_PER_MS INT64_C(1000000)

struct test_identity {
    long rank;        // RANK, else PMIX_RANK, else SLURM_PROCID, else 0
    long epoch;       // PM_EPOCH, else 0
    long incarnation; // PM_INCARNATION, else the epoch: which life of this rank it is, from 0
};

// Must be the first call of main. name: a string constant, the prefix of every line.
void test_begin(const char *name);

// Reads the identity from the environment. A variable that is no number ends the program.
struct test_identity test_identity_read(void);

// Writes "name: ..." and a newline to stdout with one write. Ends the program if it cannot.
__attribute__((format(printf, 1, 2))) void test_say(const char *format, ...);

// The same without "name: ", for output that is JSON.
__attribute__((format(printf, 1, 2))) void test_print(const char *format, ...);

// Writes "name: error: ..." to stderr and exits with TEST_EXIT_BROKEN.
__attribute__((format(printf, 1, 2), noreturn)) void test_die(const char *format, ...);

// CLOCK_BOOTTIME: the nodes of a devcluster share one kernel, so ranks of all nodes can be
// compared.
int64_t test_boottime_ns(void);

// The whole duration, also if signals arrive.
void test_sleep_ms(long duration_ms);

// A decimal number between min and max. what: named in the error.
long test_number(const char *text, long min, long max, const char *what);

// A signal by number ("9") or name ("KILL", "SIGKILL").
int test_signal_number(const char *text);

// True if number is in a list such as "0,2-4". "*" and "all" hold every number.
bool test_list_has(const char *list, long number);

// Waits until a file exists, looking every 2 ms; forever if timeout_ms is negative, else the
// program ends with an error when the time is over.
void test_file_wait(const char *path, long timeout_ms);

// Makes or extends a file by one line, with one O_APPEND write.
__attribute__((format(printf, 2, 3))) void test_file_append(const char *path, const char *format,
                                                            ...);

#endif
