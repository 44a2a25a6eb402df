// SPDX-License-Identifier: Apache-2.0
//
// See peers.h for the contract.
#include "pmix_server/io/peers.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1  // else it ends the process without a word
#include <uthash.h>

#include "pmix_server/io/address.h"
#include "pmix_server/io/dial.h"
#include "pmix_server/io/listen.h"
#include "pmix_server/io/resolve.h"
#include "pmix_server/io/util.h"
#include "pmix_server/wire/hostlist.h"

#define BODY_MIN (16u << 10)  // smaller contents are sealed for each link

// A numbered link: being resolved, dialled, or up.
struct peer {
    struct pm_peers *peers;
    uint32_t id;
    uint32_t node;
    struct pm_resolve *resolve;
    struct pm_dial *dial;
    struct pm_conn *link;
    uint64_t timeout_ms;
    UT_hash_handle hh;
};

struct stranger {
    struct pm_peers *peers;
    struct pm_conn *link;
    uint64_t since_ns;
    LIST_ENTRY(stranger) entry;
};

struct pm_peers {
    struct pm_peers_config config;
    uint8_t key[PM_KEY_LEN];
    struct pm_loop *loop;
    struct pm_listener *listener;
    char *addresses;
    struct peer *by_id;
    LIST_HEAD(, stranger) strangers;  // the youngest first
    unsigned n_strangers;
    struct event *full;  // looks for one that makes room
    uint32_t next_id;  // of accepted links: even
    char proved[PM_CONN_ADDRESS_CAP];  // the coordinator's address that worked last
    struct pm_body *body;  // of the action before; NULL: it was small. The next may have the same data
};

static struct peer *peer_of(struct pm_peers *p, uint32_t id)
{
    struct peer *peer;
    HASH_FIND(hh, p->by_id, &id, sizeof(id), peer);
    return peer;
}

static struct peer *peer_add(struct pm_peers *p, uint32_t id, uint32_t node)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    if (!peer)
        return NULL;
    *peer = (struct peer){.peers = p, .id = id, .node = node};
    HASH_ADD(hh, p->by_id, id, sizeof(id), peer);
    if (!peer->hh.tbl) {
        free(peer);
        return NULL;
    }
    return peer;
}

static void peer_free(struct peer *peer)
{
    HASH_DEL(peer->peers->by_id, peer);
    pm_resolve_free(peer->resolve);
    pm_dial_free(peer->dial);
    pm_conn_free(peer->link);
    free(peer);
}

static void post_down(struct pm_peers *p, uint32_t id, uint32_t node, enum pm_link_end end,
                      const char *text)
{
    pm_loop_post(p->loop, &(struct pm_event){.type = PM_EVENT_LINK_DOWN, .link = id, .node = node,
                                             .link_end = (uint8_t)end, .text = text});
}

static void peer_down(struct peer *peer, enum pm_link_end end, const char *text)
{
    struct pm_peers *p = peer->peers;
    uint32_t id = peer->id, node = peer->node;
    char copy[PM_TEXT_CAP];
    snprintf(copy, sizeof(copy), "%s", text);
    peer_free(peer);
    post_down(p, id, node, end, copy);
}

static void on_frame(struct pm_conn *link, const uint8_t *data, size_t len, void *arg)
{
    struct peer *peer = arg;
    pm_loop_post(peer->peers->loop, &(struct pm_event){.type = PM_EVENT_FRAME, .link = peer->id,
                                                       .data = data, .len = len});
}

static void on_down(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg)
{
    peer_down(arg, end, text);
}

static const struct pm_conn_handlers peer_handlers = {.frame = on_frame, .down = on_down};

static void peer_up(struct peer *peer, struct pm_conn *link)
{
    char address[PM_CONN_ADDRESS_CAP];
    snprintf(address, sizeof(address), "%s", pm_conn_address(link));
    peer->link = link;
    pm_conn_set_handlers(link, &peer_handlers, peer);
    pm_loop_post(peer->peers->loop, &(struct pm_event){.type = PM_EVENT_LINK_UP, .link = peer->id,
                                                       .node = peer->node, .text = address});
}

// --- accepted connections ----------------------------------------------------------------------

static void stranger_free(struct stranger *s)
{
    struct pm_peers *p = s->peers;
    LIST_REMOVE(s, entry);
    free(s);
    if (p->n_strangers-- == PM_PEERS_STRANGERS_MAX)
        pm_listener_resume(p->listener);
}

static void stranger_up(struct pm_conn *link, void *arg)
{
    struct stranger *s = arg;
    struct pm_peers *p = s->peers;
    stranger_free(s);
    struct peer *peer = peer_add(p, p->next_id, pm_conn_peer(link));
    if (!peer) {
        pm_conn_free(link);
        return;
    }
    p->next_id += 2;
    peer_up(peer, link);
}

static void stranger_down(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg)
{
    struct stranger *s = arg;
    struct pm_peers *p = s->peers;
    stranger_free(s);
    pm_conn_free(link);
    // Authentic, but of another build or launch: worth a line. Noise from strangers is not.
    if (end == PM_LINK_REJECTED)
        pm_loop_post(p->loop, &(struct pm_event){.type = PM_EVENT_SAY, .text = text});
}

static const struct pm_conn_handlers stranger_handlers = {
    .up = stranger_up, .frame = on_frame, .down = stranger_down};

// It has had its time to say something that only holders of the key can say, and nothing of it waits for us.
static bool is_idle(const struct stranger *s, uint64_t now_ns)
{
    return now_ns - s->since_ns >= PM_PEERS_PATIENCE_MS * UINT64_C(1000000) && !pm_conn_is_known(s->link) &&
           pm_conn_waits(s->link);
}

// False: there is none yet.
static bool make_room(struct pm_peers *p)
{
    struct stranger *s, *oldest = NULL;
    uint64_t now_ns = pm_clock_ns();
    LIST_FOREACH(s, &p->strangers, entry)
        if (is_idle(s, now_ns))
            oldest = s;
    if (!oldest)
        return false;
    struct pm_conn *link = oldest->link;
    stranger_free(oldest);
    pm_conn_free(link);
    return true;
}

// If the timer cannot be set, the handshake's end of the oldest makes room.
static void on_full(evutil_socket_t fd, short what, void *arg)
{
    struct pm_peers *p = arg;
    struct timeval tv = pm_timeval_of_ms(PM_PEERS_PATIENCE_MS);
    if (p->n_strangers >= PM_PEERS_STRANGERS_MAX && !make_room(p))
        (void)evtimer_add(p->full, &tv);
}

static void on_accepted(int fd, const char *address, void *arg)
{
    struct pm_peers *p = arg;
    struct stranger *s = calloc(1, sizeof(*s));
    if (!s) {
        close(fd);
        return;
    }
    s->peers = p;
    s->since_ns = pm_clock_ns();
    struct pm_conn_config config = {.base = p->config.base, .secure = &p->config.secure,
                                    .handlers = &stranger_handlers, .arg = s, .fd = fd,
                                    .handshake_ms = PM_HANDSHAKE_MS, .address = address};
    if (pm_conn_new(&config, &s->link) < 0) {
        free(s);
        return;
    }
    LIST_INSERT_HEAD(&p->strangers, s, entry);
    if (++p->n_strangers < PM_PEERS_STRANGERS_MAX)
        return;
    pm_listener_pause(p->listener);
    on_full(-1, EV_TIMEOUT, p);
}

int pm_peers_listen(struct pm_peers *p, const uint16_t *ports, size_t n)
{
    struct pm_listen_config config = {.base = p->config.base, .ports = ports, .n_ports = n,
                                      .accepted = on_accepted, .arg = p};
    if (!p->full)
        p->full = evtimer_new(p->config.base, on_full, p);
    int r = p->full ? pm_listener_new(&config, &p->listener) : -ENOMEM;
    if (r < 0)
        return r;
    free(p->addresses);
    p->addresses = pm_listen_addresses(pm_listener_port(p->listener));
    if (p->addresses)
        return 0;
    p->listener = pm_listener_free(p->listener);
    return -EADDRNOTAVAIL;
}

int pm_peers_listen_derived(struct pm_peers *p)
{
    uint16_t ports[PM_DERIVED_PORTS];
    for (unsigned i = 0; i < PM_DERIVED_PORTS; i++)
        ports[i] = pm_secure_derived_port(p->key, p->config.secure.node, i, p->config.port_min,
                                          p->config.port_max);
    int r = pm_peers_listen(p, ports, PM_DERIVED_PORTS);
    if (r == 0)
        return 0;
    size_t n;
    PM_CLEANUP_FREE uint16_t *any =
        pm_listen_ports_of_range(p->config.port_min, p->config.port_max, &n);
    return any ? pm_peers_listen(p, any, n) : -ENOMEM;
}

const char *pm_peers_addresses(const struct pm_peers *p)
{
    return p->addresses ? p->addresses : "";
}

// --- dialled connections -------------------------------------------------------------------------

static void on_dialled(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg)
{
    struct peer *peer = arg;
    struct pm_peers *p = peer->peers;
    peer->dial = NULL;
    if (!link) {
        peer_down(peer, end, text);
        return;
    }
    if (peer->node == PM_NODE_COORDINATOR)
        snprintf(p->proved, sizeof(p->proved), "%s", pm_conn_address(link));
    peer_up(peer, link);
}

static void dial_addresses(struct peer *peer, const struct sockaddr_storage *addresses, size_t n,
                           bool first_proved)
{
    struct pm_peers *p = peer->peers;
    struct pm_dial_config config = {.base = p->config.base, .secure = p->config.secure,
                                    .addresses = addresses, .n = n,
                                    .first_proved = first_proved,
                                    .timeout_ms = peer->timeout_ms, .done = on_dialled,
                                    .arg = peer};
    config.secure.dialer = true;
    config.secure.expected = peer->node;
    int r = pm_dial_new(&config, &peer->dial);
    if (r < 0)
        peer_down(peer, PM_LINK_UNREACHABLE, strerror(-r));
}

static void dial_list(struct peer *peer, const char *list)
{
    struct sockaddr_storage addresses[PM_ADDRESS_LIST_MAX], swap;
    struct pm_peers *p = peer->peers;
    int n = pm_address_parse_list(list, addresses, PM_ADDRESS_LIST_MAX);
    if (n <= 0) {
        peer_down(peer, PM_LINK_UNREACHABLE, "no address to dial");
        return;
    }
    bool proved = false;
    for (int i = 0; i < n && peer->node == PM_NODE_COORDINATOR && !proved; i++) {
        char text[PM_ADDRESS_CAP];
        proved = !strcmp(pm_address_format(&addresses[i], text, sizeof(text)), p->proved);
        if (proved) {
            swap = addresses[0];
            addresses[0] = addresses[i];
            addresses[i] = swap;
        }
    }
    dial_addresses(peer, addresses, (size_t)n, proved);
}

// The node's 8 ports on the first address of its name, then on the next.
static void on_resolved(const struct sockaddr_storage *found, size_t n, void *arg)
{
    struct peer *peer = arg;
    struct pm_peers *p = peer->peers;
    struct sockaddr_storage addresses[PM_RESOLVE_MAX * PM_DERIVED_PORTS];
    size_t total = 0;
    peer->resolve = NULL;
    if (!n) {
        peer_down(peer, PM_LINK_UNREACHABLE, "its name is not known here");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; k < PM_DERIVED_PORTS; k++) {
            addresses[total] = found[i];
            pm_address_set_port(&addresses[total++],
                                pm_secure_derived_port(p->key, peer->node, k, p->config.port_min,
                                                       p->config.port_max));
        }
    }
    dial_addresses(peer, addresses, total, false);
}

static void dial_name(struct peer *peer)
{
    struct pm_peers *p = peer->peers;
    char name[256];
    int r = pm_hostlist_nth(p->config.nodelist, peer->node, name, sizeof(name));
    if (r == 0) {
        struct pm_resolve_config config = {.base = p->config.base, .name = name,
                                           .timeout_ms = peer->timeout_ms,
                                           .done = on_resolved, .arg = peer};
        r = pm_resolve_new(&config, &peer->resolve);
    }
    if (r < 0)
        peer_down(peer, PM_LINK_UNREACHABLE, "no such node in the step's node list");
}

void pm_peers_dial(struct pm_peers *p, const struct pm_action *action)
{
    struct peer *peer = peer_add(p, action->link, action->node);
    if (!peer) {
        post_down(p, action->link, action->node, PM_LINK_UNREACHABLE, "out of memory");
        return;
    }
    peer->timeout_ms = action->timeout_ms;
    if (action->text && *action->text)
        dial_list(peer, action->text);
    else if (action->node == PM_NODE_COORDINATOR)
        dial_list(peer, p->config.coordinator);
    else
        dial_name(peer);
}

void pm_peers_send(struct pm_peers *p, const struct pm_action *action)
{
    if (!action->borrowed)
        p->body = pm_body_unref(p->body);
    struct peer *peer = peer_of(p, action->link);
    if (!peer || !peer->link)
        return;
    bool is_body = p->body || (action->len >= BODY_MIN &&
                               pm_body_new(action->data, action->len, &p->body) == 0);
    if (is_body)
        pm_conn_send_body(peer->link, p->body);
    else
        pm_conn_send(peer->link, action->data, action->len);
}

void pm_peers_close(struct pm_peers *p, const struct pm_action *action)
{
    struct peer *peer = peer_of(p, action->link);
    if (!peer)
        return;
    if (peer->link)
        pm_conn_close(peer->link);
    peer->link = NULL;
    peer_free(peer);
}

void pm_peers_drain(struct pm_peers *p)
{
    // A frame can close any link, so the numbers are taken first and looked up again.
    size_t n = 0, all = HASH_COUNT(p->by_id);
    PM_CLEANUP_FREE uint32_t *ids = calloc(all ? all : 1, sizeof(*ids));
    struct peer *peer, *next;
    HASH_ITER(hh, p->by_id, peer, next) {
        if (ids && n < all)
            ids[n++] = peer->id;
    }
    for (size_t i = 0; i < n; i++) {
        peer = peer_of(p, ids[i]);
        if (peer && peer->link)
            pm_conn_drain(peer->link);
    }
}

int pm_peers_new(const struct pm_peers_config *config, struct pm_peers **ret)
{
    struct pm_peers *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->config = *config;
    memcpy(p->key, config->secure.key, PM_KEY_LEN);
    p->config.secure.key = p->key;
    p->config.secure.dialer = false;
    p->next_id = 2;
    LIST_INIT(&p->strangers);
    *ret = p;
    return 0;
}

void pm_peers_set_loop(struct pm_peers *p, struct pm_loop *loop) { p->loop = loop; }

struct pm_peers *pm_peers_free(struct pm_peers *p)
{
    if (!p)
        return NULL;
    while (p->by_id)
        peer_free(p->by_id);
    while (!LIST_EMPTY(&p->strangers)) {
        struct stranger *s = LIST_FIRST(&p->strangers);
        LIST_REMOVE(s, entry);
        pm_conn_free(s->link);
        free(s);
    }
    if (p->full)
        event_free(p->full);
    pm_listener_free(p->listener);
    pm_body_unref(p->body);
    free(p->addresses);
    sodium_memzero(p->key, sizeof(p->key));
    free(p);
    return NULL;
}
