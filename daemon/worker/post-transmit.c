/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The entries of transmits. Their parts are memory and ranges of a file, in the scratch of the op: a range is a part
 * whose base is an offset, and a bit says so. What a range holds is known when its file is read.
 */

#include <errno.h>

#include "daemon/worker/post.h"
#include "daemon/worker/session.h"
#include "proto/shm.h"

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

static int post_take_file(struct session *session, struct op *op, uint64_t number, unsigned *ret_reason) {
        struct file *file = NULL;

        if (number == 0)
                return 0;
        if (number <= SESSION_FILES_MAX)
                file = session->files[number - 1];
        if (!file || file->status != 0 || file->is_leaving)
                return refuse(-EBADF, OVL_REASON_UNKNOWN_FILE, ret_reason);
        file->n_ops++;
        op->transmit.file = file;
        return 0;
}

/* Appends a part. What is open counts when the file was measured. */
static int post_add_part(struct op *op, struct iovec part, unsigned *ret_reason) {
        struct iovec *parts = op->scratch;

        if (part.iov_len > OVL_TRANSMIT_LEN_MAX - op->len)
                return refuse(-EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, ret_reason);
        op->len += part.iov_len;
        parts[op->n_parts++] = part;
        return 0;
}

static int post_add_memory(struct session *session, struct op *op, const struct ovl_slice *slice,
                           unsigned *ret_reason) {
        struct iovec part = { 0 };
        int r;

        if (slice->region != 0 || slice->offset != 0 || slice->len != 0) {
                r = post_take_slice(session, op, slice, &part, ret_reason);
                if (r < 0)
                        return r;
        }
        return post_add_part(op, part, ret_reason);
}

static int post_add_range(struct op *op, uint64_t offset, uint32_t len, unsigned *ret_reason) {
        uint64_t bit = UINT64_C(1) << op->n_parts;

        if (!op->transmit.file)
                return refuse(-EBADF, OVL_REASON_UNKNOWN_FILE, ret_reason);
        if (offset > (uint64_t) INT64_MAX - len)
                return refuse(-EINVAL, OVL_REASON_BAD_ELEMENT, ret_reason);
        op->transmit.file_parts |= bit;
        if (len == 0)
                op->transmit.open_parts |= bit;
        return post_add_part(op, (struct iovec){ (void *) (uintptr_t) offset, len }, ret_reason);
}

/* The array of an entry is in memory that the client may change at any instant: it is copied, then checked. */
static int post_copy_array(struct session *session, struct op *op, const struct ovl_entry *entry, void *array,
                           uint32_t *ret_n, unsigned *ret_reason) {
        const struct ovl_slice *vector = &entry->buffer;
        struct iovec place;
        int r;

        _Static_assert(sizeof(struct ovl_element) == sizeof(struct ovl_slice), "arrays of both are of one size");
        if (vector->len % sizeof(struct ovl_slice) != 0 || vector->offset % sizeof(uint64_t) != 0)
                return refuse(-EINVAL, OVL_REASON_BAD_VECTOR, ret_reason);
        if (vector->len / sizeof(struct ovl_slice) > OVL_SLICES_MAX)
                return refuse(-EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS, ret_reason);
        r = post_take_slice(session, op, vector, &place, ret_reason);
        if (r < 0)
                return r;
        shm_copy(array, place.iov_base, vector->len);
        *ret_n = vector->len / sizeof(struct ovl_slice);
        return 0;
}

static int post_take_head_and_tail(struct session *session, struct op *op, const struct ovl_entry *entry,
                                   unsigned *ret_reason) {
        struct ovl_slice slices[OVL_SLICES_MAX] = { entry->buffer };
        uint32_t n = 1;
        int r = 0;

        if (entry->flags & OVL_ENTRY_VECTOR)
                r = post_copy_array(session, op, entry, slices, &n, ret_reason);
        if (r == 0 && n > 2)
                r = refuse(-EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS, ret_reason);
        if (r == 0 && n > 0)
                r = post_add_memory(session, op, &slices[0], ret_reason);
        if (r == 0 && op->transmit.file)
                r = post_add_range(op, entry->aux.offset, entry->aux.len, ret_reason);
        if (r == 0 && n > 1)
                r = post_add_memory(session, op, &slices[1], ret_reason);
        return r;
}

static int post_take_element(struct session *session, struct op *op, const struct ovl_element *element,
                             unsigned *ret_reason) {
        const struct ovl_slice slice = { element->offset, element->len, element->region };

        if ((element->flags & ~(OVL_ELEMENT_FILE | OVL_ELEMENT_PACKET_END)) ||
            ((element->flags & OVL_ELEMENT_FILE) && element->region != 0))
                return refuse(-EINVAL, OVL_REASON_BAD_ELEMENT, ret_reason);
        if (element->flags & OVL_ELEMENT_PACKET_END)
                op->transmit.packet_ends |= UINT64_C(1) << op->n_parts;
        if (element->flags & OVL_ELEMENT_FILE)
                return post_add_range(op, element->offset, element->len, ret_reason);
        return post_add_memory(session, op, &slice, ret_reason);
}

static int post_take_elements(struct session *session, struct op *op, const struct ovl_entry *entry,
                              unsigned *ret_reason) {
        struct ovl_element elements[OVL_SLICES_MAX];
        uint32_t n = 0;
        int r = 0;

        if (entry->flags & OVL_ENTRY_VECTOR)
                r = post_copy_array(session, op, entry, elements, &n, ret_reason);
        else if (entry->buffer.region != 0 || entry->buffer.len != 0 || entry->buffer.offset != 0)
                r = refuse(-EINVAL, OVL_REASON_BAD_VECTOR, ret_reason);
        for (uint32_t i = 0; r == 0 && i < n; i++)
                r = post_take_element(session, op, &elements[i], ret_reason);
        return r;
}

int post_take_transmit(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        bool has_range = op->code == OVL_OP_TRANSMIT_FILE && entry->other != 0;
        int r;

        if (entry->aux.region != 0 || ((entry->aux.offset != 0 || entry->aux.len != 0) && !has_range))
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        op->parts = op->scratch;
        op->n_parts = 0;
        op->transmit.is_datagram = socket_is_datagram(op->socket);
        r = post_take_file(session, op, entry->other, ret_reason);
        if (r == 0 && op->code == OVL_OP_TRANSMIT_FILE)
                r = post_take_head_and_tail(session, op, entry, ret_reason);
        else if (r == 0)
                r = post_take_elements(session, op, entry, ret_reason);
        if (r < 0)
                return r;
        transmit_init(op);
        return 0;
}
