// SPDX-License-Identifier: Apache-2.0
//
// Times MPI_Init, a first and a second barrier, and MPI_Finalize. For the benchmark table: what a
// real MPI library gains or loses at its start under one launcher or another.
//
// Rank 0 prints one JSON line at the end: nanoseconds, the largest of all ranks, except
// finalize_ns, which is rank 0's own.

#include <argp.h>
#include <stdlib.h>

#include "mpi_check.h"

enum { PHASE_INIT, PHASE_FIRST_BARRIER, PHASE_BARRIER, PHASE_COUNT };

static const struct argp parser = {
    .doc = "Times MPI_Init, two barriers and MPI_Finalize; rank 0 prints a JSON line.",
};

static int64_t timed_barrier(void)
{
    int64_t begin_ns = test_boottime_ns();
    must(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    return test_boottime_ns() - begin_ns;
}

int main(int argc, char **argv)
{
    test_begin("mpi_init");
    argp_parse(&parser, argc, argv, 0, NULL, NULL);
    int64_t own_ns[PHASE_COUNT];
    int64_t max_ns[PHASE_COUNT] = {0};

    int64_t begin_ns = test_boottime_ns();
    must(MPI_Init(&argc, &argv), "MPI_Init");
    own_ns[PHASE_INIT] = test_boottime_ns() - begin_ns;
    own_ns[PHASE_FIRST_BARRIER] = timed_barrier();
    own_ns[PHASE_BARRIER] = timed_barrier();

    int rank;
    int size;
    must(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
    must(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
    must(MPI_Reduce(own_ns, max_ns, PHASE_COUNT, MPI_INT64_T, MPI_MAX, 0, MPI_COMM_WORLD),
         "MPI_Reduce");
    begin_ns = test_boottime_ns();
    must(MPI_Finalize(), "MPI_Finalize");
    int64_t finalize_ns = test_boottime_ns() - begin_ns;
    if (rank == 0)
        test_print("{\"program\":\"mpi_init\",\"ranks\":%d,\"init_ns\":%lld,"
                   "\"first_barrier_ns\":%lld,\"barrier_ns\":%lld,\"finalize_ns\":%lld}",
                   size, (long long)max_ns[PHASE_INIT], (long long)max_ns[PHASE_FIRST_BARRIER],
                   (long long)max_ns[PHASE_BARRIER], (long long)finalize_ns);
    return 0;
}
