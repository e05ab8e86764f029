/* SPDX-License-Identifier: Apache-2.0 */

/* What is text, what can be a name, and what becomes of bytes that are neither. */

#include "proto/text.h"

#include <stdint.h>
#include <string.h>

#include "tests/harness/harness.h"

static const struct {
        const char *bytes;
        const char *made; /* NULL: they are UTF-8, and stay */
} text_cases[] = {
        { "", NULL },
        { "plain", NULL },
        { "gr\xc3\xbcn", NULL },
        { "\xe2\x82\xac", NULL },
        { "\xf0\x9f\x90\xa7", NULL },
        { "\xf4\x8f\xbf\xbf", NULL },
        { "\xff", "?" },
        { "a\x80z", "a?z" },
        { "cut \xc3", "cut ?" },
        { "cut \xe2\x82", "cut ??" },
        { "cut \xf0\x9f\x90", "cut ???" },
        { "\xc3/s", "?/s" },
        { "\xe2\x82/\xc3\xbc", "\?\?/\xc3\xbc" },
        { "\xc0\xaf", "??" },
        { "\xe0\x80\xaf", "???" },
        { "\xed\xa0\x80", "???" },
        { "\xf4\x90\x80\x80", "????" },
        { "\xf8\x88\x80\x80\x80", "?????" },
};

static void text_of_any_bytes(void **state) {
        for (size_t i = 0; i < HARNESS_N(text_cases); i++) {
                const char *made = text_cases[i].made ? text_cases[i].made : text_cases[i].bytes;
                char text[32];

                strcpy(text, text_cases[i].bytes);
                assert_int_equal(text_is_utf8(text, strlen(text)), !text_cases[i].made);
                assert_ptr_equal(text_make_utf8(text), text);
                assert_string_equal(text, made);
                assert_true(text_is_utf8(text, strlen(text)));
        }
        assert_false(text_is_utf8("a\0b", 3));
}

/* Each of two bytes, and what is made of them. */
static void text_of_all_pairs(void **state) {
        for (unsigned pair = 0; pair < 65536; pair++) {
                char text[] = { (char) (pair >> 8), (char) pair, '\0' };
                size_t len = strlen(text);

                text_make_utf8(text);
                assert_int_equal(strlen(text), len);
                assert_true(text_is_utf8(text, len));
        }
}

static void text_names(void **state) {
        char long_name[300];

        memset(long_name, 'a', sizeof(long_name));
        assert_true(text_is_host_name("fe80::1%eth0", 12));
        assert_true(text_is_host_name("b\xc3\xbc"
                                      "cher.example",
                                      15));
        assert_false(text_is_host_name("", 0));
        assert_false(text_is_host_name("a b", 3));
        assert_false(text_is_host_name("[::1]", 5));
        assert_false(text_is_host_name("\xff", 1));
        assert_true(text_is_host_name(long_name, 253));
        assert_false(text_is_host_name(long_name, 254));
        assert_true(text_is_service_name("http+x", 6));
        assert_true(text_is_service_name("3com-tsmux", 10));
        assert_false(text_is_service_name("", 0));
        assert_false(text_is_service_name("80", 2));
        assert_false(text_is_service_name("+99999", 6));
        assert_false(text_is_service_name("-1", 2));
        assert_false(text_is_service_name("._-+", 4));
        assert_false(text_is_service_name("a:b", 3));
        assert_false(text_is_service_name("\xc3\xbc", 2));
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "any bytes", text_of_any_bytes },
                { "all pairs", text_of_all_pairs },
                { "names", text_names },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
