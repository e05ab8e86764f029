/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control messages. The bytes come from a stranger and the decoder is a library, so the bytes are checked first, by a
 * walk over the wire format that follows the message's descriptor and allocates nothing; only bytes that passed reach
 * the decoder, and the decoder can allocate only from an arena of fixed size.
 *
 * Invariant: a message is decoded completely or not at all, with at most MESSAGE_ARENA_SIZE bytes of memory and
 * MESSAGE_DEPTH_MAX stack frames of the walk, whatever the bytes are.
 *
 * The walk is stricter than protobuf where laxness serves nobody: a number must fit its field (protobuf cuts it), an
 * enum is not negative, a bool is 0 or 1, text is UTF-8 without NUL, groups do not exist, and a known field with an
 * unexpected wire type is an error. It is as lax as protobuf where that carries compatibility: unknown fields are
 * skipped, of a field that comes twice the last counts, and numbers may be encoded longer than needed.
 *
 * Rejected: a decoder of our own (the generated structures are worth the library), and limits after decoding (by then
 * the memory was taken).
 */

#include "proto/message.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "proto/frame.h"
#include "proto/layout.h"
#include "proto/text.h"

#define MESSAGE_FIELDS_MAX 256u /* fields of all levels together, the repeated and the unknown included */
#define MESSAGE_TAG_LEN_MAX 5u
#define MESSAGE_VARINT_LEN_MAX 10u

enum message_wire {
        MESSAGE_WIRE_VARINT = 0,
        MESSAGE_WIRE_FIXED64 = 1,
        MESSAGE_WIRE_BYTES = 2,
        MESSAGE_WIRE_FIXED32 = 5,
};

/* The state of a walk over one frame's body: the counts span all levels. */
struct message_walk {
        unsigned n_fields;
        unsigned n_unknown;
        unsigned n_repeated;
        const char *problem;
};

/* A run of bytes that is being read. */
struct message_bytes {
        const uint8_t *at;
        const uint8_t *end;
};

/* --- The arena -------------------------------------------------------------------------------------------------- */

static void *message_arena_alloc(void *data, size_t size) {
        struct message_arena *arena = data;
        size_t left = sizeof(arena->memory) - arena->used;
        void *memory;

        if (size > left)
                return NULL;
        memory = &arena->memory[arena->used];
        size = (size + 15) & ~(size_t) 15;
        arena->used += size < left ? size : left;
        return memory;
}

/* All of an arena is released at once, by the next message. */
static void message_arena_release(void *data, void *memory) {
}

void message_arena_init(struct message_arena *arena) {
        arena->allocator = (ProtobufCAllocator){
                .alloc = message_arena_alloc,
                .free = message_arena_release,
                .allocator_data = arena,
        };
        arena->used = 0;
}

/* --- Checks ----------------------------------------------------------------------------------------------------- */

static int message_refuse(struct message_walk *walk, const char *problem) {
        walk->problem = problem;
        return -EPROTO;
}

static int message_read_varint(struct message_walk *walk, struct message_bytes *bytes, uint64_t *ret_value) {
        uint64_t value = 0;

        for (unsigned i = 0; i < MESSAGE_VARINT_LEN_MAX; i++) {
                uint8_t byte;

                if (bytes->at == bytes->end)
                        return message_refuse(walk, "a number is cut off by the end of the message");
                byte = *bytes->at++;
                /* The tenth byte holds the 64th bit and nothing else. */
                if (i == MESSAGE_VARINT_LEN_MAX - 1 && byte > 1)
                        break;
                value |= (uint64_t) (byte & 0x7f) << (7 * i);
                if (!(byte & 0x80)) {
                        *ret_value = value;
                        return 0;
                }
        }
        return message_refuse(walk, "a number is longer than 64 bits");
}

static int message_read_run(struct message_walk *walk, struct message_bytes *bytes, uint64_t len,
                            struct message_bytes *ret_run) {
        if (len > (uint64_t) (bytes->end - bytes->at))
                return message_refuse(walk, "a field passes the end of the message");
        *ret_run = (struct message_bytes){ bytes->at, bytes->at + len };
        bytes->at += len;
        return 0;
}

static enum message_wire message_wire_of(ProtobufCType type) {
        switch (type) {
        case PROTOBUF_C_TYPE_FIXED32:
        case PROTOBUF_C_TYPE_SFIXED32:
        case PROTOBUF_C_TYPE_FLOAT:
                return MESSAGE_WIRE_FIXED32;
        case PROTOBUF_C_TYPE_FIXED64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_DOUBLE:
                return MESSAGE_WIRE_FIXED64;
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
        case PROTOBUF_C_TYPE_MESSAGE:
                return MESSAGE_WIRE_BYTES;
        default:
                return MESSAGE_WIRE_VARINT;
        }
}

static int message_check_number(struct message_walk *walk, ProtobufCType type, uint64_t value) {
        switch (type) {
        case PROTOBUF_C_TYPE_INT32:
                if ((int64_t) value < INT32_MIN || (int64_t) value > INT32_MAX)
                        return message_refuse(walk, "a number does not fit its field of 32 bits");
                break;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_SINT32:
                if (value > UINT32_MAX)
                        return message_refuse(walk, "a number does not fit its field of 32 bits");
                break;
        case PROTOBUF_C_TYPE_ENUM:
                if (value > INT32_MAX)
                        return message_refuse(walk, "the number of an enumerated value is negative or too large");
                break;
        case PROTOBUF_C_TYPE_BOOL:
                if (value > 1)
                        return message_refuse(walk, "a truth value is neither 0 nor 1");
                break;
        default:
                break;
        }
        return 0;
}

static int message_check(struct message_walk *walk, const ProtobufCMessageDescriptor *descriptor,
                         struct message_bytes bytes, unsigned depth);

/* A packed field: numbers of one type without tags between them. */
static int message_check_packed(struct message_walk *walk, ProtobufCType type, struct message_bytes bytes) {
        enum message_wire wire = message_wire_of(type);
        int r;

        while (bytes.at < bytes.end) {
                struct message_bytes run;
                uint64_t value;

                if (++walk->n_repeated > MESSAGE_REPEATED_MAX)
                        return message_refuse(walk, "a repeated field has too many elements");
                if (wire == MESSAGE_WIRE_VARINT) {
                        r = message_read_varint(walk, &bytes, &value);
                        if (r < 0)
                                return r;
                        r = message_check_number(walk, type, value);
                } else {
                        r = message_read_run(walk, &bytes, wire == MESSAGE_WIRE_FIXED64 ? 8 : 4, &run);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static int message_check_run(struct message_walk *walk, const ProtobufCFieldDescriptor *field, struct message_bytes run,
                             unsigned depth) {
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
                return message_check(walk, field->descriptor, run, depth + 1);
        if (field->type == PROTOBUF_C_TYPE_STRING && !text_is_utf8(run.at, (size_t) (run.end - run.at)))
                return message_refuse(walk, "a text is not UTF-8, or holds a NUL");
        return 0;
}

/* Reads one field's value; `field` is NULL when the field is unknown. */
static int message_check_value(struct message_walk *walk, const ProtobufCFieldDescriptor *field, unsigned wire,
                               struct message_bytes *bytes, unsigned depth) {
        struct message_bytes run;
        uint64_t value;
        int r;

        switch (wire) {
        case MESSAGE_WIRE_VARINT:
                r = message_read_varint(walk, bytes, &value);
                if (r < 0 || !field)
                        return r;
                return message_check_number(walk, field->type, value);
        case MESSAGE_WIRE_FIXED64:
                return message_read_run(walk, bytes, 8, &run);
        case MESSAGE_WIRE_FIXED32:
                return message_read_run(walk, bytes, 4, &run);
        case MESSAGE_WIRE_BYTES:
                r = message_read_varint(walk, bytes, &value);
                if (r < 0)
                        return r;
                r = message_read_run(walk, bytes, value, &run);
                if (r < 0 || !field)
                        return r;
                if (message_wire_of(field->type) != MESSAGE_WIRE_BYTES)
                        return message_check_packed(walk, field->type, run);
                return message_check_run(walk, field, run, depth);
        default:
                return message_refuse(walk, "a field has a wire type that does not exist here, such as a group");
        }
}

/* Whether a known field may come with this wire type. */
static bool message_wire_fits(const ProtobufCFieldDescriptor *field, unsigned wire) {
        if (wire == message_wire_of(field->type))
                return true;
        return wire == MESSAGE_WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED;
}

static int message_count(struct message_walk *walk, const ProtobufCFieldDescriptor *field, unsigned wire) {
        bool is_packed;

        if (++walk->n_fields > MESSAGE_FIELDS_MAX)
                return message_refuse(walk, "the message has too many fields");
        if (!field) {
                if (++walk->n_unknown > MESSAGE_UNKNOWN_FIELDS_MAX)
                        return message_refuse(walk, "the message has too many unknown fields");
                return 0;
        }
        if (!message_wire_fits(field, wire))
                return message_refuse(walk, "a field has another wire type than the protocol gives to it");
        is_packed = wire != message_wire_of(field->type); /* whose elements are counted one by one */
        if (field->label == PROTOBUF_C_LABEL_REPEATED && !is_packed && ++walk->n_repeated > MESSAGE_REPEATED_MAX)
                return message_refuse(walk, "a repeated field has too many elements");
        return 0;
}

static int message_check(struct message_walk *walk, const ProtobufCMessageDescriptor *descriptor,
                         struct message_bytes bytes, unsigned depth) {
        int r;

        if (depth > MESSAGE_DEPTH_MAX)
                return message_refuse(walk, "messages are nested too deeply");
        while (bytes.at < bytes.end) {
                const uint8_t *start = bytes.at;
                const ProtobufCFieldDescriptor *field;
                uint64_t tag;

                r = message_read_varint(walk, &bytes, &tag);
                if (r < 0)
                        return r;
                if (bytes.at - start > MESSAGE_TAG_LEN_MAX || tag > UINT32_MAX || tag >> 3 == 0)
                        return message_refuse(walk, "the number of a field is 0 or too large");
                field = protobuf_c_message_descriptor_get_field(descriptor, (unsigned) (tag >> 3));
                r = message_count(walk, field, tag & 7);
                if (r < 0)
                        return r;
                r = message_check_value(walk, field, tag & 7, &bytes, depth);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- The two verbs ---------------------------------------------------------------------------------------------- */

int message_unpack(struct message_arena *arena, const ProtobufCMessageDescriptor *descriptor, const void *bytes,
                   size_t len, ProtobufCMessage **ret_message, const char **ret_problem) {
        struct message_bytes body = { bytes, (const uint8_t *) bytes + len };
        struct message_walk walk = { 0 };
        ProtobufCMessage *message;
        int r;

        if (!len) {
                *ret_problem = "the message is empty";
                return -EPROTO;
        }
        r = message_check(&walk, descriptor, body, 1);
        if (r < 0) {
                *ret_problem = walk.problem;
                return r;
        }
        arena->used = 0;
        message = protobuf_c_message_unpack(descriptor, &arena->allocator, len, bytes);
        if (!message) {
                *ret_problem = "the message needs more memory than one message may have";
                return -EPROTO;
        }
        *ret_message = message;
        return 0;
}

ssize_t message_pack_frame(const ProtobufCMessage *message, unsigned n_fds, void **ret_frame) {
        _cleanup_free_ uint8_t *frame = NULL;
        size_t len = protobuf_c_message_get_packed_size(message);
        size_t size = sizeof(struct ovl_frame_header) + len;

        assert(len > 0);
        if (len > OVL_FRAME_CONTROL_MAX)
                return -EMSGSIZE;
        frame = malloc(size);
        if (!frame)
                return -ENOMEM;
        frame_pack_header(frame, OVL_FRAME_CONTROL, (uint32_t) len, n_fds);
        protobuf_c_message_pack(message, frame + sizeof(struct ovl_frame_header));
        *ret_frame = take_ptr(frame);
        return (ssize_t) size;
}
