// SPDX-License-Identifier: Apache-2.0
//
// See set.h. Spans are kept sorted, disjoint and non-adjacent after every call, so equal sets have
// equal bytes and a search is a binary one.
#include "pmix_server/wire/set.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pm_set_done(struct pm_set *s)
{
    free(s->spans);
    *s = (struct pm_set){0};
}

void pm_set_clear(struct pm_set *s)
{
    s->n = 0;
}

static int reserve(struct pm_set *s, size_t n)
{
    if (n <= s->cap)
        return 0;
    if (n > UINT32_MAX / 2)
        return -E2BIG;
    uint32_t cap = s->cap ? s->cap : 4;
    while (cap < n)
        cap *= 2;
    struct pm_span *spans = realloc(s->spans, cap * sizeof(*spans));
    if (!spans)
        return -ENOMEM;
    s->spans = spans;
    s->cap = cap;
    return 0;
}

// Index of the first span whose last >= v: the one that holds v, or the next one after it.
static uint32_t lower(const struct pm_set *s, uint32_t v)
{
    uint32_t lo = 0, hi = s->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->spans[mid].last < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int pm_set_add_span(struct pm_set *s, uint32_t first, uint32_t last)
{
    // Spans [from, to) touch or overlap the new one and melt into it.
    uint32_t from = lower(s, first ? first - 1 : 0);
    uint32_t to = from;
    while (to < s->n && (s->spans[to].first <= last || s->spans[to].first - 1 == last))
        to++;
    if (from == to) {
        int rc = reserve(s, (size_t)s->n + 1);
        if (rc < 0)
            return rc;
    } else {
        if (s->spans[from].first < first)
            first = s->spans[from].first;
        if (s->spans[to - 1].last > last)
            last = s->spans[to - 1].last;
    }
    if (to != from + 1)
        memmove(&s->spans[from + 1], &s->spans[to], (s->n - to) * sizeof(*s->spans));
    s->spans[from] = (struct pm_span){first, last};
    s->n = s->n + 1 - (to - from);
    return 0;
}

int pm_set_add(struct pm_set *s, uint32_t v)
{
    return pm_set_add_span(s, v, v);
}

int pm_set_copy(struct pm_set *into, const struct pm_set *from)
{
    int rc = reserve(into, from->n);
    if (rc < 0)
        return rc;
    if (from->n)
        memcpy(into->spans, from->spans, from->n * sizeof(*from->spans));
    into->n = from->n;
    return 0;
}

// Appends to a set whose last span ends before `first` or touches it; room was reserved.
static void append(struct pm_set *s, uint32_t first, uint32_t last)
{
    struct pm_span *end = s->n ? &s->spans[s->n - 1] : NULL;
    if (end && (first <= end->last || first - 1 == end->last)) {
        if (last > end->last)
            end->last = last;
    } else {
        assert(s->spans && s->n < s->cap);
        s->spans[s->n++] = (struct pm_span){first, last};
    }
}

int pm_set_union(struct pm_set *into, const struct pm_set *from)
{
    struct pm_set all = {0};
    if (from->n == 0)
        return 0;
    int rc = reserve(&all, (size_t)into->n + from->n);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0, j = 0; i < into->n || j < from->n;) {
        bool left = j == from->n || (i < into->n && into->spans[i].first <= from->spans[j].first);
        const struct pm_span *next = left ? &into->spans[i++] : &from->spans[j++];
        append(&all, next->first, next->last);
    }
    free(into->spans);
    *into = all;
    return 0;
}

int pm_set_subtract(struct pm_set *into, const struct pm_set *other)
{
    struct pm_set rest = {0};
    if (into->n == 0 || other->n == 0)
        return 0;
    int rc = reserve(&rest, (size_t)into->n + other->n);  // each span of `other` splits at most one
    if (rc < 0)
        return rc;
    for (uint32_t i = 0, j = 0; i < into->n; i++) {
        uint32_t first = into->spans[i].first, last = into->spans[i].last;
        bool over = false;
        while (j < other->n && other->spans[j].last < first)
            j++;
        for (uint32_t k = j; k < other->n && other->spans[k].first <= last; k++) {
            if (other->spans[k].first > first)
                append(&rest, first, other->spans[k].first - 1);
            over = other->spans[k].last >= last;
            if (over)
                break;
            first = other->spans[k].last + 1;
        }
        if (!over)
            append(&rest, first, last);
    }
    free(into->spans);
    *into = rest;
    return 0;
}

int pm_set_remove(struct pm_set *s, uint32_t v)
{
    struct pm_span one = {v, v};
    const struct pm_set set = {.spans = &one, .n = 1, .cap = 1};
    return pm_set_has(s, v) ? pm_set_subtract(s, &set) : 0;
}

bool pm_set_has(const struct pm_set *s, uint32_t v)
{
    uint32_t i = lower(s, v);
    return i < s->n && s->spans[i].first <= v;
}

bool pm_set_covers(const struct pm_set *s, const struct pm_set *sub)
{
    for (uint32_t i = 0; i < sub->n; i++) {
        uint32_t at = lower(s, sub->spans[i].first);
        if (at == s->n || s->spans[at].first > sub->spans[i].first ||
            s->spans[at].last < sub->spans[i].last)
            return false;
    }
    return true;
}

bool pm_set_intersects(const struct pm_set *a, const struct pm_set *b)
{
    for (uint32_t i = 0, j = 0; i < a->n && j < b->n;) {
        if (a->spans[i].last < b->spans[j].first)
            i++;
        else if (b->spans[j].last < a->spans[i].first)
            j++;
        else
            return true;
    }
    return false;
}

uint64_t pm_set_common(const struct pm_set *a, const struct pm_set *b)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct pm_span *own = &a->spans[i];
        for (uint32_t j = lower(b, own->first); j < b->n && b->spans[j].first <= own->last; j++) {
            const struct pm_span *other = &b->spans[j];
            uint32_t first = own->first > other->first ? own->first : other->first;
            uint32_t last = own->last < other->last ? own->last : other->last;
            count += (uint64_t)last - first + 1;
        }
    }
    return count;
}

bool pm_set_equal(const struct pm_set *a, const struct pm_set *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->spans, b->spans, a->n * sizeof(*a->spans)) == 0);
}

bool pm_set_empty(const struct pm_set *s)
{
    return s->n == 0;
}

uint64_t pm_set_count(const struct pm_set *s)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < s->n; i++)
        count += (uint64_t)s->spans[i].last - s->spans[i].first + 1;
    return count;
}

uint32_t pm_set_next(const struct pm_set *s, uint32_t v)
{
    uint32_t i = lower(s, v);
    if (i == s->n)
        return UINT32_MAX;
    return s->spans[i].first > v ? s->spans[i].first : v;
}

uint64_t pm_set_hash(const struct pm_set *s)
{
    uint64_t h = 0xcbf29ce484222325ull;
    for (uint32_t i = 0; i < s->n; i++) {
        const uint32_t words[2] = {s->spans[i].first, s->spans[i].last};
        for (unsigned byte = 0; byte < 8; byte++)
            h = (h ^ ((words[byte / 4] >> (8 * (byte % 4))) & 0xff)) * 0x100000001b3ull;
    }
    return h;
}

void pm_write_set(struct pm_writer *w, const struct pm_set *s)
{
    pm_write_var(w, s->n);
    uint64_t after = 0;  // first value that the next span could start with
    for (uint32_t i = 0; i < s->n; i++) {
        pm_write_var(w, s->spans[i].first - after);
        pm_write_var(w, s->spans[i].last - s->spans[i].first);
        after = (uint64_t)s->spans[i].last + 1;
    }
}

void pm_read_set(struct pm_reader *r, struct pm_set *s, uint32_t max_spans)
{
    s->n = 0;
    uint32_t n = pm_read_count(r, max_spans, 2);
    if (r->error)
        return;
    if (reserve(s, n) < 0) {
        pm_reader_no_memory(r);
        return;
    }
    uint64_t after = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t gap = pm_read_var(r), extent = pm_read_var(r);
        bool adjacent = i > 0 && gap == 0;
        // Each part is below 2^32 before they are added, so the sum cannot wrap.
        if (r->error || adjacent || gap >= UINT32_MAX || extent >= UINT32_MAX ||
            after + gap + extent >= UINT32_MAX) {
            r->error = -EBADMSG;
            s->n = 0;
            return;
        }
        s->spans[i] = (struct pm_span){(uint32_t)(after + gap), (uint32_t)(after + gap + extent)};
        after += gap + extent + 1;
    }
    s->n = n;
}

char *pm_set_format(const struct pm_set *s, char *buf, size_t cap)
{
    static const char cut[] = "...";
    size_t at = 0;
    if (cap)
        buf[0] = '\0';
    for (uint32_t i = 0; i < s->n; i++) {
        char item[32];
        const char *comma = i ? "," : "";
        int len = s->spans[i].first == s->spans[i].last
                      ? snprintf(item, sizeof(item), "%s%u", comma, s->spans[i].first)
                      : snprintf(item, sizeof(item), "%s%u-%u", comma, s->spans[i].first,
                                 s->spans[i].last);
        bool is_last = i + 1 == s->n;
        if (at + (size_t)len + (is_last ? 0 : sizeof(cut) - 1) >= cap) {
            if (at + sizeof(cut) <= cap)
                memcpy(buf + at, cut, sizeof(cut));
            break;
        }
        memcpy(buf + at, item, (size_t)len + 1);
        at += (size_t)len;
    }
    return buf;
}

char *pm_set_text(const struct pm_set *s)
{
    size_t cap = (size_t)s->n * sizeof(",4294967295-4294967295") + 1;
    char *text = malloc(cap);
    return text ? pm_set_format(s, text, cap) : NULL;
}
