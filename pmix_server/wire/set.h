// SPDX-License-Identifier: Apache-2.0
//
// A set of u32 (nodes or ranks) as sorted, disjoint, non-adjacent closed intervals.
//
// Union is idempotent, which is what makes lost, late and repeated reports of the tree harmless;
// a count is never sent where a set can be. A set of a whole world of a million is one interval.
// Functions that can grow the set return 0 or -ENOMEM and leave the set untouched on failure.
#ifndef PM_WIRE_SET_H
#define PM_WIRE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/buf.h"

struct pm_span {
    uint32_t first;
    uint32_t last;
};

// Zero-initialise it; pm_set_done() frees it.
struct pm_set {
    struct pm_span *spans;
    uint32_t n;
    uint32_t cap;
};

void pm_set_done(struct pm_set *s);
void pm_set_clear(struct pm_set *s);
int pm_set_add(struct pm_set *s, uint32_t v);
int pm_set_add_span(struct pm_set *s, uint32_t first, uint32_t last);
int pm_set_remove(struct pm_set *s, uint32_t v);
int pm_set_union(struct pm_set *into, const struct pm_set *from);
// into := into without `other`.
int pm_set_subtract(struct pm_set *into, const struct pm_set *other);
int pm_set_copy(struct pm_set *into, const struct pm_set *from);
bool pm_set_has(const struct pm_set *s, uint32_t v);
// Every member of `sub` is in `s`.
bool pm_set_covers(const struct pm_set *s, const struct pm_set *sub);
bool pm_set_intersects(const struct pm_set *a, const struct pm_set *b);
// How many members both have. Quick if `a` has few spans, however many `b` has.
uint64_t pm_set_common(const struct pm_set *a, const struct pm_set *b);
bool pm_set_equal(const struct pm_set *a, const struct pm_set *b);
bool pm_set_empty(const struct pm_set *s);
uint64_t pm_set_count(const struct pm_set *s);
// Smallest member >= v, or UINT32_MAX if there is none (UINT32_MAX is never a member).
uint32_t pm_set_next(const struct pm_set *s, uint32_t v);
// Content hash (FNV-1a over the spans).
uint64_t pm_set_hash(const struct pm_set *s);

// On the wire: count, then per span the gap to the one before and the length, all LEB128.
void pm_write_set(struct pm_writer *w, const struct pm_set *s);
// Replaces *s. At most `max_spans` spans; unsorted, overlapping or adjacent spans are an error.
void pm_read_set(struct pm_reader *r, struct pm_set *s, uint32_t max_spans);

// "3,7-9" into buf (cut with "..." when it does not fit); returns buf.
char *pm_set_format(const struct pm_set *s, char *buf, size_t cap);
// The same whole, malloc'd; NULL without memory.
char *pm_set_text(const struct pm_set *s);

#endif
