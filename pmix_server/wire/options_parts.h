// SPDX-License-Identifier: Apache-2.0
//
// Pieces of the parsing of options that the files options*.c share.
#ifndef PM_WIRE_OPTIONS_PARTS_H
#define PM_WIRE_OPTIONS_PARTS_H

#include "pmix_server/wire/options.h"

// Milliseconds.
#define PM_OPTION_SECOND 1000ull
#define PM_OPTION_MINUTE (60 * PM_OPTION_SECOND)
#define PM_OPTION_HOUR (60 * PM_OPTION_MINUTE)

// Writes the sentence to error (PM_ERROR_CAP bytes); -EINVAL.
int pm_option_refuse(char *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Digits only, no sign, no space, at most `max` (9 or more). Moves *text behind the number.
bool pm_option_take_number(const char **text, uint64_t max, uint64_t *ret);
// The value of --pm-fatal-exit: 0, or -EINVAL with what it takes.
int pm_option_fatal(const char *text, struct pm_fatal *ret, char *error);

#endif
