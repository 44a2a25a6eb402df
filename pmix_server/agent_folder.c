// SPDX-License-Identifier: Apache-2.0
//
// Folders, and what a killed server or rank leaves behind.
//
// /tmp/pm-supervise.UID.JOB.STEP.XXXXXX, mode 0700, made by mkdtemp (never an existing one). Removal
// is by fd (openat, unlinkat), as the user, and never follows a link.
//
// Open MPI keeps its shared memory in /dev/shm under a name with host, uid and a hash of the PMIx
// namespace; as every epoch has a namespace of its own, the hash tells exactly which files are ours.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define DEPTH_MAX 32
#define SWEEP_EPOCHS 4096  // of a step whose last epoch is not known

// The name is given after the lock is taken: every folder of that name without a lock has no owner.
static int lock_and_name(const char *made, const char *wanted)
{
    PM_CLEANUP_FD int fd = open(made, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || rename(made, wanted) < 0)
        return -errno;
    return pm_take_fd(&fd);
}

int pm_folder_make(const char *parent, const char *name, char *path, size_t cap)
{
    char made[PM_AGENT_PATH_CAP];
    int n = snprintf(made, sizeof(made), "%s/.%s.XXXXXX", parent, name);
    if (n < 0 || (size_t)n >= sizeof(made) || (size_t)n >= cap)
        return -ENAMETOOLONG;
    if (!mkdtemp(made))
        return -errno;
    snprintf(path, cap, "%s/%s", parent, made + strlen(parent) + 2);
    int fd = lock_and_name(made, path);
    if (fd < 0)
        rmdir(made);
    return fd;
}

// Takes over `fd`.
static void empty(int fd, int depth)
{
    DIR *dir = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *d; (d = readdir(dir));) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        if (unlinkat(fd, d->d_name, 0) == 0 || (errno != EISDIR && errno != EPERM))
            continue;
        int sub = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub >= 0)
            empty(sub, depth + 1);
        unlinkat(fd, d->d_name, AT_REMOVEDIR);
    }
    closedir(dir);
}

bool pm_folder_remove(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        empty(fd, 0);
    return rmdir(path) == 0 || errno == ENOENT;
}

// Open MPI's number for a PMIx namespace (opal/util/proc.h, hash_string.h): one-at-a-time, one bit cleared.
static uint32_t ompi_jobid(const char *nspace)
{
    uint32_t hash = 0;
    for (const char *p = nspace; *p; p++) {
        hash += (uint32_t)*p;
        hash += hash << 10;
        hash ^= hash >> 6;
    }
    hash += hash << 3;
    hash ^= hash >> 11;
    hash += hash << 15;
    return hash & ~0x8000u;
}

// The namespace's number in "vader_segment.HOST.UID.NUMBER.RANK" (Open MPI 4) or "sm_segment..." (Open
// MPI 5), if it is of this host and user.
static bool segment_number(const char *name, const char *host, uint32_t uid, uint32_t *ret)
{
    static const char *const kinds[] = {"vader_segment.", "sm_segment."};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (strncmp(name, kinds[i], strlen(kinds[i])) != 0)
            continue;
        const char *at = name + strlen(kinds[i]);
        size_t len = strlen(host);
        unsigned owner;
        if (strncmp(at, host, len) != 0)
            len = strcspn(host, ".");
        return !strncmp(at, host, len) && sscanf(at + len, ".%u.%x.", &owner, ret) == 2 &&
               owner == uid;
    }
    return false;
}

static bool is_number_of(uint32_t number, const char *step_name, uint32_t epoch, uint32_t n)
{
    char nspace[64];
    for (uint32_t i = 0; i < n; i++) {
        snprintf(nspace, sizeof(nspace), "%s.%u", step_name, epoch + i);
        if (ompi_jobid(nspace) == number)
            return true;
    }
    return false;
}

void pm_folder_sweep_epochs(uint32_t job, uint32_t step, uint32_t epoch, uint32_t n)
{
    char step_name[48], host[256] = "";
    uint32_t number;
    snprintf(step_name, sizeof(step_name), "pm.%u.%u", job, step);
    gethostname(host, sizeof(host) - 1);
    DIR *shm = opendir("/dev/shm");
    for (struct dirent *d; shm && (d = readdir(shm));) {
        if (segment_number(d->d_name, host, geteuid(), &number) &&
            is_number_of(number, step_name, epoch, n))
            unlinkat(dirfd(shm), d->d_name, 0);
    }
    if (shm)
        closedir(shm);
}

// A lock that can be had has no owner. A file system that somebody has mounted there says of owners what it likes.
static bool is_stale(int parent, const char *name, uint32_t uid)
{
    struct stat st, around;
    PM_CLEANUP_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == uid && fstat(parent, &around) == 0 && st.st_dev == around.st_dev &&
           flock(fd, LOCK_EX | LOCK_NB) == 0;
}

void pm_folder_sweep_stale(uint32_t uid, const char *tmpdir)
{
    char path[PM_AGENT_PATH_CAP];
    unsigned owner, job, step;
    DIR *dir = opendir(tmpdir);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        int n = snprintf(path, sizeof(path), "%s/%s", tmpdir, d->d_name);
        if (sscanf(d->d_name, "pm-supervise.%u.%u.%u.", &owner, &job, &step) != 3 || owner != uid ||
            n < 0 || (size_t)n >= sizeof(path) || !is_stale(dirfd(dir), d->d_name, uid))
            continue;
        pm_folder_remove(path);
        pm_folder_sweep_epochs(job, step, 0, SWEEP_EPOCHS);
    }
    if (dir)
        closedir(dir);
}

static int step_folder(struct agent *a)
{
    const struct pm_agent_config *c = &a->config;
    struct pm_agent_legacy *legacy = a->legacy;
    char name[64], path[PM_AGENT_PATH_CAP];
    snprintf(name, sizeof(name), "pm-supervise.%u.%u.%u", c->uid, c->job, c->step);
    int lock = pm_folder_make(c->tmpdir, name, path, sizeof(path));
    if (lock < 0)
        return lock;
    a->folder_lock = lock;
    legacy->job = c->job;
    legacy->step = c->step;
    memcpy(legacy->folder, path, sizeof(path));
    return 0;
}

int pm_folder_new(struct agent *a, char *path, size_t cap)
{
    int r = a->legacy->folder[0] ? 0 : step_folder(a);
    if (r < 0)
        return r;
    int n = snprintf(path, cap, "%s/s%u", a->legacy->folder, a->n_folders++);
    if (n < 0 || (size_t)n >= cap)
        return -ENAMETOOLONG;
    return mkdir(path, 0700) < 0 ? -errno : 0;
}

void pm_folder_done(struct agent *a)
{
    if (!a->legacy || !a->legacy->folder[0])
        return;
    if (pm_folder_remove(a->legacy->folder))
        a->legacy->folder[0] = '\0';  // else the janitor tries again
    if (a->folder_lock >= 0)
        close(a->folder_lock);
    a->folder_lock = -1;
}
