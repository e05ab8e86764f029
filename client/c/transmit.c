/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files, and the parts of operations that send them. The file is the daemon's to read: what is lent is a descriptor,
 * once, and never a byte of it passes through here.
 *
 * Rejected: a descriptor with each operation (it would have to wait in a frame of its own behind the entries of a
 * lane), and reading the file here at the level "inline" (the call would wait for a disk; a program that must can do so
 * itself, where it likes).
 */

#include "client/c/transmit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "client/c/error.h"
#include "client/c/post.h"
#include "client/c/region.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/thread.h"

/* --- Files ------------------------------------------------------------------------------------------------------ */

OVL_API int ovl_file_open(struct ovl_thread *thread, int fd, uint64_t *ret_file) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FileAdd file_add = OVERLAPD__FILE_ADD__INIT;
        Overlapd__Reply *reply;
        int r;

        /* Anything but a descriptor would fail the connection, not the call. */
        if (fd < 0 || fcntl(fd, F_GETFD) < 0)
                return error_set(&thread->error, -EBADF, 0, "ovl_file_open: %d is no descriptor of this process", fd);
        if (thread->session->info.level == 0)
                return error_set(&thread->error, -EOPNOTSUPP, OVL_REASON_LEVEL,
                                 "ovl_file_open: at the level inline no file is lent: read it and send what was read, "
                                 "or use the level shared");
        request.what_case = OVERLAPD__REQUEST__WHAT_FILE_ADD;
        request.file_add = &file_add;
        r = request_make(thread, &request, fd, OVERLAPD__REPLY__WHAT_FILE_ADD, "ovl_file_open", &reply);
        if (r < 0)
                return r;
        *ret_file = reply->file_add->file;
        return 0;
}

OVL_API int ovl_file_close(struct ovl_thread *thread, uint64_t file) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FileRemove file_remove = OVERLAPD__FILE_REMOVE__INIT;
        Overlapd__Reply *reply;

        if (file == 0 || file > UINT32_MAX)
                return error_set(&thread->error, -ENOENT, OVL_REASON_UNKNOWN_FILE,
                                 "ovl_file_close: %llu is the number of no file", (unsigned long long) file);
        file_remove.file = (uint32_t) file;
        request.what_case = OVERLAPD__REQUEST__WHAT_FILE_REMOVE;
        request.file_remove = &file_remove;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_file_close", &reply);
}

/* --- Parts ------------------------------------------------------------------------------------------------------ */

static int transmit_too_long(struct ovl_thread *thread, const char *call) {
        return error_set(&thread->error, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG,
                         "%s: more than %u bytes: split the operation", call, OVL_TRANSMIT_LEN_MAX);
}

int transmit_check(struct ovl_thread *thread, const struct transmit *transmit, const char *call) {
        uint64_t left = OVL_TRANSMIT_LEN_MAX;

        if (thread->session->info.level == 0)
                return error_set(&thread->error, -EOPNOTSUPP, OVL_REASON_LEVEL,
                                 "%s: at the level inline no file is lent: read it and send what was read, or use the "
                                 "level shared",
                                 call);
        if (transmit->n_parts > OVL_SLICES_MAX)
                return error_set(&thread->error, -EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS,
                                 "%s: %zu parts, and an operation takes at most %u: join some", call, transmit->n_parts,
                                 OVL_SLICES_MAX);
        if (transmit->len > left)
                return transmit_too_long(thread, call);
        left -= transmit->len;
        for (size_t i = 0; i < transmit->n_parts; i++) {
                const struct ovl_part *part = &transmit->parts[i];

                if (part->flags & ~(unsigned) (OVL_FROM_FILE | OVL_PACKET_END))
                        return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_ELEMENT,
                                         "%s: part %zu has unknown flags 0x%x", call, i,
                                         part->flags & ~(unsigned) (OVL_FROM_FILE | OVL_PACKET_END));
                if (part->len > left)
                        return transmit_too_long(thread, call);
                left -= part->len;
        }
        return 0;
}

static int transmit_find_slice(struct ovl_thread *thread, const struct ovl_part *part, const char *call, size_t i,
                               struct ovl_slice *ret_slice) {
        const struct ovl_buffer buffer = { part->data, part->len };
        int r;

        if (part->len == 0)
                return 0;
        r = region_find_slice(thread->session, &buffer, ret_slice);
        if (r < 0)
                return error_set(&thread->error, r, OVL_REASON_OUTSIDE_REGION,
                                 "%s: part %zu (%zu bytes at %p) lies in no region of the session: take buffers from "
                                 "ovl_region_data()",
                                 call, i, part->len, part->data);
        return 0;
}

static struct ovl_element transmit_element(const struct ovl_part *part, const struct ovl_slice *slice) {
        struct ovl_element element = { slice->offset, slice->len, (uint16_t) slice->region, 0 };

        if (part->flags & OVL_FROM_FILE)
                element = (struct ovl_element){ part->offset, (uint32_t) part->len, 0, OVL_ELEMENT_FILE };
        if (part->flags & OVL_PACKET_END)
                element.flags |= OVL_ELEMENT_PACKET_END;
        return element;
}

int transmit_describe(struct ovl_thread *thread, const struct transmit *transmit, const char *call,
                      union transmit_array *ret_array, uint64_t *ret_bytes) {
        uint64_t bytes = transmit->len;
        bool is_open = transmit->has_range && transmit->len == 0;
        int r;

        for (size_t i = 0; i < transmit->n_parts; i++) {
                const struct ovl_part *part = &transmit->parts[i];
                struct ovl_slice slice = { 0 };

                bytes += part->len;
                if (!(part->flags & OVL_FROM_FILE)) {
                        r = transmit_find_slice(thread, part, call, i, &slice);
                        if (r < 0)
                                return r;
                } else if (part->len == 0) {
                        is_open = true;
                }
                if (transmit->has_range)
                        ret_array->slices[i] = slice;
                else
                        ret_array->elements[i] = transmit_element(part, &slice);
        }
        *ret_bytes = is_open ? OVL_TRANSMIT_LEN_MAX : bytes;
        return (int) transmit->n_parts;
}

/* --- The calls -------------------------------------------------------------------------------------------------- */

static_assert(OVL_REUSE == (int) OVL_TRANSMIT_REUSE && OVL_DISCONNECT == (int) OVL_TRANSMIT_DISCONNECT,
              "flags are the same on the wire");

OVL_API int ovl_transmit_file(struct ovl_thread *thread, uint64_t socket, uint64_t file, uint64_t offset, uint64_t len,
                              const struct ovl_buffer *head, const struct ovl_buffer *tail, unsigned flags,
                              struct ovl_overlapped *overlapped,
                              void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        const struct ovl_part parts[] = {
                { .data = head ? head->data : NULL, .len = head ? head->len : 0 },
                { .data = tail ? tail->data : NULL, .len = tail ? tail->len : 0 },
        };
        const struct transmit transmit = {
                .parts = parts,
                .n_parts = tail ? 2 : head != NULL,
                .has_range = true,
                .len = len,
        };
        struct post post = {
                .call = "ovl_transmit_file",
                .flags = flags,
                .flags_known = OVL_DISCONNECT | OVL_REUSE,
                .overlapped = overlapped,
                .routine = routine,
                .transmit = &transmit,
                .entry = { .socket = socket,
                           .op = OVL_OP_TRANSMIT_FILE,
                           .other = file,
                           .aux = { .offset = offset, .len = (uint32_t) len } },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_transmit_packets(struct ovl_thread *thread, uint64_t socket, uint64_t file,
                                 const struct ovl_part *parts, size_t n, unsigned flags,
                                 struct ovl_overlapped *overlapped,
                                 void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        const struct transmit transmit = { .parts = parts, .n_parts = n };
        struct post post = {
                .call = "ovl_transmit_packets",
                .flags = flags,
                .flags_known = OVL_DISCONNECT | OVL_REUSE,
                .overlapped = overlapped,
                .routine = routine,
                .transmit = &transmit,
                .entry = { .socket = socket, .op = OVL_OP_TRANSMIT_PACKETS, .other = file },
        };

        return post_submit(thread, &post);
}
