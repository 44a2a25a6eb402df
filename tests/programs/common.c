// SPDX-License-Identifier: Apache-2.0
//
// See common.h.

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static const char *program_name = "test";

void test_begin(const char *name)
{
    program_name = name;
}

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

// Formats prefix, text and newline into line; a text that is too long is cut, its newline stays.
__attribute__((format(printf, 3, 0))) static size_t format_line(char line[static TEST_LINE_MAX],
                                                                const char *prefix,
                                                                const char *format,
                                                                va_list arguments)
{
    int used = snprintf(line, TEST_LINE_MAX - 1, "%s", prefix);
    size_t length = used < 0 ? 0 : (size_t)used;
    int more = vsnprintf(line + length, TEST_LINE_MAX - 1 - length, format, arguments);
    length += more < 0 ? 0 : (size_t)more;
    if (length > TEST_LINE_MAX - 2)
        length = TEST_LINE_MAX - 2;
    line[length] = '\n';
    return length + 1;
}

__attribute__((format(printf, 2, 0))) static void write_line(const char *prefix, const char *format,
                                                             va_list arguments)
{
    char line[TEST_LINE_MAX];
    size_t length = format_line(line, prefix, format, arguments);
    int error = write_all(STDOUT_FILENO, line, length);
    if (error < 0)
        test_die("cannot write to stdout: %s", strerror(-error));
}

void test_say(const char *format, ...)
{
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "%s: ", program_name);
    va_list arguments;
    va_start(arguments, format);
    write_line(prefix, format, arguments);
    va_end(arguments);
}

void test_print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line("", format, arguments);
    va_end(arguments);
}

void test_die(const char *format, ...)
{
    char line[TEST_LINE_MAX];
    char prefix[64];
    (void)snprintf(prefix, sizeof prefix, "%s: error: ", program_name);
    va_list arguments;
    va_start(arguments, format);
    size_t length = format_line(line, prefix, format, arguments);
    va_end(arguments);
    (void)write_all(STDERR_FILENO, line, length); // nobody is left who could be told
    _exit(TEST_EXIT_BROKEN);
}

int64_t test_boottime_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        test_die("clock_gettime: %s", strerror(errno));
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

void test_sleep_ms(long duration_ms)
{
    struct timespec left = {
        .tv_sec = duration_ms / 1000,
        .tv_nsec = duration_ms % 1000 * TEST_NS_PER_MS,
    };
    while (nanosleep(&left, &left) < 0)
        if (errno != EINTR)
            test_die("nanosleep: %s", strerror(errno));
}

long test_number(const char *text, long min, long max, const char *what)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < min || number > max)
        test_die("%s: '%s' is not a number from %ld to %ld", what, text, min, max);
    return number;
}

// The first of the two variables that is set, else fallback.
static long environment_number(const char *name, const char *other, long fallback)
{
    const char *text = getenv(name);
    if (text == NULL) {
        name = other;
        text = getenv(other);
    }
    return text == NULL ? fallback : test_number(text, 0, INT32_MAX, name);
}

struct test_identity test_identity_read(void)
{
    long slurm_rank = environment_number("PMIX_RANK", "SLURM_PROCID", 0);
    long epoch = environment_number("PM_EPOCH", "PM_EPOCH", 0);
    return (struct test_identity){
        .rank = environment_number("RANK", "RANK", slurm_rank),
        .epoch = epoch,
        .incarnation = environment_number("PM_INCARNATION", "PM_INCARNATION", epoch),
    };
}

int test_signal_number(const char *text)
{
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    for (int number = 1; number < NSIG; number++) {
        const char *known = sigabbrev_np(number);
        if (known != NULL && strcasecmp(known, name) == 0)
            return number;
    }
    return (int)test_number(text, 1, SIGRTMAX, "signal");
}

bool test_list_has(const char *list, long number)
{
    if (strcmp(list, "*") == 0 || strcmp(list, "all") == 0)
        return true;
    bool found = false;
    const char *at = list;
    do {
        char *end = NULL;
        long first = strtol(at, &end, 10);
        long last = first;
        if (end != at && *end == '-') {
            at = end + 1;
            last = strtol(at, &end, 10);
        }
        if (end == at || (*end != ',' && *end != '\0'))
            test_die("'%s' is not a list such as 0,2-4", list);
        found = found || (first <= number && number <= last);
        at = *end == ',' ? end + 1 : end;
    } while (*at != '\0');
    return found;
}

void test_file_wait(const char *path, long timeout_ms)
{
    int64_t end_ns = test_boottime_ns() + timeout_ms * TEST_NS_PER_MS;
    while (access(path, F_OK) < 0) {
        if (errno != ENOENT)
            test_die("cannot look for %s: %s", path, strerror(errno));
        if (timeout_ms >= 0 && test_boottime_ns() > end_ns)
            test_die("%s has not appeared within %ld ms", path, timeout_ms);
        test_sleep_ms(2);
    }
}

void test_file_append(const char *path, const char *format, ...)
{
    char line[TEST_LINE_MAX];
    va_list arguments;
    va_start(arguments, format);
    size_t length = format_line(line, "", format, arguments);
    va_end(arguments);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        test_die("cannot open %s: %s", path, strerror(errno));
    int error = write_all(fd, line, length);
    if (error < 0 || close(fd) < 0)
        test_die("cannot write %s: %s", path, strerror(error < 0 ? -error : errno));
}
