// SPDX-License-Identifier: Apache-2.0
//
// Prints the option table as reStructuredText for the man pages, from the one table there is: what users can
// say, or with the word "site" what only plugstack.conf can.
#include <stdio.h>
#include <string.h>

#include "pmix_server/wire/options.h"

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
        printf("\n\n");
    }
    return 0;
}
