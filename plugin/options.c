// SPDX-License-Identifier: Apache-2.0
//
// The options as Slurm sees them: --pm-NAME for srun, sbatch and salloc, made from the one table in
// pmix_server/wire/options.c. A value on a command line is checked when Slurm hands it over, so a
// bad one ends srun (with 125, like all that we refuse), sbatch and salloc (with their own status)
// before anything is submitted. Options of sbatch and salloc reach the sruns inside through Slurm's
// own SLURM_SPANK_* variables and count as command line there; srun's own come later and win.
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/plugin.h"
#include "pm_config.h"

#define MAX_OPTIONS 48
#define NAME_CAP (SPANK_OPTION_MAXLEN + 1)
#define SOURCE_CAP (NAME_CAP + 32)
#define USAGE_CAP 256

static struct {
    char name[NAME_CAP];  // "pm-grace"
    char usage[USAGE_CAP];
    struct spank_option spank;
    bool given;
    char *text;  // malloc'd; NULL: given without a value
} entries[MAX_OPTIONS];

static bool is_inert;
static struct {
    int n;
    char **args;  // of plugstack.conf: Slurm keeps them as long as the plugin
} site;

// Is the value that `text` has set within what the site allows? 0, or -EINVAL with a sentence.
static int check_bounds(const struct pm_options *o, const char *source, const char *name,
                        const char *text, char *error)
{
    struct pm_option_bound b;
    char limit[PM_ERROR_CAP / 2];
    for (int i = 0; i < site.n; i++) {
        if (!pm_bound_is(site.args[i]) || pm_bound_parse(&b, site.args[i], error) < 0 ||
            strcmp(b.spec->name, name) != 0 || pm_bound_allows(&b, o, text))
            continue;
        snprintf(error, PM_ERROR_CAP, "%.64s%s%.64s: %s", source, text && *text ? "=" : "", text ? text : "",
                 pm_bound_sentence(&b, limit, sizeof limit));
        return -EINVAL;
    }
    return 0;
}

// One option as a user has said it.
static int set_from_user(struct pm_options *o, const char *source, const char *name,
                         const char *text, char *error)
{
    int rc = pm_options_set(o, source, name, text, error);
    return rc < 0 ? rc : check_bounds(o, source, name, text, error);
}

// Slurm's callback. `val` is the row of the table.
static int take_option(int val, const char *text, int remote)
{
    struct pm_options scratch;
    char error[PM_ERROR_CAP], source[SOURCE_CAP];
    if (is_inert || remote || val < 0 || val >= MAX_OPTIONS)
        return 0;
    const struct pm_option_spec *spec = &pm_option_specs[val];
    // Without a value Slurm hands over NULL, "" or, through the environment, "(null)".
    if (spec->arg_optional && (!text || !*text || strcmp(text, "(null)") == 0))
        text = NULL;
    snprintf(source, sizeof source, "--pm-%s", spec->name);
    pm_options_default(&scratch);
    if (set_from_user(&scratch, source, spec->name, text, error) < 0) {
        if (spank_context() == S_CTX_LOCAL)
            pm_srun_refuse(error);
        slurm_spank_log("pm-supervise: %s", error);
        return -1;
    }
    free(entries[val].text);
    entries[val].text = text ? strdup(text) : NULL;
    entries[val].given = true;
    return 0;
}

// The default that counts on this host: plugstack.conf's, else our own.
static const char *default_of(const struct pm_option_spec *spec, int ac, char **av)
{
    const char *text = spec->default_text;
    size_t len = strlen(spec->name);
    for (int i = 0; i < ac; i++)
        if (strncmp(av[i], spec->name, len) == 0 && av[i][len] == '=')
            text = av[i] + len + 1;
    return text;
}

int pm_plugin_options_register(spank_t spank, bool inert, int ac, char **av)
{
    is_inert = inert;
    site.n = ac;
    site.args = av;
    for (int i = 0; i < MAX_OPTIONS && pm_option_specs[i].name; i++) {
        const struct pm_option_spec *spec = &pm_option_specs[i];
        if (spec->site)
            continue;
        snprintf(entries[i].name, NAME_CAP, "pm-%s", spec->name);
        const char *text = default_of(spec, ac, av);
        snprintf(entries[i].usage, USAGE_CAP, "%s%s%s%s", spec->help, *text ? " (default " : "",
                 text, *text ? ")" : "");
        entries[i].spank = (struct spank_option){
            .name = entries[i].name,
            .arginfo = (char *)(uintptr_t)spec->arginfo,
            .usage = entries[i].usage,
            .has_arg = spec->arg_optional ? 2 : 1,
            .val = i,
            .cb = take_option,
        };
        if (spank_option_register(spank, &entries[i].spank) != ESPANK_SUCCESS)
            return -1;
    }
    return 0;
}

// "max-restarts" -> "SLURM_PM_MAX_RESTARTS"
static void variable_of(const char *name, char *ret, size_t cap)
{
    size_t n = (size_t)snprintf(ret, cap, "SLURM_PM_%s", name);
    for (size_t i = 0; i < n && i < cap; i++)
        ret[i] = ret[i] == '-' ? '_' : (char)toupper((unsigned char)ret[i]);
}

static int set_from_plugstack(struct pm_options *o, const char *arg, char *error)
{
    char name[NAME_CAP], source[SOURCE_CAP];
    size_t len = strcspn(arg, "=");
    if (strncmp(arg, "libexec=", 8) == 0 || pm_bound_is(arg))
        return 0;
    snprintf(name, sizeof name, "%.*s", (int)len, arg);
    snprintf(source, sizeof source, "plugstack.conf: %s", name);
    return pm_options_set(o, source, name, arg[len] ? arg + len + 1 : NULL, error);
}

static int set_from_environment(struct pm_options *o, const char *name, char *error)
{
    char variable[SOURCE_CAP];
    variable_of(name, variable, sizeof variable);
    const char *text = getenv(variable);
    int rc = text && *text ? set_from_user(o, variable, name, text, error) : 0;
    // Who sets it wants supervision: a step must not run without it for a typing error.
    if (rc < 0 && strcmp(name, "supervise") == 0)
        o->mode = PM_MODE_WORLD;
    return rc;
}

static int set_from_command_line(struct pm_options *o, int i, char *error)
{
    char source[SOURCE_CAP];
    snprintf(source, sizeof source, "--pm-%s", pm_option_specs[i].name);
    return set_from_user(o, source, pm_option_specs[i].name, entries[i].text, error);
}

// What nobody has said comes within the site's bounds by itself.
static int clamp(struct pm_options *o, char *error)
{
    struct pm_option_bound b;
    int rc = 0;
    for (int i = 0; i < site.n && rc == 0; i++) {
        rc = pm_bound_is(site.args[i]) ? pm_bound_parse(&b, site.args[i], error) : 0;
        if (rc == 0 && pm_bound_is(site.args[i]))
            pm_bound_clamp(&b, o);
    }
    for (int i = 0; i < site.n && rc == 0; i++)
        if (pm_bound_is(site.args[i]) && pm_bound_parse(&b, site.args[i], error) == 0 &&
            !pm_bound_allows(&b, o, NULL)) {
            snprintf(error, PM_ERROR_CAP, "plugstack.conf: %.128s contradicts its other bound",
                     site.args[i]);
            rc = -EINVAL;
        }
    return rc;
}

// By the user, on the command line or in the environment; NULL: not at all.
static const char *said(const char *name)
{
    char variable[SOURCE_CAP];
    for (int i = 0; i < MAX_OPTIONS && pm_option_specs[i].name; i++)
        if (entries[i].given && strcmp(pm_option_specs[i].name, name) == 0)
            return entries[i].text ? entries[i].text : "";
    variable_of(name, variable, sizeof variable);
    const char *text = getenv(variable);
    return text && *text ? text : NULL;
}

int pm_plugin_options_resolve(struct pm_options *ret, int ac, char **av, char *error)
{
    char further[PM_ERROR_CAP] = "";
    int rc = 0;
    pm_options_default(ret);
    // Weakest first. Everything is read even after an error: only then is it known whether
    // supervision was asked for at all, and only the first error is told.
    for (int i = 0; i < ac; i++) {
        int bad = set_from_plugstack(ret, av[i], rc ? further : error);
        rc = rc ? rc : bad;
    }
    int unclear = clamp(ret, rc ? further : error);
    rc = rc ? rc : unclear;
    for (int i = 0; i < MAX_OPTIONS && pm_option_specs[i].name; i++) {
        if (pm_option_specs[i].site)
            continue;
        int bad = set_from_environment(ret, pm_option_specs[i].name, rc ? further : error);
        rc = rc ? rc : bad;
        bad = entries[i].given ? set_from_command_line(ret, i, rc ? further : error) : 0;
        rc = rc ? rc : bad;
    }
    rc = rc ? rc : pm_options_check(ret, error);
    return rc ? rc : pm_options_check_said(ret, said, error);
}

bool pm_plugin_options_given(void)
{
    for (int i = 0; i < MAX_OPTIONS; i++)
        if (entries[i].given)
            return true;
    return false;
}

const char *pm_plugin_libexec(int ac, char **av)
{
    const char *libexec = PM_LIBEXEC_DIR;
    for (int i = 0; i < ac; i++)
        if (strncmp(av[i], "libexec=", 8) == 0)
            libexec = av[i] + 8;
    return libexec;
}
