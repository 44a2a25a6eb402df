// SPDX-License-Identifier: Apache-2.0
//
// The reader and the writer: every width reads back, nothing is read past the end, errors stick,
// limits hold at the limit and one beyond it.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pmix_server/wire/buf.h"

TestSuite(buf, .timeout = 20);

static struct pm_writer w;
static struct pm_reader r;

static void read_back(void)
{
    r = pm_reader_of(w.data, w.len);
}

Test(buf, every_type_reads_back)
{
    pm_write_u8(&w, 0xab);
    pm_write_u16(&w, 0xabcd);
    pm_write_u32(&w, 0xdeadbeef);
    pm_write_u64(&w, 0x0123456789abcdefull);
    pm_write_i32(&w, -5);
    pm_write_str(&w, "hello");
    pm_write_str(&w, NULL);
    pm_write_bytes(&w, "\0\1\2", 3);
    pm_write_raw(&w, "xy", 2);
    read_back();
    char text[6], empty[1];
    size_t len;
    cr_assert_eq(pm_read_u8(&r), 0xab);
    cr_assert_eq(pm_read_u16(&r), 0xabcd);
    cr_assert_eq(pm_read_u32(&r), 0xdeadbeef);
    cr_assert_eq(pm_read_u64(&r), 0x0123456789abcdefull);
    cr_assert_eq(pm_read_i32(&r), -5);
    pm_read_str(&r, text, sizeof(text));
    cr_assert_str_eq(text, "hello");
    pm_read_str(&r, empty, sizeof(empty));
    cr_assert_str_eq(empty, "");
    const uint8_t *bytes = pm_read_bytes(&r, 3, &len);
    cr_assert(len == 3 && memcmp(bytes, "\0\1\2", 3) == 0);
    cr_assert_eq(memcmp(pm_read_raw(&r, 2), "xy", 2), 0);
    cr_assert_eq(pm_reader_end(&r), 0);
    pm_writer_done(&w);
}

Test(buf, integers_are_big_endian)
{
    pm_write_u32(&w, 0x01020304);
    cr_assert(w.len == 4 && memcmp(w.data, "\1\2\3\4", 4) == 0);
    pm_writer_done(&w);
}

Test(buf, var_reads_back_at_every_width)
{
    static const uint64_t values[] = {
        0, 1, 127, 128, 16383, 16384, UINT32_MAX, 1ull << 62, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        pm_writer_reset(&w);
        pm_write_var(&w, values[i]);
        cr_assert_eq(w.len, values[i] < 128 ? 1 : values[i] == UINT64_MAX ? 10 : w.len);
        read_back();
        cr_assert_eq(pm_read_var(&r), values[i]);
        cr_assert_eq(pm_reader_end(&r), 0);
    }
    pm_writer_done(&w);
}

Test(buf, var_of_more_than_64_bits_is_an_error)
{
    static const uint8_t tenth_too_big[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                            0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                     0x80, 0x80, 0x80, 0x80, 0x00};
    r = pm_reader_of(tenth_too_big, sizeof(tenth_too_big));
    cr_assert_eq(pm_read_var(&r), 0);
    cr_assert_eq(r.error, -EBADMSG);
    r = pm_reader_of(eleven, sizeof(eleven));
    cr_assert_eq(pm_read_var(&r), 0);
    cr_assert_eq(r.error, -EBADMSG);
}

Test(buf, var_has_one_form_only)
{
    r = pm_reader_of("\x85\x00", 2);
    cr_assert_eq(pm_read_var(&r), 0);
    cr_assert_eq(r.error, -EBADMSG);
    r = pm_reader_of("\x00", 1);
    cr_assert_eq(pm_read_var(&r), 0);
    cr_assert_eq(pm_reader_end(&r), 0);
}

Test(buf, reading_past_the_end_gives_zeros_and_sticks)
{
    r = pm_reader_of("\1\2\3", 3);
    cr_assert_eq(pm_read_u32(&r), 0);
    cr_assert_eq(r.error, -EBADMSG);
    cr_assert_eq(pm_read_u8(&r), 0, "nothing is read after an error");
    cr_assert_null(pm_read_raw(&r, 0));
    cr_assert_eq(pm_reader_end(&r), -EBADMSG);
}

Test(buf, trailing_bytes_are_an_error)
{
    r = pm_reader_of("\1\2", 2);
    cr_assert_eq(pm_read_u8(&r), 1);
    cr_assert_eq(pm_reader_end(&r), -EBADMSG);
    cr_assert_eq(pm_read_u8(&r), 2);
    cr_assert_eq(pm_reader_end(&r), 0);
}

Test(buf, empty_input_is_whole)
{
    r = pm_reader_of(NULL, 0);
    cr_assert_eq(pm_reader_end(&r), 0);
    cr_assert_eq(pm_read_u8(&r), 0);
    cr_assert_eq(pm_reader_end(&r), -EBADMSG);
}

Test(buf, count_is_limited_by_maximum_and_by_what_is_left)
{
    static const uint8_t five[] = {5, 0, 0, 0, 0, 0};
    r = pm_reader_of(five, sizeof(five));
    cr_assert_eq(pm_read_count(&r, 5, 1), 5, "at the limit");
    r = pm_reader_of(five, sizeof(five));
    cr_assert_eq(pm_read_count(&r, 4, 1), 0, "one above the maximum");
    cr_assert_eq(r.error, -EBADMSG);
    r = pm_reader_of(five, sizeof(five) - 1);
    cr_assert_eq(pm_read_count(&r, 5, 1), 0, "one more than there are bytes");
    cr_assert_eq(r.error, -EBADMSG);
    r = pm_reader_of(five, sizeof(five));
    cr_assert_eq(pm_read_count(&r, 5, SIZE_MAX), 0, "no overflow");
}

Test(buf, string_at_the_limit_fits_and_one_more_does_not)
{
    char text[6];
    pm_write_str(&w, "12345");
    read_back();
    pm_read_str(&r, text, sizeof(text));
    cr_assert(pm_reader_end(&r) == 0 && strcmp(text, "12345") == 0);
    read_back();
    pm_read_str(&r, text, sizeof(text) - 1);
    cr_assert_eq(r.error, -EBADMSG);
    cr_assert_str_eq(text, "", "still a string");
    read_back();
    char *copy = pm_read_strdup(&r, 5);
    cr_assert_str_eq(copy, "12345");
    free(copy);
    read_back();
    cr_assert_null(pm_read_strdup(&r, 4));
    pm_writer_done(&w);
}

Test(buf, nul_inside_a_string_is_an_error)
{
    char text[8];
    pm_write_bytes(&w, "a\0b", 3);
    read_back();
    pm_read_str(&r, text, sizeof(text));
    cr_assert_eq(r.error, -EBADMSG);
    read_back();
    cr_assert_null(pm_read_strdup(&r, 8));
    cr_assert_eq(r.error, -EBADMSG);
    pm_writer_done(&w);
}

Test(buf, length_that_lies_is_an_error)
{
    pm_write_u32(&w, UINT32_MAX);
    pm_write_u8(&w, 1);
    read_back();
    size_t len = 99;
    cr_assert_null(pm_read_bytes(&r, SIZE_MAX, &len));
    cr_assert_eq(len, 0);
    cr_assert_eq(r.error, -EBADMSG);
    pm_writer_done(&w);
}

Test(buf, length_above_the_maximum_is_an_error)
{
    pm_write_bytes(&w, "abcd", 4);
    read_back();
    size_t len;
    cr_assert(pm_read_bytes(&r, 4, &len));
    read_back();
    cr_assert_null(pm_read_bytes(&r, 3, &len));
    cr_assert_eq(r.error, -EBADMSG);
    pm_writer_done(&w);
}

Test(buf, writer_error_sticks_until_reset)
{
    pm_write_u8(&w, 1);
    pm_write_raw(&w, NULL, SIZE_MAX - 1);
    cr_assert_eq(w.error, -EOVERFLOW);
    pm_write_u8(&w, 2);
    cr_assert_eq(w.len, 1);
    pm_writer_reset(&w);
    pm_write_u8(&w, 3);
    cr_assert(w.error == 0 && w.len == 1 && w.data[0] == 3);
    pm_writer_done(&w);
    cr_assert(!w.data && w.len == 0);
}
