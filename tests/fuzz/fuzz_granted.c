// SPDX-License-Identifier: Apache-2.0
//
// Tokens of GPUs from the environment: lines of the input are CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES,
// ZE_AFFINITY_MASK and SLURM_STEP_GPUS on a node with GPUs of each vendor. What is granted exists, comes
// once, and its token is one of the list.
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "pmix_server/topology/granted.h"
#include "pmix_server/wire/options.h"

enum { LINES = 4, GPUS = 6 };

static struct pm_machine_gpu gpus[GPUS] = {
    {.vendor = PM_GPU_NVIDIA, .uuid = "GPU-a0000000", .runtime = PM_PLACE_NONE},
    {.vendor = PM_GPU_NVIDIA, .uuid = "GPU-a1000000", .runtime = PM_PLACE_NONE},
    {.vendor = PM_GPU_AMD, .runtime = 1},
    {.vendor = PM_GPU_AMD, .runtime = 0},
    {.vendor = PM_GPU_INTEL, .runtime = 0},
    {.vendor = PM_GPU_INTEL, .partition = 1, .runtime = PM_PLACE_NONE},
};

static void check(const struct pm_granted *granted, const struct pm_granted_sources *sources, uint32_t n_gpus)
{
    for (uint32_t i = 0; i < granted->n; i++) {
        const struct pm_granted_gpu *g = &granted->gpus[i];
        bool in_a_list = false;
        FUZZ_CHECK(g->gpu < n_gpus || g->gpu == PM_PLACE_NONE);
        FUZZ_CHECK(g->vendors && g->vendors < 1u << PM_GPU_VENDORS);
        for (unsigned v = 0; v < PM_GPU_VENDORS; v++)
            in_a_list |= (g->vendors & 1u << v) && strstr(sources->visible[v], g->token);
        FUZZ_CHECK(in_a_list);
        for (uint32_t j = 0; j < i; j++)
            FUZZ_CHECK(strcmp(granted->gpus[j].token, g->token) != 0 || granted->gpus[j].vendors != g->vendors);
    }
}

static void read_with(struct pm_granted_sources *sources, uint32_t n_gpus, const struct pm_set *admitted)
{
    static const uint32_t migs[] = {0, 1};
    struct pm_machine m = {.gpus = gpus, .n_gpus = n_gpus};
    struct pm_granted granted = {0};
    char error[PM_ERROR_CAP] = "";
    sources->admitted = admitted;
    sources->migs = migs;
    sources->n_migs = n_gpus ? 2 : 0;
    int rc = pm_granted_read(&m, sources, &granted, error);
    FUZZ_CHECK(rc == 0 || (rc == -EINVAL && error[0] && granted.n == 0));
    check(&granted, sources, n_gpus);
    pm_granted_done(&granted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pm_set admitted = {0};
    struct pm_granted_sources sources = {0};
    char *text = malloc(size + 1), *lines[LINES] = {NULL};
    FUZZ_CHECK(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    char *at = text;
    for (int i = 0; i < LINES && at; i++) {
        lines[i] = at;
        at = strchr(at, '\n');
        if (at)
            *at++ = '\0';
    }
    for (unsigned v = 0; v < PM_GPU_VENDORS; v++)
        sources.visible[v] = lines[v];
    sources.step_gpus = lines[PM_GPU_VENDORS];
    FUZZ_CHECK(pm_set_add(&admitted, 1) == 0 && pm_set_add(&admitted, 5) == 0);
    read_with(&sources, GPUS, NULL);
    read_with(&sources, GPUS, &admitted);
    read_with(&sources, 0, NULL);
    pm_set_done(&admitted);
    free(text);
    return 0;
}
