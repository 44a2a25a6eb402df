// SPDX-License-Identifier: Apache-2.0
//
// What it costs a process to send and to get a frame, measured on the machine that runs this: system
// calls and wake-ups over loopback TCP and over a local socket pair, and the cipher.
#ifndef PM_TESTS_SIM_SCALE_COSTS_H
#define PM_TESTS_SIM_SCALE_COSTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct scale_costs {
    double send_ns;       // sendmsg of a small frame, CPU of the sender
    double recv_ns;       // recv of one, and the loop around it
    double wake_ns;       // from the end of sendmsg until a sleeping receiver runs
    double local_send_ns; // the same over a SEQPACKET socket pair
    double local_recv_ns;
    double local_wake_ns;
    double copy_byte_ns;  // per byte of a large frame, each side
    double seal_ns;       // per frame
    double seal_byte_ns;
    double open_ns;
    double open_byte_ns;
    double body_byte_ns;  // content that is sealed once for several links
    double connect_ns;    // socket, connect, accept: each side
    double handshake_ns;  // each side
};

// Takes about a second. The least of several rounds each: others use this machine too.
void scale_costs_measure(struct scale_costs *ret);
void scale_costs_print(const struct scale_costs *c, FILE *f);
// NAME=NUMBER,... as printed by pm-sim costs; -1: not understood.
int scale_costs_parse(struct scale_costs *c, const char *text);

// Two ends of one authenticated connection, for frames that are really sealed and opened.
struct scale_cipher;
struct scale_cipher *scale_cipher_new(void);
void scale_cipher_free(struct scale_cipher *c);
// Seals, opens and compares; aborts if it is not the same.
void scale_cipher_check(struct scale_cipher *c, const void *data, size_t len);

#endif
