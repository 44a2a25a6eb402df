// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints of heat: what makes a restart continue instead of starting over.
//
// A checkpoint of step S is one file of rows per rank, and a marker that rank 0 makes after a
// barrier that every rank enters with its file on disk; the marker names the epoch whose files it
// vouches for, which is in their names: a node that was paused, declared dead and replaced may still
// write, and must not write into its successor's checkpoint. Each file is written under a temporary
// name, fsync'ed and renamed. A reader believes nothing: no marker, a missing file, a wrong
// size, step or checksum, and the checkpoint is passed over for the one before it; all ranks agree
// on that. The number of ranks may change between writing and reading. The last two checkpoints are
// kept.

#ifndef PM_TESTS_PROGRAMS_HEAT_CHECKPOINT_H
#define PM_TESTS_PROGRAMS_HEAT_CHECKPOINT_H

#include <stddef.h>

struct heat_checkpoint {
    const char *dir;    // on a file system that all ranks see
    long width, height; // of the whole field, in cells
    long first, count;  // rows of this rank
    int rank, size;
    long epoch;
    long previous_step; // newest complete checkpoint, 0: none
};

// The rows of a rank: as even as it goes, the first ranks take the rest.
void heat_rows_of(long height, int rank, int size, long *ret_first, long *ret_count);

// Collective. Fills rows (count x width cells, this rank's part) from the newest complete
// checkpoint that is no later than max_step, and returns its step; returns 0 and leaves rows alone
// if there is none. rows may hold garbage while other checkpoints are tried: 0 restores what was
// there.
long heat_checkpoint_load(struct heat_checkpoint *checkpoint, long max_step, double *rows);

// Collective. Ends the program if the checkpoint cannot be written.
void heat_checkpoint_save(struct heat_checkpoint *checkpoint, long step, const double *rows);

// Writes a file under a temporary name in its directory, fsyncs it and renames it.
void heat_file_write(const char *dir, const char *name, long epoch, const void *bytes, size_t size);

#endif
