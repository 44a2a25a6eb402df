// SPDX-License-Identifier: Apache-2.0
//
// One way to check an MPI call: must(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier").

#ifndef PM_TESTS_PROGRAMS_MPI_CHECK_H
#define PM_TESTS_PROGRAMS_MPI_CHECK_H

#include <mpi.h>

#include "common.h"

static inline void must(int status, const char *call)
{
    if (status != MPI_SUCCESS)
        test_die("%s failed with %d", call, status);
}

#endif
