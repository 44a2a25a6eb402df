// SPDX-License-Identifier: Apache-2.0
//
// A port for the next world's MASTER_PORT. Nobody can hold it for rank 0, so it is bound, noted and
// released; the kernel hands out ephemeral ports in an order that makes an early clash unlikely, and
// a clash shows as a failed rank 0, which is restarted with another port.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmix_server/agent.h"
#include "pmix_server/io/util.h"

#define TRIES 8

static uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    PM_CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return 0;
    return ntohs(a.sin_port);
}

void pm_port_offer(struct agent *a)
{
    uint16_t port = a->last_port;
    for (int i = 0; i < TRIES && (port == a->last_port || !port); i++)
        port = free_port();
    if (!port || port == a->last_port)
        return;
    a->last_port = port;
    pm_loop_post(a->loop, &(struct pm_event){.type = PM_EVENT_PORT, .port = port});
}
