// SPDX-License-Identifier: Apache-2.0
//
// What the tests of pm-shim share: the agent's side of its connection, in which nothing is right by itself. A test
// starts one shim after the other; each ends with ends_with_exit(). Assertions of Criterion fail the test that called.
// PM_SHIM is the path of the program. Needs root, because a shim trusts only a listener of root's.
#ifndef PM_TESTS_SHIM_STAND_H
#define PM_TESTS_SHIM_STAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/place.h"
#include "pmix_server/wire/shim_proto.h"

#define ANSWER_MS 10000

extern int listener, conn, errors;  // errors: the shim's stderr
extern int lease;                   // the timer that welcome() sends
extern pid_t shim;
extern uint32_t rank_pid;           // of the last expect_started() or expect_exited()
extern struct pm_place place;       // what send_start() says

// For .init: skips the test, or listens as root.
void need_root(void);
void listen_as(uid_t uid);
// `script` is the rank's, local is "--local=N".
void run_shim(const char *local, const char *script);
void accept_hello(void);
void welcome(void);
// A shim whose rank of epoch 0 runs, with a child.
void running(void);

void send_bytes(const void *data, size_t len);
void send_packet(struct pm_writer *w);
void send_with_fd(uint8_t type, int fd);
void send_epoch(enum pm_shim_msg type, uint32_t epoch);
void send_start(uint32_t epoch);
void send_end(bool override, int status);

// The next packet; PM_SHIM_NONE at the end of the connection.
uint8_t receive(struct pm_reader *ret);
void expect(enum pm_shim_msg type, struct pm_reader *ret);
void expect_started(uint32_t epoch);
// Returns the wait status; *ret_pid is 0 for a rank that never ran.
int expect_exited(uint32_t epoch, uint32_t *ret_pid);
int wait_shim(void);
const char *said(void);
void ends_with_exit(int code);
void rank_is_gone(void);

#endif
