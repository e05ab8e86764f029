/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever a client may write to its connection. Nothing of it may harm the daemon, take a descriptor from it for
 * good, or disturb a well-behaved session, which is asked after each story whether it is still served.
 *
 * The numbers in comments are cases of the catalogue of hostile input.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

/* A daemon, and a session that must not notice anything. */
struct frames {
        struct estate estate;
        struct raw *witness;
};

static void frames_start(struct frames *frames) {
        estate_start(&frames->estate, NULL);
        frames->witness = raw_open(&frames->estate.daemon, 0);
}

static void frames_stop(struct frames *frames) {
        assert_int_equal(raw_status(frames->witness), 0);
        assert_false(raw_has_input(frames->witness));
        frames->witness = raw_close(frames->witness);
        estate_stop(&frames->estate);
}

/* A body that is a request of a length, as valid as can be told from outside. */
static size_t frames_status_body(uint8_t body[16], uint8_t id) {
        const uint8_t bytes[] = { 0x08, id, 0x82, 0x01, 0x00 }; /* id; field 16, empty */

        memcpy(body, bytes, sizeof(bytes));
        return sizeof(bytes);
}

/* --- Headers ---------------------------------------------------------------------------------------------------- */

/* 7 and the frame header's own fields. Before the body comes, and with a session as without one. */
static void frames_bad_headers_end_the_connection(void **state) {
        static const struct ovl_frame_header headers[] = {
                { 10, 0, 0, 0 },
                { 10, OVL_FRAME_RECORDS, 0, 0 },
                { 10, 4, 0, 0 },
                { 10, 255, 0, 0 },
                { OVL_FRAME_CONTROL_MAX + 1, OVL_FRAME_CONTROL, 0, 0 },
                { UINT32_MAX, OVL_FRAME_CONTROL, 0, 0 },
                { OVL_FRAME_POST_MAX + 1, OVL_FRAME_POST, 0, 0 },
                { UINT32_MAX, OVL_FRAME_POST, 0, 0 },
                { 10, OVL_FRAME_CONTROL, 2, 0 },
                { 10, OVL_FRAME_CONTROL, 255, 0 },
                { 10, OVL_FRAME_POST, 1, 0 },
                { 10, OVL_FRAME_CONTROL, 0, 1 },
                { 10, OVL_FRAME_CONTROL, 0, 0x8000 },
        };
        struct frames frames;

        frames_start(&frames);
        for (size_t i = 0; i < 2 * HARNESS_N(headers); i++) {
                struct raw *raw = i % 2 ? raw_open(&frames.estate.daemon, 0) : raw_connect(&frames.estate.daemon);

                raw_write(raw, &headers[i / 2], sizeof(headers[0]), -1);
                raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
                raw_close(raw);
        }
        frames_stop(&frames);
}

/* 6 and 8: a malformed message is refused twice, and the third time it is the end. */
static void frames_malformed_messages_strike(void **state) {
        static const struct {
                const char *bytes;
                size_t len;
        } bodies[] = {
                { "", 0 },                                                      /* empty */
                { "\x08", 1 },                                                  /* cut */
                { "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12 },     /* 11 bytes of varint */
                { "\x08\xff\xff\xff\xff\x7f", 6 },                              /* over 32 bits */
                { "\x2a\x7f\x01", 3 },                                          /* passes the end */
                { "\x0b\x0c", 2 },                                              /* a group */
                { "\x12\x04\x3a\x02\xff\xfe", 6 },                              /* not UTF-8 */
                { "\x12\x04\x3a\x02x\x00", 6 },                                 /* NUL in a text */
                { "\x32\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13 }, /* negative enum */
        };
        struct frames frames;

        frames_start(&frames);
        for (size_t i = 0; i < HARNESS_N(bodies); i++) {
                struct raw *raw = raw_open(&frames.estate.daemon, 0);

                for (size_t k = 0; k < 2; k++) {
                        raw_frame(raw, OVL_FRAME_CONTROL, bodies[i].bytes, bodies[i].len, 0, -1);
                        assert_int_equal(raw_next(raw), RAW_REPLY);
                        assert_int_equal(raw->reply->status, -EPROTO);
                        assert_int_equal(raw->reply->reason, OVL_REASON_BAD_FRAME);
                }
                assert_int_equal(raw_status(raw), 0);
                raw_frame(raw, OVL_FRAME_CONTROL, bodies[i].bytes, bodies[i].len, 0, -1);
                raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
                raw_close(raw);
                raw = raw_connect(&frames.estate.daemon);
                raw_frame(raw, OVL_FRAME_CONTROL, bodies[i].bytes, bodies[i].len, 0, -1);
                raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
                raw_close(raw);
        }
        frames_stop(&frames);
}

/* 9 */
static void frames_random_bytes(void **state) {
        struct frames frames;
        unsigned seed = 1;

        frames_start(&frames);
        for (size_t i = 0; i < 200; i++) {
                struct raw *raw = i % 2 ? raw_open(&frames.estate.daemon, 0) : raw_connect(&frames.estate.daemon);
                uint8_t bytes[300];

                for (size_t k = 0; k < sizeof(bytes); k++)
                        bytes[k] = (uint8_t) (rand_r(&seed) >> 8);
                if (i % 4 < 2)
                        raw_frame(raw, OVL_FRAME_CONTROL, bytes, sizeof(bytes) - i, 0, -1);
                else
                        raw_write(raw, bytes, sizeof(bytes), -1);
                shutdown(raw->fd, SHUT_WR);
                raw_expect_end(raw);
                raw_close(raw);
        }
        frames_stop(&frames);
}

/* 10, 11 */
static void frames_unknown_fields_are_skipped(void **state) {
        struct frames frames;
        uint8_t body[2000];
        struct raw *raw;
        size_t len;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        for (size_t n = 64; n <= 65; n++) {
                len = frames_status_body(body, 9);
                for (size_t i = 0; i < n; i++, len += 4)
                        memcpy(body + len, "\xf8\x3f\x96\x01", 4); /* field 1023, 150 */
                raw_frame(raw, OVL_FRAME_CONTROL, body, len, 0, -1);
                assert_int_equal(raw_next(raw), RAW_REPLY);
                assert_int_equal(raw->reply->status, n == 64 ? 0 : -EPROTO);
        }
        /* One unknown field of nearly the whole frame. */
        len = frames_status_body(body, 10);
        memcpy(body + len, "\xfa\x3f\xb8\x0e", 4); /* field 1023, 1848 bytes */
        memset(body + len + 4, 0xff, 1848);
        raw_frame(raw, OVL_FRAME_CONTROL, body, len + 4 + 1848, 0, -1);
        assert_int_equal(raw_next(raw), RAW_REPLY);
        assert_int_equal(raw->reply->status, 0);
        raw_close(raw);
        frames_stop(&frames);
}

/* 11: what looks like nested messages, 5,000 deep. */
static void frames_nesting_is_bounded(void **state) {
        static uint8_t body[OVL_FRAME_CONTROL_MAX];
        struct frames frames;
        struct raw *raw;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        for (size_t i = 0; i + 3 <= sizeof(body); i += 3) {
                size_t left = sizeof(body) - i - 3;

                body[i] = i == 0 ? 0x3a : 0x12; /* socket_bind, and in it what would be the address, again and again */
                body[i + 1] = (uint8_t) (0x80 | (left & 0x7f));
                body[i + 2] = (uint8_t) (left >> 7);
        }
        for (size_t i = 0; i < 2; i++) {
                raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 0, -1);
                assert_int_equal(raw_next(raw), RAW_REPLY);
                assert_int_equal(raw->reply->status, -EPROTO);
        }
        raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 0, -1);
        raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
        raw_close(raw);
        frames_stop(&frames);
}

/* 16 */
static void frames_unknown_requests_are_answered(void **state) {
        static const uint8_t body[] = { 0x08, 0x05, 0x9a, 0x06, 0x00 }; /* id 5; field 99, empty */
        struct frames frames;
        struct raw *raw;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        for (size_t i = 0; i < 10; i++) {
                raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 0, -1);
                assert_int_equal(raw_await(raw, 5)->status, -EOPNOTSUPP);
                assert_int_equal(raw->reply->reason, OVL_REASON_UNKNOWN_OP);
        }
        raw_frame(raw, OVL_FRAME_CONTROL, body, 2, 0, -1); /* no request at all */
        assert_int_equal(raw_await(raw, 5)->status, -EOPNOTSUPP);
        assert_int_equal(raw_status(raw), 0);
        raw_close(raw);
        frames_stop(&frames);
}

/* --- The beginning of a session --------------------------------------------------------------------------------- */

static uint32_t frames_hello(struct raw *raw, uint32_t min, uint32_t max, uint32_t level) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;

        hello.version_min = min;
        hello.version_max = max;
        hello.level = level;
        hello.thread = 1;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        return raw_send(raw, &request, -1);
}

/* 5 */
static void frames_versions_are_negotiated(void **state) {
        static const struct {
                uint32_t min, max, level, granted;
                int status;
        } hellos[] = {
                { 1, 1, 0, 0, 0 },
                { 1, 1, 1, 1, 0 },
                { 0, 1, 1, 1, 0 },
                { 1, 99, 2, 2, 0 },
                { 1, UINT32_MAX, 99, 2, 0 },
                { 0, 0, 1, 0, -EPROTONOSUPPORT },
                { 2, 9, 1, 0, -EPROTONOSUPPORT },
                { UINT32_MAX, UINT32_MAX, 1, 0, -EPROTONOSUPPORT },
                { 1, 0, 1, 0, -EPROTONOSUPPORT },
        };
        struct frames frames;

        frames_start(&frames);
        for (size_t i = 0; i < HARNESS_N(hellos); i++) {
                struct raw *raw = raw_connect(&frames.estate.daemon);
                const Overlapd__Reply *reply;

                reply = raw_await(raw, frames_hello(raw, hellos[i].min, hellos[i].max, hellos[i].level));
                assert_int_equal(reply->status, hellos[i].status);
                if (reply->status == 0) {
                        assert_int_equal(reply->hello->version, 1);
                        assert_int_equal(reply->hello->level, hellos[i].granted);
                } else {
                        assert_int_equal(reply->reason, OVL_REASON_VERSION);
                        assert_non_null(strstr(reply->text, "1 to 1"));
                        raw_expect_end(raw);
                }
                raw_close(raw);
        }
        frames_stop(&frames);
}

/* 3, 4 */
static void frames_order_of_the_beginning(void **state) {
        uint8_t post[sizeof(struct ovl_post_header) + OVL_SLOT_SIZE] = { 1 };
        struct frames frames;
        uint8_t body[16];
        struct raw *raw;

        frames_start(&frames);
        raw = raw_connect(&frames.estate.daemon);
        raw_frame(raw, OVL_FRAME_CONTROL, body, frames_status_body(body, 1), 0, -1);
        raw_expect_kick(raw, OVL_REASON_OUT_OF_ORDER, "hello");
        raw_close(raw);
        raw = raw_connect(&frames.estate.daemon);
        raw_frame(raw, OVL_FRAME_POST, post, sizeof(post), 0, -1);
        raw_expect_kick(raw, OVL_REASON_OUT_OF_ORDER, NULL);
        raw_close(raw);
        raw = raw_open(&frames.estate.daemon, 0);
        frames_hello(raw, 1, 1, 1);
        raw_expect_kick(raw, OVL_REASON_OUT_OF_ORDER, "second hello");
        raw_close(raw);
        frames_stop(&frames);
}

static uint32_t frames_attach(struct raw *raw, uint64_t session, const uint8_t *secret, size_t secret_len,
                              uint64_t thread) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;

        attach.session = session;
        attach.secret = (ProtobufCBinaryData){ .len = secret_len, .data = (uint8_t *) secret };
        attach.what_case = thread ? OVERLAPD__ATTACH__WHAT_THREAD : OVERLAPD__ATTACH__WHAT__NOT_SET;
        attach.thread = thread;
        request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
        request.attach = &attach;
        return raw_send(raw, &request, -1);
}

/* 24: a session that does not exist and a wrong secret are not told apart. */
static void frames_attach_needs_the_secret(void **state) {
        struct frames frames;
        uint8_t wrong[16], long_secret[32] = { 0 };
        char text[2][256];
        struct raw *raw;

        frames_start(&frames);
        memcpy(wrong, frames.witness->secret, sizeof(wrong));
        memcpy(long_secret, frames.witness->secret, sizeof(wrong));
        wrong[15] ^= 1;
        for (size_t i = 0; i < 4; i++) {
                raw = raw_connect(&frames.estate.daemon);
                frames_attach(raw, frames.witness->session + (i == 1), i == 0 ? wrong : long_secret,
                              i == 2   ? 15
                              : i == 3 ? 32
                                       : 16,
                              7);
                assert_int_equal(raw_next(raw), RAW_NOTICE);
                assert_int_equal(raw->notice->reason, OVL_REASON_DENIED);
                snprintf(text[i > 0], sizeof(text[0]), "%s", raw->notice->text);
                assert_string_equal(text[0], text[i > 0]);
                assert_int_equal(raw_next(raw), RAW_END);
                raw_close(raw);
        }
        frames_stop(&frames);
}

static void frames_attach_numbers_are_unique(void **state) {
        struct frames frames;
        struct raw *thread, *second, *port;

        frames_start(&frames);
        thread = raw_attach_thread(&frames.estate.daemon, frames.witness, 77);
        port = raw_attach_port(&frames.estate.daemon, frames.witness, 77);
        second = raw_connect(&frames.estate.daemon);
        assert_int_equal(
                raw_await(second, frames_attach(second, frames.witness->session, frames.witness->secret, 16, 77))
                        ->status,
                -EEXIST);
        /* Neither a thread nor a port. */
        assert_int_equal(
                raw_await(second, frames_attach(second, frames.witness->session, frames.witness->secret, 16, 0))
                        ->status,
                -EINVAL);
        assert_int_equal(
                raw_await(second, frames_attach(second, frames.witness->session, frames.witness->secret, 16, 78))
                        ->status,
                0);
        /* Only a thread may post. */
        raw_post(port, &(struct ovl_entry){ .op = OVL_OP_RECV, .n_slots = 1 }, 1);
        raw_expect_end(port);
        raw_expect_end(frames.witness);
        raw_close(port);
        raw_close(second);
        raw_close(thread);
        raw_close(frames.witness);
        frames.witness = raw_open(&frames.estate.daemon, 0);
        frames_stop(&frames);
}

/* --- Pieces ----------------------------------------------------------------------------------------------------- */

/* 18: bytes come one by one. */
static void frames_may_come_in_pieces(void **state) {
        struct frames frames;
        uint8_t body[16], frame[64];
        struct raw *raw;
        size_t len;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        len = frames_status_body(body, 42);
        frame_pack_header(frame, OVL_FRAME_CONTROL, (uint32_t) len, 0);
        memcpy(frame + sizeof(struct ovl_frame_header), body, len);
        for (size_t round = 0; round < 20; round++) {
                for (size_t i = 0; i < sizeof(struct ovl_frame_header) + len; i++)
                        raw_write(raw, frame + i, 1, -1);
                assert_int_equal(raw_await(raw, 42)->status, 0);
        }
        raw_close(raw);
        frames_stop(&frames);
}

/* 6: the stream ends within a frame, at each of its bytes. */
static void frames_may_be_cut_anywhere(void **state) {
        static const uint8_t hello[] = { 0x08, 0x01, 0x12, 0x08, 0x08, 0x01, 0x10, 0x01, 0x18, 0x01, 0x20, 0x01 };
        uint8_t frame[sizeof(struct ovl_frame_header) + sizeof(struct ovl_post_header) + OVL_SLOT_SIZE] = { 0 };
        struct ovl_post_header header = { .n_slots = 1 };
        struct frames frames;
        struct raw *raw;

        frames_start(&frames);
        frame_pack_header(frame, OVL_FRAME_CONTROL, sizeof(hello), 0);
        memcpy(frame + sizeof(struct ovl_frame_header), hello, sizeof(hello));
        for (size_t n = 0; n <= sizeof(struct ovl_frame_header) + sizeof(hello); n++) {
                raw = raw_connect(&frames.estate.daemon);
                raw_write(raw, frame, n, -1);
                if (n % 2) {
                        shutdown(raw->fd, SHUT_WR);
                        raw_expect_end(raw);
                }
                raw_close(raw);
        }
        frame_pack_header(frame, OVL_FRAME_POST, sizeof(header) + OVL_SLOT_SIZE, 0);
        memcpy(frame + sizeof(struct ovl_frame_header), &header, sizeof(header));
        for (size_t n = 0; n <= sizeof(frame); n++) {
                raw = raw_open(&frames.estate.daemon, 0);
                raw_write(raw, frame, n, -1);
                if (n % 2) {
                        shutdown(raw->fd, SHUT_WR);
                        raw_expect_end(raw);
                }
                raw_close(raw);
        }
        frames_stop(&frames);
}

/* 8: every prefix of every request is a message, or is refused; a session is served after it. */
static void frames_truncated_messages(void **state) {
        static const struct {
                const char *bytes;
                size_t len;
        } messages[] = {
                { "\x08\x07\x12\x0c\x08\x01\x10\x01\x18\x01\x20\x01\x3a\x02mx", 16 }, /* hello */
                { "\x08\x07\x22\x02\x08\x40", 6 },                                    /* region_add */
                { "\x08\x07\x2a\x02\x08\x01", 6 },                                    /* region_remove */
                { "\x08\x07\x32\x04\x08\x02\x10\x01", 8 },                            /* socket_open */
                { "\x08\x07\x3a\x15\x09xxxxxxxx\x12\x0a\x08\x02\x10\x50\x22\x04\x7f\x00\x00\x01", 25 }, /* bind */
                { "\x08\x07\x42\x0b\x09xxxxxxxx\x10\x05", 15 },                                         /* listen */
                { "\x08\x07\x4a\x0b\x09xxxxxxxx\x10\x01", 15 },                                         /* name */
                { "\x08\x07\x52\x0d\x09xxxxxxxx\x10\x01\x18\x02", 17 },                                 /* option_set */
                { "\x08\x07\x5a\x0b\x09xxxxxxxx\x10\x01", 15 },                                         /* option_get */
                { "\x08\x07\x62\x0b\x09xxxxxxxx\x10\x01", 15 },                                         /* shutdown */
                { "\x08\x07\x6a\x09\x09xxxxxxxx", 13 },                                                 /* close */
                { "\x08\x07\x72\x0d\x09xxxxxxxx\x10\x01\x18\x05", 17 },                                 /* associate */
                { "\x08\x07\x7a\x0b\x09xxxxxxxx\x20\x01", 15 },                                         /* cancel */
        };
        struct frames frames;

        frames_start(&frames);
        for (size_t i = 0; i < HARNESS_N(messages); i++) {
                for (size_t n = 0; n < messages[i].len; n++) {
                        struct raw *raw = raw_open(&frames.estate.daemon, 0);
                        enum raw_kind kind;

                        raw_frame(raw, OVL_FRAME_CONTROL, messages[i].bytes, n, 0, -1);
                        kind = raw_next(raw);
                        assert_true(kind == RAW_REPLY || kind == RAW_NOTICE);
                        if (kind == RAW_REPLY) {
                                assert_true(raw->reply->status < 0);
                                assert_int_equal(raw_status(raw), 0);
                        }
                        raw_close(raw);
                }
        }
        frames_stop(&frames);
}

/* 19: ten thousand requests before the first reply is read. */
static void frames_may_be_pipelined(void **state) {
        struct frames frames;
        struct raw *raw;
        uint32_t next = 1, done = 1;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        while (done <= 10000) {
                struct pollfd look = { .fd = raw->fd, .events = POLLIN | (next <= 10000 ? POLLOUT : 0) };

                assert_int_equal(poll(&look, 1, 10000), 1);
                if ((look.revents & POLLOUT) && next <= 10000) {
                        uint8_t frame[16] = { 0 };

                        frame_pack_header(frame, OVL_FRAME_CONTROL, 8, 0);
                        memcpy(frame + 8, "\x08\x00\x80\x00\x82\x01\x00", 7);
                        frame[9] = (uint8_t) (0x80 | (next & 0x7f));
                        frame[10] = (uint8_t) (0x80 | ((next >> 7) & 0x7f));
                        frame[11] = (uint8_t) (next >> 14);
                        memcpy(frame + 12, "\x82\x01\x00", 3);
                        frame_pack_header(frame, OVL_FRAME_CONTROL, 7, 0);
                        raw_write(raw, frame, 15, -1);
                        next++;
                        continue;
                }
                assert_int_equal(raw_next(raw), RAW_REPLY);
                assert_int_equal(raw->reply->id, done++);
                assert_int_equal(raw->reply->status, 0);
                while (raw->n_in >= sizeof(struct ovl_frame_header) && done < next) {
                        assert_int_equal(raw_next(raw), RAW_REPLY);
                        assert_int_equal(raw->reply->id, done++);
                }
        }
        raw_close(raw);
        frames_stop(&frames);
}

/* 17 */
static void frames_request_ids_are_unique(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove remove_it = OVERLAPD__REGION_REMOVE__INIT;
        struct ovl_entry entry = { .tag = 5, .op = OVL_OP_RECV, .n_slots = 1 };
        _cleanup_fd_ int memory = raw_memfd(4096), fd = -1;
        struct frames frames;
        struct ovl_record record;
        struct raw *raw;
        int region;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        region = raw_region_add(raw, memory, 4096);
        assert_int_equal(region, 1);
        entry.socket = raw_pair(raw, &fd);
        entry.buffer = (struct ovl_slice){ .len = 10, .region = 1 };
        raw_post(raw, &entry, 1);
        remove_it.region = 1;
        request.id = 1000;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &remove_it;
        raw_send(raw, &request, -1);
        /* The region is in use: the reply waits for the operation. The same id is refused, another one served. */
        raw_send(raw, &request, -1);
        assert_int_equal(raw_await(raw, 1000)->status, -EINVAL);
        assert_int_equal(raw->reply->reason, OVL_REASON_DUPLICATE);
        assert_int_equal(raw_status(raw), 0);
        assert_false(raw_has_input(raw));
        assert_int_equal(write(fd, "data", 4), 4);
        record = raw_take(raw);
        assert_int_equal(record.tag, 5);
        assert_int_equal(record.bytes, 4);
        assert_int_equal(raw_await(raw, 1000)->status, 0);
        assert_int_equal(raw_region_remove(raw, 1), -ENOENT);
        raw_close(raw);
        frames_stop(&frames);
}

/* --- Half-closed connections ------------------------------------------------------------------------------------ */

/* 20: the client will say nothing more, and still gets its records. */
static void frames_half_closed_connection_gets_its_records(void **state) {
        struct ovl_entry entry = { .tag = 9, .op = OVL_OP_RECV, .n_slots = 1 };
        _cleanup_fd_ int memory = raw_memfd(4096), fd = -1;
        struct frames frames;
        struct ovl_record record;
        struct raw *raw;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        entry.buffer = (struct ovl_slice){ .len = 10, .region = (uint32_t) raw_region_add(raw, memory, 4096) };
        entry.socket = raw_pair(raw, &fd);
        raw_post(raw, &entry, 1);
        shutdown(raw->fd, SHUT_WR);
        assert_int_equal(raw_status(frames.witness), 0);
        assert_int_equal(write(fd, "late", 4), 4);
        record = raw_take(raw);
        assert_int_equal(record.tag, 9);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 4);
        assert_int_equal(raw_next(raw), RAW_END);
        raw_close(raw);
        frames_stop(&frames);
}

/* 21: nobody reads any more: as if the client had died. */
static void frames_unread_connection_is_over(void **state) {
        struct frames frames;
        uint8_t body[16];
        struct raw *raw;
        char byte;
        int fd;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        raw_pair(raw, &fd);
        shutdown(raw->fd, SHUT_RD);
        raw_frame(raw, OVL_FRAME_CONTROL, body, frames_status_body(body, 3), 0, -1);
        assert_int_equal(read(fd, &byte, 1), 0);
        close(fd);
        raw_close(raw);
        frames_stop(&frames);
}

/* --- Descriptors ------------------------------------------------------------------------------------------------ */

/* Returns whether they left: since Linux 6.16 none do before a worker has the connection. */
static bool frames_send_fds(struct raw *raw, const void *bytes, size_t len, size_t n_fds) {
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(253 * sizeof(int))];
        } control = { 0 };
        struct iovec part = { (void *) bytes, len };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control };
        int fds[253];

        for (size_t i = 0; i < n_fds; i++)
                fds[i] = STDERR_FILENO;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        return sendmsg(raw->fd, &message, MSG_NOSIGNAL) > 0 || errno != EPERM;
}

/* 61, 62, 63: descriptors that nobody asked for, in all numbers. */
static void frames_unwanted_descriptors(void **state) {
        static const size_t counts[] = { 1, 2, 4, 5, 16, 253 };
        uint8_t frame[32], body[16];
        struct frames frames;
        size_t len;

        frames_start(&frames);
        len = frames_status_body(body, 3);
        for (size_t i = 0; i < 4 * HARNESS_N(counts); i++) {
                struct raw *raw = i % 2 ? raw_open(&frames.estate.daemon, 0) : raw_connect(&frames.estate.daemon);

                frame_pack_header(frame, OVL_FRAME_CONTROL, (uint32_t) len, 0);
                frame[5] = (uint8_t) (i % 4 / 2); /* announced or not */
                memcpy(frame + sizeof(struct ovl_frame_header), body, len);
                if (frames_send_fds(raw, frame, sizeof(struct ovl_frame_header) + len, counts[i / 4]))
                        raw_expect_end(raw);
                else
                        assert_int_equal(i % 2, 0);
                raw_close(raw);
        }
        frames_stop(&frames);
}

/* A descriptor that a frame announces and that does not come, and one that comes ahead of its frame. */
static void frames_missing_descriptor(void **state) {
        static const uint8_t body[] = { 0x08, 0x07, 0x22, 0x03, 0x08, 0x80, 0x20 }; /* region_add of 4096 */
        _cleanup_fd_ int memory = raw_memfd(4096);
        struct frames frames;
        struct raw *raw;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 0, -1);
        raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
        raw_close(raw);
        raw = raw_open(&frames.estate.daemon, 0);
        raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 1, -1);
        raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
        raw_close(raw);
        raw = raw_open(&frames.estate.daemon, 0);
        raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 1, memory);
        assert_int_equal(raw_await(raw, 7)->status, 0);
        raw_close(raw);
        frames_stop(&frames);
}

/* A request of the future may bring a descriptor: it is refused, and the next descriptor is that of its own frame. */
static void frames_unknown_request_takes_its_descriptor(void **state) {
        static const uint8_t body[] = { 0x08, 0x63, 0xa2, 0x1f, 0x02, 0x08, 0x01 }; /* id 99; field 500 */
        _cleanup_fd_ int memory = raw_memfd(4096);
        struct frames frames;
        struct raw *raw;

        frames_start(&frames);
        raw = raw_open(&frames.estate.daemon, 0);
        for (int i = 0; i < 3; i++) {
                raw_frame(raw, OVL_FRAME_CONTROL, body, sizeof(body), 1, STDERR_FILENO);
                assert_int_equal(raw_await(raw, 99)->status, -EOPNOTSUPP);
        }
        assert_true(raw_region_add(raw, memory, 4096) > 0);
        raw_close(raw);
        frames_stop(&frames);
}

/* A closed socket still has records to come when the connection of its port ends: they go to who posted. */
static void frames_port_ends_before_its_closed_socket(void **state) {
        struct frames frames;

        frames_start(&frames);
        for (int i = 0; i < 50; i++) {
                struct raw *raw = raw_open(&frames.estate.daemon, 0);
                struct raw *port = raw_attach_port(&frames.estate.daemon, raw, 1);
                Overlapd__PortAssociate associate = OVERLAPD__PORT_ASSOCIATE__INIT;
                Overlapd__SocketClose closing = OVERLAPD__SOCKET_CLOSE__INIT;
                Overlapd__Request request = OVERLAPD__REQUEST__INIT;
                struct ovl_entry entry = { .tag = 5, .op = OVL_OP_RECV, .n_slots = 1 };
                uint32_t id;
                int fd;

                entry.socket = associate.socket = closing.socket = raw_pair(raw, &fd);
                associate.port = 1;
                request.what_case = OVERLAPD__REQUEST__WHAT_PORT_ASSOCIATE;
                request.port_associate = &associate;
                assert_int_equal(raw_call(raw, &request, -1), 0);
                raw_post(raw, &entry, 1);
                request.id = 0;
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
                request.socket_close = &closing;
                id = raw_send(raw, &request, -1);
                raw_close(port);
                assert_int_equal(raw_await(raw, id)->status, 0);
                close(fd);
                raw_close(raw);
        }
        frames_stop(&frames);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "bad frame headers end the connection", frames_bad_headers_end_the_connection },
                { "malformed messages strike three times", frames_malformed_messages_strike },
                { "random bytes", frames_random_bytes },
                { "unknown fields are skipped, up to 64", frames_unknown_fields_are_skipped },
                { "nesting is bounded", frames_nesting_is_bounded },
                { "unknown requests are answered", frames_unknown_requests_are_answered },
                { "versions are negotiated", frames_versions_are_negotiated },
                { "a session begins with one hello", frames_order_of_the_beginning },
                { "attaching needs the secret", frames_attach_needs_the_secret },
                { "numbers of threads and ports are unique", frames_attach_numbers_are_unique },
                { "frames may come byte by byte", frames_may_come_in_pieces },
                { "frames may be cut at every byte", frames_may_be_cut_anywhere, 60 },
                { "messages may be cut at every byte", frames_truncated_messages, 60 },
                { "ten thousand requests may be pipelined", frames_may_be_pipelined, 60 },
                { "request ids are unique while they wait", frames_request_ids_are_unique },
                { "a half-closed connection gets its records", frames_half_closed_connection_gets_its_records },
                { "a connection that is not read is over", frames_unread_connection_is_over },
                { "descriptors that nobody asked for", frames_unwanted_descriptors },
                { "descriptors that are missing", frames_missing_descriptor },
                { "an unknown request with a descriptor", frames_unknown_request_takes_its_descriptor },
                { "a port ends before its closed socket", frames_port_ends_before_its_closed_socket },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
