// SPDX-License-Identifier: Apache-2.0
//
// The environment of an incarnation: PMIX_* and PMI_* of somebody else never stay, the agent's list
// wins, a variable marked "?" is the user's if he brought it, unless an outer supervised step did;
// and START packets that are not of the protocol are refused.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/shim/apply.h"
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

static const struct pm_env_ops ops = {.list = list, .set = set, .unset = unset};

static void fresh(void)
{
    clearenv();
}

TestSuite(shim_env, .init = fresh, .timeout = 20);

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
