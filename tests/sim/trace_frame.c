// SPDX-License-Identifier: Apache-2.0
//
// See trace_frame.h.
#include "tests/sim/trace_frame.h"

#include <stdarg.h>
#include <string.h>

#include "pmix_server/core/record.h"

// collective.h and membership.h cannot be included beside record.h.
enum {
    ATTACH = 0x10, ATTACHED, REDIRECT, UP = 0x16, DOWN, FENCE_UP = 0x30, FENCE_DOWN, MODEX_ASK,
    FENCE_BEGIN = 0x34, FENCE_PIECE
};

struct line {
    char *buf;
    size_t cap, len;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *line, const char *format, ...)
{
    va_list args;
    if (line->len + 1 >= line->cap)
        return;
    va_start(args, format);
    int n = vsnprintf(line->buf + line->len, line->cap - line->len, format, args);
    va_end(args);
    size_t room = line->cap - line->len - 1;
    if (n > 0)
        line->len += (size_t)n < room ? (size_t)n : room;
}

static void put_set(struct line *line, const char *name, const struct pm_set *set)
{
    char text[128];
    if (!pm_set_empty(set))
        put(line, " %s %s", name, pm_set_format(set, text, sizeof(text)));
}

static void put_failure(struct line *line, const struct pm_failure *f)
{
    if (f->rank != PM_RANK_NONE)
        put(line, " failed rank %u", f->rank);
    else
        put(line, " failed node %u", f->node);
    put(line, " epoch %u", f->epoch);
    if (f->cause == PM_CAUSE_SIGNAL)
        put(line, " signal %d", f->wait_status & 0x7f);
    else if (f->cause == PM_CAUSE_EXIT)
        put(line, " exit %d", f->wait_status >> 8 & 0xff);
    else
        put(line, " %s", pm_cause_name(f->cause));
}

static void report(const struct sim *s, struct pm_reader *r, struct line *line)
{
    static const char *const marks[] = {"started", "connected", "ended", "halted"};
    struct pm_report p;
    pm_read_report(r, &p, s->p.nnodes, s->ntasks);
    put(line, "report epoch %u", p.epoch);
    put_set(line, "joined", &p.joined);
    for (int i = 0; i < PM_MARK_MAX; i++)
        put_set(line, marks[i], &p.marks[i]);
    put_set(line, "left", &p.left);
    put_set(line, "restart", &p.again);
    if (p.user_signal)
        put(line, " stopped by signal %d", p.user_signal);
    if (p.cannot_node != UINT32_MAX)
        put(line, " node %u cannot start", p.cannot_node);
    for (uint32_t i = 0; i < p.failures.n; i++)
        put_failure(line, &p.failures.list[i]);
    pm_report_done(&p);
}

static void wanted(const struct sim *s, struct pm_reader *r, struct line *line)
{
    struct pm_wanted w;
    pm_read_wanted(r, &w, s->p.nnodes, s->ntasks);
    put(line, "wanted %s epoch %u", pm_phase_name(w.phase), w.epoch);
    put_set(line, "dead", &w.dead);
    put_set(line, "left", &w.left);
    put_set(line, "lost", &w.lost);
    for (uint32_t i = 0; i < w.n_again; i++)
        put(line, " again %u x %u", w.again[i].rank, w.again[i].times);
    pm_wanted_done(&w);
}

static void attach(struct pm_reader *r, struct line *line)
{
    uint32_t number = pm_read_u32(r), avoid = pm_read_u32(r);
    put(line, "attach %u", number);
    if (avoid < UINT32_MAX - 1)
        put(line, " avoid %u", avoid);
}

static void view(struct pm_reader *r, const char *name, struct line *line)
{
    struct pm_set dead = {0};
    put(line, "%s view %llu", name, (unsigned long long)pm_read_u64(r));
    pm_read_set(r, &dead, 1u << 20);
    put_set(line, "dead", &dead);
    pm_set_done(&dead);
}

static void redirect(struct pm_reader *r, struct line *line)
{
    uint32_t node = pm_read_u32(r);
    if (node == UINT32_MAX - 1)
        put(line, "redirect: come again");
    else
        put(line, "redirect to %d", (int)node);
}

// An UP as send_up() of core/relay.c writes it: edges, addresses, what a parent reports about its
// children. Edges and addresses are left out here: the links that made them are shown.
enum { EDGE_BYTES = 13, ADDRESS_MIN = 8, REPORT_BYTES = 33, REPORT_FROM = 8, REPORT_TIMES = 16 };

static void up(struct pm_reader *r, struct line *line)
{
    static const char *const kinds[] = {"fine", "quiet", "silent"};
    struct pm_set plain = {0};
    char text[1024];
    put(line, "up");
    pm_read_set(r, &plain, 1u << 20);
    pm_set_done(&plain);
    (void)pm_read_raw(r, EDGE_BYTES * (size_t)pm_read_count(r, 1u << 20, EDGE_BYTES));
    for (uint32_t n = pm_read_count(r, 1u << 20, ADDRESS_MIN); n > 0 && !r->error; n--) {
        (void)pm_read_u32(r);
        pm_read_str(r, text, sizeof(text));
    }
    for (uint32_t n = pm_read_count(r, 1u << 20, REPORT_BYTES); n > 0 && !r->error; n--) {
        uint32_t node = pm_read_u32(r);
        (void)pm_read_u32(r);
        (void)pm_read_raw(r, REPORT_FROM);
        uint8_t kind = pm_read_u8(r);
        (void)pm_read_raw(r, REPORT_TIMES);
        put(line, " node %u %s", node, kind < 3 ? kinds[kind] : "?");
    }
}

static void key(struct pm_reader *r, const char *name, struct line *line)
{
    uint32_t epoch = pm_read_u32(r);
    (void)pm_read_u64(r);
    put(line, "%s epoch %u number %llu", name, epoch, (unsigned long long)pm_read_u64(r));
}

static void piece(struct pm_reader *r, struct line *line)
{
    key(r, "fence piece", line);
    (void)pm_read_u8(r); // pieces have no ranks
    put(line, " at %u", pm_read_u32(r));
}

static void modex(struct pm_reader *r, struct line *line)
{
    uint32_t epoch = pm_read_u32(r), node = pm_read_u32(r), from = pm_read_u32(r);
    put(line, "modex ask epoch %u rank %u of node %u for node %u", epoch, pm_read_u32(r), node, from);
}

static const struct {
    uint8_t type;
    const char *name;
} plain[] = {
    {0x14, "ping"},   {0x15, "grant"}, {0x18, "confirm"}, {0x19, "probe"},
    {0x1a, "probed"}, {0x1b, "call"},  {0x13, "refused"}, {0x23, "map"},
    {0x33, "modex answer"},
};

void sim_trace_frame(const struct sim *s, const uint8_t *data, size_t len, char *buf, size_t cap)
{
    struct line line = {.buf = buf, .cap = cap};
    struct pm_reader r = pm_reader_of(data, len);
    uint8_t type = pm_read_u8(&r);
    buf[0] = '\0';
    switch (type) {
    case PM_FRAME_REPORT:
        report(s, &r, &line);
        return;
    case PM_FRAME_WANTED:
        wanted(s, &r, &line);
        return;
    case PM_FRAME_SAY:
        put(&line, "say");
        return;
    case FENCE_UP:
        key(&r, "fence up", &line);
        return;
    case FENCE_DOWN:
        key(&r, "fence down", &line);
        return;
    case FENCE_BEGIN:
        key(&r, "fence begin", &line);
        return;
    case FENCE_PIECE:
        piece(&r, &line);
        return;
    case MODEX_ASK:
        modex(&r, &line);
        return;
    case ATTACH:
        attach(&r, &line);
        return;
    case ATTACHED:
        put(&line, "attached %u ", pm_read_u32(&r));
        view(&r, "", &line);
        return;
    case REDIRECT:
        redirect(&r, &line);
        return;
    case UP:
        up(&r, &line);
        return;
    case DOWN:
        view(&r, "down", &line);
        return;
    default:
        for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
            if (plain[i].type == type)
                put(&line, "%s", plain[i].name);
    }
}
