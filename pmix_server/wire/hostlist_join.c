// SPDX-License-Identifier: Apache-2.0
//
// From names to a host list: see hostlist.h. A name's last number is its number, the text before it its stem; names
// with the same stem in a row share a bracket, numbers that follow each other with equal width a range.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/hostlist.h"

#define DIGITS_MAX 9

struct name {
    size_t stem; // bytes before the number
    int digits;  // 0: it has no number at its end
    unsigned long number;
};

static struct name take_apart(const char *text)
{
    size_t len = strlen(text), at = len;
    while (at > 0 && len - at < DIGITS_MAX && isdigit((unsigned char)text[at - 1]))
        at--;
    struct name name = {.stem = at, .digits = (int)(len - at)};
    name.number = name.digits ? strtoul(text + at, NULL, 10) : 0;
    return name;
}

static bool same_stem(char *const *names, uint32_t a, uint32_t b)
{
    const struct name x = take_apart(names[a]), y = take_apart(names[b]);
    return x.digits && y.digits && x.stem == y.stem && !memcmp(names[a], names[b], x.stem);
}

// How many names from `at` on have consecutive numbers.
static uint32_t run_of(char *const *names, uint32_t n, uint32_t at)
{
    const struct name first = take_apart(names[at]);
    uint32_t k = 1;
    while (at + k < n && same_stem(names, at, at + k) &&
           take_apart(names[at + k]).digits == first.digits &&
           take_apart(names[at + k]).number == first.number + k)
        k++;
    return k;
}

static void write_text(struct pm_writer *w, const char *text, size_t len)
{
    pm_write_raw(w, text, len);
}

static void write_run(struct pm_writer *w, char *const *names, uint32_t at, uint32_t k)
{
    const struct name name = take_apart(names[at]);
    char text[64];
    int len = snprintf(text, sizeof(text), "%0*lu", name.digits, name.number);
    if (k > 1)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "-%0*lu", name.digits, name.number + k - 1);
    write_text(w, text, (size_t)len);
}

// The names from `at` on with one stem; returns the index behind them.
static uint32_t write_group(struct pm_writer *w, char *const *names, uint32_t n, uint32_t at)
{
    const struct name name = take_apart(names[at]);
    uint32_t end = at + 1;
    while (end < n && same_stem(names, at, end))
        end++;
    if (end == at + 1) {
        write_text(w, names[at], strlen(names[at]));
        return end;
    }
    write_text(w, names[at], name.stem);
    for (uint32_t i = at, k; i < end; i += k) {
        k = run_of(names, end, i);
        write_text(w, i == at ? "[" : ",", 1);
        write_run(w, names, i, k);
    }
    write_text(w, "]", 1);
    return end;
}

char *pm_hostlist_join(char *const *names, uint32_t n)
{
    struct pm_writer w = {0};
    for (uint32_t i = 0; i < n;) {
        if (i)
            write_text(&w, ",", 1);
        i = write_group(&w, names, n, i);
    }
    write_text(&w, "", 1);
    if (w.error) {
        pm_writer_done(&w);
        return NULL;
    }
    return (char *)w.data;
}
