// SPDX-License-Identifier: Apache-2.0
//
// Records of --pm-log from before the step has its number: they wait, and those that find no room are counted and said.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"

#define KEPT 1000

static char folder[] = "/tmp/pm-coordinator-log-XXXXXX", path[64], said[512];

static void begun(void)
{
    cr_assert(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/log", folder);
}

static void ended(void)
{
    (void)unlink(path);
    (void)rmdir(folder);
}

TestSuite(coordinator_log, .init = begun, .fini = ended, .timeout = 20);

void pm_coordinator_say(struct coordinator *c, const char *text)
{
    (void)c;
    (void)snprintf(said, sizeof(said), "%s", text);
}

// Logs so many records before the log is open; returns how many lines it has then.
static unsigned logged_early(unsigned n)
{
    static struct coordinator c;
    char error[PM_ERROR_CAP], line[4096];
    struct pm_log record = {.kind = "state", .rank = PM_RANK_NONE, .node = UINT32_MAX, .spare = UINT32_MAX};
    unsigned lines = 0;
    STAILQ_INIT(&c.early);
    (void)snprintf(c.options.log, sizeof(c.options.log), "%s", path);
    for (unsigned i = 0; i < n; i++)
        pm_coordinator_log(&c, &record);
    cr_assert_eq(pm_coordinator_log_open(&c, error), 0);
    pm_coordinator_log_done(&c);
    FILE *f = fopen(path, "r");
    cr_assert(f);
    while (fgets(line, sizeof(line), f))
        lines++;
    (void)fclose(f);
    return lines;
}

Test(coordinator_log, early_records_are_kept)
{
    cr_expect_eq(logged_early(KEPT), KEPT);
    cr_expect_str_eq(said, "");
}

Test(coordinator_log, those_without_room_are_counted_and_said)
{
    cr_expect_eq(logged_early(KEPT + 3), KEPT);
    cr_expect_str_eq(said, "--pm-log: 3 records from before the step had its number are missing");
}
