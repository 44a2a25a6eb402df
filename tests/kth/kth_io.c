// SPDX-License-Identifier: Apache-2.0
//
// Two ends that find each other over loopback, talk and part, with every allocation and system call of the
// shell failing in turn, those of libevent included. Allowed is: it works, or whoever dialled hears that
// it did not, in time; nothing is half true, no descriptor, block or child is left. Interrupted calls, calls
// that find nothing and calls that do a part of their work must not be seen at all.
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmix_server/io/children.h"
#include "pmix_server/io/event_log.h"
#include "pmix_server/io/peers.h"
#include "pmix_server/io/resolve.h"
#include "pmix_server/io/signals.h"
#include "pmix_server/io/util.h"
#include "tests/kth/kth.h"
#include "tests/kth/kth_calls.h"

enum { SMALL = 100, LARGE = 17000, BOUND_MS = 20000, DIAL_LINK = 1 };

static const uint8_t key[PM_KEY_LEN] = {1, 2, 3};

// What became of one end.
struct end {
    struct pm_peers *peers;
    uint32_t link;
    bool up, down;
    unsigned frames;
};

static struct end dialer, acceptor;
static uint64_t dial_ms = 5000;
static bool has_six;      // this machine has IPv6
static bool was_reached;  // for a flow that disarms by itself
static struct event_base *base;
static struct event *tick;

// --- stands in for loop.c ---------------------------------------------------------------------------

static const uint8_t *content(void)
{
    static uint8_t bytes[LARGE];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    return bytes;
}

static void send_to(struct end *end, size_t len)
{
    static uint8_t copy[LARGE];
    memcpy(copy, content(), len);
    struct pm_action a = {.type = PM_ACTION_SEND, .link = end->link, .data = copy, .len = len};
    pm_peers_send(end->peers, &a);
}

// The loop of an end is the end itself.
void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    struct end *end = (struct end *)loop;
    KTH_CHECK(!end->down, "an event of a link that is gone");
    if (event->type == PM_EVENT_LINK_UP) {
        end->up = true;
        end->link = event->link;
        send_to(end, SMALL);
        send_to(end, LARGE);
    } else if (event->type == PM_EVENT_LINK_DOWN) {
        KTH_CHECK(event->text, "nobody says why");
        end->down = true;
    } else if (event->type == PM_EVENT_FRAME) {
        size_t want = end->frames++ ? LARGE : SMALL;
        KTH_CHECK(event->len == want && memcmp(event->data, content(), want) == 0,
                  "other bytes arrive than were sent");
    }
}

// --- the flow: start, meet, talk, part ------------------------------------------------------------------

static int end_open(struct end *end, bool listens)
{
    const struct pm_peers_config config = {
        .base = base,
        .secure = {.key = key, .version = "1", .launch = 1, .node = listens ? 5 : 3},
        .coordinator = "",
        .nodelist = "localhost"};
    static const uint16_t any = 0;
    *end = (struct end){0};
    int rc = pm_peers_new(&config, &end->peers);
    if (rc == 0)
        pm_peers_set_loop(end->peers, (struct pm_loop *)end);
    return rc == 0 && listens ? pm_peers_listen(end->peers, &any, 1) : rc;
}

static bool both(void)
{
    return dialer.frames == 2 && acceptor.frames == 2;
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {}

static void turn_until(bool (*pred)(void))
{
    uint64_t until = pm_clock_ns() + BOUND_MS * 1000000ull;
    struct timeval tv = {.tv_usec = 10000};
    while (!pred() && !dialer.down && pm_clock_ns() < until) {
        event_add(tick, &tv);
        event_base_loop(base, EVLOOP_ONCE);
    }
}

static void dial(void)
{
    const char *port = strrchr(pm_peers_addresses(acceptor.peers), ':');
    char address[64];
    snprintf(address, sizeof(address), "127.0.0.1%s", port);
    struct pm_action a = {.type = PM_ACTION_DIAL, .link = DIAL_LINK, .node = 5,
                          .timeout_ms = dial_ms, .text = address};
    pm_peers_dial(dialer.peers, &a);
}

static bool acceptor_is_told(void)
{
    return acceptor.down;
}

static int talk(void)
{
    int rc = end_open(&acceptor, true);
    if (rc == 0)
        rc = end_open(&dialer, false);
    if (rc < 0)
        return rc;
    dial();
    turn_until(both);
    KTH_CHECK(dialer.up || dialer.down, "who dialled hears nothing");
    KTH_CHECK(both() || dialer.down, "%u and %u frames arrive and nobody is told", dialer.frames,
              acceptor.frames);
    if (!both())
        return -EIO;
    struct pm_action a = {.type = PM_ACTION_CLOSE, .link = DIAL_LINK};
    pm_peers_close(dialer.peers, &a);
    turn_until(acceptor_is_told);
    return acceptor.down ? 0 : -EIO;
}

static int flow_talk(void)
{
    dialer = acceptor = (struct end){0};
    int rc = talk();
    pm_peers_free(dialer.peers);
    pm_peers_free(acceptor.peers);
    event_del(tick);
    event_base_dispatch(base);  // a link that was closed waits for the other side, 2 s at most
    return rc;
}

// --- the flow: a name -------------------------------------------------------------------------------------

static bool is_resolved;
static size_t n_resolved;

static void on_resolved(const struct sockaddr_storage *addresses, size_t n, void *arg)
{
    is_resolved = true;
    n_resolved = n;
}

static int flow_resolve(void)
{
    const struct pm_resolve_config config = {.base = base, .name = "127.0.0.1",
                                             .timeout_ms = 500, .done = on_resolved};
    struct pm_resolve *resolve = NULL;
    is_resolved = false;
    n_resolved = 0;
    int rc = pm_resolve_new(&config, &resolve);
    if (rc == 0) {
        event_base_dispatch(base);
        KTH_CHECK(is_resolved, "nobody is told");
        rc = n_resolved ? 0 : -EIO;
    }
    return rc;
}

// --- the flow: an agent's own port -------------------------------------------------------------------------

// Both families answer on the port that others are told.
static bool answers(int family, const char *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    v4.sin_port = v6.sin6_port = htons((uint16_t)atoi(port));
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    const struct sockaddr *address = family == AF_INET ? (void *)&v4 : (void *)&v6;
    int rc = connect(fd, address, family == AF_INET ? sizeof(v4) : sizeof(v6));
    close(fd);
    return rc == 0;
}

static int flow_listen(void)
{
    const struct pm_peers_config config = {
        .base = base, .secure = {.key = key, .version = "1", .launch = 1, .node = 5}};
    struct pm_peers *peers = NULL;
    int rc = pm_peers_new(&config, &peers);
    if (rc == 0)
        rc = pm_peers_listen_derived(peers);
    bool reached = kth_disarm();
    if (rc == 0) {
        const char *port = strrchr(pm_peers_addresses(peers), ':') + 1;
        KTH_CHECK(answers(AF_INET, port), "nobody is at port %s", port);
        KTH_CHECK(answers(AF_INET6, port) == has_six, "nobody is at port %s of IPv6", port);
    }
    pm_peers_free(peers);
    kth_arm(UINT64_MAX, KTH_ONCE);
    was_reached = reached;
    return rc;
}

// --- the flow: a line of the event log ------------------------------------------------------------------

// A line that is there has all its fields. The time stamps change, their number does not.
static int flow_log(void)
{
    static const struct pm_log record = {.kind = "failure", .epoch = 1, .rank = 2, .node = 3, .pid = 4,
                                         .cause = PM_CAUSE_EXIT, .has_status = true, .action = "stop",
                                         .from = "RUNNING", .to = "STOPPING", .reason = "a reason",
                                         .halt_ms = 5, .has_fence = true, .fence = 6, .digest = 7,
                                         .spare = 8, .spares_left = 1};
    static const struct pm_event_log_id id = {.writer = "coordinator", .job = 8, .step = 9};
    static const char path[] = "kth_io.log";
    struct pm_event_log *log = NULL;
    char line[1024] = "";
    (void)unlink(path);
    int rc = pm_event_log_new(path, &id, &log);
    if (rc < 0)
        return rc;
    rc = pm_event_log_write(log, &record);
    pm_event_log_free(log);
    FILE *f = fopen(path, "re");
    size_t len = f ? fread(line, 1, sizeof(line) - 1, f) : 0;
    if (f)
        fclose(f);
    unsigned fields = 0;
    for (size_t i = 0; i + 1 < len; i++)
        fields += line[i] == '"' && line[i + 1] == ':';
    KTH_CHECK(rc < 0 ? len == 0 : fields == 24 && line[len - 1] == '\n', "%d, %u fields: %s", rc,
              fields, line);
    return unlink(path) < 0 ? -errno : rc;
}

static int flow_watch(void)
{
    struct pm_children *children = pm_children_new();
    struct pm_signals *signals = NULL;
    sigset_t none;
    sigemptyset(&none);
    int rc = children ? pm_children_watch(children, getpid(), NULL, NULL) : -ENOMEM;
    if (rc == 0)
        rc = pm_signals_new(base, &none, NULL, NULL, &signals);
    pm_signals_free(signals);
    pm_children_free(children);
    return rc;
}

// --- sweeps -----------------------------------------------------------------------------------------------

static unsigned open_fds(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    KTH_CHECK(dir, "no /proc");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void no_child_is_left(const char *name)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, 0)) > 0 || errno == EINTR)
        ;
    KTH_CHECK(errno == ECHILD, "%s", name);
}

static void base_open(void)
{
    base = event_base_new();
    tick = base ? evtimer_new(base, on_tick, NULL) : NULL;
    KTH_CHECK(tick, "no memory");
}

static void base_close(void)
{
    event_free(tick);
    event_base_free(base);
}

static void say_nothing(int severity, const char *text) {}

static void sweep(const char *name, int (*flow)(void), enum kth_calls_mode mode, enum kth_mode kth)
{
    bool must_work = mode > KTH_CALLS_FAIL, reached = true;
    uint64_t k = 0, failed = 0;
    kth_calls_mode(mode);
    dial_ms = must_work ? 5000 : 200;
    while (reached) {
        unsigned fds = open_fds();
        int64_t live = kth_live_blocks();
        base_open();  // before: libevent 2.1 itself loses memory if it cannot make one
        kth_memory_is_tried(!must_work);
        kth_arm(++k, kth);
        int rc = flow();
        reached = kth_disarm() || was_reached;
        was_reached = false;
        failed += rc < 0;
        base_close();
        no_child_is_left(name);
        KTH_CHECK(rc == 0 || (reached && !must_work), "%s, k %llu: %d", name, (unsigned long long)k, rc);
        KTH_CHECK(kth_live_blocks() == live, "%s, k %llu: %lld blocks are left", name,
                  (unsigned long long)k, (long long)(kth_live_blocks() - live));
        KTH_CHECK(open_fds() == fds, "%s, k %llu: a descriptor is left", name, (unsigned long long)k);
    }
    printf("%s, mode %d: %llu calls, %llu of them ended it\n", name, mode, (unsigned long long)k - 1,
           (unsigned long long)failed);
}

int main(void)
{
    event_set_mem_functions(malloc, realloc, free);  // libevent's come by kth_memory.c, too
    json_set_alloc_funcs(malloc, free);
    event_set_log_callback(say_nothing);
    int six = socket(AF_INET6, SOCK_STREAM, 0);
    has_six = six >= 0;
    if (has_six)
        close(six);
    base_open();
    KTH_CHECK(flow_talk() == 0 && flow_resolve() == 0, "it does not work");
    base_close();
    no_child_is_left("warm-up");
    sweep("talk", flow_talk, KTH_CALLS_ARE_NOT_TRIED, KTH_ONCE);
    sweep("talk", flow_talk, KTH_CALLS_ARE_NOT_TRIED, KTH_FROM_NOW);
    sweep("talk", flow_talk, KTH_CALLS_FAIL, KTH_ONCE);
    sweep("talk", flow_talk, KTH_CALLS_ARE_INTERRUPTED, KTH_ONCE);
    sweep("talk", flow_talk, KTH_CALLS_FIND_NOTHING, KTH_ONCE);
    sweep("talk", flow_talk, KTH_CALLS_DO_A_PART, KTH_ONCE);
    sweep("talk", flow_talk, KTH_CALLS_DO_A_PART, KTH_FROM_NOW);
    sweep("listen", flow_listen, KTH_CALLS_FAIL, KTH_ONCE);
    sweep("log", flow_log, KTH_CALLS_FAIL, KTH_ONCE);
    sweep("log", flow_log, KTH_CALLS_FAIL, KTH_FROM_NOW);
    sweep("watch", flow_watch, KTH_CALLS_FAIL, KTH_ONCE);
    sweep("resolve", flow_resolve, KTH_CALLS_FAIL, KTH_ONCE);
    return 0;
}
