// SPDX-License-Identifier: Apache-2.0
//
// See score.h: the parts of a score from tables of what each rank has.
#include "tests/topology/score.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const score_part_names[SCORE_PARTS] = {
    "enough", "near", "package", "cover", "gpu-balance", "used", "balance", "numa", "l3"};

static const double with_gpus[SCORE_PARTS] = {25, 10, 5, 15, 15, 10, 10, 5, 5};
static const double without_gpus[SCORE_PARTS] = {
    [SCORE_USED] = 33, [SCORE_BALANCE] = 33, [SCORE_NUMA] = 17, [SCORE_L3] = 17};

struct view {
    const struct score_case *c;
    const uint16_t *pus;
    const bool *uses;
    uint32_t *holders; // per unit
    uint32_t *users;   // per GPU
    uint32_t *marks;   // per NUMA node, L3 or package
};

static const uint16_t *row(const struct view *v, uint32_t rank)
{
    return &v->pus[(size_t)rank * v->c->n_units];
}

static const bool *gpus_of(const struct view *v, uint32_t rank)
{
    return &v->uses[(size_t)rank * v->c->n_gpus];
}

static double ratio(double least, double most)
{
    return most > 0 ? least / most : 0;
}

static double floor_by_ceil(uint32_t n, uint32_t parts)
{
    return (double)(n / parts) / ((n + parts - 1) / parts);
}

static double at_most_1(double value)
{
    return value < 1 ? value : 1;
}

static uint32_t size_of(const struct view *v, uint32_t rank)
{
    uint32_t n = 0;
    for (uint32_t u = 0; u < v->c->n_units; u++)
        n += row(v, rank)[u] > 0;
    return n;
}

// ---- near its GPUs ----

static bool near_any(const struct view *v, uint32_t rank, uint32_t unit)
{
    for (uint32_t g = 0; g < v->c->n_gpus; g++)
        if (gpus_of(v, rank)[g] && v->c->near[(size_t)g * v->c->n_units + unit])
            return true;
    return false;
}

// Near units held, by how many it could hope for: its fair share, or all near ones split evenly
// among those who want them (rivals[], per unit).
static double enough_of(const struct view *v, uint32_t rank, const uint32_t *rivals)
{
    double reach = 0;
    uint32_t held = 0, hope = v->c->n_units / v->c->n_ranks;
    for (uint32_t u = 0; u < v->c->n_units; u++)
        if (near_any(v, rank, u)) {
            reach += 1.0 / rivals[u];
            held += row(v, rank)[u] > 0;
        }
    if (reach == 0)
        return 1;
    hope = (uint32_t)(reach + 1e-9) < hope ? (uint32_t)(reach + 1e-9) : hope;
    return at_most_1((double)held / (hope ? hope : 1));
}

static double score_enough(const struct view *v)
{
    uint32_t *rivals = v->holders; // counted anew by whoever needs it next
    double sum = 0;
    memset(rivals, 0, v->c->n_units * sizeof(*rivals));
    for (uint32_t r = 0; r < v->c->n_ranks; r++)
        for (uint32_t u = 0; u < v->c->n_units; u++)
            rivals[u] += near_any(v, r, u);
    for (uint32_t r = 0; r < v->c->n_ranks; r++) {
        bool any = memchr(gpus_of(v, r), 1, v->c->n_gpus) != NULL;
        sum += any ? enough_of(v, r, rivals) : 0;
    }
    return sum / v->c->n_ranks;
}

// Mean over pairs of a rank and its GPU: the part of the rank's PUs that `table` has for the GPU.
static double score_pairs(const struct view *v, const bool *table)
{
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t r = 0; r < v->c->n_ranks; r++)
        for (uint32_t g = 0; g < v->c->n_gpus; g++) {
            uint32_t in = 0, all = 0;
            if (!gpus_of(v, r)[g])
                continue;
            for (uint32_t u = 0; u < v->c->n_units; u++) {
                all += row(v, r)[u];
                in += table[(size_t)g * v->c->n_units + u] ? row(v, r)[u] : 0;
            }
            sum += (double)in / all;
            n++;
        }
    return n ? sum / n : 0;
}

// ---- GPUs ----

static void least_and_most(const uint32_t *values, uint32_t n, uint32_t *ret_least,
                           uint32_t *ret_most)
{
    *ret_least = *ret_most = n ? values[0] : 0;
    for (uint32_t i = 1; i < n; i++) {
        *ret_least = values[i] < *ret_least ? values[i] : *ret_least;
        *ret_most = values[i] > *ret_most ? values[i] : *ret_most;
    }
}

static void score_gpus(const struct view *v, struct score *score)
{
    const struct score_case *c = v->c;
    uint32_t used = 0, pairs = 0, least, most, least_gpus = UINT32_MAX, most_gpus = 0;
    memset(v->users, 0, c->n_gpus * sizeof(*v->users));
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        uint32_t n = 0;
        for (uint32_t g = 0; g < c->n_gpus; g++) {
            n += gpus_of(v, r)[g];
            v->users[g] += gpus_of(v, r)[g];
        }
        least_gpus = n < least_gpus ? n : least_gpus;
        most_gpus = n > most_gpus ? n : most_gpus;
        pairs += n;
        score->ranks_without_gpu += n == 0;
    }
    for (uint32_t g = 0; g < c->n_gpus; g++)
        used += v->users[g] > 0;
    least_and_most(v->users, c->n_gpus, &least, &most);
    bool many_ranks = c->n_ranks >= c->n_gpus;
    double balance = many_ranks
                         ? ratio(least, most) / floor_by_ceil(c->n_ranks, c->n_gpus)
                         : ratio(least_gpus, most_gpus) / floor_by_ceil(c->n_gpus, c->n_ranks);
    double excess = (double)pairs / (many_ranks ? c->n_ranks : c->n_gpus);
    score->gpus_apart = many_ranks ? most - least : most_gpus - least_gpus;
    score->part[SCORE_COVER] = (double)used / c->n_gpus;
    score->part[SCORE_GPU_BALANCE] = at_most_1(balance) / (excess > 1 ? excess : 1);
}

// ---- cores ----

static void count_holders(const struct view *v)
{
    memset(v->holders, 0, v->c->n_units * sizeof(*v->holders));
    for (uint32_t r = 0; r < v->c->n_ranks; r++)
        for (uint32_t u = 0; u < v->c->n_units; u++)
            v->holders[u] += row(v, r)[u] > 0;
}

static void score_cores(const struct view *v, struct score *score)
{
    const struct score_case *c = v->c;
    double used = 0, all = 0, least = 0, most = 0;
    for (uint32_t u = 0; u < c->n_units; u++) {
        all += c->units[u].capacity;
        used += v->holders[u] ? c->units[u].capacity : 0;
    }
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        double share = 0;
        for (uint32_t u = 0; u < c->n_units; u++)
            share += row(v, r)[u] ? c->units[u].capacity / v->holders[u] : 0;
        least = r == 0 || share < least ? share : least;
        most = share > most ? share : most;
    }
    double ideal = c->n_ranks <= c->n_units ? floor_by_ceil(c->n_units, c->n_ranks)
                                            : floor_by_ceil(c->n_ranks, c->n_units);
    score->part[SCORE_USED] = used / all;
    score->part[SCORE_BALANCE] = at_most_1(ratio(least, most) / ideal);
}

static uint32_t kind_of(const struct view *v, uint32_t rank)
{
    uint32_t u = 0;
    while (row(v, rank)[u] == 0)
        u++;
    return v->c->units[u].kind;
}

// Where ranks share units: ranks of a unit that is used.
static uint32_t holders_apart(const struct view *v)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t u = 0; u < v->c->n_units; u++) {
        uint32_t n = v->holders[u];
        least = n && n < least ? n : least;
        most = n > most ? n : most;
    }
    return most - least;
}

// Among the ranks on cores of one kind.
static uint32_t apart_of_kind(const struct view *v, uint32_t kind)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t r = 0; r < v->c->n_ranks; r++) {
        uint32_t size = size_of(v, r);
        if (kind_of(v, r) != kind)
            continue;
        least = size < least ? size : least;
        most = size > most ? size : most;
    }
    return most > least ? most - least : 0;
}

static uint32_t cores_apart(const struct view *v)
{
    uint32_t apart = 0, kinds = 1;
    if (v->c->n_ranks > v->c->n_units)
        return holders_apart(v);
    for (uint32_t u = 0; u < v->c->n_units; u++)
        kinds = v->c->units[u].kind >= kinds ? v->c->units[u].kind + 1 : kinds;
    for (uint32_t kind = 0; kind < kinds; kind++) {
        uint32_t here = apart_of_kind(v, kind);
        apart = here > apart ? here : apart;
    }
    return apart;
}

static double score_numa(const struct view *v)
{
    double sum = 0;
    for (uint32_t r = 0; r < v->c->n_ranks; r++) {
        uint32_t spans = 0;
        memset(v->marks, 0, v->c->machine->n_numas * sizeof(*v->marks));
        for (uint32_t u = 0; u < v->c->n_units; u++)
            if (row(v, r)[u])
                spans += !v->marks[v->c->units[u].numa]++;
        sum += (double)v->c->fewest_numas[size_of(v, r)] / spans;
    }
    return sum / v->c->n_ranks;
}

// L3s with units of several ranks beyond those that equal shares cannot do without.
static double score_l3(const struct view *v)
{
    const struct score_case *c = v->c;
    enum { FREE = 0, SHARED = UINT32_MAX };
    uint32_t *owner = v->marks, shared = 0;
    if (c->n_l3s == 0)
        return 1;
    memset(owner, 0, c->machine->n_l3s * sizeof(*owner));
    for (uint32_t r = 0; r < c->n_ranks; r++)
        for (uint32_t u = 0; u < c->n_units; u++) {
            uint32_t l3 = c->units[u].l3;
            if (!row(v, r)[u] || l3 == PM_PLACE_NONE)
                continue;
            shared += owner[l3] != FREE && owner[l3] != SHARED && owner[l3] != r + 1;
            owner[l3] = owner[l3] == FREE || owner[l3] == r + 1 ? r + 1 : SHARED;
        }
    return shared <= c->l3_unavoidable ? 1 : 1 - (double)(shared - c->l3_unavoidable) / c->n_l3s;
}

static uint32_t count_mixed(const struct view *v)
{
    uint32_t mixed = 0;
    for (uint32_t r = 0; r < v->c->n_ranks && v->c->kinds_differ; r++) {
        uint32_t kind = PM_PLACE_NONE;
        bool several = false;
        for (uint32_t u = 0; u < v->c->n_units; u++)
            if (row(v, r)[u]) {
                several |= kind != PM_PLACE_NONE && kind != v->c->units[u].kind;
                kind = v->c->units[u].kind;
            }
        mixed += several;
    }
    return mixed;
}

static void check_gates(const struct view *v, struct score *score)
{
    for (uint32_t r = 0; r < v->c->n_ranks; r++)
        if (size_of(v, r) == 0)
            score->gate = "a rank without CPU";
    for (uint32_t u = 0; u < v->c->n_units; u++)
        score->split_cores += v->holders[u] > 1;
    if (score->split_cores && v->c->n_ranks <= v->c->n_cores && !score->gate)
        score->gate = "a core for several ranks";
}

static bool in_gpu_order(const struct view *v)
{
    uint32_t last = 0;
    for (uint32_t r = 0; r < v->c->n_ranks; r++) {
        const bool *uses = gpus_of(v, r), *first = memchr(uses, 1, v->c->n_gpus);
        if (first && (uint32_t)(first - uses) < last)
            return false;
        last = first ? (uint32_t)(first - uses) : last;
    }
    return true;
}

static double total(const struct score_case *c, const struct score *score)
{
    const double *weights = c->n_gpus ? with_gpus : without_gpus;
    double sum = 0;
    for (int i = 0; i < SCORE_PARTS; i++)
        sum += weights[i] * score->part[i];
    sum *= 1 - (double)score->ranks_without_gpu / c->n_ranks;
    return sum * (1 - (double)score->mixed_ranks / c->n_ranks);
}

void score_table(const struct score_case *c, const uint16_t *pus, const bool *uses,
                 uint32_t *scratch, struct score *ret_score)
{
    struct view v = {c, pus, uses, scratch, scratch + c->n_units, scratch + c->n_units + c->n_gpus};
    *ret_score = (struct score){.in_gpu_order = true};
    count_holders(&v);
    check_gates(&v, ret_score);
    if (ret_score->gate)
        return;
    score_cores(&v, ret_score);
    ret_score->cores_apart = cores_apart(&v);
    ret_score->part[SCORE_NUMA] = score_numa(&v);
    ret_score->part[SCORE_L3] = score_l3(&v);
    ret_score->mixed_ranks = count_mixed(&v);
    if (c->n_gpus) {
        score_gpus(&v, ret_score);
        ret_score->part[SCORE_ENOUGH] = score_enough(&v);
        ret_score->part[SCORE_NEAR] = score_pairs(&v, c->near);
        ret_score->part[SCORE_PACKAGE] = score_pairs(&v, c->package);
        ret_score->in_gpu_order = in_gpu_order(&v);
    }
    ret_score->total = total(c, ret_score);
}

// ---- a mapping as tables ----

static const char *fill_tables(const struct score_case *c, const struct score_rank *ranks,
                               uint16_t *pus, bool *uses)
{
    for (uint32_t r = 0; r < c->n_ranks; r++) {
        for (uint32_t pu = pm_set_next(&ranks[r].pus, 0); pu != UINT32_MAX;
             pu = pm_set_next(&ranks[r].pus, pu + 1)) {
            if (pu >= c->pus_end || c->unit_of_pu[pu] == PM_PLACE_NONE)
                return "a CPU that was not granted";
            pus[(size_t)r * c->n_units + c->unit_of_pu[pu]]++;
        }
        for (uint32_t i = 0; i < ranks[r].n_gpus; i++) {
            if (ranks[r].gpus[i] >= c->n_gpus)
                return "a GPU that was not granted";
            uses[(size_t)r * c->n_gpus + ranks[r].gpus[i]] = true;
        }
    }
    return NULL;
}

int score_mapping(const struct score_case *c, const struct score_rank *ranks,
                  struct score *ret_score)
{
    const struct pm_machine *m = c->machine;
    size_t n = c->n_ranks;
    uint16_t *pus = calloc(n * c->n_units, sizeof(*pus));
    bool *uses = calloc(n * c->n_gpus + 1, sizeof(*uses));
    uint32_t *scratch = calloc(
        (size_t)c->n_units + c->n_gpus + m->n_numas + m->n_l3s + m->n_packages, sizeof(*scratch));
    int rc = pus && uses && scratch ? 0 : -ENOMEM;
    if (rc == 0) {
        const char *gate = fill_tables(c, ranks, pus, uses);
        if (gate)
            *ret_score = (struct score){.gate = gate};
        else
            score_table(c, pus, uses, scratch, ret_score);
    }
    free(pus);
    free(uses);
    free(scratch);
    return rc;
}
