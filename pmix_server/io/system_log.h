// SPDX-License-Identifier: Apache-2.0
//
// One line for the host's syslog, without ever waiting for it: syslog(3) blocks when the daemon behind /dev/log
// does not read.
#ifndef PM_IO_SYSTEM_LOG_H
#define PM_IO_SYSTEM_LOG_H

// Facility user, priority warning, "IDENT[PID]: " in front. Without a syslog, or while it is busy: lost in silence.
void pm_syslog_warning(const char *ident, const char *text);

#endif
