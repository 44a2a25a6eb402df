// SPDX-License-Identifier: Apache-2.0
//
// See bound.h.
#include "pmix_server/core/bound.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/core/record.h"

void pm_bound_done(struct pm_bound_texts *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        pm_set_done(&t->list[i].nodes);
        free(t->list[i].text);
    }
    free(t->list);
    *t = (struct pm_bound_texts){0};
}

static int append(struct pm_bound_texts *t, const struct pm_set *nodes, const char *text)
{
    if (!t->list)
        t->list = calloc(PM_BOUND_MAX, sizeof(*t->list));
    struct pm_bound_text fresh = {.text = t->list ? strndup(text, PM_BOUND_CAP) : NULL};
    if (!fresh.text || pm_set_copy(&fresh.nodes, nodes) < 0) {
        free(fresh.text);
        return -ENOMEM;
    }
    t->list[t->n++] = fresh;
    return 0;
}

int pm_bound_add(struct pm_bound_texts *t, const struct pm_set *nodes, const char *text, uint64_t now_ns)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->list[i].text, text) == 0)
            return pm_set_union(&t->list[i].nodes, nodes);
    if (t->n == 0)
        t->due_ns = now_ns + PM_BOUND_WAIT_NS;
    return t->n < PM_BOUND_MAX ? append(t, nodes, text) : 0;
}

int pm_bound_copy(struct pm_bound_texts *into, const struct pm_bound_texts *from)
{
    int rc = 0;
    for (uint32_t i = 0; i < from->n && rc == 0; i++)
        rc = append(into, &from->list[i].nodes, from->list[i].text);
    into->due_ns = from->due_ns;
    return rc;
}

static bool send_one(struct pm_core *core, const struct pm_bound_text *text)
{
    struct pm_writer w = {0};
    pm_write_u8(&w, PM_FRAME_BOUND);
    pm_write_set(&w, &text->nodes);
    pm_write_str(&w, text->text);
    if (w.error)
        core->out->error = w.error;
    bool sent = !w.error && pm_send_parent(core, &w);
    pm_writer_done(&w);
    return sent;
}

bool pm_bound_flush(struct pm_core *core, struct pm_bound_texts *t)
{
    if (t->n == 0 || core->now_ns < t->due_ns)
        return true;
    for (uint32_t i = 0; i < t->n; i++)
        if (!send_one(core, &t->list[i]))
            return false;
    pm_bound_done(t);
    return true;
}

void pm_bound_read(struct pm_reader *r, uint32_t nnodes, struct pm_set *ret_nodes, char **ret_text)
{
    *ret_nodes = (struct pm_set){0};
    pm_read_set_below(r, ret_nodes, nnodes);
    *ret_text = pm_read_strdup(r, PM_BOUND_CAP);
    if (pm_reader_end(r) == 0)
        return;
    r->error = r->error ? r->error : -EBADMSG;
    pm_set_done(ret_nodes);
    free(*ret_text);
    *ret_text = NULL;
}
