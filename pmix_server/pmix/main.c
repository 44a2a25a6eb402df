// SPDX-License-Identifier: Apache-2.0
//
// pm-pmix-server DIR [PORT]: the PMIx server of one epoch on one node, a thin host around libpmix,
// driven by its agent through fd 3 (wire/server_proto.h). Decides nothing.
//
// It lives in a process of its own because libpmix can hang for good, leaks with every namespace and
// cannot be initialised twice: it may be killed at any moment, and is, at the end of the epoch. Two
// threads count: libpmix' progress thread runs upcalls.c, the main thread the rest.
#include <errno.h>
#include <pmix.h>
#include <pmix_server.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/pmix/codes.h"
#include "pmix_server/pmix/delta.h"
#include "pmix_server/pmix/exits.h"
#include "pmix_server/pmix/fetch.h"
#include "pmix_server/pmix/hygiene.h"
#include "pmix_server/pmix/infos.h"
#include "pmix_server/pmix/job_keys.h"
#include "pmix_server/pmix/listener.h"
#include "pmix_server/pmix/losses.h"
#include "pmix_server/pmix/notify.h"
#include "pmix_server/pmix/pending.h"
#include "pmix_server/pmix/progress.h"
#include "pmix_server/pmix/ranks.h"
#include "pmix_server/pmix/register.h"
#include "pmix_server/pmix/stream.h"
#include "pmix_server/pmix/upcalls.h"

enum { EXIT_USAGE = 2, TEXT_MAX = 65536 };

static struct {
    char *dir;
    struct pm_nspace_info nspace;  // name is "" until NSPACE
} server;

// --- requests of the agent: payload in *r; a handler may take the frame's memory over ---

static void on_nspace(struct pm_reader *r, struct pm_stream_frame *frame)
{
    if (server.nspace.name[0]) {
        r->error = -EBADMSG;  // one namespace per process
        return;
    }
    pm_read_nspace(r, &server.nspace);
    if (pm_reader_end(r))
        return;
    if (pm_ranks_set_local(&server.nspace.ranks_of_node[server.nspace.node]) < 0)
        pm_stream_fail("out of memory");
    pm_upcalls_serve(&server.nspace);
    pm_register_nspace(&server.nspace, server.dir);
}

// FENCE_DONE and MODEX_DONE: the data stays in the frame until libpmix has read it.
static void on_done(struct pm_reader *r, struct pm_stream_frame *frame)
{
    uint64_t id = pm_read_u64(r);
    int32_t status = pm_read_i32(r);
    size_t len;
    const uint8_t *data = pm_read_bytes(r, PM_SERVER_FRAME_MAX, &len);
    pmix_modex_cbfunc_t callback;
    void *callback_data;
    if (pm_reader_end(r) || !pm_pending_take(id, &callback, &callback_data))
        return;
    pm_delta_fence_done(id, status == PM_STATUS_OK);
    callback(pm_codes_of_status(status), (const char *)data, len, callback_data, free,
             frame->memory);
    frame->memory = NULL;
}

static void on_fetch(struct pm_reader *r, struct pm_stream_frame *frame)
{
    uint64_t id = pm_read_u64(r);
    uint32_t rank = pm_read_u32(r);
    if (!pm_reader_end(r))
        pm_fetch_start(server.nspace.name, id, rank);
}

static void on_fetch_cancel(struct pm_reader *r, struct pm_stream_frame *frame)
{
    uint64_t id = pm_read_u64(r);
    if (!pm_reader_end(r))
        pm_fetch_cancel(id);
}

static void on_notify(struct pm_reader *r, struct pm_stream_frame *frame)
{
    struct pm_death death = {.nspace = server.nspace.name};
    death.id = pm_read_u64(r);
    death.cause = pm_read_i32(r);
    death.rank = pm_read_u32(r);
    death.wait_status = pm_read_i32(r);
    char *text = pm_read_strdup(r, TEXT_MAX);
    death.text = text;
    if (!pm_reader_end(r))
        pm_notify_death(&death);
    free(text);
}

static void send_pong(void *arg)
{
    uint64_t *n = arg;
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_PONG);
    pm_write_u64(&w, *n);
    pm_stream_send(&w);
    free(n);
}

static void on_ping(struct pm_reader *r, struct pm_stream_frame *frame)
{
    uint64_t *n = malloc(sizeof(*n));
    if (!n)
        pm_stream_fail("out of memory");
    *n = pm_read_u64(r);
    if (pm_reader_end(r))
        free(n);
    else
        pm_progress_after(1, send_pong, n);
}

static void on_died(struct pm_reader *r, struct pm_stream_frame *frame)
{
    uint32_t rank = pm_read_u32(r);
    if (pm_reader_end(r))
        return;
    pm_losses_rank_ended(server.nspace.name, rank);
    pm_fetch_rank_ended(rank);
}

static void on_born(struct pm_reader *r, struct pm_stream_frame *frame)
{
    uint32_t rank = pm_read_u32(r);
    uint32_t pid = pm_read_u32(r);
    if (!pm_reader_end(r) && pm_ranks_is_local(rank))
        pm_exits_watch(rank, pid);
}

struct request {
    void (*handle)(struct pm_reader *r, struct pm_stream_frame *frame);
    bool needs_nspace;
};

static const struct request requests[PM_SERVER_MAX] = {
    [PM_SERVER_NSPACE] = {on_nspace, false},
    [PM_SERVER_FENCE_DONE] = {on_done, true},
    [PM_SERVER_MODEX_DONE] = {on_done, true},
    [PM_SERVER_FETCH] = {on_fetch, true},
    [PM_SERVER_FETCH_CANCEL] = {on_fetch_cancel, true},
    [PM_SERVER_NOTIFY] = {on_notify, true},
    [PM_SERVER_PING] = {on_ping, false},
    [PM_SERVER_BORN] = {on_born, true},
    [PM_SERVER_DIED] = {on_died, true},
};

static void handle_frame(struct pm_stream_frame *frame)
{
    const struct request *request = frame->type < PM_SERVER_MAX ? &requests[frame->type] : NULL;
    if (!request || !request->handle || (request->needs_nspace && !server.nspace.name[0]))
        pm_stream_fail("the agent sent message %u, which has no place here", frame->type);
    struct pm_reader r = pm_reader_of(frame->data, frame->len);
    request->handle(&r, frame);
    int error = pm_reader_end(&r);
    if (error == -ENOMEM)
        pm_stream_fail("out of memory");
    if (error)
        pm_stream_fail("the agent sent a malformed message %u", frame->type);
}

// --- start ---

// Tools are not served: no rendezvous file, no tool_connected.
static void init_pmix(void)
{
    struct pm_infos infos = {0};
    pm_infos_add_str(&infos, PMIX_SERVER_NSPACE, PM_SERVER_NSPACE_NAME);
    pm_infos_add_rank(&infos, PMIX_SERVER_RANK, 0);
    pm_infos_add_str(&infos, PMIX_SERVER_TMPDIR, server.dir);
    pm_infos_add_str(&infos, PMIX_SYSTEM_TMPDIR, server.dir);
    pm_infos_add_flag(&infos, PMIX_SERVER_SHARE_TOPOLOGY, true);
    pmix_status_t rc = infos.error;
    if (rc == PMIX_SUCCESS)
        rc = PMIx_server_init(pm_upcalls_module(), infos.list, infos.n);
    if (rc == PMIX_SUCCESS)
        rc = pm_losses_watch();
    if (rc != PMIX_SUCCESS)
        pm_stream_fail("PMIx_server_init failed: %s", PMIx_Error_string(rc));
    pm_infos_done(&infos);
}

static void send_inited(void)
{
    int port = pm_listener_tune();
    if (port < 0)
        pm_stream_fail("PMIx does not listen for ranks: %s", strerror(-port));
    char version[64];  // "OpenPMIx 4.2.2 (PMIx Standard: 4.2, ...": without the rest
    snprintf(version, sizeof(version), "%s", PMIx_Get_version());
    char *more = strstr(version, " (");
    if (more)
        *more = '\0';
    struct pm_writer w = {0};
    pm_stream_begin(&w, PM_SERVER_INITED);
    pm_write_str(&w, version);
    pm_write_u16(&w, (uint16_t)port);
    pm_stream_send(&w);
}

static uint16_t parse_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);
    if (*end || !port || port > UINT16_MAX) {
        fprintf(stderr, "pm-pmix-server: '%s' is no port (1 to 65535)\n", text);
        exit(EXIT_USAGE);
    }
    return (uint16_t)port;
}

// The shorter of two waits in milliseconds; -1 is for ever.
static int sooner(int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--obituary"))
        _exit(pm_losses_obituary());
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: pm-pmix-server DIR [PORT]\n"
                        "Started by pm-agent with a socket to it as fd %d.\n", PM_SERVER_FD);
        return EXIT_USAGE;
    }
    uint16_t port = argc == 3 ? parse_port(argv[2]) : 0;
    pm_stream_open(PM_SERVER_FD);
    server.dir = realpath(argv[1], NULL);
    if (!server.dir)
        pm_stream_fail("cannot use the directory %s: %s", argv[1], strerror(errno));
    int error = pm_hygiene_process(server.dir);
    if (!error)
        error = pm_hygiene_environment(server.dir, port);
    if (error)
        pm_stream_fail("cannot set up the process in %s: %s", server.dir, strerror(-error));
    init_pmix();
    send_inited();
    for (;;) {
        struct pm_stream_frame frame;
        pm_losses_tick(server.nspace.name);
        if (!pm_stream_receive(sooner(pm_fetch_tick(), pm_notify_tick()), &frame))
            continue;
        handle_frame(&frame);
        pm_stream_frame_done(&frame);
    }
}
