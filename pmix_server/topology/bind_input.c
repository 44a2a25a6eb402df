// SPDX-License-Identifier: Apache-2.0
//
// What pm-bind works on (pm_bind.h): a file and what the user says was granted of it, or this host and
// what this process may use, inside a Slurm step just what pm-agent would see.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/topology/allowed.h"
#include "pmix_server/topology/picture.h"
#include "pmix_server/topology/pm_bind.h"

#define LIMIT_MS 60000  // GPUs that sleep take seconds to open

static int read_environment(const struct pm_picture *picture, struct pm_granted *ret_granted, char *error)
{
    struct pm_granted_sources sources = {.step_gpus = getenv("SLURM_STEP_GPUS"), .admitted = &picture->admitted,
                                         .migs = picture->migs, .n_migs = picture->n_migs};
    bool any = false;
    for (unsigned v = 0; v < PM_GPU_VENDORS; v++) {
        sources.visible[v] = getenv(pm_granted_variable(v));
        any |= sources.visible[v] != NULL;
    }
    return any ? pm_granted_read(&picture->machine, &sources, ret_granted, error)
               : pm_bind_gpus_read(&picture->machine, NULL, ret_granted, error);
}

static int read_machine(const struct pm_bind_asked *asked, struct pm_bind_input *input, char *error)
{
    struct pm_picture picture;
    pm_picture_in_child(asked->topology ? pm_picture_take_xml : pm_picture_take,
                        asked->topology ? asked->topology : "", LIMIT_MS, &picture);
    int rc = picture.error[0] ? -EINVAL : 0;
    if (rc < 0)
        memcpy(error, picture.error, PM_ERROR_CAP);
    if (rc == 0 && !asked->gpus && !asked->topology)
        rc = read_environment(&picture, &input->granted, error);
    if (rc == 0)
        rc = pm_set_copy(&input->allowed, &picture.affinity);
    input->machine = picture.machine;
    picture.machine = (struct pm_machine){0};
    pm_picture_done(&picture);
    return rc;
}

static int read_cpus(const char *list, struct pm_bind_input *input, char *error)
{
    struct pm_set outside = {0};
    char has[128], not[128];
    int rc = pm_cpu_list_read(list, &input->allowed);
    if (rc == -EINVAL)
        snprintf(error, PM_ERROR_CAP, "--cpus=%.128s: it is a list of numbers, as 0-15,32", list);
    if (rc == 0)
        rc = pm_set_copy(&outside, &input->allowed);
    if (rc == 0)
        rc = pm_set_subtract(&outside, &input->machine.pus);
    if (rc == 0 && !pm_set_empty(&outside)) {
        snprintf(error, PM_ERROR_CAP, "--cpus=%.128s: the machine has the CPUs %s, and not %s", list,
                 pm_set_format(&input->machine.pus, has, sizeof(has)), pm_set_format(&outside, not, sizeof(not)));
        rc = -EINVAL;
    }
    pm_set_done(&outside);
    return rc;
}

int pm_bind_input_read(const struct pm_bind_asked *asked, struct pm_bind_input *ret_input, char *error)
{
    struct pm_bind_input *in = ret_input;
    int rc = read_machine(asked, in, error);
    if (rc == 0 && asked->cpus)
        rc = read_cpus(asked->cpus, in, error);
    if (rc == 0 && (asked->gpus || asked->topology))
        rc = pm_bind_gpus_read(&in->machine, asked->gpus, &in->granted, error);
    if (rc < 0)
        return rc;
    in->gpus = calloc(in->granted.n + 1, sizeof(*in->gpus));
    for (uint32_t i = 0; in->gpus && i < in->granted.n; i++)
        in->gpus[i] = in->granted.gpus[i].gpu;
    return in->gpus ? 0 : -ENOMEM;
}

void pm_bind_input_done(struct pm_bind_input *input)
{
    pm_machine_done(&input->machine);
    pm_set_done(&input->allowed);
    pm_granted_done(&input->granted);
    free(input->gpus);
    *input = (struct pm_bind_input){0};
}
