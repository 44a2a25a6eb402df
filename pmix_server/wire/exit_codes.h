// SPDX-License-Identifier: Apache-2.0
//
// Exit codes of our own programs, and of srun where they are its verdict (pm-supervise(1), EXIT STATUS). Programs may end with
// the same ones: only the line that goes with ours tells them apart.
#ifndef PM_WIRE_EXIT_CODES_H
#define PM_WIRE_EXIT_CODES_H

#define PM_EXIT_LOST 1                // a node, agent or shim was lost, or something of Slurm
#define PM_EXIT_AGENT_GONE 124        // of a shim: its agent is gone, and it has killed its rank
#define PM_EXIT_CANNOT_SUPERVISE 125  // supervision could not start, or cannot do what was asked for

#endif
