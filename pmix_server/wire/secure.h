// SPDX-License-Identifier: Apache-2.0
//
// Mutually authenticated, encrypted frames over a byte stream: sans-I/O, bytes in, bytes out.
//
// Both ends know the 256-bit key of this launch. Handshake: each side sends one message of exactly
// PM_SECURE_HELLO_LEN bytes {magic, protocol, launch, own node, peer node it wants, random nonce,
// build version, keyed MAC over the message}; then one confirmation MAC over both hellos (so that neither can be
// replayed). Nothing else is parsed before both check out, by constant-time compare. Session keys of both directions come from
// the launch key and both nonces; frames are then crypto_secretstream chunks with a u32 length in front.
// Another build is reported with both versions named (PM_SECURE_VERSION), another launch (PM_SECURE_LAUNCH)
// or key (PM_SECURE_KEY) is refused; a stranger gets nothing back but a close.
#ifndef PM_WIRE_SECURE_H
#define PM_WIRE_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
};

struct pm_secure;

struct pm_secure_config {
    const uint8_t *key;  // PM_KEY_LEN, copied
    const char *version;
    uint32_t launch;
    uint32_t node;       // own id
    bool dialer;
    uint32_t expected;   // dialer: the node it wants to talk to
};

int pm_secure_new(const struct pm_secure_config *config, struct pm_secure **ret);
struct pm_secure *pm_secure_free(struct pm_secure *s);  // wipes keys

#endif
