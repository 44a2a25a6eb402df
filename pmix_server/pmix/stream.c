// SPDX-License-Identifier: Apache-2.0
//
// See stream.h for the contract.
#include "pmix_server/pmix/stream.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 4, LINE_CAP = 1024, FLUSH_MS = 1000, IN_CAP = 4096 };

#define QUEUE_MAX (2 * (size_t)PM_SERVER_FRAME_MAX)

struct chunk {
    STAILQ_ENTRY(chunk) next;
    uint8_t *data;
    size_t len;
    size_t done;
};
STAILQ_HEAD(chunks, chunk);

static struct chunk last_words;  // FAILED: what is lacking may be memory

static struct {
    int fd;
    int wake_fd;
    pthread_mutex_t mutex;
    struct chunks out;       // guarded by mutex
    struct chunks injected;  // guarded by mutex
    size_t queued;           // bytes in both, guarded by mutex
    // What was received and not yet taken, and the frame that is being put together; main thread only.
    uint8_t in[IN_CAP];
    size_t in_at;
    size_t in_len;
    bool drained;  // the last read left room: poll() tells when there is more
    uint8_t header[HEADER];
    size_t header_len;
    uint8_t *body;
    size_t body_len;
    size_t body_done;
} stream = {.fd = -1, .wake_fd = -1, .mutex = PTHREAD_MUTEX_INITIALIZER};

// The agent has ended the connection or does not read: nobody can be told why. Ranks must not wait for a server
// that cannot answer; the agent sees the end of the process and acts.
static void __attribute__((noreturn)) end_process(void)
{
    _exit(1);
}

void pm_stream_open(int fd)
{
    STAILQ_INIT(&stream.out);
    STAILQ_INIT(&stream.injected);
    stream.fd = fd;
    stream.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stream.wake_fd < 0)
        pm_stream_fail("no eventfd: %s", strerror(errno));
}

void pm_stream_wake(void)
{
    uint64_t one = 1;
    // EAGAIN: the counter is full, so the main thread will wake up anyway.
    if (write(stream.wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        pm_stream_fail("cannot wake its main thread: %s", strerror(errno));
}

void pm_stream_begin(struct pm_writer *w, enum pm_server_msg type)
{
    pm_write_u32(w, 0);
    pm_write_u8(w, (uint8_t)type);
}

static void put_u32(uint8_t *at, size_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (8 * (3 - i)));
}

// Closes the frame in *w and makes a queue entry of it.
static struct chunk *chunk_of(struct pm_writer *w)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (!chunk || w->error == -ENOMEM)
        pm_stream_fail("out of memory");
    if (w->error || w->len - HEADER > PM_SERVER_FRAME_MAX)
        pm_stream_fail("what it has to say is larger than %u bytes", PM_SERVER_FRAME_MAX);
    size_t len = w->len - HEADER;
    put_u32(w->data, len);
    chunk->data = w->data;
    chunk->len = w->len;
    *w = (struct pm_writer){0};
    return chunk;
}

static void chunk_append(struct chunks *queue, struct chunk *chunk)
{
    STAILQ_INSERT_TAIL(queue, chunk, next);
    stream.queued += chunk->len;
    if (stream.queued > QUEUE_MAX)
        end_process();
}

// Writes what the socket takes. Called with the mutex held.
static void flush_out(void)
{
    struct chunk *chunk;
    while ((chunk = STAILQ_FIRST(&stream.out))) {
        ssize_t n = send(stream.fd, chunk->data + chunk->done, chunk->len - chunk->done,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
            return;
        if (n < 0)
            end_process();
        chunk->done += (size_t)n;
        if (chunk->done < chunk->len)
            continue;
        if (chunk == &last_words)
            end_process();
        STAILQ_REMOVE_HEAD(&stream.out, next);
        stream.queued -= chunk->len;
        free(chunk->data);
        free(chunk);
    }
}

void pm_stream_send(struct pm_writer *w)
{
    struct chunk *chunk = chunk_of(w);
    pthread_mutex_lock(&stream.mutex);
    chunk_append(&stream.out, chunk);
    flush_out();
    bool left = !STAILQ_EMPTY(&stream.out);
    pthread_mutex_unlock(&stream.mutex);
    if (left)
        pm_stream_wake();
}

void pm_stream_inject(struct pm_writer *w)
{
    struct chunk *chunk = chunk_of(w);
    pthread_mutex_lock(&stream.mutex);
    chunk_append(&stream.injected, chunk);
    pthread_mutex_unlock(&stream.mutex);
    pm_stream_wake();
}

static void frame_fill(struct pm_stream_frame *frame, uint8_t *memory, size_t at, size_t len)
{
    *frame = (struct pm_stream_frame){
        .type = memory[at], .memory = memory, .data = memory + at + 1, .len = len - 1};
}

static bool take_injected(struct pm_stream_frame *ret_frame)
{
    pthread_mutex_lock(&stream.mutex);
    struct chunk *chunk = STAILQ_FIRST(&stream.injected);
    if (chunk) {
        STAILQ_REMOVE_HEAD(&stream.injected, next);
        stream.queued -= chunk->len;
    }
    pthread_mutex_unlock(&stream.mutex);
    if (!chunk)
        return false;
    frame_fill(ret_frame, chunk->data, HEADER, chunk->len - HEADER);
    free(chunk);
    return true;
}

// One read; 0 if there are no bytes for now.
static size_t receive(uint8_t *buf, size_t len)
{
    if (stream.drained)
        return 0;
    ssize_t n = recv(stream.fd, buf, len, MSG_DONTWAIT);
    if (n == 0)
        _exit(0);  // end of the epoch: killed or let go, never finalized
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        pm_stream_fail("cannot read what the agent says: %s", strerror(errno));
    stream.drained = n < (ssize_t)len;
    return n > 0 ? (size_t)n : 0;
}

// Up to `want` bytes; 0 if there are none for now. Small reads go through stream.in, so that one call may
// bring a whole frame; what is larger is received where it belongs.
static size_t take(uint8_t *buf, size_t want)
{
    if (stream.in_at == stream.in_len && want >= IN_CAP)
        return receive(buf, want);
    if (stream.in_at == stream.in_len) {
        stream.in_at = 0;
        stream.in_len = receive(stream.in, IN_CAP);
    }
    size_t have = stream.in_len - stream.in_at, n = have < want ? have : want;
    memcpy(buf, stream.in + stream.in_at, n);
    stream.in_at += n;
    return n;
}

// Fills buf from *done on; true when it is full.
static bool fill(uint8_t *buf, size_t len, size_t *done)
{
    while (*done < len) {
        size_t n = take(buf + *done, len - *done);
        if (!n)
            return false;
        *done += n;
    }
    return true;
}

static void body_begin(void)
{
    size_t len = 0;
    for (int i = 0; i < HEADER; i++)
        len = len << 8 | stream.header[i];
    if (len < 1 || len > PM_SERVER_FRAME_MAX)
        pm_stream_fail("the agent sent a message of %zu bytes", len);
    stream.body = malloc(len);
    if (!stream.body)
        pm_stream_fail("out of memory");
    stream.body_len = len;
    stream.body_done = 0;
}

static bool take_received(struct pm_stream_frame *ret_frame)
{
    if (!fill(stream.header, HEADER, &stream.header_len))
        return false;
    if (!stream.body)
        body_begin();
    if (!fill(stream.body, stream.body_len, &stream.body_done))
        return false;
    frame_fill(ret_frame, stream.body, 0, stream.body_len);
    stream.body = NULL;
    stream.header_len = 0;
    return true;
}

static void wait_for_work(int timeout_ms)
{
    pthread_mutex_lock(&stream.mutex);
    flush_out();
    short out = STAILQ_EMPTY(&stream.out) ? 0 : POLLOUT;
    pthread_mutex_unlock(&stream.mutex);
    struct pollfd fds[] = {
        {.fd = stream.fd, .events = (short)(POLLIN | out)},
        {.fd = stream.wake_fd, .events = POLLIN},
    };
    if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR)
        pm_stream_fail("cannot wait for the agent: %s", strerror(errno));
    stream.drained = false;
    uint64_t count;
    if (fds[1].revents && read(stream.wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        pm_stream_fail("cannot read its eventfd: %s", strerror(errno));
}

int pm_stream_receive(int timeout_ms, struct pm_stream_frame *ret_frame)
{
    if (take_injected(ret_frame) || take_received(ret_frame))
        return 1;
    wait_for_work(timeout_ms);
    return take_injected(ret_frame) || take_received(ret_frame);
}

void pm_stream_frame_done(struct pm_stream_frame *frame)
{
    free(frame->memory);
    *frame = (struct pm_stream_frame){0};
}

void pm_stream_say(const char *format, ...)
{
    char line[LINE_CAP];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_SAY);
    pm_write_str(&w, line);
    pm_stream_send(&w);
}

void pm_stream_fail(const char *format, ...)
{
    static uint8_t frame[HEADER + 1 + 4 + LINE_CAP];
    pthread_mutex_lock(&stream.mutex);  // never given back: who else has last words waits for the end
    va_list args;
    va_start(args, format);
    vsnprintf((char *)frame + HEADER + 5, LINE_CAP, format, args);
    va_end(args);
    size_t len = strlen((char *)frame + HEADER + 5);
    put_u32(frame, 5 + len);
    frame[HEADER] = PM_SERVER_FAILED;
    put_u32(frame + HEADER + 1, len);
    last_words = (struct chunk){.data = frame, .len = HEADER + 5 + len};
    STAILQ_INSERT_TAIL(&stream.out, &last_words, next);
    struct pollfd fd = {.fd = stream.fd, .events = POLLOUT};
    do
        flush_out();
    while (poll(&fd, 1, FLUSH_MS) == 1);
    end_process();
}
