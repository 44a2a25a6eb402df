// SPDX-License-Identifier: Apache-2.0
//
// The tree of a rank while allocations and looks into /proc fail in turn. Allowed is: the promise of tree.h
// is kept, or the caller is told that it may not be. A kill reaches everybody in the end, also without any
// memory. Nowhere a leak or a descriptor.
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plugin/shim/tree.h"
#include "tests/kth/kth.h"

enum { MANY = 150, BOUND_MS = 10000 };

static pid_t members[MANY];  // each below the one before it, or all below the first
static unsigned n_members;

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static char state_of(pid_t pid)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    const char *end = f && fgets(text, sizeof(text), f) ? strrchr(text, ')') : NULL;
    if (f)
        fclose(f);
    return end ? end[2] : '-';
}

static bool all_become(char state)
{
    for (int ms = 0; ms < BOUND_MS; ms += 2, sleep_ms(2)) {
        unsigned n = 0;
        for (unsigned i = 0; i < n_members; i++)
            n += state_of(members[i]) == state;
        if (n == n_members)
            return true;
    }
    return false;
}

static void be_member(int fd)
{
    pid_t self = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)!write(fd, &self, sizeof(self));
}

// A chain of `depth` processes; the last one has `wide` children.
static void grow(int fd, unsigned depth, unsigned wide)
{
    be_member(fd);
    while (depth-- > 0 && fork() == 0)
        be_member(fd);
    bool is_last = depth == UINT_MAX;
    while (is_last && wide-- > 0 && fork() != 0)
        ;
    if (is_last && wide != UINT_MAX)
        be_member(fd);
    for (;;)
        pause();
}

static void start_tree(unsigned depth, unsigned wide)
{
    int ends[2];
    KTH_CHECK(pipe(ends) == 0, "no pipe");
    n_members = depth + 1 + wide;
    if (fork() == 0)
        grow(ends[1], depth, wide);
    close(ends[1]);
    for (unsigned i = 0; i < n_members; i++)
        KTH_CHECK(read(ends[0], &members[i], sizeof(pid_t)) == (ssize_t)sizeof(pid_t), "no process");
    close(ends[0]);
    KTH_CHECK(all_become('S'), "they do not start");
}

static unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

// --- what is tried ----------------------------------------------------------------------------------

static bool look_for_nobody(void)
{
    KTH_CHECK(!pm_tree_empty(NULL), "nobody is left, it says");
    return true;
}

static bool stop(void)
{
    return pm_tree_stop(NULL);
}

static bool resume(void)
{
    return pm_tree_resume(NULL);
}

static bool sweep_one(uint64_t k, bool (*act)(void), char state)
{
    int64_t live = kth_live_blocks();
    unsigned fds = count_fds();
    kth_arm(k, KTH_ONCE);
    bool done = act();
    bool reached = kth_disarm();
    KTH_CHECK(done || reached, "it says that it could not, k %llu", (unsigned long long)k);
    KTH_CHECK(!done || all_become(state), "not all become %c, k %llu", state, (unsigned long long)k);
    KTH_CHECK(kth_live_blocks() == live && count_fds() == fds, "a leak, k %llu", (unsigned long long)k);
    return reached;
}

// The opposite in between, so that every try has to do all of it.
static uint64_t sweep(bool (*act)(void), char state, bool (*opposite)(void))
{
    uint64_t k = 1;
    do
        KTH_CHECK(opposite(), "k %llu", (unsigned long long)k);
    while (sweep_one(k++, act, state));
    return k - 2;
}

static void kill_without_memory(void)
{
    uint64_t tries = 0;
    kth_files_are_tried(false);
    kth_arm(1, KTH_FROM_NOW);
    while (!pm_tree_empty(NULL)) {
        KTH_CHECK(tries++ < BOUND_MS / 2, "it never ends");
        (void)pm_tree_kill(NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        sleep_ms(2);
    }
    kth_disarm();
    KTH_CHECK(waitpid(-1, NULL, 0) < 0, "somebody is left");
}

// What means of others that they have ended, or are not ours, means of us only that we cannot look.
static uint64_t look_for_our_own(void)
{
    static const int errors[] = {ENOENT, ESRCH, EACCES, EPERM};
    uint64_t calls = 0;
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        kth_open_fails_with(errors[i]);
        calls += sweep(look_for_nobody, 'S', resume);
        calls += sweep_one(1, stop, 'T');
        KTH_CHECK(stop(), "with errno %d", errors[i]);
        calls += sweep_one(1, resume, 'S');
    }
    kth_open_fails_with(EMFILE);
    return calls;
}

static uint64_t try(unsigned depth, unsigned wide, bool try_files)
{
    start_tree(depth, wide);
    kth_files_are_tried(try_files);
    uint64_t calls = sweep(look_for_nobody, 'S', resume);
    calls += sweep(stop, 'T', resume);
    calls += sweep(resume, 'S', stop);
    calls += try_files ? look_for_our_own() : 0;
    kill_without_memory();
    return calls;
}

int main(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    KTH_CHECK(pm_tree_empty(NULL), "somebody is here");
    uint64_t calls = try(2, 0, true);
    calls += try(0, MANY - 1, false);
    printf("%llu calls\n", (unsigned long long)calls);
    return 0;
}
