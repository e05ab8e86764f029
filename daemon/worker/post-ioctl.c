/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The entries of ioctls. What one takes and gives depends on its code, so the fields are checked against the row of the
 * code here; what is asked of the monitor, or the input, is left in the scratch of the op.
 */

#include <errno.h>
#include <string.h>

#include "daemon/worker/post.h"
#include "daemon/worker/session.h"
#include "proto/shm.h"

/* The sockets that have one. */
enum ioctl_sockets {
        IOCTL_FOR_ANY,
        IOCTL_FOR_TCP,
        IOCTL_FOR_INET, /* stream or datagram */
};

static const struct ioctl_form {
        bool is_known;
        bool has_address;
        bool is_look; /* the monitor is asked */
        enum ioctl_sockets sockets;
        uint32_t input_len;  /* bytes of its input; 0: it has none */
        uint32_t output_row; /* bytes of a row of its output; 0: it has none */
        bool has_one_row;
} ioctl_forms[] = {
        [OVL_IOCTL_ADDRESS_LIST_CHANGE] = { .is_known = true, .is_look = true, .sockets = IOCTL_FOR_INET },
        [OVL_IOCTL_ROUTING_INTERFACE_CHANGE] = { .is_known = true,
                                                 .is_look = true,
                                                 .sockets = IOCTL_FOR_INET,
                                                 .has_address = true },
        [OVL_IOCTL_ROUTING_INTERFACE_QUERY] = { .is_known = true,
                                                .is_look = true,
                                                .sockets = IOCTL_FOR_INET,
                                                .has_address = true,
                                                .output_row = sizeof(struct ovl_address),
                                                .has_one_row = true },
        [OVL_IOCTL_INTERFACE_LIST] = { .is_known = true,
                                       .is_look = true,
                                       .sockets = IOCTL_FOR_INET,
                                       .output_row = sizeof(struct ovl_interface) },
        [OVL_IOCTL_KEEP_ALIVE_VALUES] = { .is_known = true,
                                          .sockets = IOCTL_FOR_TCP,
                                          .input_len = sizeof(struct ovl_keep_alive) },
        [OVL_IOCTL_BYTES_TO_READ] = { .is_known = true, .sockets = IOCTL_FOR_ANY },
        [OVL_IOCTL_AT_MARK] = { .is_known = true, .sockets = IOCTL_FOR_TCP },
        [OVL_IOCTL_FLUSH] = { .is_known = true, .sockets = IOCTL_FOR_ANY },
};

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

static bool slice_is_empty(const struct ovl_slice *slice) {
        return slice->offset == 0 && slice->len == 0 && slice->region == 0;
}

/* NULL: there is no such code. */
static const struct ioctl_form *ioctl_form(uint64_t code) {
        if (code >= sizeof(ioctl_forms) / sizeof(ioctl_forms[0]) || !ioctl_forms[code].is_known)
                return NULL;
        return &ioctl_forms[code];
}

static bool ioctl_is_for(const struct ioctl_form *form, const struct socket *socket) {
        bool is_inet = socket->family == AF_INET || socket->family == AF_INET6;

        switch (form->sockets) {
        case IOCTL_FOR_TCP:
                return is_inet && socket->type == SOCK_STREAM;
        case IOCTL_FOR_INET:
                return is_inet;
        default:
                return true;
        }
}

static int ioctl_check_fields(const struct op *op, const struct ioctl_form *form, const struct ovl_entry *entry,
                              unsigned *ret_reason) {
        const uint8_t flags = OVL_ENTRY_WANT_VERDICT | (op->peer->lane ? 0 : OVL_ENTRY_INLINE);

        if ((entry->flags & ~flags) || entry->op_flags != 0)
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (entry->indication > OVL_INDICATE_QUIET)
                return refuse(-EINVAL, OVL_REASON_BAD_INDICATION, ret_reason);
        if ((entry->n_slots != 1 && !form->has_address) || (form->input_len == 0 && !slice_is_empty(&entry->buffer)) ||
            (form->output_row == 0 && !slice_is_empty(&entry->aux)))
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        for (size_t i = 0; i < sizeof(entry->reserved); i++)
                if (entry->reserved[i] != 0)
                        return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (!ioctl_is_for(form, op->socket))
                return refuse(-EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET, ret_reason);
        return 0;
}

/* --- Input and output ------------------------------------------------------------------------------------------- */

static int ioctl_check_keep_alive(const struct ovl_keep_alive *values, unsigned *ret_reason) {
        bool has_times = values->idle_ms - 1 < OVL_KEEP_ALIVE_MS_MAX && values->interval_ms - 1 < OVL_KEEP_ALIVE_MS_MAX;

        if (values->is_on > 1 || values->reserved != 0 || (values->is_on && !has_times))
                return refuse(-EINVAL, OVL_REASON_BAD_INPUT, ret_reason);
        return 0;
}

/* Copies the input to the scratch. Inline it came along, and is not needed any more. */
static int ioctl_take_input(struct session *session, struct op *op, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        struct iovec place;
        int r;

        if (entry->buffer.len != sizeof(struct ovl_keep_alive) || entry->buffer.offset % sizeof(uint64_t) != 0)
                return refuse(-EINVAL, OVL_REASON_BAD_INPUT, ret_reason);
        if (entry->flags & OVL_ENTRY_INLINE) {
                if (entry->buffer.region != 0 || entry->buffer.offset != 0)
                        return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
                if (op->payload.lost != OVL_REASON_NONE)
                        return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
                payload_copy(&op->payload, op->scratch, entry->buffer.len);
                payload_release(&op->payload);
        } else {
                r = post_take_slice(session, op, &entry->buffer, &place, ret_reason);
                if (r < 0)
                        return r;
                shm_copy(op->scratch, place.iov_base, entry->buffer.len);
        }
        return ioctl_check_keep_alive(op->scratch, ret_reason);
}

static int ioctl_take_output(struct session *session, struct op *op, const struct ioctl_form *form,
                             const struct ovl_entry *entry, unsigned *ret_reason) {
        int r;

        if (entry->aux.len == 0)
                return refuse(-EFAULT, OVL_REASON_OUTPUT_TOO_SMALL, ret_reason);
        if (form->has_one_row && entry->aux.len != form->output_row)
                return refuse(-EINVAL, OVL_REASON_BAD_ADDRESS, ret_reason);
        op->len = entry->aux.len;
        op->parts = &op->one;
        op->n_parts = 1;
        if (!(entry->flags & OVL_ENTRY_INLINE)) {
                r = post_take_slice(session, op, &entry->aux, &op->one, ret_reason);
                return r;
        }
        if (entry->aux.region != 0 || entry->aux.offset != 0)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (entry->aux.len > OVL_INLINE_LEN_MAX)
                return refuse(-EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, ret_reason);
        if (payload_append(&op->payload, &session->payloads, NULL, entry->aux.len) < 0)
                return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
        return 0;
}

static int ioctl_take_look(struct session *session, struct op *op, const struct ioctl_form *form,
                           const struct ovl_entry *entry, unsigned *ret_reason) {
        struct link_message *message = op_question(op);
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        *message = (struct link_message){ .kind = LINK_LOOK };
        message->body.look.session = session->number;
        message->body.look.code = op->ioctl;
        message->body.look.family = (uint8_t) op->socket->family;
        if (!form->has_address)
                return 0;
        r = post_check_address(op, entry, &kernel, &len, ret_reason);
        if (r < 0)
                return r;
        message->body.look.address = entry->address;
        message->body.look.address.port = 0;
        return 0;
}

bool post_ioctl_is_look(const struct op *op) {
        return ioctl_form(op->ioctl)->is_look;
}

int post_take_ioctl(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        const struct ioctl_form *form = ioctl_form(entry->other);
        int r;

        if (!form)
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_IOCTL, ret_reason);
        op->ioctl = (uint8_t) entry->other;
        r = ioctl_check_fields(op, form, entry, ret_reason);
        if (r == 0 && form->input_len > 0)
                r = ioctl_take_input(session, op, entry, ret_reason);
        if (r == 0 && form->is_look)
                r = ioctl_take_look(session, op, form, entry, ret_reason);
        if (r == 0 && form->output_row > 0)
                r = ioctl_take_output(session, op, form, entry, ret_reason);
        return r;
}
