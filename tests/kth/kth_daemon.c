// SPDX-License-Identifier: Apache-2.0
//
// Linked into the real pm-agent, pm-coordinator, pm-pmix-server and both forms of the shim: the k-th call of one
// process of a step fails.
//
//   KTH_PROCESS  coordinator, agent0, agent1 (by node), shim0, shim1, forked0 (by rank), janitor0, serverNAME (by
//                SLURMD_NODENAME): who is meant. With ".N": its N-th child, until that becomes another program
//   KTH_K        which call, from the program's start or the child's
//   KTH_FOREVER  if set: no allocation works from the k-th on, and system calls always do
//   KTH_REPORT   file that gets a line "failed ADDRESS" at that call, and when the program ends by itself
//                "left BLOCKS FDS": what it has and had not at its start
//
// Whoever is forked is another process, which nothing fails in unless it is meant; of the agent and its janitor
// the child is the agent, and not counted as a child. A shim ends with _exit(), and what it has then is not told.
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/kth/kth.h"
#include "tests/kth/kth_calls.h"

#pragma weak event_set_mem_functions
#pragma weak json_set_alloc_funcs

enum { FDS_MAX = 256 };

static const char *report;  // NULL: this process is not the one
static const char *process;
static unsigned long child;  // which one is meant, 0: none
static unsigned long n_children;
static bool is_before_janitor;
static ino_t at_start[FDS_MAX];
static int n_at_start;

// Fills `ret` with what is behind our descriptors.
static int list_fds(ino_t *ret)
{
    int n = 0;
    for (int fd = 0; fd < FDS_MAX; fd++) {
        struct stat st;
        if (fstat(fd, &st) == 0)
            ret[n++] = st.st_ino;
    }
    return n;
}

static int count_new_fds(void)
{
    ino_t now[FDS_MAX];
    int n = list_fds(now), n_new = 0;
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < n_at_start && at_start[k] != now[i])
            k++;
        n_new += k == n_at_start;
    }
    return n_new;
}

// Called with something armed, so past the C library's names.
static void say(const char *line)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, strlen(line)) < 0)
        abort();
    close(fd);
}

static void on_failure(void)
{
    char line[64];
    snprintf(line, sizeof(line), "failed %#llx\n", (unsigned long long)kth_where());
    say(line);
}

static void at_end(void)
{
    char line[64];
    if (!report)
        return;
    kth_disarm();
    snprintf(line, sizeof(line), "left %lld %d\n", (long long)kth_live_blocks(), count_new_fds());
    say(line);
}

// How most programs here end.
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status)
{
    if (!strcmp(KTH_KIND, "server") && !child)
        at_end();
    __real__exit(status);
}

static void stand_back(void)
{
    kth_disarm();
    report = NULL;
}

static void arm(void)
{
    bool forever = getenv("KTH_FOREVER");
    kth_files_are_tried(!forever);
    kth_calls_mode(forever ? KTH_CALLS_ARE_NOT_TRIED : KTH_CALLS_FAIL);
    kth_on_failure(on_failure);
    kth_arm(strtoull(getenv("KTH_K"), NULL, 10), forever ? KTH_FROM_NOW : KTH_ONCE);
}

static void forked_as_parent(void)
{
    n_children += !is_before_janitor;
    if (is_before_janitor && strncmp(process, "janitor", strlen("janitor")) != 0)
        stand_back();
    is_before_janitor = false;
}

static void forked_as_child(void)
{
    bool is_agent = is_before_janitor && strncmp(process, "agent", strlen("agent")) == 0;
    is_before_janitor = false;
    if (is_agent)
        return;
    if (!report || n_children + 1 != child)
        stand_back();
    else
        arm();
    n_children = child;  // its own children are nobody
}

static bool is_agent(void)
{
    return !strcmp(KTH_KIND, "agent");
}

// "--rank=1" gives "shim1" and "forked1".
static const char *number_of(char **argv)
{
    const char *node = getenv(strcmp(KTH_KIND, "server") ? "PM_AGENT_NODE" : "SLURMD_NODENAME");
    for (; *argv; argv++)
        if (!strncmp(*argv, "--rank=", strlen("--rank=")))
            return *argv + strlen("--rank=");
    return node ? node : "";
}

static bool is_meant(const char *kind, char **argv)
{
    const char *number = number_of(argv);
    size_t len = strlen(kind), number_len = strlen(number);
    if (strncmp(process, kind, len) != 0 || strncmp(process + len, number, number_len) != 0)
        return false;
    const char *more = process + len + number_len;
    child = *more == '.' ? strtoul(more + 1, NULL, 10) : 0;
    return !*more || child;
}

__attribute__((constructor)) static void begin(int argc, char **argv)
{
    const char *k = getenv("KTH_K");
    process = getenv("KTH_PROCESS");
    report = getenv("KTH_REPORT");
    if (!k || !process || !report || !(is_meant(KTH_KIND, argv) || (is_agent() && is_meant("janitor", argv)))) {
        report = NULL;
        return;
    }
    if (event_set_mem_functions)
        event_set_mem_functions(malloc, realloc, free);
    if (json_set_alloc_funcs)
        json_set_alloc_funcs(malloc, free);
    is_before_janitor = is_agent();
    pthread_atfork(NULL, forked_as_parent, forked_as_child);
    if (!child)
        atexit(at_end);
    n_at_start = list_fds(at_start);
    kth_libraries_are_tried(strcmp(KTH_KIND, "server") != 0);
    if (!child)
        arm();
}
