// SPDX-License-Identifier: Apache-2.0
//
// Descendants of a rank, of every kind that tries to outlive it. Tests the promise that a halt
// kills the whole process tree of a rank: the test reads the pids from a file and looks for
// survivors.

#ifndef PM_TESTS_PROGRAMS_FAULT_FAMILY_H
#define PM_TESTS_PROGRAMS_FAULT_FAMILY_H

struct fault_family {
    const char *pid_file; // gets "PID KIND" lines; NULL: they are not written
    long children;        // plain children
    long chain;           // child of a child of a child ...
    long sessions;        // children with a session of their own
    long daemons;         // double fork and setsid: their parent is gone
    long forkers;         // fork, let the parent end, and so on every 5 ms
    long life_ms;         // all of them end by themselves after this
};

// Starts them all; returns when each has written its pid. Ends the program if it cannot.
void fault_family_start(const struct fault_family *family);

#endif
