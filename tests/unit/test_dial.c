// SPDX-License-Identifier: Apache-2.0
//
// The verdicts of a call that fails, as pmix_server/io/dial.h promises them: whoever judges by them whether a node is dead
// must not take a port that only sent us away for one where nobody of ours listens.
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmix_server/io/address.h"
#include "pmix_server/io/dial.h"
#include "pmix_server/io/listen.h"

enum host { NOBODY = 0, SILENT, CLOSES, RESETS, TALKS };

static struct event_base *base;
static struct sockaddr_storage addresses[2];
static struct pm_listener *listeners[2];
static enum host hosts[2];
static const uint8_t key[PM_KEY_LEN] = "a key of this step";
static int held[2] = {-1, -1};
static int ended = -1;

// What it leaves unread makes its close a reset.
static void on_hello(evutil_socket_t fd, short what, void *arg)
{
    const enum host *host = arg;
    char text[PM_SECURE_HELLO_LEN] = "220 mail.example.org";
    (void)what;
    if (*host == SILENT)
        return;
    if (*host == TALKS) {
        cr_assert_eq(send(fd, text, sizeof(text), 0), (ssize_t)sizeof(text));
        return;
    }
    if (*host == CLOSES)
        cr_assert_eq(recv(fd, text, sizeof(text), 0), (ssize_t)sizeof(text));
    close(fd);
    held[host - hosts] = -1;
}

static void on_accepted(int fd, const char *address, void *arg)
{
    const enum host *host = arg;
    (void)address;
    held[host - hosts] = fd;
    cr_assert_eq(event_base_once(base, fd, EV_READ, on_hello, arg, NULL), 0);
}

static void on_done(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg)
{
    (void)arg;
    cr_assert_null(link);
    cr_assert_neq(text[0], '\0');
    ended = (int)end;
    event_base_loopbreak(base);
}

// The port of one that has gone refuses.
static void open_host(int i, enum host host)
{
    static const uint16_t any = 0;
    struct sockaddr_in *address = (struct sockaddr_in *)&addresses[i];
    const struct pm_listen_config config = {.base = base, .ports = &any, .n_ports = 1, .accepted = on_accepted,
                                            .arg = &hosts[i]};
    hosts[i] = host;
    cr_assert_eq(pm_listener_new(&config, &listeners[i]), 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)},
                                    .sin_port = htons(pm_listener_port(listeners[i]))};
    if (host == NOBODY)
        listeners[i] = pm_listener_free(listeners[i]);
}

static enum pm_link_end call(enum host first, enum host second)
{
    struct pm_dial *dial;
    cr_assert_geq(sodium_init(), 0);
    base = event_base_new();
    open_host(0, first);
    open_host(1, second);
    const struct pm_dial_config config = {.base = base, .addresses = addresses, .n = 2, .timeout_ms = 1000, .done = on_done,
                                          .secure = {.key = key, .version = "1", .launch = 1, .node = 3, .dialer = true,
                                                     .expected = 5}};
    cr_assert_eq(pm_dial_new(&config, &dial), 0);
    cr_assert_geq(event_base_dispatch(base), 0);
    for (int i = 0; i < 2; i++) {
        pm_listener_free(listeners[i]);
        if (held[i] >= 0)
            close(held[i]);
    }
    event_base_free(base);
    return (enum pm_link_end)ended;
}

TestSuite(dial, .timeout = 20);

Test(dial, ports_where_nobody_listens_refuse) { cr_assert_eq(call(NOBODY, NOBODY), PM_LINK_REFUSED); }

Test(dial, one_that_has_not_our_key_refuses) { cr_assert_eq(call(TALKS, NOBODY), PM_LINK_REFUSED); }

Test(dial, a_close_in_the_handshake_is_no_refusal) { cr_assert_eq(call(CLOSES, NOBODY), PM_LINK_CLOSED); }

Test(dial, nor_is_a_reset_in_the_handshake) { cr_assert_eq(call(NOBODY, RESETS), PM_LINK_RESET); }

Test(dial, silence_weighs_more_than_a_close) { cr_assert_eq(call(CLOSES, SILENT), PM_LINK_STUCK); }
