// SPDX-License-Identifier: Apache-2.0
//
// pm-discover [--untouched]: writes this host's picture (picture.h) to stdout; with --untouched no GPU is opened.
// Started by pm-agent, which kills it when it takes too long; see discover.h for why it is a process of its own.
//
// Exit status: 0, a picture was written (perhaps only a sentence why there is none); 1, it was not.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pmix_server/topology/picture.h"

// A user's settings for his own use of hwloc would show us another machine.
static const char *const misleading[] = {"HWLOC_XMLFILE", "HWLOC_SYNTHETIC", "HWLOC_FSROOT", "HWLOC_CPUID_PATH",
                                         "HWLOC_COMPONENTS"};

int main(int argc, char **argv)
{
    bool untouched = argc > 1 && strcmp(argv[1], "--untouched") == 0;
    struct pm_picture picture = {0};
    struct pm_writer w = {0};
    for (size_t i = 0; i < sizeof(misleading) / sizeof(*misleading); i++)
        unsetenv(misleading[i]);
    setenv("HWLOC_HIDE_ERRORS", "2", 1);
    (untouched ? pm_picture_take_untouched : pm_picture_take)("", &picture);
    pm_picture_write(&w, &picture);
    bool written = !w.error && pm_picture_send(STDOUT_FILENO, &w) == 0;
    pm_picture_done(&picture);
    pm_writer_done(&w);
    return written ? EXIT_SUCCESS : EXIT_FAILURE;
}
