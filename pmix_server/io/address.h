// SPDX-License-Identifier: Apache-2.0
//
// Socket addresses as text: "10.0.0.1:40123", "[fd00::1]:40123", and lists of them with commas.
#ifndef PM_IO_ADDRESS_H
#define PM_IO_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PM_ADDRESS_CAP 64
#define PM_ADDRESS_LIST_MAX 64

uint16_t pm_address_port(const struct sockaddr_storage *a);
void pm_address_set_port(struct sockaddr_storage *a, uint16_t port);
socklen_t pm_address_len(const struct sockaddr_storage *a);
// Writes "host:port" into buf and returns buf. An IPv4 address inside an IPv6 one is shown as IPv4.
char *pm_address_format(const struct sockaddr_storage *a, char *buf, size_t cap);
// 0, or -EINVAL: not a numeric address with a port.
int pm_address_parse(const char *text, size_t len, struct sockaddr_storage *ret);
// Parses "a:p,b:p"; returns how many of at most `cap` were stored, or -EINVAL.
int pm_address_parse_list(const char *text, struct sockaddr_storage *ret, size_t cap);

#endif
