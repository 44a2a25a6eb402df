// SPDX-License-Identifier: Apache-2.0
//
// See secure.h for the contract. Layout of a HELLO, all integers big-endian:
//
//   0 magic[8]  8 u32 protocol  12 u8 role  13 zero[3]  16 u32 launch  20 u32 node  24 u32 wanted node
//   28 nonce[32]  60 build[32] (NUL-padded)  92 zero[24]  116 MAC[32] over bytes 0..115
//
// Keys are derived with crypto_kdf from the launch key: one authenticates hellos, one makes ports. The
// keys of a connection are a keyed hash over both hellos, so they are new for every pair of nonces.
#include "pmix_server/wire/secure.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "PMsecur1"
#define PROTOCOL 2u
#define MAC_LEN 32u
#define NONCE_LEN 32u
#define MAC_AT (PM_SECURE_HELLO_LEN - MAC_LEN)
#define VERSION_AT 60u
#define HEADER_LEN crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define TAG_LEN crypto_secretstream_xchacha20poly1305_ABYTES
#define TAG_CONTENT crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
#define TAG_TICKET crypto_secretstream_xchacha20poly1305_TAG_PUSH
#define KDF_CONTEXT "pmsuperv"

_Static_assert(PM_KEY_LEN == crypto_kdf_KEYBYTES, "launch key");
_Static_assert(PM_SECURE_CONFIRM_LEN == HEADER_LEN + MAC_LEN, "confirm");
_Static_assert(PM_SECURE_FRAME_OVERHEAD == 4 + TAG_LEN, "frame");
_Static_assert(VERSION_AT + PM_SECURE_VERSION_CAP <= MAC_AT, "hello");

enum role { ROLE_NONE = 0, ROLE_DIALER = 1, ROLE_ACCEPTOR = 2 };
enum subkey { SUBKEY_HELLO = 1, SUBKEY_SESSION = 2, SUBKEY_PORT = 3 };
enum phase { PHASE_HELLO = 0, PHASE_CONFIRM, PHASE_FRAMES, PHASE_DEAD };

struct pm_secure {
    struct pm_secure_config config;
    char version[PM_SECURE_VERSION_CAP];
    char peer_version[PM_SECURE_VERSION_CAP];
    uint32_t peer;
    enum phase phase;
    uint8_t key[PM_KEY_LEN];
    uint8_t own_hello[PM_SECURE_HELLO_LEN];
    uint8_t peer_hello[PM_SECURE_HELLO_LEN];
    crypto_secretstream_xchacha20poly1305_state push;
    crypto_secretstream_xchacha20poly1305_state pull;
    bool body_next;  // what comes next is the body of `ticket`
    struct pm_body_ticket ticket;
};

int pm_secure_new(const struct pm_secure_config *config, struct pm_secure **ret)
{
    size_t version_len = strlen(config->version);
    if (sodium_init() < 0 || version_len >= PM_SECURE_VERSION_CAP)
        return -EINVAL;
    struct pm_secure *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->config = *config;
    s->config.key = s->key;
    s->config.version = s->version;
    memcpy(s->key, config->key, PM_KEY_LEN);
    memcpy(s->version, config->version, version_len);
    s->peer = config->dialer ? config->expected : 0;
    *ret = s;
    return 0;
}

struct pm_secure *pm_secure_free(struct pm_secure *s)
{
    if (s) {
        sodium_memzero(s, sizeof(*s));
        free(s);
    }
    return NULL;
}

static void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void subkey(const uint8_t *key, enum subkey id, uint8_t out[PM_KEY_LEN])
{
    crypto_kdf_derive_from_key(out, PM_KEY_LEN, (uint64_t)id, KDF_CONTEXT, key);
}

static void hello_mac(const struct pm_secure *s, const uint8_t *hello, uint8_t mac[MAC_LEN])
{
    uint8_t key[PM_KEY_LEN];
    subkey(s->key, SUBKEY_HELLO, key);
    crypto_generichash(mac, MAC_LEN, hello, MAC_AT, key, sizeof(key));
    sodium_memzero(key, sizeof(key));
}

static void build_hello(struct pm_secure *s)
{
    uint8_t *h = s->own_hello;
    memset(h, 0, PM_SECURE_HELLO_LEN);
    memcpy(h, MAGIC, 8);
    put_u32(h + 8, PROTOCOL);
    h[12] = s->config.dialer ? ROLE_DIALER : ROLE_ACCEPTOR;
    put_u32(h + 16, s->config.launch);
    put_u32(h + 20, s->config.node);
    put_u32(h + 24, s->peer);
    randombytes_buf(h + 28, NONCE_LEN);
    memcpy(h + VERSION_AT, s->version, PM_SECURE_VERSION_CAP);
    hello_mac(s, h, h + MAC_AT);
}

// Key of one direction: a keyed hash over who speaks and both hellos, the dialer's first.
static void direction_key(const struct pm_secure *s, enum role speaker, uint8_t out[PM_KEY_LEN])
{
    const uint8_t *dialer = s->config.dialer ? s->own_hello : s->peer_hello;
    const uint8_t *acceptor = s->config.dialer ? s->peer_hello : s->own_hello;
    uint8_t key[PM_KEY_LEN];
    uint8_t who = (uint8_t)speaker;
    subkey(s->key, SUBKEY_SESSION, key);
    crypto_generichash_state h;
    crypto_generichash_init(&h, key, sizeof(key), PM_KEY_LEN);
    crypto_generichash_update(&h, &who, 1);
    crypto_generichash_update(&h, dialer, PM_SECURE_HELLO_LEN);
    crypto_generichash_update(&h, acceptor, PM_SECURE_HELLO_LEN);
    crypto_generichash_final(&h, out, PM_KEY_LEN);
    sodium_memzero(key, sizeof(key));
    sodium_memzero(&h, sizeof(h));
}

static enum role own_role(const struct pm_secure *s)
{
    return s->config.dialer ? ROLE_DIALER : ROLE_ACCEPTOR;
}

static enum role peer_role(const struct pm_secure *s)
{
    return s->config.dialer ? ROLE_ACCEPTOR : ROLE_DIALER;
}

// The stream header and, under the speaker's direction key, a MAC over it: it proves the key and,
// as the direction key comes from both hellos, that neither was replayed.
static void send_confirm(struct pm_secure *s, struct pm_writer *out)
{
    uint8_t key[PM_KEY_LEN], confirm[PM_SECURE_CONFIRM_LEN];
    direction_key(s, own_role(s), key);
    crypto_secretstream_xchacha20poly1305_init_push(&s->push, confirm, key);
    crypto_generichash(confirm + HEADER_LEN, MAC_LEN, confirm, HEADER_LEN, key, sizeof(key));
    pm_write_raw(out, confirm, sizeof(confirm));
    sodium_memzero(key, sizeof(key));
}

static enum pm_secure_result check_confirm(struct pm_secure *s, const uint8_t *confirm)
{
    uint8_t key[PM_KEY_LEN], mac[MAC_LEN];
    direction_key(s, peer_role(s), key);
    crypto_generichash(mac, MAC_LEN, confirm, HEADER_LEN, key, sizeof(key));
    bool good = !sodium_memcmp(mac, confirm + HEADER_LEN, MAC_LEN) &&
                !crypto_secretstream_xchacha20poly1305_init_pull(&s->pull, confirm, key);
    sodium_memzero(key, sizeof(key));
    return good ? PM_SECURE_OK : PM_SECURE_KEY;
}

static enum pm_secure_result check_hello(struct pm_secure *s, const uint8_t *h)
{
    uint8_t mac[MAC_LEN];
    hello_mac(s, h, mac);
    if (sodium_memcmp(mac, h + MAC_AT, MAC_LEN) || memcmp(h, MAGIC, 8) ||
        h[12] != peer_role(s) || h[VERSION_AT + PM_SECURE_VERSION_CAP - 1])
        return PM_SECURE_KEY;
    memcpy(s->peer_hello, h, PM_SECURE_HELLO_LEN);
    memcpy(s->peer_version, h + VERSION_AT, PM_SECURE_VERSION_CAP);
    s->peer = get_u32(h + 20);
    if (get_u32(h + 8) != PROTOCOL || strcmp(s->peer_version, s->version) != 0)
        return PM_SECURE_VERSION;
    if (get_u32(h + 16) != s->config.launch)
        return PM_SECURE_LAUNCH;
    bool meant = s->config.dialer ? s->peer == s->config.expected
                                  : get_u32(h + 24) == s->config.node;
    return meant ? PM_SECURE_OK : PM_SECURE_PEER;
}

void pm_secure_begin(struct pm_secure *s, struct pm_writer *out)
{
    if (!s->config.dialer)
        return;
    build_hello(s);
    pm_write_raw(out, s->own_hello, PM_SECURE_HELLO_LEN);
}

static enum pm_secure_result take_hello(struct pm_secure *s, const uint8_t *hello,
                                        struct pm_writer *out)
{
    enum pm_secure_result result = check_hello(s, hello);
    if (s->config.dialer || result == PM_SECURE_KEY)
        return result;
    build_hello(s);
    pm_write_raw(out, s->own_hello, PM_SECURE_HELLO_LEN);
    if (result == PM_SECURE_OK)
        send_confirm(s, out);
    return result;
}

static enum pm_secure_result take_confirm(struct pm_secure *s, const uint8_t *confirm,
                                          struct pm_writer *out)
{
    enum pm_secure_result result = check_confirm(s, confirm);
    if (result == PM_SECURE_OK && s->config.dialer)
        send_confirm(s, out);
    return result;
}

enum pm_secure_result pm_secure_handshake(struct pm_secure *s, const uint8_t *data, size_t len,
                                          size_t *ret_used, struct pm_writer *out)
{
    enum pm_secure_result result = PM_SECURE_OK;
    size_t used = 0;
    while (result == PM_SECURE_OK && s->phase < PHASE_FRAMES) {
        bool hello = s->phase == PHASE_HELLO;
        size_t want = hello ? PM_SECURE_HELLO_LEN : PM_SECURE_CONFIRM_LEN;
        if (len - used < want) {
            *ret_used = used;
            return PM_SECURE_MORE;
        }
        result = hello ? take_hello(s, data + used, out) : take_confirm(s, data + used, out);
        used += want;
        s->phase++;
    }
    if (s->phase == PHASE_DEAD)
        result = PM_SECURE_KEY;
    if (result != PM_SECURE_OK)
        s->phase = PHASE_DEAD;
    *ret_used = used;
    return result;
}

bool pm_secure_established(const struct pm_secure *s) { return s->phase == PHASE_FRAMES; }
uint32_t pm_secure_peer(const struct pm_secure *s) { return s->peer; }
const char *pm_secure_peer_version(const struct pm_secure *s) { return s->peer_version; }

// Encrypts in place: the ciphertext of byte i lies one byte behind the tag, where the byte is.
static void seal(struct pm_secure *s, const void *data, size_t len, uint8_t tag,
                 struct pm_writer *out)
{
    size_t at = out->len;
    uint8_t length[4];
    put_u32(length, (uint32_t)(len + TAG_LEN));
    pm_write_raw(out, length, sizeof(length));
    pm_write_u8(out, 0);  // room for the stream's tag byte
    pm_write_raw(out, data, len);
    pm_write_raw(out, (uint8_t[TAG_LEN - 1]){0}, TAG_LEN - 1);
    if (out->error)
        return;
    uint8_t *frame = out->data + at + sizeof(length);
    crypto_secretstream_xchacha20poly1305_push(&s->push, frame, NULL, frame + 1, len, length,
                                               sizeof(length), tag);
}

void pm_secure_seal(struct pm_secure *s, const void *data, size_t len, struct pm_writer *out)
{
    if (len > PM_FRAME_MAX)
        out->error = out->error ? out->error : -EMSGSIZE;
    else
        seal(s, data, len, TAG_CONTENT, out);
}

void pm_secure_seal_ticket(struct pm_secure *s, const struct pm_body *body, struct pm_writer *out)
{
    size_t len;
    pm_body_bytes(body, &len);
    if (len > PM_FRAME_MAX) {
        out->error = out->error ? out->error : -EMSGSIZE;
        return;
    }
    struct pm_writer ticket = {0};
    pm_write_body_ticket(&ticket, body);
    if (ticket.error)
        out->error = out->error ? out->error : ticket.error;
    else
        seal(s, ticket.data, ticket.len, TAG_TICKET, out);
    if (ticket.data)
        sodium_memzero(ticket.data, ticket.len);
    pm_writer_done(&ticket);
}

size_t pm_secure_frame_size(const uint8_t *data, size_t len)
{
    return len < 4 ? 0 : 4 + (size_t)get_u32(data);
}

size_t pm_secure_next_size(const struct pm_secure *s, const uint8_t *data, size_t len)
{
    return s->body_next ? s->ticket.len : pm_secure_frame_size(data, len);
}

static enum pm_secure_result corrupt(struct pm_secure *s)
{
    s->phase = PHASE_DEAD;
    return PM_SECURE_CORRUPT;
}

static enum pm_secure_result open_body(struct pm_secure *s, uint8_t *data, size_t len,
                                       struct pm_secure_frame *ret)
{
    if (len < s->ticket.len)
        return PM_SECURE_MORE;
    if (pm_body_open(&s->ticket, data))
        return corrupt(s);
    ret->data = data;
    ret->len = s->ticket.len;
    ret->used += s->ticket.len;
    s->body_next = false;
    sodium_memzero(&s->ticket, sizeof(s->ticket));
    return PM_SECURE_OK;
}

static enum pm_secure_result take_ticket(struct pm_secure *s, const struct pm_secure_frame *frame)
{
    struct pm_reader r = pm_reader_of(frame->data, frame->len);
    pm_read_body_ticket(&r, &s->ticket);
    s->body_next = true;
    return pm_reader_end(&r) || s->ticket.len > PM_FRAME_MAX ? corrupt(s) : PM_SECURE_OK;
}

static enum pm_secure_result open_message(struct pm_secure *s, uint8_t *data, size_t len,
                                          struct pm_secure_frame *ret)
{
    size_t size = pm_secure_frame_size(data, len);
    if (!size)
        return PM_SECURE_MORE;
    if (size < PM_SECURE_FRAME_OVERHEAD || size > (size_t)PM_FRAME_MAX + PM_SECURE_FRAME_OVERHEAD)
        return corrupt(s);
    if (len < size)
        return PM_SECURE_MORE;
    unsigned long long plain_len = 0;
    unsigned char tag;
    if (crypto_secretstream_xchacha20poly1305_pull(&s->pull, data + 5, &plain_len, &tag, data + 4,
                                                   size - 4, data, 4))
        return corrupt(s);
    *ret = (struct pm_secure_frame){.data = data + 5, .len = (size_t)plain_len, .used = size};
    if (tag == TAG_TICKET)
        return take_ticket(s, ret);
    return tag == TAG_CONTENT ? PM_SECURE_OK : corrupt(s);
}

enum pm_secure_result pm_secure_open(struct pm_secure *s, uint8_t *data, size_t len,
                                     struct pm_secure_frame *ret)
{
    *ret = (struct pm_secure_frame){0};
    if (s->phase != PHASE_FRAMES)
        return PM_SECURE_CORRUPT;
    if (!s->body_next) {
        enum pm_secure_result result = open_message(s, data, len, ret);
        if (result != PM_SECURE_OK || !s->body_next)
            return result;
    }
    return open_body(s, data + ret->used, len - ret->used, ret);
}

uint16_t pm_secure_derived_port(const uint8_t key[PM_KEY_LEN], uint32_t node, unsigned idx,
                                uint32_t min, uint32_t max)
{
    if (!min) {
        min = 20000;  // below the usual ephemeral range: a rank's own connections do not sit there
        max = 32767;
    }
    uint8_t port_key[PM_KEY_LEN], message[8], hash[8 * 4];
    subkey(key, SUBKEY_PORT, port_key);
    put_u32(message, node);
    put_u32(message + 4, 0);
    crypto_generichash(hash, sizeof(hash), message, sizeof(message), port_key, sizeof(port_key));
    sodium_memzero(port_key, sizeof(port_key));
    uint32_t span = max - min + 1;
    // Different start per node, then consecutive steps, so that the 8 ports differ if span allows.
    uint32_t start = get_u32(hash) % span;
    uint32_t stride = span > PM_DERIVED_PORTS ? 1 + get_u32(hash + 4) % (span / PM_DERIVED_PORTS) : 1;
    return (uint16_t)(min + (start + (uint64_t)idx * stride) % span);
}
