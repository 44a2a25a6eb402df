// SPDX-License-Identifier: Apache-2.0
//
// What an agent sends a shim (agent_shims.c) while the kernel is short of memory: it goes out a little later, or
// the link is given up; nothing waits for ever and nobody spins. And who may connect: as many shims as there are tasks, then
// nobody. What is static there is included as it is; calls
// fail by the linker's --wrap, the agent's other files are stood in for.
#include <criterion/criterion.h>
#include <stdarg.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "pmix_server/agent_shims.c"

static struct agent agent;
static struct shim the_shim;
static int peer = -1;

static int send_error;  // 0: none
static bool add_fails;  // of an event
static unsigned n_sends;

ssize_t __real_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
    n_sends++;
    errno = send_error;
    return send_error ? -1 : __real_send(fd, buf, len, flags);
}

int __real_event_add(struct event *event, const struct timeval *timeout);
int __wrap_event_add(struct event *event, const struct timeval *timeout);
int __wrap_event_add(struct event *event, const struct timeval *timeout)
{
    return add_fails ? -1 : __real_event_add(event, timeout);
}

// --- the agent's other files ----------------------------------------------------------------------------

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event) {}
void pm_agent_say(struct agent *a, const char *format, ...) {}
void pm_agent_leave(struct agent *a, uint64_t ms) {}
void pm_agent_leave_if_dead(struct agent *a) {}
void pm_folder_done(struct agent *a) {}
void pm_oom_open(uint32_t pid, char *path, uint64_t *ret_count) {}
uint64_t pm_oom_read(const char *path) { return 0; }
void pm_server_rank_born(struct agent *a, const struct shim *shim) {}
void pm_server_rank_ended(struct agent *a, uint32_t epoch, uint32_t rank) {}
void pm_server_rank_started(struct agent *a) {}
void pm_servers_drain(struct agent *a) {}
void pm_tree_kill(const struct shim *s) {}
uint32_t pm_size_gpus(const struct agent *a) { return 0; }
void pm_bind_facts_read(struct shim *s, struct pm_reader *r) {}
void pm_bind_facts_done(struct shim *s) {}
void pm_bind_on_unbound(struct shim *s, struct pm_reader *r) {}
uint64_t pm_tree_start_time(uint32_t pid) { return 0; }

// --- one shim ----------------------------------------------------------------------------------------------

static void setup(void)
{
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    peer = ends[1];
    agent.base = event_base_new();
    the_shim = (struct shim){.agent = &agent, .fd = ends[0]};
    STAILQ_INIT(&the_shim.queue);
    cr_assert_eq(pm_room_open(&the_shim.room, agent.base, ends[0], on_writable, &the_shim), 0);
}

static void teardown(void)
{
    shim_close(&the_shim);
    close(peer);
    event_base_free(agent.base);
}

TestSuite(shim_link, .init = setup, .fini = teardown, .timeout = 30);

static void run_loop_ms(long ms)
{
    const struct timeval tv = {.tv_usec = ms * 1000};
    cr_assert_eq(event_base_loopexit(agent.base, &tv), 0);
    cr_assert_geq(event_base_dispatch(agent.base), 0);
}

Test(shim_link, what_finds_no_memory_in_the_kernel_is_sent_a_little_later_and_nobody_spins)
{
    uint8_t got[8];
    for (int error = 0; error < 2; error++) {
        send_error = error ? ENOMEM : ENOBUFS;
        n_sends = 0;
        pm_shim_send_type(&the_shim, PM_SHIM_PAUSE);
        run_loop_ms(200);
        cr_assert(n_sends > 1 && n_sends <= 30, "tried %u times in 200 ms", n_sends);
        send_error = 0;
        run_loop_ms(200);
        cr_assert_eq(recv(peer, got, sizeof(got), 0), 1);
    }
}

Test(shim_link, what_cannot_be_waited_for_ends_the_link)
{
    uint8_t got[8];
    send_error = EAGAIN;
    add_fails = true;
    pm_shim_send_type(&the_shim, PM_SHIM_PAUSE);
    add_fails = false;
    cr_assert_eq(recv(peer, got, sizeof(got), MSG_DONTWAIT), 0);
}

// --- who connects ------------------------------------------------------------------------------------------

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_len = sizeof(address);

static void open_door(uint32_t n_tasks)
{
    static uint32_t ranks[] = {0, 1};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    cr_assert_eq(listen(fd, 64), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &address_len), 0);
    agent.acceptable = event_new(agent.base, fd, EV_READ | EV_PERSIST, on_acceptable, &agent);
    cr_assert_eq(event_add(agent.acceptable, NULL), 0);
    agent.config.n_local = n_tasks;
    agent.config.local_ranks = ranks;
    agent.shims = calloc(n_tasks, sizeof(*agent.shims));
    for (uint32_t i = 0; i < n_tasks; i++) {
        agent.shims[i] = (struct shim){.agent = &agent, .local = i, .fd = -1};
        STAILQ_INIT(&agent.shims[i].queue);
    }
    agent.lease_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
}

static void close_door(void)
{
    int fd = agent.acceptable ? event_get_fd(agent.acceptable) : -1;
    pm_shims_done(&agent);
    if (fd >= 0)
        close(fd);
}

// A connection, or negative errno.
static int come(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, address_len) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

static int join(uint32_t local)
{
    struct pm_writer w = {0};
    int fd = come();
    pm_write_u8(&w, PM_SHIM_HELLO);
    pm_write_str(&w, PM_VERSION);
    pm_write_u32(&w, local);
    pm_write_u32(&w, local);
    pm_write_u32(&w, 4711);
    pm_write_u8(&w, 0);
    cr_assert_eq(send(fd, w.data, w.len, 0), (ssize_t)w.len);
    pm_writer_done(&w);
    run_loop_ms(50);
    return fd;
}

Test(shim_link, nobody_may_connect_once_all_shims_were_there)
{
    open_door(2);
    int first = join(0), visitor = come();
    cr_assert_eq(agent.n_connected, 1);
    cr_assert_geq(visitor, 0);
    close(visitor);
    close(first);  // a shim that ends makes no room for another
    run_loop_ms(50);
    cr_assert_eq(agent.n_connected, 0);
    int inherited = dup(event_get_fd(agent.acceptable)), second = join(1);
    cr_assert_eq(agent.n_connected, 1);
    cr_assert_eq(come(), -ECONNREFUSED, "with the socket open elsewhere");
    close(inherited);
    cr_assert_eq(come(), -ECONNREFUSED);
    close(second);
    close_door();
}

Test(shim_link, another_user_is_not_listened_to)
{
    if (geteuid() != 0)
        cr_skip_test("only root can be another user");
    open_door(2);
    pid_t pid = fork();
    if (pid == 0)
        _exit(setresuid(61002, 61002, 61002) < 0 || come() < 0);
    int status = 1;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    on_acceptable(event_get_fd(agent.acceptable), EV_READ, &agent);
    cr_assert_eq(agent.n_callers, 0);
    int ours = come();
    on_acceptable(event_get_fd(agent.acceptable), EV_READ, &agent);
    cr_assert_eq(agent.n_callers, 1);
    close(ours);
    close_door();
}

Test(shim_link, a_crowd_at_the_door_is_let_in_a_few_at_a_time)
{
    enum { CROWD = 3 * ACCEPTS_MAX };
    int crowd[CROWD];
    open_door(2);
    agent.config.n_local = CROWD;  // so many may wait for their HELLO
    for (int i = 0; i < CROWD; i++)
        crowd[i] = come();
    on_acceptable(event_get_fd(agent.acceptable), EV_READ, &agent);
    cr_assert_eq(agent.n_callers, ACCEPTS_MAX);
    run_loop_ms(50);
    cr_assert_eq(agent.n_callers, CROWD);
    for (int i = 0; i < CROWD; i++)
        close(crowd[i]);
    agent.config.n_local = 2;
    close_door();
}
