// SPDX-License-Identifier: Apache-2.0
//
// The secure channel as a stranger sees it, and as a stream that was tampered with. The first byte
// says which end is attacked and how: bytes as they are, or a true peer's stream with the rest of
// the input as changes (u16 position, u8 mask). Nothing that was changed may be taken for a frame.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/secure.h"

static const uint8_t key[PM_KEY_LEN] = {1, 2, 3};

static struct pm_secure *end(bool dialer)
{
    const struct pm_secure_config config = {.key = key,
                                            .version = "1",
                                            .launch = 1,
                                            .node = dialer ? 3 : 7,
                                            .dialer = dialer,
                                            .expected = 7};
    struct pm_secure *s = NULL;
    FUZZ_CHECK(pm_secure_new(&config, &s) == 0);
    return s;
}

static void attack(bool dialer, const uint8_t *data, size_t size)
{
    struct pm_secure *s = end(dialer);
    struct pm_writer out = {0};
    size_t used = 0;
    if (dialer)
        pm_secure_begin(s, &out);
    FUZZ_CHECK(pm_secure_handshake(s, data, size, &used, &out) != PM_SECURE_OK);
    FUZZ_CHECK(used <= size && !pm_secure_established(s));
    pm_writer_done(&out);
    pm_secure_free(s);
}

// Moves what `from` has to say into `to`; true as long as nobody refuses.
static bool shake(struct pm_secure *to, struct pm_writer *from, struct pm_writer *out)
{
    size_t used = 0;
    enum pm_secure_result rc = pm_secure_handshake(to, from->data, from->len, &used, out);
    FUZZ_CHECK(rc == PM_SECURE_OK || rc == PM_SECURE_MORE);
    pm_writer_reset(from);
    return rc == PM_SECURE_OK;
}

static void connect_ends(struct pm_secure *a, struct pm_secure *b)
{
    struct pm_writer to_b = {0}, to_a = {0};
    pm_secure_begin(a, &to_b);
    for (int i = 0; i < 4 && !(pm_secure_established(a) && pm_secure_established(b)); i++) {
        if (to_b.len)
            (void)shake(b, &to_b, &to_a);
        if (to_a.len)
            (void)shake(a, &to_a, &to_b);
    }
    FUZZ_CHECK(pm_secure_established(a) && pm_secure_established(b));
    pm_writer_done(&to_a);
    pm_writer_done(&to_b);
}

static void tamper(struct pm_writer *stream, const uint8_t *data, size_t size)
{
    struct pm_reader r = pm_reader_of(data, size);
    while (r.left >= 3) {
        size_t at = pm_read_u16(&r) % stream->len;
        stream->data[at] ^= pm_read_u8(&r);
    }
}

enum { BODY_LEN = 4 };

static void seal_body(struct pm_secure *s, const char *text, size_t len, struct pm_writer *out)
{
    struct pm_body *body;
    FUZZ_CHECK(pm_body_new(text, len, &body) == 0);
    pm_secure_seal_ticket(s, body, out);
    const uint8_t *bytes = pm_body_bytes(body, &len);
    pm_write_raw(out, bytes, len);
    pm_body_unref(body);
}

static void stream(const uint8_t *data, size_t size)
{
    struct pm_secure *a = end(true), *b = end(false);
    struct pm_writer sent = {0}, was = {0};
    connect_ends(a, b);
    pm_secure_seal(a, "hello", 5, &sent);
    pm_secure_seal(a, "world!", 6, &sent);
    seal_body(a, "body", BODY_LEN, &sent);
    pm_write_raw(&was, sent.data, sent.len);
    tamper(&sent, data, size);
    for (size_t at = 0; at < sent.len;) {
        struct pm_secure_frame frame = {0};
        size_t len = pm_secure_frame_size(sent.data + at, sent.len - at);
        if (at + len + BODY_LEN == sent.len)
            len += BODY_LEN; // a ticket: the body belongs to it
        bool is_true = len <= sent.len - at && memcmp(was.data, sent.data, at + len) == 0;
        enum pm_secure_result rc = pm_secure_open(b, sent.data + at, sent.len - at, &frame);
        FUZZ_CHECK(rc != PM_SECURE_OK || is_true);
        if (rc != PM_SECURE_OK)
            break;
        memcpy(sent.data + at, was.data + at, frame.used); // it was opened in place
        at += frame.used;
    }
    pm_writer_done(&sent);
    pm_writer_done(&was);
    pm_secure_free(a);
    pm_secure_free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 3 == 2)
        stream(data + 1, size - 1);
    else
        attack(data[0] % 3, data + 1, size - 1);
    return 0;
}
