// SPDX-License-Identifier: Apache-2.0
//
// The environment of an incarnation: PMIX_* and PMI_* of somebody else never stay, the agent's list
// wins, a variable marked "?" is the user's if he brought it, unless an outer supervised step did;
// and START packets that are not of the protocol are refused.
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugin/shim/apply.h"
#include "plugin/shim/devices.h"
#include "plugin/shim/heir.h"
#include "plugin/shim/rank.h"

static char **list(void *context)
{
    (void)context;
    return environ;
}

static int set(void *context, const char *name, const char *value)
{
    (void)context;
    return setenv(name, value, 1);
}

static int unset(void *context, const char *name)
{
    (void)context;
    return unsetenv(name);
}

static struct pm_env_ops ops = {.list = list, .set = set, .unset = unset};

static void fresh(void)
{
    clearenv();
}

TestSuite(shim_env, .init = fresh, .timeout = 20);

static const struct pm_place place = {.cpu_bytes = 2, .cpus = {1, 2}, .memory = PM_PLACE_BIND, .node_bytes = 1,
                                      .nodes = {5}};

// Packs entries as an agent does and reads them back as a shim does.
static struct pm_shim_start start_of(const char *const *entries)
{
    struct pm_writer w = {0};
    struct pm_shim_start start = {0};
    uint32_t n = 0;
    while (entries[n])
        n++;
    pm_write_u32(&w, 7);
    pm_write_u32(&w, 2);
    pm_write_place(&w, &place);
    pm_write_u32(&w, n);
    for (uint32_t i = 0; i < n; i++)
        pm_write_str(&w, entries[i]);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    cr_assert(pm_start_read(&r, &start) == 0);
    pm_writer_done(&w);
    return start;
}

static void apply(const char *const *entries)
{
    struct pm_shim_start start = start_of(entries);
    cr_assert(pm_env_apply(&start, &ops) == 0);
    pm_start_free(&start);
}

static void is(const char *name, const char *value)
{
    const char *now = getenv(name);
    if (!value)
        cr_expect(now == NULL, "%s is %s", name, now);
    else
        cr_expect(now && strcmp(now, value) == 0, "%s is %s, not %s", name, now, value);
}

Test(shim_env, what_an_outer_pmix_left_is_dropped_first)
{
    setenv("PMIX_RANK", "9", 1);
    setenv("PMIX_SERVER_URI41", "old", 1);
    setenv("PMI_FD", "7", 1);
    setenv("PMIXER", "kept", 1);
    setenv("LAST", "kept", 1);
    apply((const char *[]){"PMIX_RANK=1", NULL});
    is("PMIX_RANK", "1");
    is("PMIX_SERVER_URI41", NULL);
    is("PMI_FD", NULL);
    is("PMIXER", "kept");
    is("LAST", "kept");
}

// A word without '=' is no variable: unset() takes nothing out then.
Test(shim_env, a_word_that_is_no_variable_stays)
{
    static char bare[] = "PMIX_BARE", short_bare[] = "PMI_", rank[] = "PMIX_RANK=9", twice[] = "PMIX_RANK=8", last[] = "LAST=kept";
    char *own[] = {bare, short_bare, rank, twice, last, NULL};
    environ = own;
    apply((const char *[]){"PMIX_RANK=1", "X=1", NULL});
    cr_expect_eq(environ[0], bare);
    cr_expect_eq(environ[1], short_bare);
    is("PMIX_RANK", "1");
    is("LAST", "kept");
}

static int unset_nothing(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 0;
}

Test(shim_env, an_unset_that_takes_nothing_out_does_not_hang)
{
    struct pm_env_ops lazy = ops;
    struct pm_shim_start start = start_of((const char *[]){"X=1", NULL});
    lazy.unset = unset_nothing;
    setenv("PMIX_RANK", "9", 1);
    cr_assert(pm_env_apply(&start, &lazy) == 0);
    pm_start_free(&start);
    is("PMIX_RANK", "9");
    is("X", "1");
}

Test(shim_env, agent_wins_and_a_later_entry_wins_over_an_earlier_one)
{
    setenv("RANK", "99", 1);
    apply((const char *[]){"RANK=0", "A=1", "A=2", "EMPTY=", "EQUALS=a=b", NULL});
    is("RANK", "0");
    is("A", "2");
    is("EMPTY", "");
    is("EQUALS", "a=b");
}

Test(shim_env, users_own_master_stays)
{
    setenv("MASTER_ADDR", "mine", 1);
    apply((const char *[]){"?MASTER_ADDR=ours", "?MASTER_PORT=1", "PM_EPOCH=3", NULL});
    is("MASTER_ADDR", "mine");
    is("MASTER_PORT", "1");
}

Test(shim_env, master_of_an_outer_supervised_step_does_not_stay)
{
    setenv("MASTER_ADDR", "outer", 1);
    setenv("PM_EPOCH", "0", 1);
    apply((const char *[]){"PM_EPOCH=3", "?MASTER_ADDR=ours", NULL});
    is("MASTER_ADDR", "ours");
    is("PM_EPOCH", "3");
}

Test(shim_env, an_entry_of_ours_does_not_make_a_variable_the_users)
{
    apply((const char *[]){"PM_EPOCH=0", "X=1", "?X=2", NULL});
    is("X", "2");
}

Test(shim_env, task_pid_is_the_ranks_own)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    setenv("SLURM_TASK_PID", "1", 1);
    apply((const char *[]){"SLURM_TASK_PID=5", NULL});
    is("SLURM_TASK_PID", pid);
}

// --- ahead of time -----------------------------------------------------------------------------

#define LIST_MAX 16

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The whole environment, sorted, in one string.
static void snapshot(char *buf, size_t cap)
{
    size_t n = 0;
    while (environ[n])
        n++;
    qsort(environ, n, sizeof *environ, by_text);
    buf[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        cr_assert(strlen(buf) + strlen(environ[i]) + 2 < cap);
        strcat(strcat(buf, environ[i]), "\n");
    }
}

static void lay(const char *const *task, const char *const *likely, const char *const *start)
{
    clearenv();
    for (; *task; task++)
        putenv((char *)*task);
    ops.own = NULL;
    if (likely) {
        struct pm_shim_start ahead = start_of(likely);
        cr_assert(pm_env_prepare(&ahead, &ops) == 0);
        pm_start_free(&ahead);
    }
    apply(start);
    free(ops.own);
    ops.own = NULL;
}

static const struct {
    const char *task[LIST_MAX], *likely[LIST_MAX], *start[LIST_MAX];
} worlds[] = {
    {{"A=1"}, {"PM_EPOCH=1", "RANK=0"}, {"PM_EPOCH=1", "RANK=0"}},
    {{"A=1", "RANK=9"}, {"PM_EPOCH=1", "RANK=0"}, {"PM_EPOCH=2", "PM_CAUSE=signal", "RANK=1"}},
    {{"MASTER_ADDR=mine"},
     {"PM_EPOCH=1", "?MASTER_ADDR=x", "?MASTER_PORT=7"},
     {"PM_EPOCH=1", "?MASTER_ADDR=y", "?MASTER_PORT=8"}},
    {{"MASTER_ADDR=outer", "PM_EPOCH=5"},
     {"PM_EPOCH=1", "?MASTER_ADDR=x"},
     {"PM_EPOCH=1", "?MASTER_ADDR=y", "?MASTER_PORT=8"}},
    {{"PMIX_RANK=9", "PMI_FD=3", "PMIX_OLD=1"},
     {"PMIX_RANK=0", "PMIX_NAMESPACE=a.1"},
     {"PMIX_RANK=0", "PMIX_NAMESPACE=a.2", "PMIX_NEW=1"}},
    {{"A=1"}, {"X=1", "?X=2"}, {"X=1", "?X=2"}},
};

Test(shim_env, what_is_done_ahead_does_not_show)
{
    char plain[4096], ahead[4096];
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        lay(worlds[i].task, NULL, worlds[i].start);
        snapshot(plain, sizeof plain);
        lay(worlds[i].task, worlds[i].likely, worlds[i].start);
        snapshot(ahead, sizeof ahead);
        cr_expect_str_eq(ahead, plain, "world %zu:\n%s, not\n%s", i, ahead, plain);
    }
}

Test(shim_env, an_heir_suits_if_all_that_it_has_comes_again)
{
    static const char *const likely[] = {"A=1", "B=1", "?C=1", NULL};
    static const struct {
        const char *start[LIST_MAX];
        bool suits;
    } starts[] = {
        {{"A=1", "B=1", "?C=1"}, true},  {{"A=2", "B=", "?C=x=y"}, true},
        {{"0=", "A=1", "N=1", "B=1", "?C=1", "Z=1"}, true},
        {{"A=1", "B=1"}, false},         {{"A=1", "B=1", "C=1"}, false},
        {{"AA=1", "B=1", "?C=1"}, false}, {{"B=1", "A=1", "?C=1"}, false},
        {{NULL}, false},
    };
    struct pm_shim_start prepared = start_of(likely), nothing = start_of((const char *[]){NULL});
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct pm_shim_start start = start_of(starts[i].start);
        cr_expect_eq(pm_heir_suits(&prepared, &start), starts[i].suits, "start %zu", i);
        cr_expect(pm_heir_suits(&nothing, &start));
        pm_start_free(&start);
    }
    pm_start_free(&prepared);
    pm_start_free(&nothing);
}

Test(shim_env, a_start_is_written_as_it_was_read)
{
    struct pm_shim_start start = start_of((const char *[]){"A=1", "?B=", "C=a=b", NULL}), again;
    struct pm_writer w = {0};
    pm_start_write(&w, &start);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    cr_assert(pm_start_read(&r, &again) == 0);
    cr_expect(again.epoch == 7 && again.incarnation == 2 && again.n == 3);
    cr_expect(memcmp(&again.place, &place, sizeof place) == 0);
    for (uint32_t i = 0; i < again.n; i++)
        cr_expect_str_eq(again.entries[i], start.entries[i]);
    pm_writer_done(&w);
    pm_start_free(&start);
    pm_start_free(&again);
}

// --- packets ------------------------------------------------------------------------------------

static int read_packet(const uint8_t *data, size_t len)
{
    struct pm_reader r = pm_reader_of(data, len);
    struct pm_shim_start start = {0};
    int rc = pm_start_read(&r, &start);
    pm_start_free(&start);
    return rc;
}

Test(shim_env, every_cut_of_a_start_is_refused)
{
    struct pm_writer w = {0};
    pm_write_u32(&w, 1);
    pm_write_u32(&w, 0);
    pm_write_place(&w, &place);
    pm_write_u32(&w, 2);
    pm_write_str(&w, "A=1");
    pm_write_str(&w, "?B=22");
    cr_expect(read_packet(w.data, w.len) == 0);
    for (size_t len = 0; len < w.len; len++)
        cr_expect(read_packet(w.data, len) == -EBADMSG, "%zu bytes were taken", len);
    pm_write_u8(&w, 0);
    cr_expect(read_packet(w.data, w.len) == -EBADMSG, "a trailing byte was taken");
    pm_writer_done(&w);
}

static int read_entry(const void *entry, size_t len, uint32_t n)
{
    struct pm_writer w = {0};
    pm_write_u32(&w, 1);
    pm_write_u32(&w, 0);
    pm_write_place(&w, &place);
    pm_write_u32(&w, n);
    for (uint32_t i = 0; i < n && i <= PM_SHIM_ENV_MAX; i++)
        pm_write_bytes(&w, entry, len);
    int rc = read_packet(w.data, w.len);
    pm_writer_done(&w);
    return rc;
}

Test(shim_env, entries_are_name_value_and_limited)
{
    cr_expect(read_entry("A=", 2, 1) == 0);
    cr_expect(read_entry("A", 1, 1) == -EBADMSG);
    cr_expect(read_entry("", 0, 1) == -EBADMSG);
    cr_expect(read_entry("A=\0b", 4, 1) == -EBADMSG);
    cr_expect(read_entry("A=1", 3, PM_SHIM_ENV_MAX) == 0);
    cr_expect(read_entry("A=1", 3, PM_SHIM_ENV_MAX + 1) == -EBADMSG);
    cr_expect(read_entry("A=1", 3, 0) == 0);
}

Test(shim_env, a_place_has_one_form)
{
    static const struct {
        struct pm_place place;
        bool good;
    } cases[] = {
        {{0}, true},
        {{.cpu_bytes = 1024, .cpus[1023] = 128}, true},
        {{.cpu_bytes = 1, .cpus = {1}, .memory = PM_PLACE_PREFER, .node_bytes = 128, .nodes[127] = 1}, true},
        {{.cpu_bytes = 2, .cpus = {1, 0}}, false},                      // a last byte of 0
        {{.memory = PM_PLACE_BIND}, false},                             // on no node
        {{.node_bytes = 1, .nodes = {1}}, false},                       // no policy
        {{.memory = PM_PLACE_MEMORIES, .node_bytes = 1, .nodes = {1}}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pm_writer w = {0};
        struct pm_place read;
        pm_write_place(&w, &cases[i].place);
        struct pm_reader r = pm_reader_of(w.data, w.len);
        pm_read_place(&r, &read);
        cr_expect((pm_reader_end(&r) == 0) == cases[i].good, "case %zu", i);
        cr_expect(!cases[i].good || memcmp(&read, &cases[i].place, sizeof read) == 0, "case %zu", i);
        pm_writer_done(&w);
    }
    uint8_t mask[PM_PLACE_CPU_BYTES + 1];
    memset(mask, 1, sizeof mask);
    struct pm_writer w = {0};
    struct pm_place read;
    pm_write_bytes(&w, mask, sizeof mask);
    pm_write_u8(&w, PM_PLACE_KEEP);
    pm_write_bytes(&w, NULL, 0);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_place(&r, &read);
    cr_expect(pm_reader_end(&r) == -EBADMSG && read.cpu_bytes == 0, "more CPUs than there are");
    pm_writer_done(&w);
}

static pid_t sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        for (;;)
            (void)pause();
    }
    return pid;
}

// Nobody can reap `pid` as long as this process lives: to its parent it is as one that SIGKILL does not end.
static pid_t holder(pid_t pid)
{
    int ends[2];
    char byte = 0;
    cr_assert_eq(pipe(ends), 0);
    pid_t tracer = fork();
    if (tracer == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
            ;
        (void)!write(ends[1], &byte, 1);
        for (;;)
            (void)pause();
    }
    cr_assert_eq(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    close(ends[1]);
    return tracer;
}

Test(shim_env, an_heir_is_reaped_when_it_is_dismissed)
{
    struct pm_heir heir = {.pid = sleeper(), .fd = dup(0)};
    pm_heir_dismiss(&heir);
    cr_assert_eq(heir.pid, 0);
    cr_assert(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

Test(shim_env, an_heir_that_does_not_end_holds_nobody_up, .timeout = 10)
{
    int status;
    pid_t pid = sleeper(), tracer = holder(pid);
    struct pm_heir heir = {.pid = pid, .fd = dup(0)};
    pm_heir_dismiss(&heir);
    cr_assert_eq(heir.pid, 0);
    cr_assert_eq(waitpid(pid, NULL, WNOHANG), 0, "nothing held it");
    (void)kill(tracer, SIGKILL);
    cr_assert_eq(waitpid(tracer, NULL, 0), tracer);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, SIGKILL);
}

// --- device files ------------------------------------------------------------------------------------

static void touch(const char *root, const char *name, mode_t mode)
{
    char path[128];
    snprintf(path, sizeof path, "%s/dev/%s", root, name);
    FILE *file = fopen(path, "we");
    cr_assert(file && fclose(file) == 0 && chmod(path, mode) == 0, "%s", path);
}

static void make_folder(const char *root, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    cr_assert(mkdir(path, 0755) == 0, "%s", path);
}

static bool lists(const char *text, const char *name)
{
    char between[512], of[128];
    snprintf(between, sizeof between, ",%s,", text);
    snprintf(of, sizeof of, ",%s,", name);
    return strstr(between, of) != NULL;
}

// As somebody whom the modes of files mean: root may open all of them. What is wrong, 0: nothing; no child of ours can
// tell Criterion.
static int look(const char *root)
{
    char text[128], little[12] = "x";
    if (setgid(65534) < 0 || setuid(65534) < 0)
        return 1;
    pm_shim_devices(root, text, sizeof text);
    if (!lists(text, "nvidia0") || !lists(text, "nvidia12") || !lists(text, "renderD129"))
        return 2;
    if (strlen(text) != strlen("nvidia0,nvidia12,renderD129"))
        return 3;  // more than these
    pm_shim_devices(root, little, sizeof little);
    if (little[0])
        return 4;  // half of a list would be a lie
    pm_shim_devices("/nowhere", text, sizeof text);
    return text[0] ? 5 : 0;
}

Test(shim_env, gpus_are_told_by_the_files_that_can_be_opened)
{
    char root[] = "/tmp/test_shim_env.XXXXXX", remove[64];
    cr_assert(mkdtemp(root) && chmod(root, 0755) == 0);
    make_folder(root, "dev");
    make_folder(root, "dev/dri");
    static const char *const open_to_all[] = {"nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia", "nvidia1x",
                                              "dri/renderD129", "dri/card0", "renderD7", "dri/nvidia3"};
    for (size_t i = 0; i < sizeof open_to_all / sizeof *open_to_all; i++)
        touch(root, open_to_all[i], 0666);
    touch(root, "nvidia1", 0);
    touch(root, "nvidia2", 0444);
    touch(root, "dri/renderD128", 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(look(root));
    int status = -1;
    cr_expect(waitpid(pid, &status, 0) == pid && status == 0, "%x", status);
    snprintf(remove, sizeof remove, "rm -r %s", root);
    cr_expect(system(remove) == 0);
}
