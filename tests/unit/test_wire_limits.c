// SPDX-License-Identifier: Apache-2.0
//
// The last value that is taken and the first that is not, for what the other tests of wire/ do not
// reach: lengths, names of values, options, and hellos that only a holder of the key could send.
#include <criterion/criterion.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/buf.h"
#include "pmix_server/wire/hostlist.h"
#include "pmix_server/wire/nspace.h"
#include "pmix_server/wire/options.h"
#include "pmix_server/wire/secure.h"
#include "pmix_server/wire/set.h"
#include "pmix_server/wire/shim_proto.h"

TestSuite(wire_limits, .timeout = 10);

// --- buf, set, names ---------------------------------------------------------------------------------

Test(wire_limits, nothing_is_written_as_nothing)
{
    struct pm_writer w = {0};
    pm_write_raw(&w, NULL, 0);
    pm_write_raw(&w, NULL, 0);
    cr_assert(w.error == 0 && w.len == 0);
    pm_writer_done(&w);
}

Test(wire_limits, bytes_that_no_length_can_tell_are_refused)
{
    struct pm_writer w = {0};
    pm_write_bytes(&w, "x", (size_t)UINT32_MAX + 1);
    cr_assert(w.error == -EOVERFLOW && w.len == 0);
    pm_writer_done(&w);
}

Test(wire_limits, a_count_after_an_error_is_none)
{
    struct pm_reader r = pm_reader_of("\x03xyz", 4);
    r.error = -EBADMSG;
    cr_assert_eq(pm_read_count(&r, 10, 1), 0);
    r = pm_reader_of("\x03", 1);
    cr_assert_eq(pm_read_count(&r, 3, 0), 3, "items without a size");
}

Test(wire_limits, lack_of_memory_is_told_from_a_bad_message)
{
    struct pm_reader r = pm_reader_of("\x01\x02", 2);
    pm_reader_no_memory(&r);
    cr_assert_eq(pm_reader_end(&r), -ENOMEM);
    (void)pm_read_u32(&r);
    cr_assert_eq(pm_reader_end(&r), -ENOMEM, "also when it is read on");
}

Test(wire_limits, a_set_formats_into_no_room)
{
    struct pm_set s = {0};
    char untouched = 'x';
    cr_assert_eq(pm_set_add(&s, 3), 0);
    pm_set_format(&s, &untouched, 0);
    cr_assert_eq(untouched, 'x');
    pm_set_done(&s);
}

Test(wire_limits, every_message_has_a_name)
{
    for (uint32_t msg = 0; msg < PM_SHIM_MAX; msg++)
        cr_expect(pm_shim_msg_name(msg)[0] && strcmp(pm_shim_msg_name(msg), "unknown") != 0);
    cr_expect_str_eq(pm_shim_msg_name(PM_SHIM_MAX), "unknown");
    cr_expect_str_eq(pm_mode_name(PM_MODE_NOTIFY + 1), "off");
}

Test(wire_limits, a_host_list_that_is_none_can_be_freed)
{
    pm_hostlist_free(NULL, 0);
    pm_hostlist_free(NULL, 3);
}

// --- namespaces ---------------------------------------------------------------------------------------

static struct pm_set ranks;

static struct pm_nspace_info good_nspace(void)
{
    pm_set_clear(&ranks);
    cr_assert_eq(pm_set_add(&ranks, 0), 0);
    return (struct pm_nspace_info){.name = "pm.1.0.0",
                                   .nnodes = 1,
                                   .nranks = 1,
                                   .nodelist = (char *)(uintptr_t)"n1",
                                   .ranks_of_node = &ranks};
}

static void nspace_is_refused(const struct pm_nspace_info *info, const char *what)
{
    cr_expect_eq(pm_nspace_info_check(info), -EINVAL, "%s was taken", what);
}

Test(wire_limits, namespaces_out_of_bounds_are_refused)
{
    struct pm_nspace_info info = good_nspace();
    cr_assert_eq(pm_nspace_info_check(&info), 0);
    memset(info.name, 'x', sizeof(info.name));
    nspace_is_refused(&info, "a name without an end");
    info = good_nspace();
    info.nnodes = 0;
    nspace_is_refused(&info, "no node");
    info.nnodes = PM_NSPACE_NODES_MAX + 1;
    nspace_is_refused(&info, "too many nodes");
    info = good_nspace();
    info.nranks = 0;
    nspace_is_refused(&info, "no rank");
    info.nranks = PM_NSPACE_RANKS_MAX + 1;
    nspace_is_refused(&info, "too many ranks");
    info = good_nspace();
    info.nodelist = NULL;
    nspace_is_refused(&info, "no node list");
    pm_set_done(&ranks);
}

// --- options --------------------------------------------------------------------------------------------

Test(wire_limits, options_take_what_they_say_and_no_more)
{
    static const struct {
        const char *name, *text;
        bool good;
    } cases[] = {
        {"supervise", NULL, true},      {"supervise", "", true},        {"verbose", NULL, true},
        {"verbose", "", true},          {"verbose", "3", false},        {"fanout", "2x", false},
        {"fanout", "1", false},         {"fanout", "1024", true},       {"fanout", "1025", false},
        {"fanout", NULL, false},        {"node-timeout", "999ms", false}, {"node-timeout", "1s", true},
        {"node-timeout", "10m", true},  {"node-timeout", "601s", false}, {"grace", "5sx", false},
        {"grace", "99999999999999999999s", false},
        {"fatal-exit", "SIG0", false},  {"fatal-exit", "SIG64", true},  {"fatal-exit", "SIG65", false},
        {"fatal-exit", "SIG9x", false}, {"fatal-exit", "5-", false},    {"fatal-exit", "5-4", false},
        {"fatal-exit", "0", false},     {"fatal-exit", "256", false},   {"port-range", "5", false},
        {"port-range", "5-", false},    {"port-range", "6-5", false},   {"port-range", "0-5", false},
        {"port-range", "", false},      {"port-range", "1-65535", true}, {"port-range", "1-65535x", false},
        {"max-restarts", "1/8760h", true}, {"max-restarts", "1/8761h", false},
        {"max-restarts", "1/x", false}, {"backoff", "1s:25h", false},   {"backoff", "25h", false},
        {"backoff", "2s:1s", false},    {"backoff", "1s:x", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        static struct pm_options o;
        char error[PM_ERROR_CAP] = "";
        pm_options_default(&o);
        int rc = pm_options_set(&o, "test", cases[i].name, cases[i].text, error);
        cr_expect_eq(rc == 0, cases[i].good, "%s=%s: %s", cases[i].name, cases[i].text, error);
        cr_expect(rc == 0 || error[0]);
    }
}

Test(wire_limits, a_value_longer_than_any_is_refused)
{
    static char text[2 * PM_PATH_CAP] = "log=";
    static struct pm_options o;
    char error[PM_ERROR_CAP] = "";
    memset(text + 4, 'x', PM_PATH_CAP - 1);
    cr_assert_eq(pm_options_decode(&o, text, error), 0, "%s", error);
    memset(text + 4, 'x', PM_PATH_CAP);
    cr_assert_lt(pm_options_decode(&o, text, error), 0);
}

// --- the handshake ---------------------------------------------------------------------------------------

enum { MAGIC_AT = 0, PROTOCOL_AT = 8, ROLE_AT = 12, BUILD_AT = 60, MAC_AT = PM_SECURE_HELLO_LEN - 32 };

static const uint8_t key[PM_KEY_LEN] = {1, 2, 3};
static const struct pm_secure_config dialer = {
    .key = key, .version = "1.0", .launch = 7, .node = 3, .dialer = true, .expected = 5};
static const struct pm_secure_config acceptor = {
    .key = key, .version = "1.0", .launch = 7, .node = 5};

// As one who has the key, but follows another protocol.
static void sign(uint8_t *hello)
{
    uint8_t mac_key[32];
    crypto_kdf_derive_from_key(mac_key, sizeof(mac_key), 1, "pmsuperv", key);
    crypto_generichash(hello + MAC_AT, 32, hello, MAC_AT, mac_key, sizeof(mac_key));
}

static enum pm_secure_result acceptor_says(const uint8_t *hello)
{
    struct pm_secure *s;
    struct pm_writer out = {0};
    size_t used;
    cr_assert_eq(pm_secure_new(&acceptor, &s), 0);
    enum pm_secure_result result = pm_secure_handshake(s, hello, PM_SECURE_HELLO_LEN, &used, &out);
    if (result > PM_SECURE_MORE)
        cr_expect_eq(pm_secure_handshake(s, hello, PM_SECURE_HELLO_LEN, &used, &out), PM_SECURE_KEY,
                     "a dead handshake goes on");
    pm_writer_done(&out);
    pm_secure_free(s);
    return result;
}

Test(wire_limits, a_hello_of_another_protocol_is_refused)
{
    struct pm_secure *s;
    struct pm_writer out = {0};
    cr_assert_eq(pm_secure_new(&dialer, &s), 0);
    pm_secure_begin(s, &out);
    sign(out.data);
    cr_expect_eq(acceptor_says(out.data), PM_SECURE_MORE, "signed anew it is the same");
    static const struct {
        size_t at;
        uint8_t value;
        enum pm_secure_result result;
    } changes[] = {
        {MAGIC_AT, 'X', PM_SECURE_KEY},     {ROLE_AT, 2, PM_SECURE_KEY},
        {BUILD_AT + 31, 1, PM_SECURE_KEY},  {PROTOCOL_AT + 3, 99, PM_SECURE_VERSION},
        {BUILD_AT, '2', PM_SECURE_VERSION},
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t was = out.data[changes[i].at];
        out.data[changes[i].at] = changes[i].value;
        sign(out.data);
        cr_expect_eq(acceptor_says(out.data), changes[i].result, "byte %zu", changes[i].at);
        out.data[changes[i].at] = was;
    }
    pm_writer_done(&out);
    pm_secure_free(s);
}

Test(wire_limits, ends_of_the_secure_channel)
{
    struct pm_secure *s;
    struct pm_secure_config config = acceptor;
    config.version = "a build whose name is longer than any that fits";
    cr_expect_eq(pm_secure_new(&config, &s), -EINVAL);
    cr_expect_null(pm_secure_free(NULL));
    cr_expect_eq(pm_secure_frame_size((const uint8_t *)"\0\0\0", 3), 0);
    cr_assert_eq(pm_secure_new(&acceptor, &s), 0);
    struct pm_secure_frame frame;
    uint8_t bytes[8] = {0, 0, 0, 30};
    cr_expect_eq(pm_secure_open(s, bytes, 8, &frame), PM_SECURE_CORRUPT, "before the handshake");
    struct pm_writer out = {.error = -ENOMEM};
    pm_secure_seal(s, bytes, (size_t)PM_FRAME_MAX + 1, &out);
    cr_expect_eq(out.error, -ENOMEM, "the first error stays");
    out.error = 0;
    pm_secure_seal(s, bytes, (size_t)PM_FRAME_MAX + 1, &out);
    cr_expect_eq(out.error, -EMSGSIZE);
    pm_secure_free(s);
}

Test(wire_limits, derived_ports_stay_in_their_range)
{
    for (unsigned i = 0; i < PM_DERIVED_PORTS; i++) {
        uint16_t any = pm_secure_derived_port(key, 3, i, 0, 0);
        uint16_t ranged = pm_secure_derived_port(key, 3, i, 40000, 40009);
        cr_expect(any >= 20000 && any <= 32767 && ranged >= 40000 && ranged <= 40009);
        cr_expect_eq(pm_secure_derived_port(key, 3, i, 40000, 40000), 40000);
    }
}
