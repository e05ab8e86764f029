/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The entries of messages: datagrams with a header and control items. What is received needs a place for both in `aux`,
 * which is only written; what is sent may have items there, which are copied out once, then checked, and are then the
 * kernel's control data in the scratch of the op: the client cannot reach them any more.
 */

#include <errno.h>
#include <string.h>

#include "daemon/worker/datagram.h"
#include "daemon/worker/items.h"
#include "daemon/worker/post.h"
#include "daemon/worker/session.h"
#include "proto/shm.h"

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

void post_keep_items(struct op *op, const uint8_t *items, uint32_t len) {
        memcpy(datagram_control(op), items, len < OVL_CONTROL_LEN_MAX ? len : OVL_CONTROL_LEN_MAX);
}

/* The place for what comes: a header, and items behind it. */
static int message_take_place(struct session *session, struct op *op, const struct ovl_entry *entry,
                              unsigned *ret_reason) {
        const struct ovl_slice *aux = &entry->aux;

        if (aux->len == 0)
                return refuse(-EFAULT, OVL_REASON_BAD_MESSAGE, ret_reason);
        if (aux->len < sizeof(struct ovl_message) || aux->len > sizeof(struct ovl_message) + OVL_CONTROL_LEN_MAX ||
            aux->offset % sizeof(uint64_t) != 0)
                return refuse(-EINVAL, OVL_REASON_BAD_MESSAGE, ret_reason);
        op->control_len = (uint16_t) (aux->len - sizeof(struct ovl_message));
        return post_take_place(session, op, entry, ret_reason);
}

static int message_take_items(struct session *session, struct op *op, const struct ovl_entry *entry,
                              unsigned *ret_reason) {
        uint64_t items[OVL_CONTROL_LEN_MAX / sizeof(uint64_t)];
        const struct ovl_slice *aux = &entry->aux;
        struct iovec place;
        int r;

        if (aux->len > OVL_CONTROL_LEN_MAX || aux->len % sizeof(uint64_t) != 0 || aux->offset % sizeof(uint64_t) != 0)
                return refuse(-EINVAL, OVL_REASON_BAD_CONTROL, ret_reason);
        if (entry->flags & OVL_ENTRY_INLINE) {
                if (aux->region != 0 || aux->offset != 0)
                        return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
                memcpy(items, datagram_control(op), aux->len);
        } else if (aux->len > 0 || aux->region != 0) {
                r = post_take_slice(session, op, aux, &place, ret_reason);
                if (r < 0)
                        return r;
                shm_copy(items, place.iov_base, aux->len);
        }
        r = items_to_kernel(op, (const uint8_t *) items, aux->len);
        return r < 0 ? refuse(r, OVL_REASON_BAD_CONTROL, ret_reason) : 0;
}

int post_take_message(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        return op_form(op)->receives ? message_take_place(session, op, entry, ret_reason)
                                     : message_take_items(session, op, entry, ret_reason);
}
