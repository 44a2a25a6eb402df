// SPDX-License-Identifier: Apache-2.0
//
// Mutually authenticated, encrypted frames over a byte stream: sans-I/O, bytes in, bytes out.
//
// Both ends know the 256-bit key of this launch. The dialer speaks first; every message of the
// handshake has a fixed size and nothing in it is looked at before its MAC checks out:
//
//   dialer   -> HELLO    {magic, protocol, role, launch, own node, wanted node, nonce, build, MAC}
//   acceptor -> HELLO + CONFIRM  {stream header, MAC over both hellos and the header}
//   dialer   -> CONFIRM, then frames
//
// A stranger gets nothing back but a close. An authentic dialer of another build (PM_SECURE_VERSION),
// launch (PM_SECURE_LAUNCH) or one that wants another node (PM_SECURE_PEER) gets the acceptor's HELLO,
// so that both sides can name both versions, and then a close. The nonces make a recorded
// handshake worthless; the role byte a reflected one. The keys of both directions come from the
// launch key and both nonces. A frame is u32 length (authenticated too), then one
// crypto_secretstream message: a lost, repeated or changed frame ends the connection. Content that
// is large or for several peers travels as a body (body.h): the message then is its ticket, and the
// body's bytes follow.
//
// One thread; nothing here blocks. After any result but OK and MORE the object is dead: free it.
#ifndef PM_WIRE_SECURE_H
#define PM_WIRE_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pmix_server/wire/body.h"
#include "pmix_server/wire/buf.h"

#define PM_KEY_LEN 32
#define PM_SECURE_VERSION_CAP 32
#define PM_FRAME_MAX (256u << 20)

enum pm_secure_result {
    PM_SECURE_OK = 0,
    PM_SECURE_MORE = 1,      // needs more bytes
    PM_SECURE_VERSION = 2,   // authentic, but another build
    PM_SECURE_LAUNCH = 3,    // authentic, but another launch number
    PM_SECURE_KEY = 4,       // not authentic, or not our protocol
    PM_SECURE_CORRUPT = 5,   // a frame failed authentication or is too long
    PM_SECURE_PEER = 6,      // authentic, but not the node that the dialer wanted
};

#define PM_SECURE_HELLO_LEN 148
#define PM_SECURE_CONFIRM_LEN 56
#define PM_SECURE_FRAME_OVERHEAD 21  // bytes that a frame adds to its content

struct pm_secure;

struct pm_secure_frame {
    uint8_t *data;  // content, inside the caller's bytes
    size_t len;
    size_t used;
};

struct pm_secure_config {
    const uint8_t *key;  // PM_KEY_LEN, copied
    const char *version;
    uint32_t launch;
    uint32_t node;       // own id
    bool dialer;
    uint32_t expected;   // dialer: the node it wants to talk to
};

// 0, -ENOMEM, or -EINVAL (version too long, libsodium unusable).
int pm_secure_new(const struct pm_secure_config *config, struct pm_secure **ret);
struct pm_secure *pm_secure_free(struct pm_secure *s);  // wipes keys; NULL is fine, returns NULL

// Dialer, once, at the start: appends its HELLO to `out`. Does nothing for an acceptor.
void pm_secure_begin(struct pm_secure *s, struct pm_writer *out);
// Handshake: reads from `data`, says in *ret_used how much it took, and appends what must be sent
// to `out`, also with results that refuse. PM_SECURE_OK: frames may flow both ways.
enum pm_secure_result pm_secure_handshake(struct pm_secure *s, const uint8_t *data, size_t len,
                                          size_t *ret_used, struct pm_writer *out);
bool pm_secure_established(const struct pm_secure *s);
// Who is there; meaningful once its HELLO was authentic (established, or VERSION, LAUNCH, PEER).
uint32_t pm_secure_peer(const struct pm_secure *s);
const char *pm_secure_peer_version(const struct pm_secure *s);

// Appends `len` bytes as one frame to `out`. Errors stick to `out`; -EMSGSIZE above PM_FRAME_MAX.
void pm_secure_seal(struct pm_secure *s, const void *data, size_t len, struct pm_writer *out);
// Appends the ticket of `body` as one frame. Its bytes must be the next on the stream.
void pm_secure_seal_ticket(struct pm_secure *s, const struct pm_body *body, struct pm_writer *out);
// Whole size on the stream of the frame that starts at `data`, 0 if fewer than 4 bytes are there.
size_t pm_secure_frame_size(const uint8_t *data, size_t len);
// How many bytes the frame or body at `data` takes of which `len` are there; 0: not known yet.
size_t pm_secure_next_size(const struct pm_secure *s, const uint8_t *data, size_t len);
// Opens the frame at the start of `data` in place: ret->data points into `data`, ret->used is
// what it took from the stream. PM_SECURE_MORE: not all there yet; ret->used may have been taken
// all the same (a ticket whose body is still to come).
enum pm_secure_result pm_secure_open(struct pm_secure *s, uint8_t *data, size_t len,
                                     struct pm_secure_frame *ret);

// The idx-th (0..PM_DERIVED_PORTS-1) port that node `node` of this launch tries to listen on:
// inside [min, max], or the dynamic range if min is 0. Both ends compute it from the key.
#define PM_DERIVED_PORTS 8
uint16_t pm_secure_derived_port(const uint8_t key[PM_KEY_LEN], uint32_t node, unsigned idx,
                                uint32_t min, uint32_t max);

#endif
