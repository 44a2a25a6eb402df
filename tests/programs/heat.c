// SPDX-License-Identifier: Apache-2.0
//
// A small, real MPI application: the 2-D heat equation, explicit, split by rows, with checkpoints.
// Helps to test the main promise: a rank of a running MPI job dies, and the job carries on from its
// checkpoint. The result file is the same bit for bit, whatever the restarts and the number of
// ranks: a cell is computed by the same operations on the same neighbours wherever it lives.
//
// Lines: "heat: start rank=...", then of rank 0 "heat: resumed from step S" (0: fresh), "heat: step
// S", "heat: checkpoint S", "heat: ignored checkpoint of step S", "heat: wrote FILE step=S
// cells=N".

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heat_checkpoint.h"
#include "mpi_check.h"

#define CONDUCTION 0.1875 // exact in binary; stable below 0.25

enum { CELLS_MAX = 1 << 27, RESULT_HEAD_SIZE = 64 };

struct settings {
    long width, height;
    long steps;
    long every;  // steps between checkpoints, 0: none
    long report; // steps between progress lines
    long step_ms;
    const char *dir;
    const char *out;
};

// The rows of this rank, with one row of the neighbours above and below.
struct field {
    long width;
    long count;
    long first;  // in the whole field
    long height; // of the whole field
    double *now; // (count + 2) x width
    double *next;
};

// --- the command line ---

static const struct argp_option options[] = {
    {"size", 'n', "WxH", 0, "cells (256x256)", 0},
    {"steps", 's', "N", 0, "time steps (200)", 0},
    {"every", 'k', "N", 0, "steps between checkpoints, 0 for none (20)", 0},
    {"report", 'r', "N", 0, "steps between progress lines of rank 0 (as --every)", 0},
    {"step-ms", 'm', "MS", 0, "sleep so long in each step (0)", 0},
    {"dir", 'd', "DIR", 0, "checkpoints, on a file system that all ranks see; made if missing", 0},
    {"out", 'o', "FILE", 0, "the whole field at the end", 0},
    {0},
};

static void parse_size(struct settings *set, const char *text)
{
    char rest;
    if (sscanf(text, "%ldx%ld%c", &set->width, &set->height, &rest) != 2 || set->width < 3 ||
        set->height < 3 || set->width > CELLS_MAX || set->height > CELLS_MAX / set->width)
        test_die("--size: '%s' is not WxH with sides of 3 or more and at most %d cells", text,
                 CELLS_MAX);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct settings *set = state->input;
    switch (key) {
    case 'n':
        parse_size(set, text);
        return 0;
    case 's':
        set->steps = test_number(text, 1, INT32_MAX, "--steps");
        return 0;
    case 'k':
        set->every = test_number(text, 0, INT32_MAX, "--every");
        return 0;
    case 'r':
        set->report = test_number(text, 1, INT32_MAX, "--report");
        return 0;
    case 'm':
        set->step_ms = test_number(text, 0, 60000, "--step-ms");
        return 0;
    case 'd':
        set->dir = text;
        return 0;
    case 'o':
        set->out = text;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is no option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = parse_option,
    .doc = "2-D heat equation with checkpoints (MPI).\v"
           "Without --dir no checkpoints are made. Example:\n"
           "  srun --pm-supervise -N4 heat --steps 400 --step-ms 10 --dir ckpt --out result",
};

// --- the field ---

// Any start will do that is not symmetric: a mix of the coordinates, from 0 to 1000.
static double start_value(long row, long column)
{
    uint64_t mix = (uint64_t)row * UINT64_C(2654435761) + (uint64_t)column * UINT64_C(40503);
    return (double)((mix ^ (mix >> 15)) % 1001);
}

static void field_start(struct field *field)
{
    size_t cells = (size_t)((field->count + 2) * field->width);
    field->now = calloc(cells, sizeof *field->now);
    field->next = calloc(cells, sizeof *field->next);
    if (field->now == NULL || field->next == NULL)
        test_die("no memory for %zu cells", cells);
    for (long row = 0; row < field->count; row++)
        for (long column = 0; column < field->width; column++)
            field->now[(row + 1) * field->width + column] = start_value(field->first + row, column);
}

static void exchange_edges(struct field *field, int rank, int size)
{
    int above = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    int below = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
    int width = (int)field->width;
    double *top = field->now + field->width;
    double *bottom = field->now + field->count * field->width;
    must(MPI_Sendrecv(top, width, MPI_DOUBLE, above, 0, bottom + field->width, width, MPI_DOUBLE,
                      below, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
         "MPI_Sendrecv");
    must(MPI_Sendrecv(bottom, width, MPI_DOUBLE, below, 1, field->now, width, MPI_DOUBLE, above, 1,
                      MPI_COMM_WORLD, MPI_STATUS_IGNORE),
         "MPI_Sendrecv");
}

static void compute_row(const struct field *field, const double *here, double *to)
{
    const double *above = here - field->width;
    const double *below = here + field->width;
    long last = field->width - 1;
    to[0] = here[0];
    to[last] = here[last];
    for (long i = 1; i < last; i++)
        to[i] = here[i] + CONDUCTION * (((above[i] + below[i]) + (here[i - 1] + here[i + 1])) -
                                        4.0 * here[i]);
}

// The outermost cells of the whole field stay as they are.
static void compute_step(struct field *field)
{
    for (long row = 0; row < field->count; row++) {
        const double *here = field->now + (row + 1) * field->width;
        double *to = field->next + (row + 1) * field->width;
        long global = field->first + row;
        if (global == 0 || global == field->height - 1)
            memcpy(to, here, (size_t)field->width * sizeof *here);
        else
            compute_row(field, here, to);
    }
    double *spent = field->now;
    field->now = field->next;
    field->next = spent;
}

// --- the result ---

// Rank 0 collects the ranks' rows in order. NULL on other ranks; the caller frees.
static double *gather(const struct field *field, int rank, int size)
{
    int own = (int)(field->count * field->width);
    const double *rows = field->now + field->width;
    if (rank != 0) {
        must(MPI_Send(rows, own, MPI_DOUBLE, 0, 2, MPI_COMM_WORLD), "MPI_Send");
        return NULL;
    }
    double *whole = malloc((size_t)(field->width * field->height) * sizeof *whole);
    if (whole == NULL)
        test_die("no memory for the whole field");
    memcpy(whole, rows, (size_t)own * sizeof *whole);
    for (int from = 1; from < size; from++) {
        long first;
        long count;
        heat_rows_of(field->height, from, size, &first, &count);
        must(MPI_Recv(whole + first * field->width, (int)(count * field->width), MPI_DOUBLE, from,
                      2, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
             "MPI_Recv");
    }
    return whole;
}

static void write_result(const struct settings *set, const double *whole, long epoch)
{
    size_t cells = (size_t)(set->width * set->height);
    size_t size = RESULT_HEAD_SIZE + cells * sizeof *whole;
    char *bytes = calloc(1, size);
    if (bytes == NULL)
        test_die("no memory for the result");
    (void)snprintf(bytes, RESULT_HEAD_SIZE, "heat %ldx%ld step %ld\n", set->width, set->height,
                   set->steps);
    memcpy(bytes + RESULT_HEAD_SIZE, whole, cells * sizeof *whole);
    const char *slash = strrchr(set->out, '/');
    char dir[TEST_LINE_MAX];
    (void)snprintf(dir, sizeof dir, "%.*s", slash == NULL ? 1 : (int)(slash - set->out + 1),
                   slash == NULL ? "." : set->out);
    heat_file_write(dir, slash == NULL ? set->out : slash + 1, epoch, bytes, size);
    test_say("wrote %s step=%ld cells=%zu", set->out, set->steps, cells);
    free(bytes);
}

// --- the run ---

static void make_dir(const char *dir, int rank)
{
    if (rank == 0 && mkdir(dir, 0777) < 0 && errno != EEXIST)
        test_die("cannot make the folder %s: %s", dir, strerror(errno));
    must(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
}

static void run_steps(const struct settings *set, struct heat_checkpoint *checkpoint,
                      struct field *field, long from_step)
{
    for (long step = from_step + 1; step <= set->steps; step++) {
        exchange_edges(field, checkpoint->rank, checkpoint->size);
        compute_step(field);
        if (set->step_ms > 0)
            test_sleep_ms(set->step_ms);
        if (checkpoint->rank == 0 && set->report > 0 && step % set->report == 0)
            test_say("step %ld", step);
        if (set->dir == NULL || set->every == 0 || step % set->every != 0)
            continue;
        heat_checkpoint_save(checkpoint, step, field->now + field->width);
        if (checkpoint->rank == 0)
            test_say("checkpoint %ld", step);
    }
}

static void say_start(const struct heat_checkpoint *checkpoint)
{
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) < 0)
        test_die("gethostname: %s", strerror(errno));
    test_say("start rank=%d size=%d pid=%d host=%s epoch=%ld boottime_ns=%lld", checkpoint->rank,
             checkpoint->size, (int)getpid(), host, checkpoint->epoch,
             (long long)test_boottime_ns());
}

static void run(const struct settings *set, struct heat_checkpoint *checkpoint)
{
    struct field field = {
        .width = set->width,
        .height = set->height,
        .first = checkpoint->first,
        .count = checkpoint->count,
    };
    field_start(&field);
    long step = 0;
    if (set->dir != NULL) {
        make_dir(set->dir, checkpoint->rank);
        step = heat_checkpoint_load(checkpoint, set->steps, field.now + field.width);
    }
    if (checkpoint->rank == 0)
        test_say("resumed from step %ld", step);
    run_steps(set, checkpoint, &field, step);
    double *whole = gather(&field, checkpoint->rank, checkpoint->size);
    if (whole != NULL && set->out != NULL)
        write_result(set, whole, checkpoint->epoch);
    free(whole);
    free(field.now);
    free(field.next);
}

int main(int argc, char **argv)
{
    struct settings set = {.width = 256, .height = 256, .steps = 200, .every = 20, .report = -1};
    test_begin("heat");
    argp_parse(&parser, argc, argv, 0, NULL, &set);
    if (set.report < 0)
        set.report = set.every;

    must(MPI_Init(&argc, &argv), "MPI_Init");
    struct heat_checkpoint checkpoint = {
        .dir = set.dir,
        .width = set.width,
        .height = set.height,
        .epoch = test_identity_read().epoch,
    };
    must(MPI_Comm_rank(MPI_COMM_WORLD, &checkpoint.rank), "MPI_Comm_rank");
    must(MPI_Comm_size(MPI_COMM_WORLD, &checkpoint.size), "MPI_Comm_size");
    if (checkpoint.size > set.height)
        test_die("%d ranks are too many for %ld rows", checkpoint.size, set.height);
    heat_rows_of(set.height, checkpoint.rank, checkpoint.size, &checkpoint.first,
                 &checkpoint.count);
    say_start(&checkpoint);
    run(&set, &checkpoint);
    must(MPI_Finalize(), "MPI_Finalize");
    return 0;
}
