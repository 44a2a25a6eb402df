// SPDX-License-Identifier: Apache-2.0
//
// Makes a clean process of what the agent started, before libpmix sees anything of it.
#ifndef PM_PMIX_HYGIENE_H
#define PM_PMIX_HYGIENE_H

#include <stdint.h>

// Signals: everything that Slurm, a user or a terminal sends is ignored, and SIGPIPE; the server ends
// with its socket or by SIGKILL, also when its parent dies. Core files stay in `dir`. 0 or negative
// errno. Up to 64 MiB of freed memory are kept for the next fence.
int pm_hygiene_process(const char *dir);
// Environment: everything goes but a short list; then libpmix is told what of it to use. Nothing of
// the job's own PMIx settings, of an outer PMIx server or of the user's home directory remains.
// port: where to listen, 0 for any. 0 or negative errno.
int pm_hygiene_environment(const char *dir, uint16_t port);

#endif
