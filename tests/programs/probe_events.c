// SPDX-License-Identifier: Apache-2.0
//
// pmix_probe's verbs about failures: events, wait-event, report-term, abort, cleanup.
// Lines: "event rank=R code=C affected=RANK source=RANK exit_code=N boottime_ns=T name=.. text=..",
// with -1 for what the event did not carry; "term rank=R boottime_ns=T" for each SIGTERM.

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"

enum { CODES_MAX = 16 };

static const struct {
    const char *name;
    pmix_status_t code;
} code_names[] = {
    {"aborted-by-sig", PMIX_ERR_PROC_ABORTED_BY_SIG},
    {"term-wo-sync", PMIX_ERR_PROC_TERM_WO_SYNC},
    {"requested-abort", PMIX_ERR_PROC_REQUESTED_ABORT},
    {"exit-nonzero", PMIX_ERR_EXIT_NONZERO_TERM},
    {"lost-connection", PMIX_ERR_LOST_CONNECTION},
};

static const char default_codes[] =
    "aborted-by-sig,term-wo-sync,requested-abort,exit-nonzero,lost-connection";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long event_count;
static long own_rank;

static pmix_status_t code_of(const char *text)
{
    for (size_t i = 0; i < sizeof code_names / sizeof code_names[0]; i++)
        if (strcmp(code_names[i].name, text) == 0)
            return code_names[i].code;
    return (pmix_status_t)test_number(text, INT32_MIN, INT32_MAX, "event code");
}

static long number_of(const pmix_value_t *value)
{
    switch (value->type) {
    case PMIX_INT:
        return value->data.integer;
    case PMIX_INT32:
        return value->data.int32;
    case PMIX_UINT32:
        return value->data.uint32;
    case PMIX_STATUS:
        return value->data.status;
    default:
        return -1;
    }
}

// On libpmix' thread: nothing here may call a blocking PMIx function.
static void on_event(size_t handler, pmix_status_t code, const pmix_proc_t *source,
                     pmix_info_t info[], size_t info_count, pmix_info_t *results,
                     size_t result_count, pmix_event_notification_cbfunc_fn_t done, void *done_data)
{
    (void)handler;
    (void)results;
    (void)result_count;
    long affected = -1;
    long exit_code = -1;
    const char *text = "";
    for (size_t i = 0; i < info_count; i++) {
        if (PMIX_CHECK_KEY(&info[i], PMIX_EVENT_AFFECTED_PROC))
            affected = info[i].value.data.proc->rank;
        else if (PMIX_CHECK_KEY(&info[i], PMIX_EXIT_CODE))
            exit_code = number_of(&info[i].value);
        else if (PMIX_CHECK_KEY(&info[i], PMIX_EVENT_TEXT_MESSAGE))
            text = info[i].value.data.string;
    }
    test_say("event rank=%ld code=%d affected=%ld source=%ld exit_code=%ld boottime_ns=%lld "
             "name=%s text=%s",
             own_rank, code, affected, source == NULL ? -1 : (long)source->rank, exit_code,
             (long long)test_boottime_ns(), PMIx_Error_string(code), text);
    (void)pthread_mutex_lock(&lock);
    event_count++;
    (void)pthread_mutex_unlock(&lock);
    if (done != NULL)
        done(PMIX_EVENT_ACTION_COMPLETE, NULL, 0, NULL, NULL, done_data);
}

void probe_events(struct probe *probe, const struct probe_step *step)
{
    const char *list = probe_text(step, ".", default_codes);
    pmix_status_t codes[CODES_MAX];
    size_t count = 0;
    char *rest = strdup(list);
    char *copy = rest;
    if (copy == NULL)
        test_die("no memory");
    bool all = strcmp(list, "default") == 0;
    for (char *name; !all && (name = strsep(&rest, ",")) != NULL;) {
        if (count == CODES_MAX)
            test_die("step '%s': more than %d codes", step->text, CODES_MAX);
        codes[count++] = code_of(name);
    }
    free(copy);
    own_rank = probe->me.rank;
    // Without a callback the call blocks and returns the handler's number, or a negative status.
    pmix_status_t status =
        PMIx_Register_event_handler(all ? NULL : codes, count, NULL, 0, on_event, NULL, NULL);
    if (status < 0)
        probe_must(status, "PMIx_Register_event_handler");
    test_say("events rank=%ld registered=%zu", own_rank, count);
}

void probe_wait_event(struct probe *probe, const struct probe_step *step)
{
    long wanted = probe_number(step, "n", 1);
    long timeout_ms = probe_number(step, "ms", 10000);
    int64_t end_ns = test_boottime_ns() + timeout_ms * TEST_NS_PER_MS;
    for (;;) {
        (void)pthread_mutex_lock(&lock);
        long seen = event_count;
        (void)pthread_mutex_unlock(&lock);
        if (seen >= wanted)
            return;
        if (test_boottime_ns() > end_ns)
            test_die("rank %ld has seen %ld of %ld events within %ld ms", probe->me.rank, seen,
                     wanted, timeout_ms);
        test_sleep_ms(1);
    }
}

static void *report_terms(void *data)
{
    const struct probe *probe = data;
    sigset_t term;
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    for (;;) {
        int number;
        if (sigwait(&term, &number) == 0)
            test_say("term rank=%ld boottime_ns=%lld", probe->me.rank,
                     (long long)test_boottime_ns());
    }
    return NULL;
}

// SIGTERM is blocked before libpmix starts its threads, so that only our thread can take it.
void probe_report_term(struct probe *probe, const struct probe_step *step)
{
    if (probe->initialised)
        test_die("step '%s' must come before init", step->text);
    sigset_t term;
    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    pthread_t thread;
    int error = pthread_sigmask(SIG_BLOCK, &term, NULL);
    if (error == 0)
        error = pthread_create(&thread, NULL, report_terms, probe);
    if (error != 0)
        test_die("cannot watch SIGTERM: %s", strerror(error));
}

void probe_abort(struct probe *probe, const struct probe_step *step)
{
    size_t count;
    pmix_proc_t *procs = probe_participants(probe, probe_text(step, "ranks", "*"), &count);
    test_say("aborting rank=%ld boottime_ns=%lld", probe->me.rank, (long long)test_boottime_ns());
    pmix_status_t status = PMIx_Abort((int)probe_number(step, "status", 1),
                                      probe_text(step, "msg", "as the test asked"), procs, count);
    test_say("abort rank=%ld rc=%d", probe->me.rank, status);
}

static void register_cleanup(const struct probe *probe, const char *key, const char *path)
{
    if (path == NULL)
        return;
    pmix_info_t info;
    PMIX_INFO_LOAD(&info, key, path, PMIX_STRING);
    pmix_info_t *results = NULL;
    size_t result_count = 0;
    pmix_status_t status = PMIx_Job_control(&probe->self, 1, &info, 1, &results, &result_count);
    test_say("cleanup rank=%ld rc=%d path=%s", probe->me.rank, status, path);
    if (status != PMIX_OPERATION_SUCCEEDED)
        probe_must(status, "PMIx_Job_control");
}

void probe_cleanup(struct probe *probe, const struct probe_step *step)
{
    register_cleanup(probe, PMIX_REGISTER_CLEANUP, probe_text(step, "file", NULL));
    register_cleanup(probe, PMIX_REGISTER_CLEANUP_DIR, probe_text(step, "dir", NULL));
}
