// SPDX-License-Identifier: Apache-2.0
//
// Options: every row of the table has a default that parses, a value at each limit is taken and one
// beyond it refused with a sentence that names the option, and the one-line text reads back exactly.
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pmix_server/wire/options.h"

static struct pm_options o;
static char error[PM_ERROR_CAP];

static void setup(void)
{
    pm_options_default(&o);
    error[0] = '\0';
}

TestSuite(options, .init = setup, .timeout = 20);

static int set(const char *name, const char *text)
{
    char source[64];
    snprintf(source, sizeof source, "--pm-%s", name);
    return pm_options_set(&o, source, name, text, error);
}

static void takes(const char *name, const char *text)
{
    cr_expect(set(name, text) == 0, "%s=%s refused: %s", name, text ? text : "(none)", error);
}

static void refuses(const char *name, const char *text)
{
    struct pm_options before = o;
    error[0] = '\0';
    cr_expect(set(name, text) < 0, "%s=%s was taken", name, text ? text : "(none)");
    cr_expect(strstr(error, name) != NULL, "the sentence does not name %s: %s", name, error);
    cr_expect(memcmp(&before, &o, sizeof o) == 0, "%s=%s was refused but changed something", name, text);
}

Test(options, defaults_are_those_of_the_table)
{
    cr_expect(o.mode == PM_MODE_OFF);
    cr_expect(o.max_restarts == 3 && o.restart_window_ms == 0);
    cr_expect(o.min_uptime_ms == 5000 && o.backoff_ms == 0 && o.grace_ms == 5000);
    cr_expect(o.fatal.exits[93 / 64] == UINT64_C(1) << (93 % 64));
    cr_expect(o.node_timeout_ms == 10000 && o.orphan_timeout_ms == 60000);
    cr_expect(o.start_timeout_ms == 120000 && o.join_window_ms == 15000);
    cr_expect(o.port_min == 0 && o.fanout == 32 && o.verbose == 0);
    cr_expect(o.log[0] == '\0' && o.log_nodes[0] == '\0');
    cr_expect(o.spares == 0 && o.max_node_losses == PM_UNLIMITED && o.node_loss_window_ms == 0);
    cr_expect(o.blame == 0);
    cr_expect(o.health[0] == '\0' && o.health_timeout_ms == 30000);
    cr_expect(pm_options_check(&o, error) == 0, "%s", error);
}

Test(options, every_row_is_complete)
{
    for (const struct pm_option_spec *s = pm_option_specs; s->name; s++) {
        cr_expect(s->arginfo && s->help && s->default_text && s->parse, "%s", s->name);
        cr_expect(pm_option_find(s->name, strlen(s->name)) == s);
        cr_expect(s->parse(s, s->default_text, &o, error) == 0, "%s: %s", s->name, error);
        if (!s->arg_optional)
            refuses(s->name, NULL);
    }
    cr_expect(pm_option_find("grac", 4) == NULL);
    refuses("grace-period", "1");
}

#define TEN_WORDS "auto,auto,auto,auto,auto,auto,auto,auto,auto,auto,"
#define LONG_BIND TEN_WORDS TEN_WORDS TEN_WORDS TEN_WORDS "auto"

static const struct {
    const char *name, *good[8], *bad[12];
} values[] = {
    {"supervise", {"world", "rank", "notify", "off", ""}, {"yes", "World", "world ", "rank,world"}},
    {"max-restarts", {"0", "3", "1000000", "3/60s", "0/500ms"},
     {"", "-1", "+1", "1000001", "3/", "3/x", "3 /1s", "3/99999h", "99999999999999999999"}},
    {"min-uptime", {"0", "500ms", "5s", "2m", "24h", "86400"},
     {"", "86401", "25h", "5 s", "5S", "1d", "1.5s", "-1s", "0x10"}},
    {"backoff", {"0", "1s:1s", "1s:5m", "10m"}, {"", "1s:", ":1s", "2s:1s", "1s:2s:3s", "25h", "1s:25h"}},
    {"fatal-exit", {"93", "1-255", "1,2,3", "SIGSEGV", "segv,SIG34,64", "none", "SIG64"},
     {"", "0", "256", "5-3", "1,", ",1", "SIG0", "SIG65", "SIGNOPE", "1 2"}},
    {"grace", {"0", "1h", "5s"}, {"", "3601s"}},
    {"spares", {"0", "1", "65536"}, {"", "-1", "65537", "2/1h", "all"}},
    {"shrink", {"", "0", "1"}, {"2", "yes", "-1"}},
    {"min-nodes", {"1", "7", "65536"}, {"", "0", "-1", "65537", "50%"}},
    {"relaunch", {"0", "1", "100"}, {"", "-1", "101", "3/1h", "yes"}},
    {"max-node-losses", {"0", "2", "65536", "3/1h", "unlimited"}, {"", "-1", "65537", "3/", "3/x", "Unlimited"}},
    {"blame", {"0", "1", "1000000"}, {"", "-1", "1000001", "2/1h"}},
    {"health", {"", "/opt/site/health check"}, {"health", "./health", "/x\n"}},
    {"health-timeout", {"1s", "1h"}, {"0", "999ms", "2h", ""}},
    {"node-timeout", {"1s", "10m", "1000ms"}, {"0", "999ms", "601s"}},
    {"orphan-timeout", {"0", "168h"}, {"169h"}},
    {"start-timeout", {"1s", "24h"}, {"0", "25h"}},
    {"join-window", {"1s", "24h"}, {"0"}},
    {"port-range", {"1-65535", "5000-5000", "any"}, {"", "0-1", "2-1", "1-65536", "1", "1-", "-1", "1-2-3"}},
    {"fanout", {"2", "1024"}, {"1", "1025", ""}},
    {"bind", {"auto", "none", "numa,gpu-order", "cores,strict,smt=1,cpus=4", "memory=bind,keep-cpus"},
     {"", "gpu", "auto,", ",auto", "auto numa", "cpus=0", "cpus=", "memory=", "keep-gpus", LONG_BIND}},
    {"bind-report", {"", "-", "/tmp/where.%j.%s"}, {"a\nb"}},
    {"verbose", {"0", "1", ""}, {"2", "yes"}},
    {"log", {"", "/tmp/x y.%j.%s", "a"}, {"a\nb", "a\x7f"}},
    {"log-nodes", {"", "/tmp/logs"}, {"\t"}},
    {"on-node-loss", {"", "/opt/site/lost node"}, {"lost", "./lost", "/x\n"}},
    {"fence", {"", "/opt/site/fence"}, {"fence", "~/fence"}},
    {"fence-required", {"0", "1", ""}, {"2", "yes"}},
    {"fence-timeout", {"1s", "1h"}, {"0", "999ms", "2h", ""}},
};

Test(options, values_at_the_limits_are_taken_and_beyond_refused)
{
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        for (size_t k = 0; values[i].good[k]; k++)
            takes(values[i].name, values[i].good[k]);
        for (size_t k = 0; values[i].bad[k]; k++)
            refuses(values[i].name, values[i].bad[k]);
    }
}

Test(options, a_wrong_word_of_bind_is_named_with_all_there_are)
{
    refuses("bind", "auto,nmua,strict");
    cr_expect(strstr(error, "--pm-bind=auto,nmua,strict: 'nmua' is none of auto, cores, numa, none") == error, "%s", error);
    cr_expect(strstr(error, "mixed-kinds, keep-cpus, keep-memory") != NULL, "the sentence is cut: %s", error);
}

Test(options, a_bare_bind_report_means_stderr)
{
    takes("bind-report", NULL);
    cr_expect_str_eq(o.bind_report, "-");
}

Test(options, sentence_is_readable_and_harmless)
{
    char text[5000];
    memset(text, 'x', sizeof text);
    text[10] = '\033';
    text[sizeof text - 1] = '\0';
    refuses("grace", text);
    cr_expect(strchr(error, '\033') == NULL && strlen(error) < 250, "%s", error);
    refuses("grace", "5x");
    cr_expect_str_eq(error, "--pm-grace=5x: takes a duration from 0s to 1h (500ms, 5s, 2m, 1h; a bare "
                            "number is seconds)");
    pm_options_set(&o, "plugstack.conf: grase", "grase", "5", error);
    cr_expect_str_eq(error, "plugstack.conf: grase: there is no option grase");
}

Test(options, a_path_of_the_longest_length_is_taken_and_one_more_refused)
{
    char text[PM_PATH_CAP + 1];
    memset(text, 'p', sizeof text);
    text[PM_PATH_CAP] = '\0';
    refuses("log", text);
    text[PM_PATH_CAP - 1] = '\0';
    takes("log", text);
}

Test(options, contradictions_are_refused)
{
    takes("log", "/x");
    takes("log-nodes", "/x");
    cr_expect(pm_options_check(&o, error) < 0);
    takes("log-nodes", "/y");
    cr_expect(pm_options_check(&o, error) == 0);
    takes("max-restarts", "3/2s");
    cr_expect(pm_options_check(&o, error) < 0);
    takes("min-uptime", "0");
    cr_expect(pm_options_check(&o, error) == 0);
}

Test(options, spares_need_a_world_that_starts_again)
{
    takes("supervise", "notify");
    cr_expect(pm_options_check(&o, error) == 0);
    takes("spares", "1");
    cr_expect(pm_options_check(&o, error) < 0);
    cr_expect(strstr(error, "--pm-spares=1 with --pm-supervise=notify"), "%s", error);
    takes("supervise", "rank");
    cr_expect(pm_options_check(&o, error) == 0);
}

Test(options, a_world_that_shrinks_has_to_start_again)
{
    takes("supervise", "notify");
    takes("shrink", NULL);
    cr_expect(pm_options_check(&o, error) < 0);
    cr_expect(strstr(error, "--pm-shrink with --pm-supervise=notify"), "%s", error);
    takes("supervise", "rank");
    cr_expect(pm_options_check(&o, error) == 0);
    takes("min-nodes", "3");
    takes("relaunch", "2");
    cr_expect(pm_options_check(&o, error) == 0);
    takes("supervise", "notify");
    takes("shrink", "0");
    cr_expect(pm_options_check(&o, error) < 0);
    cr_expect(strstr(error, "--pm-relaunch=2 with --pm-supervise=notify"), "%s", error);
    takes("shrink", "1");
    cr_expect(pm_options_ranks_move(&o) && pm_options_outlives_nodes(&o));
    takes("shrink", "0");
    cr_expect(!pm_options_ranks_move(&o));
    cr_expect(pm_options_outlives_nodes(&o)); // by another launch
    takes("relaunch", "0");
    cr_expect(!pm_options_outlives_nodes(&o));
}

static const char *said_name;

static const char *said(const char *name) { return said_name && strcmp(name, said_name) == 0 ? "7" : NULL; }

static void is_useless(const char *name, const char *sentence)
{
    said_name = NULL; // a site's default
    cr_expect(pm_options_check(&o, error) == 0 && pm_options_check_said(&o, said, error) == 0, "%s", error);
    said_name = name;
    cr_expect(pm_options_check_said(&o, said, error) < 0, "%s", name);
    cr_expect_str_eq(error, sentence);
}

Test(options, what_is_of_no_use_is_refused_if_the_user_said_it)
{
    takes("min-nodes", "7");
    is_useless("min-nodes", "--pm-min-nodes=7 without --pm-shrink: the world never gets smaller there; add --pm-shrink, or "
                            "leave it out");
    takes("shrink", NULL);
    cr_expect(pm_options_check_said(&o, said, error) == 0);
    takes("health-timeout", "7");
    is_useless("health-timeout", "--pm-health-timeout=7 without --pm-health: nothing is run that it could end; add "
                                 "--pm-health, or leave it out");
    takes("health", "/bin/true");
    cr_expect(pm_options_check_said(&o, said, error) == 0);
    takes("shrink", "0");
    takes("supervise", "notify");
    takes("blame", "7");
    is_useless("blame", "--pm-blame=7 with --pm-supervise=notify: nothing starts again there, so no node is swapped; take "
                        "another mode, or leave it out");
    takes("blame", "0"); // which is no to what a site has set
    cr_expect(pm_options_check_said(&o, said, error) == 0);
    takes("blame", "7");
    takes("supervise", "rank");
    cr_expect(pm_options_check_said(&o, said, error) == 0);
}

Test(options, fence_required_needs_a_fence)
{
    takes("fence-required", NULL);
    cr_expect(pm_options_check(&o, error) < 0);
    cr_expect(strstr(error, "fence=PATH") != NULL, "%s", error);
    takes("fence", "/opt/site/fence");
    cr_expect(pm_options_check(&o, error) == 0, "%s", error);
}

// The longest texts there are, with every byte of the paths escaped, fit into what carries them.
Test(options, longest_text_fits)
{
    static char text[PM_OPTIONS_TEXT_CAP];
    memset(o.log, ' ', sizeof o.log - 1);
    memset(o.log_nodes, ' ', sizeof o.log_nodes - 1);
    memset(o.bind, 'x', sizeof o.bind - 1);
    memset(o.bind_report, ' ', sizeof o.bind_report - 1);
    memset(o.on_node_loss, ' ', sizeof o.on_node_loss - 1);
    memset(o.fence, ' ', sizeof o.fence - 1);
    memset(&o.fatal, 0xff, sizeof o.fatal);
    cr_expect(pm_options_encode(&o, text, sizeof text) == 0);
}

// --- a site's bounds -----------------------------------------------------------------------------

static bool allows(const char *bound, const char *name, const char *text)
{
    struct pm_option_bound b;
    cr_assert(pm_bound_is(bound));
    cr_assert(pm_bound_parse(&b, bound, error) == 0, "%s", error);
    pm_options_default(&o);
    takes(name, text);
    return pm_bound_allows(&b, &o, text);
}

Test(options, bounds_let_the_limit_pass_and_nothing_beyond)
{
    static const struct {
        const char *bound, *good, *bad;
    } cases[] = {
        {"max-restarts:max=10", "10", "11"},
        {"max-restarts:max=10", "0", "1/1h"},
        {"max-restarts:max=10/1h", "10/1h", "10/59m"},
        {"max-restarts:max=10/1h", "10", "11"},
        {"max-restarts:max=10/1h", "10/2h", "11/2h"},
        {"max-restarts:min=1", "1", "0"},
        {"min-uptime:max=1m", "60s", "61s"},
        {"backoff:max=1m", "60s", "61s"},
        {"backoff:max=1m", "1s", "1s:2m"},
        {"backoff:min=1s", "1s", "999ms"},
        {"grace:max=30s", "30s", "31s"},
        {"node-timeout:min=5s", "5s", "4999ms"},
        {"node-timeout:max=1m", "1m", "61s"},
        {"orphan-timeout:max=2m", "2m", "3m"},
        {"start-timeout:max=5m", "5m", "6m"},
        {"join-window:min=10s", "10s", "9s"},
        {"port-range:min=60001", "60001-60002", "60000-60002"},
        {"port-range:max=61000", "60000-61000", "60000-61001"},
        {"port-range:max=61000", "5-6", "any"},
        {"spares:max=4", "4", "5"},
        {"shrink:max=0", "0", "1"},
        {"min-nodes:min=2", "2", "1"},
        {"relaunch:max=2", "2", "3"},
        {"max-node-losses:max=4", "4", "unlimited"},
        {"max-node-losses:max=4", "0", "1/1h"},
        {"max-node-losses:max=4/1h", "4/1h", "4/59m"},
        {"fanout:max=64", "64", "65"},
        {"verbose:max=0", "0", "1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *bound = cases[i].bound;
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(bound, ":"), bound);
        cr_expect(allows(bound, name, cases[i].good), "%s does not allow %s", bound, cases[i].good);
        cr_expect(!allows(bound, name, cases[i].bad), "%s allows %s", bound, cases[i].bad);
    }
}

// What has an order can be bounded: a new option is not forgotten.
Test(options, every_number_and_duration_has_bounds)
{
    for (const struct pm_option_spec *s = pm_option_specs; s->name; s++) {
        char bound[64];
        struct pm_option_bound b;
        if (s->max == 0 || s->site)
            continue;
        snprintf(bound, sizeof bound, "%s:max=%s", s->name, *s->default_text == 'a' ? "1" : s->default_text);
        cr_expect(pm_bound_parse(&b, bound, error) == 0, "%s", error);
    }
}

Test(options, defaults_are_moved_into_the_bounds)
{
    static const char *const bounds[] = {"max-restarts:max=2", "node-timeout:min=20s", "backoff:max=10s",
                                         "port-range:min=60001", "port-range:max=61000"};
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        struct pm_option_bound b;
        cr_assert(pm_bound_parse(&b, bounds[i], error) == 0, "%s", error);
        cr_expect(!pm_bound_allows(&b, &o, NULL), "%s", bounds[i]);
        pm_bound_clamp(&b, &o);
    }
    cr_expect(o.max_restarts == 2 && o.node_timeout_ms == 20000 && o.backoff_max_ms == 10000);
    cr_expect(o.port_min == 60001 && o.port_max == 61000 && o.grace_ms == 5000);
}

Test(options, bad_bounds_are_refused_with_a_sentence)
{
    static const char *const bad[] = {"grase:max=5s",        "log:max=3",           "supervise:min=rank",
                                      "fence-timeout:max=5s", "grace:max=5x",        "grace:max",
                                      "grace:top=5s",         "grace:",              ":max=5s",
                                      "max-restarts:max=-1",  "backoff:max=1s:2s",   "port-range:max=1-2",
                                      "max-restarts:max=",    "node-timeout:min=0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct pm_option_bound b;
        error[0] = '\0';
        cr_expect(pm_bound_is(bad[i]) && pm_bound_parse(&b, bad[i], error) < 0, "%s was taken", bad[i]);
        cr_expect(strncmp(error, "plugstack.conf: ", 16) == 0, "%s: %s", bad[i], error);
    }
    cr_expect(!pm_bound_is("max-restarts=10") && !pm_bound_is("log=/x:y") && !pm_bound_is("libexec=/a:b"));
}

Test(options, a_bound_says_what_the_site_allows)
{
    struct pm_option_bound b;
    char text[128];
    cr_assert(pm_bound_parse(&b, "max-restarts:max=10", error) == 0);
    cr_expect_str_eq(pm_bound_sentence(&b, text, sizeof text),
                     "this site allows at most 10 (max-restarts:max= in plugstack.conf)");
    cr_assert(pm_bound_parse(&b, "node-timeout:min=5s", error) == 0);
    cr_expect_str_eq(pm_bound_sentence(&b, text, sizeof text),
                     "this site allows at least 5s (node-timeout:min= in plugstack.conf)");
}

static void reads_back(void)
{
    static char text[PM_OPTIONS_TEXT_CAP];
    static struct pm_options back;
    cr_assert(pm_options_encode(&o, text, sizeof text) == 0);
    cr_assert(strchr(text, '\n') == NULL);
    cr_assert(pm_options_decode(&back, text, error) == 0, "%s: %s", text, error);
    cr_expect(strcmp(o.log, back.log) == 0 && strcmp(o.log_nodes, back.log_nodes) == 0);
    cr_expect(strcmp(o.fence, back.fence) == 0 && strcmp(o.on_node_loss, back.on_node_loss) == 0);
    memset(o.log, 0, sizeof o.log);
    memset(o.log_nodes, 0, sizeof o.log_nodes);
    memset(back.log, 0, sizeof back.log);
    memset(back.log_nodes, 0, sizeof back.log_nodes);
    cr_expect(memcmp(&o, &back, sizeof o) == 0, "%s", text);
}

Test(options, text_reads_back_exactly)
{
    reads_back();
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        for (size_t k = 0; values[i].good[k]; k++) {
            pm_options_default(&o);
            takes(values[i].name, values[i].good[k]);
            reads_back();
        }
    }
}

Test(options, text_keeps_any_path)
{
    for (size_t i = 0; i < PM_PATH_CAP - 1; i++)
        o.log[i] = o.log_nodes[i] = " \\s=%a\xc3\xa4"[i % 8];
    reads_back();
    strcpy(o.log, "trailing\\");
    strcpy(o.log_nodes, " ");
    reads_back();
}

Test(options, text_that_does_not_fit_is_an_error)
{
    char text[PM_OPTIONS_TEXT_CAP];
    cr_assert(pm_options_encode(&o, text, sizeof text) == 0);
    size_t len = strlen(text);
    cr_expect(pm_options_encode(&o, text, len + 1) == 0);
    cr_expect(pm_options_encode(&o, text, len) < 0);
    cr_expect(pm_options_encode(&o, text, 0) < 0);
}

Test(options, bad_text_is_refused)
{
    static const char *const bad[] = {"grace", "=5", "nope=1", "grace=5s grace", "log=\\", "log=\\n",
                                      "averyveryveryveryveryverylongname=1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect(pm_options_decode(&o, bad[i], error) < 0, "%s was taken", bad[i]);
    cr_expect(pm_options_decode(&o, "", error) == 0);
}

Test(options, durations_read_well)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {{0, "0 ms"},           {38, "38 ms"},        {999, "999 ms"},      {1000, "1 s"},
                 {1500, "1.5 s"},       {59999, "59.9 s"},    {60000, "1m00s"},     {724000, "12m04s"},
                 {3600000, "1h00m"},    {90061000, "25h01m"}};
    char buf[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_str_eq(pm_duration_format(cases[i].ms, buf, sizeof buf), cases[i].text);
}
