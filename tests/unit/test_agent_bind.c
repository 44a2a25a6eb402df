// SPDX-License-Identifier: Apache-2.0
//
// What an agent makes of a node, of what Slurm gave its tasks and of what users set themselves: the CPUs, the memory
// policy and the variables of each rank, and when it changes nothing. The node is a fixture, as pm-discover would
// have found it; the agent's other files are stood in for. The real thing is in tests/integration/cases/bind.sh.
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/agent_bind.h"
#include "pmix_server/topology/allowed.h"

enum { N_LOCAL = 3 };

static struct shim shims[N_LOCAL];
static struct agent agent;
static struct pm_world world = {.map_version = 1};
static uint32_t ranks[N_LOCAL];  // of each task
static char said[1024], report[4096], logged[512];
static unsigned n_reports;

// --- the agent's other files -------------------------------------------------------------------------

const struct pm_world *pm_core_world(const struct pm_core *core) { return &world; }
uint32_t pm_core_rank_of(const struct pm_core *core, uint32_t local) { return ranks[local]; }
int pm_bind_picture_open(struct agent *a) { return 0; }
void pm_bind_picture_done(struct agent *a) { pm_picture_done(&a->bind->picture); }
void pm_agent_log(struct agent *a, const struct pm_log *record)
{
    snprintf(logged, sizeof(logged), "%s %u.%u.%u: %s", record->kind, record->epoch, record->rank, record->incarnation,
             record->reason);
}

void pm_agent_say(struct agent *a, const char *format, ...)
{
    size_t len = strlen(said);
    va_list args;
    va_start(args, format);
    vsnprintf(said + len, sizeof(said) - len, format, args);
    va_end(args);
}

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    cr_assert_eq(event->type, PM_EVENT_BOUND);
    snprintf(report, sizeof(report), "%s", event->text);
    n_reports++;
}

// --- a node ----------------------------------------------------------------------------------------------

// What a shim says at the end of HELLO.
static void give(uint32_t local, const char *cpus, const char *const *env)
{
    struct pm_set set = {0};
    struct pm_place place = {0};
    struct pm_writer w = {0};
    uint32_t n = 0;
    cr_assert_eq(pm_cpu_list_read(cpus, &set), 0);
    for (uint32_t cpu = pm_set_next(&set, 0); cpu != UINT32_MAX; cpu = pm_set_next(&set, cpu + 1))
        place.cpus[cpu / 8] |= (uint8_t)(1u << cpu % 8);
    pm_write_bytes(&w, place.cpus, pm_place_length(place.cpus, sizeof(place.cpus)));
    while (env[n])
        n++;
    pm_write_var(&w, n);
    for (uint32_t i = 0; i < n; i++)
        pm_write_str(&w, env[i]);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_bind_facts_read(&shims[local], &r);
    cr_assert_eq(pm_reader_end(&r), 0);
    pm_set_done(&set);
    pm_writer_done(&w);
}

static void give_all(const char *cpus, const char *const *env)
{
    for (uint32_t i = 0; i < N_LOCAL; i++)
        give(i, cpus, env);
}

// 8 cores of 2 threads on 4 NUMA nodes, 3 NVIDIA GPUs.
static void node(const char *options, const char *step_cpus)
{
    static struct pm_picture picture;
    agent = (struct agent){.shims = shims, .config.n_local = N_LOCAL};
    strcpy(agent.config.options.bind, options);
    strcpy(agent.config.options.bind_report, "-");
    for (uint32_t i = 0; i < N_LOCAL; i++) {
        shims[i] = (struct shim){.agent = &agent, .local = i, .start.rank = 10 + i};
        ranks[i] = 10 + i;
    }
    cr_assert_eq(pm_bind_open(&agent), 0);
    pm_picture_take_xml(PM_FIXTURES "/gpu-node.xml", &picture);
    cr_assert_str_eq(picture.error, "");
    cr_assert_eq(pm_cpu_list_read(step_cpus, &picture.affinity), 0);
    for (uint32_t i = 0; i < picture.machine.n_gpus; i++)
        cr_assert_eq(pm_set_add(&picture.admitted, i), 0);
    agent.bind->picture = picture;
}

static void finish(void)
{
    for (uint32_t i = 0; i < N_LOCAL; i++)
        pm_bind_facts_done(&shims[i]);
    pm_bind_done(&agent);
}

static const char *cpus_of(uint32_t local)
{
    uint16_t package_rank;
    return pm_bind_cpus(&agent, local, &package_rank);
}

static void cpus_are(uint32_t local, const char *cpus)
{
    const char *got = cpus_of(local);
    cr_assert(cpus ? got && strcmp(got, cpus) == 0 : !got, "task %u: %s; %s", local, got, report);
}

// Whole entry, or NULL for "no entry of this name".
static void has(uint32_t local, const char *name, const char *entry)
{
    uint32_t n;
    char *const *env = pm_bind_env(&agent, local, &n);
    const char *found = NULL;
    for (uint32_t i = 0; i < n; i++)
        if (strncmp(env[i] + (env[i][0] == '?'), name, strlen(name)) == 0)
            found = env[i];
    cr_assert(entry ? found && strcmp(found, entry) == 0 : !found, "task %u, %s: %s", local, name, found);
}

static struct pm_place place_of(uint32_t local)
{
    struct pm_writer w = {0};
    struct pm_place place;
    pm_bind_write_place(&agent, local, &w);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    pm_read_place(&r, &place);
    cr_assert_eq(pm_reader_end(&r), 0);
    pm_writer_done(&w);
    return place;
}

static const char *const plain[] = {"SLURM_CPUS_ON_NODE=16", NULL};
static const char *const three_gpus[] = {"SLURM_CPUS_ON_NODE=16", "CUDA_VISIBLE_DEVICES=0,1,2", "ROCR_VISIBLE_DEVICES=0,1,2",
                                         "ZE_AFFINITY_MASK=0,1,2", "SLURM_STEP_GPUS=0,1,2", NULL};

TestSuite(agent_bind, .fini = finish, .timeout = 30);

// --- CPUs ------------------------------------------------------------------------------------------------

Test(agent_bind, ranks_share_the_steps_cpuset_whatever_their_tasks_were_bound_to)
{
    node("auto", "0-2,8-10");
    give_all("0", plain);
    cpus_are(0, "0,8");
    cpus_are(1, "1,9");
    cpus_are(2, "2,10");
    struct pm_place place = place_of(2);
    cr_assert(place.cpu_bytes == 2 && place.cpus[0] == 4 && place.cpus[1] == 4);
    cr_assert(place.memory == PM_PLACE_PREFER && place.node_bytes == 1 && place.nodes[0] == 2, "node 1");
    has(0, "OMP_NUM_THREADS", "OMP_NUM_THREADS=1");
    cr_assert_str_eq(said, "");
}

Test(agent_bind, without_a_cpuset_the_tasks_own_masks_are_the_limit)
{
    node("auto", "0-15");
    give(0, "4,12", plain);
    give(1, "5", plain);
    give(2, "6,14", plain);
    cpus_are(0, "4,12");
    cpus_are(1, "5");
    cpus_are(2, "6,14");
}

Test(agent_bind, a_step_that_nothing_confines_and_that_shares_its_node_is_left_alone)
{
    node("auto", "0-15");
    give_all("0-15", (const char *[]){"SLURM_CPUS_ON_NODE=6", NULL});
    cpus_are(0, NULL);
    cr_assert(place_of(0).cpu_bytes == 0 && place_of(0).memory == PM_PLACE_KEEP);
    has(0, "OMP_NUM_THREADS", NULL);
    cr_assert_str_eq(said, "");
    cr_assert(strstr(report, "ranks are not bound: nothing confines the step"), "%s", report);
}

Test(agent_bind, a_step_that_owns_its_node_has_all_of_it)
{
    node("auto", "0-15");
    give_all("0-15", plain);
    cr_assert_not_null(cpus_of(0));
    cr_assert(strstr(report, "(8 of 8 used)"), "%s", report);
}

// What is told of the step, and how many CPUs and threads each of its three ranks gets.
static void rank_gets(const char *options, const char *per_task, const char *cpus, const char *threads)
{
    struct pm_set set = {0};
    node(options, "0-15");
    give_all("0-15", (const char *[]){"SLURM_CPUS_ON_NODE=16", per_task, NULL});
    cr_assert_eq(pm_cpu_list_read(cpus_of(0), &set), 0);
    char count[16];
    snprintf(count, sizeof(count), "%u", (unsigned)pm_set_count(&set));
    cr_assert_str_eq(count, cpus, "%s, %s: CPUs %s", options, per_task, cpus_of(0));
    has(0, "OMP_NUM_THREADS", threads);
    pm_set_done(&set);
    finish();
}

Test(agent_bind, cpus_per_task_is_what_a_rank_gets_if_there_are_so_many)
{
    rank_gets("auto", "SLURM_CPUS_PER_TASK=2", "2", "OMP_NUM_THREADS=2");
    rank_gets("auto", "SLURM_CPUS_PER_TASK=4", "4", "OMP_NUM_THREADS=4");
    rank_gets("auto", "SLURM_CPUS_PER_TASK=3", "4", "OMP_NUM_THREADS=3");  // whole cores
    rank_gets("cpus=2", "SLURM_CPUS_PER_TASK=4", "2", "OMP_NUM_THREADS=2");
    rank_gets("auto", "SLURM_CPUS_PER_TASK=99", "6", "OMP_NUM_THREADS=3");  // a job's, not this step's
    rank_gets("auto", "SLURM_CPUS_PER_TASK=rubbish", "6", "OMP_NUM_THREADS=3");
    rank_gets("auto", "SLURM_CPUS_PER_TASK=18446744073709551615", "6", "OMP_NUM_THREADS=3");
    node("auto", "0-15");  // for .fini
}

Test(agent_bind, cpus_and_memory_that_the_user_has_bound_stay)
{
    node("auto,memory=bind,keep-cpus,keep-memory", "0-15");
    agent.config.has_gpus = 1;
    agent.bind->is_off = false;  // the GPUs came after pm_bind_open()
    agent.bind->why[0] = '\0';
    give(0, "0", three_gpus);
    give(1, "1", three_gpus);
    give(2, "2", three_gpus);
    cpus_are(0, NULL);
    cr_assert(place_of(0).cpu_bytes == 0 && place_of(0).memory == PM_PLACE_KEEP);
    has(0, "OMP_NUM_THREADS", NULL);
    uint32_t n;
    (void)pm_bind_env(&agent, 2, &n);
    cr_assert_gt(n, 0, "its GPU is dealt out all the same");
}

Test(agent_bind, kept_cpus_without_gpus_need_no_look_at_the_node)
{
    node("auto,keep-cpus", "0-15");
    cr_assert(agent.bind->is_off);
    give_all("0-3", plain);
    cpus_are(0, NULL);
    cr_assert_str_eq(said, "");
}

static void package_rank_is(uint32_t local, uint16_t expected)
{
    uint16_t package_rank;
    cr_assert_not_null(pm_bind_cpus(&agent, local, &package_rank));
    cr_assert_eq(package_rank, expected, "task %u: %u", local, package_rank);
}

Test(agent_bind, ranks_are_counted_on_each_package)
{
    node("auto", "2-4,10-12");  // two cores of package 0, one of package 1
    give_all("2-4,10-12", plain);
    package_rank_is(0, 0);
    package_rank_is(1, 1);
    package_rank_is(2, 0);
}

// --- variables ---------------------------------------------------------------------------------------------

Test(agent_bind, tokens_of_the_step_are_dealt_out)
{
    node("auto", "0-15");
    give_all("0-15", three_gpus);
    has(0, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=0");
    has(1, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=1");
    has(2, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=2");
}

// HIP counts what ROCR_VISIBLE_DEVICES has left.
Test(agent_bind, amds_gpus_are_counted_anew_in_cuda_visible_devices)
{
    node("auto", "0-15");
    for (uint32_t i = 0; i < agent.bind->picture.machine.n_gpus; i++)
        agent.bind->picture.machine.gpus[i].vendor = PM_GPU_AMD;
    give_all("0-15", three_gpus);
    has(2, "ROCR_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES=2");
    has(2, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=0");
}

Test(agent_bind, gpus_that_slurm_gave_each_task_stay)
{
    node("auto", "0-15");
    give(0, "0-15", (const char *[]){"CUDA_VISIBLE_DEVICES=2", "SLURM_STEP_GPUS=2", NULL});
    give(1, "0-15", (const char *[]){"CUDA_VISIBLE_DEVICES=0", "SLURM_STEP_GPUS=0", NULL});
    give(2, "0-15", (const char *[]){"CUDA_VISIBLE_DEVICES=0,1", "SLURM_STEP_GPUS=0,1", NULL});
    cr_assert_not_null(cpus_of(0));
    for (uint32_t i = 0; i < N_LOCAL; i++)
        has(i, "CUDA_VISIBLE_DEVICES", NULL);
    cr_assert(strstr(report, "gpu 0@"), "%s", report);
}

// A device cgroup for each task (--gpus-per-task): Slurm counts the GPUs of each from 0, so that all have the same number.
Test(agent_bind, row29_gpus_that_are_all_called_0_are_told_apart_by_their_files)
{
    static const uint32_t minors[N_LOCAL] = {7, 3, 130};
    struct pm_set cpus = {0};
    node("auto", "0-15");
    struct pm_machine *m = &agent.bind->picture.machine;
    for (uint32_t i = 0; i < N_LOCAL; i++)
        m->gpus[i].minor = minors[i];
    cr_assert_eq(pm_set_remove(&agent.bind->picture.admitted, 0) + pm_set_remove(&agent.bind->picture.admitted, 1), 0);
    give(0, "0-15", (const char *[]){"/dev=nvidia130,renderD3", "CUDA_VISIBLE_DEVICES=0", "SLURM_STEP_GPUS=0", NULL});
    give(1, "0-15", (const char *[]){"/dev=renderD7,nvidia3", "CUDA_VISIBLE_DEVICES=0", "SLURM_STEP_GPUS=0", NULL});
    give(2, "0-15", (const char *[]){"/dev=nvidia7", "CUDA_VISIBLE_DEVICES=0", "SLURM_STEP_GPUS=0", NULL});
    for (uint32_t i = 0; i < N_LOCAL; i++) {
        has(i, "CUDA_VISIBLE_DEVICES", NULL);
        cr_assert_eq(pm_cpu_list_read(cpus_of(i), &cpus), 0);
        const struct pm_set *near = &m->gpus[N_LOCAL - 1 - i].near;  // empty for the first GPU
        cr_assert(i == 2 || pm_set_intersects(&cpus, near), "task %u is beside its own: %s", i, report);
    }
    pm_set_done(&cpus);
    cr_assert(strstr(report, "gpu 0@36:00.0") && strstr(report, "gpu 0@23:00.0") && strstr(report, "gpu 0@05:00.0"), "%s",
              report);
    cr_assert(!strstr(report, "gpu-shared"), "%s", report);
}

// Files that are not of the machine's GPUs, or none at all: then all that the agent may open counts.
Test(agent_bind, files_that_fit_no_gpu_are_no_matter)
{
    node("auto", "0-15");
    for (uint32_t i = 0; i < N_LOCAL; i++)
        agent.bind->picture.machine.gpus[i].minor = i;
    static const char *const files[N_LOCAL] = {"/dev=", "/dev=nvidia9", "/dev=nvidia,nvidia00,nvidia01,renderD0"};
    for (uint32_t i = 0; i < N_LOCAL; i++)
        give(i, "0-15", (const char *[]){"CUDA_VISIBLE_DEVICES=0,1,2", "SLURM_STEP_GPUS=0,1,2", files[i], NULL});
    has(0, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=0");
    has(2, "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=2");
}

// --gpu-bind with the same for all: not ours to deal out.
Test(agent_bind, gpus_that_were_bound_stay_if_all_tasks_have_the_same)
{
    static const char *const bound[] = {"CUDA_VISIBLE_DEVICES=0,1,2", "SLURM_STEP_GPUS=0,1,2",
                                        "SLURMD_TRES_BIND=gpu:mask_gpu:7,7,7", NULL};
    node("auto", "0-15");
    give_all("0-15", bound);
    cr_assert_not_null(cpus_of(0));
    for (uint32_t i = 0; i < N_LOCAL; i++)
        has(i, "CUDA_VISIBLE_DEVICES", NULL);
}

Test(agent_bind, a_users_own_list_of_gpus_stays_also_if_it_makes_no_sense)
{
    node("auto", "0-15");
    give_all("0-15", (const char *[]){"CUDA_VISIBLE_DEVICES=9", NULL});
    cr_assert_not_null(cpus_of(0));
    has(0, "CUDA_VISIBLE_DEVICES", NULL);
    cr_assert_str_eq(said, "");
}

Test(agent_bind, tokens_that_fit_no_gpu_are_a_line_and_change_nothing)
{
    node("auto", "0-15");
    give_all("0-15", (const char *[]){"CUDA_VISIBLE_DEVICES=9", "SLURM_STEP_GPUS=9", NULL});
    cpus_are(0, NULL);
    cpus_are(1, NULL);
    world.map_version = 2;  // and once only
    cpus_are(0, NULL);
    cr_assert_str_eq(said, "ranks are not bound: CUDA_VISIBLE_DEVICES: '9' is none of the 3 NVIDIA GPUs that this step can open");
}

Test(agent_bind, cpus_that_the_topology_does_not_show_are_a_line_and_change_nothing)
{
    node("auto", "0-3,90-99");
    give_all("0-3", plain);
    cpus_are(0, NULL);
    cpus_are(2, NULL);
    cr_assert_str_eq(said, "ranks are not bound: CPUs 0-3,90-99 were granted, but the topology shows 0-15: is it of "
                           "another machine?");
}

Test(agent_bind, openmp_of_the_user_stays_and_that_of_an_outer_step_does_not)
{
    node("auto", "0-15");
    give(0, "0-15", (const char *[]){"OMP_PROC_BIND=true", NULL});
    give(1, "0-15", (const char *[]){"KMP_AFFINITY=compact", NULL});
    give(2, "0-15", (const char *[]){"OMP_NUM_THREADS=7", "PM_EPOCH=0", NULL});
    has(0, "OMP_NUM_THREADS", NULL);
    has(1, "OMP_NUM_THREADS", NULL);
    has(2, "OMP_NUM_THREADS", "OMP_NUM_THREADS=2");
}

// Nothing else of OpenMP is ever set: doc/pinning.md says why.
Test(agent_bind, any_openmp_variable_of_the_users_is_a_reason_to_set_none)
{
    static const char *const own[] = {"OMP_NUM_THREADS=5", "OMP_PLACES=sockets", "OMP_DYNAMIC=true", "GOMP_CPU_AFFINITY=0-3",
                                      "GOMP_SPINCOUNT=0", "KMP_HW_SUBSET=1t", "KMP_BLOCKTIME=0"};
    for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++) {
        node("auto", "0-15");
        give_all("0-15", (const char *[]){own[i], NULL});
        cr_assert_not_null(cpus_of(0), "%s: CPUs are bound all the same", own[i]);
        for (uint32_t k = 0; k < N_LOCAL; k++) {
            has(k, "OMP_", NULL);
            has(k, "GOMP_", NULL);
            has(k, "KMP_", NULL);
        }
        finish();
    }
    node("auto", "0-15");
    give_all("0-15", plain);
    has(0, "OMP_PLACES", NULL);
    has(0, "OMP_PROC_BIND", NULL);
}

Test(agent_bind, the_nearest_nic_is_a_suggestion)
{
    node("auto", "0-15");
    give_all("0-15", three_gpus);
    const struct pm_machine *m = &agent.bind->picture.machine;
    uint32_t n, nics = 0;
    for (uint32_t i = 0; i < m->n_nics; i++)
        strcpy(m->nics[i].name, "mlx5_7");
    for (uint32_t i = 0; i < N_LOCAL; i++) {
        char *const *env = pm_bind_env(&agent, i, &n);
        for (uint32_t k = 0; k < n; k++)
            nics += !strcmp(env[k], "?UCX_NET_DEVICES=mlx5_7:1") + !strcmp(env[k], "?NCCL_IB_HCA=mlx5_7");
    }
    cr_assert(nics >= 2, "%u; %s", nics, report);
}

// --- who has ranks --------------------------------------------------------------------------------------------

Test(agent_bind, other_ranks_are_mapped_again_and_equal_reports_are_made_once)
{
    node("auto", "0-2,8-10");
    ranks[2] = PM_RANK_NONE;
    give_all("0-2,8-10", plain);
    cr_assert_not_null(cpus_of(0));
    cpus_are(2, NULL);
    world.map_version++;
    ranks[0] = 77;  // after those of the others now
    (void)cpus_of(0);
    cr_assert_eq(n_reports, 1, "the k-th rank has what the k-th rank had");
    world.map_version++;
    ranks[2] = 5;
    cpus_are(2, "0,8");
    cpus_are(1, "1,9");
    cpus_are(0, "2,10");
    cr_assert_eq(n_reports, 2);
}

Test(agent_bind, a_spare_says_nothing_and_binds_nobody)
{
    node("auto", "0-15");
    ranks[0] = ranks[1] = ranks[2] = PM_RANK_NONE;
    give_all("0-15", plain);
    cpus_are(0, NULL);
    cr_assert_str_eq(said, "");
    cr_assert_eq(n_reports, 0);
}

// --- what goes wrong -----------------------------------------------------------------------------------------

Test(agent_bind, a_node_that_could_not_be_looked_at_is_a_line)
{
    node("auto", "0-15");
    pm_picture_done(&agent.bind->picture);
    strcpy(agent.bind->why, "pm-discover ended without an answer");
    give_all("0-15", plain);
    cpus_are(0, NULL);
    cr_assert_str_eq(said, "ranks are not bound: pm-discover ended without an answer");
}

Test(agent_bind, a_rank_that_runs_elsewhere_is_logged_each_time_and_said_once)
{
    node("auto", "0-2,8-10");
    give_all("0-2,8-10", plain);
    cpus_are(1, "1,9");
    for (uint32_t i = 0; i < 2; i++) {
        struct pm_writer w = {0};
        pm_write_u32(&w, 4);
        pm_write_u32(&w, 6);
        pm_write_u8(&w, 0);
        pm_write_i32(&w, 0);
        pm_write_place(&w, &(struct pm_place){.cpu_bytes = 1, .cpus = {3}});
        struct pm_reader r = pm_reader_of(w.data, w.len);
        pm_bind_on_unbound(&shims[1], &r);
        cr_assert_eq(pm_reader_end(&r), 0);
        cr_assert_str_eq(logged, "bind-mismatch 4.11.6: rank 11 was to have CPUs 1,9 and has CPUs 0-1");
        logged[0] = '\0';
        pm_writer_done(&w);
    }
    cr_assert_str_eq(said, "rank 11 was to have CPUs 1,9 and has CPUs 0-1");
}
