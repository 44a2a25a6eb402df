// SPDX-License-Identifier: Apache-2.0
//
// Slurm's bracketed host lists: what slurmctld writes is expanded in order, what it would not write
// is refused, and the number and length of names are limited.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/hostlist.h"

TestSuite(hostlist, .timeout = 20);

// "a b c": the names in order.
static void expands(const char *list, const char *names)
{
    char **all, text[512] = "";
    uint32_t n;
    cr_assert_eq(pm_hostlist_expand(list, &all, &n), 0, "%s", list);
    cr_assert_eq(pm_hostlist_count(list), (int)n);
    for (uint32_t i = 0; i < n; i++) {
        char one[64];
        cr_assert_eq(pm_hostlist_nth(list, i, one, sizeof(one)), 0);
        cr_assert_str_eq(one, all[i], "nth and expand agree");
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", all[i]);
    }
    cr_assert_str_eq(text, names, "%s: %s", list, text);
    char one[64];
    cr_assert_eq(pm_hostlist_nth(list, n, one, sizeof(one)), -ENOENT);
    pm_hostlist_free(all, n);
}

Test(hostlist, expands_what_slurm_writes)
{
    expands("login1", "login1");
    expands("a,b,c", "a b c");
    expands("node[1-3]", "node1 node2 node3");
    expands("node[001-003,9]", "node001 node002 node003 node9");
    expands("node[08-11]", "node08 node09 node10 node11");
    expands("n[1-2]-ib", "n1-ib n2-ib");
    expands("r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02");
    expands("x[7],login1,y[0-1]", "x7 login1 y0 y1");
    expands("a[1-2],a[1-2]", "a1 a2 a1 a2");
    expands("node-1.site.org", "node-1.site.org");
}

static void refuses(const char *list)
{
    char **all = NULL, one[64];
    uint32_t n = 0;
    cr_assert(pm_hostlist_count(list) < 0, "%s", list);
    cr_assert(pm_hostlist_expand(list, &all, &n) < 0);
    cr_assert_null(all);
    cr_assert(pm_hostlist_nth(list, 1000000, one, sizeof(one)) < 0);
}

Test(hostlist, refuses_bad_syntax)
{
    static const char *const bad[] = {
        "",      ",",     "a,",     ",a",      "a,,b",    "a[",           "a[]",      "a[1",
        "a[1-]", "a[-1]", "a[2-1]", "a[1,]",   "a]",      "a[x]",         "a[1-2-3]", "a[1]]",
        "a b",   "a[1 ]", "a[[1]]", "a[1-2x]", "a[1],,b", "a[1234567890]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        refuses(bad[i]);
    cr_assert_eq(pm_hostlist_count(NULL), -EINVAL);
}

Test(hostlist, number_of_names_is_limited)
{
    cr_assert_eq(pm_hostlist_count("n[1-1048576]"), (int)PM_HOSTLIST_MAX);
    cr_assert_eq(pm_hostlist_count("n[0-1048576]"), -E2BIG);
    cr_assert_eq(pm_hostlist_count("n[1-1048576],x"), -E2BIG);
    cr_assert_eq(pm_hostlist_count("n[1-1024]x[1-1024]"), (int)PM_HOSTLIST_MAX);
    cr_assert_eq(pm_hostlist_count("n[1-1024]x[1-1025]"), -E2BIG);
    cr_assert_eq(pm_hostlist_count("n[0-999999999]x[0-999999999]x[0-999999999]x[0-999999999]"),
                 -E2BIG);
    cr_assert_eq(pm_hostlist_count("a[1]b[1]c[1]d[1]e[1]"), -E2BIG, "brackets in one name");
}

Test(hostlist, name_that_does_not_fit_is_refused)
{
    char buf[8];
    cr_assert_eq(pm_hostlist_nth("node[1-9]xx", 0, buf, 8), 0);
    cr_assert_str_eq(buf, "node1xx");
    cr_assert_eq(pm_hostlist_nth("node[1-9]xx", 0, buf, 7), -ENAMETOOLONG);
    char list[400], **all = NULL;
    uint32_t n;
    memset(list, 'a', sizeof(list) - 1);
    list[sizeof(list) - 1] = '\0';
    cr_assert_eq(pm_hostlist_expand(list, &all, &n), -ENAMETOOLONG);
    cr_assert_null(all);
}

Test(hostlist, last_name_of_a_large_list_is_found)
{
    char buf[16];
    cr_assert_eq(pm_hostlist_nth("n[000001-1048576]", 1048575, buf, sizeof(buf)), 0);
    cr_assert_str_eq(buf, "n1048576");
}

// Joined, the names are a list that expands to them again.
static void joins(const char *from, const char *list)
{
    char **names;
    uint32_t n;
    cr_assert_eq(pm_hostlist_expand(from, &names, &n), 0);
    char *joined = pm_hostlist_join(names, n);
    cr_assert_str_eq(joined, list, "%s: %s", from, joined);
    char **again;
    uint32_t n_again;
    cr_assert_eq(pm_hostlist_expand(joined, &again, &n_again), 0);
    cr_assert_eq(n_again, n);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_str_eq(again[i], names[i]);
    pm_hostlist_free(again, n_again);
    pm_hostlist_free(names, n);
    free(joined);
}

Test(hostlist, joins_names_in_their_order)
{
    joins("node[0-3]", "node[0-3]");
    joins("node[0-2,9,4-7]", "node[0-2,9,4-7]");
    joins("node[008-011]", "node[008-011]");
    joins("node[8-9],node10", "node[8-9,10]");
    joins("login", "login");
    joins("a1,b1,b3,c", "a1,b[1,3],c");
    joins("r1n[1-2],r2n[1-2]", "r1n[1-2],r2n[1-2]");
    joins("n7,n7", "n[7,7]");
    joins("x123456789012", "x123456789012");
}
