// SPDX-License-Identifier: Apache-2.0
//
// See kth.h. Linked with --wrap for each function below; what libraries allocate for themselves does not
// come by here.
#include "tests/kth/kth.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

static struct {
    atomic_bool armed;
    enum kth_mode mode;
    _Atomic int64_t left;  // calls until one fails; below 1 from then on
    atomic_bool reached;
    const void *where;
    void (*on_failure)(void);
    _Atomic int64_t live;
} kth;

static bool is_tried = true;
static bool libraries_are_tried = true;

extern const char __executable_start[], etext[];

void kth_arm(uint64_t k, enum kth_mode mode)
{
    kth.mode = mode;
    kth.left = (int64_t)k;
    kth.reached = false;
    kth.where = NULL;
    kth.armed = true;
}

bool kth_disarm(void)
{
    kth.armed = false;
    return kth.reached;
}

uint64_t kth_where(void)
{
    return kth.where ? (uint64_t)((const char *)kth.where - __executable_start) : 0;
}

static bool is_of_program(const void *where)
{
    return (const char *)where >= __executable_start && (const char *)where < etext;
}

bool kth_fails(const void *where)
{
    if (!kth.armed || (!libraries_are_tried && !is_of_program(where)))
        return false;
    int64_t left = kth.left--;
    if (left != 1)
        return left < 1 && kth.mode == KTH_FROM_NOW;
    kth.where = where;
    kth.reached = true;
    if (kth.on_failure)
        kth.on_failure();
    return true;
}

void kth_on_failure(void (*f)(void))
{
    kth.on_failure = f;
}

int64_t kth_live_blocks(void)
{
    return kth.live;
}

void kth_memory_is_tried(bool tried)
{
    is_tried = tried;
}

void kth_libraries_are_tried(bool tried)
{
    libraries_are_tried = tried;
}

// --- malloc and its relatives ----------------------------------------------------------------------

#define FAIL_HERE()                                                                                \
    do {                                                                                           \
        if (is_tried && kth_fails(__builtin_return_address(0))) {                                              \
            errno = ENOMEM;                                                                        \
            return NULL;                                                                           \
        }                                                                                          \
    } while (0)

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t n, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
char *__real_getcwd(char *buf, size_t size);
FILE *__real_open_memstream(char **ret, size_t *ret_len);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t n, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
char *__wrap_getcwd(char *buf, size_t size);
FILE *__wrap_open_memstream(char **ret, size_t *ret_len);
void __wrap_free(void *p);
int __real_vasprintf(char **ret, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
int __wrap___vasprintf_chk(char **ret, int flag, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
int __wrap_vasprintf(char **ret, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void *counted(void *p)
{
    kth.live += p != NULL;
    return p;
}

void *__wrap_malloc(size_t size)
{
    FAIL_HERE();
    return counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
    FAIL_HERE();
    return counted(__real_calloc(n, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    FAIL_HERE();
    return old ? __real_realloc(old, size) : counted(__real_realloc(old, size));
}

void *__wrap_reallocarray(void *old, size_t n, size_t size)
{
    FAIL_HERE();
    return old ? __real_reallocarray(old, n, size) : counted(__real_reallocarray(old, n, size));
}

char *__wrap_strdup(const char *s)
{
    FAIL_HERE();
    return counted(__real_strdup(s));
}

char *__wrap_strndup(const char *s, size_t n)
{
    FAIL_HERE();
    return counted(__real_strndup(s, n));
}

char *__wrap_getcwd(char *buf, size_t size)
{
    FAIL_HERE();
    char *path = __real_getcwd(buf, size);
    return buf ? path : counted(path);
}

// The text that it makes is the caller's to free.
FILE *__wrap_open_memstream(char **ret, size_t *ret_len)
{
    FAIL_HERE();
    return counted(__real_open_memstream(ret, ret_len));
}

void __wrap_free(void *p)
{
    kth.live -= p != NULL;
    __real_free(p);
}

__attribute__((format(printf, 2, 0))) static int print(char **ret, const char *format, va_list args)
{
    int len = __real_vasprintf(ret, format, args);
    kth.live += len >= 0;
    return len;
}

#define PRINT(ret, format)                                                                         \
    va_list args;                                                                                  \
    if (is_tried && kth_fails(__builtin_return_address(0)))                                        \
        return -1;                                                                                 \
    va_start(args, format);                                                                        \
    int len = print(ret, format, args);                                                            \
    va_end(args);                                                                                  \
    return len

int __wrap_vasprintf(char **ret, const char *format, va_list args)
{
    if (is_tried && kth_fails(__builtin_return_address(0)))
        return -1;
    return print(ret, format, args);
}

// What vasprintf() is with _FORTIFY_SOURCE.
int __wrap___vasprintf_chk(char **ret, int flag, const char *format, va_list args)
{
    if (is_tried && kth_fails(__builtin_return_address(0)))
        return -1;
    return print(ret, format, args);
}

int __wrap_asprintf(char **ret, const char *format, ...)
{
    PRINT(ret, format);
}

// What asprintf() is with _FORTIFY_SOURCE.
int __wrap___asprintf_chk(char **ret, int flag, const char *format, ...)
{
    PRINT(ret, format);
}
