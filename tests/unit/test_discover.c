// SPDX-License-Identifier: Apache-2.0
//
// Machines from hwloc XML: what is found in the fixtures, what is left out, and what is refused. Every XML file below
// the folder that PM_TOPOLOGIES names (else ../shared/topologies beside the checkout) is read, too.
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/topology/discover.h"
#include "pmix_server/wire/options.h"

#define BESIDE_CHECKOUT PM_FIXTURES "/../../../../shared/topologies"

TestSuite(discover, .timeout = 60);

static struct pm_machine m;
static struct pm_set allowed;
static char error[PM_ERROR_CAP];

static void read_fixture(const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s.xml", PM_FIXTURES, name);
    cr_assert_eq(pm_discover_xml(path, &m, &allowed, error), 0, "%s", error);
}

static void finish(void)
{
    pm_machine_done(&m);
    pm_set_done(&allowed);
}

static void is_set(const struct pm_set *set, const char *text)
{
    char buf[256];
    cr_assert_str_eq(pm_set_format(set, buf, sizeof(buf)), text);
}

static enum pm_rail rail(uint32_t gpu, const char *nic)
{
    for (uint32_t i = 0; i < m.n_nics; i++) {
        if (strcmp(m.nics[i].name, nic) == 0)
            return m.rails[gpu * m.n_nics + i];
    }
    cr_assert_fail("no NIC %s", nic);
    return PM_RAIL_SYS;
}

static const struct pm_machine_nic *nic_of(const char *name)
{
    for (uint32_t i = 0; i < m.n_nics; i++) {
        if (strcmp(m.nics[i].name, name) == 0)
            return &m.nics[i];
    }
    return NULL;
}

Test(discover, cores_know_their_l3_node_and_package, .fini = finish)
{
    read_fixture("gpu-node");
    cr_assert_eq(m.n_cores, 8);
    cr_assert_eq(m.n_l3s, 4);
    cr_assert_eq(m.n_numas, 4);
    cr_assert_eq(m.n_packages, 2);
    is_set(&m.pus, "0-15");
    is_set(&allowed, "0-15");
    is_set(&m.cores[3].pus, "3,11");
    for (uint32_t i = 0; i < 8; i++) {
        cr_assert_eq(m.cores[i].l3, i / 2);
        cr_assert_eq(m.cores[i].numa, i / 2);
        cr_assert_eq(m.cores[i].package, i / 4);
        cr_assert_eq(m.cores[i].kind, 0);
    }
    cr_assert_eq(m.numa_hops[1], 12);
    cr_assert_eq(m.numa_hops[2 * 4 + 1], 32);
    cr_assert_eq(m.numas[3].memory_bytes, 1u << 30);
}

// Case 34 of the pinning table: VGA of a management controller, QAT, NVSwitch, audio.
Test(discover, row34_only_what_computes_is_a_gpu, .fini = finish)
{
    read_fixture("gpu-node");
    cr_assert_eq(m.n_gpus, 3);
    cr_assert_eq(m.gpus[0].pci.bus, 0x05);
    cr_assert_eq(m.gpus[1].pci.bus, 0x23);
    cr_assert_eq(m.gpus[2].pci.bus, 0x36);
    cr_assert_eq(m.gpus[1].runtime, 0);
    cr_assert_eq(m.gpus[0].runtime, 1);
    cr_assert_str_eq(m.gpus[2].uuid, "GPU-000000a2-0000-0000-0000-000000000001");
    cr_assert_str_eq(m.gpus[2].model, "Fixture H1");
    is_set(&m.gpus[1].near, "2-3,10-11");
    is_set(&m.gpus[0].near, "");  // hangs at the machine: its place is not known
}

// Cases 24 and 25: rails by where the PCI paths meet.
Test(discover, rails_are_told_by_the_bridges_between, .fini = finish)
{
    read_fixture("gpu-node");
    cr_assert_eq(rail(1, "mlx5_0"), PM_RAIL_PIX);
    cr_assert_eq(rail(2, "mlx5_4"), PM_RAIL_PXB);
    cr_assert_eq(rail(2, "mlx5_1"), PM_RAIL_PHB);
    cr_assert_eq(rail(2, "mlx5_3"), PM_RAIL_PACKAGE);
    cr_assert_eq(rail(1, "eno1"), PM_RAIL_PACKAGE);
    cr_assert_eq(rail(1, "mlx5_1"), PM_RAIL_SYS);
    cr_assert_eq(rail(0, "mlx5_0"), PM_RAIL_SYS);
}

Test(discover, nics_have_class_link_and_card, .fini = finish)
{
    read_fixture("gpu-node");
    cr_assert_eq(m.n_nics, 6);
    cr_assert_null(nic_of("wlan0"));
    cr_assert_eq(nic_of("eno1")->class, PM_NIC_ETHERNET);
    cr_assert_eq(nic_of("mlx5_3")->class, PM_NIC_RDMA_ETHERNET);
    cr_assert_eq(nic_of("mlx5_0")->class, PM_NIC_FABRIC);
    cr_assert(!nic_of("mlx5_0")->down && !nic_of("mlx5_1")->second_port);
    cr_assert(nic_of("mlx5_2")->down && nic_of("mlx5_2")->second_port);
    cr_assert(nic_of("mlx5_4")->down && !nic_of("mlx5_4")->second_port);
    finish();
    read_fixture("partitions");
    cr_assert_eq(nic_of("hsi0")->class, PM_NIC_FABRIC);
    cr_assert_eq(nic_of("rdmap1")->class, PM_NIC_FABRIC);
    cr_assert_eq(nic_of("hfi1_0")->class, PM_NIC_FABRIC);
}

// Cases 26 and 35.
Test(discover, parts_of_a_pci_function_are_gpus_of_their_own, .fini = finish)
{
    read_fixture("partitions");
    cr_assert_eq(m.n_gpus, 7);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_eq(m.gpus[i].vendor, PM_GPU_AMD);
        cr_assert_eq(m.gpus[i].partition, i);
        cr_assert_eq(m.gpus[i].runtime, 3 + i);
        cr_assert_str_empty(m.gpus[i].uuid, "all zero is no name");
    }
    cr_assert_eq(m.gpus[3].vendor, PM_GPU_INTEL);
    cr_assert_eq(m.gpus[4].partition, 1, "a tile");
    cr_assert_eq(m.gpus[5].minor, 129);
    cr_assert_eq(m.gpus[5].runtime, 0, "not the order of addresses");
    cr_assert_str_eq(m.gpus[5].uuid, "GPU-00a17de02b3c4d5e");
    cr_assert_eq(m.gpus[6].vendor, PM_GPU_INTEL);
}

// Cases 19, 20 and 21.
Test(discover, special_memory_is_no_numa_node_for_cpus, .fini = finish)
{
    read_fixture("memory");
    cr_assert_eq(m.n_numas, 4);
    static const uint32_t numbers[] = {0, PM_PLACE_NONE, 4, 6}, from[] = {0, 0, 4, 0};
    static const char *const cpus[] = {"0-1", "2-3", "4-5", "6-7"};
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(m.numas[i].os_index, numbers[i]);
        cr_assert_eq(m.numas[i].memory_from, from[i]);
        is_set(&m.numas[i].pus, cpus[i]);
        cr_assert_eq(m.cores[2 * i].numa, i);
    }
}

// Cases 15 and 22, and CPUs that whoever wrote the file could not use.
Test(discover, kinds_differ_by_more_than_a_boost, .fini = finish)
{
    read_fixture("hybrid");
    is_set(&m.pus, "0-7");
    is_set(&allowed, "0-1,4-7");
    cr_assert_eq(m.n_cores, 6);
    cr_assert_eq(m.n_packages, 1);
    static const uint32_t kinds[] = {1, 1, 0, 0, 0, 0};
    for (uint32_t i = 0; i < 6; i++) {
        cr_assert_eq(m.cores[i].kind, kinds[i]);
        cr_assert_eq(m.cores[i].l3, PM_PLACE_NONE);
    }
}

static void is_refused(const char *path, const char *why)
{
    memset(error, 0, sizeof(error));
    cr_assert_eq(pm_discover_xml(path, &m, &allowed, error), -EINVAL, "%s", path);
    cr_assert(strstr(error, path) && strstr(error, why), "%s", error);
    cr_assert_eq(m.n_cores, 0);
}

static void write_file(const char *path, const char *data, size_t len)
{
    FILE *file = fopen(path, "we");
    cr_assert(file && fwrite(data, 1, len, file) == len);
    fclose(file);
}

Test(discover, what_is_no_machine_is_refused_with_a_sentence)
{
    char path[] = "/tmp/pm-discover-XXXXXX", data[65536];
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    is_refused(PM_FIXTURES "/no-cpus.xml", "no CPUs");
    is_refused("/dev/null", "not a file");
    is_refused(path, "is cut off");  // empty
    write_file(path, "no XML", 6);
    is_refused(path, "no hwloc XML");
    cr_assert_eq(pm_discover_xml("/nowhere.xml", &m, &allowed, error), -ENOENT);
    cr_assert(strstr(error, "/nowhere.xml: No such file"), "%s", error);
    FILE *file = fopen(PM_FIXTURES "/gpu-node.xml", "re");
    size_t len = fread(data, 1, sizeof(data), file);
    fclose(file);
    for (size_t cut = 1; cut < len - 2; cut += 97) {
        write_file(path, data, cut);
        is_refused(path, "is cut off");
    }
    cr_assert_eq(truncate(path, (64ll << 20) + 1), 0);
    is_refused(path, "larger than 64 MiB");
    close(fd);
    unlink(path);
}

static void write_many(const char *path, unsigned devices)
{
    FILE *file = fopen(path, "we");
    fputs("<topology version=\"2.0\"><object type=\"Machine\" cpuset=\"0x1\" complete_cpuset=\"0x1\" "
          "allowed_cpuset=\"0x1\" nodeset=\"0x1\" complete_nodeset=\"0x1\" allowed_nodeset=\"0x1\" gp_index=\"1\">"
          "<object type=\"NUMANode\" os_index=\"0\" cpuset=\"0x1\" complete_cpuset=\"0x1\" nodeset=\"0x1\" "
          "complete_nodeset=\"0x1\" gp_index=\"2\"/><object type=\"PU\" os_index=\"0\" cpuset=\"0x1\" "
          "complete_cpuset=\"0x1\" nodeset=\"0x1\" complete_nodeset=\"0x1\" gp_index=\"3\"/>"
          "<object type=\"Bridge\" gp_index=\"4\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"0000:[00-ff]\">", file);
    for (unsigned i = 0; i < devices; i++)
        fprintf(file, "<object type=\"PCIDev\" gp_index=\"%u\" pci_busid=\"%04x:%02x:00.0\" "
                "pci_type=\"0302 [10de:2330] [0000:0000] 00\" pci_link_speed=\"0\"/>", i + 5, i >> 8, i & 255);
    fputs("</object></object></topology>", file);
    fclose(file);
}

Test(discover, number_of_devices_is_limited, .fini = finish)
{
    char path[] = "/tmp/pm-discover-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    write_many(path, 4097);
    is_refused(path, "4097 PCI devices, and at most 4096");
    write_many(path, 4096);
    cr_assert_eq(pm_discover_xml(path, &m, &allowed, error), 0, "%s", error);
    cr_assert_eq(m.n_gpus, 4096);
    is_set(&m.gpus[4095].near, "0");  // one NUMA node: the whole machine is near
    close(fd);
    unlink(path);
}

// This host, whatever it is, has what it needs to be mapped.
static void is_sound(const char *what)
{
    cr_assert(m.n_cores > 0 && m.n_numas > 0 && m.n_packages > 0, "%s", what);
    struct pm_set seen = {0};
    for (uint32_t i = 0; i < m.n_cores; i++) {
        const struct pm_machine_core *core = &m.cores[i];
        cr_assert(core->package < m.n_packages && core->numa < m.n_numas, "%s", what);
        cr_assert(core->l3 == PM_PLACE_NONE || core->l3 < m.n_l3s, "%s", what);
        cr_assert(pm_set_covers(&m.numas[core->numa].pus, &core->pus), "%s: core %u", what, i);
        cr_assert(pm_set_covers(&m.packages[core->package].pus, &core->pus), "%s: core %u", what, i);
        cr_assert(!pm_set_intersects(&seen, &core->pus), "%s: core %u", what, i);
        pm_set_union(&seen, &core->pus);
    }
    cr_assert(pm_set_equal(&seen, &m.pus), "%s", what);
    pm_set_done(&seen);
    for (uint32_t i = 0; i < m.n_gpus; i++)
        cr_assert(pm_set_covers(&m.pus, &m.gpus[i].near), "%s: GPU %u", what, i);
}

Test(discover, this_host_is_found, .fini = finish)
{
    cr_assert_eq(pm_discover_host("", true, &m, error), 0, "%s", error);
    is_sound("this host");
}

// A file without CPUs is refused, everything else is a machine. Returns how many XML files there are.
static unsigned read_folder(const char *folder)
{
    unsigned n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[4096];
        size_t len = strlen(entry->d_name);
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
            n += read_folder(path);
        if (len < 4 || strcmp(entry->d_name + len - 4, ".xml") != 0)
            continue;
        n++;
        int rc = pm_discover_xml(path, &m, &allowed, error);
        cr_assert(rc == 0 || (rc == -EINVAL && strstr(error, "shows no CPUs")), "%s", error);
        if (rc == 0)
            is_sound(path);
        finish();
    }
    if (dir)
        closedir(dir);
    return n;
}

Test(discover, every_real_machine_is_sound)
{
    const char *named = getenv("PM_TOPOLOGIES"), *folder = named ? named : BESIDE_CHECKOUT;
    if (!named && access(folder, R_OK) < 0)
        cr_skip_test("PM_TOPOLOGIES is not set: no folder with hwloc XML files of real machines");
    cr_assert(read_folder(folder) > 0, "%s has no XML files", folder);
}
