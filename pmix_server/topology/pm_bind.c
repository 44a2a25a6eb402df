// SPDX-License-Identifier: Apache-2.0
//
// pm-bind: shows which CPUs, memory, GPUs and NIC each rank would get on a node, on this one or on that
// of an hwloc XML file, without starting anything. See pm-bind(1).
//
// Exit status: 0; 1, what was asked for cannot be done (one sentence on stderr); 2, the command line.
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pm_config.h"
#include "pmix_server/topology/pm_bind.h"
#include "pmix_server/wire/options.h"

#define TASKS_MAX 1000000ul

static const struct format {
    const char *name;
    int (*write)(FILE *out, const struct pm_bind_view *view);
} formats[] = {{"text", pm_bind_write_text}, {"json", pm_bind_write_json}, {"svg", pm_bind_write_svg}};
static const struct format list_format = {"list", pm_bind_write_list};

struct arguments {
    struct pm_bind_asked asked;
    const struct format *format;  // NULL: by the name of `output`, else text
    const char *output;           // NULL: stdout
    bool explain;
};

enum option_key { KEY_EXPLAIN = 256 };

static const struct argp_option argp_options[] = {
    {.name = "topology", .key = 't', .arg = "FILE.xml", .doc = "the machine (lstopo FILE.xml); without it this host"},
    {.name = "ntasks", .key = 'n', .arg = "N",
     .doc = "ranks on the node; without it one for each GPU, or for each NUMA node if there is none"},
    {.name = "cpus", .key = 'c', .arg = "LIST", .doc = "granted CPUs, as 0-15,32; without it all that are allowed"},
    {.name = "gpus", .key = 'g', .arg = "LIST",
     .doc = "granted GPUs: numbers, PCI addresses or UUIDs (see --list), all or none; without it all"},
    {.name = "bind", .key = 'b', .arg = "OPTIONS", .doc = "as for srun --pm-bind: auto, cores, strict, smt=1 ..."},
    {.name = "format", .key = 'f', .arg = "FORMAT", .doc = "text, json or svg"},
    {.name = "output", .key = 'o', .arg = "FILE", .doc = "write there; .svg and .json choose the format"},
    {.name = "explain", .key = KEY_EXPLAIN, .doc = "say for each rank why"},
    {.name = "list", .key = 'l', .doc = "list GPUs and NICs and how far they are from each other, and end"},
    {0},
};

const char *argp_program_version = "pm-bind " PM_VERSION;

static void set_format(struct arguments *a, const char *name, struct argp_state *state)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
        if (strcmp(formats[i].name, name) == 0) {
            a->format = &formats[i];
            return;
        }
    }
    argp_error(state, "--format=%s: it is text, json or svg", name);
}

static void set_tasks(struct arguments *a, const char *text, struct argp_state *state)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end || end == text || text[0] == '-' || n < 1 || n > TASKS_MAX)
        argp_error(state, "--ntasks=%s: it is a number from 1 to %lu", text, TASKS_MAX);
    a->asked.n_tasks = (uint32_t)n;
    a->asked.has_n_tasks = true;
}

static void set_bind(struct arguments *a, const char *text, struct argp_state *state)
{
    char sentence[PM_BIND_SENTENCE_BYTES];
    if (pm_bind_options_read(text, &a->asked.options, sentence) < 0)
        argp_error(state, "--bind: %s", sentence);
}

static void set_topology(struct arguments *a, const char *path, struct argp_state *state)
{
    if (a->asked.topology)
        argp_error(state, "one machine at a time: %s or %s", a->asked.topology, path);
    a->asked.topology = path;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case 't':
    case ARGP_KEY_ARG:
        set_topology(a, arg, state);
        return 0;
    case 'n':
        set_tasks(a, arg, state);
        return 0;
    case 'c':
        a->asked.cpus = arg;
        return 0;
    case 'g':
        a->asked.gpus = arg;
        return 0;
    case 'b':
        set_bind(a, arg, state);
        return 0;
    case 'f':
        set_format(a, arg, state);
        return 0;
    case 'o':
        a->output = arg;
        return 0;
    case 'l':
        a->format = &list_format;
        return 0;
    case KEY_EXPLAIN:
        a->explain = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    .options = argp_options, .parser = parse_option, .args_doc = "[FILE.xml]",
    .doc = "Shows which CPUs, memory, GPUs and NIC each rank would get on a node."};

static const struct format *format_of(const struct arguments *a)
{
    const char *suffix = a->output ? strrchr(a->output, '.') : NULL;
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats) && suffix && !a->format; i++) {
        if (strcmp(formats[i].name, suffix + 1) == 0)
            return &formats[i];
    }
    return a->format ? a->format : &formats[0];
}

// What was printed is complete, or it says why not.
static int write_out(const struct arguments *a, const struct pm_bind_view *view, char *error)
{
    FILE *out = a->output ? fopen(a->output, "we") : stdout;
    int rc = out ? format_of(a)->write(out, view) : -errno;
    if (out) {
        bool failed = ferror(out) != 0;
        failed |= (out == stdout ? fflush(out) : fclose(out)) != 0;
        if (failed && rc == 0)
            rc = errno ? -errno : -EIO;
    }
    if (rc < 0)
        snprintf(error, PM_ERROR_CAP, "cannot write %s: %s", a->output ? a->output : "the result", strerror(-rc));
    return rc;
}

static uint32_t tasks_of(const struct pm_bind_asked *asked, const struct pm_bind_input *input)
{
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < input->machine.n_numas; i++)
        nodes += pm_set_intersects(&input->machine.numas[i].pus, &input->allowed);
    if (asked->has_n_tasks)
        return asked->n_tasks;
    return input->granted.n ? input->granted.n : nodes;
}

static int show(const struct arguments *a, const struct pm_bind_input *input, const struct pm_binding *binding,
                const struct pm_bind_request *request, char *error)
{
    struct pm_bind_view view = {.report = {&input->machine, request, binding, &input->granted},
                                .title = a->asked.topology ? a->asked.topology : "this host",
                                .explain = a->explain};
    const char *slash = strrchr(view.title, '/');
    view.title = slash ? slash + 1 : view.title;
    char *summary = pm_report_summary(&view.report);
    view.summary = binding->n_ranks ? summary : "nothing is pinned";
    int rc = summary ? write_out(a, &view, error) : -ENOMEM;
    free(summary);
    return rc;
}

static int bind(const struct arguments *a, const struct pm_bind_input *input, char *error)
{
    struct pm_bind_request request = {.allowed = &input->allowed, .gpus = input->gpus, .n_gpus = input->granted.n,
                                      .n_ranks = tasks_of(&a->asked, input), .options = a->asked.options};
    struct pm_binding binding = {0};
    int rc = a->format == &list_format ? 0 : pm_bind_ranks(&input->machine, &request, &binding);
    if (rc < 0)
        snprintf(error, PM_ERROR_CAP, "%s", binding.sentence);
    else
        rc = show(a, input, &binding, &request, error);
    pm_binding_done(&binding);
    return rc;
}

int main(int argc, char **argv)
{
    struct arguments a = {0};
    struct pm_bind_input input = {0};
    char error[PM_ERROR_CAP] = "no memory";
    argp_err_exit_status = 2;
    if (argp_parse(&argp, argc, argv, 0, NULL, &a))
        return 2;
    setenv("HWLOC_HIDE_ERRORS", "2", 0);
    int rc = pm_bind_input_read(&a.asked, &input, error);
    if (rc == 0)
        rc = bind(&a, &input, error);
    pm_bind_input_done(&input);
    if (rc < 0)
        fprintf(stderr, "pm-bind: %s\n", error);
    return rc < 0 ? 1 : 0;
}
