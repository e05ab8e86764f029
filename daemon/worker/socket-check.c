/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a socket can do in its present state. An op that is refused here never started; what fails later has an end.
 */

#include "daemon/worker/socket.h"

#include <errno.h>

#include "proto/address.h"

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

static int socket_check_connect(const struct socket *socket, const struct op *op, unsigned *ret_reason) {
        if (socket_is_datagram(socket) && (op->steps & STEP_TRANSFER))
                return refuse(-EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET, ret_reason);
        if (socket->accept)
                return refuse(-EINVAL, OVL_REASON_PREPARED, ret_reason);
        switch (socket->state) {
        case SOCKET_CONNECTED:
                if (socket_is_datagram(socket))
                        return 0;
                return refuse(-EISCONN, OVL_REASON_ALREADY_CONNECTED, ret_reason);
        case SOCKET_CONNECTING:
                return refuse(-EALREADY, OVL_REASON_CONNECT_PENDING, ret_reason);
        case SOCKET_LISTENING:
                return refuse(-EINVAL, OVL_REASON_LISTENING, ret_reason);
        case SOCKET_OPEN:
                break;
        }
        return 0;
}

bool socket_has_name(const struct socket *socket) {
        struct sockaddr_storage kernel = { 0 };
        socklen_t len = sizeof(kernel);
        struct ovl_address name;

        if (socket->has_name || socket->state == SOCKET_CONNECTED)
                return true;
        if (getsockname(socket->file.fd, (struct sockaddr *) &kernel, &len) < 0)
                return false;
        if (address_from_kernel((struct sockaddr *) &kernel, len, &name) < 0)
                return false;
        return name.family == OVL_FAMILY_UNIX ? name.path_len > 0 : name.port != 0;
}

/* Operations that only one type of socket has. */
static int socket_check_type(const struct socket *socket, const struct op *op, unsigned *ret_reason) {
        if (!(op_form(op)->types & (socket_is_datagram(socket) ? OP_FOR_DATAGRAM : OP_FOR_STREAM)))
                return refuse(-EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET, ret_reason);
        return 0;
}

bool socket_has_option(const struct socket *socket, int option) {
        int value = 0;
        socklen_t len = sizeof(value);

        return getsockopt(socket->file.fd, SOL_SOCKET, option, &value, &len) == 0 && value != 0;
}

static int socket_check_transfer(const struct socket *socket, const struct op *op, unsigned *ret_reason) {
        enum direction direction = op_form(op)->direction;
        const struct queue *queue = socket_queue((struct socket *) socket, op);

        if (socket->state == SOCKET_LISTENING)
                return refuse(-ENOTCONN, OVL_REASON_LISTENING, ret_reason);
        if (socket_is_datagram(socket) && direction == DIRECTION_IN && !socket_has_name(socket))
                return refuse(-EINVAL, OVL_REASON_NOT_CONNECTED, ret_reason);
        if (!socket_is_datagram(socket) && socket->state != SOCKET_CONNECTED)
                return refuse(-ENOTCONN, OVL_REASON_NOT_CONNECTED, ret_reason);
        if (socket->queues[direction].is_shut)
                return refuse(-ESHUTDOWN, direction == DIRECTION_IN ? OVL_REASON_RECV_SHUT : OVL_REASON_SEND_SHUT,
                              ret_reason);
        /* Behind others it waits for its turn to fail: records keep the order of the queue. */
        if (socket->error && (direction == DIRECTION_OUT || queue->has_failed) && list_is_empty(&queue->ops) &&
            (direction == DIRECTION_IN || list_is_empty(&socket->queues[QUEUE_SENT].ops)))
                return refuse(socket->error, OVL_REASON_NONE, ret_reason);
        if (op_is_urgent(op) && socket_has_option(socket, SO_OOBINLINE))
                return refuse(-EINVAL, OVL_REASON_OOB_INLINE, ret_reason);
        return 0;
}

int socket_check(const struct socket *socket, const struct op *op, unsigned *ret_reason) {
        int r;

        r = socket_check_type(socket, op, ret_reason);
        if (r < 0)
                return r;
        switch (op->code) {
        case OVL_OP_POLL:
        case OVL_OP_IOCTL:
                return 0;
        case OVL_OP_CONNECT:
        case OVL_OP_CONNECT_NAME:
                return socket_check_connect(socket, op, ret_reason);
        case OVL_OP_ACCEPT:
                if (socket->state != SOCKET_LISTENING)
                        return refuse(-EINVAL, OVL_REASON_NOT_LISTENING, ret_reason);
                return 0;
        case OVL_OP_DISCONNECT:
                if (socket->state != SOCKET_CONNECTED)
                        return refuse(-ENOTCONN, OVL_REASON_NOT_CONNECTED, ret_reason);
                return 0;
        case OVL_OP_TRANSMIT_FILE:
                if (socket_is_datagram(socket))
                        return refuse(-ENOTCONN, OVL_REASON_OP_NOT_FOR_SOCKET, ret_reason);
                return socket_check_transfer(socket, op, ret_reason);
        case OVL_OP_TRANSMIT_PACKETS:
                if (socket->state != SOCKET_CONNECTED && socket->state != SOCKET_LISTENING)
                        return refuse(-ENOTCONN, OVL_REASON_NOT_CONNECTED, ret_reason);
                return socket_check_transfer(socket, op, ret_reason);
        default:
                return socket_check_transfer(socket, op, ret_reason);
        }
}
