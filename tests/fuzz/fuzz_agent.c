// SPDX-License-Identifier: Apache-2.0
//
// What shims, and whoever else connects to the step's socket as the user, say to an agent: the first
// packet of a stranger, then packets of a shim. An input is packets (u8 from whom, u16 length, bytes). The
// parsers are static, so their file is included as it is; the agent's other files are stood in for.
#include "tests/fuzz/fuzz.h"

#include "pmix_server/agent_bind_facts.c"
#include "pmix_server/agent_shims.c"

enum { N_LOCAL = 2 };

static struct agent agent;
static uint32_t ranks[N_LOCAL] = {6, 7};

// --- the agent's other files -----------------------------------------------------------------------

void pm_loop_post(struct pm_loop *loop, const struct pm_event *event)
{
    FUZZ_CHECK(event->type > PM_EVENT_NONE && event->type < PM_EVENT_MAX);
    FUZZ_CHECK(event->local < N_LOCAL);
}

void pm_agent_say(struct agent *a, const char *format, ...)
{
    char text[PM_TEXT_CAP];
    va_list args;
    va_start(args, format);
    FUZZ_CHECK(vsnprintf(text, sizeof(text), format, args) >= 0);
    va_end(args);
}

void pm_oom_open(uint32_t pid, char *path, uint64_t *ret_count)
{
    *ret_count = 0;
}

uint64_t pm_oom_read(const char *path)
{
    FUZZ_CHECK(memchr(path, 0, PM_AGENT_PATH_CAP));
    return 0;
}

uint32_t pm_size_gpus(const struct agent *a)
{
    (void)a;
    return 0;
}

uint64_t pm_tree_start_time(uint32_t pid)
{
    return pid;
}

void pm_agent_leave(struct agent *a, uint64_t ms) {}
void pm_agent_leave_if_dead(struct agent *a) {}
void pm_tree_kill(const struct shim *s) {}
void pm_folder_done(struct agent *a) {}
void pm_agent_log(struct agent *a, const struct pm_log *record)
{
    FUZZ_CHECK(strlen(record->reason) < PM_TEXT_CAP);
}
void pm_servers_drain(struct agent *a) {}
void pm_server_rank_started(struct agent *a) {}
void pm_server_rank_born(struct agent *a, const struct shim *shim) {}
void pm_server_rank_ended(struct agent *a, uint32_t epoch, uint32_t rank) {}

// --- an input ----------------------------------------------------------------------------------------

static void begin(void)
{
    static struct shim shims[N_LOCAL];
    static struct pm_bound_rank bound[N_LOCAL];
    static struct pm_agent_bind bind;
    bind = (struct pm_agent_bind){.ranks = bound};
    struct event_base *base = agent.base ? agent.base : event_base_new();
    agent = (struct agent){.base = base, .shims = shims, .lease_fd = STDERR_FILENO};
    agent.bind = &bind;
    agent.config.n_local = N_LOCAL;
    agent.config.local_ranks = ranks;
    LIST_INIT(&agent.callers);
    for (uint32_t i = 0; i < N_LOCAL; i++) {
        shims[i] = (struct shim){.agent = &agent, .local = i, .fd = -1};
        STAILQ_INIT(&shims[i].queue);
    }
}

static void stranger_says(size_t len)
{
    int fds[2];
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    struct caller c = {.agent = &agent, .fd = fds[0], .pid = 1};
    caller_hello(&c, len);
    if (c.fd >= 0)
        close(c.fd);
    close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pm_reader r = pm_reader_of(data, size);
    begin();
    while (r.left > 3) {
        uint8_t from = pm_read_u8(&r) % (N_LOCAL + 1);
        size_t len = pm_read_u16(&r);
        len = len < r.left ? len : r.left;
        memcpy(receive_buffer, pm_read_raw(&r, len), len);
        if (from == N_LOCAL)
            stranger_says(len);
        else if (agent.shims[from].fd >= 0)
            shim_message(&agent.shims[from], len);
    }
    for (uint32_t i = 0; i < N_LOCAL; i++)
        shim_close(&agent.shims[i]);
    for (uint32_t i = 0; i < N_LOCAL; i++)
        pm_bind_facts_done(&agent.shims[i]);
    return 0;
}
