// SPDX-License-Identifier: Apache-2.0
//
// Writes first seeds for fuzz_core and fuzz_records: `core_seeds seeds/core seeds/records`, to be run again
// when the format of a frame has changed. What the cores of each world say up to the attack, and after it, when a rank dies, a node
// is silent and another one's power fails, becomes TYPE-WORLD-agent-N or TYPE-WORLD-root-N, by who
// gets it: the first and the longest frame of each type over a link that the receiver has when it is
// attacked. The records in them are fuzz_records' seeds of the same names.
#include <string.h>

#include "pmix_server/core/record.h"
#include "tests/fuzz/core_worlds.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/core_harness_impl.h"

enum { TYPES = 64, HEARD_MAX = 4096, FRAME_MAX = 1024 };

struct heard {
    const struct wire *wire;
    uint32_t to;  // slot
    uint8_t link; // which of the receiver's
    size_t len;
    uint8_t data[FRAME_MAX];
};

static struct heard heard[HEARD_MAX]; // in one world, as it was said
static uint32_t n_heard;

static bool listen(struct harness *h, void *ctx, uint32_t node, const struct pm_action *action)
{
    (void)ctx;
    if (action->type != PM_ACTION_SEND)
        return action->type == PM_ACTION_FETCH;
    uint32_t from = harness_slot(h, node);
    const struct slot *s = &h->slots[from];
    for (uint32_t i = 0; i < s->n_wires && n_heard < HEARD_MAX; i++) {
        const struct wire *wire = s->wires[i];
        int end = wire->node[0] == from ? 0 : 1;
        if (wire->id[end] != action->link || action->len > FRAME_MAX)
            continue;
        struct heard *one = &heard[n_heard++];
        *one = (struct heard){.wire = wire, .to = wire->node[1 - end], .len = action->len};
        memcpy(one->data, action->data, action->len);
    }
    return false;
}

// One of the files of a frame: `head`, and the frame from its byte `from` on.
static void write_seed(const char *path, const uint8_t *head, size_t head_len,
                       const struct heard *one, size_t from)
{
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f);
    FUZZ_CHECK(fwrite(head, 1, head_len, f) == head_len);
    FUZZ_CHECK(fwrite(one->data + from, 1, one->len - from, f) == one->len - from);
    FUZZ_CHECK(fclose(f) == 0);
}

static void write_seeds(char **folders, uint8_t world, int number, const struct heard *one)
{
    // What fuzz_records calls a record, and where it begins in its frame.
    static const struct {
        uint8_t type, target, from;
    } records[] = {{PM_FRAME_REPORT, 0, 1}, {PM_FRAME_WANTED, 1, 1}, {PM_FRAME_MAP, 2, 13}};
    const uint8_t head[] = {world, (uint8_t)one->to, one->link, (uint8_t)(one->len >> 8),
                            (uint8_t)one->len};
    char name[64], path[4096];
    snprintf(name, sizeof(name), "%02x-%u-%s-%d", one->data[0], world,
             one->to == CORE_NODES ? "root" : "agent", number);
    snprintf(path, sizeof(path), "%s/%s", folders[0], name);
    write_seed(path, head, sizeof(head), one, 0);
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        if (records[i].type != one->data[0])
            continue;
        snprintf(path, sizeof(path), "%s/%s", folders[1], name);
        write_seed(path, &records[i].target, 1, one, records[i].from);
    }
}

// `attacked` is the same world, but has not gone on; wires have the same numbers in both.
static bool find_link(struct heard *one, const struct harness *h, const struct harness *attacked)
{
    size_t number = 0;
    while (h->wires[number] != one->wire)
        number++;
    const struct slot *s = &attacked->slots[one->to];
    for (uint32_t k = 0; s->core && number < attacked->n_wires && k < s->n_wires; k++) {
        one->link = (uint8_t)k;
        if (s->wires[k] == attacked->wires[number])
            return true;
    }
    return false;
}

static void write_world(char **folders, uint8_t world, const struct harness *h,
                        const struct harness *attacked)
{
    const struct heard *first[TYPES][2] = {0}, *longest[TYPES][2] = {0}; // to an agent, to the coordinator
    for (struct heard *one = heard; one < heard + n_heard; one++) {
        FUZZ_CHECK(one->data[0] < TYPES);
        const struct heard **f = &first[one->data[0]][one->to == CORE_NODES];
        const struct heard **l = &longest[one->data[0]][one->to == CORE_NODES];
        if (!find_link(one, h, attacked))
            continue;
        *f = *f ? *f : one;
        *l = *l && (*l)->len >= one->len ? *l : one;
    }
    for (int i = 0; i < 2 * TYPES; i++) {
        const struct heard *f = first[i / 2][i % 2], *l = longest[i / 2][i % 2];
        if (f)
            write_seeds(folders, world, 1, f);
        if (l && l->len > f->len)
            write_seeds(folders, world, 2, l);
    }
}

int main(int argc, char **argv)
{
    FUZZ_CHECK(argc == 3);
    for (uint8_t kind = 0; kind < CORE_WORLDS; kind++) {
        n_heard = 0;
        struct harness *attacked = core_world(kind, core_world_keeps_fetches, NULL);
        struct harness *h = core_world(kind, listen, NULL);
        harness_rank_ends(h, 1, 0, 11);
        harness_pause(h, 4);
        harness_run_ms(h, 6000);
        harness_power_off(h, 3);
        harness_run_ms(h, 12000);
        write_world(argv + 1, kind, h, attacked);
        harness_free(h);
        harness_free(attacked);
    }
    return 0;
}
