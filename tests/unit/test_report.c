// SPDX-License-Identifier: Apache-2.0
//
// What is said about a map: a line for each rank, one for all.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/discover.h"
#include "pmix_server/topology/report.h"
#include "pmix_server/wire/options.h"

static struct pm_machine m;
static struct pm_set allowed;
static struct pm_granted granted;
static struct pm_binding binding;
static struct pm_granted_gpu gpus[3] = {{.token = "GPU-x"}, {.token = "1"}, {.token = "MIG-y"}};
static uint32_t places[3] = {1, 2, PM_PLACE_NONE};
static struct pm_bind_request request;
static struct pm_map_report report;

static void start(void)
{
    char error[PM_ERROR_CAP];
    cr_assert_eq(pm_discover_xml(PM_FIXTURES "/gpu-node.xml", &m, &allowed, error), 0, "%s", error);
    granted = (struct pm_granted){gpus, 3};
    request = (struct pm_bind_request){.allowed = &allowed, .gpus = places, .n_gpus = 2, .n_ranks = 2};
    report = (struct pm_map_report){&m, &request, &binding, &granted};
}

static void map(void)
{
    pm_binding_done(&binding);
    cr_assert_eq(pm_bind_ranks(&m, &request, &binding), 0, "%s", binding.sentence);
}

static void finish(void)
{
    pm_machine_done(&m);
    pm_set_done(&allowed);
    pm_binding_done(&binding);
}

TestSuite(report, .init = start, .fini = finish, .timeout = 20);

static void cell_is(uint32_t rank, enum pm_report_column column, const char *want)
{
    char *cell = pm_report_cell(&report, rank, column);
    cr_assert_str_eq(cell, want, "%s instead of %s", cell, want);
    free(cell);
}

static void is(char *text, const char *want)
{
    cr_assert_str_eq(text, want, "%s instead of %s", text, want);
    free(text);
}

Test(report, a_line_has_all_of_a_rank)
{
    cr_assert_eq(pm_set_subtract(&allowed, &m.numas[0].pus), 0);
    cr_assert_eq(pm_set_subtract(&allowed, &m.numas[3].pus), 0);
    map();
    is(pm_report_line(&report, 0, 17),
       "rank 17: cpus 2-3,10-11 (2 cores), numa 1, gpu GPU-x@23:00.0, nic mlx5_0/PIX, memory prefer 1; near");
    is(pm_report_summary(&report), "2 ranks, 2 cores each (4 of 4 used), 1 GPU each (2 of 2 used); 2 near");
}

Test(report, one_core_is_a_core)
{
    pm_set_clear(&allowed);
    cr_assert_eq(pm_set_add_span(&allowed, 2, 3), 0);
    request.n_gpus = 0;
    map();
    is(pm_report_line(&report, 1, 1), "rank 1: cpus 3 (1 core), numa 1, gpu -, nic mlx5_0/NODE, memory prefer 1; equal");
}

Test(report, what_is_not_there_is_a_dash)
{
    request.n_gpus = 0;
    request.options.memory = PM_MEMORY_DEFAULT;
    map();
    cell_is(0, PM_REPORT_GPUS, "-");
    cell_is(0, PM_REPORT_MEMORY, "default");
    report.granted = NULL;
    request.n_gpus = 2;
    map();
    cell_is(0, PM_REPORT_GPUS, "?@23:00.0");
}

Test(report, a_gpu_whose_place_is_not_known_has_its_token)
{
    request.n_gpus = 3;
    request.n_ranks = 3;
    map();
    cell_is(2, PM_REPORT_GPUS, "MIG-y@?");
}

Test(report, unequal_shares_are_a_range)
{
    request.n_gpus = 0;
    request.n_ranks = 3;
    map();
    char *summary = pm_report_summary(&report);
    cr_assert_eq(strncmp(summary, "3 ranks, 2-3 cores each (8 of 8 used); ", 39), 0, "%s", summary);
    free(summary);
}

Test(report, a_domain_that_is_not_0_is_part_of_the_address)
{
    char buf[PM_REPORT_PCI];
    cr_assert_str_eq(pm_report_pci(&(struct pm_pci){0, 0x23, 0, 1}, buf), "23:00.1");
    cr_assert_str_eq(pm_report_pci(&(struct pm_pci){0xffffffff, 0xff, 0x1f, 7}, buf), "ffffffff:ff:1f.7");
}

// A die without memory is called by the node that its memory comes from.
Test(report, nodes_without_memory_are_in_parentheses)
{
    char error[PM_ERROR_CAP];
    finish();
    cr_assert_eq(pm_discover_xml(PM_FIXTURES "/memory.xml", &m, &allowed, error), 0, "%s", error);
    request.n_gpus = 0;
    request.n_ranks = 1;
    map();
    cell_is(0, PM_REPORT_NUMA, "0,(0),4,6");
}
