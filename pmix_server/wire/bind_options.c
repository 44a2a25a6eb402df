// SPDX-License-Identifier: Apache-2.0
//
// One row for each word: what it is called, which member it sets, and to what.
#include "pmix_server/wire/bind_options.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER = -1, NUMBER_MAX = 1000000 };

struct word {
    const char *name;
    size_t member; // a uint32_t or an enum: both are 32 bits wide
    int value;     // NUMBER: what follows the name
};

#define MEMBER(name) offsetof(struct pm_bind_options, name)
static const struct word words[] = {
    {"auto", MEMBER(mode), PM_BIND_AUTO},
    {"cores", MEMBER(mode), PM_BIND_CORES},
    {"numa", MEMBER(mode), PM_BIND_NUMA},
    {"none", MEMBER(mode), PM_BIND_NONE},
    {"gpu-order", MEMBER(order), PM_ORDER_GPU},
    {"core-order", MEMBER(order), PM_ORDER_CORE},
    {"fill", MEMBER(reach), PM_REACH_FILL},
    {"strict", MEMBER(reach), PM_REACH_STRICT},
    {"memory=none", MEMBER(memory), PM_MEMORY_DEFAULT},
    {"memory=prefer", MEMBER(memory), PM_MEMORY_PREFER},
    {"memory=bind", MEMBER(memory), PM_MEMORY_BIND},
    {"memory=interleave", MEMBER(memory), PM_MEMORY_INTERLEAVE},
    {"cpus=", MEMBER(cpus), NUMBER},
    {"smt=", MEMBER(smt), NUMBER},
    {"gpus=", MEMBER(gpus), NUMBER},
    {"mixed-kinds", MEMBER(mixed_kinds), 1},
    {"keep-cpus", MEMBER(keep_cpus), 1},
    {"keep-memory", MEMBER(keep_memory), 1},
};
_Static_assert(sizeof(enum pm_bind_mode) == sizeof(uint32_t), "a word sets 32 bits");

static int refuse(const char *text, size_t len, char *sentence)
{
    snprintf(sentence, PM_BIND_SENTENCE_BYTES,
             "'%.*s' is none of auto, cores, numa, none, gpu-order, core-order, fill, strict, "
             "memory=none|prefer|bind|interleave, cpus=N, smt=N, gpus=N, mixed-kinds, keep-cpus, keep-memory",
             len < 40 ? (int)len : 40, text);
    return -EINVAL;
}

// 0: that is none.
static uint32_t read_number(const char *text, size_t len)
{
    uint32_t value = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || value > NUMBER_MAX)
            return 0;
        value = 10 * value + (uint32_t)(text[i] - '0');
    }
    return value <= NUMBER_MAX ? value : 0;
}

static bool apply(const struct word *word, const char *text, size_t len,
                  struct pm_bind_options *options)
{
    size_t name = strlen(word->name);
    bool is_number = word->value == NUMBER;
    if (len < name || memcmp(text, word->name, name) != 0)
        return false;
    uint32_t value = is_number ? read_number(text + name, len - name) : (uint32_t)word->value;
    if (is_number ? value == 0 : len != name)
        return false;
    memcpy((char *)options + word->member, &value, sizeof(value));
    return true;
}

int pm_bind_options_read(const char *text, struct pm_bind_options *options,
                         char sentence[PM_BIND_SENTENCE_BYTES])
{
    struct pm_bind_options read = *options;
    for (const char *at = text;; at++) {
        size_t len = strcspn(at, ","), i = 0;
        while (i < sizeof(words) / sizeof(*words) && !apply(&words[i], at, len, &read))
            i++;
        if (i == sizeof(words) / sizeof(*words))
            return refuse(at, len, sentence);
        at += len;
        if (!*at)
            break;
    }
    *options = read;
    return 0;
}
