/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A frame is a header of 8 bytes and a body. The header alone decides whether the frame is acceptable, so a frame that
 * will be refused is refused before a byte of its body is awaited: a sender that announces 4 GiB costs nothing.
 *
 * Invariant: frame_find() reads nothing beyond the `len` bytes that it was given, and what it returns as a whole frame
 * lies within them.
 *
 * Rejected: a parser that keeps state between calls. The header is looked at again with each arrival; that is cheaper
 * than a second place that knows how far a frame has come.
 */

#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static int frame_refuse(const char *problem, const char **ret_problem) {
        *ret_problem = problem;
        return -EPROTO;
}

/* The longest body of a kind, or 0 when that side does not send this kind. */
static uint32_t frame_body_max(unsigned kind, enum frame_sender sender) {
        switch (kind) {
        case OVL_FRAME_CONTROL:
                return OVL_FRAME_CONTROL_MAX;
        case OVL_FRAME_POST:
                return sender == FRAME_FROM_CLIENT ? OVL_FRAME_POST_MAX : 0;
        case OVL_FRAME_RECORDS:
                return sender == FRAME_FROM_DAEMON ? OVL_FRAME_RECORDS_MAX : 0;
        default:
                return 0;
        }
}

int frame_find(const void *bytes, size_t len, enum frame_sender sender, struct ovl_frame_header *ret_header,
               const char **ret_problem) {
        struct ovl_frame_header header;
        uint32_t body_max;

        if (len < sizeof(header))
                return 0;
        memcpy(&header, bytes, sizeof(header));

        body_max = frame_body_max(header.kind, sender);
        if (!body_max)
                return frame_refuse("this side of a connection sends no frames of this kind", ret_problem);
        if (header.body_len > body_max)
                return frame_refuse("the body is longer than a frame of this kind may be", ret_problem);
        if (header.n_fds > (header.kind == OVL_FRAME_CONTROL ? OVL_FRAME_FDS_MAX : 0))
                return frame_refuse("the frame announces more descriptors than its kind may carry", ret_problem);
        if (header.reserved)
                return frame_refuse("a reserved field of the frame header is not zero", ret_problem);
        if (len - sizeof(header) < header.body_len)
                return 0;
        *ret_header = header;
        return 1;
}

void frame_pack_header(void *to, enum ovl_frame_kind kind, uint32_t body_len, unsigned n_fds) {
        struct ovl_frame_header header = {
                .body_len = body_len,
                .kind = (uint8_t) kind,
                .n_fds = (uint8_t) n_fds,
        };

        assert(n_fds <= OVL_FRAME_FDS_MAX);
        memcpy(to, &header, sizeof(header));
}
