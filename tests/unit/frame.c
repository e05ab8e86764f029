/* SPDX-License-Identifier: Apache-2.0 */

/* A stream is cut into frames, and what is no frame is refused by its header alone (HOSTILE 6, 7). */

#include "proto/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/harness.h"

#define HEADER sizeof(struct ovl_frame_header)

/* Expects a refusal of this header, before any byte of the body is there. */
static void assert_refused(uint32_t body_len, unsigned kind, unsigned n_fds, unsigned reserved,
                           enum frame_sender sender) {
        struct ovl_frame_header untouched = { .body_len = 42 };
        struct ovl_frame_header header = { body_len, (uint8_t) kind, (uint8_t) n_fds, (uint16_t) reserved };
        const char *problem = NULL;

        assert_int_equal(frame_find(&header, sizeof(header), sender, &untouched, &problem), -EPROTO);
        assert_non_null(problem);
        assert_int_equal(untouched.body_len, 42);
}

static void frame_every_prefix_needs_more(void **state) {
        uint8_t bytes[HEADER + 5 + 1] = { 0 };
        struct ovl_frame_header header = { .body_len = 42 };
        const char *problem = NULL;

        frame_pack_header(bytes, OVL_FRAME_CONTROL, 5, 1);
        for (size_t len = 0; len < HEADER + 5; len++) {
                /* A copy of its own size lets a sanitizer see each read beyond it. */
                uint8_t *copy = malloc(len ? len : 1);

                memcpy(copy, bytes, len);
                assert_int_equal(frame_find(copy, len, FRAME_FROM_CLIENT, &header, &problem), 0);
                assert_int_equal(header.body_len, 42);
                free(copy);
        }
        for (size_t len = HEADER + 5; len <= sizeof(bytes); len++) {
                assert_int_equal(frame_find(bytes, len, FRAME_FROM_CLIENT, &header, &problem), 1);
                assert_int_equal(header.body_len, 5);
                assert_int_equal(header.kind, OVL_FRAME_CONTROL);
                assert_int_equal(header.n_fds, 1);
        }
}

static void frame_header_bytes_are_fixed(void **state) {
        static const uint8_t expected[HEADER] = { 0x04, 0x03, 0x02, 0x00, 0x01, 0x01, 0x00, 0x00 };
        uint8_t bytes[HEADER];

        frame_pack_header(bytes, OVL_FRAME_CONTROL, 0x020304, 1);
        assert_memory_equal(bytes, expected, HEADER);
}

static void frame_empty_body_is_found(void **state) {
        struct ovl_frame_header header;
        const char *problem;
        uint8_t bytes[HEADER];

        frame_pack_header(bytes, OVL_FRAME_POST, 0, 0);
        assert_int_equal(frame_find(bytes, HEADER, FRAME_FROM_CLIENT, &header, &problem), 1);
        assert_int_equal(header.body_len, 0);
}

static void frame_longest_body_is_found(void **state) {
        struct ovl_frame_header header;
        const char *problem;
        uint8_t *bytes = calloc(1, FRAME_SIZE_MAX);

        assert_non_null(bytes);
        frame_pack_header(bytes, OVL_FRAME_POST, OVL_FRAME_POST_MAX, 0);
        assert_int_equal(frame_find(bytes, FRAME_SIZE_MAX - 1, FRAME_FROM_CLIENT, &header, &problem), 0);
        assert_int_equal(frame_find(bytes, FRAME_SIZE_MAX, FRAME_FROM_CLIENT, &header, &problem), 1);
        assert_int_equal(header.body_len, OVL_FRAME_POST_MAX);
        free(bytes);
}

static void frame_too_long_is_refused(void **state) {
        static const uint32_t lengths[] = { OVL_FRAME_POST_MAX + 1, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff };

        assert_refused(OVL_FRAME_CONTROL_MAX + 1, OVL_FRAME_CONTROL, 0, 0, FRAME_FROM_CLIENT);
        assert_refused(OVL_FRAME_CONTROL_MAX + 1, OVL_FRAME_CONTROL, 0, 0, FRAME_FROM_DAEMON);
        for (size_t i = 0; i < HARNESS_N(lengths); i++) {
                assert_refused(lengths[i], OVL_FRAME_CONTROL, 0, 0, FRAME_FROM_CLIENT);
                assert_refused(lengths[i], OVL_FRAME_POST, 0, 0, FRAME_FROM_CLIENT);
                assert_refused(lengths[i], OVL_FRAME_RECORDS, 0, 0, FRAME_FROM_DAEMON);
        }
}

static void frame_kind_of_the_other_side_is_refused(void **state) {
        assert_refused(8, OVL_FRAME_RECORDS, 0, 0, FRAME_FROM_CLIENT);
        assert_refused(8, OVL_FRAME_POST, 0, 0, FRAME_FROM_DAEMON);
        for (unsigned kind = 0; kind < 256; kind++) {
                if (kind == OVL_FRAME_CONTROL || kind == OVL_FRAME_POST || kind == OVL_FRAME_RECORDS)
                        continue;
                assert_refused(8, kind, 0, 0, FRAME_FROM_CLIENT);
                assert_refused(8, kind, 0, 0, FRAME_FROM_DAEMON);
        }
}

static void frame_reserved_and_descriptors_are_checked(void **state) {
        for (unsigned bit = 0; bit < 16; bit++)
                assert_refused(8, OVL_FRAME_CONTROL, 0, 1u << bit, FRAME_FROM_CLIENT);
        for (unsigned n = OVL_FRAME_FDS_MAX + 1; n < 256; n++)
                assert_refused(8, OVL_FRAME_CONTROL, n, 0, FRAME_FROM_CLIENT);
        assert_refused(8, OVL_FRAME_POST, 1, 0, FRAME_FROM_CLIENT);
        assert_refused(8, OVL_FRAME_RECORDS, 1, 0, FRAME_FROM_DAEMON);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "every-prefix-needs-more", frame_every_prefix_needs_more },
                { "header-bytes-are-fixed", frame_header_bytes_are_fixed },
                { "empty-body-is-found", frame_empty_body_is_found },
                { "longest-body-is-found", frame_longest_body_is_found },
                { "too-long-is-refused", frame_too_long_is_refused },
                { "kind-of-the-other-side-is-refused", frame_kind_of_the_other_side_is_refused },
                { "reserved-and-descriptors-are-checked", frame_reserved_and_descriptors_are_checked },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
