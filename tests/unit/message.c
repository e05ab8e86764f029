/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever the bytes are: a whole message or a refusal with words, within the arena (HOSTILE 8 to 15).
 *
 * Bytes are handed over in memory of exactly their length, so that a sanitizer sees each read beyond them.
 */

#include "proto/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "message.pb-c.h"
#include "proto/frame.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/harness.h"

/* --- Writing the wire format ------------------------------------------------------------------------------------ */

struct wire {
        uint8_t bytes[65536];
        size_t len;
};

static void wire_byte(struct wire *wire, unsigned byte) {
        assert_true(wire->len < sizeof(wire->bytes));
        wire->bytes[wire->len++] = (uint8_t) byte;
}

static void wire_varint(struct wire *wire, uint64_t value) {
        for (; value >= 0x80; value >>= 7)
                wire_byte(wire, (unsigned) (value & 0x7f) | 0x80);
        wire_byte(wire, (unsigned) value);
}

static void wire_tag(struct wire *wire, uint32_t field, unsigned type) {
        wire_varint(wire, (uint64_t) field << 3 | type);
}

static void wire_number(struct wire *wire, uint32_t field, uint64_t value) {
        wire_tag(wire, field, 0);
        wire_varint(wire, value);
}

static void wire_run(struct wire *wire, uint32_t field, const void *bytes, size_t len) {
        wire_tag(wire, field, 2);
        wire_varint(wire, len);
        for (size_t i = 0; i < len; i++)
                wire_byte(wire, ((const uint8_t *) bytes)[i]);
}

/* Every field of a message, all members of a oneof included, each with a value that is not its default. */
static void wire_sample(struct wire *wire, const ProtobufCMessageDescriptor *descriptor) {
        for (unsigned i = 0; i < descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
                struct wire *inner;

                switch (field->type) {
                case PROTOBUF_C_TYPE_MESSAGE:
                        inner = calloc(1, sizeof(*inner));
                        if (field->descriptor != descriptor)
                                wire_sample(inner, field->descriptor);
                        wire_run(wire, field->id, inner->bytes, inner->len);
                        free(inner);
                        break;
                case PROTOBUF_C_TYPE_STRING:
                case PROTOBUF_C_TYPE_BYTES:
                        wire_run(wire, field->id, "caf\xc3\xa9", 5);
                        break;
                case PROTOBUF_C_TYPE_FIXED64:
                        wire_tag(wire, field->id, 1);
                        for (unsigned at = 0; at < 8; at++)
                                wire_byte(wire, at + 1);
                        break;
                case PROTOBUF_C_TYPE_FIXED32:
                        wire_tag(wire, field->id, 5);
                        for (unsigned at = 0; at < 4; at++)
                                wire_byte(wire, at + 1);
                        break;
                default:
                        wire_number(wire, field->id, 1);
                        break;
                }
        }
}

/* --- Unpacking ---------------------------------------------------------------------------------------------------- */

static struct message_arena *message_new_arena(void) {
        struct message_arena *arena = malloc(sizeof(*arena));

        assert_non_null(arena);
        message_arena_init(arena);
        return arena;
}

/* Unpacks from a copy of exactly this length. The message is NULL when it was refused. */
static ProtobufCMessage *message_try(struct message_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                                     const void *bytes, size_t len, const char **ret_problem) {
        uint8_t *copy = malloc(len ? len : 1);
        ProtobufCMessage *message = NULL;
        const char *problem = NULL;
        int r;

        memcpy(copy, bytes, len);
        r = message_unpack(arena, descriptor, copy, len, &message, &problem);
        free(copy);
        assert_true(arena->used <= sizeof(arena->memory));
        if (r < 0) {
                assert_int_equal(r, -EPROTO);
                assert_non_null(problem);
                assert_null(message);
        } else {
                assert_int_equal(r, 0);
                assert_ptr_equal(message->descriptor, descriptor);
        }
        if (ret_problem)
                *ret_problem = problem;
        return message;
}

static void assert_refused(const struct wire *wire, const char *words) {
        struct message_arena *arena = message_new_arena();
        const char *problem;

        assert_null(message_try(arena, &sample__sample__descriptor, wire->bytes, wire->len, &problem));
        if (!strstr(problem, words))
                fail_msg("refused because \"%s\", not because \"%s\"", problem, words);
        free(arena);
}

static void assert_accepted(const struct wire *wire) {
        struct message_arena *arena = message_new_arena();
        const char *problem;

        if (!message_try(arena, &sample__sample__descriptor, wire->bytes, wire->len, &problem))
                fail_msg("refused because \"%s\"", problem);
        free(arena);
}

static const ProtobufCMessageDescriptor *const descriptors[] = {
        &overlapd__request__descriptor,
        &overlapd__reply__descriptor,
        &overlapd__notice__descriptor,
        &overlapd__from_daemon__descriptor,
        &overlapd__hello__descriptor,
        &overlapd__hello_reply__descriptor,
        &overlapd__attach__descriptor,
        &overlapd__region_add__descriptor,
        &overlapd__region_add_reply__descriptor,
        &overlapd__region_remove__descriptor,
        &overlapd__file_add_reply__descriptor,
        &overlapd__file_remove__descriptor,
        &overlapd__address__descriptor,
        &overlapd__socket_open__descriptor,
        &overlapd__socket_open_reply__descriptor,
        &overlapd__socket_bind__descriptor,
        &overlapd__socket_listen__descriptor,
        &overlapd__socket_name__descriptor,
        &overlapd__socket_name_reply__descriptor,
        &overlapd__socket_option_set__descriptor,
        &overlapd__socket_option_get__descriptor,
        &overlapd__socket_option_reply__descriptor,
        &overlapd__socket_shutdown__descriptor,
        &overlapd__socket_close__descriptor,
        &overlapd__port_associate__descriptor,
        &overlapd__cancel__descriptor,
        &overlapd__cancel_reply__descriptor,
        &overlapd__status_reply__descriptor,
        &sample__sample__descriptor,
};

/* --- Cases ------------------------------------------------------------------------------------------------------ */

static void message_comes_back_as_packed(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT, *back;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        struct message_arena *arena = message_new_arena();
        struct ovl_frame_header header;
        const char *problem;
        void *frame;
        ssize_t size;

        hello.version_min = 1;
        hello.version_max = 3;
        hello.thread = UINT64_MAX;
        hello.client = (char *) "a client";
        request.id = UINT32_MAX;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        size = message_pack_frame(&request.base, 1, &frame);
        assert_ok(size);
        assert_int_equal(frame_find(frame, (size_t) size, FRAME_FROM_CLIENT, &header, &problem), 1);
        assert_int_equal(header.n_fds, 1);
        assert_int_equal(header.body_len, size - (ssize_t) sizeof(header));
        back = (Overlapd__Request *) message_try(arena, &overlapd__request__descriptor,
                                                 (uint8_t *) frame + sizeof(header), header.body_len, NULL);
        assert_non_null(back);
        assert_int_equal(back->id, UINT32_MAX);
        assert_int_equal(back->what_case, OVERLAPD__REQUEST__WHAT_HELLO);
        assert_int_equal(back->hello->version_max, 3);
        assert_true(back->hello->thread == UINT64_MAX);
        assert_string_equal(back->hello->client, "a client");
        free(frame);
        free(arena);
}

static void message_too_long_is_not_packed(void **state) {
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;
        char *text = malloc(OVL_FRAME_CONTROL_MAX + 1);
        void *frame = NULL;

        memset(text, 'x', OVL_FRAME_CONTROL_MAX);
        text[OVL_FRAME_CONTROL_MAX] = '\0';
        notice.text = text;
        assert_int_equal(message_pack_frame(&notice.base, 0, &frame), -EMSGSIZE);
        assert_null(frame);
        text[OVL_FRAME_CONTROL_MAX - 3] = '\0';
        assert_int_equal(message_pack_frame(&notice.base, 0, &frame), 8 + OVL_FRAME_CONTROL_MAX);
        free(frame);
        free(text);
}

static void message_empty_is_refused(void **state) {
        struct wire wire = { .len = 0 };

        assert_refused(&wire, "empty");
}

/* HOSTILE 8. A prefix that ends between two fields is a message; any other is not. */
static void message_every_prefix(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));

        for (size_t i = 0; i < HARNESS_N(descriptors); i++) {
                size_t n_accepted = 0;

                wire->len = 0;
                wire_sample(wire, descriptors[i]);
                assert_true(wire->len > 0);
                for (size_t len = 0; len < wire->len; len++)
                        if (message_try(arena, descriptors[i], wire->bytes, len, NULL))
                                n_accepted++;
                assert_true(n_accepted < descriptors[i]->n_fields);
                assert_non_null(message_try(arena, descriptors[i], wire->bytes, wire->len, NULL));
        }
        free(wire);
        free(arena);
}

/* HOSTILE 9: random bytes, and messages with some bytes changed. */
static void message_random_bytes(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));
        uint64_t random = 0x9e3779b97f4a7c15;

        for (size_t i = 0; i < 100000; i++) {
                const ProtobufCMessageDescriptor *descriptor = descriptors[i % HARNESS_N(descriptors)];
                size_t n_changes;

                wire->len = 0;
                if (i & 1)
                        wire_sample(wire, descriptor);
                else
                        wire->len = 1 + random % 64;
                n_changes = i & 1 ? 1 + random % 4 : wire->len;
                for (size_t change = 0; change < n_changes; change++) {
                        random = random * 6364136223846793005u + 1442695040888963407u;
                        wire->bytes[i & 1 ? (random >> 32) % wire->len : change] = (uint8_t) (random >> 56);
                }
                message_try(arena, descriptor, wire->bytes, wire->len, NULL);
        }
        free(wire);
        free(arena);
}

/* HOSTILE 10. */
static void message_unknown_fields_are_skipped_within_bounds(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));
        static uint8_t filling[248];
        Sample__Sample *sample;

        wire_number(wire, 6, 7);
        for (unsigned i = 0; i < MESSAGE_UNKNOWN_FIELDS_MAX; i++)
                wire_run(wire, 1000 + i, filling, sizeof(filling));
        assert_true(wire->len > 15000 && wire->len <= OVL_FRAME_CONTROL_MAX);
        sample = (Sample__Sample *) message_try(arena, &sample__sample__descriptor, wire->bytes, wire->len, NULL);
        assert_non_null(sample);
        assert_int_equal(sample->u32, 7);
        wire_number(wire, 2000, 1);
        assert_refused(wire, "too many unknown fields");
        free(wire);
        free(arena);
}

static void message_unknown_fields_of_all_levels_count_together(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire)), *inner = calloc(1, sizeof(*inner));

        for (unsigned i = 0; i < MESSAGE_UNKNOWN_FIELDS_MAX; i++)
                wire_number(inner, 1000 + i, 1);
        wire_run(wire, 1, inner->bytes, inner->len);
        assert_accepted(wire);
        wire_number(wire, 1000, 1);
        assert_refused(wire, "too many unknown fields");
        free(inner);
        free(wire);
}

static void message_unknown_oneof_member_leaves_its_case_at_0(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));
        Overlapd__Request *request;

        wire_number(wire, 1, 5);
        wire_run(wire, 500, "\x08\x01", 2);
        request =
                (Overlapd__Request *) message_try(arena, &overlapd__request__descriptor, wire->bytes, wire->len, NULL);
        assert_non_null(request);
        assert_int_equal(request->id, 5);
        assert_int_equal(request->what_case, OVERLAPD__REQUEST__WHAT__NOT_SET);
        free(wire);
        free(arena);
}

/* HOSTILE 11. */
static void message_depth_is_bounded(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire)), *outer = calloc(1, sizeof(*outer));

        wire_number(wire, 6, 1);
        for (unsigned depth = 2; depth <= 3000; depth++) {
                outer->len = 0;
                wire_run(outer, 1, wire->bytes, wire->len);
                *wire = *outer;
                if (depth <= MESSAGE_DEPTH_MAX)
                        assert_accepted(wire);
                else if (depth < 8 || depth % 500 == 0)
                        assert_refused(wire, "nested too deeply");
                if (wire->len > OVL_FRAME_CONTROL_MAX)
                        break;
        }
        free(outer);
        free(wire);
}

static void message_groups_are_refused(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));

        for (unsigned type = 3; type < 8; type++) {
                if (type == 5)
                        continue;
                wire->len = 0;
                wire_tag(wire, 100, type);
                wire_number(wire, 6, 1);
                assert_refused(wire, "wire type");
                wire->len = 0;
                wire_tag(wire, 6, type);
                assert_refused(wire, "wire type");
        }
        wire->len = 0;
        for (unsigned depth = 0; depth < 10000; depth++)
                wire_tag(wire, 1, 3);
        assert_refused(wire, "wire type");
        free(wire);
}

/* HOSTILE 12. */
static void message_repeated_is_bounded(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));
        uint8_t ones[OVL_FRAME_CONTROL_MAX];

        memset(ones, 1, sizeof(ones));
        wire_run(wire, 2, ones, MESSAGE_REPEATED_MAX);
        assert_accepted(wire);
        wire_number(wire, 2, 1);
        assert_refused(wire, "too many elements");
        wire->len = 0;
        wire_run(wire, 2, ones, sizeof(ones));
        assert_refused(wire, "too many elements");
        wire->len = 0;
        for (unsigned i = 0; i < MESSAGE_REPEATED_MAX; i++)
                wire_number(wire, 2, i);
        assert_accepted(wire);
        wire_run(wire, 3, "x", 1);
        assert_refused(wire, "too many elements");
        wire->len = 0;
        wire_run(wire, 16, ones, 4 * MESSAGE_REPEATED_MAX);
        assert_accepted(wire);
        wire->len = 0;
        wire_run(wire, 16, ones, 4 * MESSAGE_REPEATED_MAX + 4);
        assert_refused(wire, "too many elements");
        wire->len = 0;
        wire_run(wire, 16, ones, 6);
        assert_refused(wire, "passes the end");
        free(wire);
}

static void message_fields_are_bounded(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));

        for (unsigned i = 0; i < 8000; i++)
                wire_number(wire, 6, 1);
        assert_refused(wire, "too many fields");
        free(wire);
}

/* A length that passes the end, also where adding it would overflow. */
static void message_lengths_stay_inside(void **state) {
        static const uint64_t lengths[] = { 2, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, UINT64_MAX - 1, UINT64_MAX };
        struct wire *wire = calloc(1, sizeof(*wire));

        for (size_t i = 0; i < HARNESS_N(lengths); i++) {
                for (uint32_t field = 12; field <= 1000; field += 988) {
                        wire->len = 0;
                        wire_tag(wire, field, 2);
                        wire_varint(wire, lengths[i]);
                        wire_byte(wire, 'x');
                        assert_refused(wire, "passes the end");
                }
        }
        free(wire);
}

/* HOSTILE 13. */
static void message_numbers_fit_their_fields(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));
        static const struct {
                uint32_t field;
                uint64_t value;
                const char *words; /* NULL: accepted */
        } table[] = {
                { 4, INT32_MAX, NULL },
                { 4, (uint64_t) INT32_MIN, NULL },
                { 4, (uint64_t) INT32_MAX + 1, "32 bits" },
                { 4, (uint64_t) INT32_MIN - 1, "32 bits" },
                { 5, UINT32_MAX, NULL },
                { 5, (uint64_t) UINT32_MAX + 1, "32 bits" },
                { 6, UINT32_MAX, NULL },
                { 6, (uint64_t) UINT32_MAX + 1, "32 bits" },
                { 6, UINT64_MAX, "32 bits" },
                { 7, UINT64_MAX, NULL },
                { 8, UINT64_MAX, NULL },
                { 9, UINT64_MAX, NULL },
                { 10, 1, NULL },
                { 10, 2, "truth value" },
                { 11, 77, NULL },
                { 11, (uint64_t) -1, "negative" },
                { 11, (uint64_t) INT32_MAX + 1, "negative" },
        };

        for (size_t i = 0; i < HARNESS_N(table); i++) {
                wire->len = 0;
                wire_number(wire, table[i].field, table[i].value);
                if (table[i].words)
                        assert_refused(wire, table[i].words);
                else
                        assert_accepted(wire);
        }
        wire->len = 0;
        wire_run(wire, 2, "\xff\xff\xff\xff\x1f", 5); /* within a packed field too */
        assert_refused(wire, "32 bits");
        free(wire);
}

static void message_varints_have_ten_bytes(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));

        for (uint32_t field = 9; field <= 1000; field += 991) {
                wire->len = 0;
                wire_tag(wire, field, 0);
                for (unsigned i = 0; i < 10; i++)
                        wire_byte(wire, 0x80);
                wire_byte(wire, 0);
                assert_refused(wire, "longer than 64 bits");
                wire->bytes[wire->len - 2] = 2; /* a 65th bit in the tenth byte */
                wire->len--;
                assert_refused(wire, "longer than 64 bits");
                wire->bytes[wire->len - 1] = 1;
                assert_accepted(wire);
        }
        free(wire);
}

static void message_field_numbers_are_checked(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));

        wire_number(wire, 0, 1);
        assert_refused(wire, "number of a field");
        wire->len = 0;
        wire_varint(wire, 1ull << 32);
        wire_byte(wire, 1);
        assert_refused(wire, "number of a field");
        wire->len = 0;
        wire_run(wire, 0, "x", 1);
        assert_refused(wire, "number of a field");
        wire->len = 0;
        for (unsigned i = 0; i < 5; i++) /* field 6, encoded in six bytes */
                wire_byte(wire, i ? 0x80 : 0xb0);
        wire_byte(wire, 0);
        wire_byte(wire, 1);
        assert_refused(wire, "number of a field");
        free(wire);
}

static void message_wire_types_are_checked(void **state) {
        struct wire *wire = calloc(1, sizeof(*wire));

        wire_run(wire, 6, "x", 1);
        assert_refused(wire, "another wire type");
        wire->len = 0;
        wire_number(wire, 12, 1);
        assert_refused(wire, "another wire type");
        wire->len = 0;
        wire_number(wire, 1, 1);
        assert_refused(wire, "another wire type");
        wire->len = 0;
        wire_number(wire, 15, 1);
        assert_refused(wire, "another wire type");
        free(wire);
}

/* HOSTILE 14. */
static void message_text_is_utf8_without_nul(void **state) {
        static const char *const good[] = {
                "plain",        "caf\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf",
                "\xee\x80\x80", "\x7f",        "\xc2\x80",     "\xe0\xa0\x80",     "\xf0\x90\x80\x80", "",
        };
        static const char *const bad[] = {
                "\x80",             /* a continuation alone */
                "\xc3",             /* cut */
                "\xe2\x82",         /* cut */
                "\xf0\x9f\x98",     /* cut */
                "\xc3(",            /* no continuation */
                "\xc0\x80",         /* overlong NUL */
                "\xc1\xbf",         /* overlong */
                "\xe0\x9f\xbf",     /* overlong */
                "\xf0\x8f\xbf\xbf", /* overlong */
                "\xed\xa0\x80",     /* a surrogate */
                "\xed\xbf\xbf",     /* a surrogate */
                "\xf4\x90\x80\x80", /* beyond U+10FFFF */
                "\xf8\x88\x80\x80\x80",
                "\xfe",
                "\xff",
        };
        struct wire *wire = calloc(1, sizeof(*wire));

        for (size_t i = 0; i < HARNESS_N(good); i++) {
                wire->len = 0;
                wire_run(wire, 12, good[i], strlen(good[i]));
                assert_accepted(wire);
        }
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                for (uint32_t field = 3; field <= 12; field += 9) {
                        wire->len = 0;
                        wire_run(wire, field, bad[i], strlen(bad[i]));
                        assert_refused(wire, "UTF-8");
                }
        }
        wire->len = 0;
        wire_run(wire, 12, "a\0b", 3);
        assert_refused(wire, "UTF-8");
        wire->len = 0;
        wire_run(wire, 13, "a\0\xff", 3); /* bytes may be anything */
        assert_accepted(wire);
        free(wire);
}

/* HOSTILE 14: as long as a frame can hold. */
static void message_long_text_fits(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));
        static char text[OVL_FRAME_CONTROL_MAX - 3];
        Sample__Sample *sample;

        memset(text, 'x', sizeof(text));
        wire_run(wire, 12, text, sizeof(text));
        sample = (Sample__Sample *) message_try(arena, &sample__sample__descriptor, wire->bytes, wire->len, NULL);
        assert_non_null(sample);
        assert_int_equal(strlen(sample->text), sizeof(text));
        free(wire);
        free(arena);
}

/* HOSTILE 15. */
static void message_last_of_a_duplicate_counts(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));
        Overlapd__Cancel *cancel;
        Sample__Sample *sample;

        wire_number(wire, 6, 1);
        wire_run(wire, 12, "first", 5);
        wire_number(wire, 6, 2);
        wire_run(wire, 12, "second", 6);
        sample = (Sample__Sample *) message_try(arena, &sample__sample__descriptor, wire->bytes, wire->len, NULL);
        assert_non_null(sample);
        assert_int_equal(sample->u32, 2);
        assert_string_equal(sample->text, "second");
        wire->len = 0;
        wire_number(wire, 4, 1); /* a oneof: all, then thread */
        wire_number(wire, 3, 99);
        cancel = (Overlapd__Cancel *) message_try(arena, &overlapd__cancel__descriptor, wire->bytes, wire->len, NULL);
        assert_non_null(cancel);
        assert_int_equal(cancel->which_case, OVERLAPD__CANCEL__WHICH_THREAD);
        assert_int_equal(cancel->thread, 99);
        free(wire);
        free(arena);
}

/* The same message again and again costs no more than once. */
static void message_arena_starts_over(void **state) {
        struct message_arena *arena = message_new_arena();
        struct wire *wire = calloc(1, sizeof(*wire));
        size_t used;

        wire_sample(wire, &overlapd__from_daemon__descriptor);
        assert_non_null(message_try(arena, &overlapd__from_daemon__descriptor, wire->bytes, wire->len, NULL));
        used = arena->used;
        for (unsigned i = 0; i < 1000; i++) {
                assert_non_null(message_try(arena, &overlapd__from_daemon__descriptor, wire->bytes, wire->len, NULL));
                assert_int_equal(arena->used, used);
        }
        free(wire);
        free(arena);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "comes-back-as-packed", message_comes_back_as_packed },
                { "too-long-is-not-packed", message_too_long_is_not_packed },
                { "empty-is-refused", message_empty_is_refused },
                { "every-prefix", message_every_prefix },
                { "random-bytes", message_random_bytes },
                { "unknown-fields-are-skipped-within-bounds", message_unknown_fields_are_skipped_within_bounds },
                { "unknown-fields-of-all-levels-count-together", message_unknown_fields_of_all_levels_count_together },
                { "unknown-oneof-member-leaves-its-case-at-0", message_unknown_oneof_member_leaves_its_case_at_0 },
                { "depth-is-bounded", message_depth_is_bounded },
                { "groups-are-refused", message_groups_are_refused },
                { "repeated-is-bounded", message_repeated_is_bounded },
                { "fields-are-bounded", message_fields_are_bounded },
                { "lengths-stay-inside", message_lengths_stay_inside },
                { "numbers-fit-their-fields", message_numbers_fit_their_fields },
                { "varints-have-ten-bytes", message_varints_have_ten_bytes },
                { "field-numbers-are-checked", message_field_numbers_are_checked },
                { "wire-types-are-checked", message_wire_types_are_checked },
                { "text-is-utf8-without-nul", message_text_is_utf8_without_nul },
                { "long-text-fits", message_long_text_fits },
                { "last-of-a-duplicate-counts", message_last_of_a_duplicate_counts },
                { "arena-starts-over", message_arena_starts_over },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
