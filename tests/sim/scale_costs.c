// SPDX-License-Identifier: Apache-2.0
//
// See scale_costs.h.
#include "tests/sim/scale_costs.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pmix_server/wire/secure.h"
#include "tests/sim/commands.h"

#define SMALL    128u      // bytes of a control frame
#define LARGE    (1u << 20)
#define ROUNDS   7
#define PINGS    2000
#define FRAMES   2000

static double clock_s(clockid_t which)
{
    struct timespec ts;
    clock_gettime(which, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    return clock_s(CLOCK_THREAD_CPUTIME_ID);
}

// What reading that clock costs by itself.
static double cpu_cost_s(void)
{
    double best = 1;
    for (int i = 0; i < 1000; i++) {
        double t = cpu_s(), took = cpu_s() - t;
        best = took < best ? took : best;
    }
    return best;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double least(double a, double b)
{
    return a > 0 && a < b ? a : b;
}

// --- sockets -----------------------------------------------------------------------------------------

static void tcp_pair(int fds[static 2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    SIM_ASSERT(listener >= 0 && fds[0] >= 0);
    SIM_ASSERT(bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 1) == 0);
    SIM_ASSERT(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
    SIM_ASSERT(connect(fds[0], (struct sockaddr *)&at, len) == 0);
    fds[1] = accept(listener, NULL, NULL);
    SIM_ASSERT(fds[1] >= 0);
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    close(listener);
}

static void local_pair(int fds[static 2])
{
    SIM_ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
}

// To one of two processors, so that a wake-up is one of another processor.
static void stay_on(uint32_t which)
{
    cpu_set_t all, one;
    uint32_t n = 0;
    CPU_ZERO(&one);
    SIM_ASSERT(sched_getaffinity(0, sizeof(all), &all) == 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && n++ == which)
            CPU_SET(cpu, &one);
    if (n > which)
        (void)sched_setaffinity(0, sizeof(one), &one);
}

// As the daemons do: wait in epoll, read until there is nothing.
static void *echo(void *arg)
{
    int fd = *(int *)arg;
    stay_on(1);
    uint8_t data[4096];
    struct epoll_event e = {.events = EPOLLIN};
    int poll = epoll_create1(0);
    SIM_ASSERT(poll >= 0 && epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e) == 0);
    for (;;) {
        if (epoll_wait(poll, &e, 1, -1) < 0)
            continue;
        ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
        if (n == 0)
            break;
        if (n > 0 && send(fd, data, (size_t)n, MSG_NOSIGNAL) < 0)
            break;
    }
    close(poll);
    return NULL;
}

// Half of a round trip between two threads that both sleep; the middle of many, for a wake-up has no
// least that means something.
static double one_way_ns(int fds[static 2])
{
    pthread_t thread;
    cpu_set_t before;
    uint8_t data[SMALL] = {0};
    static double took[PINGS];
    SIM_ASSERT(sched_getaffinity(0, sizeof(before), &before) == 0);
    SIM_ASSERT(pthread_create(&thread, NULL, echo, &fds[1]) == 0);
    stay_on(0);
    for (int i = 0; i < PINGS; i++) {
        double t = clock_s(CLOCK_MONOTONIC);
        SIM_ASSERT(send(fds[0], data, SMALL, 0) == SMALL && recv(fds[0], data, SMALL, 0) > 0);
        took[i] = (clock_s(CLOCK_MONOTONIC) - t) / 2 * 1e9;
    }
    shutdown(fds[0], SHUT_RDWR);
    pthread_join(thread, NULL);
    (void)sched_setaffinity(0, sizeof(before), &before);
    qsort(took, PINGS, sizeof(*took), compare);
    return took[PINGS / 2];
}

// CPU of each side, when nobody sleeps: sends some, reads some.
static void calls_ns(int fds[static 2], double *ret_send, double *ret_recv)
{
    uint8_t data[SMALL] = {0};
    struct epoll_event e = {.events = EPOLLIN};
    int poll = epoll_create1(0);
    SIM_ASSERT(poll >= 0 && epoll_ctl(poll, EPOLL_CTL_ADD, fds[1], &e) == 0);
    double clock_ns = cpu_cost_s() * 1e9;
    *ret_send = *ret_recv = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double out = 0, in = 0;
        for (int i = 0; i < FRAMES; i++) {
            double t = cpu_s();
            SIM_ASSERT(send(fds[0], data, SMALL, MSG_NOSIGNAL) == SMALL);
            out += cpu_s() - t;
            t = cpu_s();
            SIM_ASSERT(epoll_wait(poll, &e, 1, -1) == 1);
            SIM_ASSERT(recv(fds[1], data, SMALL, MSG_DONTWAIT) > 0);
            (void)recv(fds[1], data, SMALL, MSG_DONTWAIT); // until there is nothing
            in += cpu_s() - t;
        }
        *ret_send = least(*ret_send, out / FRAMES * 1e9 - clock_ns);
        *ret_recv = least(*ret_recv, in / FRAMES * 1e9 - clock_ns);
    }
    close(poll);
}

// CPU per byte of a side that streams; both sides copy, the sender also runs the receiver's interrupt.
static double copy_byte_ns(void)
{
    int fds[2];
    double best = 0;
    uint8_t *data = calloc(1, LARGE);
    tcp_pair(fds);
    SIM_ASSERT(data);
    for (int round = 0; round < 3 * ROUNDS; round++) {
        double t = cpu_s();
        size_t total = 0;
        for (int i = 0; i < 16; i++) {
            ssize_t sent = send(fds[0], data, LARGE, MSG_DONTWAIT | MSG_NOSIGNAL);
            for (ssize_t got = 0, n; got < sent; got += n)
                SIM_ASSERT((n = recv(fds[1], data, LARGE, 0)) > 0);
            total += sent > 0 ? (size_t)sent : 0;
        }
        best = least(best, (cpu_s() - t) / 2 / (double)total * 1e9);
    }
    close(fds[0]);
    close(fds[1]);
    free(data);
    return best;
}

static double connect_ns(void)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double t = cpu_s();
        for (int i = 0; i < 50; i++) {
            int fds[2];
            tcp_pair(fds);
            close(fds[0]);
            close(fds[1]);
        }
        best = least(best, (cpu_s() - t) / 50 / 2 * 1e9);
    }
    return best;
}

static void measure_sockets(struct scale_costs *c)
{
    int fds[2];
    tcp_pair(fds);
    calls_ns(fds, &c->send_ns, &c->recv_ns);
    c->wake_ns = one_way_ns(fds) - c->send_ns - c->recv_ns;
    close(fds[0]);
    close(fds[1]);
    local_pair(fds);
    calls_ns(fds, &c->local_send_ns, &c->local_recv_ns);
    c->local_wake_ns = one_way_ns(fds) - c->local_send_ns - c->local_recv_ns;
    close(fds[0]);
    close(fds[1]);
    c->wake_ns = c->wake_ns > 0 ? c->wake_ns : 0;
    c->local_wake_ns = c->local_wake_ns > 0 ? c->local_wake_ns : 0;
    c->copy_byte_ns = copy_byte_ns();
    c->connect_ns = connect_ns();
}

// --- cipher ------------------------------------------------------------------------------------------

struct scale_cipher {
    struct pm_secure *end[2];
    struct pm_writer out;
};

static const uint8_t key[PM_KEY_LEN] = "the key of a simulated launch..";

static struct pm_secure *secure_of(bool dialer)
{
    struct pm_secure *s;
    const struct pm_secure_config config = {.key = key, .version = "sim", .launch = 1,
                                            .node = dialer, .dialer = dialer, .expected = 0};
    SIM_ASSERT(pm_secure_new(&config, &s) == 0);
    return s;
}

// What one end wrote goes to the other.
static void shake(struct scale_cipher *c, int to, struct pm_writer *in)
{
    struct pm_writer out = {0};
    size_t used;
    enum pm_secure_result r = pm_secure_handshake(c->end[to], in->data, in->len, &used, &out);
    SIM_ASSERT(r <= PM_SECURE_MORE && used == in->len && !out.error);
    pm_writer_done(in);
    *in = out;
}

struct scale_cipher *scale_cipher_new(void)
{
    struct scale_cipher *c = calloc(1, sizeof(*c));
    struct pm_writer w = {0};
    SIM_ASSERT(c);
    c->end[0] = secure_of(true);
    c->end[1] = secure_of(false);
    pm_secure_begin(c->end[0], &w);
    for (int to = 1; !pm_secure_established(c->end[0]) || !pm_secure_established(c->end[1]); to = !to)
        shake(c, to, &w);
    pm_writer_done(&w);
    return c;
}

void scale_cipher_free(struct scale_cipher *c)
{
    if (!c)
        return;
    pm_secure_free(c->end[0]);
    pm_secure_free(c->end[1]);
    pm_writer_done(&c->out);
    free(c);
}

void scale_cipher_check(struct scale_cipher *c, const void *data, size_t len)
{
    struct pm_secure_frame frame;
    pm_writer_reset(&c->out);
    pm_secure_seal(c->end[0], data, len, &c->out);
    SIM_ASSERT(!c->out.error);
    enum pm_secure_result r = pm_secure_open(c->end[1], c->out.data, c->out.len, &frame);
    SIM_ASSERT(r == PM_SECURE_OK && frame.len == len && memcmp(frame.data, data, len) == 0);
}

// CPU to seal and to open a frame of len bytes.
static void cipher_ns(struct scale_cipher *c, const uint8_t *data, size_t len, double ret[static 2])
{
    int n = (int)((4u << 20) / len);
    n = n > FRAMES ? FRAMES : n;
    struct pm_writer w = {0};
    ret[0] = ret[1] = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double t = cpu_s();
        pm_writer_reset(&w);
        for (int i = 0; i < n; i++)
            pm_secure_seal(c->end[0], data, len, &w);
        ret[0] = least(ret[0], (cpu_s() - t) / n * 1e9);
        SIM_ASSERT(!w.error);
        t = cpu_s();
        for (size_t at = 0; at < w.len;) {
            struct pm_secure_frame frame;
            SIM_ASSERT(pm_secure_open(c->end[1], w.data + at, w.len - at, &frame) == PM_SECURE_OK);
            at += frame.used;
        }
        ret[1] = least(ret[1], (cpu_s() - t) / n * 1e9);
    }
    pm_writer_done(&w);
}

static double body_ns(const uint8_t *data, size_t len)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct pm_body *body;
        double t = cpu_s();
        SIM_ASSERT(pm_body_new(data, len, &body) == 0);
        best = least(best, (cpu_s() - t) * 1e9);
        pm_body_unref(body);
    }
    return best;
}

static double handshake_ns(void)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double t = cpu_s();
        for (int i = 0; i < 100; i++)
            scale_cipher_free(scale_cipher_new());
        best = least(best, (cpu_s() - t) / 100 / 2 * 1e9);
    }
    return best;
}

static void measure_cipher(struct scale_costs *c)
{
    struct scale_cipher *cipher = scale_cipher_new();
    uint8_t *data = calloc(1, LARGE);
    double small[2], large[2];
    SIM_ASSERT(data);
    cipher_ns(cipher, data, SMALL, small);
    cipher_ns(cipher, data, LARGE, large);
    c->seal_byte_ns = large[0] / LARGE;
    c->open_byte_ns = large[1] / LARGE;
    c->seal_ns = small[0] - SMALL * c->seal_byte_ns;
    c->open_ns = small[1] - SMALL * c->open_byte_ns;
    c->body_byte_ns = body_ns(data, LARGE) / LARGE;
    c->handshake_ns = handshake_ns();
    scale_cipher_free(cipher);
    free(data);
}

void scale_costs_measure(struct scale_costs *ret)
{
    measure_sockets(ret);
    measure_cipher(ret);
}

// --- text --------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    size_t at;
    const char *what;
} fields[] = {
    {"send", offsetof(struct scale_costs, send_ns), "sendmsg of a small frame over TCP"},
    {"recv", offsetof(struct scale_costs, recv_ns), "epoll and recv of one"},
    {"wake", offsetof(struct scale_costs, wake_ns), "until a sleeping receiver runs"},
    {"local-send", offsetof(struct scale_costs, local_send_ns), "the same over a socket pair"},
    {"local-recv", offsetof(struct scale_costs, local_recv_ns), ""},
    {"local-wake", offsetof(struct scale_costs, local_wake_ns), ""},
    {"copy-byte", offsetof(struct scale_costs, copy_byte_ns), "per byte over TCP, each side"},
    {"seal", offsetof(struct scale_costs, seal_ns), "cipher per frame"},
    {"seal-byte", offsetof(struct scale_costs, seal_byte_ns), "and per byte"},
    {"open", offsetof(struct scale_costs, open_ns), ""},
    {"open-byte", offsetof(struct scale_costs, open_byte_ns), ""},
    {"body-byte", offsetof(struct scale_costs, body_byte_ns), "content sealed once for all links"},
    {"connect", offsetof(struct scale_costs, connect_ns), "socket, connect, accept, close: each side"},
    {"handshake", offsetof(struct scale_costs, handshake_ns), "cipher of it, each side"},
};

static double *field(const struct scale_costs *c, size_t i)
{
    return (double *)((char *)c + fields[i].at);
}

void scale_costs_print(const struct scale_costs *c, FILE *f)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        fprintf(f, "%s%s=%.*f", i ? "," : "", fields[i].name, *field(c, i) < 10 ? 3 : 0, *field(c, i));
    fprintf(f, "\n");
}

static bool take(struct scale_costs *c, const char *name, double value)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        if (!strcmp(name, fields[i].name)) {
            *field(c, i) = value;
            return true;
        }
    return false;
}

int scale_costs_parse(struct scale_costs *c, const char *text)
{
    char name[32];
    double value;
    int used;
    for (; sscanf(text, "%31[a-z-]=%lf%n", name, &value, &used) == 2; text += used + (text[used] == ','))
        if (!take(c, name, value))
            return -1;
    return *text ? -1 : 0;
}

int sim_command_costs(int argc, char **argv)
{
    struct scale_costs c;
    (void)argc;
    (void)argv;
    scale_costs_measure(&c);
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
        printf("%-10s %9.3f ns  %s\n", fields[i].name, *field(&c, i), fields[i].what);
    scale_costs_print(&c, stdout);
    return 0;
}
