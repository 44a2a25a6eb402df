// SPDX-License-Identifier: Apache-2.0
//
// What pmix_server/io/outq.h promises: what was appended and added leaves in that order, whole, however
// little the socket takes at a time, and bodies are let go of when they are gone.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pmix_server/io/outq.h"

enum { BODY = 300000 };

static void open_pair(int fd[static 2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    int small = 4096;
    cr_assert_eq(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
}

static struct pm_body *body_new(uint8_t fill)
{
    static uint8_t data[BODY];
    struct pm_body *body;
    memset(data, fill, sizeof(data));
    cr_assert_eq(pm_body_new(data, sizeof(data), &body), 0);
    return body;
}

static void append(struct pm_outq *q, struct pm_writer *want, const char *text)
{
    pm_write_raw(&q->bytes, text, strlen(text));
    pm_write_raw(want, text, strlen(text));
}

static void add(struct pm_outq *q, struct pm_writer *want, struct pm_body *body)
{
    size_t len;
    cr_assert_eq(pm_outq_add_body(q, body), 0);
    const uint8_t *bytes = pm_body_bytes(body, &len);
    pm_write_raw(want, bytes, len);
}

// Takes `step` bytes at most; false when nothing is there.
static bool take(int fd, struct pm_writer *got, size_t step)
{
    uint8_t buf[65536];
    ssize_t n = recv(fd, buf, step, MSG_DONTWAIT);
    cr_assert(n > 0 || (n < 0 && errno == EAGAIN));
    if (n > 0)
        pm_write_raw(got, buf, (size_t)n);
    return n > 0;
}

static void expect_all(struct pm_outq *q, const struct pm_writer *want, size_t step)
{
    int fd[2];
    struct pm_writer got = {0};
    open_pair(fd);
    int r = 1;
    while (r == 1) {
        size_t before = pm_outq_len(q);
        r = pm_outq_flush(q, fd[0]);
        cr_assert(r == 0 || r == 1);
        cr_assert(pm_outq_len(q) <= before);
        take(fd[1], &got, step);
    }
    while (take(fd[1], &got, step))
        continue;
    cr_assert_eq(pm_outq_len(q), 0);
    cr_assert_eq(got.len, want->len);
    cr_assert_arr_eq(got.data, want->data, want->len);
    pm_writer_done(&got);
    close(fd[0]);
    close(fd[1]);
}

Test(outq, bytes_and_bodies_leave_in_order_however_little_the_socket_takes, .timeout = 60)
{
    struct pm_body *a = body_new('a'), *b = body_new('b');
    for (size_t step = 777; step <= 65536; step = step * 9 + 1) {
        struct pm_outq q = {0};
        struct pm_writer want = {0};
        append(&q, &want, "one");
        add(&q, &want, a);
        add(&q, &want, b);
        append(&q, &want, "two");
        add(&q, &want, a);
        append(&q, &want, "three");
        cr_assert_eq(pm_outq_len(&q), want.len);
        expect_all(&q, &want, step);
        pm_writer_done(&want);
        pm_outq_done(&q);
    }
    pm_body_unref(a);
    pm_body_unref(b);
}

Test(outq, what_is_added_while_the_rest_waits_leaves_behind_it, .timeout = 60)
{
    int fd[2];
    struct pm_outq q = {0};
    struct pm_writer want = {0}, got = {0};
    struct pm_body *a = body_new('a'), *b = body_new('b');
    open_pair(fd);
    append(&q, &want, "one");
    add(&q, &want, a);
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(pm_outq_flush(&q, fd[0]), 1);
        append(&q, &want, "and more");
        if (i % 10 == 0)
            add(&q, &want, b);
        take(fd[1], &got, 2000);
    }
    while (pm_outq_flush(&q, fd[0]) == 1)
        take(fd[1], &got, 60000);
    while (take(fd[1], &got, 60000))
        continue;
    cr_assert_eq(got.len, want.len);
    cr_assert_arr_eq(got.data, want.data, want.len);
    pm_body_unref(a);
    pm_body_unref(b);
    pm_writer_done(&want);
    pm_writer_done(&got);
    pm_outq_done(&q);
    close(fd[0]);
    close(fd[1]);
}

Test(outq, a_queue_that_is_given_up_lets_go_of_its_bodies, .timeout = 10)
{
    struct pm_outq q = {0};
    struct pm_body *a = body_new('a');
    cr_assert_eq(pm_outq_add_body(&q, a), 0);
    cr_assert_eq(pm_outq_add_body(&q, a), 0);
    pm_body_unref(a);  // the queue's references are the last: under a sanitizer a leak would show
    pm_outq_done(&q);
    cr_assert_eq(pm_outq_len(&q), 0);
}
