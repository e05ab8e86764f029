/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

/* Frames: how a byte stream is cut into control messages, posts and records. */

#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"

#define FRAME_SIZE_MAX (sizeof(struct ovl_frame_header) + OVL_FRAME_POST_MAX) /* of any frame, header included */

/* Who sent the bytes: each side may send only its own kinds. */
enum frame_sender {
        FRAME_FROM_CLIENT,
        FRAME_FROM_DAEMON,
};

/*
 * Looks for one whole frame at the start of `bytes`.
 *
 * Returns 1 and the header when the frame is complete (its body follows the header), 0 when more bytes are needed, or
 * -EPROTO when no frame of that sender can begin so: an unknown kind, a body that is longer than its kind allows, a
 * reserved field that is not zero, or too many descriptors; *ret_problem is then a static text that says which.
 * A body of length 0 is returned as a frame: it is refused by whoever reads the body.
 */
int frame_find(const void *bytes, size_t len, enum frame_sender sender, struct ovl_frame_header *ret_header,
               const char **ret_problem);

/* Writes a header to `to`, which has room for sizeof(struct ovl_frame_header). */
void frame_pack_header(void *to, enum ovl_frame_kind kind, uint32_t body_len, unsigned n_fds);

#endif
