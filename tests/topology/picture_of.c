// SPDX-License-Identifier: Apache-2.0
//
// picture_of FILE.xml: what pm-discover would say if this host were that machine, with the CPUs that this process may run on
// and with all of its GPUs. Integration tests put it in pm-discover's place.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pmix_server/topology/allowed.h"
#include "pmix_server/topology/picture.h"

int main(int argc, char **argv)
{
    struct pm_picture p;
    struct pm_writer w = {0};
    if (argc != 2)
        return 2;
    pm_picture_take_xml(argv[1], &p);
    if (p.error[0] || pm_allowed_affinity(0, &p.affinity) < 0) {
        fprintf(stderr, "picture_of: %s\n", p.error);
        return EXIT_FAILURE;
    }
    for (uint32_t i = 0; i < p.machine.n_gpus; i++) {
        p.machine.gpus[i].minor = i;
        if (pm_set_add(&p.admitted, i) < 0)
            return EXIT_FAILURE;
    }
    pm_picture_write(&w, &p);
    return !w.error && write(STDOUT_FILENO, w.data, w.len) == (ssize_t)w.len ? EXIT_SUCCESS : EXIT_FAILURE;
}
