// SPDX-License-Identifier: Apache-2.0
//
// An MPI application that fails in the middle of a collective, in its first lives only. Helps to
// test the promises about MPI_Abort, a signal, a bad exit and an exit without MPI_Finalize: each
// leads to the policy's decision, no rank is left waiting, and the next life runs to its end.
//
// Lines: "mpi_fault: start rank=.. size=..", "mpi_fault: fail rank=R ..", and from each rank that
// comes to its end "mpi_fault: rank R epoch E done".

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mpi_check.h"

struct settings {
    const char *ranks;
    long lives;
    const struct failure *failure;
    long value;
    long iterations;
    long at; // iteration of the failure
    long iteration_ms;
};

static void fail_abort(long code)
{
    must(MPI_Abort(MPI_COMM_WORLD, (int)code), "MPI_Abort");
}

static void fail_signal(long number)
{
    (void)signal((int)number, SIG_DFL); // refused for KILL and STOP, which need nothing
    if (kill(getpid(), (int)number) < 0)
        test_die("kill: %s", strerror(errno));
}

static void fail_exit(long code)
{
    _exit((int)code); // no exit handler of the library may finalize
}

static const struct failure {
    int key;
    const char *name;
    void (*act)(long value);
} failures[] = {
    {'a', "abort", fail_abort},
    {'s', "signal", fail_signal},
    {'e', "exit", fail_exit},
};

static const struct argp_option options[] = {
    {"abort", 'a', "CODE", 0, "fail by MPI_Abort(CODE)", 1},
    {"signal", 's', "SIG", 0, "fail by sending SIG to itself", 1},
    {"exit", 'e', "CODE", 0, "fail by _exit(CODE) without MPI_Finalize; CODE may be 0", 1},
    {"rank", 'r', "LIST", 0, "ranks that fail (0)", 2},
    {"lives", 'l', "N", 0, "fail in the first N incarnations (1)", 2},
    {"at", 't', "I", 0, "fail in iteration I, with its MPI_Iallreduce begun (5)", 2},
    {"iterations", 'i', "N", 0, "iterations of allreduce and barrier (20)", 3},
    {"iteration-ms", 'm', "MS", 0, "sleep so long in each iteration (0)", 3},
    {0},
};

static const struct failure *failure_of_key(int key)
{
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        if (failures[i].key == key)
            return &failures[i];
    return NULL;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct settings *set = state->input;
    if (failure_of_key(key) != NULL) {
        set->failure = failure_of_key(key);
        set->value = key == 's' ? test_signal_number(text) : test_number(text, 0, 255, "exit code");
        return 0;
    }
    switch (key) {
    case 'r':
        set->ranks = text;
        return 0;
    case 'l':
        set->lives = test_number(text, 0, INT32_MAX, "--lives");
        return 0;
    case 't':
        set->at = test_number(text, 0, INT32_MAX, "--at");
        return 0;
    case 'i':
        set->iterations = test_number(text, 0, INT32_MAX, "--iterations");
        return 0;
    case 'm':
        set->iteration_ms = test_number(text, 0, 60000, "--iteration-ms");
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
    .doc = "Fail inside an MPI collective, in the first lives only.\v"
           "Example: rank 2 is killed by itself in its first life:\n"
           "  mpi_fault --rank 2 --signal KILL",
};

static void iterate(const struct settings *set, int rank, int size, bool fails)
{
    for (long i = 0; i < set->iterations; i++) {
        int one = 1;
        int sum = 0;
        MPI_Request request;
        must(MPI_Iallreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request),
             "MPI_Iallreduce");
        if (fails && i == set->at) {
            test_say("fail rank=%d how=%s value=%ld boottime_ns=%lld", rank, set->failure->name,
                     set->value, (long long)test_boottime_ns());
            set->failure->act(set->value);
        }
        must(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
        if (sum != size)
            test_die("rank %d: the sum over %d ranks is %d", rank, size, sum);
        if (set->iteration_ms > 0)
            test_sleep_ms(set->iteration_ms);
        must(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
    }
}

int main(int argc, char **argv)
{
    struct settings set = {.ranks = "0", .lives = 1, .iterations = 20, .at = 5};
    test_begin("mpi_fault");
    argp_parse(&parser, argc, argv, 0, NULL, &set);
    if (set.failure != NULL && set.at >= set.iterations)
        test_die("--at %ld is not below --iterations %ld", set.at, set.iterations);

    int rank;
    int size;
    must(MPI_Init(&argc, &argv), "MPI_Init");
    must(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
    must(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
    struct test_identity me = test_identity_read();
    test_say("start rank=%d size=%d epoch=%ld incarnation=%ld pid=%d", rank, size, me.epoch,
             me.incarnation, (int)getpid());
    bool fails =
        test_list_has(set.ranks, rank) && set.failure != NULL && me.incarnation < set.lives;
    iterate(&set, rank, size, fails);
    must(MPI_Finalize(), "MPI_Finalize");
    test_say("rank %d epoch %ld done", rank, me.epoch);
    return 0;
}
