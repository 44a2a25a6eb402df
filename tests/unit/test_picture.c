// SPDX-License-Identifier: Apache-2.0
//
// A node's picture comes out of its bytes as it went in; bytes that are cut, or whose places point
// nowhere, are no picture.
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/topology/discover.h"
#include "pmix_server/topology/picture.h"

TestSuite(picture, .timeout = 60);

static struct pm_picture before, after;
static struct pm_writer w;

static void start(void)
{
    struct pm_set allowed = {0};
    before = (struct pm_picture){0};
    cr_assert_eq(pm_discover_xml(PM_FIXTURES "/gpu-node.xml", &before.machine, &allowed, before.error), 0);
    before.affinity = allowed;
    pm_set_add_span(&before.cgroup, 0, 3);
    pm_set_add(&before.admitted, 1);
}

static void finish(void)
{
    pm_picture_done(&before);
    pm_picture_done(&after);
    pm_writer_done(&w);
}

Test(picture, comes_out_as_it_went_in, .init = start, .fini = finish)
{
    struct pm_writer again = {0};
    pm_picture_write(&w, &before);
    cr_assert_eq(w.error, 0);
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), 0);
    const struct pm_machine *m = &after.machine;
    cr_assert_eq(m->n_gpus, 3);
    cr_assert_eq(m->n_nics, 6);
    cr_assert_str_eq(m->gpus[1].uuid, before.machine.gpus[1].uuid);
    cr_assert_eq(m->gpus[1].minor, PM_PLACE_NONE);
    cr_assert_eq(memcmp(m->rails, before.machine.rails, 18), 0);
    cr_assert_eq(memcmp(m->numa_hops, before.machine.numa_hops, 32), 0);
    cr_assert(pm_set_equal(&after.cgroup, &before.cgroup));
    pm_picture_write(&again, &after);
    cr_assert(again.len == w.len && memcmp(again.data, w.data, w.len) == 0, "all of it");
    pm_writer_done(&again);
}

Test(picture, a_cut_one_is_none, .init = start, .fini = finish)
{
    pm_picture_write(&w, &before);
    for (size_t len = 0; len < w.len; len++)
        cr_assert_eq(pm_picture_read(w.data, len, &after), -EBADMSG, "%zu of %zu bytes", len, w.len);
    w.data[4] ^= 1;
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), -EBADMSG, "another version");
}

static void is_no_picture(const char *what)
{
    pm_writer_reset(&w);
    pm_picture_write(&w, &before);
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), -EBADMSG, "%s", what);
    cr_assert_eq(after.machine.n_cores, 0);
}

Test(picture, places_that_point_nowhere_are_refused, .init = start, .fini = finish)
{
    struct pm_machine *m = &before.machine;
    m->cores[7].numa = 4;
    is_no_picture("NUMA node of a core");
    m->cores[7].numa = 3;
    m->cores[7].l3 = 4;
    is_no_picture("L3 of a core");
    m->cores[7].l3 = PM_PLACE_NONE;
    m->cores[0].package = 2;
    is_no_picture("package of a core");
    m->cores[0].package = 0;
    m->rails[17] = 6;
    is_no_picture("rail");
    m->rails[17] = 0;
    m->gpus[0].vendor = PM_GPU_VENDORS;
    is_no_picture("vendor");
    m->gpus[0].vendor = PM_GPU_NVIDIA;
    pm_writer_reset(&w);
    pm_picture_write(&w, &before);
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), 0, "and now it is one");
}

Test(picture, a_sentence_is_a_picture, .fini = finish)
{
    struct pm_picture none = {.error = "hwloc cannot find out the topology"};
    pm_picture_write(&w, &none);
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), 0);
    cr_assert_str_eq(after.error, none.error);
    pm_picture_done(&after);
    none.error[0] = '\0';
    pm_writer_reset(&w);
    pm_picture_write(&w, &none);
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), -EBADMSG, "neither machine nor sentence");
}

Test(picture, this_host_has_one, .fini = finish)
{
    pm_picture_take("", &before);
    cr_assert_str_empty(before.error);
    cr_assert(pm_set_covers(&before.machine.pus, &before.affinity));
    pm_picture_write(&w, &before);
    cr_assert_eq(pm_picture_read(w.data, w.len, &after), 0);
    cr_assert(pm_set_equal(&after.affinity, &before.affinity));
}

static void crash(const char *what, struct pm_picture *picture)
{
    raise(SIGKILL);
}

static void hang(const char *what, struct pm_picture *picture)
{
    for (;;)
        pause();
}

static void end(const char *what, struct pm_picture *picture)
{
    _exit(3);
}

static void is_told(pm_picture_take_f *take, const char *what, const char *sentence)
{
    pm_picture_in_child(take, what, 20000, &after);
    cr_assert_str_eq(after.error, sentence);
    cr_assert_eq(after.machine.n_cores, 0);
    cr_assert_eq(waitpid(-1, NULL, 0), -1, "nobody is left");
}

// hwloc 2.9 crashes on one of a hundred damaged files, and may hang on a host.
Test(picture, row38_a_child_that_crashes_or_hangs_is_a_sentence, .fini = finish)
{
    is_told(crash, "x.xml", "hwloc crashed on the topology of x.xml (Killed): it is damaged");
    is_told(end, "", "cannot read the topology of this host: Bad message");
    pm_picture_in_child(hang, "", 1100, &after);
    cr_assert_str_eq(after.error, "reading the topology of this host takes longer than 1 s");
    pm_picture_in_child(pm_picture_take_xml, PM_FIXTURES "/no-cpus.xml", 20000, &after);
    cr_assert(strstr(after.error, "shows no CPUs"), "%s", after.error);
}

Test(picture, a_child_takes_the_same, .init = start, .fini = finish)
{
    pm_picture_in_child(pm_picture_take_xml, PM_FIXTURES "/gpu-node.xml", 20000, &after);
    cr_assert_str_empty(after.error);
    cr_assert_eq(after.machine.n_gpus, 3);
    cr_assert(pm_set_equal(&after.affinity, &before.affinity));
    cr_assert_eq(memcmp(after.machine.rails, before.machine.rails, 18), 0);
}
