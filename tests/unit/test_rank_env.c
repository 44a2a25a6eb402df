// SPDX-License-Identifier: Apache-2.0
//
// What a rank finds in its environment, first start and restart.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/rank_env.h"
#include "pmix_server/wire/shim_proto.h"

struct list {
    uint32_t n;
    char *entries[PM_SHIM_ENV_MAX];
};

static struct pm_rank_env sample(void)
{
    return (struct pm_rank_env){.job = 42, .step = 3, .rank = 5, .nranks = 8, .local_rank = 1,
                                .local_size = 2, .node_rank = 2, .max_restarts = 7,
                                .master_host = "node001", .master_port = 40001, .cause = "",
                                .restart_rank = UINT32_MAX};
}

static struct list environment(const struct pm_rank_env *e)
{
    struct pm_writer w = {0};
    struct list list = {0};
    pm_write_rank_env(&w, e);
    cr_assert_eq(w.error, 0);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    list.n = pm_read_u32(&r);
    for (uint32_t i = 0; i < list.n; i++)
        list.entries[i] = pm_read_strdup(&r, 4096);
    cr_assert_eq(pm_reader_end(&r), 0);
    pm_writer_done(&w);
    return list;
}

static void list_done(struct list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        free(list->entries[i]);
}

static const char *value_of(const struct list *list, const char *name)
{
    const char *value = NULL;
    size_t len = strlen(name);
    for (uint32_t i = 0; i < list->n; i++) {
        if (!strncmp(list->entries[i], name, len) && list->entries[i][len] == '=')
            value = list->entries[i] + len + 1;
    }
    return value;
}

Test(rank_env, a_first_life_knows_its_place, .timeout = 10)
{
    static const char *const wanted[][2] = {
        {"RANK", "5"},           {"WORLD_SIZE", "8"},     {"LOCAL_RANK", "1"},
        {"LOCAL_WORLD_SIZE", "2"}, {"GROUP_RANK", "2"},   {"NODE_RANK", "2"},
        {"TORCHELASTIC_RESTART_COUNT", "0"}, {"TORCHELASTIC_MAX_RESTARTS", "7"},
        {"PM_EPOCH", "0"},       {"PM_INCARNATION", "0"}, {"PM_MAX_RESTARTS", "7"},
    };
    struct pm_rank_env e = sample();
    struct list list = environment(&e);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
        cr_assert_str_eq(value_of(&list, wanted[i][0]), wanted[i][1], "%s", wanted[i][0]);
    cr_assert_null(value_of(&list, "PM_RESTART_CAUSE"));
    cr_assert_null(value_of(&list, "PM_RESTART_RANK"));
    list_done(&list);
}

Test(rank_env, slurms_variables_are_written_only_for_a_world_of_its_own, .timeout = 10)
{
    static const char *const wanted[][2] = {
        {"SLURM_PROCID", "5"},         {"SLURM_LOCALID", "1"},        {"SLURM_NODEID", "2"},
        {"SLURM_NTASKS", "8"},         {"SLURM_NPROCS", "8"},         {"SLURM_NNODES", "4"},
        {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_STEP_NUM_NODES", "4"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x4)"},
        {"SLURM_TASKS_PER_NODE", "2(x4)"}, {"SLURM_GTIDS", "4,5"},
    };
    char nodes[2000];
    memset(nodes, 'n', sizeof(nodes));
    nodes[sizeof(nodes) - 1] = '\0';
    const struct pm_rank_slurm slurm = {.nnodes = 4, .nodelist = nodes, .tasks_per_node = "2(x4)", .gtids = "4,5"};
    struct pm_rank_env e = sample();
    struct list list = environment(&e);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
        cr_assert_null(value_of(&list, wanted[i][0]), "%s", wanted[i][0]);
    list_done(&list);
    e.slurm = &slurm;
    list = environment(&e);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
        cr_assert_str_eq(value_of(&list, wanted[i][0]), wanted[i][1], "%s", wanted[i][0]);
    cr_assert_str_eq(value_of(&list, "SLURM_STEP_NODELIST"), nodes);
    list_done(&list);
}

Test(rank_env, the_users_rendezvous_is_only_filled_in, .timeout = 10)
{
    struct pm_rank_env e = sample();
    struct list list = environment(&e);
    cr_assert_str_eq(value_of(&list, "?MASTER_ADDR"), "node001");
    cr_assert_str_eq(value_of(&list, "?MASTER_PORT"), "40001");
    cr_assert_str_eq(value_of(&list, "?TORCHELASTIC_RUN_ID"), "42.3");
    cr_assert_null(value_of(&list, "MASTER_PORT"));
    list_done(&list);
}

Test(rank_env, a_restart_says_why_and_whose_fault_it_was, .timeout = 10)
{
    struct pm_rank_env e = sample();
    e.epoch = 2;
    e.incarnation = 3;
    e.cause = "oom";
    e.restart_rank = 1;
    struct list list = environment(&e);
    cr_assert_str_eq(value_of(&list, "PM_EPOCH"), "2");
    cr_assert_str_eq(value_of(&list, "PM_INCARNATION"), "3");
    cr_assert_str_eq(value_of(&list, "TORCHELASTIC_RESTART_COUNT"), "3");
    cr_assert_str_eq(value_of(&list, "PM_RESTART_CAUSE"), "oom");
    cr_assert_str_eq(value_of(&list, "PM_RESTART_RANK"), "1");
    list_done(&list);
}

Test(rank_env, the_transport_key_has_open_mpis_form_and_changes_with_the_epoch, .timeout = 10)
{
    struct pm_rank_env e = sample();
    struct list first = environment(&e);
    e.epoch = 1;
    struct list second = environment(&e);
    const char *a = value_of(&first, "OMPI_MCA_orte_precondition_transports");
    const char *b = value_of(&second, "OMPI_MCA_orte_precondition_transports");
    cr_assert_eq(strlen(a), 33);
    cr_assert_eq(a[16], '-');
    cr_assert_str_neq(a, b);
    list_done(&first);
    list_done(&second);
}

Test(rank_env, the_servers_entries_come_first_and_are_limited, .timeout = 10)
{
    char *server[] = {(char[]){"PMIX_RANK=5"}, (char[]){"RANK=wrong"}};
    struct pm_rank_env e = sample();
    e.server_env = server;
    e.n_server_env = 2;
    struct list list = environment(&e);
    cr_assert_str_eq(list.entries[0], "PMIX_RANK=5");
    cr_assert_str_eq(value_of(&list, "RANK"), "5");  // the last one wins
    list_done(&list);

    char *many[PM_SHIM_ENV_MAX];
    for (size_t i = 0; i < PM_SHIM_ENV_MAX; i++)
        many[i] = server[0];
    e.server_env = many;
    e.n_server_env = PM_SHIM_ENV_MAX;
    struct pm_writer w = {0};
    pm_write_rank_env(&w, &e);
    cr_assert_eq(w.error, -E2BIG);
    pm_writer_done(&w);
}
