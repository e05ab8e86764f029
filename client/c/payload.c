/* SPDX-License-Identifier: Apache-2.0 */

/*
 * At level 0 the daemon sees no memory of the program. What is sent is copied into the frame of its entry when it is
 * posted; what was received comes behind the record, and is copied into the buffers before the status says that it is
 * there. So a program need not know at which level it runs: its buffers lie in regions at all of them.
 *
 * Where the buffers of an operation are is remembered as it is told to the daemon at the other levels: as a slice, or
 * as the slice of an array of slices (vector.c). Here that array is private memory, and may be read back.
 *
 * Invariant: between payload_lend() and payload_return() the regions of an operation are in a list of the session.
 */

#include "client/c/payload.h"

#include <string.h>

#include "client/c/pending.h"
#include "client/c/region.h"
#include "client/c/session.h"
#include "client/c/vector.h"

void payload_gather(const struct ovl_buffer *buffers, uint64_t offset, size_t len, uint8_t *to) {
        for (; len > 0; buffers++) {
                size_t step;

                if (offset >= buffers->len) {
                        offset -= buffers->len;
                        continue;
                }
                step = buffers->len - offset < len ? (size_t) (buffers->len - offset) : len;
                memcpy(to, (const uint8_t *) buffers->data + offset, step);
                to += step;
                len -= step;
                offset = 0;
        }
}

static struct ovl_region *payload_find_region(const struct list *regions, uint32_t number) {
        list_for_each(link, regions) {
                struct ovl_region *region = list_entry(link, struct ovl_region, link);

                if (region->number == number)
                        return region;
        }
        return NULL;
}

static struct ovl_region *payload_region(const struct ovl_session *session, const struct ovl_slice *slice) {
        struct ovl_region *region = payload_find_region(&session->regions, slice->region);

        return region ? region : payload_find_region(&session->leaving, slice->region);
}

/* The slices of an operation's buffers. */
static const struct ovl_slice *payload_slices(const struct pending *pending, size_t *ret_n) {
        if (pending->is_gathered) {
                *ret_n = pending->slice.len / sizeof(struct ovl_slice);
                return vector_slices(pending->vector, pending->vector_slot);
        }
        *ret_n = pending->slice.region != 0;
        return &pending->slice;
}

void payload_lend(struct ovl_session *session, const struct pending *pending) {
        const struct ovl_slice *slices;
        size_t n;

        slices = payload_slices(pending, &n);
        for (size_t i = 0; i < n; i++)
                payload_region(session, &slices[i])->n_loans++;
}

bool payload_return(struct ovl_session *session, const struct pending *pending) {
        const struct ovl_slice *slices;
        size_t n;

        slices = payload_slices(pending, &n);
        for (size_t i = 0; i < n; i++)
                payload_region(session, &slices[i])->n_loans--;
        return !list_is_empty(&session->leaving);
}

void payload_scatter(struct ovl_session *session, const struct pending *pending, const uint8_t *bytes, size_t len) {
        const struct ovl_slice *slices;
        size_t n;

        slices = payload_slices(pending, &n);
        for (size_t i = 0; i < n && len > 0; i++) {
                size_t step = slices[i].len < len ? slices[i].len : len;

                memcpy(payload_region(session, &slices[i])->data + slices[i].offset, bytes, step);
                bytes += step;
                len -= step;
        }
}
