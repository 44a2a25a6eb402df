// SPDX-License-Identifier: Apache-2.0
//
// What an agent says to a shim. The agent runs as the same user, so this is not a border of trust;
// but a shim that crashes takes its rank with it. An input is packets (u16 length, bytes); a length of
// 0 is a WELCOME with the lease's timer, one of 65535 a moment without a packet. The shim's other files are stood in for: they note what
// they were asked for and check that it makes sense at this moment.
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <setjmp.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "plugin/shim/internal.h"
#include "plugin/shim/link.h"

static struct pm_reader input;
static jmp_buf ended;
static int timer_fd = -1, lent_fd = -1;

// --- the shim's other files ----------------------------------------------------------------------

long pm_link_receive(int fd, void *buf, size_t cap, int *ret_fd)
{
    size_t len = pm_read_u16(&input);
    *ret_fd = lent_fd = -1;
    if (input.error || len == UINT16_MAX)
        return -EAGAIN;
    if (len == 0) {
        *ret_fd = lent_fd = dup(timer_fd);
        *(uint8_t *)buf = PM_SHIM_WELCOME;
        return 1;
    }
    len = len < input.left ? len : input.left;
    len = len < cap ? len : cap;
    if (len)
        memcpy(buf, pm_read_raw(&input, len), len);
    return len ? (long)len : -EAGAIN;
}

void pm_shim_agent_gone(struct shim *s)
{
    longjmp(ended, 1);
}

void pm_shim_cannot_start(struct shim *s, const char *why)
{
    FUZZ_CHECK(strlen(why) < 512 && !s->started);
    longjmp(ended, 1);
}

void pm_shim_send_say(struct shim *s, const char *text) {}
void pm_shim_report_never_ran(struct shim *s, const struct pm_shim_start *start, int status)
{
    FUZZ_CHECK(start->entries && start == &s->next);
}

void pm_shim_kill_tree(struct shim *s)
{
    FUZZ_CHECK(s->open && s->lease >= 0);
    s->killing = true;
}

void pm_heir_dismiss(struct pm_heir *heir)
{
    heir->wanted = false;
    pm_start_free(&heir->likely);
}

static void prepare(void *context, struct pm_shim_start *likely) {}

uint64_t pm_shim_clock_ns(void)
{
    return 1;
}

// --- what settle() would make of it ---------------------------------------------------------------

static void check_start(const struct pm_shim_start *start)
{
    if (!start->entries)
        return;
    for (uint32_t i = 0; i < start->n; i++)
        FUZZ_CHECK(strchr(start->entries[i], '='));
    FUZZ_CHECK(!start->entries[start->n]);
}

static void run(struct shim *s)
{
    if (setjmp(ended)) {
        if (lent_fd >= 0)
            close(lent_fd);
        return;
    }
    while (input.left > 2) {
        pm_shim_read_link(s);
        check_start(&s->next);
        check_start(&s->heir.likely);
        FUZZ_CHECK(!s->heir.wanted || s->heir.likely.entries);
        if (s->next.entries && !s->open) {  // as if the tree of the one before were gone
            s->current = (struct pm_shim_start){.epoch = s->next.epoch,
                                                .incarnation = s->next.incarnation};
            pm_start_free(&s->next);
            s->open = s->started = true;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pm_shim_config config = {.prepare = prepare};
    static struct shim s;
    if (timer_fd < 0) {
        timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
        FUZZ_CHECK(timer_fd >= 0);
    }
    input = pm_reader_of(data, size);
    s = (struct shim){.link = 0, .lease = -1, .config = &config};  // its number is never used here; no rank: nothing is signalled
    run(&s);
    pm_start_free(&s.next);
    pm_start_free(&s.heir.likely);
    if (s.lease >= 0)
        FUZZ_CHECK(close(s.lease) == 0);
    return 0;
}
