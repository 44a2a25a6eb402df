// SPDX-License-Identifier: Apache-2.0
//
// The stream to a pm-pmix-server (agent_server_io.c) while memory is short: what cannot be said is not taken for
// silence, what could be said later is, and nobody spins. Calls fail by the linker's --wrap; the agent's other
// files are stood in for.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "pmix_server/agent_server.h"

enum { N_LOCAL = 2, EPOCH = 3 };

static uint32_t ranks[N_LOCAL] = {6, 7};
static struct shim shims[N_LOCAL];
static struct agent agent;
static struct env_list envs[N_LOCAL];
static bool connected[N_LOCAL];
static struct server server;
static int peer = -1;
static char lost[PM_TEXT_CAP];  // why; "": it is not
static unsigned n_connected;

// --- what fails --------------------------------------------------------------------------------------

static int send_error;    // 0: none
static bool add_fails;    // of an event
static bool calloc_fails;
static unsigned n_sends;

ssize_t __real_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
    n_sends++;
    errno = send_error;
    return send_error ? -1 : __real_send(fd, buf, len, flags);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    errno = send_error;
    return send_error ? -1 : __real_sendmsg(fd, message, flags);
}

int __real_event_add(struct event *event, const struct timeval *timeout);
int __wrap_event_add(struct event *event, const struct timeval *timeout);
int __wrap_event_add(struct event *event, const struct timeval *timeout)
{
    return add_fails ? -1 : __real_event_add(event, timeout);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return calloc_fails ? NULL : __real_calloc(n, size);
}

// --- the agent's other files ----------------------------------------------------------------------------

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    n_connected += event->type == PM_EVENT_CONNECTED;
}

void pm_server_lose(struct server *s, const char *why)
{
    s->state = SERVER_DEAD;
    snprintf(lost, sizeof(lost), "%s", why);
}

uint32_t pm_core_rank_of(const struct pm_core *core, uint32_t local) { return ranks[local]; }
uint32_t pm_agent_n_ranks(const struct agent *a) { return N_LOCAL; }
void pm_server_send_nspace(struct server *s) {}
void pm_agent_say(struct agent *a, const char *format, ...) {}
void pm_agent_start_held(struct agent *a, uint32_t epoch) {}
void pm_agent_prepare_starts(struct agent *a, const struct server *standby, uint32_t epoch) {}
void pm_server_ranks_connected(struct agent *a) {}
void pm_server_rank_born(struct agent *a, const struct shim *shim) {}

// --- a server whose first rank runs and has not been heard of yet -----------------------------------------

static void setup(void)
{
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    peer = ends[1];
    agent = (struct agent){.base = event_base_new(), .shims = shims};
    agent.config.n_local = N_LOCAL;
    agent.config.local_ranks = ranks;
    for (uint32_t i = 0; i < N_LOCAL; i++)
        shims[i] = (struct shim){.agent = &agent, .local = i, .fd = -1, .epoch = EPOCH};
    shims[0].rank_pid = 17;
    server = (struct server){.agent = &agent, .state = SERVER_SERVING, .has_epoch = true, .epoch = EPOCH,
                             .envs = envs, .connected = connected};
    cr_assert_eq(pm_server_io_open(&server, ends[0]), 0);
}

static void teardown(void)
{
    send_error = 0;
    add_fails = calloc_fails = false;
    pm_server_io_close(&server);
    pm_writer_done(&server.in);
    pm_writer_done(&server.out);
    close(peer);
    event_base_free(agent.base);
}

TestSuite(server_io, .init = setup, .fini = teardown, .timeout = 30);

static void ping(void)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_SERVER_PING);
    pm_write_u64(&w, 1);
    pm_server_write(&server, &w, NULL, 0);
    pm_writer_done(&w);
}

static void run_loop_ms(long ms)
{
    const struct timeval tv = {.tv_usec = ms * 1000};
    cr_assert_eq(event_base_loopexit(agent.base, &tv), 0);
    cr_assert_geq(event_base_dispatch(agent.base), 0);
}

// The server of a rank that nobody has heard of: it must not be replaced unseen.
static void is_lost_for_memory(void)
{
    cr_assert_str_eq(lost, "the agent is out of memory");
    cr_assert_eq(n_connected, 1);
}

Test(server_io, what_finds_no_memory_in_the_kernel_is_sent_a_little_later_and_nobody_spins)
{
    char got[64];
    send_error = ENOBUFS;
    ping();
    run_loop_ms(200);
    cr_assert_leq(n_sends, 30, "tried %u times in 200 ms", n_sends);
    cr_assert_gt(n_sends, 1);
    send_error = 0;
    run_loop_ms(200);
    cr_assert_eq(recv(peer, got, sizeof(got), 0), 4 + 1 + 8);
    cr_assert_str_eq(lost, "");
}

Test(server_io, a_full_socket_is_waited_for)
{
    char got[64];
    send_error = EAGAIN;
    ping();
    send_error = 0;
    run_loop_ms(50);
    cr_assert_eq(recv(peer, got, sizeof(got), 0), 4 + 1 + 8);
}

Test(server_io, a_message_that_cannot_be_written_is_told_as_what_it_is)
{
    const struct pm_writer w = {.error = -ENOMEM};
    pm_server_write(&server, &w, NULL, 0);
    is_lost_for_memory();
}

Test(server_io, what_cannot_be_waited_for_does_not_wait_for_ever)
{
    add_fails = true;
    send_error = EAGAIN;
    ping();
    is_lost_for_memory();
}

Test(server_io, a_message_that_cannot_be_read_for_want_of_memory_is_not_called_malformed)
{
    struct pm_writer w = {0};
    pm_write_u32(&w, 9);
    pm_write_u8(&w, PM_SERVER_ENV);
    pm_write_u32(&w, 6);
    pm_write_u32(&w, 1);
    cr_assert_eq(send(peer, w.data, w.len, 0), (ssize_t)w.len);
    pm_writer_done(&w);
    calloc_fails = true;
    pm_server_read(&server);
    calloc_fails = false;
    is_lost_for_memory();
}
