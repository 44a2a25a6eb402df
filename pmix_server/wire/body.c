// SPDX-License-Identifier: Apache-2.0
//
// See body.h for the contract. The nonce is zero: no key is used twice.
#include "pmix_server/wire/body.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

struct pm_body {
    unsigned refs;
    struct pm_body_ticket ticket;
    uint8_t bytes[];
};

_Static_assert(sizeof(((struct pm_body_ticket *)0)->key) ==
                   crypto_aead_chacha20poly1305_ietf_KEYBYTES, "key");
_Static_assert(sizeof(((struct pm_body_ticket *)0)->mac) ==
                   crypto_aead_chacha20poly1305_ietf_ABYTES, "MAC");
_Static_assert(PM_BODY_TICKET_LEN == 4 + sizeof(((struct pm_body_ticket *)0)->key) +
                   sizeof(((struct pm_body_ticket *)0)->mac), "ticket");

int pm_body_new(const void *data, size_t len, struct pm_body **ret)
{
    struct pm_body *body = len <= UINT32_MAX ? malloc(sizeof(*body) + len) : NULL;
    if (!body)
        return -ENOMEM;
    *body = (struct pm_body){.refs = 1, .ticket = {.len = (uint32_t)len}};
    randombytes_buf(body->ticket.key, sizeof(body->ticket.key));
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(body->bytes, body->ticket.mac, NULL, data,
                                                       len, NULL, 0, NULL, nonce,
                                                       body->ticket.key);
    *ret = body;
    return 0;
}

struct pm_body *pm_body_ref(struct pm_body *body)
{
    body->refs++;
    return body;
}

struct pm_body *pm_body_unref(struct pm_body *body)
{
    if (body && --body->refs == 0) {
        sodium_memzero(&body->ticket, sizeof(body->ticket));
        free(body);
    }
    return NULL;
}

const uint8_t *pm_body_bytes(const struct pm_body *body, size_t *ret_len)
{
    *ret_len = body->ticket.len;
    return body->bytes;
}

void pm_write_body_ticket(struct pm_writer *w, const struct pm_body *body)
{
    pm_write_u32(w, body->ticket.len);
    pm_write_raw(w, body->ticket.key, sizeof(body->ticket.key));
    pm_write_raw(w, body->ticket.mac, sizeof(body->ticket.mac));
}

void pm_read_body_ticket(struct pm_reader *r, struct pm_body_ticket *ret)
{
    *ret = (struct pm_body_ticket){.len = pm_read_u32(r)};
    const uint8_t *key = pm_read_raw(r, sizeof(ret->key));
    const uint8_t *mac = pm_read_raw(r, sizeof(ret->mac));
    if (!key || !mac)
        return;
    memcpy(ret->key, key, sizeof(ret->key));
    memcpy(ret->mac, mac, sizeof(ret->mac));
}

int pm_body_open(const struct pm_body_ticket *ticket, uint8_t *data)
{
    int r = crypto_aead_chacha20poly1305_ietf_decrypt_detached(
        data, NULL, data, ticket->len, ticket->mac, NULL, 0, nonce, ticket->key);
    return r ? -EBADMSG : 0;
}
