// SPDX-License-Identifier: Apache-2.0
//
// See listener.h for the contract. libpmix does not tell its socket, so we look for it: among the
// first 1024 numbers, because it uses select(). On Linux an accepted socket inherits these options.
#include "pmix_server/pmix/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { HANDSHAKE_LIMIT_S = 1 };

static int find_listener(struct sockaddr_storage *ret_address)
{
    for (int fd = 0; fd < FD_SETSIZE; fd++) {
        int listens = 0;
        socklen_t len = sizeof(listens);
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
            continue;
        len = sizeof(*ret_address);
        if (getsockname(fd, (struct sockaddr *)ret_address, &len) == 0
            && (ret_address->ss_family == AF_INET || ret_address->ss_family == AF_INET6))
            return fd;
    }
    return -ENOENT;
}

int pm_listener_tune(void)
{
    struct sockaddr_storage address;
    int fd = find_listener(&address);
    if (fd < 0)
        return fd;
    int on = 1;
    struct timeval limit = {.tv_sec = HANDSHAKE_LIMIT_S};
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0
        || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0
        || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
        return -errno;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}
