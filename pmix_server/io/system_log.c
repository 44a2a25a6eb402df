// SPDX-License-Identifier: Apache-2.0
//
// See system_log.h for the contract.
#include "pmix_server/io/system_log.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/io/util.h"

#define LINE_CAP 1024  // RFC 3164

void pm_syslog_warning(const char *ident, const char *text)
{
    static const struct sockaddr_un log = {.sun_family = AF_UNIX, .sun_path = _PATH_LOG};
    char line[LINE_CAP], stamp[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    PM_CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
    int n = snprintf(line, sizeof(line), "<%d>%s %s[%d]: %s", LOG_USER | LOG_WARNING, stamp, ident,
                     (int)getpid(), text);
    size_t len = n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1;
    (void)sendto(fd, line, len, MSG_NOSIGNAL, (const struct sockaddr *)&log, sizeof(log));
}
