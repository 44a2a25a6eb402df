// SPDX-License-Identifier: Apache-2.0
//
// See hygiene.h for the contract.
#include "pmix_server/pmix/hygiene.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "pmix_server/wire/server_proto.h"

enum { KEPT_BLOCK = 32 << 20, KEPT_FREE = 64 << 20 };

struct setting {
    const char *name;
    const char *value;
};

// What libpmix (names: "PMIX_MCA_" + parameter) and the hwloc inside it are told.
static const struct setting pmix_settings[] = {
    // ds21, the default of 4.2, hangs the server for good when a client is killed in its lock.
    {"PMIX_MCA_gds", "hash"},
    // A lost connection is reported at once, not a second later together with others.
    {"PMIX_MCA_pmix_event_caching_window", "0"},
    // No shared memory region with the topology: it would be a file to leave behind.
    {"PMIX_MCA_pmix_hwloc_hole_kind", "none"},
    // No plugins from disk: what is needed is built into libpmix, the rest costs start-up time.
    {"PMIX_MCA_mca_base_component_disable_dlopen", "1"},
    // CPUs and caches are all we ask hwloc for. Its PCI, OpenCL and X11 searches take longer than
    // everything else together.
    {"HWLOC_COMPONENTS", "-linux:0x38,linux,stop"},
    {"HWLOC_PLUGINS_PATH", "/nonexistent"},
};

static const char *const kept_variables[] = {
    "LD_LIBRARY_PATH", "SLURMD_NODENAME", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
};

// libmunge's compiled-in default; psec/munge of libpmix knows no other.
static const char *const munge_sockets[] = {
    "/run/munge/munge.socket.2", "/var/run/munge/munge.socket.2",
};

// The blobs of a fence, its result and what libpmix makes of them are of some 100 KiB to MiB, live
// for milliseconds and come again with the next fence: their pages are kept instead of being given
// back and zeroed anew. One arena: the two threads hand each other what they allocate.
static void keep_pages(void)
{
    mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK);
    mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
    mallopt(M_ARENA_MAX, 1);
}

int pm_hygiene_process(const char *dir)
{
    keep_pages();
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT, SIGALRM,
                                  SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGXCPU, SIGCHLD};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        if (signal(ignored[i], SIG_IGN) == SIG_ERR)
            return -errno;
    sigset_t none;
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -errno;
    if (fcntl(PM_SERVER_FD, F_SETFD, FD_CLOEXEC) < 0 || chdir(dir) < 0)
        return -errno;
    umask(0077);
    return 0;
}

// 1, 0, or a negative errno: not knowing must not lead to the weaker one.
static int munge_is_usable(void)
{
    for (size_t i = 0; i < sizeof(munge_sockets) / sizeof(munge_sockets[0]); i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, munge_sockets[i], sizeof(address.sun_path) - 1);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            return -errno;
        int error = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
        close(fd);
        if (!error || error == EAGAIN)  // munged has more to do than its queue holds
            return 1;
        if (error != ENOENT && error != ECONNREFUSED && error != EACCES)
            return -error;
    }
    return 0;
}

// The environment is emptied and then gets back what is on the list.
static int keep_only_the_list(void)
{
    enum { N = sizeof(kept_variables) / sizeof(kept_variables[0]) };
    char *values[N];
    int error = 0;
    for (size_t i = 0; i < N; i++) {
        const char *value = getenv(kept_variables[i]);
        values[i] = value ? strdup(value) : NULL;
        if (value && !values[i])
            error = -ENOMEM;
    }
    if (clearenv() != 0)
        error = -ENOMEM;
    for (size_t i = 0; i < N; i++) {
        if (!error && values[i] && setenv(kept_variables[i], values[i], 1) < 0)
            error = -errno;
        free(values[i]);
    }
    return error;
}

int pm_hygiene_environment(const char *dir, uint16_t port)
{
    int error = keep_only_the_list();
    if (error)
        return error;
    for (size_t i = 0; i < sizeof(pmix_settings) / sizeof(pmix_settings[0]); i++)
        if (setenv(pmix_settings[i].name, pmix_settings[i].value, 1) < 0)
            return -errno;
    // psec/native believes the uid that a client states; munge proves it. Pinned, because a client
    // names the module it wants, and without a pin would get the weaker one.
    int munge = munge_is_usable();
    if (munge < 0)
        return munge;
    if (setenv("PMIX_MCA_psec", munge ? "munge" : "native", 1) < 0)
        return -errno;
    char number[8];
    snprintf(number, sizeof(number), "%u", port);
    if (port && setenv("PMIX_MCA_ptl_base_ipv4_port", number, 1) < 0)
        return -errno;
    const char *node = getenv("SLURMD_NODENAME");
    if (node && setenv("PMIX_HOSTNAME", node, 1) < 0)
        return -errno;
    // HOME: libpmix reads and searches ~/.pmix, which can be on a hanging file system.
    if (setenv("HOME", dir, 1) < 0 || setenv("TMPDIR", dir, 1) < 0)
        return -errno;
    return 0;
}
