// SPDX-License-Identifier: Apache-2.0
//
// What the parts of pmix_probe share: the process' state, a step's options, and the verbs.
//
// A step is "verb:option=value:flag"; the first value may come without a name ("sleep:500") if the
// verb has a main value. Everything is checked before the first step runs.

#ifndef PM_TESTS_PROGRAMS_PROBE_H
#define PM_TESTS_PROGRAMS_PROBE_H

#include <pmix.h>

#include "common.h"

enum { PROBE_OPTIONS_MAX = 12 };

struct probe_option {
    const char *name;  // "" for the main value
    const char *value; // NULL for a flag
};

struct probe_step {
    long number;      // position in the command line: the same on every rank
    const char *text; // as the user wrote it
    const struct probe_verb *verb;
    struct probe_option options[PROBE_OPTIONS_MAX];
    size_t option_count;
};

struct probe {
    struct test_identity me; // rank: from PMIx after init
    pmix_proc_t self;        // of PMIx_Init
    long size;               // PMIX_JOB_SIZE
    bool initialised;
};

struct probe_verb {
    const char *name;
    const char *options; // names, each with a blank before and after; "." is the main value
    bool needs_init;
    void (*run)(struct probe *probe, const struct probe_step *step);
    const char *usage; // what may follow the name
    const char *help;
};

// A step's option. The fallback is returned if it was not given.
const char *probe_text(const struct probe_step *step, const char *name, const char *fallback);
long probe_number(const struct probe_step *step, const char *name, long fallback);
bool probe_flag(const struct probe_step *step, const char *name);

// Ends the program unless status is what the step's option "expect" wants: "success" (the default),
// "error" (anything else), "any", or a number.
void probe_expect(const struct probe_step *step, pmix_status_t status, const char *what);

// The same for a call that a test never wants to fail.
void probe_must(pmix_status_t status, const char *call);

// The processes of a list of ranks as PMIx wants them: NULL and 0 for "*", which is all. Never
// freed.
pmix_proc_t *probe_participants(const struct probe *probe, const char *ranks, size_t *ret_count);

// The verbs, each in the file of its subject; pmix_probe --help tells what they do.
void probe_keys(struct probe *probe, const struct probe_step *step);
void probe_put(struct probe *probe, const struct probe_step *step);
void probe_commit(struct probe *probe, const struct probe_step *step);
void probe_get(struct probe *probe, const struct probe_step *step);
void probe_fence(struct probe *probe, const struct probe_step *step);
void probe_fence_wait(struct probe *probe, const struct probe_step *step);
void probe_events(struct probe *probe, const struct probe_step *step);
void probe_wait_event(struct probe *probe, const struct probe_step *step);
void probe_report_term(struct probe *probe, const struct probe_step *step);
void probe_abort(struct probe *probe, const struct probe_step *step);
void probe_cleanup(struct probe *probe, const struct probe_step *step);

#endif
