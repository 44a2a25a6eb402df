// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/io/event_log.h promises about its files: each step has its own, and only another launch of a step
// goes on in one that is there.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/io/event_log.h"

static char folder[] = "/tmp/pm-event-log-XXXXXX", path[64], link_path[64];

static void begun(void)
{
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/log", folder);
    snprintf(link_path, sizeof(link_path), "%s/link", folder);
}

static void ended(void)
{
    unlink(link_path);
    unlink(path);
    rmdir(folder);
}

TestSuite(event_log, .init = begun, .fini = ended, .timeout = 10);

// Opens, writes a record, and says what the first gave.
static int written(const char *name, uint32_t launch, bool append)
{
    struct pm_event_log_id id = {.writer = "coordinator", .job = 1, .step = 2, .launch = launch, .append = append};
    struct pm_event_log *log = NULL;
    int r = pm_event_log_new(name, &id, &log);
    struct pm_log record = {.kind = "state", .rank = PM_RANK_NONE, .node = UINT32_MAX, .spare = UINT32_MAX};
    if (r == 0)
        cr_assert_eq(pm_event_log_write(log, &record), 0);
    pm_event_log_free(log);
    return r;
}

static off_t size_of(const char *name)
{
    struct stat st;
    cr_assert_eq(stat(name, &st), 0);
    return st.st_size;
}

Test(event_log, a_file_that_is_there_is_refused_in_any_launch)
{
    cr_expect_eq(written(path, 0, false), 0);
    off_t size = size_of(path);
    cr_expect_eq(written(path, 0, false), -EEXIST);
    cr_expect_eq(written(path, 1, false), -EEXIST);
    cr_expect_eq(size_of(path), size);
}

Test(event_log, who_appends_goes_on_behind_what_is_there)
{
    cr_expect_eq(written(path, 1, true), 0);
    off_t size = size_of(path);
    cr_expect_eq(written(path, 1, true), 0);
    cr_expect_gt(size_of(path), size);
}

Test(event_log, a_link_is_never_followed)
{
    cr_assert_eq(symlink(path, link_path), 0);
    cr_expect_eq(written(link_path, 0, false), -EEXIST);
    cr_expect_eq(written(link_path, 1, true), -ELOOP);
    cr_expect_eq(access(path, F_OK), -1);
}

Test(event_log, what_may_make_a_write_wait_is_no_log)
{
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_eq(written(path, 0, false), -EEXIST);
    cr_expect_eq(written(path, 1, true), -EEXIST);
    int fd = open(path, O_RDWR);  // somebody is there to read, or not
    cr_expect_eq(written(path, 1, true), -EEXIST);
    close(fd);
}

Test(event_log, a_name_with_the_step_in_it_is_another_in_each_launch)
{
    cr_expect(pm_event_log_per_step("log.%j.%s") && pm_event_log_per_step("%s") && pm_event_log_per_step("%%%s"));
    cr_expect(!pm_event_log_per_step("log.%j") && !pm_event_log_per_step("") && !pm_event_log_per_step("%%s"));
    cr_expect(!pm_event_log_per_step("%j%%s%"));
}
