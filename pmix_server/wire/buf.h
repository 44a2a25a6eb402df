// SPDX-License-Identifier: Apache-2.0
//
// The one writer and the one reader of every message in this project.
//
// All integers are big-endian and of fixed width. Both types carry a sticky error: after the
// first failure every further call does nothing (reads give zeros), so a caller checks once, at
// the end. A reader never reads past its bytes and never casts them to a struct. A message is
// whole only if pm_reader_end() says so: trailing bytes are an error.
#ifndef PM_WIRE_BUF_H
#define PM_WIRE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Growing output buffer. Zero-initialise it; pm_writer_done() frees it.
struct pm_writer {
    uint8_t *data;
    size_t len;
    size_t cap;
    int error;  // 0 or negative errno, sticky
};

// Cursor over borrowed bytes.
struct pm_reader {
    const uint8_t *at;
    size_t left;
    int error;  // 0, -EBADMSG or -ENOMEM, sticky
    bool no_memory;  // this process is to blame for the error, not the message
};

void pm_writer_done(struct pm_writer *w);
// Forgets the content, keeps the memory and clears the error.
void pm_writer_reset(struct pm_writer *w);
// Forgets the first *at bytes and makes *at 0. If nothing is left, memory above `keep` bytes is freed.
void pm_writer_drop(struct pm_writer *w, size_t *at, size_t keep);
void pm_write_u8(struct pm_writer *w, uint8_t v);
void pm_write_u16(struct pm_writer *w, uint16_t v);
void pm_write_u32(struct pm_writer *w, uint32_t v);
void pm_write_u64(struct pm_writer *w, uint64_t v);
void pm_write_i32(struct pm_writer *w, int32_t v);
// LEB128, shortest form only: 1 byte below 128. For counts and deltas of long lists.
void pm_write_var(struct pm_writer *w, uint64_t v);
// Raw bytes, no length.
void pm_write_raw(struct pm_writer *w, const void *data, size_t len);
// u32 length, then the bytes.
void pm_write_bytes(struct pm_writer *w, const void *data, size_t len);
// A string as bytes without its NUL; NULL is written as "".
void pm_write_str(struct pm_writer *w, const char *s);

struct pm_reader pm_reader_of(const void *data, size_t len);
uint8_t pm_read_u8(struct pm_reader *r);
uint16_t pm_read_u16(struct pm_reader *r);
uint32_t pm_read_u32(struct pm_reader *r);
uint64_t pm_read_u64(struct pm_reader *r);
int32_t pm_read_i32(struct pm_reader *r);
uint64_t pm_read_var(struct pm_reader *r);
// Count of items that each take at least `min_item` bytes; more than `max`, or more than the
// bytes left can hold, is an error and gives 0. Use it before every allocation and loop.
uint32_t pm_read_count(struct pm_reader *r, uint32_t max, size_t min_item);
// Borrowed view of `len` raw bytes, NULL on error.
const uint8_t *pm_read_raw(struct pm_reader *r, size_t len);
// Borrowed view of length-prefixed bytes of at most `max`; NULL and *ret_len 0 on error.
const uint8_t *pm_read_bytes(struct pm_reader *r, size_t max, size_t *ret_len);
// Copies a string of at most cap - 1 bytes without NULs inside into `buf`, NUL-terminated.
void pm_read_str(struct pm_reader *r, char *buf, size_t cap);
// malloc'd string of at most `max` bytes, NULL on error; the caller frees it.
char *pm_read_strdup(struct pm_reader *r, size_t max);
// For readers that allocate: what they read did not find a place.
void pm_reader_no_memory(struct pm_reader *r);
// 0 if everything was read and nothing failed, else -EBADMSG, or -ENOMEM if that was the reason.
int pm_reader_end(const struct pm_reader *r);

#endif
