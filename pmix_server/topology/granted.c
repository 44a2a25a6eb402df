// SPDX-License-Identifier: Apache-2.0
//
// See granted.h.
#include "pmix_server/topology/granted.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pmix_server/topology/allowed.h"
#include "pmix_server/wire/options.h"

#define TOKENS_MAX 4096

static const char *const variables[PM_GPU_VENDORS] = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
                                                      "ZE_AFFINITY_MASK"};
static const char *const vendor_names[PM_GPU_VENDORS] = {"NVIDIA", "AMD", "Intel"};

// One variable while it is read.
struct reading {
    const struct pm_machine *machine;
    const struct pm_granted_sources *sources;
    enum pm_gpu_vendor vendor;
    struct pm_granted_gpu *tokens;
    uint32_t n;
    uint32_t *places;  // of the GPUs that its numbers count, in order; room for machine.n_gpus
    uint32_t n_places;
    uint32_t migs;     // MIG tokens so far
    bool by_rank;      // numbers are of the whole node, but the GPUs in `places` are the granted ones
    bool lenient;      // its value counts another vendor's GPUs, too
};

const char *pm_granted_variable(enum pm_gpu_vendor vendor)
{
    return variables[vendor];
}

// NVIDIA's runtime numbers equal GPUs by address, which is also what is left if no number is known.
static bool comes_first(const struct pm_machine *m, uint32_t a, uint32_t b, bool by_runtime)
{
    uint32_t x = m->gpus[a].runtime, y = m->gpus[b].runtime;
    return by_runtime && x != y ? x < y : a < b;
}

uint32_t pm_gpus_in_order(const struct pm_machine *machine, enum pm_gpu_vendor vendor,
                          const struct pm_set *admitted, uint32_t *ret_places)
{
    uint32_t n = 0;
    bool by_runtime = true;
    for (uint32_t i = 0; i < machine->n_gpus; i++) {
        if (machine->gpus[i].vendor != vendor || (admitted && !pm_set_has(admitted, i)))
            continue;
        by_runtime &= machine->gpus[i].runtime != PM_PLACE_NONE;
        ret_places[n++] = i;
    }
    for (uint32_t i = 1; i < n; i++) {
        uint32_t place = ret_places[i], at = i;
        for (; at > 0 && comes_first(machine, place, ret_places[at - 1], by_runtime); at--)
            ret_places[at] = ret_places[at - 1];
        ret_places[at] = place;
    }
    return n;
}

static bool means_none(const char *value)
{
    static const char *const words[] = {"", "-1", "NoDevFiles", "none", "void"};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcmp(value, words[i]) == 0)
            return true;
    }
    return false;
}

static bool is_number(const char *token)
{
    size_t len = strspn(token, "0123456789");
    return len > 0 && len < 7 && token[len] == '\0';
}

static int refuse(const struct reading *r, const char *token, char *error)
{
    snprintf(error, PM_ERROR_CAP, "%s: '%.64s' is none of the %u %s GPUs that this step can open",
             variables[r->vendor], token, r->n_places, vendor_names[r->vendor]);
    return -EINVAL;
}

static bool has_token(const struct reading *r, const char *token)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (strcmp(r->tokens[i].token, token) == 0)
            return true;
    }
    return false;
}

static int split(struct reading *r, const char *value, char *error)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:";
    size_t n = 1;
    for (const char *at = value; *at; at++)
        n += *at == ',';
    r->tokens = n <= TOKENS_MAX ? calloc(n, sizeof(*r->tokens)) : NULL;
    if (!r->tokens && n <= TOKENS_MAX)
        return -ENOMEM;
    for (const char *at = value; r->tokens; at++) {
        struct pm_granted_gpu token = {.gpu = PM_PLACE_NONE};
        size_t len = strcspn(at, ",");
        if (len == 0 || len >= sizeof(token.token) || strspn(at, letters) < len)
            break;
        memcpy(token.token, at, len);
        if (!has_token(r, token.token))
            r->tokens[r->n++] = token;
        at += len;
        if (!*at)
            return 0;
    }
    snprintf(error, PM_ERROR_CAP, "%s: '%.64s%s' is no list of GPUs (numbers or names, with commas)",
             variables[r->vendor], value, strlen(value) > 64 ? "..." : "");
    return -EINVAL;
}

// The only GPU of this vendor whose name begins like that, as CUDA reads it.
static uint32_t by_uuid(const struct reading *r, const char *text, size_t len)
{
    uint32_t found = PM_PLACE_NONE;
    for (uint32_t i = 0; i < r->machine->n_gpus; i++) {
        const struct pm_machine_gpu *gpu = &r->machine->gpus[i];
        if (gpu->vendor != r->vendor || strncasecmp(gpu->uuid, text, len) != 0 || len <= strlen("GPU-"))
            continue;
        if (found != PM_PLACE_NONE)
            return PM_PLACE_NONE;
        found = i;
    }
    return found;
}

// The GPU that a MIG device is a part of: older names say it, the newer ones are opaque.
static uint32_t by_mig(struct reading *r, const char *token, uint32_t n_mig_tokens)
{
    const char *parent = token + strlen("MIG-");
    uint32_t nth = r->migs++;
    if (strncasecmp(parent, "GPU-", 4) == 0)
        return by_uuid(r, parent, strcspn(parent, "/"));
    if (r->sources->n_migs == n_mig_tokens && r->sources->migs[nth] < r->machine->n_gpus)
        return r->sources->migs[nth];
    return r->n_places == 1 ? r->places[0] : PM_PLACE_NONE;
}

// "1.0": tile 0 of the second card. A card whose tiles the machine does not show is one GPU.
static uint32_t by_tile(const struct reading *r, const char *token)
{
    unsigned card = 0, tile = 0, at = UINT32_MAX;
    uint32_t found = PM_PLACE_NONE;
    char end;
    if (sscanf(token, "%6u.%6u%c", &card, &tile, &end) != 2)
        return PM_PLACE_NONE;
    for (uint32_t i = 0; i < r->n_places; i++) {
        uint32_t partition = r->machine->gpus[r->places[i]].partition;
        at += partition == 0;
        if (at == card && (partition == 0 || partition == tile))
            found = r->places[i];
    }
    return found;
}

static uint32_t by_number(const struct reading *r, const char *token)
{
    uint32_t number = (uint32_t)atoi(token), smaller = 0;
    for (uint32_t i = 0; i < r->n && r->by_rank; i++)
        smaller += (uint32_t)atoi(r->tokens[i].token) < number;
    if (r->by_rank)
        number = smaller;
    return number < r->n_places ? r->places[number] : PM_PLACE_NONE;
}

// What the numbers count. With as many GPUs as numbers, and a number beyond: numbers of the whole node.
// With numbers from 0 and other ones in SLURM_STEP_GPUS: these say which GPUs of the node are meant.
static int settle_numbers(struct reading *r)
{
    struct pm_set step = {0};
    bool from_zero = true, beyond = false;
    for (uint32_t i = 0; i < r->n; i++) {
        if (!is_number(r->tokens[i].token))
            return 0;
        from_zero &= (uint32_t)atoi(r->tokens[i].token) == i;
        beyond |= (uint32_t)atoi(r->tokens[i].token) >= r->n_places;
    }
    r->by_rank = beyond && r->n == r->n_places;
    const char *text = r->sources->step_gpus;
    if (!from_zero || r->n >= r->n_places || !text)
        return 0;
    int rc = pm_cpu_list_read(text, &step);
    uint32_t all = rc == 0 && pm_set_count(&step) == r->n
                       ? pm_gpus_in_order(r->machine, r->vendor, NULL, r->places) : 0;
    uint32_t at = pm_set_next(&step, 0);
    if (all && step.spans[step.n - 1].last < all) {
        for (r->n_places = 0; r->n_places < r->n; at = pm_set_next(&step, at + 1))
            r->places[r->n_places++] = r->places[at];  // at >= n_places: nothing is lost
    } else if (all) {
        r->n_places = pm_gpus_in_order(r->machine, r->vendor, r->sources->admitted, r->places);
    }
    pm_set_done(&step);
    return rc == -ENOMEM ? rc : 0;
}

static int resolve(struct reading *r, char *error)
{
    uint32_t n_migs = 0, kept = 0;
    for (uint32_t i = 0; i < r->n; i++)
        n_migs += strncasecmp(r->tokens[i].token, "MIG-", 4) == 0;
    for (uint32_t i = 0; i < r->n; i++) {
        struct pm_granted_gpu *token = &r->tokens[i];
        bool is_mig = strncasecmp(token->token, "MIG-", 4) == 0;
        token->gpu = is_mig                      ? by_mig(r, token->token, n_migs)
                     : is_number(token->token)   ? by_number(r, token->token)
                     : strchr(token->token, '.') ? by_tile(r, token->token)
                                                 : by_uuid(r, token->token, strlen(token->token));
        bool fits = token->gpu != PM_PLACE_NONE || is_mig || r->machine->n_gpus == 0;
        if (!fits && !r->lenient)
            return refuse(r, token->token, error);
        if (fits)
            r->tokens[kept++] = *token;
    }
    r->n = kept;
    return 0;
}

static bool has_vendor(const struct pm_machine *m, enum pm_gpu_vendor vendor)
{
    for (uint32_t i = 0; i < m->n_gpus; i++) {
        if (m->gpus[i].vendor == vendor)
            return true;
    }
    return false;
}

static bool same_value(const struct pm_granted_sources *s, enum pm_gpu_vendor a, enum pm_gpu_vendor b)
{
    return s->visible[a] && s->visible[b] && strcmp(s->visible[a], s->visible[b]) == 0;
}

static int append(struct reading *r, struct pm_granted *into)
{
    uint32_t vendors = 1u << r->vendor;
    for (unsigned v = 0; v < PM_GPU_VENDORS; v++) {
        if (same_value(r->sources, v, r->vendor) && !has_vendor(r->machine, v))
            vendors |= 1u << v;
    }
    struct pm_granted_gpu *gpus = realloc(into->gpus, (into->n + r->n + 1) * sizeof(*gpus));
    if (!gpus)
        return -ENOMEM;
    into->gpus = gpus;
    for (uint32_t i = 0; i < r->n; i++) {
        gpus[into->n] = r->tokens[i];
        gpus[into->n++].vendors = vendors;
    }
    return 0;
}

static int read_variable(struct reading *r, struct pm_granted *into, char *error)
{
    r->places = calloc(r->machine->n_gpus + 1, sizeof(*r->places));
    if (!r->places)
        return -ENOMEM;
    r->n_places = pm_gpus_in_order(r->machine, r->vendor, r->sources->admitted, r->places);
    int rc = split(r, r->sources->visible[r->vendor], error);
    if (rc == 0)
        rc = settle_numbers(r);
    if (rc == 0)
        rc = resolve(r, error);
    if (rc == 0)
        rc = append(r, into);
    free(r->places);
    free(r->tokens);
    return rc;
}

// Slurm may set the variables of all vendors; those of GPUs that are not here are read only where the
// machine shows no GPU at all, and then once.
static bool is_for_nobody(const struct pm_machine *m, const struct pm_granted_sources *s, enum pm_gpu_vendor vendor)
{
    bool repeats = false;
    for (unsigned v = 0; v < vendor; v++)
        repeats |= same_value(s, v, vendor);
    return !s->visible[vendor] || means_none(s->visible[vendor]) ||
           (m->n_gpus > 0 ? !has_vendor(m, vendor) : repeats);
}

int pm_granted_read(const struct pm_machine *machine, const struct pm_granted_sources *sources,
                    struct pm_granted *ret_granted, char *error)
{
    struct pm_granted granted = {0};
    int rc = 0;
    for (unsigned v = 0; v < PM_GPU_VENDORS && rc == 0; v++) {
        struct reading r = {.machine = machine, .sources = sources, .vendor = v};
        for (unsigned other = 0; other < PM_GPU_VENDORS; other++)
            r.lenient |= other != v && same_value(sources, v, other) && has_vendor(machine, other);
        if (!is_for_nobody(machine, sources, v))
            rc = read_variable(&r, &granted, error);
    }
    if (rc == -ENOMEM)
        snprintf(error, PM_ERROR_CAP, "no memory for the list of GPUs");
    if (rc < 0)
        pm_granted_done(&granted);
    else
        *ret_granted = granted;
    return rc;
}

void pm_granted_done(struct pm_granted *granted)
{
    free(granted->gpus);
    *granted = (struct pm_granted){0};
}
