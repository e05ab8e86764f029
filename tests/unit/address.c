/* SPDX-License-Identifier: Apache-2.0 */

/* An address has one wire form, and means to the kernel what it means to a reader. */

#include "proto/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/harness/harness.h"

static struct ovl_address address_inet(const char *host, uint16_t port) {
        struct ovl_address address = { .family = OVL_FAMILY_INET, .port = port };

        assert_int_equal(inet_pton(AF_INET, host, address.host), 1);
        return address;
}

static struct ovl_address address_inet6(const char *host, uint16_t port, uint32_t scope_id) {
        struct ovl_address address = { .family = OVL_FAMILY_INET6, .port = port, .scope_id = scope_id };

        assert_int_equal(inet_pton(AF_INET6, host, address.host), 1);
        return address;
}

static struct ovl_address address_unix(const char *path, size_t len) {
        struct ovl_address address = { .family = OVL_FAMILY_UNIX, .path_len = (uint8_t) len };

        memcpy(address.host, path, len);
        return address;
}

/* To the kernel and back gives the same bytes; the text is as expected. */
static void assert_survives(struct ovl_address address, const char *text) {
        struct sockaddr_storage kernel;
        char formatted[ADDRESS_TEXT_SIZE];
        struct ovl_address back;
        socklen_t len;

        assert_ok(address_to_kernel(&address, &kernel, &len));
        assert_int_equal(kernel.ss_family, address.family);
        assert_ok(address_from_kernel((struct sockaddr *) &kernel, len, &back));
        assert_memory_equal(&back, &address, sizeof(address));
        assert_string_equal(address_format(&address, formatted), text);
}

static void assert_invalid(struct ovl_address address, int error) {
        struct sockaddr_storage kernel;
        socklen_t len = 42;

        assert_int_equal(address_to_kernel(&address, &kernel, &len), error);
        assert_int_equal(len, 42);
}

static void address_goes_to_the_kernel_and_back(void **state) {
        char path[108];

        assert_survives(address_inet("192.0.2.1", 80), "192.0.2.1:80");
        assert_survives(address_inet("0.0.0.0", 0), "0.0.0.0:0");
        assert_survives(address_inet("255.255.255.255", 65535), "255.255.255.255:65535");
        assert_survives(address_inet6("2001:db8::1", 80, 0), "[2001:db8::1]:80");
        assert_survives(address_inet6("fe80::1", 80, 2), "[fe80::1%2]:80");
        assert_survives(address_inet6("::ffff:192.0.2.1", 443, 0), "[::ffff:192.0.2.1]:443");
        assert_survives(address_unix("/run/x", 6), "/run/x");
        assert_survives(address_unix("\0name", 5), "@name");
        assert_survives(address_unix("\0a\0b", 4), "@a?b");
        memset(path, 'p', sizeof(path));
        assert_survives(address_unix(path, 107), "ppppppppppppppppppppppppppppppppppppppppppppppppppppp"
                                                 "pppppppppppppppppppppppppppppppppppppppppppppppppppppp");
        assert_survives(address_unix(path, 108), "pppppppppppppppppppppppppppppppppppppppppppppppppppppp"
                                                 "pppppppppppppppppppppppppppppppppppppppppppppppppppppp");
}

static void address_is_what_the_kernel_expects(void **state) {
        struct ovl_address address = address_inet6("fe80::1", 0x1234, 7);
        struct sockaddr_storage kernel;
        struct sockaddr_in6 *inet6 = (struct sockaddr_in6 *) &kernel;
        struct sockaddr_un *path = (struct sockaddr_un *) &kernel;
        socklen_t len;

        assert_ok(address_to_kernel(&address, &kernel, &len));
        assert_int_equal(len, sizeof(*inet6));
        assert_int_equal(ntohs(inet6->sin6_port), 0x1234);
        assert_int_equal(inet6->sin6_scope_id, 7);
        assert_int_equal(inet6->sin6_flowinfo, 0);
        address = address_unix("/x", 2);
        assert_ok(address_to_kernel(&address, &kernel, &len));
        assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + 3);
        assert_string_equal(path->sun_path, "/x");
        address = address_unix("\0x", 2);
        assert_ok(address_to_kernel(&address, &kernel, &len));
        assert_int_equal(len, offsetof(struct sockaddr_un, sun_path) + 2);
}

static void address_second_form_is_refused(void **state) {
        static const uint8_t families[] = { OVL_FAMILY_INET, OVL_FAMILY_INET6, OVL_FAMILY_UNIX };
        static const size_t used[] = { 4, 16, 6 };

        for (size_t i = 0; i < HARNESS_N(families); i++) {
                struct ovl_address good = { .family = families[i] }, address;

                memcpy(good.host, "/run/x", 6);
                good.path_len = families[i] == OVL_FAMILY_UNIX ? 6 : 0;
                for (size_t at = used[i]; at < sizeof(good.host); at++) {
                        address = good;
                        address.host[at] = 1;
                        assert_invalid(address, -EINVAL);
                }
        }
}

static void address_foreign_fields_are_refused(void **state) {
        struct ovl_address address = address_inet("192.0.2.1", 80);

        address.scope_id = 1;
        assert_invalid(address, -EINVAL);
        address = address_inet("192.0.2.1", 80);
        address.path_len = 4;
        assert_invalid(address, -EINVAL);
        address = address_inet6("::1", 80, 0);
        address.path_len = 16;
        assert_invalid(address, -EINVAL);
        address = address_unix("/x", 2);
        address.port = 1;
        assert_invalid(address, -EINVAL);
        address = address_unix("/x", 2);
        address.scope_id = 1;
        assert_invalid(address, -EINVAL);
}

static void address_bad_path_is_refused(void **state) {
        struct ovl_address address = { .family = OVL_FAMILY_UNIX };

        assert_invalid(address, -EINVAL);
        assert_invalid(address_unix("/a\0b", 4), -EINVAL);
        memset(address.host, 'p', sizeof(address.host));
        for (unsigned len = 109; len < 256; len++) {
                address.path_len = (uint8_t) len;
                assert_invalid(address, -EINVAL);
        }
}

static void address_unknown_family_is_refused(void **state) {
        struct sockaddr kernel = { .sa_family = AF_NETLINK };
        struct ovl_address address = { 0 };

        for (unsigned family = 0; family < 256; family++) {
                if (family == OVL_FAMILY_UNIX || family == OVL_FAMILY_INET || family == OVL_FAMILY_INET6)
                        continue;
                address.family = (uint8_t) family;
                assert_invalid(address, -EAFNOSUPPORT);
        }
        assert_int_equal(address_from_kernel(&kernel, sizeof(kernel), &address), -EAFNOSUPPORT);
        assert_int_equal(address_from_kernel(&kernel, 0, &address), -EAFNOSUPPORT);
        assert_int_equal(address_from_kernel(&kernel, 1, &address), -EAFNOSUPPORT);
}

/* What the kernel itself says of sockets without a name keeps its family. */
static void address_without_host_keeps_its_family(void **state) {
        static const int families[] = { AF_INET, AF_INET6, AF_UNIX };
        static const char *const texts[] = { "0.0.0.0:0", "[::]:0", "(unnamed)" };

        for (size_t i = 0; i < HARNESS_N(families); i++) {
                int fd = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0);
                struct sockaddr_storage kernel;
                socklen_t len = sizeof(kernel);
                char text[ADDRESS_TEXT_SIZE];
                struct ovl_address address;

                if (fd < 0)
                        harness_skip("this machine has no IPv6");
                assert_int_equal(getsockname(fd, (struct sockaddr *) &kernel, &len), 0);
                assert_ok(address_from_kernel((struct sockaddr *) &kernel, len, &address));
                assert_int_equal(address.family, families[i]);
                assert_string_equal(address_format(&address, text), texts[i]);
                close(fd);
        }
}

static void address_relative_paths_are_known(void **state) {
        static const struct {
                uint8_t family, path_len;
                char host[8];
                bool is_relative;
        } cases[] = {
                { OVL_FAMILY_UNIX, 2, "/a", false },    { OVL_FAMILY_UNIX, 2, "a/", true },
                { OVL_FAMILY_UNIX, 4, "../a", true },   { OVL_FAMILY_UNIX, 2, "\0a", false },
                { OVL_FAMILY_UNIX, 0, "", false },      { OVL_FAMILY_INET, 0, "abcd", false },
                { OVL_FAMILY_INET6, 0, "abcd", false },
        };

        for (size_t i = 0; i < HARNESS_N(cases); i++) {
                struct ovl_address address = { .family = cases[i].family, .path_len = cases[i].path_len };

                memcpy(address.host, cases[i].host, sizeof(cases[i].host));
                assert_int_equal(address_is_relative(&address), cases[i].is_relative);
        }
}

/* Any bytes at all give a text within its room, without control characters. */
static void address_text_is_always_harmless(void **state) {
        struct ovl_address address;
        char text[ADDRESS_TEXT_SIZE];
        unsigned random = 7;

        for (size_t i = 0; i < 100000; i++) {
                for (size_t at = 0; at < sizeof(address); at++) {
                        random = random * 1664525u + 1013904223u;
                        ((uint8_t *) &address)[at] = (uint8_t) (random >> 24);
                }
                address.family = (uint8_t[]){ OVL_FAMILY_UNIX, OVL_FAMILY_INET, OVL_FAMILY_INET6, 99 }[i % 4];
                memset(text, 1, sizeof(text));
                address_format(&address, text);
                assert_true(strnlen(text, sizeof(text)) < sizeof(text));
                for (size_t at = 0; text[at]; at++)
                        assert_true(text[at] >= 0x20 && text[at] <= 0x7e);
        }
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "goes-to-the-kernel-and-back", address_goes_to_the_kernel_and_back },
                { "is-what-the-kernel-expects", address_is_what_the_kernel_expects },
                { "second-form-is-refused", address_second_form_is_refused },
                { "foreign-fields-are-refused", address_foreign_fields_are_refused },
                { "bad-path-is-refused", address_bad_path_is_refused },
                { "unknown-family-is-refused", address_unknown_family_is_refused },
                { "without-host-keeps-its-family", address_without_host_keeps_its_family },
                { "relative-paths-are-known", address_relative_paths_are_known },
                { "text-is-always-harmless", address_text_is_always_harmless },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
