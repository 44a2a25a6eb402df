// SPDX-License-Identifier: Apache-2.0
//
// From an XML file to a map and its pictures, with every allocation failing in turn: -ENOMEM, nothing
// leaked, and nothing half done is handed out.
#include <errno.h>
#include <string.h>

#include "pmix_server/topology/discover.h"
#include "pmix_server/topology/picture.h"
#include "pmix_server/topology/pm_bind.h"
#include "tests/kth/kth.h"

static const char *xml;
static struct pm_picture picture;
static struct pm_writer picture_bytes;
static struct pm_granted granted;
static uint32_t places[8];
static struct pm_bind_request request;
static struct pm_binding binding;
static struct pm_bind_view view;
static FILE *nowhere;

static int discover(void)
{
    struct pm_machine m = {0};
    struct pm_set allowed = {0};
    char error[PM_ERROR_CAP] = "";
    int rc = pm_discover_xml(xml, &m, &allowed, error);
    KTH_CHECK(rc == 0 || (error[0] && m.n_cores == 0 && !allowed.n), "half a machine, or no sentence");
    pm_machine_done(&m);
    pm_set_done(&allowed);
    return rc;
}

static int write_picture(void)
{
    struct pm_writer w = {0};
    pm_picture_write(&w, &picture);
    int rc = w.error;
    pm_writer_done(&w);
    return rc;
}

static int read_picture(void)
{
    struct pm_picture p;
    int rc = pm_picture_read(picture_bytes.data, picture_bytes.len, &p);
    KTH_CHECK(rc == 0 || p.machine.n_cores == 0, "half a picture");
    pm_picture_done(&p);
    return rc;
}

static int grant(void)
{
    static const struct pm_granted_sources sources = {
        .visible = {"0,1", "0,1", "MIG-x"}, .step_gpus = "1,2"};
    struct pm_granted g = {0};
    char error[PM_ERROR_CAP];
    int rc = pm_granted_read(&picture.machine, &sources, &g, error);
    pm_granted_done(&g);
    return rc;
}

static int pick(void)
{
    struct pm_granted g = {0};
    char error[PM_ERROR_CAP];
    int rc = pm_bind_gpus_read(&picture.machine, "1-2,05:00.0", &g, error);
    pm_granted_done(&g);
    return rc;
}

static int map(void)
{
    struct pm_binding b = {0};
    int rc = pm_bind_ranks(&picture.machine, &request, &b);
    KTH_CHECK(rc == 0 || (b.n_ranks == 0 && b.sentence[0]), "half a map, or no sentence");
    pm_binding_done(&b);
    return rc;
}

static int words(void)
{
    char *line = pm_report_line(&view.report, 0, 0), *summary = pm_report_summary(&view.report);
    int rc = line && summary ? 0 : -ENOMEM;
    free(line);
    free(summary);
    return rc;
}

static int text(void)
{
    return pm_bind_write_text(nowhere, &view);
}

static int list(void)
{
    return pm_bind_write_list(nowhere, &view);
}

static int svg(void)
{
    return pm_bind_write_svg(nowhere, &view);
}

static const struct {
    const char *name;
    int (*flow)(void);
} flows[] = {
    {"discover", discover}, {"picture out", write_picture}, {"picture in", read_picture}, {"granted", grant},
    {"picked", pick},       {"map", map},                   {"words", words},             {"text", text},
    {"list", list},         {"svg", svg},
};

static void sweep(const char *name, int (*flow)(void), enum kth_mode mode)
{
    bool reached = true;
    uint64_t k = 0;
    while (reached) {
        int64_t live = kth_live_blocks();
        kth_arm(++k, mode);
        int rc = flow();
        reached = kth_disarm();
        KTH_CHECK(rc == (reached ? -ENOMEM : 0), "%s, k %llu: %d", name, (unsigned long long)k, rc);
        KTH_CHECK(kth_live_blocks() == live, "%s, k %llu: a leak", name, (unsigned long long)k);
    }
    printf("%s: %llu allocations\n", name, (unsigned long long)k - 1);
}

static void prepare(void)
{
    char error[PM_ERROR_CAP];
    KTH_CHECK(pm_discover_xml(xml, &picture.machine, &picture.affinity, error) == 0, "%s", error);
    pm_picture_write(&picture_bytes, &picture);
    KTH_CHECK(pm_bind_gpus_read(&picture.machine, NULL, &granted, error) == 0 && granted.n == 3, "%s", error);
    for (uint32_t i = 0; i < granted.n; i++)
        places[i] = granted.gpus[i].gpu;
    request = (struct pm_bind_request){.allowed = &picture.affinity, .gpus = places, .n_gpus = granted.n, .n_ranks = 3};
    KTH_CHECK(pm_bind_ranks(&picture.machine, &request, &binding) == 0, "%s", binding.sentence);
    view = (struct pm_bind_view){.report = {&picture.machine, &request, &binding, &granted}, .title = "node",
                                 .summary = "summary", .explain = true};
    nowhere = fopen("/dev/null", "we");
    KTH_CHECK(nowhere, "no /dev/null");
}

// kth_topology FILE.xml
int main(int argc, char **argv)
{
    KTH_CHECK(argc == 2, "usage: kth_topology FILE.xml");
    xml = argv[1];
    prepare();
    for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
        sweep(flows[i].name, flows[i].flow, KTH_ONCE);
        sweep(flows[i].name, flows[i].flow, KTH_FROM_NOW);
    }
    fclose(nowhere);
    pm_binding_done(&binding);
    pm_granted_done(&granted);
    pm_picture_done(&picture);
    pm_writer_done(&picture_bytes);
    return 0;
}
