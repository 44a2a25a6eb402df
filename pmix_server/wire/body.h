// SPDX-License-Identifier: Apache-2.0
//
// A large content for several peers, encrypted once.
//
// Sealing the result of a fence for each link by itself costs as much time as there are links. So a
// body has a key of its own, drawn for it and used for nothing else; whoever may read it gets the ticket
// (length, key, MAC) in an ordinary frame of its link (secure.h), and the bytes follow behind it. What
// protects the ticket protects the body: it cannot be changed, repeated or moved.
//
// One thread. Bodies are counted: who keeps one holds a reference.
#ifndef PM_WIRE_BODY_H
#define PM_WIRE_BODY_H

#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/buf.h"

#define PM_BODY_TICKET_LEN 52

struct pm_body;

struct pm_body_ticket {
    uint32_t len;
    uint8_t key[32];
    uint8_t mac[16];
};

// Encrypts a copy of `data`; one reference is the caller's. 0 or -ENOMEM.
int pm_body_new(const void *data, size_t len, struct pm_body **ret);
struct pm_body *pm_body_ref(struct pm_body *body);
// The last one wipes the key. Returns NULL; NULL is fine.
struct pm_body *pm_body_unref(struct pm_body *body);
// What goes over the stream.
const uint8_t *pm_body_bytes(const struct pm_body *body, size_t *ret_len);

void pm_write_body_ticket(struct pm_writer *w, const struct pm_body *body);
void pm_read_body_ticket(struct pm_reader *r, struct pm_body_ticket *ret);
// Decrypts ticket->len bytes in place. 0, or -EBADMSG: they are not those that were sealed.
int pm_body_open(const struct pm_body_ticket *ticket, uint8_t *data);

#endif
