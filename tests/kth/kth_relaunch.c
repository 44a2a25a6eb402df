// SPDX-License-Identifier: Apache-2.0
//
// Another launch of the step (coordinator_relaunch.c), with each allocation failing in turn: the next launch finds
// everything that it takes over and leaves out every lost node, or there is none and the user is told; and a launch that
// cannot read what it takes over says that it has no memory.
#include <errno.h>
#include <string.h>

#include "pmix_server/coordinator.h"
#include "pmix_server/wire/buf.h"
#include "tests/kth/kth.h"

#define LEGACY  "SLURM_PM_STEP_LEGACY"
#define EXCLUDE "SLURM_PM_STEP_EXCLUDE"

static const struct pm_legacy legacy = {.epoch = 4, .relaunches = 1, .restarts = 2, .node_losses = 1, .nodes_out = 3,
                                        .cause = PM_CAUSE_NODE_LOST};
static unsigned n_said, n_finished;

// --- the coordinator's other files -----------------------------------------------------------------

struct pm_legacy pm_core_legacy(const struct pm_core *core)
{
    return legacy;
}

char *pm_nodes_names(const struct coordinator *c, const struct pm_set *nodes)
{
    char text[64] = "";
    for (uint32_t node = pm_set_next(nodes, 0); node != UINT32_MAX; node = pm_set_next(nodes, node + 1))
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%sn%u", *text ? "," : "", node);
    return strdup(text);
}

void pm_coordinator_say(struct coordinator *c, const char *text)
{
    n_said += strstr(text, "out of memory") != NULL;
}

void pm_coordinator_finish(struct coordinator *c, int status)
{
    n_finished++;
}

// --- what has to be true ---------------------------------------------------------------------------

static bool is_set(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text && !strcmp(text, value);
}

static bool try_to_want(uint64_t k, enum kth_mode mode, const struct pm_action *a)
{
    struct coordinator c = {0};
    char text[64];
    int64_t live = kth_live_blocks();
    snprintf(text, sizeof(text), "4 1 2 1 3 %d", (int)PM_CAUSE_NODE_LOST);
    n_said = n_finished = 0;
    setenv(EXCLUDE, "n1", 1);
    unsetenv(LEGACY);
    kth_arm(k, mode);
    pm_relaunch_wanted(&c, a);
    bool reached = kth_disarm();
    bool is_whole = c.relaunch && is_set(EXCLUDE, "n1,n3,n7") && is_set(LEGACY, text);
    KTH_CHECK(is_whole || (!c.relaunch && n_said == 1), "EXCLUDE %s, k %llu", getenv(EXCLUDE), (unsigned long long)k);
    KTH_CHECK(is_whole || reached, "no memory, where nothing failed");
    KTH_CHECK(n_finished == 1, "finished %u times, k %llu", n_finished, (unsigned long long)k);
    KTH_CHECK(kth_live_blocks() == live, "a leak, k %llu", (unsigned long long)k);
    return reached;
}

static bool try_to_read(uint64_t k, enum kth_mode mode)
{
    char *words[] = {(char[]){"srun"}, (char[]){"-n2"}, (char[]){"-x"}, (char[]){"n5"}, (char[]){"prog"}, NULL};
    char error[PM_ERROR_CAP] = "";
    struct coordinator c = {0};
    int64_t live = kth_live_blocks();
    KTH_CHECK(pm_srun_argv_rewrite(words, 4, &c.argv, error) == 0, "%s", error);
    int n_words = c.argv.argc;
    kth_arm(k, mode);
    int rc = pm_relaunch_read(&c, error);
    bool reached = kth_disarm();
    KTH_CHECK(rc == 0 || (reached && rc == -ENOMEM && c.argv.argc == n_words), "%d, k %llu", rc, (unsigned long long)k);
    KTH_CHECK(rc < 0 || (c.argv.argc == n_words + 2 && !strcmp(c.argv.argv[c.argv.program - 1], "--exclude=n5,n1")),
              "k %llu", (unsigned long long)k);
    pm_srun_argv_done(&c.argv);
    KTH_CHECK(kth_live_blocks() == live, "a leak, k %llu", (unsigned long long)k);
    return reached;
}

int main(void)
{
    struct pm_set out = {0};
    struct pm_writer w = {0};
    uint64_t n = 0;
    KTH_CHECK(pm_set_add(&out, 3) == 0 && pm_set_add(&out, 7) == 0, "no memory");
    pm_write_set(&w, &out);
    const struct pm_action action = {.type = PM_ACTION_RELAUNCH, .data = w.data, .len = w.len};
    for (int mode = KTH_ONCE; mode <= KTH_FROM_NOW; mode++)
        for (uint64_t k = 1; try_to_want(k, (enum kth_mode)mode, &action); k++)
            n++;
    setenv(EXCLUDE, "n1", 1);
    for (int mode = KTH_ONCE; mode <= KTH_FROM_NOW; mode++)
        for (uint64_t k = 1; try_to_read(k, (enum kth_mode)mode); k++)
            n++;
    pm_writer_done(&w);
    pm_set_done(&out);
    printf("%llu calls\n", (unsigned long long)n);
    return 0;
}
