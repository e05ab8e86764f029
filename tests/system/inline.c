/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Level 0, as a client writes it that has nothing but a Unix stream socket: what is sent follows the slots, what was
 * received follows the records. And what a hostile client writes in their place.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#define PIECE OVL_INLINE_PIECE

/* A daemon, a session of level 0 with a connected socket, and the ordinary other end. */
struct story {
        struct estate estate;
        struct raw *raw;
        uint64_t socket;
        int fd;
};

static void story_open(struct story *story, uint32_t credits) {
        story->raw = raw_open_level(&story->estate.daemon, 0, credits);
        assert_int_equal(story->raw->level, 0);
        story->socket = raw_pair(story->raw, &story->fd);
}

static void story_close(struct story *story) {
        story->fd = fd_close(story->fd);
        story->raw = raw_close(story->raw);
}

static void story_start(struct story *story, uint32_t credits) {
        estate_start(&story->estate, NULL);
        story_open(story, credits);
}

static void story_stop(struct story *story) {
        story_close(story);
        estate_stop(&story->estate);
}

static struct ovl_entry story_recv(const struct story *story, uint64_t tag, uint32_t len) {
        return (struct ovl_entry){
                .tag = tag,
                .socket = story->socket,
                .op = OVL_OP_RECV,
                .n_slots = 1,
                .flags = OVL_ENTRY_INLINE,
                .buffer.len = len,
        };
}

static struct ovl_entry story_send(const struct story *story, uint64_t tag, uint32_t len, uint8_t flags) {
        struct ovl_entry entry = story_recv(story, tag, len);

        entry.op = OVL_OP_SEND;
        entry.flags |= flags;
        return entry;
}

/* The next record is that of a receive of so many bytes, which are of the stream's pattern. */
static void story_expect_recv(struct story *story, uint64_t tag, uint32_t len, uint64_t offset) {
        struct ovl_record record = raw_take(story->raw);

        assert_int_equal(record.tag, tag);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, len);
        assert_int_equal(record.payload_len, len);
        pattern_check(story->raw->payload, len, offset);
}

static void story_expect(struct story *story, uint64_t tag, int status, unsigned reason, uint64_t bytes) {
        struct ovl_record record = raw_take(story->raw);

        assert_int_equal(record.tag, tag);
        assert_int_equal(record.status, status);
        assert_int_equal(record.reason, reason);
        assert_int_equal(record.bytes, bytes);
        assert_int_equal(record.payload_len, 0);
}

/* --- Payload ---------------------------------------------------------------------------------------------------- */

/* Lengths around those of a piece and of a frame, there and back. */
static void inline_bytes_arrive(void **state) {
        static const uint32_t lens[] = {
                0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE, OVL_INLINE_LEN_MAX, 5
        };
        _cleanup_free_ uint8_t *bytes = malloc(OVL_INLINE_LEN_MAX);
        uint64_t sent = 0, received = 0;
        struct story story;

        assert_non_null(bytes);
        story_start(&story, 0);
        for (size_t i = 0; i < HARNESS_N(lens); i++) {
                struct ovl_entry entry = story_send(&story, i, lens[i], 0);

                pattern_fill(bytes, lens[i], sent);
                raw_post_inline(story.raw, &entry, 1, bytes, lens[i]);
                story_expect(&story, i, 0, 0, lens[i]);
                peer_read(story.fd, bytes, lens[i]);
                pattern_check(bytes, lens[i], sent);
                sent += lens[i];
                if (lens[i] == 0)
                        continue;
                pattern_fill(bytes, lens[i], received);
                peer_write(story.fd, bytes, lens[i]);
                entry = story_recv(&story, i, lens[i]);
                entry.op_flags = OVL_MESSAGE_WAITALL;
                raw_post(story.raw, &entry, 1);
                story_expect_recv(&story, i, lens[i], received);
                received += lens[i];
        }
        story_stop(&story);
}

/* Receives that are posted together share requests, and each record has its own bytes behind it. */
static void inline_neighbours_are_told_apart(void **state) {
        struct ovl_entry entries[40];
        uint8_t bytes[40 * 1000];
        struct story story;

        story_start(&story, 0);
        for (size_t i = 0; i < HARNESS_N(entries); i++)
                entries[i] = story_recv(&story, i, 1000);
        raw_post(story.raw, entries, HARNESS_N(entries));
        assert_int_equal(raw_status(story.raw), 0);
        pattern_fill(bytes, sizeof(bytes), 0);
        peer_write(story.fd, bytes, sizeof(bytes));
        for (uint64_t i = 0, at = 0; i < HARNESS_N(entries); i++) {
                struct ovl_record record = raw_take(story.raw);

                assert_int_equal(record.tag, i);
                assert_int_equal(record.status, 0);
                assert_int_equal(record.payload_len, record.bytes);
                pattern_check(story.raw->payload, record.bytes, at);
                at += record.bytes;
        }
        /* And sends: several payloads behind the slots of one frame. */
        for (size_t i = 0; i < HARNESS_N(entries); i++)
                entries[i] = story_send(&story, i, (uint32_t) (i * 50), 0);
        pattern_fill(bytes, sizeof(bytes), 0);
        raw_post_inline(story.raw, entries, HARNESS_N(entries), bytes, 39 * 40 / 2 * 50);
        for (size_t i = 0; i < HARNESS_N(entries); i++)
                story_expect(&story, i, 0, 0, i * 50);
        peer_read(story.fd, bytes, 39 * 40 / 2 * 50);
        pattern_check(bytes, 39 * 40 / 2 * 50, 0);
        story_stop(&story);
}

/*
 * A client that does not read: records with payload fill its connection, frames are cut off and packed again, and every
 * byte comes when it reads at last.
 */
static void inline_unread_records_keep_their_bytes(void **state) {
        enum {
                N = 200,
                LEN = 20000
        };
        _cleanup_free_ uint8_t *bytes = malloc(LEN);
        struct story story;

        assert_non_null(bytes);
        story_start(&story, 0);
        for (uint64_t i = 0; i < N; i++) {
                struct ovl_entry entry = story_recv(&story, i, LEN);

                entry.op_flags = OVL_MESSAGE_WAITALL;
                raw_post(story.raw, &entry, 1);
        }
        for (uint64_t i = 0; i < N; i++) {
                pattern_fill(bytes, LEN, i * LEN);
                peer_write(story.fd, bytes, LEN);
        }
        for (uint64_t i = 0; i < N; i++)
                story_expect_recv(&story, i, LEN, i * LEN);
        story_stop(&story);
}

/* A receive that is cancelled with a part of its bytes gives them; they would be lost otherwise. */
static void inline_cancelled_receive_gives_its_bytes(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
        struct ovl_entry entry;
        struct ovl_record record;
        struct story story;
        uint8_t bytes[500];

        story_start(&story, 0);
        entry = story_recv(&story, 1, 1000);
        entry.op_flags = OVL_MESSAGE_WAITALL;
        raw_post(story.raw, &entry, 1);
        pattern_fill(bytes, sizeof(bytes), 0);
        peer_write(story.fd, bytes, sizeof(bytes));
        /* A receive of what is left of the 500 would end at once: so the first has taken them. */
        entry = story_send(&story, 2, 1, 0);
        raw_post_inline(story.raw, &entry, 1, "x", 1);
        story_expect(&story, 2, 0, 0, 1);
        cancel.socket = story.socket;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_TAG;
        cancel.tag = 1;
        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        assert_ok(raw_call(story.raw, &request, -1));
        record = raw_take(story.raw);
        assert_int_equal(record.status, -ECANCELED);
        assert_int_equal(record.payload_len, record.bytes);
        pattern_check(story.raw->payload, record.bytes, 0);
        entry = story_recv(&story, 3, 1000);
        if (record.bytes < sizeof(bytes)) {
                raw_post(story.raw, &entry, 1);
                story_expect_recv(&story, 3, (uint32_t) (sizeof(bytes) - record.bytes), record.bytes);
        }
        story_stop(&story);
}

/* --- Sends of several entries ----------------------------------------------------------------------------------- */

/* Posts a send in pieces of one length, each in a frame of its own. */
static void story_send_long(struct story *story, uint64_t tag, const uint8_t *bytes, size_t len, uint32_t step,
                            uint8_t flags) {
        for (size_t at = 0; at < len; at += step) {
                uint32_t n = len - at < step ? (uint32_t) (len - at) : step;
                struct ovl_entry entry = story_send(story, tag, n, at + n < len ? OVL_ENTRY_MORE | flags : flags);

                raw_post_inline(story->raw, &entry, 1, bytes + at, n);
        }
}

static void inline_long_sends_are_one_operation(void **state) {
        static const struct {
                uint32_t len, step;
        } sends[] = {
                { 2 * OVL_INLINE_LEN_MAX, OVL_INLINE_LEN_MAX },
                { OVL_INLINE_OP_LEN_MAX, OVL_INLINE_LEN_MAX },
                { OVL_INLINE_OP_LEN_MAX, 10001 },
                { 100, 1 },
        };
        _cleanup_free_ uint8_t *bytes = malloc(OVL_INLINE_OP_LEN_MAX);
        struct story story;

        assert_non_null(bytes);
        story_start(&story, 0);
        for (size_t i = 0; i < HARNESS_N(sends); i++) {
                pattern_fill(bytes, sends[i].len, i);
                story_send_long(&story, i, bytes, sends[i].len, sends[i].step, 0);
                memset(bytes, 0, sends[i].len);
                peer_read(story.fd, bytes, sends[i].len);
                pattern_check(bytes, sends[i].len, i);
                story_expect(&story, i, 0, 0, sends[i].len);
        }
        assert_false(raw_has_input(story.raw));
        story_stop(&story);
}

/* All or nothing: nothing leaves before the last piece has come, and the whole counts as one entry. */
static void inline_long_send_counts_as_one_entry(void **state) {
        struct ovl_entry entries[4];
        struct story story;
        uint8_t bytes[6];
        uint64_t before;

        story_start(&story, 0);
        before = 1; /* the connect */
        entries[0] = story_send(&story, 1, 2, OVL_ENTRY_WANT_VERDICT);
        entries[1] = story_send(&story, 2, 2, OVL_ENTRY_MORE | OVL_ENTRY_WANT_VERDICT);
        raw_post_inline(story.raw, entries, 2, "abcd", 4);
        story_expect(&story, 1, 0, 0, 2);
        while (story.raw->n_settled < before + 1)
                raw_next(story.raw);
        assert_int_equal(story.raw->n_settled, before + 1);
        assert_int_equal(raw_status(story.raw), 0);
        peer_read(story.fd, bytes, 2);
        assert_int_equal(recv(story.fd, bytes, 1, MSG_DONTWAIT), -1);
        entries[0] = story_send(&story, 2, 2, 0);
        raw_post_inline(story.raw, entries, 1, "ef", 2);
        story_expect(&story, 2, 0, 0, 4);
        while (story.raw->n_settled < before + 2)
                raw_next(story.raw);
        assert_int_equal(story.raw->n_settled, before + 2);
        peer_read(story.fd, bytes, 4);
        assert_memory_equal(bytes, "cdef", 4);
        story_stop(&story);
}

/* What is wrong with a long send is said once, when its last piece has come, and the channel goes on. */
static void inline_long_sends_are_refused_at_their_end(void **state) {
        _cleanup_free_ uint8_t *bytes = calloc(1, OVL_INLINE_OP_LEN_MAX + 1);
        struct ovl_entry entry;
        struct story story;

        assert_non_null(bytes);
        story_start(&story, 0);
        story_send_long(&story, 1, bytes, OVL_INLINE_OP_LEN_MAX + 1, 60000, 0);
        story_expect(&story, 1, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, 0);
        story_send_long(&story, 2, bytes, 100, 10, OVL_ENTRY_VECTOR);
        story_expect(&story, 2, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, 0);
        story.socket++;
        story_send_long(&story, 3, bytes, 100, 10, 0);
        story_expect(&story, 3, -EBADF, OVL_REASON_UNKNOWN_SOCKET, 0);
        story.socket--;
        for (size_t i = 0; i < 3; i++) {
                entry = story_send(&story, 4, 1, i < 2 ? OVL_ENTRY_MORE : 0);
                entry.op_flags = i == 1 ? OVL_MESSAGE_PEEK : 0;
                raw_post_inline(story.raw, &entry, 1, "x", 1);
        }
        story_expect(&story, 4, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, 0);
        for (size_t i = 0; i < 3; i++) {
                entry = story_send(&story, 5, 1, i < 2 ? OVL_ENTRY_MORE : 0);
                entry.buffer.region = i == 1 ? 1 : 0;
                raw_post_inline(story.raw, &entry, 1, "x", 1);
        }
        story_expect(&story, 5, -EINVAL, OVL_REASON_RESERVED_BITS, 0);
        entry = story_send(&story, 6, OVL_INLINE_LEN_MAX + 1, 0);
        raw_post_inline(story.raw, &entry, 1, bytes, OVL_INLINE_LEN_MAX + 1);
        story_expect(&story, 6, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, 0);
        story_send_long(&story, 7, bytes, 100, 10, 0);
        story_expect(&story, 7, 0, 0, 100);
        assert_int_equal(recv(story.fd, bytes, 101, MSG_DONTWAIT), 100);
        story_stop(&story);
}

static void inline_only_sends_are_continued(void **state) {
        struct ovl_entry entry;
        struct story story;

        story_start(&story, 0);
        entry = story_recv(&story, 1, 10);
        entry.flags |= OVL_ENTRY_MORE;
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 1, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, 0);
        entry = story_send(&story, 2, 0, OVL_ENTRY_MORE);
        entry.flags = OVL_ENTRY_MORE;
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 2, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, 0);
        story_stop(&story);
}

/* Anything but the next piece ends the session. */
static void inline_wrong_continuations_kick(void **state) {
        struct story story;

        estate_start(&story.estate, NULL);
        for (size_t i = 0; i < 6; i++) {
                struct ovl_entry entry;

                story_open(&story, 0);
                entry = story_send(&story, 7, 3, OVL_ENTRY_MORE);
                raw_post_inline(story.raw, &entry, 1, "abc", 3);
                entry = story_send(&story, 7 + (i == 0), 3, 0);
                entry.socket += i == 1;
                if (i == 2)
                        entry.op = OVL_OP_RECV;
                if (i == 3)
                        entry.indication = OVL_INDICATE_QUIET;
                if (i == 4)
                        entry.flags = 0;
                if (i == 5)
                        entry.op = OVL_OP_SENDTO;
                raw_post_inline(story.raw, &entry, 1, "def", i == 2 || i == 4 ? 0 : 3);
                raw_expect_kick(story.raw, OVL_REASON_BAD_FRAME, "MORE");
                peer_expect_end(story.fd);
                story_close(&story);
        }
        estate_stop(&story.estate);
}

/* The rest of a send never comes: it never was, and holds nothing up. */
static void inline_cut_off_sends_were_never_taken(void **state) {
        struct story story;

        estate_start(&story.estate, NULL);
        for (size_t i = 0; i < 2; i++) {
                struct ovl_entry entry;

                story_open(&story, 0);
                entry = story_send(&story, 7, 3, OVL_ENTRY_MORE);
                raw_post_inline(story.raw, &entry, 1, "abc", 3);
                assert_int_equal(raw_status(story.raw), 0);
                if (i == 0) {
                        shutdown(story.raw->fd, SHUT_WR);
                        raw_expect_end(story.raw);
                }
                story.raw = raw_close(story.raw);
                peer_expect_end(story.fd);
                story_close(&story);
        }
        estate_stop(&story.estate);
}

/* --- Limits ----------------------------------------------------------------------------------------------------- */

/* Frames whose payloads are not where the entries say. */
static void inline_wrong_lengths_kick(void **state) {
        static const struct {
                uint32_t len; /* of the entry */
                size_t n;     /* bytes that come */
        } sends[] = { { 5, 4 }, { 5, 6 }, { 0, 1 }, { UINT32_MAX, 10 }, { 1, 0 } };
        struct story story;
        uint8_t bytes[10] = { 0 };

        estate_start(&story.estate, NULL);
        for (size_t i = 0; i < 2 * HARNESS_N(sends); i++) {
                struct ovl_entry entries[2];

                story_open(&story, 0);
                entries[0] = entries[1] = story_send(&story, 1, sends[i / 2].len, 0);
                entries[0].buffer.len = 0;
                raw_post_inline(story.raw, entries + i % 2, i % 2 ? 1 : 2, bytes, sends[i / 2].n);
                raw_expect_kick(story.raw, OVL_REASON_BAD_FRAME, "payload");
                story_close(&story);
        }
        /* What is received has no bytes in the frame of its entry. */
        story_open(&story, 0);
        raw_post_inline(story.raw, (struct ovl_entry[]){ story_recv(&story, 1, 5) }, 1, bytes, 5);
        raw_expect_kick(story.raw, OVL_REASON_BAD_FRAME, "payload");
        story_stop(&story);
}

static void inline_entries_name_no_memory(void **state) {
        _cleanup_fd_ int memory = raw_memfd(4096);
        struct ovl_entry entry;
        struct story story;

        story_start(&story, 0);
        entry = story_recv(&story, 1, 10);
        entry.buffer.offset = 1;
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 1, -EINVAL, OVL_REASON_RESERVED_BITS, 0);
        entry = story_recv(&story, 2, 10);
        entry.buffer.region = 1;
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 2, -EINVAL, OVL_REASON_RESERVED_BITS, 0);
        entry = story_recv(&story, 3, 16);
        entry.flags |= OVL_ENTRY_VECTOR;
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 3, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, 0);
        entry = story_recv(&story, 4, OVL_INLINE_LEN_MAX + 1);
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 4, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, 0);
        entry.op = OVL_OP_POLL;
        entry.buffer.len = 0;
        raw_post(story.raw, &entry, 1);
        story_expect(&story, 4, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, 0);
        assert_int_equal(raw_region_add(story.raw, memory, 4096), -EOPNOTSUPP);
        assert_int_equal(story.raw->reply->reason, OVL_REASON_LEVEL);
        story_stop(&story);
}

/* At level 1 both kinds of buffers go on the same socket. */
static void inline_entries_go_at_level_1(void **state) {
        _cleanup_fd_ int memory = raw_memfd(4096);
        struct ovl_entry entries[2];
        struct story story;
        uint8_t bytes[100];

        estate_start(&story.estate, NULL);
        story.raw = raw_open(&story.estate.daemon, 0);
        story.socket = raw_pair(story.raw, &story.fd);
        assert_int_equal(raw_region_add(story.raw, memory, 4096), 1);
        entries[0] = story_recv(&story, 1, 50);
        entries[1] = story_recv(&story, 2, 50);
        entries[1].flags = 0;
        entries[1].buffer.region = 1;
        raw_post(story.raw, entries, 2);
        assert_int_equal(raw_status(story.raw), 0);
        pattern_fill(bytes, sizeof(bytes), 0);
        peer_write(story.fd, bytes, sizeof(bytes));
        story_expect_recv(&story, 1, 50, 0);
        story_expect(&story, 2, 0, 0, 50);
        assert_int_equal(pread(memory, bytes, 50, 0), 50);
        pattern_check(bytes, 50, 50);
        story_stop(&story);
}

/* As many bytes as the hello says, in pieces; beyond that entries are refused, until records have left. */
static void inline_bytes_are_limited(void **state) {
        struct ovl_entry *entries;
        struct story story;
        uint8_t bytes[1] = { 0 };
        size_t n, n_refused = 0;

        story_start(&story, 4096);
        n = story.raw->inline_bytes / PIECE;
        assert_true(n >= 64 && n <= 2000);
        entries = calloc(n + 10, sizeof(*entries));
        assert_non_null(entries);
        for (size_t i = 0; i < n + 10; i++)
                entries[i] = story_recv(&story, i, 1);
        raw_post(story.raw, entries, n + 10);
        for (; n_refused < 10; n_refused++)
                story_expect(&story, n + n_refused, -ENOBUFS, OVL_REASON_QUOTA, 0);
        pattern_fill(bytes, 1, 0);
        for (size_t i = 0; i < n; i++) {
                pattern_fill(bytes, 1, i);
                peer_write(story.fd, bytes, 1);
        }
        for (size_t i = 0; i < n; i++)
                story_expect_recv(&story, i, 1, i);
        raw_post(story.raw, entries, n);
        assert_int_equal(raw_status(story.raw), 0);
        assert_int_equal(story.raw->n_records, 0);
        free(entries);
        story_stop(&story);
}

/*
 * More entries than the session has ops: frames are held at some entry within them, and when they go on, each entry
 * still has its own bytes.
 */
static void inline_held_frames_find_their_payloads(void **state) {
        enum {
                N = 60,
                FRAMES = 20
        };
        _cleanup_free_ struct ovl_entry *entries = calloc(N, sizeof(*entries));
        uint8_t bytes[N * 7];
        struct story story;
        uint64_t total = 0;

        assert_non_null(entries);
        story_start(&story, 16);
        for (size_t frame = 0; frame < FRAMES; frame++) {
                for (size_t i = 0; i < N; i++)
                        entries[i] = story_send(&story, frame * N + i, 7, 0);
                pattern_fill(bytes, sizeof(bytes), frame * sizeof(bytes));
                raw_post_inline(story.raw, entries, N, bytes, sizeof(bytes));
        }
        for (size_t i = 0; i < FRAMES * N; i++) {
                struct ovl_record record = raw_take(story.raw);
                uint8_t got[7];

                if (record.status == -ENOBUFS) {
                        assert_int_equal(record.reason, OVL_REASON_CREDITS);
                        continue;
                }
                assert_int_equal(record.status, 0);
                peer_read(story.fd, got, sizeof(got));
                pattern_check(got, sizeof(got), record.tag * 7);
                total++;
        }
        assert_true(total >= 16);
        story_stop(&story);
}

/*
 * Many threads have begun a send, more than the session has room for operations. They can all go on, and whoever posts
 * meanwhile, too; and when they all die within, nothing is left of them.
 */
static void inline_begun_sends_hold_up_nobody(void **state) {
        enum {
                N = 80
        };
        struct raw *threads[N];
        struct story story;

        story_start(&story, 1);
        for (unsigned round = 0; round < 2; round++) {
                for (size_t i = 0; i < N; i++) {
                        struct ovl_entry entry = story_send(&story, i, 1, OVL_ENTRY_MORE);

                        threads[i] = raw_attach_thread(&story.estate.daemon, story.raw, 100 + round * N + i);
                        raw_post_inline(threads[i], &entry, 1, "a", 1);
                        assert_int_equal(raw_status(threads[i]), 0);
                }
                for (size_t i = 0; i < N && round == 0; i++) {
                        struct ovl_entry entry = story_send(&story, i, 1, 0);
                        struct ovl_record record;
                        char bytes[2];

                        raw_post_inline(threads[i], &entry, 1, "b", 1);
                        record = raw_take(threads[i]);
                        assert_int_equal(record.tag, i);
                        assert_int_equal(record.status, 0);
                        assert_int_equal(record.bytes, 2);
                        peer_read(story.fd, bytes, 2);
                        assert_memory_equal(bytes, "ab", 2);
                }
                if (round > 0)
                        story_close(&story);
                for (size_t i = 0; i < N; i++)
                        raw_close(threads[i]);
        }
        story_stop(&story);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "inline bytes arrive, whatever their number", inline_bytes_arrive },
                { "the payloads of neighbours are told apart", inline_neighbours_are_told_apart },
                { "unread records keep their bytes", inline_unread_records_keep_their_bytes, 60 },
                { "a cancelled receive gives its bytes", inline_cancelled_receive_gives_its_bytes },
                { "a long send is one operation", inline_long_sends_are_one_operation, 60 },
                { "a long send counts as one entry", inline_long_send_counts_as_one_entry },
                { "a long send is refused at its end", inline_long_sends_are_refused_at_their_end },
                { "only sends are continued", inline_only_sends_are_continued },
                { "a wrong continuation ends the session", inline_wrong_continuations_kick },
                { "a send that is cut off was never taken", inline_cut_off_sends_were_never_taken },
                { "wrong lengths end the session", inline_wrong_lengths_kick },
                { "inline entries name no memory", inline_entries_name_no_memory },
                { "inline entries go at level 1, too", inline_entries_go_at_level_1 },
                { "inline bytes are limited", inline_bytes_are_limited },
                { "begun sends hold up nobody", inline_begun_sends_hold_up_nobody },
                { "held frames find their payloads", inline_held_frames_find_their_payloads, 60 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
