// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/io/ask.h promises of the program that is asked: it has no descriptor of ours but its answer.
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/io/ask.h"

#define NAMED_FD 20  // as in srun --input=20

static struct event_base *base;
static char got[64];

static void on_answer(const char *text, void *arg)
{
    (void)arg;
    (void)strncat(got, text ? text : "no answer", sizeof(got) - 1);
    event_base_loopbreak(base);
}

Test(ask, a_descriptor_that_words_of_srun_name_is_not_inherited, .timeout = 20)
{
    static const char *const argv[] = {"sh", "-c", "test -e /proc/self/fd/20 && echo open || echo closed", NULL};
    struct pm_children *children = pm_children_new();
    struct pm_ask *ask;
    sigset_t mask;
    sigemptyset(&mask);
    base = event_base_new();
    cr_assert_eq(dup2(STDERR_FILENO, NAMED_FD), NAMED_FD);
    const struct pm_question question = {.base = base, .children = children, .mask = &mask, .near = "/bin/sh",
                                         .argv = argv, .limit_ms = 10000, .answered = on_answer};
    cr_assert_eq(pm_ask_begin(&question, &ask), 0);
    event_base_dispatch(base);
    cr_assert_str_eq(got, "closed\n");
    pm_children_free(children);
    event_base_free(base);
}
