// SPDX-License-Identifier: Apache-2.0
//
// See heat_checkpoint.h.

#include "heat_checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi_check.h"

enum { NAME_SIZE = 256 };

static const char file_magic[8] = "PMHEAT1";

struct file_head {
    char magic[8];
    int64_t width, height, step, first, count;
    uint64_t checksum; // of the cells that follow
};

static uint64_t checksum_of(const void *bytes, size_t size)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return sum;
}

void heat_rows_of(long height, int rank, int size, long *ret_first, long *ret_count)
{
    long even = height / size;
    long rest = height % size;
    *ret_count = even + (rank < rest);
    *ret_first = rank * even + (rank < rest ? rank : rest);
}

// What a marker vouches for: files of these writers, which began in this epoch.
struct source {
    long writers, epoch;
};

static void rows_name(char name[static NAME_SIZE], long step, int writer, const struct source *of)
{
    (void)snprintf(name, NAME_SIZE, "step-%010ld.epoch-%ld.rows-%05d-of-%05ld", step, of->epoch,
                   writer, of->writers);
}

static void marker_name(char name[static NAME_SIZE], long step)
{
    (void)snprintf(name, NAME_SIZE, "step-%010ld.complete", step);
}

// --- writing ---

static int open_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        test_die("cannot open the folder %s: %s", dir, strerror(errno));
    return fd;
}

static void write_fully(int fd, const char *bytes, size_t size, const char *name)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            test_die("cannot write %s: %s", name, strerror(errno));
        bytes += written;
        size -= (size_t)written;
    }
}

void heat_file_write(const char *dir, const char *name, long epoch, const void *bytes, size_t size)
{
    char temporary[NAME_SIZE + 64];
    (void)snprintf(temporary, sizeof temporary, ".tmp.epoch-%ld.%s", epoch, name);
    int dir_fd = open_dir(dir);
    int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        test_die("cannot make %s/%s: %s", dir, temporary, strerror(errno));
    write_fully(fd, bytes, size, temporary);
    if (fsync(fd) < 0 || close(fd) < 0)
        test_die("cannot write %s/%s: %s", dir, temporary, strerror(errno));
    if (renameat(dir_fd, temporary, dir_fd, name) < 0)
        test_die("cannot rename %s/%s: %s", dir, temporary, strerror(errno));
    if (fsync(dir_fd) < 0 || close(dir_fd) < 0)
        test_die("cannot sync the folder %s: %s", dir, strerror(errno));
}

static void write_rows(const struct heat_checkpoint *at, long step, const double *rows)
{
    size_t cells_size = (size_t)(at->count * at->width) * sizeof *rows;
    size_t size = sizeof(struct file_head) + cells_size;
    char *bytes = malloc(size);
    if (bytes == NULL)
        test_die("no memory for a checkpoint of %zu bytes", size);
    struct file_head head = {
        .width = at->width,
        .height = at->height,
        .step = step,
        .first = at->first,
        .count = at->count,
        .checksum = checksum_of(rows, cells_size),
    };
    memcpy(head.magic, file_magic, sizeof head.magic);
    memcpy(bytes, &head, sizeof head);
    memcpy(bytes + sizeof head, rows, cells_size);
    char name[NAME_SIZE];
    struct source own = {at->size, at->epoch};
    rows_name(name, step, at->rank, &own);
    heat_file_write(at->dir, name, at->epoch, bytes, size);
    free(bytes);
}

// --- the folder ---

// The step of one of our files, -1 for others. A temporary file counts as step 0: always too old.
static long step_of_name(const char *name, bool *ret_marker)
{
    long step = -1;
    *ret_marker = strstr(name, ".complete") != NULL;
    if (strncmp(name, ".tmp.", 5) == 0)
        return 0;
    return sscanf(name, "step-%ld.", &step) == 1 ? step : -1;
}

static void remove_older(const struct heat_checkpoint *at, long oldest_kept, bool markers)
{
    int dir_fd = open_dir(at->dir);
    DIR *dir = fdopendir(dir_fd);
    if (dir == NULL)
        test_die("cannot read the folder %s: %s", at->dir, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        bool is_marker;
        long step = step_of_name(entry->d_name, &is_marker);
        if (step < 0 || step >= oldest_kept || is_marker != markers)
            continue;
        if (unlinkat(dir_fd, entry->d_name, 0) < 0 && errno != ENOENT)
            test_die("cannot remove %s/%s: %s", at->dir, entry->d_name, strerror(errno));
    }
    (void)closedir(dir);
}

// The newest step with a marker that is older than below, 0 if there is none.
static long newest_marker(const struct heat_checkpoint *at, long below)
{
    DIR *dir = opendir(at->dir);
    if (dir == NULL)
        test_die("cannot read the folder %s: %s", at->dir, strerror(errno));
    long newest = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        bool is_marker;
        long step = step_of_name(entry->d_name, &is_marker);
        if (is_marker && step < below && step > newest)
            newest = step;
    }
    (void)closedir(dir);
    return newest;
}

void heat_checkpoint_save(struct heat_checkpoint *at, long step, const double *rows)
{
    write_rows(at, step, rows);
    must(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    if (at->rank == 0) {
        char name[NAME_SIZE];
        char text[NAME_SIZE];
        marker_name(name, step);
        int length =
            snprintf(text, sizeof text, "%d ranks, %ldx%ld, epoch %ld\n", at->size, at->width,
                     at->height, at->epoch);
        heat_file_write(at->dir, name, at->epoch, text, (size_t)length);
        remove_older(at, at->previous_step, true); // markers first: no marker without its files
        remove_older(at, at->previous_step, false);
    }
    at->previous_step = step;
}

// --- reading ---

// Who wrote a checkpoint; 0 writers if its marker does not fit this field.
static struct source source_of(const struct heat_checkpoint *at, long step)
{
    char name[NAME_SIZE];
    char path[TEST_LINE_MAX];
    marker_name(name, step);
    (void)snprintf(path, sizeof path, "%s/%s", at->dir, name);
    FILE *file = fopen(path, "re");
    struct source found = {0};
    long width = 0;
    long height = 0;
    bool fits = file != NULL &&
                fscanf(file, "%ld ranks, %ldx%ld, epoch %ld", &found.writers, &width, &height,
                       &found.epoch) == 4 &&
                width == at->width && height == at->height && found.writers > 0 &&
                found.writers <= height;
    if (file != NULL)
        (void)fclose(file);
    return fits ? found : (struct source){0};
}

static bool head_fits(const struct file_head *head, const struct file_head *wanted)
{
    return memcmp(head->magic, file_magic, sizeof head->magic) == 0 &&
           head->width == wanted->width && head->height == wanted->height &&
           head->step == wanted->step && head->first == wanted->first &&
           head->count == wanted->count;
}

// Reads one writer's rows into cells. False if anything is not as it must be.
static bool read_rows(const char *path, const struct file_head *wanted, double *cells)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    struct file_head head;
    size_t count = (size_t)(wanted->count * wanted->width);
    bool good = fread(&head, sizeof head, 1, file) == 1 && head_fits(&head, wanted) &&
                fread(cells, sizeof *cells, count, file) == count && fgetc(file) == EOF &&
                checksum_of(cells, count * sizeof *cells) == head.checksum;
    (void)fclose(file);
    return good;
}

// Copies what writer's file has of this rank's rows.
static bool load_from_writer(const struct heat_checkpoint *at, long step, int writer,
                             const struct source *of, double *rows)
{
    long first;
    long count;
    heat_rows_of(at->height, writer, (int)of->writers, &first, &count);
    long from = first > at->first ? first : at->first;
    long to = first + count < at->first + at->count ? first + count : at->first + at->count;
    if (from >= to)
        return true;
    char name[NAME_SIZE];
    char path[TEST_LINE_MAX];
    rows_name(name, step, writer, of);
    (void)snprintf(path, sizeof path, "%s/%s", at->dir, name);
    struct file_head wanted = {
        .width = at->width,
        .height = at->height,
        .step = step,
        .first = first,
        .count = count,
    };
    double *cells = malloc((size_t)(count * at->width) * sizeof *cells);
    if (cells == NULL)
        test_die("no memory for the rows of %s", path);
    bool good = read_rows(path, &wanted, cells);
    if (good)
        memcpy(rows + (from - at->first) * at->width, cells + (from - first) * at->width,
               (size_t)((to - from) * at->width) * sizeof *cells);
    free(cells);
    return good;
}

static bool load_step(const struct heat_checkpoint *at, long step, const struct source *of,
                      double *rows)
{
    int good = 1;
    for (int writer = 0; good && writer < of->writers; writer++)
        good = load_from_writer(at, step, writer, of, rows);
    int all_good = 0;
    must(MPI_Allreduce(&good, &all_good, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD), "MPI_Allreduce");
    return all_good;
}

long heat_checkpoint_load(struct heat_checkpoint *at, long max_step, double *rows)
{
    size_t size = (size_t)(at->count * at->width) * sizeof *rows;
    double *fresh = malloc(size);
    if (fresh == NULL)
        test_die("no memory for %zu bytes", size);
    memcpy(fresh, rows, size);
    struct {
        long step;
        struct source of;
    } candidate = {.step = max_step + 1};
    for (;;) {
        if (at->rank == 0) {
            candidate.step = newest_marker(at, candidate.step);
            candidate.of = candidate.step > 0 ? source_of(at, candidate.step) : (struct source){0};
        }
        must(MPI_Bcast(&candidate, 3, MPI_LONG, 0, MPI_COMM_WORLD), "MPI_Bcast");
        if (candidate.step == 0)
            memcpy(rows, fresh, size);
        if (candidate.step == 0 ||
            (candidate.of.writers > 0 && load_step(at, candidate.step, &candidate.of, rows)))
            break;
        if (at->rank == 0)
            test_say("ignored checkpoint of step %ld", candidate.step);
    }
    free(fresh);
    at->previous_step = candidate.step;
    return candidate.step;
}
