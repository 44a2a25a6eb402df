// SPDX-License-Identifier: Apache-2.0
//
// See dial.h for the contract.
#include "pmix_server/io/dial.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmix_server/io/address.h"
#include "pmix_server/io/util.h"

struct attempt {
    struct pm_dial *dial;
    struct sockaddr_storage address;
    struct pm_conn *link;
    bool begun;
    bool ended;
    bool impossible;  // no route from here to this kind of address: says nothing of the peer
    enum pm_link_end end;
};

struct pm_dial {
    struct pm_dial_config config;
    struct event *stagger;
    struct event *timeout;
    size_t n;
    size_t next;
    uint64_t deadline_ns;
    int text_weight;
    char text[PM_TEXT_CAP];  // of the attempt that gives the verdict so far
    struct attempt attempts[];
};

// Weight of a verdict when no address is proved; see dial.h.
static int weight(enum pm_link_end end)
{
    static const int weights[] = {
        [PM_LINK_REFUSED] = 1,     [PM_LINK_RESET] = 2, [PM_LINK_CLOSED] = 2,
        [PM_LINK_UNREACHABLE] = 3, [PM_LINK_STUCK] = 4, [PM_LINK_REJECTED] = 5,
    };
    return weights[end];
}

struct pm_dial *pm_dial_free(struct pm_dial *d)
{
    if (!d)
        return NULL;
    for (size_t i = 0; i < d->n; i++)
        pm_conn_free(d->attempts[i].link);
    if (d->stagger)
        event_free(d->stagger);
    if (d->timeout)
        event_free(d->timeout);
    free(d);
    return NULL;
}

static void finish(struct pm_dial *d, struct pm_conn *link, enum pm_link_end end)
{
    struct pm_dial_config config = d->config;
    char text[PM_TEXT_CAP];
    memcpy(text, d->text, sizeof(text));
    pm_dial_free(d);
    config.done(link, end, text, config.arg);
}

static enum pm_link_end verdict(const struct pm_dial *d)
{
    if (d->config.first_proved && d->attempts[0].ended)
        return d->attempts[0].end;
    enum pm_link_end worst = PM_LINK_REFUSED;
    bool any = false;
    for (size_t i = 0; i < d->n; i++) {
        const struct attempt *a = &d->attempts[i];
        if (!a->begun || a->impossible)
            continue;
        if (!any || weight(a->end) > weight(worst))
            worst = a->end;
        any = true;
    }
    return any ? worst : PM_LINK_UNREACHABLE;
}

static void attempt_ended(struct attempt *a, enum pm_link_end end, const char *text)
{
    struct pm_dial *d = a->dial;
    bool decides = d->config.first_proved && a == &d->attempts[0];
    int heavy = decides ? INT_MAX : a->impossible ? 0 : weight(end);
    a->ended = true;
    a->end = end;
    if (!d->text[0] || heavy > d->text_weight) {
        snprintf(d->text, sizeof(d->text), "%s", text);
        d->text_weight = heavy;
    }
    for (size_t i = 0; i < d->n; i++) {
        if (!d->attempts[i].ended) {
            if (!d->attempts[i].begun)
                event_active(d->stagger, EV_TIMEOUT, 0);
            return;
        }
    }
    event_active(d->timeout, EV_TIMEOUT, 0);
}

static void on_up(struct pm_conn *link, void *arg)
{
    struct attempt *a = arg;
    a->link = NULL;
    finish(a->dial, link, PM_LINK_CLOSED);
}

static void on_down(struct pm_conn *link, enum pm_link_end end, const char *text, void *arg)
{
    struct attempt *a = arg;
    a->link = pm_conn_free(link);
    attempt_ended(a, end, text);
}

static void on_frame(struct pm_conn *link, const uint8_t *data, size_t len, void *arg) {}

static const struct pm_conn_handlers attempt_handlers = {
    .up = on_up, .frame = on_frame, .down = on_down};

// 0, or the negative errno of a connect() that failed at once.
static int attempt_connect(struct attempt *a, const char *text)
{
    struct pm_dial *d = a->dial;
    PM_CLEANUP_FD int fd =
        socket(a->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    uint64_t now = pm_clock_ns();
    uint64_t left_ms = d->deadline_ns > now ? (d->deadline_ns - now) / 1000000u : 0;
    int r = connect(fd, (struct sockaddr *)&a->address, pm_address_len(&a->address));
    if (r < 0 && errno != EINPROGRESS)
        return -errno;
    struct pm_conn_config config = {.base = d->config.base, .secure = &d->config.secure,
                                    .handlers = &attempt_handlers, .arg = a,
                                    .fd = pm_take_fd(&fd), .connecting = true,
                                    .handshake_ms = left_ms, .address = text};
    return pm_conn_new(&config, &a->link);
}

static void begin(struct attempt *a)
{
    char address[PM_ADDRESS_CAP], text[PM_TEXT_CAP];
    pm_address_format(&a->address, address, sizeof(address));
    a->begun = true;
    a->end = PM_LINK_UNREACHABLE;
    int r = attempt_connect(a, address);
    if (r == 0)
        return;
    a->impossible = r == -ENETUNREACH || r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL;
    snprintf(text, sizeof(text), "%s: %s", address, strerror(-r));
    attempt_ended(a, r == -ECONNREFUSED ? PM_LINK_REFUSED : PM_LINK_UNREACHABLE, text);
}

static void begin_next(struct pm_dial *d)
{
    if (d->next == d->n)
        return;
    struct timeval tv = pm_timeval_of_ms(PM_DIAL_STAGGER_MS);
    struct attempt *a = &d->attempts[d->next++];
    if (d->next < d->n)
        event_add(d->stagger, &tv);
    begin(a);
}

static void on_stagger(evutil_socket_t fd, short what, void *arg) { begin_next(arg); }

// All attempts ended, or the time is over: what still hangs is stuck or unreachable by its link's phase.
static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct pm_dial *d = arg;
    if (!d->text[0]) {
        char address[PM_ADDRESS_CAP] = "no address";
        if (d->n)
            pm_address_format(&d->attempts[0].address, address, sizeof(address));
        snprintf(d->text, sizeof(d->text), "%s: no answer", address);
    }
    finish(d, NULL, verdict(d));
}

int pm_dial_new(const struct pm_dial_config *config, struct pm_dial **ret)
{
    size_t n = config->n < PM_DIAL_MAX ? config->n : PM_DIAL_MAX;
    struct pm_dial *d = calloc(1, sizeof(*d) + n * sizeof(d->attempts[0]));
    if (!d)
        return -ENOMEM;
    d->config = *config;
    d->config.addresses = NULL;
    d->n = n;
    d->deadline_ns = pm_clock_ns() + config->timeout_ms * 1000000u;
    for (size_t i = 0; i < n; i++)
        d->attempts[i] = (struct attempt){.dial = d, .address = config->addresses[i]};
    // The links' own limits end a little earlier, so that they say whether they were stuck.
    struct timeval tv = pm_timeval_of_ms(config->timeout_ms + PM_DIAL_STAGGER_MS);
    d->stagger = evtimer_new(config->base, on_stagger, d);
    d->timeout = evtimer_new(config->base, on_timeout, d);
    if (!d->stagger || !d->timeout || event_add(d->timeout, &tv)) {
        pm_dial_free(d);
        return -ENOMEM;
    }
    event_active(n ? d->stagger : d->timeout, EV_TIMEOUT, 0);
    *ret = d;
    return 0;
}
