// SPDX-License-Identifier: Apache-2.0
//
// See buf.h for the contract.
#include "pmix_server/wire/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void pm_writer_done(struct pm_writer *w)
{
    free(w->data);
    *w = (struct pm_writer){0};
}

void pm_writer_reset(struct pm_writer *w)
{
    w->len = 0;
    w->error = 0;
}

static uint8_t *writer_room(struct pm_writer *w, size_t len)
{
    if (w->error)
        return NULL;
    if (len > SIZE_MAX / 2 - w->len) {
        w->error = -EOVERFLOW;
        return NULL;
    }
    if (w->len + len > w->cap || !w->data) { // also for nothing: NULL + 0 is not defined
        size_t cap = w->cap ? w->cap : 64;
        while (cap < w->len + len)
            cap *= 2;
        uint8_t *data = realloc(w->data, cap);
        if (!data) {
            w->error = -ENOMEM;
            return NULL;
        }
        w->data = data;
        w->cap = cap;
    }
    uint8_t *at = w->data + w->len;
    w->len += len;
    return at;
}

static void write_be(struct pm_writer *w, uint64_t v, size_t width)
{
    uint8_t *at = writer_room(w, width);
    for (size_t i = 0; at && i < width; i++)
        at[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
}

void pm_writer_drop(struct pm_writer *w, size_t *at, size_t keep)
{
    if (*at && *at < w->len)
        memmove(w->data, w->data + *at, w->len - *at);
    w->len -= *at;
    *at = 0;
    if (!w->len && w->cap > keep)
        pm_writer_done(w);
}

void pm_write_u8(struct pm_writer *w, uint8_t v) { write_be(w, v, 1); }
void pm_write_u16(struct pm_writer *w, uint16_t v) { write_be(w, v, 2); }
void pm_write_u32(struct pm_writer *w, uint32_t v) { write_be(w, v, 4); }
void pm_write_u64(struct pm_writer *w, uint64_t v) { write_be(w, v, 8); }
void pm_write_i32(struct pm_writer *w, int32_t v) { write_be(w, (uint32_t)v, 4); }

void pm_write_var(struct pm_writer *w, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        pm_write_u8(w, (uint8_t)(v | 0x80));
    pm_write_u8(w, (uint8_t)v);
}

void pm_write_raw(struct pm_writer *w, const void *data, size_t len)
{
    uint8_t *at = writer_room(w, len);
    if (at && len)
        memcpy(at, data, len);
}

void pm_write_bytes(struct pm_writer *w, const void *data, size_t len)
{
    if (len > UINT32_MAX) {
        w->error = -EOVERFLOW;
        return;
    }
    pm_write_u32(w, (uint32_t)len);
    pm_write_raw(w, data, len);
}

void pm_write_str(struct pm_writer *w, const char *s)
{
    pm_write_bytes(w, s, s ? strlen(s) : 0);
}

struct pm_reader pm_reader_of(const void *data, size_t len)
{
    return (struct pm_reader){.at = data, .left = len};
}

// The first error stays.
static void refuse(struct pm_reader *r)
{
    if (!r->error)
        r->error = -EBADMSG;
}

const uint8_t *pm_read_raw(struct pm_reader *r, size_t len)
{
    if (r->error || len > r->left) {
        refuse(r);
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += len;
    r->left -= len;
    return at;
}

static uint64_t read_be(struct pm_reader *r, size_t width)
{
    const uint8_t *at = pm_read_raw(r, width);
    uint64_t v = 0;
    for (size_t i = 0; at && i < width; i++)
        v = v << 8 | at[i];
    return v;
}

uint8_t pm_read_u8(struct pm_reader *r) { return (uint8_t)read_be(r, 1); }
uint16_t pm_read_u16(struct pm_reader *r) { return (uint16_t)read_be(r, 2); }
uint32_t pm_read_u32(struct pm_reader *r) { return (uint32_t)read_be(r, 4); }
uint64_t pm_read_u64(struct pm_reader *r) { return read_be(r, 8); }
int32_t pm_read_i32(struct pm_reader *r) { return (int32_t)(uint32_t)read_be(r, 4); }

uint64_t pm_read_var(struct pm_reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = pm_read_u8(r);
        if (r->error)
            return 0;
        bool is_overlong = shift > 0 && byte == 0;  // each number has one form
        if (is_overlong || (shift == 63 && byte > 1))
            break;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return v;
    }
    refuse(r);
    return 0;
}

uint32_t pm_read_count(struct pm_reader *r, uint32_t max, size_t min_item)
{
    uint64_t n = pm_read_var(r);
    if (r->error || n > max || (min_item && n > r->left / min_item)) {
        refuse(r);
        return 0;
    }
    return (uint32_t)n;
}

const uint8_t *pm_read_bytes(struct pm_reader *r, size_t max, size_t *ret_len)
{
    size_t len = pm_read_u32(r);
    if (len > max)
        refuse(r);
    const uint8_t *at = pm_read_raw(r, len);
    *ret_len = at ? len : 0;
    return at;
}

void pm_read_str(struct pm_reader *r, char *buf, size_t cap)
{
    size_t len;
    const uint8_t *at = pm_read_bytes(r, cap - 1, &len);
    if (at && len && memchr(at, 0, len)) {
        refuse(r);
        len = 0;
    }
    if (at && len)
        memcpy(buf, at, len);
    buf[len] = '\0';
}

char *pm_read_strdup(struct pm_reader *r, size_t max)
{
    size_t len;
    const uint8_t *at = pm_read_bytes(r, max, &len);
    if (!at || (len && memchr(at, 0, len))) {
        refuse(r);
        return NULL;
    }
    char *s = malloc(len + 1);
    if (!s) {
        pm_reader_no_memory(r);
        return NULL;
    }
    if (len)
        memcpy(s, at, len);
    s[len] = '\0';
    return s;
}

void pm_reader_no_memory(struct pm_reader *r)
{
    r->error = -ENOMEM;
    r->no_memory = true;
}

int pm_reader_end(const struct pm_reader *r)
{
    if (r->error)
        return r->no_memory ? -ENOMEM : r->error;
    return r->left ? -EBADMSG : 0;
}
