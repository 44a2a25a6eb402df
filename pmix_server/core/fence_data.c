// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a fence: one chunk per contributing node, so that a node that moved in the tree and
// was heard twice still counts once, and the result has one order, by node, everywhere.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/collective.h"

void pm_fence_drop_data(struct pm_fence *f)
{
    for (uint32_t i = 0; i < f->n_chunks; i++)
        free(f->chunks[i].data);
    free(f->chunks);
    f->chunks = NULL;
    f->n_chunks = f->cap_chunks = 0;
    f->bytes = 0;
    pm_fence_data_unsent(f);
}

void pm_fence_data_sent(struct pm_fence *f)
{
    f->n_chunks_sent = f->n_chunks;
    f->bytes_sent = f->bytes;
}

void pm_fence_data_unsent(struct pm_fence *f)
{
    f->n_chunks_sent = 0;
    f->bytes_sent = 0;
}

struct pm_fence *pm_fence_free(struct pm_fence *f)
{
    if (!f)
        return NULL;
    pm_fence_drop_data(f);
    pm_set_done(&f->have);
    pm_set_done(&f->sent);
    pm_set_done(&f->late);
    pm_set_done(&f->from);
    free(f->data);
    free(f);
    return NULL;
}

static bool append_chunk(struct pm_fence *f, uint32_t node, const void *data, uint32_t len)
{
    if (f->n_chunks == f->cap_chunks) {
        uint32_t cap = f->cap_chunks ? 2 * f->cap_chunks : 4;
        struct pm_chunk *chunks = realloc(f->chunks, cap * sizeof(*chunks));
        if (!chunks)
            return false;
        f->chunks = chunks;
        f->cap_chunks = cap;
    }
    uint8_t *copy = malloc(len);
    if (!copy)
        return false;
    memcpy(copy, data, len);
    f->chunks[f->n_chunks++] = (struct pm_chunk){.node = node, .len = len, .data = copy};
    f->bytes += len;
    return true;
}

static bool clone_content(struct pm_fence *copy, const struct pm_fence *f)
{
    if (pm_set_copy(&copy->have, &f->have) < 0 || pm_set_copy(&copy->sent, &f->sent) < 0 ||
        pm_set_copy(&copy->late, &f->late) < 0 || pm_set_copy(&copy->from, &f->from) < 0)
        return false;
    for (uint32_t i = 0; i < f->n_chunks; i++) {
        if (!append_chunk(copy, f->chunks[i].node, f->chunks[i].data, f->chunks[i].len))
            return false;
    }
    if (f->data) {
        copy->data = malloc(f->len ? f->len : 1);
        if (!copy->data)
            return false;
        memcpy(copy->data, f->data, f->len);
    }
    return true;
}

struct pm_fence *pm_fence_clone(const struct pm_fence *f)
{
    struct pm_fence *copy = malloc(sizeof(*copy));
    if (!copy)
        return NULL;
    *copy = *f;
    copy->next = NULL;
    copy->have = copy->sent = copy->late = copy->from = (struct pm_set){0};
    copy->chunks = NULL;
    copy->n_chunks = copy->cap_chunks = 0;
    copy->bytes = 0;
    copy->data = NULL;
    return clone_content(copy, f) ? copy : pm_fence_free(copy);
}

void pm_fence_contribute(struct pm_core *core, struct pm_fence *f, uint32_t node, const void *data,
                         size_t len)
{
    if (pm_set_has(&f->have, node))
        return;
    if (pm_set_add(&f->have, node) < 0) {
        pm_collective_nomem(core);
        return;
    }
    if (!(f->flags & PM_FENCE_COLLECT) || (f->flags & PM_FENCE_TOO_BIG) || len == 0)
        return;
    if (len > PM_FENCE_DATA_MAX || f->bytes + len > PM_FENCE_RESULT_MAX) {
        f->flags |= PM_FENCE_TOO_BIG;
        pm_fence_drop_data(f);
        return;
    }
    if (!append_chunk(f, node, data, (uint32_t)len))
        pm_collective_nomem(core);
}

static int compare_chunks(const void *a, const void *b)
{
    uint32_t left = ((const struct pm_chunk *)a)->node, right = ((const struct pm_chunk *)b)->node;
    return (left > right) - (left < right);
}

static void sort_chunks(struct pm_fence *f, uint32_t from)
{
    if (f->n_chunks > from)
        qsort(f->chunks + from, f->n_chunks - from, sizeof(*f->chunks), compare_chunks);
}

void pm_fence_write_chunks(struct pm_writer *w, struct pm_fence *f, const struct pm_set *nodes)
{
    uint32_t at = f->n_chunks_sent;
    sort_chunks(f, at);
    for (uint32_t node = pm_set_next(nodes, 0); node != UINT32_MAX;
         node = pm_set_next(nodes, node + 1)) {
        while (at < f->n_chunks && f->chunks[at].node < node)
            at++;
        bool is_here = at < f->n_chunks && f->chunks[at].node == node;
        pm_write_bytes(w, is_here ? f->chunks[at].data : NULL, is_here ? f->chunks[at].len : 0);
    }
}

void pm_fence_skip_chunks(struct pm_reader *r, const struct pm_set *nodes)
{
    uint64_t n = pm_set_count(nodes);
    if (n > r->left / 4) {
        r->error = -EBADMSG;
        return;
    }
    for (; n && !r->error; n--) {
        size_t len;
        pm_read_bytes(r, PM_FENCE_DATA_MAX, &len);
    }
}

bool pm_fence_join(struct pm_fence *f)
{
    sort_chunks(f, 0);
    f->data = malloc(f->bytes ? f->bytes : 1);
    if (!f->data)
        return false;
    for (uint32_t i = 0; i < f->n_chunks; i++) {
        memcpy(f->data + f->len, f->chunks[i].data, f->chunks[i].len);
        f->len += f->chunks[i].len;
    }
    assert(f->len == f->bytes);
    return true;
}
