// SPDX-License-Identifier: Apache-2.0
//
// Where --pm-bind-report=FILE goes: into a plain file, never through a link, never waiting for a reader; what cannot be
// written is said once.
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/coordinator.h"

static char folder[] = "/tmp/pm-bound-XXXXXX", path[64], other[64], said[PM_TEXT_CAP];
static unsigned n_said;
static struct coordinator c;
static struct pm_set ranks;
static struct pm_world world = {.nnodes = 1, .nranks = 1, .ranks_of_node = &ranks};

const struct pm_world *pm_core_world(const struct pm_core *core)
{
    (void)core;
    return &world;
}

const char *pm_core_host(const struct pm_core *core, uint32_t node, char *buf)
{
    (void)core;
    (void)snprintf(buf, PM_TEXT_CAP, "n%u", node);
    return buf;
}

void pm_coordinator_say(struct coordinator *coordinator, const char *text)
{
    (void)coordinator;
    n_said++;
    (void)snprintf(said, sizeof(said), "%.*s", (int)sizeof(said) - 1, text);
}

int pm_event_log_expand(const char *pattern, uint32_t job, uint32_t step, char *buf, size_t cap)
{
    (void)job;
    (void)step;
    return snprintf(buf, cap, "%s", pattern) < (int)cap ? 0 : -ENAMETOOLONG;
}

static void begun(void)
{
    cr_assert(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/where", folder);
    (void)snprintf(other, sizeof(other), "%s/other", folder);
    (void)snprintf(c.options.bind_report, sizeof(c.options.bind_report), "%.60s", path);
    STAILQ_INIT(&c.bound);
    cr_assert_eq(pm_set_add(&ranks, 0), 0);
    cr_assert_eq(pm_set_add(&world.hosts, 0), 0);
}

static void ended(void)
{
    pm_coordinator_bound_done(&c);
    pm_set_done(&ranks);
    pm_set_done(&world.hosts);
    unlink(path);
    unlink(other);
    rmdir(folder);
}

TestSuite(coordinator_bound, .init = begun, .fini = ended, .timeout = 10);

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(name, "we");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

// The only node tells how its rank is bound.
static void node_tells(char *text)
{
    struct pm_writer w = {0};
    pm_write_set(&w, &world.hosts);
    pm_coordinator_bound(&c, &(struct pm_action){.data = w.data, .len = w.len, .text = text});
    pm_writer_done(&w);
}

static void holds(const char *name, const char *wanted)
{
    char text[256] = "";
    FILE *f = fopen(name, "re");
    cr_assert(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    cr_assert_str_eq(text, wanted);
}

static void refused(const char *wanted)
{
    char error[PM_ERROR_CAP] = "";
    cr_assert_eq(pm_coordinator_bound_check(&c, error), -EINVAL);
    cr_assert(strstr(error, "--pm-bind-report=") && strstr(error, wanted), "%s", error);
    for (int i = 0; i < 2; i++)
        node_tells((char[]){"1 rank"});
    cr_assert_eq(n_said, 1, "said %u times", n_said);
    cr_assert(strstr(said, "--pm-bind-report: cannot write "), "%s", said);
}

Test(coordinator_bound, a_file_that_is_there_is_overwritten_once)
{
    char error[PM_ERROR_CAP];
    write_file(path, "of yesterday\n");
    cr_assert_eq(pm_coordinator_bound_check(&c, error), 0);
    node_tells((char[]){"1 rank"});
    node_tells((char[]){"1 rank\ncpus 0"});
    holds(path, "bind: n0: 1 rank\nbind: n0: 1 rank\nbind: rank 0: cpus 0\n");
    cr_assert_eq(n_said, 0);
}

Test(coordinator_bound, another_launch_goes_on_in_its_file)
{
    write_file(path, "of the first launch\n");
    c.launch = 1;
    node_tells((char[]){"1 rank"});
    holds(path, "of the first launch\nbind: n0: 1 rank\n");
}

Test(coordinator_bound, a_link_is_not_followed)
{
    write_file(other, "precious\n");
    cr_assert_eq(symlink(other, path), 0);
    refused("is a link");
    holds(other, "precious\n");
}

Test(coordinator_bound, a_fifo_is_not_waited_for)
{
    cr_assert_eq(mkfifo(path, 0600), 0);
    refused("is no file");
}

Test(coordinator_bound, a_device_is_refused)
{
    strcpy(c.options.bind_report, "/dev/full");
    refused("is no file");
}

Test(coordinator_bound, what_the_disk_does_not_take_is_said_once)
{
    struct rlimit before;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, before.rlim_max}), 0);
    for (int i = 0; i < 2; i++)
        node_tells((char[]){"1 rank"});
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_assert_eq(n_said, 1, "said %u times", n_said);
    cr_assert(strstr(said, "/where: File too large"), "%s", said);
}
