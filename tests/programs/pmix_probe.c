// SPDX-License-Identifier: Apache-2.0
//
// A plain PMIx client that does what its command line says, step by step, and prints what it saw.
// Helps to test the promises about the PMIx server: keys, fences over any participants that nobody
// leaves early, direct modex with late data, events, abort, cleanup, and what ends without
// finalize.
//
// Lines: "pmix_probe: VERB rank=R ... rc=STATUS ...". A call that does not give what was expected
// ends the program with TEST_EXIT_BROKEN and a line on stderr.

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe.h"

enum { STEPS_MAX = 64 };

// --- the small verbs ---

static void run_init(struct probe *probe, const struct probe_step *step)
{
    int64_t begin_ns = test_boottime_ns();
    pmix_status_t status = PMIx_Init(&probe->self, NULL, 0);
    int64_t end_ns = test_boottime_ns();
    probe_expect(step, status, "PMIx_Init");
    if (status != PMIX_SUCCESS) {
        test_say("init rank=%ld rc=%d ns=%lld", probe->me.rank, status,
                 (long long)(end_ns - begin_ns));
        return;
    }
    probe->initialised = true;
    probe->me.rank = probe->self.rank;
    pmix_proc_t job;
    PMIX_LOAD_PROCID(&job, probe->self.nspace, PMIX_RANK_WILDCARD);
    pmix_value_t *size = NULL;
    probe_must(PMIx_Get(&job, PMIX_JOB_SIZE, NULL, 0, &size), "PMIx_Get of PMIX_JOB_SIZE");
    probe->size = size->data.uint32;
    PMIX_VALUE_RELEASE(size);
    test_say("init rank=%ld size=%ld nspace=%s epoch=%ld incarnation=%ld pid=%d rc=0 ns=%lld",
             probe->me.rank, probe->size, probe->self.nspace, probe->me.epoch,
             probe->me.incarnation, (int)getpid(), (long long)(end_ns - begin_ns));
}

static void run_finalize(struct probe *probe, const struct probe_step *step)
{
    int64_t begin_ns = test_boottime_ns();
    pmix_status_t status = PMIx_Finalize(NULL, 0);
    int64_t end_ns = test_boottime_ns();
    probe->initialised = false;
    test_say("finalize rank=%ld rc=%d ns=%lld", probe->me.rank, status,
             (long long)(end_ns - begin_ns));
    probe_expect(step, status, "PMIx_Finalize");
}

static void run_sleep(struct probe *probe, const struct probe_step *step)
{
    (void)probe;
    test_sleep_ms(probe_number(step, ".", 0));
}

static void run_wait_file(struct probe *probe, const struct probe_step *step)
{
    (void)probe;
    test_file_wait(probe_text(step, ".", ""), probe_number(step, "ms", -1));
}

static void run_touch(struct probe *probe, const struct probe_step *step)
{
    test_file_append(probe_text(step, ".", ""), "rank=%ld epoch=%ld pid=%d boottime_ns=%lld",
                     probe->me.rank, probe->me.epoch, (int)getpid(), (long long)test_boottime_ns());
}

static void run_say(struct probe *probe, const struct probe_step *step)
{
    test_say("say rank=%ld epoch=%ld boottime_ns=%lld text=%s", probe->me.rank, probe->me.epoch,
             (long long)test_boottime_ns(), probe_text(step, ".", ""));
}

static void run_exit(struct probe *probe, const struct probe_step *step)
{
    long code = probe_number(step, ".", 0);
    test_say("exit rank=%ld code=%ld finalized=%d boottime_ns=%lld", probe->me.rank, code,
             !probe->initialised, (long long)test_boottime_ns());
    _exit((int)code); // no exit handler of libpmix may tidy up
}

static void run_signal(struct probe *probe, const struct probe_step *step)
{
    int number = test_signal_number(probe_text(step, ".", "KILL"));
    test_say("signal-self rank=%ld number=%d boottime_ns=%lld", probe->me.rank, number,
             (long long)test_boottime_ns());
    (void)signal(number, SIG_DFL); // refused for KILL and STOP, which need nothing
    if (kill(getpid(), number) < 0)
        test_die("kill: %s", strerror(errno));
}

static void run_hang(struct probe *probe, const struct probe_step *step)
{
    (void)step;
    test_say("hang rank=%ld", probe->me.rank);
    for (;;)
        (void)pause();
}

static const struct probe_verb verbs[] = {
    {"init", " expect ", false, run_init, "[:expect=E]", "PMIx_Init; prints nspace, size, time"},
    {"finalize", " expect ", true, run_finalize, "[:expect=E]", "PMIx_Finalize; prints the time"},
    {"keys", " . ", true, probe_keys, "[:RANKS]",
     "prints all job, node and app keys, and the process keys of RANKS (self)"},
    {"put", " key bytes scope ", true, probe_put, ":key=K[:bytes=B][:scope=global|local|remote]",
     "PMIx_Put of a pattern that get can check"},
    {"commit", " ", true, probe_commit, "", "PMIx_Commit"},
    {"get", " key rank bytes timeout expect ", true, probe_get,
     ":key=K:rank=R[:bytes=B][:timeout=S][:expect=E]", "PMIx_Get; checks the pattern"},
    {"fence", " ranks collect bytes rounds timeout late late-ms late-round nb expect ", true,
     probe_fence,
     "[:ranks=LIST][:collect][:bytes=B][:rounds=N][:timeout=S][:nb][:expect=E]"
     "[:late=R:late-ms=D[:late-round=K]]",
     "N fences of all ranks or of LIST (others skip the step); with bytes, each rank puts B new "
     "bytes before every round and checks everybody's after it; rank R sleeps D ms before round "
     "K (0); nb: go on at once, fence-wait waits"},
    {"fence-wait", " ", true, probe_fence_wait, "", "waits for the fences started with nb"},
    {"events", " . ", true, probe_events, "[:CODES]",
     "registers a handler for CODES: numbers or aborted-by-sig, term-wo-sync, requested-abort, "
     "exit-nonzero, lost-connection (these five); or 'default'"},
    {"wait-event", " n ms ", true, probe_wait_event, "[:n=N][:ms=T]",
     "waits until N events (1) came in all, at most T ms (10000)"},
    {"report-term", " ", false, probe_report_term, "",
     "before init: SIGTERM is reported with its time, and ignored"},
    {"abort", " status msg ranks ", true, probe_abort, "[:status=N][:msg=TEXT][:ranks=LIST]",
     "PMIx_Abort of all or of LIST"},
    {"cleanup", " file dir ", true, probe_cleanup, "[:file=F][:dir=D]",
     "asks the server to remove F or D at the end"},
    {"sleep", " . ", false, run_sleep, ":MS", "sleeps"},
    {"wait-file", " . ms ", false, run_wait_file, ":F[:ms=T]", "waits until F exists"},
    {"touch", " . ", false, run_touch, ":F", "adds a line with rank, epoch, pid and time to F"},
    {"say", " . ", false, run_say, ":TEXT", "prints TEXT with the time"},
    {"exit", " . ", false, run_exit, "[:CODE]", "_exit, finalized or not"},
    {"signal", " . ", false, run_signal, "[:SIG]", "sends SIG (KILL) to itself"},
    {"hang", " ", false, run_hang, "", "does nothing for ever"},
};

enum { VERB_COUNT = sizeof verbs / sizeof verbs[0] };

// --- a step's options ---

static const struct probe_option *find_option(const struct probe_step *step, const char *name)
{
    for (size_t i = 0; i < step->option_count; i++)
        if (strcmp(step->options[i].name, name) == 0)
            return &step->options[i];
    return NULL;
}

const char *probe_text(const struct probe_step *step, const char *name, const char *fallback)
{
    const struct probe_option *option = find_option(step, name);
    return option == NULL || option->value == NULL ? fallback : option->value;
}

long probe_number(const struct probe_step *step, const char *name, long fallback)
{
    const char *text = probe_text(step, name, NULL);
    return text == NULL ? fallback : test_number(text, INT32_MIN, INT32_MAX, step->text);
}

bool probe_flag(const struct probe_step *step, const char *name)
{
    return find_option(step, name) != NULL;
}

void probe_expect(const struct probe_step *step, pmix_status_t status, const char *what)
{
    const char *expect = probe_text(step, "expect", "success");
    bool good;
    if (strcmp(expect, "any") == 0)
        good = true;
    else if (strcmp(expect, "success") == 0)
        good = status == PMIX_SUCCESS;
    else if (strcmp(expect, "error") == 0)
        good = status != PMIX_SUCCESS;
    else
        good = status == test_number(expect, INT32_MIN, INT32_MAX, "expect");
    if (!good)
        test_die("step '%s': %s gave %d (%s), not %s", step->text, what, status,
                 PMIx_Error_string(status), expect);
}

void probe_must(pmix_status_t status, const char *call)
{
    if (status != PMIX_SUCCESS)
        test_die("%s failed with %d (%s)", call, status, PMIx_Error_string(status));
}

pmix_proc_t *probe_participants(const struct probe *probe, const char *ranks, size_t *ret_count)
{
    *ret_count = 0;
    if (strcmp(ranks, "*") == 0)
        return NULL;
    pmix_proc_t *procs = calloc((size_t)probe->size, sizeof *procs);
    if (procs == NULL)
        test_die("no memory for %ld participants", probe->size);
    for (long rank = 0; rank < probe->size; rank++) {
        if (!test_list_has(ranks, rank))
            continue;
        // A macro that evaluates its arguments more than once.
        PMIX_LOAD_PROCID(&procs[*ret_count], probe->self.nspace, (pmix_rank_t)rank);
        (*ret_count)++;
    }
    if (*ret_count == 0)
        test_die("'%s' names none of %ld ranks", ranks, probe->size);
    return procs;
}

static bool verb_knows(const struct probe_verb *verb, const char *name)
{
    char padded[64];
    (void)snprintf(padded, sizeof padded, " %s ", name);
    return strstr(verb->options, padded) != NULL;
}

static void add_option(struct probe_step *step, char *text)
{
    char *equals = strchr(text, '=');
    struct probe_option option = {.name = text};
    if (equals != NULL) {
        *equals = '\0';
        option.value = equals + 1;
    } else if (step->option_count == 0 && verb_knows(step->verb, ".")) {
        option = (struct probe_option){.name = ".", .value = text};
    }
    if (!verb_knows(step->verb, option.name))
        test_die("step '%s': '%s' has no option '%s'", step->text, step->verb->name, option.name);
    if (step->option_count == PROBE_OPTIONS_MAX)
        test_die("step '%s' has too many options", step->text);
    if (strcmp(option.name, "ranks") == 0 && option.value != NULL)
        (void)test_list_has(option.value, 0); // refuses what is no list
    step->options[step->option_count++] = option;
}

// Takes a leading "@LIST[~LIVES]/" off text. False if this rank or life is not meant.
static bool is_for_us(char **text, const struct test_identity *me)
{
    if (**text != '@')
        return true;
    char *list = *text + 1;
    char *slash = strchr(list, '/');
    if (slash == NULL)
        test_die("step '%s': '@LIST' needs a '/' after it", *text);
    *slash = '\0';
    *text = slash + 1;
    char *tilde = strchr(list, '~');
    if (tilde != NULL)
        *tilde = '\0';
    bool in_list = test_list_has(list, me->rank);
    return in_list && (tilde == NULL ||
                       me->incarnation < test_number(tilde + 1, 0, INT32_MAX, "lives after '~'"));
}

// Splits one argument. Returns false if the step is not for this rank or life.
static bool parse_step(struct probe_step *step, const char *argument,
                       const struct test_identity *me)
{
    char *text = strdup(argument); // options point into it; lives as long as the process
    if (text == NULL)
        test_die("no memory");
    bool ours = is_for_us(&text, me);
    step->text = argument;
    char *rest = text;
    const char *name = strsep(&rest, ":");
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (strcmp(verbs[i].name, name) == 0)
            step->verb = &verbs[i];
    if (step->verb == NULL)
        test_die("step '%s': '%s' is no verb; see --help", argument, name);
    for (char *option; (option = strsep(&rest, ":")) != NULL;)
        add_option(step, option);
    return ours;
}

// --- main ---

struct script {
    struct test_identity me;
    struct probe_step steps[STEPS_MAX];
    long given;   // on the command line
    size_t count; // for this rank and life
};

static error_t parse_argument(int key, char *text, struct argp_state *state)
{
    struct script *script = state->input;
    if (key == ARGP_KEY_NO_ARGS)
        argp_error(state, "give at least one step");
    if (key != ARGP_KEY_ARG)
        return ARGP_ERR_UNKNOWN;
    if (script->count == STEPS_MAX)
        test_die("more than %d steps", STEPS_MAX);
    struct probe_step *step = &script->steps[script->count];
    *step = (struct probe_step){.number = script->given++};
    if (parse_step(step, text, &script->me))
        script->count++;
    return 0;
}

static char *help_filter(int key, const char *text, void *unused)
{
    (void)unused;
    if (key != ARGP_KEY_HELP_POST_DOC)
        return (char *)text;
    char *help = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&help, &size);
    if (stream == NULL)
        test_die("no memory");
    (void)fputs("Steps (E is success, error, any or a status number):\n", stream);
    for (size_t i = 0; i < VERB_COUNT; i++)
        (void)fprintf(stream, "  %s%s\n      %s\n", verbs[i].name, verbs[i].usage, verbs[i].help);
    (void)fprintf(stream, "%s", text == NULL ? "" : text);
    if (fclose(stream) != 0)
        test_die("no memory");
    return help;
}

static const struct argp parser = {
    .parser = parse_argument,
    .args_doc = "[@RANKS[~LIVES]/]STEP...",
    .doc = "A PMIx client that runs its steps in order. '@1,3-5/' in front of a step: only on "
           "these ranks; '@1~2/': only in the first two incarnations.\v"
           "Example: rank 1 comes 300 ms late, nobody leaves early, 1 KiB per rank is exchanged:\n"
           "  pmix_probe init @1/sleep:300 fence:collect:bytes=1024 finalize",
    .help_filter = help_filter,
};

int main(int argc, char **argv)
{
    test_begin("pmix_probe");
    static struct script script;
    script.me = test_identity_read();
    argp_parse(&parser, argc, argv, 0, NULL, &script);

    struct probe probe = {.me = script.me};
    for (size_t i = 0; i < script.count; i++) {
        const struct probe_step *step = &script.steps[i];
        if (step->verb->needs_init && !probe.initialised)
            test_die("step '%s' needs init before it", step->text);
        step->verb->run(&probe, step);
    }
    test_say("done rank=%ld epoch=%ld incarnation=%ld", probe.me.rank, probe.me.epoch,
             probe.me.incarnation);
    return 0;
}
