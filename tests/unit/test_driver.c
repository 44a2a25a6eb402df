// SPDX-License-Identifier: Apache-2.0
//
// What drivers, device files and cgroups of a host say, from small trees that stand in for /proc, /sys
// and /dev.
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/topology/allowed.h"
#include "pmix_server/topology/devices.h"
#include "pmix_server/topology/discover.h"
#include "pmix_server/topology/driver.h"
#include "pmix_server/topology/picture.h"
#include "pmix_server/wire/options.h"

static char root[64];

static void make_root(void)
{
    strcpy(root, "/tmp/pm-driver-XXXXXX");
    cr_assert(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static void remove_root(void)
{
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(driver, .init = make_root, .fini = remove_root, .timeout = 20);

static void make_path(const char *name, char path[512])
{
    int at = (int)strlen(root);
    snprintf(path, 512, "%s%s", root, name);
    for (char *slash = strchr(path + at + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
}

static void put(const char *name, const char *text)
{
    char path[512];
    make_path(name, path);
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs(text, file) >= 0);
    fclose(file);
}

static void put_link(const char *name, const char *target)
{
    char path[512];
    make_path(name, path);
    cr_assert_eq(symlink(target, path), 0);
}

static void is_set(struct pm_set *set, const char *text)
{
    char buf[128];
    cr_assert_str_eq(pm_set_format(set, buf, sizeof(buf)), text);
    pm_set_done(set);
}

Test(driver, nvidia_is_read_from_proc)
{
    struct pm_drivers d = {0};
    put("/proc/driver/nvidia/gpus/0000:06:00.0/information",
        "Model: \t\t NVIDIA H200 \nIRQ:   \t\t 301\nGPU UUID: \t GPU-46f77619-68bf\nBus Location: \t 0000:06:00.0\n"
        "Device Minor: \t 3\n");
    put("/proc/driver/nvidia/gpus/0000:16:00.0/information",
        "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-\?\?\?\?-\?\?\nDevice Minor: \t x\n");
    put("/proc/driver/nvidia/gpus/rubbish/information", "Device Minor: 1\n");
    put("/proc/driver/nvidia/gpus/0001:01:00.0/other", "");
    cr_assert_eq(pm_drivers_read(root, &d), 0);
    cr_assert_eq(d.n, 3);
    const struct pm_driver_gpu *gpu = pm_drivers_gpu(&d, &(struct pm_pci){0, 6, 0, 0}, 0);
    cr_assert(gpu && !pm_drivers_gpu(&d, &(struct pm_pci){0, 6, 0, 0}, 1));
    cr_assert_str_eq(gpu->model, "NVIDIA H200");
    cr_assert_str_eq(gpu->uuid, "GPU-46f77619-68bf");
    cr_assert_eq(gpu->minor, 3);
    gpu = pm_drivers_gpu(&d, &(struct pm_pci){0, 0x16, 0, 0}, 0);
    cr_assert_str_empty(gpu->uuid, "not started");
    cr_assert_eq(gpu->minor, PM_PLACE_NONE);
    gpu = pm_drivers_gpu(&d, &(struct pm_pci){1, 1, 0, 0}, 0);
    cr_assert_str_empty(gpu->model, "no information");
    pm_drivers_done(&d);
}

// CPUs are nodes, too; a GPU that the device cgroup forbids is empty, and the runtime skips it.
Test(driver, amd_is_numbered_by_kfd)
{
    struct pm_drivers d = {0};
    put("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 64\nsimd_count 0\nlocation_id 0\n");
    put("/sys/class/kfd/kfd/topology/nodes/1/properties",
        "simd_count 440\nlocation_id 55552\ndomain 0\ndrm_render_minor 128\nunique_id 5364217845623860108\n");
    put("/sys/class/kfd/kfd/topology/nodes/2/properties", "");
    put("/sys/class/kfd/kfd/topology/nodes/10/properties",
        "simd_count 440\nlocation_id 512\ndomain 3\ndrm_render_minor 130\nunique_id 0\n");
    put("/sys/class/kfd/kfd/topology/nodes/11/properties",
        "simd_count 440\nlocation_id 513\ndomain 3\ndrm_render_minor 131\nunique_id 0\n");
    cr_assert_eq(pm_drivers_read(root, &d), 0);
    cr_assert_eq(d.n, 3);
    const struct pm_driver_gpu *gpu = pm_drivers_gpu(&d, &(struct pm_pci){0, 0xd9, 0, 0}, 0);
    cr_assert(gpu);
    cr_assert_eq(gpu->runtime, 0);
    cr_assert_eq(gpu->minor, 128);
    cr_assert_str_eq(gpu->uuid, "GPU-4a7187b5b238ab8c");
    gpu = pm_drivers_gpu(&d, &(struct pm_pci){3, 2, 0, 0}, 1);
    cr_assert(gpu, "the second part of a function");
    cr_assert_eq(gpu->runtime, 2);
    cr_assert_str_empty(gpu->uuid);
    pm_drivers_done(&d);
}

Test(driver, a_gpu_of_another_driver_is_not_usable)
{
    struct pm_drivers d = {.root = root};
    struct pm_pci a = {0, 1, 0, 0}, b = {0, 2, 0, 0}, none = {0, 3, 0, 0}, unknown = {0, 4, 0, 0};
    put("/sys/bus/pci/devices/0000:01:00.0/class", "");
    put("/sys/bus/pci/devices/0000:02:00.0/class", "");
    put("/sys/bus/pci/devices/0000:03:00.0/class", "");
    put_link("/sys/bus/pci/devices/0000:01:00.0/driver", "../../../drivers/nvidia");
    put_link("/sys/bus/pci/devices/0000:02:00.0/driver", "../../../drivers/vfio-pci");
    cr_assert(pm_drivers_usable(&d, &a, PM_GPU_NVIDIA));
    cr_assert_not(pm_drivers_usable(&d, &a, PM_GPU_AMD));
    cr_assert_not(pm_drivers_usable(&d, &b, PM_GPU_NVIDIA));
    cr_assert_not(pm_drivers_usable(&d, &none, PM_GPU_NVIDIA));
    cr_assert(pm_drivers_usable(&d, &unknown, PM_GPU_NVIDIA), "no sysfs tells");
}

Test(driver, sysfs_tells_render_nodes_virtual_functions_and_links)
{
    struct pm_drivers d = {.root = root};
    struct pm_pci a = {0, 1, 0, 0}, b = {0, 2, 0, 1};
    put("/sys/bus/pci/devices/0000:01:00.0/drm/card1/dev", "");
    put("/sys/bus/pci/devices/0000:01:00.0/drm/renderD129/dev", "");
    put("/sys/bus/pci/devices/0000:02:00.1/physfn/class", "");
    put("/sys/class/net/eth0/operstate", "up\n");
    put("/sys/class/net/eth1/operstate", "down\n");
    cr_assert_eq(pm_drivers_render(&d, &a), 129);
    cr_assert_eq(pm_drivers_render(&d, &b), PM_PLACE_NONE);
    cr_assert_not(pm_drivers_is_virtual(&d, &a));
    cr_assert(pm_drivers_is_virtual(&d, &b));
    cr_assert_not(pm_drivers_link_down(&d, "eth0"));
    cr_assert(pm_drivers_link_down(&d, "eth1"));
    cr_assert_not(pm_drivers_link_down(&d, "eth2"));
}

Test(driver, gpus_that_cannot_be_opened_are_not_admitted)
{
    struct pm_machine_gpu gpus[] = {{.vendor = PM_GPU_NVIDIA, .minor = 0}, {.vendor = PM_GPU_NVIDIA, .minor = 1},
                                    {.vendor = PM_GPU_AMD, .minor = 128}, {.vendor = PM_GPU_AMD, .minor = PM_PLACE_NONE}};
    struct pm_machine m = {.gpus = gpus, .n_gpus = 4};
    struct pm_set admitted = {0};
    put("/dev/nvidia1", "");
    put("/dev/dri/renderD128", "");
    cr_assert_eq(pm_devices_admitted(root, &m, &admitted), 0);
    is_set(&admitted, "1-3");
}

Test(driver, mig_devices_belong_to_a_gpu)
{
    struct pm_machine_gpu gpus[] = {{.vendor = PM_GPU_NVIDIA, .minor = 1}, {.vendor = PM_GPU_NVIDIA, .minor = 0}};
    struct pm_machine m = {.gpus = gpus, .n_gpus = 2};
    uint32_t *migs, n;
    cr_assert_eq(pm_devices_migs(root, &m, &migs, &n), 0);
    cr_assert(n == 0 && !migs);
    put("/proc/driver/nvidia/capabilities/gpu1/mig/gi3/ci0/access", "DeviceFileMinor: 12\nDeviceFileMode: 292\n");
    put("/proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access", "DeviceFileMinor: 30\n");
    put("/proc/driver/nvidia/capabilities/gpu0/mig/gi2/ci1/access", "DeviceFileMinor: 31\n");
    put("/dev/nvidia-caps/nvidia-cap12", "");
    put("/dev/nvidia-caps/nvidia-cap31", "");
    cr_assert_eq(pm_devices_migs(root, &m, &migs, &n), 0);
    cr_assert_eq(n, 2);
    cr_assert(migs[0] == 0 && migs[1] == 1);
    free(migs);
}

Test(driver, cpu_lists_are_read_as_linux_writes_them)
{
    struct pm_set set = {0};
    static const char *const bad[] = {"a", "1-", "-1", "1,,2", "2-1", "1 2", "1048576", "99999999999", "1,", "0x3"};
    cr_assert_eq(pm_cpu_list_read("0-3,8,10-11\n", &set), 0);
    cr_assert_eq(pm_set_count(&set), 7);
    cr_assert_eq(pm_cpu_list_read("\n", &set), 0);
    cr_assert(pm_set_empty(&set));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        cr_assert_eq(pm_cpu_list_read("7", &set), 0);
        cr_assert_eq(pm_cpu_list_read(bad[i], &set), -EINVAL, "%s", bad[i]);
        cr_assert(pm_set_empty(&set), "%s", bad[i]);
    }
    cr_assert_eq(pm_cpu_list_read("1048575", &set), 0);
    is_set(&set, "1048575");
}

Test(driver, affinity_is_that_of_the_process)
{
    struct pm_set all = {0}, one = {0};
    cpu_set_t mask;
    char text[16];
    cr_assert_eq(pm_allowed_affinity(0, &all), 0);
    uint32_t first = pm_set_next(&all, 0);
    CPU_ZERO(&mask);
    CPU_SET(first, &mask);
    cr_assert_eq(sched_setaffinity(0, sizeof(mask), &mask), 0);
    cr_assert_eq(pm_allowed_affinity(getpid(), &one), 0);
    snprintf(text, sizeof(text), "%u", first);
    is_set(&one, text);
    pm_set_done(&all);
    cr_assert_eq(pm_allowed_affinity(-1, &one), -ESRCH);
}

Test(driver, the_innermost_cpuset_decides)
{
    struct pm_set cpus = {0};
    cr_assert_eq(pm_allowed_cgroup(root, &cpus), -ENOENT);
    put("/proc/self/cgroup", "0::/slurm/job_1/step_0/user/task_0\n");
    cr_assert_eq(pm_allowed_cgroup(root, &cpus), -ENOENT);
    put("/sys/fs/cgroup/cpuset.cpus.effective", "0-63\n");
    put("/sys/fs/cgroup/slurm/job_1/step_0/cpuset.cpus.effective", "4-7,36-39\n");
    cr_assert_eq(pm_allowed_cgroup(root, &cpus), 0);
    is_set(&cpus, "4-7,36-39");
    put("/proc/self/cgroup", "0::/\n");
    cr_assert_eq(pm_allowed_cgroup(root, &cpus), 0);
    is_set(&cpus, "0-63");
}

Test(driver, version_1_of_cgroups_is_read)
{
    struct pm_set cpus = {0};
    put("/proc/self/cgroup", "5:devices:/slurm\n4:cpuset:/slurm/uid_1/job_2\n0::/system.slice\n");
    put("/sys/fs/cgroup/cpuset/slurm/uid_1/job_2/cpuset.cpus", "1,3\n");
    cr_assert_eq(pm_allowed_cgroup(root, &cpus), 0);
    is_set(&cpus, "1,3");
}

// hwloc is given a file in place of this host; pm-discover does not let itself be fooled like that.
static void discover_as_host(const char *fixture, struct pm_machine *m)
{
    char path[512], error[PM_ERROR_CAP];
    snprintf(path, sizeof(path), "%s/%s.xml", PM_FIXTURES, fixture);
    setenv("HWLOC_XMLFILE", path, 1);
    cr_assert_eq(pm_discover_host(root, true, m, error), 0, "%s", error);
}

Test(driver, drivers_know_better_than_hwloc)
{
    struct pm_machine m = {0};
    put("/proc/driver/nvidia/gpus/0000:23:00.0/information",
        "Model: \t Fixture \xff H9\nGPU UUID: \t GPU-cafe\nDevice Minor: \t 1\n");
    put_link("/sys/bus/pci/devices/0000:23:00.0/driver", "../nvidia");
    put_link("/sys/bus/pci/devices/0000:36:00.0/driver", "../vfio-pci");
    put("/sys/bus/pci/devices/0000:24:00.0/physfn/class", "");
    discover_as_host("gpu-node", &m);
    cr_assert_eq(m.n_gpus, 2, "the one that vfio-pci has is nobody's");
    cr_assert_eq(m.gpus[1].pci.bus, 0x23);
    cr_assert_eq(m.gpus[1].minor, 1);
    cr_assert_str_eq(m.gpus[1].uuid, "GPU-cafe");
    cr_assert_str_eq(m.gpus[1].model, "Fixture ? H9", "only what can be printed");
    cr_assert_eq(m.gpus[0].minor, PM_PLACE_NONE);
    for (uint32_t i = 0; i < m.n_nics; i++)
        cr_assert(strcmp(m.nics[i].name, "mlx5_0") || m.nics[i].second_port, "a virtual function");
    pm_machine_done(&m);
}

static void put_kfd(unsigned node, unsigned location, unsigned minor)
{
    char name[96], text[96];
    snprintf(name, sizeof(name), "/sys/class/kfd/kfd/topology/nodes/%u/properties", node);
    snprintf(text, sizeof(text), "simd_count 8\nlocation_id %u\ndomain 0\ndrm_render_minor %u\n", location, minor);
    put(name, text);
}

Test(driver, kfd_shows_parts_that_hwloc_does_not)
{
    struct pm_machine m = {0};
    for (unsigned i = 0; i < 4; i++)
        put_kfd(2 + i, 0xc100, 128 + i);
    put_kfd(1, 0xd100, 140);
    put("/sys/bus/pci/devices/0000:d3:00.0/drm/renderD150/dev", "");
    put_link("/sys/bus/pci/devices/0000:d3:00.0/driver", "../xe");
    discover_as_host("partitions", &m);
    cr_assert_eq(m.n_gpus, 8);
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert(m.gpus[i].pci.bus == 0xc1 && m.gpus[i].partition == i);
        cr_assert_eq(m.gpus[i].runtime, 1 + i);
        cr_assert_eq(m.gpus[i].minor, 128 + i);
    }
    cr_assert_eq(m.gpus[6].runtime, 0);
    cr_assert_eq(m.gpus[6].minor, 140);
    cr_assert_eq(m.gpus[7].minor, 150, "Intel's by sysfs");
    pm_machine_done(&m);
}

Test(driver, a_link_that_is_down_says_so_unless_all_are)
{
    struct pm_machine m = {0};
    put("/sys/class/net/eno1/operstate", "down\n");
    discover_as_host("gpu-node", &m);
    cr_assert_str_eq(m.nics[0].name, "eno1");
    cr_assert_not(m.nics[0].down, "the only one of its class");
    pm_machine_done(&m);
    put("/sys/class/net/hsi0/operstate", "down\n");
    discover_as_host("partitions", &m);
    cr_assert_str_eq(m.nics[0].name, "hsi0");
    cr_assert(m.nics[0].down);
    pm_machine_done(&m);
}

// A host whose GPU 1 can be opened.
static void put_gpu_node(void)
{
    struct pm_machine m = {0};
    put("/proc/driver/nvidia/gpus/0000:23:00.0/information", "GPU UUID: \t GPU-cafe\nDevice Minor: \t 1\n");
    put("/dev/nvidia1", "");
    discover_as_host("gpu-node", &m);  // for the environment it leaves behind
    pm_machine_done(&m);
}

Test(driver, a_step_without_gpus_opens_none_and_needs_no_devices)
{
    struct pm_picture all, some;
    put_gpu_node();
    pm_picture_take(root, &all);
    pm_picture_take_without_gpus(root, &some);
    cr_assert_str_eq(all.error, "");
    cr_assert_str_eq(some.error, "");
    cr_assert_not(pm_set_empty(&all.admitted), "the GPU that can be opened");
    cr_assert(pm_set_empty(&some.admitted));
    cr_assert(all.machine.n_gpus == 3 && all.machine.n_nics == 6, "all devices");
    cr_assert(some.machine.n_gpus == 0 && some.machine.n_nics == 0, "none");
    cr_assert(some.machine.n_cores == all.machine.n_cores && pm_set_equal(&some.affinity, &all.affinity));
    pm_picture_done(&all);
    pm_picture_done(&some);
}

static void shows_nics(const char *device)
{
    struct pm_picture p;
    put(device, "");
    pm_picture_take_without_gpus(root, &p);
    cr_assert_eq(p.machine.n_nics, 6, "%s: %u NICs", device, p.machine.n_nics);
    cr_assert(pm_set_empty(&p.admitted));
    pm_picture_done(&p);
}

Test(driver, a_fabric_is_looked_for_without_gpus_too)
{
    put_gpu_node();
    shows_nics("/sys/class/infiniband/mlx5_0");
}

Test(driver, slingshot_is_a_fabric)
{
    put_gpu_node();
    shows_nics("/sys/class/cxi/cxi0");
}
