// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/io/peers.h promises about strangers: as many as there may be, silent or in the middle of a handshake
// and replaced as soon as they are closed, do not keep out one that has the key.
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmix_server/io/peers.h"
#include "pmix_server/io/util.h"

#define CROWD (PM_PEERS_STRANGERS_MAX * 2)

static struct event_base *base;
static struct pm_peers *peers, *friend;
static const uint8_t key[PM_KEY_LEN] = "a key of this step";
static int crowd[CROWD];
static const char *words;
static unsigned n_up, n_replaced;

// Of both ends: each is told of the link.
void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    (void)loop;
    n_up += event->type == PM_EVENT_LINK_UP;
}

static struct pm_peers *open_end(uint32_t node)
{
    const struct pm_peers_config config = {.base = base, .secure = {.key = key, .version = "1", .launch = 1, .node = node},
                                           .coordinator = "", .nodelist = "localhost"};
    struct pm_peers *p = NULL;
    cr_assert_eq(pm_peers_new(&config, &p), 0);
    pm_peers_set_loop(p, NULL);
    return p;
}

static void begun(void)
{
    static const uint16_t any = 0;
    cr_assert_geq(sodium_init(), 0);
    base = event_base_new();
    peers = open_end(5);
    friend = open_end(3);
    cr_assert_eq(pm_peers_listen(peers, &any, 1), 0);
}

static void ended(void)
{
    for (int i = 0; i < CROWD; i++)
        close(crowd[i]);
    pm_peers_free(peers);
    pm_peers_free(friend);
    event_base_free(base);
}

TestSuite(peers, .init = begun, .fini = ended, .timeout = 20);

static const char *port(void) { return strrchr(pm_peers_addresses(peers), ':') + 1; }

static int visit(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port())),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(send(fd, words, strlen(words), 0), (ssize_t)strlen(words));
    return fd;
}

// Each that was closed comes again, as an attacker would.
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    for (int i = 0; i < CROWD; i++) {
        struct pollfd closed = {.fd = crowd[i], .events = POLLIN};
        if (poll(&closed, 1, 0) != 1)
            continue;
        close(crowd[i]);
        crowd[i] = visit();
        n_replaced++;
    }
}

static void run_until(uint64_t ms, unsigned up)
{
    uint64_t end_ns = pm_clock_ns() + ms * 1000000;
    const struct timeval tick = {.tv_usec = 5000};
    while (n_up < up && pm_clock_ns() < end_ns) {
        cr_assert_eq(event_base_once(base, -1, EV_TIMEOUT, on_tick, NULL, &tick), 0);
        cr_assert_geq(event_base_loop(base, EVLOOP_ONCE), 0);
    }
}

static void friend_comes(void)
{
    char address[64];
    (void)snprintf(address, sizeof(address), "127.0.0.1:%s", port());
    pm_peers_dial(friend, &(struct pm_action){.type = PM_ACTION_DIAL, .link = 1, .node = 5, .timeout_ms = 60000,
                                              .text = address});
}

static void friend_gets_in(const char *say, uint64_t ms)
{
    words = say;
    for (int i = 0; i < CROWD; i++)
        crowd[i] = visit();
    run_until(50, 2);  // they are let in
    friend_comes();
    run_until(ms, 2);
    cr_assert_eq(n_up, 2, "kept out by %u strangers that came again", n_replaced);
}

// Behind CROWD others: its turn comes when all of them but PM_PEERS_STRANGERS_MAX were sent away.
Test(peers, silent_strangers_keep_nobody_out) { friend_gets_in("", 1500); }

Test(peers, strangers_in_the_middle_of_a_handshake_keep_nobody_out) { friend_gets_in("PMsecur1", 1500); }

// --- a friend that is slow -------------------------------------------------------------------------------

static struct pm_secure *slow;
static struct pm_writer says;

static int slow_friend_says_hello(void)
{
    const struct pm_secure_config config = {.key = key, .version = "1", .launch = 1, .node = 3, .dialer = true,
                                            .expected = 5};
    words = "";
    int fd = visit();
    cr_assert_eq(pm_secure_new(&config, &slow), 0);
    pm_secure_begin(slow, &says);
    cr_assert_eq(send(fd, says.data, says.len, 0), (ssize_t)says.len);
    return fd;
}

static void slow_friend_answers(int fd)
{
    uint8_t answer[PM_SECURE_HELLO_LEN + PM_SECURE_CONFIRM_LEN];
    size_t used = 0, hello_len = says.len;
    cr_assert_eq(recv(fd, answer, sizeof(answer), MSG_WAITALL), (ssize_t)sizeof(answer));
    cr_assert_eq(pm_secure_handshake(slow, answer, sizeof(answer), &used, &says), PM_SECURE_OK);
    cr_assert_eq(send(fd, says.data + hello_len, says.len - hello_len, MSG_NOSIGNAL), (ssize_t)(says.len - hello_len));
}

// Its HELLO was authentic: those that come after it, and say nothing, make room for each other.
Test(peers, a_slow_friend_keeps_its_place_among_strangers)
{
    int fd = slow_friend_says_hello();
    run_until(50, 1);
    words = "";
    for (int i = 0; i < CROWD; i++)
        crowd[i] = visit();
    run_until(5 * PM_PEERS_PATIENCE_MS, 1);
    cr_assert_gt(n_replaced, 0);
    slow_friend_answers(fd);
    run_until(1000, 1);
    cr_assert_eq(n_up, 1, "sent away");
    close(fd);
    pm_secure_free(slow);
    pm_writer_done(&says);
}
