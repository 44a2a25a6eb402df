// SPDX-License-Identifier: Apache-2.0
//
// Where srun's plugin gets its options from. An input is lines, the first letter says where one stands:
// p in plugstack.conf, e in the environment, c on the command line ("name=value"), all others in
// slurm.conf. Whatever they say, the plugin ends up with options that a user could have asked for, or with
// one sentence. Both files are included as they are, since they keep what they read in statics.
#include "tests/fuzz/fuzz.h"

#include <string.h>

static FILE *open_conf(const char *path);
#define fopen(path, mode) open_conf(path)
#include "plugin/options.c"
#include "plugin/srun_conf.c"
#undef fopen

enum { ARGS_MAX = 64, FILES_MAX = 100 };

static char *args[ARGS_MAX];
static int n_args;
static char conf[65536];
static unsigned n_files;

// --- Slurm -------------------------------------------------------------------------------------------

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
    FUZZ_CHECK(strlen(option->name) < SPANK_OPTION_MAXLEN && option->cb);
    return ESPANK_SUCCESS;
}

// As in sbatch: in srun a value that is refused ends the process.
enum spank_context spank_context(void)
{
    return S_CTX_ALLOCATOR;
}

void pm_srun_refuse(const char *sentence)
{
    abort();
}

void slurm_spank_log(const char *format, ...) {}

// Whatever is included is the same file again.
static FILE *open_conf(const char *path)
{
    FUZZ_CHECK(strlen(path) < PATH_CAP);
    FUZZ_CHECK(++n_files < FILES_MAX);
    return *conf ? fmemopen(conf, strlen(conf), "re") : NULL;
}

// --- an input ----------------------------------------------------------------------------------------

static void begin(void)
{
    for (int i = 0; i < MAX_OPTIONS; i++) {
        free(entries[i].text);
        entries[i].text = NULL;
        entries[i].given = false;
    }
    FUZZ_CHECK(clearenv() == 0 && setenv("SLURM_CONF", "/conf/slurm.conf", 1) == 0);
    conf[0] = '\0';
    n_args = site.n = 0;
    n_files = 0;
}

static void on_command_line(char *line)
{
    size_t len = strcspn(line, "=");
    const struct pm_option_spec *spec = pm_option_find(line, len);
    if (spec)
        (void)take_option((int)(spec - pm_option_specs), line[len] ? line + len + 1 : NULL, 0);
}

static void in_environment(char *line)
{
    char *equals = strchr(line, '=');
    if (!equals || equals == line)
        return;
    *equals = '\0';
    FUZZ_CHECK(setenv(line, equals + 1, 1) == 0);
}

static void take(char *line)
{
    size_t len = strlen(conf);
    if (*line == 'c')
        on_command_line(line + 1);
    else if (*line == 'e')
        in_environment(line + 1);
    else if (*line == 'p' && n_args < ARGS_MAX) {
        args[n_args++] = line + 1;
        site.n = n_args;  // bounds for what comes on the command line
        site.args = args;
    } else
        snprintf(conf + len, sizeof(conf) - len, "%s\n", line);
}

static void resolve(void)
{
    static struct pm_options o, again;
    static char text[PM_OPTIONS_TEXT_CAP];
    char error[PM_ERROR_CAP];
    memset(error, 'x', sizeof(error));
    FUZZ_CHECK(pm_plugin_libexec(n_args, args));
    FUZZ_CHECK(pm_plugin_options_register(NULL, false, n_args, args) == 0);
    if (pm_plugin_options_resolve(&o, n_args, args, error) < 0) {
        FUZZ_CHECK(error[0] && memchr(error, 0, sizeof(error)));
        return;
    }
    if (o.port_min == 0 && pm_srun_port_range(&o.port_min, &o.port_max))
        FUZZ_CHECK(o.port_min > 0 && o.port_min <= o.port_max && o.port_max <= 65535);
    FUZZ_CHECK(pm_options_encode(&o, text, sizeof(text)) == 0);
    FUZZ_CHECK(pm_options_decode(&again, text, error) == 0 && again.mode == o.mode);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *rest = NULL;
    FUZZ_CHECK(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    begin();
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        take(line);
    resolve();
    free(text);
    return 0;
}
