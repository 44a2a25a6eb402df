// SPDX-License-Identifier: Apache-2.0
//
// The options of `--pm-supervise`, in one table that drives parsing, help, man page and tests.
//
// Every option has four places it can come from: srun's command line (--pm-max-restarts=5), the
// environment (SLURM_PM_MAX_RESTARTS=5), plugstack.conf (max-restarts=5) and the default, in this
// order of precedence. Parsing never allocates and never does I/O; a bad value gives one sentence
// that names the option and what it takes. libc only: the plugin links this.
#ifndef PM_WIRE_OPTIONS_H
#define PM_WIRE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PM_PATH_CAP 4096
#define PM_SITE_PATH_CAP 512
#define PM_ERROR_CAP 512
#define PM_UNLIMITED UINT32_MAX
#define PM_BIND_CAP 160
#define PM_OPTIONS_TEXT_CAP 30976  // enough for any pm_options_encode

// What a failed rank leads to.
enum pm_mode {
    PM_MODE_OFF = 0,
    PM_MODE_WORLD,
    PM_MODE_RANK,
    PM_MODE_NOTIFY,
};

// "world", ...; "off" for anything else.
const char *pm_mode_name(uint32_t mode);

// Exit codes 0..255 and signals 1..64 that are never restarted.
struct pm_fatal {
    uint64_t exits[4];
    uint64_t signals[2];
};

struct pm_options {
    uint32_t mode;  // enum pm_mode
    uint32_t max_restarts;
    uint64_t restart_window_ms;  // 0: the whole step
    uint64_t min_uptime_ms;      // 0: off
    uint64_t backoff_ms;
    uint64_t backoff_max_ms;
    struct pm_fatal fatal;
    uint64_t grace_ms;
    uint32_t spares;             // the last nodes of the step wait
    uint32_t shrink;             // 1: where spares are too few the world goes on with fewer nodes
    uint32_t min_nodes;          // that it keeps at least
    uint32_t relaunch;           // how many times the step may be launched again on other nodes of the job
    uint32_t max_node_losses;    // PM_UNLIMITED: as long as spares last
    uint64_t node_loss_window_ms;  // 0: the whole step
    uint32_t blame;  // failures of a node's ranks after which it is swapped; 0: never
    char health[PM_SITE_PATH_CAP];  // absolute path, "" = none
    uint64_t health_timeout_ms;
    uint64_t node_timeout_ms;
    uint64_t orphan_timeout_ms;
    uint64_t start_timeout_ms;
    uint64_t join_window_ms;
    uint32_t port_min;  // 0: any port
    uint32_t port_max;
    uint32_t fanout;  // --pm-fanout, 2..1024, default 32
    uint32_t verbose;
    char log[PM_PATH_CAP];        // "" = none; %j and %s are expanded by the coordinator
    char log_nodes[PM_PATH_CAP];  // "" = none
    char bind[PM_BIND_CAP];         // for pm_bind_options_read(), which has taken it
    char bind_report[PM_PATH_CAP];  // "" = none, "-" = srun's stderr; %j and %s as in `log`
    // The site's, from plugstack.conf only
    char on_node_loss[PM_SITE_PATH_CAP];  // "" = none
    char fence[PM_SITE_PATH_CAP];         // "" = none
    uint32_t fence_required;              // 1: a node that cannot be fenced stops the step
    uint64_t fence_timeout_ms;
};

struct pm_option_spec {
    const char *name;  // without "--pm-": "max-restarts"; "supervise" for --pm-supervise
    const char *arginfo;
    const char *help;
    const char *default_text;
    uint64_t min;
    uint64_t max;
    bool arg_optional;
    // Parses `text` into *o; 0, or -EINVAL with a sentence in error (PM_ERROR_CAP bytes).
    int (*parse)(const struct pm_option_spec *spec, const char *text, struct pm_options *o,
                 char *error);
    bool site;  // in plugstack.conf only: no user can say it
};

// The table, ended by an entry whose name is NULL.
extern const struct pm_option_spec pm_option_specs[];

void pm_options_default(struct pm_options *o);
// Can a rank come to another node, or get another number? Else it is Slurm's task as long as the step lives.
static inline bool pm_options_ranks_move(const struct pm_options *o)
{
    return o->spares > 0 || o->shrink > 0;
}
// Does it go on after a lost node: elsewhere, on fewer nodes, or launched again?
static inline bool pm_options_outlives_nodes(const struct pm_options *o)
{
    return pm_options_ranks_move(o) || o->relaunch > 0;
}
// NULL if there is no such option.
const struct pm_option_spec *pm_option_find(const char *name, size_t len);
// Sets one option. `source` is put before the value in the sentence ("--pm-grace=5x",
// "SLURM_PM_GRACE", "plugstack.conf: grace"). Unknown name or bad value: -EINVAL and a sentence.
int pm_options_set(struct pm_options *o, const char *source, const char *name, const char *text,
                   char *error);
// Contradictions between options: spares where nothing ever starts again, ...
int pm_options_check(const struct pm_options *o, char *error);
// Options that are of no use beside the others, where the user said them: `said` gives what he wrote, NULL if he did not.
// 0, or -EINVAL with a sentence.
int pm_options_check_said(const struct pm_options *o, const char *(*said)(const char *name), char *error);
// One line of text "max-restarts=3 grace=5000ms ..." that pm_options_decode reads back exactly;
// for SLURM_PM_STEP_CONF and agents. 0 or -E2BIG.
int pm_options_encode(const struct pm_options *o, char *buf, size_t cap);
int pm_options_decode(struct pm_options *o, const char *text, char *error);

// --- a site's bounds: options_bounds.c ----------------------------------------------------------

// "NAME:min=VALUE" or "NAME:max=VALUE" in plugstack.conf: what users may ask for. Under a
// max of a budget (max-restarts:max=N) without a window nobody may ask for one, as N comes back with each; under
// one with a window only for one that is as long or longer.
struct pm_option_bound {
    const struct pm_option_spec *spec;
    const struct pm_bound_value *value;  // where it is in struct pm_options
    bool is_max;
    uint64_t limit;      // a number, or ms
    uint64_t window_ms;  // of a budget N/DURATION; 0: none
    const char *text;    // the limit as it is written; borrowed from pm_bound_parse()'s argument
};

// Is this argument of plugstack.conf a bound? (It may still be a bad one.)
bool pm_bound_is(const char *arg);
// 0, or -EINVAL with a sentence.
int pm_bound_parse(struct pm_option_bound *ret, const char *arg, char *error);
// Is o's value, written as `text` (NULL: it is a default), within the bound?
bool pm_bound_allows(const struct pm_option_bound *b, const struct pm_options *o, const char *text);
// Moves o's value into the bound.
void pm_bound_clamp(const struct pm_option_bound *b, struct pm_options *o);
// "this site allows at most 10 (max-restarts:max= in plugstack.conf)". Returns buf.
char *pm_bound_sentence(const struct pm_option_bound *b, char *buf, size_t cap);

// "12m04s", "38 ms", "1.5 s": for sentences.
char *pm_duration_format(uint64_t ms, char *buf, size_t cap);

#endif
