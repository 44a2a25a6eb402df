// SPDX-License-Identifier: Apache-2.0
//
// See listen.h for the contract.
#include "pmix_server/io/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "pmix_server/io/address.h"
#include "pmix_server/io/util.h"

#define ANY_TRIES 16   // an "any" port free for IPv6 may be taken for IPv4
#define NO_FD_PAUSE_MS 100

struct pm_listener {
    struct pm_listen_config config;
    int fds[2];  // IPv6, IPv4; -1: this kernel has none of it
    struct event *events[2];
    struct event *retry;
    uint16_t port;
};

static int bind_one(int family, uint16_t port)
{
    PM_CLEANUP_FD int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool six = family == AF_INET6;
    if (six && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
        return -errno;
    const struct sockaddr *address = six ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    if (bind(fd, address, six ? sizeof(v6) : sizeof(v4)) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    return pm_take_fd(&fd);
}

// The port, or negative errno.
static int port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return -errno;
    return pm_address_port(&address);
}

static void close_both(struct pm_listener *l)
{
    for (int i = 0; i < 2; i++) {
        if (l->fds[i] >= 0)
            close(l->fds[i]);
        l->fds[i] = -1;
    }
}

// Both families on the same port, or IPv4 alone where there is no IPv6.
static int bind_both(struct pm_listener *l, uint16_t port)
{
    int six = bind_one(AF_INET6, port);
    bool no_six = six == -EAFNOSUPPORT || six == -EADDRNOTAVAIL;
    if (six < 0 && !no_six)
        return six;
    int got = six >= 0 ? port_of(six) : port;
    int four = got < 0 ? got : bind_one(AF_INET, (uint16_t)got);
    if (four >= 0 && six < 0)
        got = port_of(four);
    l->fds[0] = six >= 0 ? six : -1;
    l->fds[1] = four >= 0 ? four : -1;
    if (got >= 0 && (four >= 0 || (four == -EAFNOSUPPORT && six >= 0))) {
        l->port = (uint16_t)got;
        return 0;
    }
    close_both(l);
    return got < 0 ? got : four;
}

static int bind_first(struct pm_listener *l)
{
    int r = -EINVAL;
    for (size_t i = 0; i < l->config.n_ports; i++) {
        uint16_t port = l->config.ports[i];
        for (int tries = port ? 1 : ANY_TRIES; tries > 0; tries--) {
            r = bind_both(l, port);
            if (r == 0 || r != -EADDRINUSE)
                break;
        }
        if (r == 0)
            return 0;
    }
    return r;
}

static void on_retry(evutil_socket_t fd, short what, void *arg) { pm_listener_resume(arg); }

static void on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
    struct pm_listener *l = arg;
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    int fd = accept4(listen_fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            struct timeval tv = pm_timeval_of_ms(NO_FD_PAUSE_MS);
            pm_listener_pause(l);
            if (evtimer_add(l->retry, &tv))
                pm_listener_resume(l);  // it tries again at once
        }
        return;
    }
    char text[PM_ADDRESS_CAP];
    l->config.accepted(fd, pm_address_format(&from, text, sizeof(text)), l->config.arg);
}

static int listener_arm(struct pm_listener *l)
{
    l->retry = evtimer_new(l->config.base, on_retry, l);
    if (!l->retry)
        return -ENOMEM;
    for (int i = 0; i < 2; i++) {
        if (l->fds[i] < 0)
            continue;
        l->events[i] =
            event_new(l->config.base, l->fds[i], EV_READ | EV_PERSIST, on_acceptable, l);
        if (!l->events[i] || event_add(l->events[i], NULL))
            return -ENOMEM;
    }
    return 0;
}

int pm_listener_new(const struct pm_listen_config *config, struct pm_listener **ret)
{
    struct pm_listener *l = calloc(1, sizeof(*l));
    if (!l)
        return -ENOMEM;
    l->config = *config;
    l->fds[0] = l->fds[1] = -1;
    int r = bind_first(l);
    if (r == 0)
        r = listener_arm(l);
    l->config.ports = NULL;
    if (r < 0) {
        pm_listener_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

struct pm_listener *pm_listener_free(struct pm_listener *l)
{
    if (!l)
        return NULL;
    for (int i = 0; i < 2; i++) {
        if (l->events[i])
            event_free(l->events[i]);
    }
    close_both(l);
    if (l->retry)
        event_free(l->retry);
    free(l);
    return NULL;
}

uint16_t pm_listener_port(const struct pm_listener *l) { return l->port; }

// Also if it paused on its own before: then the end of that resumes nothing.
void pm_listener_pause(struct pm_listener *l)
{
    evtimer_del(l->retry);
    for (int i = 0; i < 2; i++) {
        if (l->events[i])
            event_del(l->events[i]);
    }
}

void pm_listener_resume(struct pm_listener *l)
{
    for (int i = 0; i < 2; i++) {
        if (l->events[i])
            event_add(l->events[i], NULL);
    }
}

uint16_t *pm_listen_ports_of_range(uint32_t min, uint32_t max, size_t *ret_n)
{
    size_t n = min ? max - min + 1 : 1;
    uint16_t *ports = calloc(n, sizeof(*ports));
    if (!ports)
        return NULL;
    uint32_t start = min ? randombytes_uniform((uint32_t)n) : 0;
    for (size_t i = 0; i < n; i++)
        ports[i] = (uint16_t)(min ? min + (start + i) % n : 0);
    *ret_n = n;
    return ports;
}

// Bridges of containers and virtual machines exist on every host with the same address: last.
static int address_rank(const struct ifaddrs *i)
{
    static const char *const local_bridges[] = {"docker", "virbr", "veth", "lxc", "cni", "podman"};
    int rank = i->ifa_addr->sa_family == AF_INET6;
    for (size_t k = 0; k < sizeof(local_bridges) / sizeof(*local_bridges); k++) {
        if (!strncmp(i->ifa_name, local_bridges[k], strlen(local_bridges[k])))
            rank += 2;
    }
    return i->ifa_flags & IFF_LOOPBACK ? 4 : rank;
}

static bool address_usable(const struct ifaddrs *i)
{
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
        return false;
    if (i->ifa_addr->sa_family == AF_INET)
        return true;
    const struct sockaddr_in6 *six = (const void *)i->ifa_addr;
    return i->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr);
}

// False: no memory.
static bool address_append(char **list, const struct ifaddrs *i, uint16_t port)
{
    struct sockaddr_storage address = {0};
    bool six = i->ifa_addr->sa_family == AF_INET6;
    memcpy(&address, i->ifa_addr,
           six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    pm_address_set_port(&address, port);
    char text[PM_ADDRESS_CAP], *longer = NULL;
    pm_address_format(&address, text, sizeof(text));
    if (asprintf(&longer, "%s%s%s", *list ? *list : "", *list ? "," : "", text) < 0)
        return false;
    free(*list);
    *list = longer;
    return true;
}

char *pm_listen_addresses(uint16_t port)
{
    struct ifaddrs *all = NULL;
    char *list = NULL;
    if (getifaddrs(&all) < 0)
        return NULL;
    bool good = true;
    for (int rank = 0; rank <= 4; rank++) {
        if (rank == 4 && list)
            break;
        for (const struct ifaddrs *i = all; i && good; i = i->ifa_next) {
            if (address_usable(i) && address_rank(i) == rank)
                good = address_append(&list, i, port);
        }
    }
    freeifaddrs(all);
    if (good)
        return list;
    free(list);
    return NULL;
}
