/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The entries of connects to names. The monitor is asked for all of it with one question, so the worker only copies the
 * name, once, and checks the copy. From then on the op is a connect like any other.
 */

#include <errno.h>
#include <string.h>

#include "daemon/worker/post.h"
#include "daemon/worker/resolve.h"
#include "daemon/worker/session.h"
#include "proto/text.h"

#define NAME_TEXT_MAX (OVL_RESOLVE_NAME_MAX + 1 + OVL_SERVICE_NAME_MAX) /* a name, a NUL byte and a service */

_Static_assert(NAME_TEXT_MAX <= RESOLVE_TEXT_MAX, "it can be copied");

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

static int name_check_fields(const struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        const uint8_t flags = OVL_ENTRY_WANT_VERDICT | (op->peer->lane ? 0 : OVL_ENTRY_INLINE);

        if ((entry->flags & ~flags) || entry->op_flags != 0)
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (entry->indication > OVL_INDICATE_QUIET)
                return refuse(-EINVAL, OVL_REASON_BAD_INDICATION, ret_reason);
        if (entry->n_slots != 1 || (entry->other >> 16 & UINT16_MAX) || entry->aux.len != 0 || entry->aux.region != 0 ||
            entry->aux.offset != 0)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (op->socket->family == AF_UNIX)
                return refuse(-EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET, ret_reason);
        return 0;
}

/* Copies the bytes, which are not needed any more then: those that came along are given up. */
static int name_copy(struct session *session, struct op *op, const struct ovl_entry *entry,
                     uint8_t ret_text[RESOLVE_TEXT_MAX], unsigned *ret_reason) {
        struct iovec place;
        int r;

        if (entry->flags & OVL_ENTRY_INLINE) {
                if (entry->buffer.region != 0 || entry->buffer.offset != 0)
                        return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
                if (op->payload.lost == OVL_REASON_QUOTA)
                        return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
                if (op->payload.lost != OVL_REASON_NONE || op->payload.len > NAME_TEXT_MAX)
                        return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
                payload_copy(&op->payload, ret_text, op->payload.len);
                payload_release(&op->payload);
                return 0;
        }
        r = post_take_slice(session, op, &entry->buffer, &place, ret_reason);
        if (r < 0)
                return r;
        if (place.iov_len > NAME_TEXT_MAX)
                return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        resolve_copy(&place, ret_text);
        return 0;
}

int post_take_name(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        struct link_message *message = op_question(op);
        uint8_t text[RESOLVE_TEXT_MAX];
        size_t name_len, len = entry->buffer.len;
        int r;

        r = name_check_fields(op, entry, ret_reason);
        if (r == 0)
                r = name_copy(session, op, entry, text, ret_reason);
        if (r < 0)
                return r;
        *message = (struct link_message){ .kind = LINK_CONNECT_NAME };
        message->body.by_name.session = session->number;
        message->body.by_name.port = (uint16_t) entry->other;
        message->body.by_name.timeout_ms = (uint32_t) (entry->other >> 32);
        name_len = strnlen((const char *) text, len);
        if (!text_is_host_name(text, name_len))
                return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        memcpy(message->text, text, name_len);
        if (message->body.by_name.port != 0)
                return name_len == len ? 0 : refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        if (name_len == len)
                return refuse(-EINVAL, OVL_REASON_BAD_ADDRESS, ret_reason);
        if (!text_is_service_name(text + name_len + 1, len - name_len - 1))
                return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        memcpy(message->body.by_name.service, text + name_len + 1, len - name_len - 1);
        return 0;
}
