// SPDX-License-Identifier: Apache-2.0
//
// Sets of u32: every operation against a table of bits, spans always sorted, disjoint and apart;
// the wire form reads back exactly and takes nothing else; limits at the edges of the numbers.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/set.h"

TestSuite(set, .timeout = 30);

enum { BITS = 96 };

struct model {
    struct pm_set set;
    bool bits[BITS];
};

static uint64_t state = 1;

static uint32_t random_below(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % n);
}

static void check(const struct model *m)
{
    const struct pm_set *s = &m->set;
    uint64_t count = 0;
    for (uint32_t v = 0; v < BITS; v++) {
        count += m->bits[v];
        cr_assert_eq(pm_set_has(s, v), m->bits[v], "%u", v);
        uint32_t next = v;
        while (next < BITS && !m->bits[next])
            next++;
        cr_assert_eq(pm_set_next(s, v), next < BITS ? next : UINT32_MAX);
    }
    cr_assert_eq(pm_set_count(s), count);
    cr_assert_eq(pm_set_empty(s), count == 0);
    for (uint32_t i = 0; i < s->n; i++) {
        cr_assert(s->spans[i].first <= s->spans[i].last);
        cr_assert(i == 0 || s->spans[i - 1].last + 1 < s->spans[i].first, "disjoint, not adjacent");
    }
}

static void fill(struct model *m, uint32_t changes)
{
    pm_set_clear(&m->set);
    memset(m->bits, 0, sizeof(m->bits));
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t first = random_below(BITS), last = first + random_below(BITS - first);
        last = random_below(2) ? first : last > first + 6 ? first + 6 : last;
        if (random_below(4) == 0) {
            cr_assert_eq(pm_set_remove(&m->set, first), 0);
            m->bits[first] = false;
            continue;
        }
        cr_assert_eq(pm_set_add_span(&m->set, first, last), 0);
        for (uint32_t v = first; v <= last; v++)
            m->bits[v] = true;
    }
}

Test(set, adding_and_removing_agree_with_a_table_of_bits)
{
    struct model m = {0};
    for (int i = 0; i < 3000; i++) {
        fill(&m, 1 + random_below(20));
        check(&m);
    }
    pm_set_done(&m.set);
}

static void check_pair(const struct model *a, const struct model *b)
{
    bool covers = true, intersects = false, equal = true;
    for (uint32_t v = 0; v < BITS; v++) {
        covers &= a->bits[v] || !b->bits[v];
        intersects |= a->bits[v] && b->bits[v];
        equal &= a->bits[v] == b->bits[v];
    }
    cr_assert_eq(pm_set_covers(&a->set, &b->set), covers);
    cr_assert_eq(pm_set_intersects(&a->set, &b->set), intersects);
    cr_assert_eq(pm_set_equal(&a->set, &b->set), equal);
    if (equal)
        cr_assert_eq(pm_set_hash(&a->set), pm_set_hash(&b->set));
}

Test(set, union_subtraction_and_comparisons_agree_with_a_table_of_bits)
{
    struct model a = {0}, b = {0}, c = {0};
    for (int i = 0; i < 3000; i++) {
        fill(&a, random_below(12));
        fill(&b, random_below(12));
        check_pair(&a, &b);
        cr_assert_eq(pm_set_copy(&c.set, &a.set), 0);
        cr_assert_eq(pm_set_union(&c.set, &b.set), 0);
        for (uint32_t v = 0; v < BITS; v++)
            c.bits[v] = a.bits[v] || b.bits[v];
        check(&c);
        check_pair(&c, &b);
        cr_assert_eq(pm_set_subtract(&c.set, &b.set), 0);
        for (uint32_t v = 0; v < BITS; v++)
            c.bits[v] = a.bits[v] && !b.bits[v];
        check(&c);
    }
    pm_set_done(&a.set);
    pm_set_done(&b.set);
    pm_set_done(&c.set);
}

Test(set, union_with_itself_changes_nothing)
{
    struct pm_set s = {0}, t = {0};
    pm_set_add_span(&s, 3, 9);
    pm_set_add(&s, 11);
    pm_set_copy(&t, &s);
    cr_assert_eq(pm_set_union(&s, &t), 0);
    cr_assert_eq(pm_set_union(&s, &t), 0);
    cr_assert(pm_set_equal(&s, &t));
    pm_set_done(&s);
    pm_set_done(&t);
}

Test(set, largest_member_is_one_below_the_largest_number)
{
    struct pm_set s = {0}, all = {0};
    cr_assert_eq(pm_set_add_span(&s, 0, UINT32_MAX - 1), 0);
    cr_assert_eq(pm_set_count(&s), UINT32_MAX);
    cr_assert(pm_set_has(&s, UINT32_MAX - 1));
    cr_assert_not(pm_set_has(&s, UINT32_MAX));
    cr_assert_eq(pm_set_next(&s, UINT32_MAX - 1), UINT32_MAX - 1);
    cr_assert_eq(pm_set_next(&s, UINT32_MAX), UINT32_MAX);
    pm_set_copy(&all, &s);
    cr_assert_eq(pm_set_remove(&s, UINT32_MAX - 1), 0);
    cr_assert_eq(pm_set_remove(&s, 0), 0);
    cr_assert(s.n == 1 && s.spans[0].first == 1 && s.spans[0].last == UINT32_MAX - 2);
    cr_assert_eq(pm_set_subtract(&s, &all), 0);
    cr_assert(pm_set_empty(&s));
    pm_set_done(&s);
    pm_set_done(&all);
}

Test(set, a_world_of_a_million_is_one_span)
{
    struct pm_set s = {0};
    for (uint32_t v = 0; v < 1000000; v++)
        pm_set_add(&s, v);
    cr_assert_eq(s.n, 1);
    struct pm_writer w = {0};
    pm_write_set(&w, &s);
    cr_assert(w.len <= 5, "%zu bytes", w.len);
    pm_writer_done(&w);
    pm_set_done(&s);
}

Test(set, wire_form_reads_back)
{
    struct model m = {0};
    struct pm_writer w = {0};
    struct pm_set back = {0};
    for (int i = 0; i < 500; i++) {
        fill(&m, random_below(15));
        if (i % 5 == 0)
            pm_set_add_span(&m.set, UINT32_MAX - 3, UINT32_MAX - 1);
        pm_writer_reset(&w);
        pm_write_set(&w, &m.set);
        struct pm_reader r = pm_reader_of(w.data, w.len);
        pm_read_set(&r, &back, 1000);
        cr_assert_eq(pm_reader_end(&r), 0);
        cr_assert(pm_set_equal(&m.set, &back));
    }
    pm_writer_done(&w);
    pm_set_done(&m.set);
    pm_set_done(&back);
}

Test(set, number_of_spans_is_limited)
{
    struct pm_writer w = {0};
    struct pm_set s = {0}, back = {0};
    for (uint32_t v = 0; v < 20; v += 2)
        pm_set_add(&s, v);
    pm_write_set(&w, &s);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_set(&r, &back, 10);
    cr_assert_eq(pm_reader_end(&r), 0, "at the limit");
    r = pm_reader_of(w.data, w.len);
    pm_read_set(&r, &back, 9);
    cr_assert_eq(r.error, -EBADMSG, "one above");
    cr_assert(pm_set_empty(&back), "nothing half read is left");
    pm_writer_done(&w);
    pm_set_done(&s);
    pm_set_done(&back);
}

static int read_vars(const uint64_t *vars, size_t n)
{
    struct pm_writer w = {0};
    struct pm_set s = {0};
    for (size_t i = 0; i < n; i++)
        pm_write_var(&w, vars[i]);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_set(&r, &s, 100);
    int rc = pm_reader_end(&r);
    cr_assert(r.error == 0 || pm_set_empty(&s), "nothing half read is left");
    pm_writer_done(&w);
    pm_set_done(&s);
    return rc;
}

Test(set, malformed_wire_forms_are_refused)
{
    static const struct {
        uint64_t vars[5];
        size_t n;
        int rc;
    } cases[] = {
        {{0}, 1, 0},
        {{1, 0, 0}, 3, 0},
        {{2, 0, 0, 1, 0}, 5, 0},
        {{2, 0, 0, 0, 0}, 5, -EBADMSG},              // adjacent
        {{1, UINT32_MAX - 1, 0}, 3, 0},              // the largest member
        {{1, UINT32_MAX, 0}, 3, -EBADMSG},           // is no member
        {{1, 0, UINT32_MAX - 1}, 3, 0},              // everything
        {{1, 0, UINT32_MAX}, 3, -EBADMSG},           // one more
        {{1, 1, UINT32_MAX - 1}, 3, -EBADMSG},       // ends beyond
        {{1, UINT64_MAX, 1}, 3, -EBADMSG},           // wraps
        {{2, UINT32_MAX - 2, 0, 1, 0}, 5, -EBADMSG}, // second one beyond
        {{2, UINT32_MAX - 4, 1, 1, 0}, 5, 0},
        {{2, 0, 0}, 3, -EBADMSG},    // fewer than announced
        {{1, 0, 0, 0}, 4, -EBADMSG}, // more
        {{1, 0}, 2, -EBADMSG},
        {{UINT64_MAX}, 1, -EBADMSG},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        cr_assert_eq(read_vars(cases[i].vars, cases[i].n), cases[i].rc, "case %zu", i);
}

static void format(const char *expected, size_t cap)
{
    struct pm_set s = {0};
    char buf[64];
    pm_set_add(&s, 3);
    pm_set_add_span(&s, 7, 9);
    pm_set_add(&s, 11);
    memset(buf, 'x', sizeof(buf));
    cr_assert_eq(pm_set_format(&s, buf, cap), buf);
    cr_assert(strlen(buf) < cap);
    cr_assert_str_eq(buf, expected, "'%s' with %zu", buf, cap);
    cr_assert(buf[cap] == 'x');
    pm_set_done(&s);
}

Test(set, text_is_cut_where_it_does_not_fit)
{
    format("3,7-9,11", 60);
    format("3,7-9,11", 9);
    format("3...", 7);
    for (size_t cap = 1; cap < 12; cap++) {
        struct pm_set s = {0};
        char buf[16];
        pm_set_add(&s, 3);
        pm_set_add_span(&s, 7, 9);
        pm_set_format(&s, buf, cap);
        cr_assert(strlen(buf) < cap);
        pm_set_done(&s);
    }
    struct pm_set none = {0};
    char buf[4];
    cr_assert_str_eq(pm_set_format(&none, buf, sizeof(buf)), "");
}

static void text_is(const struct pm_set *s, const char *expected)
{
    char *text = pm_set_text(s);
    cr_assert_str_eq(text, expected);
    free(text);
}

Test(set, text_of_any_length_is_whole)
{
    struct pm_set s = {0};
    text_is(&s, "");
    pm_set_add_span(&s, 4294967290u, 4294967294u);
    text_is(&s, "4294967290-4294967294");
    pm_set_add_span(&s, 4294967280u, 4294967288u);
    text_is(&s, "4294967280-4294967288,4294967290-4294967294");
    pm_set_done(&s);
}

Test(set, what_two_have_in_common_is_counted)
{
    struct pm_set a = {0}, b = {0};
    cr_assert_eq(pm_set_common(&a, &b), 0);
    pm_set_add_span(&a, 2, 5);
    pm_set_add_span(&a, 8, 9);
    pm_set_add_span(&a, 20, 4294967294u);
    cr_assert_eq(pm_set_common(&a, &b), 0);
    pm_set_add_span(&b, 0, 2);
    pm_set_add(&b, 4);
    pm_set_add_span(&b, 6, 7);
    pm_set_add_span(&b, 9, 21);
    cr_assert_eq(pm_set_common(&a, &b), 5); // 2, 4, 9, 20, 21
    cr_assert_eq(pm_set_common(&b, &a), 5);
    cr_assert_eq(pm_set_common(&a, &a), pm_set_count(&a));
    pm_set_done(&a);
    pm_set_done(&b);
}
