// SPDX-License-Identifier: Apache-2.0
//
// See link.h.
#include "plugin/shim/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugin/shim/fds.h"

#define CONNECT_TIMEOUT_S 30
#define CROWDED_BYTES 16384

static int check_listener(int fd, uid_t uid)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -errno;
    return peer.uid == uid ? 0 : -EPERM;
}

// Blocks while the listener's queue is full, for CONNECT_TIMEOUT_S at most.
static int connect_to(int fd, const struct pm_shim_config *config)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
    memcpy(address.sun_path + 1, config->address, config->address_len);
    socklen_t len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + config->address_len);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    int rc;
    while ((rc = connect(fd, (struct sockaddr *)&address, len)) < 0 && errno == EINTR)
        ;
    return rc < 0 ? -errno : check_listener(fd, config->listener_uid);
}

int pm_link_connect(const struct pm_shim_config *config)
{
    if (config->address_len < 1 || config->address_len > PM_SHIM_ADDRESS_MAX)
        return -EINVAL;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    fd = pm_fd_raise(fd);
    int rc = fd < 0 ? fd : connect_to(fd, config);
    if (rc == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        rc = -errno;
    if (rc < 0 && fd >= 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

int pm_link_send(int fd, struct pm_writer *w)
{
    int rc = w->error;
    if (rc == 0 && send(fd, w->data, w->len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        rc = -errno;
    pm_writer_reset(w);
    return rc;
}

bool pm_link_is_crowded(int fd)
{
    int unread = 0;
    return ioctl(fd, SIOCOUTQ, &unread) == 0 && unread > CROWDED_BYTES;
}

static int take_fd(struct msghdr *message)
{
    int fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
            c->cmsg_len != CMSG_LEN(sizeof fd))
            continue;
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    }
    return fd;
}

long pm_link_receive(int fd, void *buf, size_t cap, int *ret_fd)
{
    // Room for one fd: the kernel closes any further one itself.
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = buf, .iov_len = cap};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *ret_fd = -1;
    ssize_t len = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (len < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    *ret_fd = take_fd(&message);
    if (message.msg_flags & MSG_TRUNC)
        return -EBADMSG;
    return len;
}
