// SPDX-License-Identifier: Apache-2.0
//
// See hostlist.h. A list is comma-separated items outside brackets; an item is literal text with
// any number of bracketed number ranges, the last one varying fastest ("r[1-2]n[01-04]").
// Nothing is expanded in memory to find one name: the index is taken apart digit by digit.
#include "pmix_server/wire/hostlist.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BRACKETS_MAX 4
#define NUMBER_DIGITS_MAX 9

// One "first-last" of a bracket; `width` is the zero-padded width of its text.
struct range {
    uint32_t first;
    uint32_t last;
    int width;
};

static bool parse_number(const char **at, uint32_t *ret, int *ret_digits)
{
    uint32_t v = 0;
    int digits = 0;
    for (; isdigit((unsigned char)**at); (*at)++, digits++) {
        if (digits == NUMBER_DIGITS_MAX)
            return false;
        v = v * 10 + (uint32_t)(**at - '0');
    }
    *ret = v;
    *ret_digits = digits;
    return digits > 0;
}

// At "N" or "N-M"; leaves *at on the character after it.
static int parse_range(const char **at, struct range *ret)
{
    int digits;
    if (!parse_number(at, &ret->first, &ret->width))
        return -EINVAL;
    ret->last = ret->first;
    if (**at == '-') {
        (*at)++;
        if (!parse_number(at, &ret->last, &digits))
            return -EINVAL;
    }
    return ret->last >= ret->first ? 0 : -EINVAL;
}

// Walks the bracket that starts at *at ('['), counts its numbers, and if `want` is one of them
// gives its range and value. Leaves *at after ']'.
static int walk_bracket(const char **at, uint64_t want, uint64_t *ret_count, char *text, size_t cap)
{
    uint64_t count = 0;
    do {
        (*at)++;  // '[' or ','
        struct range range;
        int rc = parse_range(at, &range);
        if (rc < 0)
            return rc;
        uint64_t n = (uint64_t)range.last - range.first + 1;
        if (text && want >= count && want < count + n)
            snprintf(text, cap, "%0*u", range.width, range.first + (uint32_t)(want - count));
        count += n;
    } while (**at == ',');
    if (**at != ']' || count > PM_HOSTLIST_MAX)
        return **at != ']' ? -EINVAL : -E2BIG;
    (*at)++;
    *ret_count = count;
    return 0;
}

// One item from *at up to the next ',' outside brackets or the end.
struct item {
    const char *text;
    const char *end;
    uint64_t count;  // names in it
    uint64_t sizes[BRACKETS_MAX];
    int brackets;
};

static int parse_item(const char **at, struct item *ret)
{
    *ret = (struct item){.text = *at, .count = 1};
    while (**at && **at != ',') {
        if (**at == ']' || isspace((unsigned char)**at))
            return -EINVAL;
        if (**at != '[') {
            (*at)++;
            continue;
        }
        if (ret->brackets == BRACKETS_MAX)
            return -E2BIG;
        int rc = walk_bracket(at, 0, &ret->sizes[ret->brackets], NULL, 0);
        if (rc < 0)
            return rc;
        ret->count *= ret->sizes[ret->brackets++];
        if (ret->count > PM_HOSTLIST_MAX)
            return -E2BIG;
    }
    ret->end = *at;
    return ret->end == ret->text ? -EINVAL : 0;
}

// The `index`-th name of the item, index < count.
static int format_item(const struct item *item, uint64_t index, char *buf, size_t cap)
{
    uint64_t digit[BRACKETS_MAX] = {0};
    for (int b = item->brackets - 1; b >= 0; b--) {
        digit[b] = index % item->sizes[b];
        index /= item->sizes[b];
    }
    size_t len = 0;
    int b = 0;
    for (const char *at = item->text; at < item->end;) {
        char number[NUMBER_DIGITS_MAX + 2] = {*at, '\0'};
        uint64_t count;
        if (*at == '[')
            walk_bracket(&at, digit[b++], &count, number, sizeof(number));
        else
            at++;
        size_t add = strlen(number);
        if (len + add >= cap)
            return -ENAMETOOLONG;
        memcpy(buf + len, number, add);
        len += add;
    }
    buf[len] = '\0';
    return 0;
}

// Calls `visit` for each item with the number of names before it; a positive result ends the walk.
typedef int visit_f(void *context, const struct item *item, uint64_t before);

static int walk_items(const char *list, visit_f *visit, void *context, uint64_t *ret_count)
{
    uint64_t before = 0;
    const char *at = list;
    if (!list || !*list)
        return -EINVAL;
    for (;;) {
        struct item item;
        int rc = parse_item(&at, &item);
        if (rc == 0)
            rc = visit ? visit(context, &item, before) : 0;
        if (rc != 0)
            return rc;
        before += item.count;
        if (before > PM_HOSTLIST_MAX)
            return -E2BIG;
        if (!*at)
            break;
        at++;
    }
    *ret_count = before;
    return 0;
}

struct nth {
    uint64_t index;
    char *buf;
    size_t cap;
};

static int visit_nth(void *context, const struct item *item, uint64_t before)
{
    struct nth *nth = context;
    if (nth->index >= before + item->count)
        return 0;
    int rc = format_item(item, nth->index - before, nth->buf, nth->cap);
    return rc < 0 ? rc : 1;
}

int pm_hostlist_nth(const char *list, uint32_t index, char *buf, size_t cap)
{
    struct nth nth = {.index = index, .buf = buf, .cap = cap};
    uint64_t count;
    int rc = walk_items(list, visit_nth, &nth, &count);
    if (rc == 0)
        return -ENOENT;
    return rc < 0 ? rc : 0;
}

int pm_hostlist_count(const char *list)
{
    uint64_t count = 0;
    int rc = walk_items(list, NULL, NULL, &count);
    return rc < 0 ? rc : (int)count;
}

struct expand {
    char **names;
    uint32_t n;
};

static int visit_expand(void *context, const struct item *item, uint64_t before)
{
    struct expand *expand = context;
    char name[256];
    for (uint64_t i = 0; i < item->count; i++) {
        int rc = format_item(item, i, name, sizeof(name));
        if (rc < 0)
            return rc;
        expand->names[before + i] = strdup(name);
        if (!expand->names[before + i])
            return -ENOMEM;
        expand->n++;
    }
    return 0;
}

int pm_hostlist_expand(const char *list, char ***ret_names, uint32_t *ret_n)
{
    int count = pm_hostlist_count(list);
    if (count < 0)
        return count;
    struct expand expand = {.names = calloc((size_t)count, sizeof(char *))};
    if (!expand.names)
        return -ENOMEM;
    uint64_t n;
    int rc = walk_items(list, visit_expand, &expand, &n);
    if (rc < 0) {
        pm_hostlist_free(expand.names, expand.n);
        return rc;
    }
    *ret_names = expand.names;
    *ret_n = expand.n;
    return 0;
}

void pm_hostlist_free(char **names, uint32_t n)
{
    for (uint32_t i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
}
