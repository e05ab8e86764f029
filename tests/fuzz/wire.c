/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes on a connection, from either side: a stream of frames, of which those that are control messages are
 * unpacked.
 *
 * A frame lies within the bytes. A message that is taken can be packed and unpacked again, and is then packed to the
 * same bytes: nothing of it was lost but what is unknown.
 *
 * The first byte of the input says whose frames they are: a client's or the daemon's, an administrator's or the answers
 * to that.
 */

#include <string.h>

#include "base/cleanup.h"
#include "proto/admin.pb-c.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_message(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes, size_t len) {
        static struct message_arena arena;
        _cleanup_free_ void *first = NULL, *second = NULL;
        const size_t header = sizeof(struct ovl_frame_header);
        ssize_t first_size, second_size;
        const char *problem = NULL;
        ProtobufCMessage *message;
        int r;

        message_arena_init(&arena);
        r = message_unpack(&arena, descriptor, bytes, len, &message, &problem);
        if (r < 0) {
                fuzz_check(r == -EPROTO && problem, "%d", r);
                return;
        }
        if (protobuf_c_message_get_packed_size(message) == 0)
                return; /* nobody sends a message of nothing but what is understood */
        first_size = message_pack_frame(message, 0, &first);
        if (first_size < 0)
                return; /* numbers of a fixed length may need more room than they came in */
        r = message_unpack(&arena, descriptor, (uint8_t *) first + header, (size_t) first_size - header, &message,
                           &problem);
        fuzz_check(r == 0, "what was packed is refused: %s", problem);
        second_size = message_pack_frame(message, 0, &second);
        fuzz_check(second_size == first_size && memcmp(first, second, (size_t) first_size) == 0, "%zd and %zd bytes",
                   first_size, second_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
        const ProtobufCMessageDescriptor *const messages[] = {
                &overlapd__request__descriptor,
                &overlapd__from_daemon__descriptor,
                &overlapd__admin_request__descriptor,
                &overlapd__admin_reply__descriptor,
        };
        unsigned whose = len > 0 ? bytes[0] % 4 : 0;
        enum frame_sender sender = whose & 1 ? FRAME_FROM_DAEMON : FRAME_FROM_CLIENT;
        _cleanup_free_ uint8_t *copy = malloc(len + 1);
        size_t at = 1;

        fuzz_check(copy, "no memory");
        memcpy(copy, bytes, len);
        while (at < len) {
                struct ovl_frame_header header;
                const char *problem = NULL;
                int r = frame_find(copy + at, len - at, sender, &header, &problem);

                fuzz_check(r == 0 || r == 1 || (r == -EPROTO && problem), "%d", r);
                if (r != 1)
                        break;
                fuzz_check(header.body_len <= len - at - sizeof(header), "%u of %zu bytes", header.body_len, len - at);
                at += sizeof(header);
                if (header.kind == OVL_FRAME_CONTROL)
                        fuzz_message(messages[whose], copy + at, header.body_len);
                at += header.body_len;
        }
        return 0;
}
