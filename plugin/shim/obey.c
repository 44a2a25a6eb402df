// SPDX-License-Identifier: Apache-2.0
//
// What the agent says and what is done about it at once. The rest is done by settle() in shim.c,
// when the tree allows it. A packet that is not of the protocol ends the connection, and with it the
// shim: the agent is of the same build and runs as the same user, so nothing good comes after one.
#include <errno.h>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "plugin/shim/fds.h"
#include "plugin/shim/internal.h"
#include "plugin/shim/link.h"

#define END_TIMEOUT_MS 10000

static uint8_t packet[PM_SHIM_PACKET_MAX];

static void take_welcome(struct shim *s, int fd)
{
    struct itimerspec any;
    if (s->lease >= 0 || fd < 0 || timerfd_gettime(fd, &any) < 0)
        pm_shim_agent_gone(s);
    s->lease = fcntl(fd, F_DUPFD_CLOEXEC, PM_FD_FLOOR);
    if (s->lease < 0)
        pm_shim_cannot_start(s, "too many open files");
}

static void take_refuse(struct shim *s, struct pm_reader *r)
{
    char why[512];
    pm_read_str(r, why, sizeof why);
    if (pm_reader_end(r) < 0 || s->started)
        pm_shim_agent_gone(s);
    pm_shim_cannot_start(s, why);
}

static void take_start(struct shim *s, struct pm_reader *r)
{
    struct pm_shim_start start;
    int rc = pm_start_read(r, &start);
    if (rc == -EBADMSG)
        pm_shim_agent_gone(s);
    if (s->next.entries)
        pm_shim_report_never_ran(s, &s->next, SIGKILL);
    pm_start_free(&s->next);
    if (rc == 0) {
        s->next = start;
    } else {
        pm_shim_send_say(s, "cannot start the program: out of memory");
        pm_shim_report_never_ran(s, &start, PM_EXIT_CANNOT_SUPERVISE << 8);
    }
    if (s->open)
        pm_shim_kill_tree(s);
}

static void take_prepare(struct shim *s, struct pm_reader *r)
{
    struct pm_shim_start likely;
    int rc = pm_start_read(r, &likely);
    if (rc == -EBADMSG)
        pm_shim_agent_gone(s);
    pm_heir_dismiss(&s->heir);
    if (rc < 0)
        return;  // without memory there is no heir
    s->heir.likely = likely;
    s->heir.wanted = s->config->prepare && !s->ending;
}

static void take_signal(struct shim *s, struct pm_reader *r)
{
    uint32_t epoch = pm_read_u32(r);
    int signal = pm_read_i32(r);
    if (pm_reader_end(r) < 0 || signal < 1 || signal > SIGRTMAX)
        pm_shim_agent_gone(s);
    if (s->rank > 0 && epoch == s->current.epoch)
        (void)kill(s->rank, signal);
}

static void take_kill(struct shim *s, struct pm_reader *r)
{
    uint32_t epoch = pm_read_u32(r);
    if (pm_reader_end(r) < 0)
        pm_shim_agent_gone(s);
    if (s->next.entries && epoch >= s->next.epoch) {
        pm_shim_report_never_ran(s, &s->next, SIGKILL);
        pm_start_free(&s->next);
    }
    if (s->open && epoch >= s->current.epoch)
        pm_shim_kill_tree(s);
}

static void take_end(struct shim *s, struct pm_reader *r)
{
    bool override = pm_read_u8(r) == 1;
    int status = pm_read_i32(r);
    if (pm_reader_end(r) < 0)
        pm_shim_agent_gone(s);
    s->ending = true;
    s->end_deadline_ns = pm_shim_clock_ns() + END_TIMEOUT_MS * PM_NS_PER_MS;
    pm_start_free(&s->next);
    pm_heir_dismiss(&s->heir);
    if (s->open)
        pm_shim_kill_tree(s);
    if (override) {
        s->overridden = true;
        s->last_status = status;
    }
}

static void take_pause(struct shim *s, struct pm_reader *r, bool paused)
{
    if (pm_reader_end(r) < 0)
        pm_shim_agent_gone(s);
    s->paused = paused;
    if (!paused)
        s->still = false; // the agent has continued the tree itself, perhaps long ago
}

static void take_packet(struct shim *s, struct pm_reader *r, int fd)
{
    uint8_t type = pm_read_u8(r);
    // Before WELCOME only WELCOME or REFUSE make sense.
    if (s->lease < 0 && type != PM_SHIM_WELCOME && type != PM_SHIM_REFUSE)
        pm_shim_agent_gone(s);
    switch (type) {
    case PM_SHIM_WELCOME:
        take_welcome(s, fd);
        break;
    case PM_SHIM_REFUSE:
        take_refuse(s, r);
        break;
    case PM_SHIM_START:
        take_start(s, r);
        break;
    case PM_SHIM_PREPARE:
        take_prepare(s, r);
        break;
    case PM_SHIM_SIGNAL:
        take_signal(s, r);
        break;
    case PM_SHIM_KILL:
        take_kill(s, r);
        break;
    case PM_SHIM_PAUSE:
    case PM_SHIM_RESUME:
        take_pause(s, r, type == PM_SHIM_PAUSE);
        break;
    case PM_SHIM_END:
        take_end(s, r);
        break;
    default:
        pm_shim_agent_gone(s);
    }
}

void pm_shim_read_link(struct shim *s)
{
    while (s->link >= 0) {
        int fd;
        long len = pm_link_receive(s->link, packet, sizeof packet, &fd);
        if (len == -EAGAIN)
            return;
        if (len <= 0 && !s->ending)
            pm_shim_agent_gone(s);
        if (len <= 0) {
            close(s->link);
            s->link = -1;
            return;
        }
        struct pm_reader r = pm_reader_of(packet, (size_t)len);
        take_packet(s, &r, fd);
        if (fd >= 0)
            close(fd);
    }
}
