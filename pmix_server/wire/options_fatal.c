// SPDX-License-Identifier: Apache-2.0
//
// The value of --pm-fatal-exit: signals and exit codes that are never restarted. See options.h for the contract.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "pmix_server/wire/options_parts.h"

#define SIGNAL_MAX 64

static const char *const signal_names[] = {
    [1] = "HUP",    [2] = "INT",   [3] = "QUIT",    [4] = "ILL",   [5] = "TRAP",  [6] = "ABRT",
    [7] = "BUS",    [8] = "FPE",   [9] = "KILL",    [10] = "USR1", [11] = "SEGV", [12] = "USR2",
    [13] = "PIPE",  [14] = "ALRM", [15] = "TERM",   [16] = "STKFLT", [17] = "CHLD", [18] = "CONT",
    [19] = "STOP",  [20] = "TSTP", [21] = "TTIN",   [22] = "TTOU", [23] = "URG",  [24] = "XCPU",
    [25] = "XFSZ",  [26] = "VTALRM", [27] = "PROF", [28] = "WINCH", [29] = "IO",  [30] = "PWR",
    [31] = "SYS",
};

static bool set_bit(uint64_t *bits, uint64_t n)
{
    bits[n / 64] |= UINT64_C(1) << (n % 64);
    return true;
}

// "SIGSEGV", "SEGV" or "SIG34".
static bool take_signal(const char *item, size_t len, struct pm_fatal *fatal)
{
    uint64_t number;
    if (len > 3 && strncasecmp(item, "SIG", 3) == 0) {
        const char *at = item += 3;
        len -= 3;
        if (pm_option_take_number(&at, SIGNAL_MAX, &number) && at == item + len && number > 0)
            return set_bit(fatal->signals, number - 1);
    }
    for (size_t i = 1; i < sizeof signal_names / sizeof signal_names[0]; i++)
        if (strlen(signal_names[i]) == len && strncasecmp(item, signal_names[i], len) == 0)
            return set_bit(fatal->signals, i - 1);
    return false;
}

// "93", "10-20", or a signal.
static bool take_fatal(const char *item, size_t len, struct pm_fatal *fatal)
{
    const char *at = item;
    uint64_t first, last;
    if (!pm_option_take_number(&at, 255, &first))
        return take_signal(item, len, fatal);
    last = first;
    if (*at == '-') {
        at++;
        if (!pm_option_take_number(&at, 255, &last))
            return false;
    }
    if (at != item + len || first == 0 || last < first)
        return false;
    for (; first <= last; first++)
        set_bit(fatal->exits, first);
    return true;
}

int pm_option_fatal(const char *text, struct pm_fatal *ret, char *error)
{
    struct pm_fatal fatal = {0};
    for (const char *item = strcmp(text, "none") ? text : NULL, *end; item; item = *end ? end + 1 : NULL) {
        end = strchrnul(item, ',');
        if (take_fatal(item, (size_t)(end - item), &fatal))
            continue;
        (void)snprintf(error, PM_ERROR_CAP, "takes a list of exit codes (1 to 255), ranges and signals, "
                                            "for example 93,100-110,SIGSEGV, or none");
        return -EINVAL;
    }
    *ret = fatal;
    return 0;
}
