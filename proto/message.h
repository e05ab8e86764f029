/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_MESSAGE_H
#define PROTO_MESSAGE_H

/* Control messages: hostile bytes to checked structures and back, within a bounded arena. */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MESSAGE_ARENA_SIZE 65536u
#define MESSAGE_DEPTH_MAX 4u
#define MESSAGE_UNKNOWN_FIELDS_MAX 64u
#define MESSAGE_REPEATED_MAX 64u

/* Memory for one message at a time. Embedded in its owner; what a message points to dies with the next unpack. */
struct message_arena {
        ProtobufCAllocator allocator;
        size_t used;
        _Alignas(16) uint8_t memory[MESSAGE_ARENA_SIZE];
};

void message_arena_init(struct message_arena *arena);

/*
 * Checks and unpacks the body of a CONTROL frame.
 *
 * Checked before anything is decoded: nesting, the number of repeated and of unknown fields, that every number fits its
 * field, that strings are UTF-8 without NUL, that no field passes the end.
 *
 * Returns 0 and the message, which lives in the arena until the next call, or -EPROTO and a static text that says what
 * was wrong. An unknown field is skipped; an unknown member of a oneof leaves its case at 0.
 */
int message_unpack(struct message_arena *arena, const ProtobufCMessageDescriptor *descriptor, const void *bytes,
                   size_t len, ProtobufCMessage **ret_message, const char **ret_problem);

/*
 * Packs a message as one whole CONTROL frame.
 *
 * n_fds: descriptors that will ride with it.
 *
 * Returns the frame's size and the frame, which the caller frees, -EMSGSIZE when the body would be longer than
 * OVL_FRAME_CONTROL_MAX, or -ENOMEM.
 */
ssize_t message_pack_frame(const ProtobufCMessage *message, unsigned n_fds, void **ret_frame);

#endif
