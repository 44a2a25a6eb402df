// SPDX-License-Identifier: Apache-2.0
//
// When srun counts as having passed on what live nodes wrote: two nodes are lost, looks come every 50 ms.
#include <criterion/criterion.h>

#include "pmix_server/core/output.h"

#define LOST 2
#define LOOK_MS 50
#define MS 1000000u

static struct pm_output_watch watch;
static uint64_t now_ns;

static const struct pm_output_look idle = {.traffic = 4096, .connections = LOST};

static void begins(void)
{
    now_ns = 5000 * (uint64_t)MS;
    pm_output_watch_begin(&watch, LOST, &idle, now_ns);
}

TestSuite(output, .init = begins, .timeout = 10);

// Milliseconds until it is over, looking at the same thing; 0: not within 10 s.
static uint64_t over_after_ms(struct pm_output_look look)
{
    for (uint64_t ms = LOOK_MS; ms <= 10000; ms += LOOK_MS) {
        now_ns += LOOK_MS * (uint64_t)MS;
        if (pm_output_watch_look(&watch, &look, now_ns))
            return ms;
    }
    return 0;
}

Test(output, it_is_over_when_only_lost_nodes_are_connected_and_nothing_moves)
{
    cr_assert_eq(over_after_ms(idle), PM_OUTPUT_QUIET_MS);
}

Test(output, a_live_nodes_connection_is_given_more_time)
{
    struct pm_output_look look = idle;
    look.connections = LOST + 1;
    // The new connection was seen at the first look.
    cr_assert_eq(over_after_ms(look), LOOK_MS + PM_OUTPUT_QUIET_OPEN_MS);
}

Test(output, a_connection_that_closes_shortens_the_wait_and_begins_it_anew)
{
    struct pm_output_look look = idle;
    look.connections = LOST + 1;
    pm_output_watch_begin(&watch, LOST, &look, now_ns);
    now_ns += 1900 * (uint64_t)MS;
    cr_assert_not(pm_output_watch_look(&watch, &look, now_ns));
    look.connections = LOST;
    cr_assert_eq(over_after_ms(look), LOOK_MS + PM_OUTPUT_QUIET_MS);
}

Test(output, every_byte_begins_the_wait_anew)
{
    struct pm_output_look look = idle;
    for (int i = 0; i < 100; i++) {
        now_ns += 1000 * (uint64_t)MS;
        look.traffic++;
        cr_assert_not(pm_output_watch_look(&watch, &look, now_ns));
    }
    cr_assert_eq(over_after_ms(look), PM_OUTPUT_QUIET_MS);
}

Test(output, unread_bytes_a_stuck_reader_and_what_cannot_be_seen_are_waited_for)
{
    struct pm_output_look look = idle;
    look.unread = true;
    cr_assert_eq(over_after_ms(look), 0);
    look = idle;
    look.stuck = true;
    cr_assert_eq(over_after_ms(look), 0);
    look = idle;
    look.unknown = true;
    cr_assert_eq(over_after_ms(look), 0);
    cr_assert_eq(over_after_ms(idle), PM_OUTPUT_QUIET_MS);
}
