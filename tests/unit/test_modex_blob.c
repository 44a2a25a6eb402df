// SPDX-License-Identifier: Apache-2.0
//
// What libpmix 4.2.2 gave its host in fences of real ranks is read to the last byte, written again as
// it was, and cut down to a part that means what it should; anything else is refused and nothing is
// read past its end.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/pmix/modex_blob.h"

TestSuite(modex_blob, .timeout = 60);

// Ranks 0 and 1 have put a (3 bytes) and bb (2 bytes): names in a map.
static const char mapped[] =
    "0232020302020404610006626200021102010200021b03ff8e990201021b02df44021102000200021b03ee57c702"
    "01021b02ce59";
// Rank 0 has put c and another a: names with each value. Rank 1 comes first, as it arrived first.
static const char named[] =
    "0234020102140201020461001b03ff8e9902066262001b02df44021a0200020461001b02ee5702066262001b02ce"
    "59020463001b01fb";
// Nobody has put anything.
static const char empty[] = "02020201";
// Rank 0 has put a value of each type.
static const char types[] =
    "029b020201029602"
    "0200020a626f6f6c000101020a627974650002c8020873747200030c68656c6c6f00020a73697a650004ac0202"
    "0870696400050eb9600208696e74000609020669380007ff02086931360008d70402086933320009e0c5080208"
    "693634000affffffffffffffffff020a75696e74000b0e02067538000cc80208753136000dffff030208753332"
    "000effffffff0f0208753634000fffffffffffffffffff020c666c6f6174001012312e35303030303000020e64"
    "6f75626c65001112322e323530303030000206747600120a0c020a74696d65001363020e737461747573001431"
    "020a72616e6b002803020a70726f63001614706d2e37372e332e3000000206626f001b056162630064020c6f6e"
    "6c79300003047100";

struct bytes {
    uint8_t *data;
    size_t len;
};

static struct bytes of_hex(const char *hex)
{
    struct bytes ret = {.len = strlen(hex) / 2};
    ret.data = malloc(ret.len);  // exactly: a sanitizer sees what is read past it
    cr_assert_not_null(ret.data);
    for (size_t i = 0; i < ret.len; i++) {
        const char digits[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        ret.data[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return ret;
}

static struct pm_modex_blob parse(const struct bytes *bytes)
{
    struct pm_modex_blob blob = {0};
    cr_assert_eq(pm_modex_blob_parse(&blob, bytes->data, bytes->len), 0);
    cr_assert(pm_modex_blob_is(&blob, bytes->data, bytes->len));
    return blob;
}

// Keeps what `kept` says, '1' or '0' per kval, and compares.
static void check_cut(const char *hex, const char *kept, const char *expected)
{
    struct bytes bytes = of_hex(hex), wanted = of_hex(expected);
    struct pm_modex_blob blob = parse(&bytes);
    cr_assert_eq(blob.n_kvals, strlen(kept));
    for (size_t i = 0; i < blob.n_kvals; i++)
        blob.kvals[i].keep = kept[i] == '1';
    struct pm_writer w = {0};
    pm_modex_blob_write(&blob, &w);
    struct pm_reader r = pm_reader_of(w.data, w.len);
    size_t len;
    const uint8_t *data = pm_read_bytes(&r, w.len, &len);
    cr_assert_eq(pm_reader_end(&r), 0);
    cr_assert_eq(len, wanted.len, "%s %s: %zu bytes", hex, kept, len);
    cr_assert_arr_eq(data, wanted.data, len);
    pm_writer_done(&w);
    pm_modex_blob_done(&blob);
    free(bytes.data);
    free(wanted.data);
}

Test(modex_blob, what_libpmix_made_is_read_and_written_again)
{
    static const struct {
        const char *hex;
        size_t ranks, kvals;
        bool has_map;
    } known[] = {
        {mapped, 2, 4, true}, {named, 2, 5, false}, {empty, 0, 0, false}, {types, 1, 24, false}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct bytes bytes = of_hex(known[i].hex);
        struct pm_modex_blob blob = parse(&bytes);
        cr_assert_eq(blob.n_ranks, known[i].ranks);
        cr_assert_eq(blob.n_kvals, known[i].kvals);
        cr_assert_eq(blob.has_map, known[i].has_map);
        pm_modex_blob_done(&blob);
        free(bytes.data);
    }
}

Test(modex_blob, a_kval_is_found_with_its_rank_name_and_value)
{
    struct bytes bytes = of_hex(mapped);
    struct pm_modex_blob blob = parse(&bytes);
    const struct pm_modex_kval *kval = &blob.kvals[1];
    cr_assert_eq(kval->rank, 1);
    cr_assert_str_eq((const char *)kval->name.data, "bb");
    cr_assert_eq(kval->name.len, 3);
    static const uint8_t value[] = {27, 2, 0xdf, 0x44};  // PMIX_BYTE_OBJECT, two bytes
    cr_assert_eq(kval->value.len, sizeof(value));
    cr_assert_arr_eq(kval->value.data, value, sizeof(value));
    pm_modex_blob_done(&blob);
    free(bytes.data);
}

Test(modex_blob, a_part_is_what_libpmix_would_write_for_it)
{
    check_cut(empty, "", empty);
    check_cut(mapped, "1111", mapped);
    check_cut(named, "11111", named);
    check_cut(mapped, "0000", empty);
    check_cut(named, "00000", empty);
    // Rank 1's bb: the map has one name, rank 0 is left out.
    check_cut(mapped, "0100", "0214020302010206626200" "020902010200021b02df44");
    // Both ranks' bb share the one name.
    check_cut(mapped, "0101",
              "021f020302010206626200" "020902010200021b02df44" "020902000200021b02ce59");
    // Rank 0's c.
    check_cut(named, "00001", "020d0201" "0209020002" "0463001b01fb");
}

Test(modex_blob, everything_else_is_refused)
{
    static const char *const bad[] = {
        "",
        "02",
        "0202020102020201",      // two blobs
        "0203020100",            // a byte too many
        "02020200",              // not collected
        "02020205",              // an unknown flag
        "0182020201",            // not the count 1
        "0282000201",            // a number that is longer than it must be
        "020502030200" "00",     // a map of nothing
        "020a020302010204610002" "00",  // a rank that is cut off
        "020b02010207020002046100",     // no value
        "020e0201020a020002046100" "2801" "0202",  // trailing bytes in a rank
        "020d020102090200020461001b0500",          // a value longer than the rank
        "020d020102090200020461002701fb",          // an array: a type that is not known
        "020d020102090200020400001b01fb",          // a name with a NUL inside
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bytes bytes = of_hex(bad[i]);
        struct pm_modex_blob blob = {0};
        cr_assert_eq(pm_modex_blob_parse(&blob, bytes.data, bytes.len), -EBADMSG, "%s", bad[i]);
        cr_assert_null(blob.kvals);
        free(bytes.data);
    }
}

// A changed blob may well be another good one; then it is written as it is.
static void check_any(const uint8_t *data, size_t len)
{
    struct bytes bytes = {.data = malloc(len + !len), .len = len};
    cr_assert_not_null(bytes.data);
    memcpy(bytes.data, data, len);
    struct pm_modex_blob blob = {0};
    if (pm_modex_blob_parse(&blob, bytes.data, len) == 0) {
        bool same = pm_modex_blob_is(&blob, bytes.data, len);
        struct pm_writer w = {0};
        pm_modex_blob_write(&blob, &w);
        cr_assert_eq(w.error, 0);
        cr_assert_eq(same, w.len == len + 4 && memcmp(w.data + 4, bytes.data, len) == 0);
        pm_writer_done(&w);
    }
    pm_modex_blob_done(&blob);
    free(bytes.data);
}

Test(modex_blob, changed_and_cut_blobs_do_no_harm)
{
    static const char *const known[] = {mapped, named, empty, types};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct bytes bytes = of_hex(known[i]);
        for (size_t at = 0; at < bytes.len; at++) {
            check_any(bytes.data, at);
            uint8_t old = bytes.data[at];
            for (unsigned v = 0; v < 256; v++) {
                bytes.data[at] = (uint8_t)v;
                check_any(bytes.data, bytes.len);
            }
            bytes.data[at] = old;
        }
        free(bytes.data);
    }
}
