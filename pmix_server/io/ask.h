// SPDX-License-Identifier: Apache-2.0
//
// Asks Slurm something with one of its own commands, as the user would: no libslurm, and nothing that can block the loop.
// The answer is what the command prints; it has a time limit, after which the command is killed and there is none.
#ifndef PM_IO_ASK_H
#define PM_IO_ASK_H

#include <event2/event.h>
#include <signal.h>
#include <stdint.h>

#include "pmix_server/io/children.h"

struct pm_ask;

// `text`: all that the command printed; NULL: there is no answer. The question is over and freed then.
typedef void (*pm_ask_f)(const char *text, void *arg);

struct pm_question {
    struct event_base *base;
    struct pm_children *children;
    const sigset_t *mask;     // signals that the command finds blocked
    const char *near;         // a path: the command of that folder is taken, else the one in PATH
    const char *const *argv;  // argv[0]: its name; NULL-terminated
    const char *variable;     // "NAME=VALUE" that it finds in its environment; NULL: none
    uint64_t limit_ms;
    pm_ask_f answered;
    void *arg;
};

// Borrows `question` for the call, but for its base and children. 0, or negative errno: nothing was asked, nobody is called.
int pm_ask_begin(const struct pm_question *question, struct pm_ask **ret);
// Gives the question up: nobody is called. NULL.
struct pm_ask *pm_ask_end(struct pm_ask *ask);

#endif
