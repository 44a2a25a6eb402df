// SPDX-License-Identifier: Apache-2.0
//
// What a pm-pmix-server says to its agent. It hosts libpmix, which every rank of the node can
// make say things. An input is one byte, in which state it is, then its stream as it comes, cut where the
// input says (u16 length, bytes). The parsers are static, so their file is included as it is; the agent's
// other files are stood in for.
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>

#include "pmix_server/agent_server_io.c"

enum { N_LOCAL = 2 };

static uint32_t ranks[N_LOCAL] = {6, 7};
static struct shim shims[N_LOCAL];
static struct agent agent;
static struct event_base *base;

// --- the agent's other files -----------------------------------------------------------------------

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    FUZZ_CHECK(event->type > PM_EVENT_NONE && event->type < PM_EVENT_MAX);
    FUZZ_CHECK(event->data || !event->len);
    FUZZ_CHECK(event->type != PM_EVENT_FENCE || event->set);
}

void pm_agent_say(struct agent *a, const char *format, ...)
{
    char text[PM_TEXT_CAP];
    va_list args;
    va_start(args, format);
    FUZZ_CHECK(vsnprintf(text, sizeof(text), format, args) >= 0);
    va_end(args);
}

void pm_server_lose(struct server *s, const char *why)
{
    FUZZ_CHECK(strlen(why) < PM_TEXT_CAP);
    s->state = SERVER_DEAD;
}

uint32_t pm_core_rank_of(const struct pm_core *core, uint32_t local)
{
    return ranks[local];
}

uint32_t pm_agent_n_ranks(const struct agent *a)
{
    return N_LOCAL;
}

void pm_server_send_nspace(struct server *s) {}  // is not what is tried here
void pm_agent_start_held(struct agent *a, uint32_t epoch) {}
void pm_agent_prepare_starts(struct agent *a, const struct server *standby, uint32_t epoch) {}
void pm_server_ranks_connected(struct agent *a) {}
void pm_server_rank_born(struct agent *a, const struct shim *shim) {}

// --- an input ----------------------------------------------------------------------------------------

static struct server *server_new(uint8_t kind)
{
    static struct env_list envs[N_LOCAL];
    static bool connected[N_LOCAL];
    static struct server s;
    if (!base)
        base = event_base_new();
    agent = (struct agent){.base = base, .shims = shims};
    agent.config.n_local = N_LOCAL;
    agent.config.local_ranks = ranks;
    memset(envs, 0, sizeof(envs));
    memset(connected, 0, sizeof(connected));
    s = (struct server){.agent = &agent, .fd = -1, .epoch = 1, .envs = envs, .connected = connected};
    s.state = SERVER_STARTING + kind % 4;
    s.has_epoch = kind & 4;
    s.notice = s.ping = 1;
    s.start_timer = evtimer_new(base, on_writable, &s);
    FUZZ_CHECK(s.start_timer);
    return &s;
}

static void server_done(struct server *s)
{
    for (uint32_t i = 0; i < N_LOCAL; i++) {
        FUZZ_CHECK(s->state == SERVER_DEAD || s->envs[i].n <= PM_SHIM_ENV_MAX);
        for (uint32_t k = 0; k < s->envs[i].n; k++) {
            FUZZ_CHECK(s->state == SERVER_DEAD || s->envs[i].entries[k]);
            free(s->envs[i].entries[k]);
        }
        free(s->envs[i].entries);
    }
    event_free(s->start_timer);
    pm_writer_done(&s->in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pm_reader r = pm_reader_of(data, size);
    struct server *s = server_new(pm_read_u8(&r));
    while (r.left > 2 && s->state != SERVER_DEAD) {
        size_t len = pm_read_u16(&r);
        len = len < r.left ? len : r.left;
        pm_write_raw(&s->in, pm_read_raw(&r, len), len);
        take_messages(s);
        if (s->state != SERVER_DEAD)
            pm_writer_drop(&s->in, &s->in_at, 0);
        FUZZ_CHECK(s->in_at <= s->in.len);
    }
    server_done(s);
    return 0;
}
