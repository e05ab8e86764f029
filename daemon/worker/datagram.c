/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Datagrams. Each op is one request and one message of the kernel, so it always goes with a name and comes back with
 * flags, by which a datagram that was cut is known from one that just fits.
 *
 * Names. The kernel's form of an address lies in the scratch of the op, private memory that the request in flight can
 * use: a destination is put there when the entry is checked, and cannot change after the check. The sender's address
 * becomes a wire address here and is written to the client's memory whole, once, before the record; it is never read
 * back.
 *
 * Port 0. No socket has it, so a datagram to it is lost like one to any other port where nobody is; the kernel would
 * refuse it instead. It is taken in its turn among the sends, counted as sent, and given to nobody. Rejected: a port
 * that discards in its place, because there may be somebody after all.
 *
 * Messages. What a datagram has besides is control data of the kernel's in the scratch, and items to the client
 * (items.c). A Unix socket never has a place for control data: descriptors that somebody sends along are dropped by the
 * kernel.
 *
 * Rejected: letting the kernel write the sender's address into the client's memory (it would be the kernel's form, and
 * its length would have to be believed later).
 */

#include "daemon/worker/datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "daemon/worker/items.h"
#include "daemon/worker/socket.h"
#include "proto/address.h"

struct sockaddr_storage *datagram_name(const struct op *op) {
        return (struct sockaddr_storage *) ((uint8_t *) op->scratch + OP_PARTS_SIZE);
}

uint8_t *datagram_control(const struct op *op) {
        return (uint8_t *) (datagram_name(op) + 1);
}

static uint16_t datagram_port(const struct sockaddr_storage *name) {
        switch (name->ss_family) {
        case AF_INET:
                return ((const struct sockaddr_in *) name)->sin_port;
        case AF_INET6:
                return ((const struct sockaddr_in6 *) name)->sin6_port;
        default:
                return UINT16_MAX; /* there are no ports */
        }
}

bool datagram_is_for_nobody(const struct op *op) {
        if (!op_sends(op) || op->name_len == 0 || op->len > UINT16_MAX)
                return false; /* what is too long is the kernel's to refuse */
        return datagram_port(datagram_name(op)) == 0;
}

void datagram_request(struct op *op) {
        struct msghdr *message = &op->request.message;

        op->request.is_message = true;
        *message = (struct msghdr){ 0 };
        if (op_sends(op) && op->name_len > 0) {
                message->msg_name = datagram_name(op);
                message->msg_namelen = op->name_len;
        } else if (op->wants_sender) {
                message->msg_name = datagram_name(op);
                message->msg_namelen = sizeof(struct sockaddr_storage);
        }
        if (op_form(op)->has_message && op->socket->family != AF_UNIX) {
                message->msg_control = datagram_control(op);
                message->msg_controllen = op_sends(op) ? op->control_len : OP_CONTROL_SIZE;
        }
}

/* A sender without a name (a Unix socket may have none) is an address of family 0. */
static struct ovl_address datagram_sender(const struct op *op) {
        const struct msghdr *message = &op->request.message;
        struct ovl_address sender = { 0 };

        if (message->msg_namelen > 0 && address_from_kernel(message->msg_name, message->msg_namelen, &sender) < 0)
                sender = (struct ovl_address){ 0 };
        return sender;
}

static void datagram_tell_sender(struct op *op, uint32_t bytes) {
        const struct ovl_address sender = datagram_sender(op);

        if (op->aux) {
                memcpy(op->aux, &sender, sizeof(sender));
        } else {
                payload_put(&op->payload, bytes, &sender, sizeof(sender));
                op->aux_len = sizeof(sender);
        }
}

/* Into a region only what there is; inline the whole place, because the client knows how long that is. */
static void datagram_tell_message(struct op *op, uint32_t bytes) {
        struct {
                struct ovl_message header;
                uint8_t items[OVL_CONTROL_LEN_MAX];
        } told = { .header.address = datagram_sender(op), .header.flags = op->record_flags & OVL_RECORD_TRUNCATED };

        items_from_kernel(op, &told.header, op->control_len);
        op->record_flags |= told.header.flags & OVL_RECORD_CONTROL_TRUNCATED;
        if (op->aux) {
                memcpy(op->aux, &told, sizeof(told.header) + told.header.control_len);
        } else {
                op->aux_len = (uint32_t) sizeof(told.header) + op->control_len;
                payload_put(&op->payload, bytes, &told, op->aux_len);
        }
}

int datagram_finish(struct op *op, uint32_t bytes) {
        if (op_sends(op))
                return 0;
        if (op->request.message.msg_flags & MSG_TRUNC)
                op->record_flags |= OVL_RECORD_TRUNCATED;
        if (op_form(op)->has_message)
                datagram_tell_message(op, bytes);
        else if (op->wants_sender)
                datagram_tell_sender(op, bytes);
        return op->record_flags & (OVL_RECORD_TRUNCATED | OVL_RECORD_CONTROL_TRUNCATED) ? -EMSGSIZE : 0;
}

int datagram_status(const struct op *op, int status) {
        /* A Unix socket says that it is not connected where the others say that there is no destination. */
        return op_sends(op) && op->name_len == 0 && status == -ENOTCONN ? -EDESTADDRREQ : status;
}
