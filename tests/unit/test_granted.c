// SPDX-License-Identifier: Apache-2.0
//
// Tokens that Slurm exports, paired with GPUs: constrained and not, renumbered and not, by number, UUID,
// MIG name and tile; and what fits nothing.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/topology/granted.h"
#include "pmix_server/wire/options.h"

TestSuite(granted, .timeout = 20);

static struct pm_machine_gpu gpus[8];
static struct pm_machine m;
static struct pm_set admitted;
static struct pm_granted_sources sources;
static struct pm_granted granted;
static char error[PM_ERROR_CAP];

static struct pm_machine_gpu *add_gpu(enum pm_gpu_vendor vendor, uint32_t runtime, const char *uuid)
{
    struct pm_machine_gpu *gpu = &gpus[m.n_gpus++];
    *gpu = (struct pm_machine_gpu){.pci.bus = (uint8_t)m.n_gpus, .vendor = vendor, .runtime = runtime,
                                   .minor = PM_PLACE_NONE};
    snprintf(gpu->uuid, sizeof(gpu->uuid), "%s", uuid);
    return gpu;
}

// Four GPUs of NVIDIA, named GPU-a0..., GPU-a1...
static void start(void)
{
    char uuid[64];
    m = (struct pm_machine){.gpus = gpus};
    sources = (struct pm_granted_sources){0};
    for (unsigned i = 0; i < 4; i++) {
        snprintf(uuid, sizeof(uuid), "GPU-a%u000000-0000-0000-0000-000000000000", i);
        add_gpu(PM_GPU_NVIDIA, PM_PLACE_NONE, uuid);
    }
}

static void start_amd(void)  // the runtime's order is not that of addresses
{
    static const uint32_t runtimes[] = {2, 3, 1, 0};
    m = (struct pm_machine){.gpus = gpus};
    sources = (struct pm_granted_sources){0};
    for (unsigned i = 0; i < 4; i++)
        add_gpu(PM_GPU_AMD, runtimes[i], "");
}

static void admit(uint32_t a, uint32_t b)
{
    pm_set_clear(&admitted);
    pm_set_add(&admitted, a);
    pm_set_add(&admitted, b);
    sources.admitted = &admitted;
}

// "0=2 1=3": token=place; "?" for a place that is not known.
static void gives(const char *want)
{
    char text[512] = "";
    cr_assert_eq(pm_granted_read(&m, &sources, &granted, error), 0, "%s", error);
    for (uint32_t i = 0; i < granted.n; i++) {
        const struct pm_granted_gpu *g = &granted.gpus[i];
        char place[16] = "?";
        if (g->gpu != PM_PLACE_NONE)
            snprintf(place, sizeof(place), "%u", g->gpu);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s=%s", i ? " " : "", g->token, place);
    }
    cr_assert_str_eq(text, want, "%s instead of %s", text, want);
    pm_granted_done(&granted);
}

static void refuses(const char *sentence)
{
    memset(error, 0, sizeof(error));
    cr_assert_eq(pm_granted_read(&m, &sources, &granted, error), -EINVAL);
    cr_assert(strstr(error, sentence), "%s", error);
    cr_assert_null(granted.gpus);
}

Test(granted, numbers_count_what_can_be_opened, .init = start)
{
    sources.visible[PM_GPU_NVIDIA] = "1,3";
    gives("1=1 3=3");  // not constrained
    sources.visible[PM_GPU_NVIDIA] = "0,1";
    admit(1, 3);
    gives("0=1 1=3");  // a device cgroup: renumbered
}

// Case 28 of the pinning table, where only the variable was not renumbered.
Test(granted, numbers_of_the_whole_node_fit_what_can_be_opened, .init = start)
{
    admit(1, 3);
    sources.visible[PM_GPU_NVIDIA] = "1,3";
    gives("1=1 3=3");
    sources.visible[PM_GPU_NVIDIA] = "3,1";
    gives("3=3 1=1");
    sources.visible[PM_GPU_NVIDIA] = "3";
    refuses("CUDA_VISIBLE_DEVICES: '3' is none of the 2 NVIDIA GPUs");
}

Test(granted, step_gpus_tell_which_ones_numbers_from_zero_are, .init = start)
{
    sources.visible[PM_GPU_NVIDIA] = "0,1";
    sources.step_gpus = "2-3";
    gives("0=2 1=3");
    sources.step_gpus = "0,1";
    gives("0=0 1=1");
    sources.step_gpus = "2-9";  // not as many
    gives("0=0 1=1");
    sources.step_gpus = "2,7";  // there is no such GPU
    gives("0=0 1=1");
    sources.step_gpus = "rubbish";
    gives("0=0 1=1");
    sources.step_gpus = "2-3";
    sources.visible[PM_GPU_NVIDIA] = "1,0";  // the user's own order
    gives("1=1 0=0");
}

Test(granted, runtime_order_decides, .init = start_amd)
{
    sources.visible[PM_GPU_AMD] = "0,1,2,3";
    gives("0=3 1=2 2=0 3=1");
    admit(0, 1);
    sources.visible[PM_GPU_AMD] = "0,1";
    gives("0=0 1=1");
    gpus[1].runtime = PM_PLACE_NONE;  // one is unknown: by address
    sources.admitted = NULL;
    gives("0=0 1=1");
}

Test(granted, names_are_found_by_their_beginning, .init = start)
{
    sources.visible[PM_GPU_NVIDIA] = "GPU-a2000000-0000-0000-0000-000000000000,gpu-A1";
    gives("GPU-a2000000-0000-0000-0000-000000000000=2 gpu-A1=1");
    sources.visible[PM_GPU_NVIDIA] = "GPU-a";
    refuses("'GPU-a' is none of the 4 NVIDIA GPUs");  // four of them
    sources.visible[PM_GPU_NVIDIA] = "GPU-";
    refuses("is none of");
    sources.visible[PM_GPU_NVIDIA] = "GPU-b0000000";
    refuses("is none of");
}

// Case 27.
Test(granted, mig_names_are_opaque, .init = start)
{
    static const uint32_t parents[] = {2, 2, 3};
    sources.visible[PM_GPU_NVIDIA] = "MIG-aaaa,MIG-bbbb,MIG-cccc";
    gives("MIG-aaaa=? MIG-bbbb=? MIG-cccc=?");
    sources.migs = parents;
    sources.n_migs = 3;
    gives("MIG-aaaa=2 MIG-bbbb=2 MIG-cccc=3");
    sources.n_migs = 2;  // not the same ones
    gives("MIG-aaaa=? MIG-bbbb=? MIG-cccc=?");
    sources.visible[PM_GPU_NVIDIA] = "MIG-GPU-a1000000-0000-0000-0000-000000000000/7/0";
    gives("MIG-GPU-a1000000-0000-0000-0000-000000000000/7/0=1");
    m.n_gpus = 1;
    sources.n_migs = 0;
    sources.visible[PM_GPU_NVIDIA] = "MIG-aaaa,MIG-bbbb";
    gives("MIG-aaaa=0 MIG-bbbb=0");
}

Test(granted, tiles_are_parts_of_a_card)
{
    m = (struct pm_machine){.gpus = gpus};
    sources = (struct pm_granted_sources){0};
    for (unsigned i = 0; i < 4; i++)
        add_gpu(PM_GPU_INTEL, PM_PLACE_NONE, "")->partition = i % 2;
    sources.visible[PM_GPU_INTEL] = "0.1,1.0";
    gives("0.1=1 1.0=2");
    sources.visible[PM_GPU_INTEL] = "2.0";
    refuses("ZE_AFFINITY_MASK: '2.0' is none of the 4 Intel GPUs");
    gpus[1].partition = gpus[3].partition = 0;  // the machine shows no tiles
    sources.visible[PM_GPU_INTEL] = "3.1";
    gives("3.1=3");
}

Test(granted, nothing_is_granted_without_a_variable, .init = start)
{
    gives("");
    static const char *const none[] = {"", "-1", "NoDevFiles", "none", "void"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
        sources.visible[PM_GPU_NVIDIA] = none[i];
        gives("");
    }
}

// Slurm sets all three variables where gres.conf does not name a vendor.
Test(granted, variables_of_absent_vendors_go_along, .init = start)
{
    sources.visible[PM_GPU_NVIDIA] = sources.visible[PM_GPU_AMD] = "0,1";
    sources.visible[PM_GPU_INTEL] = "7";
    cr_assert_eq(pm_granted_read(&m, &sources, &granted, error), 0);
    cr_assert_eq(granted.n, 2);
    cr_assert_eq(granted.gpus[0].vendors, 1u << PM_GPU_NVIDIA | 1u << PM_GPU_AMD);
    pm_granted_done(&granted);
}

Test(granted, tokens_count_where_the_machine_shows_no_gpu)
{
    m = (struct pm_machine){0};
    sources = (struct pm_granted_sources){.visible = {"0,5", "0,5", NULL}};
    cr_assert_eq(pm_granted_read(&m, &sources, &granted, error), 0);
    cr_assert_eq(granted.n, 2);
    cr_assert_eq(granted.gpus[1].gpu, PM_PLACE_NONE);
    cr_assert_str_eq(granted.gpus[1].token, "5");
    cr_assert_eq(granted.gpus[1].vendors, 1u << PM_GPU_NVIDIA | 1u << PM_GPU_AMD);
    pm_granted_done(&granted);
}

Test(granted, two_vendors_count_their_own, .init = start)
{
    add_gpu(PM_GPU_AMD, PM_PLACE_NONE, "");
    sources.visible[PM_GPU_NVIDIA] = sources.visible[PM_GPU_AMD] = "0,1";
    gives("0=0 1=1 0=4");
    sources.visible[PM_GPU_AMD] = "1";  // its only GPU, by its number on the node
    gives("0=0 1=1 1=4");
    sources.visible[PM_GPU_AMD] = "1,2";
    refuses("ROCR_VISIBLE_DEVICES: '1' is none of the 1 AMD GPUs");
}

Test(granted, a_token_that_repeats_is_one, .init = start)
{
    sources.visible[PM_GPU_NVIDIA] = "2,2,0";
    gives("2=2 0=0");
}

Test(granted, bad_lists_are_refused, .init = start)
{
    static const char *const bad[] = {"0,,1", ",0", "0,", "0 1", "0;1", "\xff", "0,\n",
                                      "MIG-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                      "aaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        sources.visible[PM_GPU_NVIDIA] = bad[i];
        refuses("is no list of GPUs");
    }
    char many[2 * 4097 + 1] = "";
    for (unsigned i = 0; i < 4097; i++)
        memcpy(many + 2 * i, "0,", 2);
    many[2 * 4097 - 1] = '\0';
    sources.visible[PM_GPU_NVIDIA] = many;
    refuses("is no list of GPUs");
    many[2 * 4096 - 1] = '\0';
    gives("0=0");
}
