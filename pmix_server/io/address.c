// SPDX-License-Identifier: Apache-2.0
//
// See address.h for the contract.
#include "pmix_server/io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint16_t pm_address_port(const struct sockaddr_storage *a)
{
    return ntohs(a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)a)->sin6_port
                                          : ((const struct sockaddr_in *)a)->sin_port);
}

void pm_address_set_port(struct sockaddr_storage *a, uint16_t port)
{
    if (a->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)a)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)a)->sin_port = htons(port);
}

socklen_t pm_address_len(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

char *pm_address_format(const struct sockaddr_storage *a, char *buf, size_t cap)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr, host, sizeof(host));
    else
        inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, host, sizeof(host));
    const char *format = a->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(buf, cap, format, host, pm_address_port(a));
#pragma GCC diagnostic pop
    return buf;
}

// Cuts "host:port" or "[host]:port" into its two parts.
static int split(const char *text, size_t len, char *host, char *port)
{
    char copy[PM_ADDRESS_CAP];
    if (len >= sizeof(copy))
        return -EINVAL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *colon = strrchr(copy, ':');
    if (!colon || strlen(colon + 1) > 5)
        return -EINVAL;
    *colon = '\0';
    strcpy(port, colon + 1);
    size_t host_len = strlen(copy);
    if (copy[0] == '[' && copy[host_len - 1] == ']') {
        copy[host_len - 1] = '\0';
        memmove(copy, copy + 1, host_len - 1);
    }
    if (strlen(copy) >= INET6_ADDRSTRLEN)
        return -EINVAL;
    strcpy(host, copy);
    return 0;
}

int pm_address_parse(const char *text, size_t len, struct sockaddr_storage *ret)
{
    char host[INET6_ADDRSTRLEN], port[6], *end;
    if (split(text, len, host, port) < 0)
        return -EINVAL;
    unsigned long number = strtoul(port, &end, 10);
    if (!*port || *end || number == 0 || number > 65535)
        return -EINVAL;
    struct sockaddr_storage a = {0};
    if (inet_pton(AF_INET, host, &((struct sockaddr_in *)&a)->sin_addr) == 1)
        a.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &((struct sockaddr_in6 *)&a)->sin6_addr) == 1)
        a.ss_family = AF_INET6;
    else
        return -EINVAL;
    pm_address_set_port(&a, (uint16_t)number);
    *ret = a;
    return 0;
}

int pm_address_parse_list(const char *text, struct sockaddr_storage *ret, size_t cap)
{
    size_t n = 0;
    while (*text && n < cap) {
        size_t len = strcspn(text, ",");
        if (pm_address_parse(text, len, &ret[n]) < 0)
            return -EINVAL;
        n++;
        text += len + (text[len] == ',');
    }
    return (int)n;
}
