// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/wire/secure.h promises: only peers with the same key, launch and build talk, and
// nobody in between can read, repeat, reorder or change a frame.
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "pmix_server/wire/secure.h"

struct side {
    struct pm_secure *s;
    struct pm_writer out;
    enum pm_secure_result last;
};

static const uint8_t key_a[PM_KEY_LEN] = {1, 2, 3};
static const uint8_t key_b[PM_KEY_LEN] = {1, 2, 4};

static struct pm_secure_config config_of(bool dialer)
{
    return (struct pm_secure_config){.key = key_a, .version = "1.0", .launch = 7,
                                     .node = dialer ? 3 : 5, .dialer = dialer, .expected = 5};
}

static struct side side_new(struct pm_secure_config config)
{
    struct side side = {.last = PM_SECURE_MORE};
    cr_assert_eq(pm_secure_new(&config, &side.s), 0);
    pm_secure_begin(side.s, &side.out);
    return side;
}

static void side_done(struct side *side)
{
    pm_writer_done(&side->out);
    side->s = pm_secure_free(side->s);
}

// Moves what `from` has to say to `to`, `chunk` bytes at a time.
static void pass(struct side *from, struct side *to, size_t chunk)
{
    size_t at = 0, have = 0;
    while (have < from->out.len && (to->last == PM_SECURE_MORE)) {
        have = have + chunk < from->out.len ? have + chunk : from->out.len;
        size_t used = 0;
        to->last = pm_secure_handshake(to->s, from->out.data + at, have - at, &used, &to->out);
        at += used;
    }
    pm_writer_reset(&from->out);
}

static void shake(struct side *dialer, struct side *acceptor, size_t chunk)
{
    for (int round = 0; round < 3; round++) {
        pass(dialer, acceptor, chunk);
        pass(acceptor, dialer, chunk);
    }
}

static void open_frame(struct side *from, struct side *to, const char *text)
{
    struct pm_secure_frame frame;
    cr_assert_eq(pm_secure_open(to->s, from->out.data, from->out.len, &frame), PM_SECURE_OK);
    cr_assert_eq(frame.len, strlen(text));
    cr_assert_arr_eq(frame.data, text, frame.len);
    cr_assert_eq(frame.used, from->out.len);
    pm_writer_reset(&from->out);
}

Test(secure, peers_with_the_same_key_talk_both_ways, .timeout = 10)
{
    for (size_t chunk = 1; chunk < 400; chunk += 37) {
        struct side d = side_new(config_of(true)), a = side_new(config_of(false));
        shake(&d, &a, chunk);
        cr_assert(pm_secure_established(d.s) && pm_secure_established(a.s));
        cr_assert_eq(pm_secure_peer(a.s), 3);
        pm_secure_seal(d.s, "hello", 5, &d.out);
        open_frame(&d, &a, "hello");
        pm_secure_seal(a.s, "", 0, &a.out);
        open_frame(&a, &d, "");
        pm_secure_seal(a.s, "again", 5, &a.out);
        open_frame(&a, &d, "again");
        side_done(&d);
        side_done(&a);
    }
}

static void expect_refusal(struct pm_secure_config dialer, enum pm_secure_result at_acceptor,
                           enum pm_secure_result at_dialer)
{
    struct side d = side_new(dialer), a = side_new(config_of(false));
    shake(&d, &a, 4096);
    cr_assert_eq(a.last, at_acceptor);
    cr_assert_eq(d.last, at_dialer);
    cr_assert(!pm_secure_established(d.s) && !pm_secure_established(a.s));
    side_done(&d);
    side_done(&a);
}

Test(secure, a_wrong_key_gets_no_answer, .timeout = 10)
{
    struct pm_secure_config dialer = config_of(true);
    dialer.key = key_b;
    expect_refusal(dialer, PM_SECURE_KEY, PM_SECURE_MORE);
}

Test(secure, another_build_is_refused_with_both_versions_known, .timeout = 10)
{
    struct pm_secure_config dialer = config_of(true);
    dialer.version = "2.0";
    struct side d = side_new(dialer), a = side_new(config_of(false));
    shake(&d, &a, 4096);
    cr_assert_eq(a.last, PM_SECURE_VERSION);
    cr_assert_eq(d.last, PM_SECURE_VERSION);
    cr_assert_str_eq(pm_secure_peer_version(a.s), "2.0");
    cr_assert_str_eq(pm_secure_peer_version(d.s), "1.0");
    side_done(&d);
    side_done(&a);
}

Test(secure, another_launch_and_another_node_are_refused, .timeout = 10)
{
    struct pm_secure_config dialer = config_of(true);
    dialer.launch = 8;
    expect_refusal(dialer, PM_SECURE_LAUNCH, PM_SECURE_LAUNCH);
    dialer = config_of(true);
    dialer.expected = 6;
    expect_refusal(dialer, PM_SECURE_PEER, PM_SECURE_PEER);
}

Test(secure, a_reflected_hello_is_no_answer, .timeout = 10)
{
    struct side d = side_new(config_of(true));
    struct pm_writer echo = {0};
    pm_write_raw(&echo, d.out.data, d.out.len);
    size_t used;
    cr_assert_eq(pm_secure_handshake(d.s, echo.data, echo.len, &used, &d.out), PM_SECURE_KEY);
    pm_writer_done(&echo);
    side_done(&d);
}

Test(secure, a_recorded_conversation_cannot_be_played_again, .timeout = 10)
{
    struct side d = side_new(config_of(true)), a = side_new(config_of(false));
    struct pm_writer tape = {0};
    pm_write_raw(&tape, d.out.data, d.out.len);
    pass(&d, &a, 4096);
    pass(&a, &d, 4096);
    pm_write_raw(&tape, d.out.data, d.out.len);
    pass(&d, &a, 4096);
    cr_assert(pm_secure_established(a.s));
    struct side fresh = side_new(config_of(false));
    size_t used;
    cr_assert_eq(pm_secure_handshake(fresh.s, tape.data, tape.len, &used, &fresh.out),
                 PM_SECURE_KEY);
    pm_writer_done(&tape);
    side_done(&d);
    side_done(&a);
    side_done(&fresh);
}

Test(secure, every_changed_bit_of_hello_and_confirm_is_noticed, .timeout = 60)
{
    for (size_t bit = 0; bit < PM_SECURE_HELLO_LEN * 8; bit++) {
        struct side d = side_new(config_of(true)), a = side_new(config_of(false));
        d.out.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        pass(&d, &a, 4096);
        cr_assert_eq(a.last, PM_SECURE_KEY);
        cr_assert_eq(a.out.len, 0);
        side_done(&d);
        side_done(&a);
    }
}

static void established(struct side *d, struct side *a)
{
    *d = side_new(config_of(true));
    *a = side_new(config_of(false));
    shake(d, a, 4096);
}

Test(secure, a_changed_frame_ends_the_conversation, .timeout = 30)
{
    for (size_t bit = 0; bit < (5 + PM_SECURE_FRAME_OVERHEAD) * 8; bit++) {
        struct side d, a;
        established(&d, &a);
        pm_secure_seal(d.s, "hello", 5, &d.out);
        d.out.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        struct pm_secure_frame frame;
        enum pm_secure_result r = pm_secure_open(a.s, d.out.data, d.out.len, &frame);
        cr_assert(r == PM_SECURE_CORRUPT || (r == PM_SECURE_MORE && bit < 32));
        side_done(&d);
        side_done(&a);
    }
}

Test(secure, a_frame_cannot_be_repeated_or_left_out, .timeout = 10)
{
    struct side d, a;
    established(&d, &a);
    pm_secure_seal(d.s, "one", 3, &d.out);
    size_t one = d.out.len;
    pm_secure_seal(d.s, "two", 3, &d.out);
    struct pm_secure_frame frame;
    cr_assert_eq(pm_secure_open(a.s, d.out.data + one, d.out.len - one, &frame),
                 PM_SECURE_CORRUPT);
    cr_assert_eq(pm_secure_open(a.s, d.out.data, one, &frame), PM_SECURE_CORRUPT);
    side_done(&d);
    side_done(&a);
}

Test(secure, frames_above_the_limit_are_refused_before_they_are_buffered, .timeout = 10)
{
    struct side d, a;
    established(&d, &a);
    struct pm_secure_frame frame;
    uint8_t length[4] = {0x7f, 0, 0, 0};
    cr_assert_eq(pm_secure_open(a.s, length, 4, &frame), PM_SECURE_CORRUPT);
    pm_secure_seal(d.s, NULL, (size_t)PM_FRAME_MAX + 1, &d.out);
    cr_assert_eq(d.out.error, -EMSGSIZE);
    side_done(&d);
    side_done(&a);
}

// --- bodies ---

static const char secret[] = "a content that several peers get";

static struct pm_body *secret_body(void)
{
    struct pm_body *body;
    cr_assert_eq(pm_body_new(secret, sizeof(secret), &body), 0);
    return body;
}

// The ticket, then the body's bytes, as a link would send them.
static void send_body(struct side *side, struct pm_body *body)
{
    size_t len;
    pm_secure_seal_ticket(side->s, body, &side->out);
    const uint8_t *bytes = pm_body_bytes(body, &len);
    cr_assert_eq(len, sizeof(secret));
    pm_write_raw(&side->out, bytes, len);
}

static void open_secret(struct side *from, struct side *to)
{
    struct pm_secure_frame frame;
    cr_assert_eq(pm_secure_open(to->s, from->out.data, from->out.len, &frame), PM_SECURE_OK);
    cr_assert_eq(frame.len, sizeof(secret));
    cr_assert_arr_eq(frame.data, secret, sizeof(secret));
    cr_assert_eq(frame.used, from->out.len);
    pm_writer_reset(&from->out);
}

Test(secure, one_body_is_read_by_several_peers, .timeout = 10)
{
    struct pm_body *body = secret_body();
    for (int i = 0; i < 2; i++) {
        struct side d, a;
        established(&d, &a);
        send_body(&d, body);
        open_secret(&d, &a);
        pm_secure_seal(d.s, "after", 5, &d.out);
        open_frame(&d, &a, "after");
        side_done(&d);
        side_done(&a);
    }
    pm_body_unref(body);
}

Test(secure, a_body_that_comes_in_pieces_is_waited_for, .timeout = 10)
{
    struct side d, a;
    established(&d, &a);
    struct pm_body *body = secret_body();
    send_body(&d, body);
    size_t at = 0, have = 0;
    enum pm_secure_result r = PM_SECURE_MORE;
    struct pm_secure_frame frame;
    while (r == PM_SECURE_MORE && have < d.out.len) {
        have++;
        r = pm_secure_open(a.s, d.out.data + at, have - at, &frame);
        at += frame.used;
    }
    cr_assert_eq(r, PM_SECURE_OK);
    cr_assert_eq(have, d.out.len, "read before its last byte had come");
    cr_assert_eq(at, d.out.len);
    cr_assert_eq(frame.len, sizeof(secret));
    cr_assert_arr_eq(frame.data, secret, sizeof(secret));
    pm_body_unref(body);
    side_done(&d);
    side_done(&a);
}

Test(secure, a_changed_bit_of_a_ticket_or_body_ends_the_conversation, .timeout = 60)
{
    struct pm_body *body = secret_body();
    size_t all = PM_BODY_TICKET_LEN + PM_SECURE_FRAME_OVERHEAD + sizeof(secret);
    for (size_t bit = 0; bit < all * 8; bit++) {
        struct side d, a;
        established(&d, &a);
        send_body(&d, body);
        cr_assert_eq(d.out.len, all);
        d.out.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        struct pm_secure_frame frame;
        enum pm_secure_result r = pm_secure_open(a.s, d.out.data, d.out.len, &frame);
        cr_assert(r == PM_SECURE_CORRUPT || (r == PM_SECURE_MORE && bit < 32));
        side_done(&d);
        side_done(&a);
    }
    pm_body_unref(body);
}

Test(secure, a_body_cannot_be_exchanged_for_another, .timeout = 10)
{
    struct side d, a;
    established(&d, &a);
    struct pm_body *one = secret_body(), *two = secret_body();
    size_t len;
    pm_secure_seal_ticket(d.s, one, &d.out);
    pm_write_raw(&d.out, pm_body_bytes(two, &len), sizeof(secret));
    struct pm_secure_frame frame;
    cr_assert_eq(pm_secure_open(a.s, d.out.data, d.out.len, &frame), PM_SECURE_CORRUPT);
    pm_body_unref(one);
    pm_body_unref(two);
    side_done(&d);
    side_done(&a);
}

// --- ports ---

Test(secure, derived_ports_differ_and_stay_in_the_range, .timeout = 10)
{
    for (uint32_t node = 0; node < 200; node++) {
        for (unsigned i = 0; i < PM_DERIVED_PORTS; i++) {
            uint16_t port = pm_secure_derived_port(key_a, node, i, 40000, 40010);
            cr_assert(port >= 40000 && port <= 40010);
            cr_assert_eq(port, pm_secure_derived_port(key_a, node, i, 40000, 40010));
            for (unsigned j = 0; j < i; j++)
                cr_assert_neq(port, pm_secure_derived_port(key_a, node, j, 40000, 40010));
        }
    }
    cr_assert_eq(pm_secure_derived_port(key_a, 1, 5, 4000, 4000), 4000);
}
