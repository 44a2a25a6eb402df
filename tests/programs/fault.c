// SPDX-License-Identifier: Apache-2.0
//
// A rank that fails in exactly the way it was told, in the lives it was told, and otherwise runs
// and ends with 0. No MPI, no PMIx. Helps to test the promises about failures (each cause leads to
// the policy's decision), restarts (incarnation counts up, output complete and in order, unread
// input kept), halting (the whole tree dies, ignored SIGTERM or not), budget, backoff and signals.
//
// Lines: "fault: start|line|echo|eof|signal|fail|done key=value ...". Every life says start once.

#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "fault_family.h"

enum {
    TICK_US = 2000, // how often triggers are looked at
    OOM_PIECE_MIB = 16,
    INPUT_LINE_MAX = 1024,
};

enum option_key {
    KEY_RANK = 256,
    KEY_ALL_RANKS,
    KEY_LIVES,
    KEY_AFTER,
    KEY_WAIT_FILE,
    KEY_AFTER_LINES,
    KEY_EXIT,
    KEY_SIGNAL,
    KEY_SEGV,
    KEY_OOM,
    KEY_HANG,
    KEY_RUN,
    KEY_IGNORE_TERM,
    KEY_REPORT_SIGNALS,
    KEY_LINES,
    KEY_LINE_US,
    KEY_ECHO,
    KEY_TOUCH,
    KEY_PID_FILE,
    KEY_CHILDREN,
    KEY_CHAIN,
    KEY_SESSIONS,
    KEY_DAEMONS,
    KEY_FORKERS,
    KEY_LIFE,
};

struct settings {
    const char *ranks; // which ranks fail
    long lives;        // they fail in so many lives
    long after_ms;     // triggers: all that are given must hold
    const char *wait_file;
    long after_lines;
    const struct failure *failure; // NULL: nobody fails
    long value;                    // exit code, signal or MiB
    long run_ms;                   // how long a rank that does not fail runs, at least
    bool ignore_term;
    bool report_signals;
    long lines; // numbered lines to print, 0: none
    long line_us;
    bool echo;
    const char *touch_dir;
    struct fault_family family;
};

// What a rank did so far.
struct progress {
    int64_t start_ns;
    int64_t next_line_ns;
    long lines;  // printed
    long echoed; // lines read from stdin and printed
    bool eof;
};

static struct test_identity me;

// --- the failures ---

static void fail_exit(long code)
{
    exit((int)code);
}

static void fail_signal(long number)
{
    (void)signal((int)number, SIG_DFL); // refused for KILL and STOP, which need nothing
    if (kill(getpid(), (int)number) < 0)
        test_die("kill: %s", strerror(errno));
}

static void fail_segv(long unused)
{
    (void)unused;
    volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        test_die("mmap: %s", strerror(errno));
    *page = 1;
}

static void fail_oom(long limit_mib)
{
    for (long mib = 0; mib < limit_mib; mib += OOM_PIECE_MIB) {
        size_t size = (size_t)OOM_PIECE_MIB << 20;
        void *piece = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED)
            test_die("mmap after %ld MiB: %s", mib, strerror(errno));
        memset(piece, 1, size);
    }
    test_die("nobody has stopped me from taking %ld MiB", limit_mib);
}

static void fail_hang(long unused)
{
    (void)unused;
    for (;;)
        (void)pause();
}

static const struct failure {
    int key;
    const char *name;
    void (*act)(long value);
} failures[] = {
    {KEY_EXIT, "exit", fail_exit}, {KEY_SIGNAL, "signal", fail_signal},
    {KEY_SEGV, "segv", fail_segv}, {KEY_OOM, "oom", fail_oom},
    {KEY_HANG, "hang", fail_hang},
};

// --- the command line ---

static const struct argp_option options[] = {
    {"exit", KEY_EXIT, "CODE", 0, "fail by exit(CODE)", 1},
    {"signal", KEY_SIGNAL, "SIG", 0, "fail by sending SIG (name or number) to itself", 1},
    {"segv", KEY_SEGV, NULL, 0, "fail by a real segmentation fault", 1},
    {"oom", KEY_OOM, "MIB", OPTION_ARG_OPTIONAL,
     "fail by taking memory until killed; gives up at MIB (2048)", 1},
    {"hang", KEY_HANG, NULL, 0, "fail by doing nothing for ever", 1},
    {"rank", KEY_RANK, "LIST", 0, "ranks that fail, such as 0,2-4 (0)", 2},
    {"all-ranks", KEY_ALL_RANKS, NULL, 0, "all ranks fail", 2},
    {"lives", KEY_LIVES, "N", 0, "fail in the first N incarnations, or 'all' (1)", 2},
    {"after", KEY_AFTER, "MS", 0, "fail after MS milliseconds (0)", 3},
    {"wait-file", KEY_WAIT_FILE, "FILE", 0, "fail when FILE exists", 3},
    {"after-lines", KEY_AFTER_LINES, "N", 0, "fail after N lines printed or echoed", 3},
    {"run", KEY_RUN, "MS", 0, "others run at least MS milliseconds (0), then exit 0", 4},
    {"lines", KEY_LINES, "N", 0, "print N numbered lines; others end after the last", 4},
    {"line-us", KEY_LINE_US, "US", 0, "microseconds between lines (1000)", 4},
    {"echo", KEY_ECHO, NULL, 0, "echo stdin, never reading past a line; others end at EOF", 4},
    {"ignore-term", KEY_IGNORE_TERM, NULL, 0, "report SIGTERM and go on", 4},
    {"report-signals", KEY_REPORT_SIGNALS, NULL, 0, "the same for every catchable signal", 4},
    {"touch", KEY_TOUCH, "DIR", 0, "add a line to DIR/rank.incarnation in each life", 4},
    {"children", KEY_CHILDREN, "N", 0, "start N children", 5},
    {"chain", KEY_CHAIN, "N", 0, "start a child with a child with ..., N in all", 5},
    {"sessions", KEY_SESSIONS, "N", 0, "start N children with sessions of their own", 5},
    {"daemons", KEY_DAEMONS, "N", 0, "start N daemons (double fork, setsid)", 5},
    {"forkers", KEY_FORKERS, "N", 0, "start N children that keep forking and ending", 5},
    {"pid-file", KEY_PID_FILE, "FILE", 0, "descendants append 'PID KIND' lines to FILE", 5},
    {"life", KEY_LIFE, "MS", 0, "descendants end by themselves after MS (120000)", 5},
    {0},
};

static const struct failure *failure_of_key(int key)
{
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].key == key)
            return &failures[i];
    return NULL;
}

static void set_failure(struct settings *set, int key, const char *text)
{
    if (set->failure != NULL)
        test_die("give one failure only, not --%s and --%s", set->failure->name,
                 failure_of_key(key)->name);
    set->failure = failure_of_key(key);
    if (key == KEY_EXIT)
        set->value = test_number(text, 0, 255, "--exit");
    else if (key == KEY_SIGNAL)
        set->value = test_signal_number(text);
    else if (key == KEY_OOM)
        set->value = text == NULL ? 2048 : test_number(text, 1, INT32_MAX, "--oom");
}

// Where a number is kept, or NULL if the key is no option with a plain number.
static long *number_of_key(struct settings *set, int key)
{
    switch (key) {
    case KEY_AFTER:
        return &set->after_ms;
    case KEY_AFTER_LINES:
        return &set->after_lines;
    case KEY_RUN:
        return &set->run_ms;
    case KEY_LINES:
        return &set->lines;
    case KEY_LINE_US:
        return &set->line_us;
    case KEY_CHILDREN:
        return &set->family.children;
    case KEY_CHAIN:
        return &set->family.chain;
    case KEY_SESSIONS:
        return &set->family.sessions;
    case KEY_DAEMONS:
        return &set->family.daemons;
    case KEY_FORKERS:
        return &set->family.forkers;
    case KEY_LIFE:
        return &set->family.life_ms;
    default:
        return NULL;
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct settings *set = state->input;
    long *number = number_of_key(set, key);
    if (number != NULL) {
        *number = test_number(text, 0, INT32_MAX, "option");
        return 0;
    }
    if (failure_of_key(key) != NULL) {
        set_failure(set, key, text);
        return 0;
    }
    switch (key) {
    case KEY_RANK:
        set->ranks = text;
        return 0;
    case KEY_ALL_RANKS:
        set->ranks = "*";
        return 0;
    case KEY_LIVES:
        set->lives =
            strcmp(text, "all") == 0 ? INT32_MAX : test_number(text, 0, INT32_MAX, "--lives");
        return 0;
    case KEY_WAIT_FILE:
        set->wait_file = text;
        return 0;
    case KEY_IGNORE_TERM:
        set->ignore_term = true;
        return 0;
    case KEY_REPORT_SIGNALS:
        set->report_signals = true;
        return 0;
    case KEY_ECHO:
        set->echo = true;
        return 0;
    case KEY_TOUCH:
        set->touch_dir = text;
        return 0;
    case KEY_PID_FILE:
        set->family.pid_file = text;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is no option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = parse_option,
    .doc = "Fail in exactly one way, in the first lives only; otherwise run and end with 0.\v"
           "Example: rank 3 exits with 7 half a second after its first start:\n"
           "  fault --rank 3 --after 500 --exit 7 --run 2000\n"
           "The rank comes from RANK or SLURM_PROCID, the life from PM_INCARNATION.",
};

// --- signals ---

// Async-signal-safe: no stdio.
static void report_signal(int number)
{
    static const char hint[] = "fault: signal rank=";
    char line[96];
    char digits[20];
    size_t length = sizeof hint - 1;
    memcpy(line, hint, length);
    const struct {
        const char *after;
        long value;
    } parts[] = {
        {" incarnation=", me.rank},
        {" number=", me.incarnation},
        {"\n", number},
    };
    for (size_t i = 0; i < 3; i++) {
        size_t count = 0;
        for (long rest = parts[i].value; rest > 0 || count == 0; rest /= 10)
            digits[count++] = (char)('0' + rest % 10);
        while (count > 0)
            line[length++] = digits[--count];
        memcpy(line + length, parts[i].after, strlen(parts[i].after));
        length += strlen(parts[i].after);
    }
    int saved = errno;
    if (write(STDOUT_FILENO, line, length) < 0)
        _exit(TEST_EXIT_BROKEN);
    errno = saved;
}

static void prepare_signals(const struct settings *set)
{
    static const int reported[] = {
        SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT, SIGTSTP, SIGWINCH, SIGURG,
    };
    struct sigaction action = {.sa_handler = report_signal, .sa_flags = SA_RESTART};
    if ((set->ignore_term || set->report_signals) && sigaction(SIGTERM, &action, NULL) < 0)
        test_die("sigaction: %s", strerror(errno));
    for (size_t i = 0; set->report_signals && i < sizeof reported / sizeof reported[0]; i++)
        if (sigaction(reported[i], &action, NULL) < 0)
            test_die("sigaction: %s", strerror(errno));
}

// --- what a rank does while it lives ---

// One line, read byte by byte: what follows it belongs to the next incarnation. False at EOF.
static bool read_input_line(char line[static INPUT_LINE_MAX])
{
    size_t length = 0;
    for (;;) {
        char byte;
        ssize_t got = read(STDIN_FILENO, &byte, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            test_die("cannot read stdin: %s", strerror(errno));
        if (got == 0 && length == 0)
            return false;
        if (got == 0 || byte == '\n' || length == INPUT_LINE_MAX - 1)
            break;
        line[length++] = byte;
    }
    line[length] = '\0';
    return true;
}

static void echo_one(struct progress *done)
{
    char line[INPUT_LINE_MAX];
    if (read_input_line(line)) {
        done->echoed++;
        test_say("echo rank=%ld incarnation=%ld n=%ld text=%s", me.rank, me.incarnation,
                 done->echoed, line);
        return;
    }
    done->eof = true;
    test_say("eof rank=%ld incarnation=%ld lines=%ld", me.rank, me.incarnation, done->echoed);
}

static bool line_is_due(const struct settings *set, const struct progress *done)
{
    return done->lines < set->lines && test_boottime_ns() >= done->next_line_ns;
}

static void print_one(const struct settings *set, struct progress *done)
{
    done->lines++;
    done->next_line_ns = test_boottime_ns() + set->line_us * 1000;
    test_say("line rank=%ld incarnation=%ld n=%ld", me.rank, me.incarnation, done->lines);
}

static void wait_for_work(const struct settings *set, const struct progress *done)
{
    long wait_us = set->lines > 0 && set->line_us < TICK_US ? set->line_us : TICK_US;
    struct timespec wait = {.tv_nsec = wait_us * 1000};
    struct pollfd input = {.fd = set->echo && !done->eof ? STDIN_FILENO : -1, .events = POLLIN};
    if (ppoll(&input, 1, &wait, NULL) < 0 && errno != EINTR)
        test_die("ppoll: %s", strerror(errno));
}

static bool input_is_ready(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = poll(&input, 1, 0);
    if (ready < 0 && errno != EINTR)
        test_die("poll: %s", strerror(errno));
    return ready > 0;
}

static bool triggered(const struct settings *set, const struct progress *done)
{
    if (set->echo && done->eof && done->echoed + set->lines < set->after_lines)
        test_die("stdin ended before line %ld, where I was to fail", set->after_lines);
    return test_boottime_ns() - done->start_ns >= set->after_ms * TEST_NS_PER_MS &&
           done->lines + done->echoed >= set->after_lines &&
           (set->wait_file == NULL || access(set->wait_file, F_OK) == 0);
}

static bool finished(const struct settings *set, const struct progress *done)
{
    return test_boottime_ns() - done->start_ns >= set->run_ms * TEST_NS_PER_MS &&
           done->lines >= set->lines && (!set->echo || done->eof);
}

static void live(const struct settings *set, struct progress *done, bool fails)
{
    while (fails ? !triggered(set, done) : !finished(set, done)) {
        if (line_is_due(set, done))
            print_one(set, done);
        else if (set->echo && !done->eof && input_is_ready())
            echo_one(done);
        else
            wait_for_work(set, done);
    }
}

static void begin_life(const struct settings *set)
{
    test_say("start rank=%ld epoch=%ld incarnation=%ld pid=%d boottime_ns=%lld", me.rank, me.epoch,
             me.incarnation, (int)getpid(), (long long)test_boottime_ns());
    if (set->touch_dir == NULL)
        return;
    char path[TEST_LINE_MAX];
    int length = snprintf(path, sizeof path, "%s/%ld.%ld", set->touch_dir, me.rank, me.incarnation);
    if (length < 0 || (size_t)length >= sizeof path)
        test_die("--touch: the path is too long");
    test_file_append(path, "pid=%d epoch=%ld", (int)getpid(), me.epoch);
}

int main(int argc, char **argv)
{
    struct settings set = {
        .ranks = "0",
        .lives = 1,
        .line_us = 1000,
        .family.life_ms = 120000,
    };
    test_begin("fault");
    argp_parse(&parser, argc, argv, 0, NULL, &set);
    me = test_identity_read();
    bool fails =
        test_list_has(set.ranks, me.rank) && set.failure != NULL && me.incarnation < set.lives;
    prepare_signals(&set);
    begin_life(&set);
    fault_family_start(&set.family);
    struct progress done = {.start_ns = test_boottime_ns()};
    live(&set, &done, fails);
    if (fails) {
        test_say("fail rank=%ld incarnation=%ld how=%s value=%ld boottime_ns=%lld", me.rank,
                 me.incarnation, set.failure->name, set.value, (long long)test_boottime_ns());
        set.failure->act(set.value);
        fail_hang(0); // a signal that was ignored or only stopped us
    }
    test_say("done rank=%ld incarnation=%ld lines=%ld echoed=%ld", me.rank, me.incarnation,
             done.lines, done.echoed);
    return 0;
}
