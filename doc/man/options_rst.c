// SPDX-License-Identifier: Apache-2.0
//
// Prints the option table as reStructuredText for the man pages, from the one table there is: what users can
// say, or with the word "site" what only plugstack.conf can.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/wire/options.h"

// In the largest unit that keeps it exact: "500ms", "24h".
static void print_duration(uint64_t ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    size_t unit = 0;
    while (ms % units[unit].ms)
        unit++;
    printf("%" PRIu64 "%s", ms / units[unit].ms, ms ? units[unit].name : "");
}

// " From 1s to 10m."; nothing for what has no order, or is only on or off.
static void print_bounds(const struct pm_option_spec *spec)
{
    bool duration = strncmp(spec->arginfo, "DURATION", strlen("DURATION")) == 0;
    if (spec->max <= 1)
        return;
    printf(" From ");
    if (duration)
        print_duration(spec->min);
    else
        printf("%" PRIu64, spec->min);
    printf(" to ");
    if (duration)
        print_duration(spec->max);
    else
        printf("%" PRIu64, spec->max);
    printf(".");
}

int main(int argc, char **argv)
{
    bool site = argc > 1 && strcmp(argv[1], "site") == 0;
    for (const struct pm_option_spec *spec = pm_option_specs; spec->name; spec++) {
        bool mode = strcmp(spec->name, "supervise") == 0;
        if (spec->site != site)
            continue;
        printf("**%s%s**", site ? "" : "--pm-", spec->name);
        if (spec->arginfo)
            printf("\\ %s=\\ *%s*\\ %s", spec->arg_optional ? "[" : "", spec->arginfo,
                   spec->arg_optional ? "]" : "");
        printf("\n    %s.", spec->help);
        if (!mode && *spec->default_text)
            printf(" Default: %s.", spec->default_text);
        print_bounds(spec);
        printf("\n\n");
    }
    return 0;
}
