// SPDX-License-Identifier: Apache-2.0
//
// Option texts of users, sites and the step's environment: "NAME TEXT" sets one option, anything
// else is a whole line. What decodes encodes to a line that decodes to the same.
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "pmix_server/wire/options.h"

static void one(char *text, struct pm_options *o)
{
    char error[PM_ERROR_CAP] = "", *space = strchr(text, ' ');
    if (!space)
        return;
    *space = '\0';
    if (pm_options_set(o, "fuzz", text, space + 1, error) < 0)
        FUZZ_CHECK(error[0] && memchr(error, 0, sizeof(error)));
    else
        (void)pm_options_check(o, error);
}

static void line(const char *text, struct pm_options *o)
{
    static char first[PM_OPTIONS_TEXT_CAP], second[PM_OPTIONS_TEXT_CAP];
    char error[PM_ERROR_CAP] = "";
    if (pm_options_decode(o, text, error) < 0) {
        FUZZ_CHECK(error[0]);
        return;
    }
    struct pm_options again;
    FUZZ_CHECK(pm_options_encode(o, first, sizeof(first)) == 0);
    FUZZ_CHECK(pm_options_decode(&again, first, error) == 0);
    FUZZ_CHECK(pm_options_encode(&again, second, sizeof(second)) == 0);
    FUZZ_CHECK(strcmp(first, second) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pm_options o;
    if (size == 0)
        return 0;
    char *text = malloc(size);
    FUZZ_CHECK(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    pm_options_default(&o);
    if (data[0] % 2)
        one(text, &o);
    else
        line(text, &o);
    free(text);
    return 0;
}
