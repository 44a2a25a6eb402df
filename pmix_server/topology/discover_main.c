// SPDX-License-Identifier: Apache-2.0
//
// pm-discover [--no-gpus]: writes this host's picture (picture.h) to stdout; --no-gpus: for a step that has none.
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

// hwloc loads all plugins that it finds there, with libraries such as X11, OpenCL, libxml2 and a vendor's, before it
// asks whether their components are wanted. What a live host is like is found without any of them.
static const char no_plugins[] = "/dev/null";

int main(int argc, char **argv)
{
    bool no_gpus = argc > 1 && strcmp(argv[1], "--no-gpus") == 0;
    struct pm_picture picture = {0};
    struct pm_writer w = {0};
    for (size_t i = 0; i < sizeof(misleading) / sizeof(*misleading); i++)
        unsetenv(misleading[i]);
    setenv("HWLOC_HIDE_ERRORS", "2", 1);
    setenv("HWLOC_PLUGINS_PATH", no_plugins, 1);
    (no_gpus ? pm_picture_take_without_gpus : pm_picture_take)("", &picture);
    pm_picture_write(&w, &picture);
    bool written = !w.error && pm_picture_send(STDOUT_FILENO, &w) == 0;
    pm_picture_done(&picture);
    pm_writer_done(&w);
    return written ? EXIT_SUCCESS : EXIT_FAILURE;
}
