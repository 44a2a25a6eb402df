// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/coordinator_argv.h promises: only srun's own words are changed, and only those that
// supervision replaces.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/coordinator_argv.h"

#define WORDS_MAX 32

static int words_of(char *text, char **argv)
{
    int n = 0;
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    argv[n] = NULL;
    return n;
}

// `program` is found by its name, "prog".
static int rewrite(const char *line, struct pm_srun_argv *out, char *error)
{
    static char text[1024];
    static char *argv[WORDS_MAX];
    snprintf(text, sizeof(text), "%s", line);
    int n = words_of(text, argv), program = 0;
    for (int i = 1; i < n && !program; i++)
        program = !strcmp(argv[i], "prog") ? i : 0;
    return pm_srun_argv_rewrite(argv, program, out, error);
}

static void expect(const char *line, const char *wanted)
{
    struct pm_srun_argv out;
    char error[PM_ERROR_CAP], got[1024] = "";
    cr_assert_eq(rewrite(line, &out, error), 0, "%s", line);
    for (int i = 0; i < out.argc; i++)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? " " : "", out.argv[i]);
    cr_assert_null(out.argv[out.argc]);
    cr_assert_str_eq(got, wanted, "%s -> %s", line, got);
    pm_srun_argv_done(&out);
}

static void expect_refused(const char *line, const char *named)
{
    struct pm_srun_argv out;
    char error[PM_ERROR_CAP] = "";
    cr_assert_eq(rewrite(line, &out, error), -EINVAL, "%s", line);
    cr_assert(strstr(error, named), "%s: %s", line, error);
}

Test(srun_argv, words_that_are_not_ours_stay, .timeout = 10)
{
    expect("srun -N4 -n 8 --pm-supervise --label -o out.%t prog --mpi=x -K -W 3",
           "srun -N4 -n 8 --pm-supervise --label -o out.%t prog --mpi=x -K -W 3");
    expect("srun", "srun");
    expect("srun prog", "srun prog");
    expect("srun -- prog --mpi=pmi2", "srun -- prog --mpi=pmi2");
}

Test(srun_argv, mpi_of_habit_is_dropped_in_every_spelling, .timeout = 10)
{
    expect("srun --mpi=none prog", "srun prog");
    expect("srun --mpi=pmix -n2 prog", "srun -n2 prog");
    expect("srun --mpi pmix_v4 -n2 prog", "srun -n2 prog");
    expect("srun --mp=pmix prog", "srun prog");
}

Test(srun_argv, another_mpi_is_refused_by_name, .timeout = 10)
{
    expect_refused("srun --mpi=pmi2 prog", "--mpi=pmi2");
    expect_refused("srun --mpi openmpi prog", "--mpi=openmpi");
}

Test(srun_argv, a_value_that_looks_like_an_option_stays_a_value, .timeout = 10)
{
    expect("srun --job-name --mpi=pmix -J -K prog", "srun --job-name --mpi=pmix -J -K prog");
    expect("srun -J -W -n2 prog", "srun -J -W -n2 prog");
}

Test(srun_argv, kill_options_are_dropped_also_inside_clusters, .timeout = 10)
{
    expect("srun -K prog", "srun prog");
    expect("srun -K1 --kill-on-bad-exit=0 --kill-on-bad-exit prog", "srun prog");
    expect("srun -lK1 -n2 prog", "srun -l -n2 prog");
    expect("srun -k --no-kill=off -lvk prog", "srun -lv prog");
    expect("srun -lukK prog", "srun -lu prog");
    expect("srun -ln2 -vn 4 prog", "srun -ln2 -vn 4 prog");
}

Test(srun_argv, wait_is_taken_over, .timeout = 10)
{
    static const char *const lines[] = {"srun -W 7 -l prog", "srun -W7 -l prog", "srun -lW7 prog",
                                        "srun -lW 7 prog", "srun --wait=7 -l prog",
                                        "srun --wait 7 -l prog", "srun --wai=7 -l prog"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct pm_srun_argv out;
        char error[PM_ERROR_CAP];
        cr_assert_eq(rewrite(lines[i], &out, error), 0);
        cr_assert(out.wait_given);
        cr_assert_eq(out.wait_s, 7, "%s", lines[i]);
        pm_srun_argv_done(&out);
        expect(lines[i], "srun -l prog");
    }
    expect_refused("srun --wait=soon prog", "--wait=soon");
    expect_refused("srun -W -3 prog", "-3");
}

Test(srun_argv, the_number_of_nodes_is_noted_and_stays, .timeout = 10)
{
    static const struct {
        const char *line;
        uint32_t nodes;
    } lines[] = {
        {"srun -N4 prog", 4},       {"srun -N 2-3 prog", 3},  {"srun --nodes=1k prog", 1024},
        {"srun --nodes 2 prog", 2}, {"srun -lN4 prog", 4},    {"srun prog -N4", 0},
        {"srun -N some prog", 0},   {"srun -N5x prog", 0},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct pm_srun_argv out;
        char error[PM_ERROR_CAP];
        cr_assert_eq(rewrite(lines[i].line, &out, error), 0);
        cr_expect_eq(out.nodes, lines[i].nodes, "%s: %u", lines[i].line, out.nodes);
        pm_srun_argv_done(&out);
        expect(lines[i].line, lines[i].line);
    }
}

// given and 0: all threads, whatever the environment says.
Test(srun_argv, threads_of_a_core_are_noted_and_stay, .timeout = 10)
{
    static const struct {
        const char *line;
        bool given;
        uint32_t threads;
    } lines[] = {
        {"srun --hint=nomultithread prog", true, 1},  {"srun --hint multithread prog", true, 0},
        {"srun --hint=Compute_bound prog", true, 1},  {"srun --hint=memory_bound,multithread prog", true, 1},
        {"srun --hint=help prog", true, 0},           {"srun --threads-per-core=2 prog", true, 2},
        {"srun --threads-per 1 prog", true, 1},       {"srun --threads-per-core=x prog", true, 0},
        {"srun --threads-per-core=-1 prog", true, 0}, {"srun --threads-per-core=1025 prog", true, 0},
        {"srun -B 2:8:1 prog", true, 1},              {"srun -B*:*:2 prog", true, 2},
        {"srun --extra-node-info=2:8:* prog", true, 0}, {"srun -B 2:8 prog", false, 0},
        {"srun -B 2 prog", false, 0},                 {"srun prog --hint=nomultithread", false, 0},
        {"srun -J --hint=nomultithread prog", false, 0},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct pm_srun_argv out;
        char error[PM_ERROR_CAP];
        cr_assert_eq(rewrite(lines[i].line, &out, error), 0);
        cr_expect(out.threads_given == lines[i].given && out.threads_per_core == lines[i].threads, "%s: %u", lines[i].line,
                  out.threads_per_core);
        pm_srun_argv_done(&out);
        expect(lines[i].line, lines[i].line);
    }
}

Test(srun_argv, bindings_are_noted_and_stay, .timeout = 10)
{
    static const struct {
        const char *line;
        bool cpu, mem;
    } lines[] = {
        {"srun --cpu-bind=none prog", true, false},   {"srun --cpu_bind none prog", true, false},
        {"srun --cpu-b=cores prog", true, false},     {"srun --mem-bind=local prog", false, true},
        {"srun --mem_bind=local --cpu-bind=v prog", true, true}, {"srun prog --cpu-bind=none", false, false},
        {"srun -J --cpu-bind=none prog", false, false}, {"srun --mem=4 prog", false, false},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct pm_srun_argv out;
        char error[PM_ERROR_CAP];
        cr_assert_eq(rewrite(lines[i].line, &out, error), 0);
        cr_expect(out.cpu_bind == lines[i].cpu && out.mem_bind == lines[i].mem, "%s", lines[i].line);
        pm_srun_argv_done(&out);
        expect(lines[i].line, lines[i].line);
    }
}

Test(srun_argv, heterogeneous_steps_are_refused, .timeout = 10)
{
    expect_refused("srun -n1 prog : -n2 other", "heterogeneous");
    expect_refused("srun --het-group=0,1 prog", "heterogeneous");
    expect_refused("srun --het-group 1 prog", "heterogeneous");
    expect_refused("srun --pack-group=1 prog", "heterogeneous");
    expect("srun -n1 prog a:b ::", "srun -n1 prog a:b ::");
}

Test(srun_argv, oci_containers_are_refused, .timeout = 10)
{
    expect_refused("srun --container=/bundle prog", "--container");
    expect_refused("srun -lN2 --container /bundle prog", "--container");
    expect("srun -J --container prog", "srun -J --container prog");
    expect("srun prog --container=x", "srun prog --container=x");
}

static void expect_command(const char *line, const char *wanted)
{
    struct pm_srun_argv out;
    char error[PM_ERROR_CAP];
    cr_assert_eq(rewrite(line, &out, error), 0, "%s", line);
    cr_assert(wanted ? out.command && !strcmp(out.command, wanted) : !out.command, "%s: %s", line,
              out.command ? out.command : "none");
    pm_srun_argv_done(&out);
}

Test(srun_argv, the_command_of_the_ranks_is_noted, .timeout = 10)
{
    expect_command("srun -n2 --mpi=pmix prog -x --mpi=pmi2 y", "prog -x --mpi=pmi2 y");
    expect_command("srun -n2 -- prog", "prog");
    expect_command("srun -n2", NULL);
    expect_command("srun -n2 --multi-prog prog", NULL);
    expect_command("srun -n2 --multi prog a", NULL);
    expect_command("srun -n2 prog --multi-prog", "prog --multi-prog");
}

Test(srun_argv, a_command_that_is_too_long_is_not_noted, .timeout = 10)
{
    static char word[PM_SRUN_COMMAND_MAX + 1], srun[] = "srun", prog[] = "prog";
    char *argv[] = {srun, prog, word, NULL};
    char error[PM_ERROR_CAP];
    struct pm_srun_argv out;
    memset(word, 'x', PM_SRUN_COMMAND_MAX - strlen("prog ") - 1);
    cr_assert_eq(pm_srun_argv_rewrite(argv, 1, &out, error), 0);
    cr_assert_eq(strlen(out.command), PM_SRUN_COMMAND_MAX - 1);
    pm_srun_argv_done(&out);
    strcat(word, "x");
    cr_assert_eq(pm_srun_argv_rewrite(argv, 1, &out, error), 0);
    cr_assert_null(out.command);
    pm_srun_argv_done(&out);
}

Test(srun_argv, pty_is_noticed, .timeout = 10)
{
    struct pm_srun_argv out;
    char error[PM_ERROR_CAP];
    cr_assert_eq(rewrite("srun --pty -n1 prog", &out, error), 0);
    cr_assert(out.pty);
    pm_srun_argv_done(&out);
    cr_assert_eq(rewrite("srun -n1 prog --pty", &out, error), 0);
    cr_assert(!out.pty);
    pm_srun_argv_done(&out);
}

static void expect_without(const char *line, const char *nodes, const char *wanted)
{
    struct pm_srun_argv out;
    char error[PM_ERROR_CAP], text[256] = "";
    cr_assert_eq(rewrite(line, &out, error), 0);
    cr_assert_eq(pm_srun_argv_without(&out, nodes), 0);
    for (int i = 0; i < out.argc; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", out.argv[i]);
    cr_expect_str_eq(text, wanted);
    cr_expect_null(out.argv[out.argc]);
    pm_srun_argv_done(&out);
}

Test(srun_argv, a_further_launch_leaves_nodes_out_beside_those_of_the_user, .timeout = 10)
{
    expect_without("srun -N2 prog -x a", "n3", "srun -N2 --overlap --exclude=n3 prog -x a");
    expect_without("srun -x n1 -N2 prog", "n3,n4", "srun -x n1 -N2 --overlap --exclude=n1,n3,n4 prog");
    expect_without("srun --exclude=n1 --exclude n2 -- prog", "n3",
                   "srun --exclude=n1 --exclude n2 --overlap --exclude=n2,n3 -- prog");
    expect_without("srun -x n1 prog", "n3,n[5-7,9]", "srun -x n1 --overlap --exclude=n1,n3,n[5-7,9] prog");
    expect_without("srun -n2", "n3", "srun -n2 --overlap --exclude=n3");
}

Test(srun_argv, what_srun_refuses_in_a_further_launch_is_noted, .timeout = 10)
{
    static const struct {
        const char *line, *why;
    } lines[] = {
        {"srun -w n1 prog", "names its nodes"},        {"srun -lwn1 prog", "names its nodes"},
        {"srun --nodelist=n1 prog", "names its nodes"}, {"srun -F file prog", "names its nodes"},
        {"srun --nodefile file prog", "names its nodes"}, {"srun -r1 prog", "--relative"},
        {"srun -lr 1 prog", "--relative"},              {"srun --relative=1 prog", "--relative"},
        {"srun --exclusive prog", "--exclusive"},       {"srun --exclusive=user prog", "--exclusive"},
        {"srun -x ./file prog", "--exclude names a file"}, {"srun -x n1 --exclude /a prog", "--exclude names a file"},
        {"srun -x ./file -x n1 prog", NULL},            {"srun -x n1 prog -w n2 -r1 --exclusive", NULL},
        {"srun -J --exclusive -J -r --bogus prog", NULL}, {"srun --exact prog", NULL},
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct pm_srun_argv out;
        char error[PM_ERROR_CAP];
        const char *why = lines[i].why;
        cr_assert_eq(rewrite(lines[i].line, &out, error), 0);
        cr_expect(why ? out.no_relaunch && strstr(out.no_relaunch, why) : !out.no_relaunch, "%s: %s", lines[i].line,
                  out.no_relaunch ? out.no_relaunch : "nothing");
        pm_srun_argv_done(&out);
        expect(lines[i].line, lines[i].line);
    }
}
