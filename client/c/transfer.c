/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets that move: from one session to a further one, and in and out of the daemon.
 *
 * Invariant: a descriptor changes hands only by a reply that says so. What the program gives stays the program's; what
 * the daemon gives is the caller's as soon as the call has succeeded, and is closed here in all other cases.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/association.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/overlap.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/socket.h"
#include "client/c/thread.h"

OVL_API int ovl_socket_share(struct ovl_thread *thread, uint64_t socket, uint64_t session,
                             struct ovl_ticket *ret_ticket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketShare socket_share = OVERLAPD__SOCKET_SHARE__INIT;
        Overlapd__Reply *reply;
        int r;

        socket_share.socket = socket;
        socket_share.session = session;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_SHARE;
        request.socket_share = &socket_share;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_SOCKET_SHARE, "ovl_socket_share", &reply);
        if (r < 0)
                return r;
        if (reply->socket_share->ticket.len != sizeof(ret_ticket->bytes))
                return error_set(&thread->error, -EPROTO, OVL_REASON_BAD_FRAME,
                                 "ovl_socket_share: overlapd sent a ticket of %zu bytes, not of %zu",
                                 reply->socket_share->ticket.len, sizeof(ret_ticket->bytes));
        memcpy(ret_ticket->bytes, reply->socket_share->ticket.data, sizeof(ret_ticket->bytes));
        return 0;
}

OVL_API int ovl_socket_join(struct ovl_thread *thread, const struct ovl_ticket *ticket, uint64_t *ret_socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketJoin socket_join = OVERLAPD__SOCKET_JOIN__INIT;
        _cleanup_free_ struct association *new_association = NULL;
        Overlapd__Reply *reply;
        int r;

        new_association = association_new(0);
        if (!new_association)
                return error_set(&thread->error, -ENOMEM, 0, "ovl_socket_join: no memory");
        socket_join.ticket = (ProtobufCBinaryData){ .len = sizeof(ticket->bytes), .data = (uint8_t *) ticket->bytes };
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_JOIN;
        request.socket_join = &socket_join;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_SOCKET_TAKEN, "ovl_socket_join", &reply);
        if (r < 0)
                return r;
        *ret_socket = reply->socket_taken->socket;
        socket_keep(thread, *ret_socket, reply->socket_taken->non_overlapped, &new_association);
        return 0;
}

OVL_API int ovl_socket_adopt(struct ovl_thread *thread, int fd, uint64_t *ret_socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketAdopt socket_adopt = OVERLAPD__SOCKET_ADOPT__INIT;
        Overlapd__Reply *reply;
        int r;

        /* Anything but a descriptor would fail the connection, not the call. */
        if (fd < 0 || fcntl(fd, F_GETFD) < 0)
                return error_set(&thread->error, -EBADF, 0, "ovl_socket_adopt: %d is no descriptor of this process",
                                 fd);
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_ADOPT;
        request.socket_adopt = &socket_adopt;
        r = request_make(thread, &request, fd, OVERLAPD__REPLY__WHAT_SOCKET_TAKEN, "ovl_socket_adopt", &reply);
        if (r < 0)
                return r;
        *ret_socket = reply->socket_taken->socket;
        return 0;
}

OVL_API int ovl_socket_export(struct ovl_thread *thread, uint64_t socket, int *ret_fd) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketExport socket_export = OVERLAPD__SOCKET_EXPORT__INIT;
        struct ovl_session *session = thread->session;
        Overlapd__Reply *reply;
        int fd, r;

        socket_export.socket = socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_EXPORT;
        request.socket_export = &socket_export;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_socket_export", &reply);
        if (r < 0)
                return r;
        session_lock(session);
        association_close_socket(&session->associations, socket);
        fd = conduit_take_fd(thread->conduit);
        session_unlock(session);
        if (fd < 0)
                return error_set(&thread->error, -EPROTO, OVL_REASON_BAD_FRAME,
                                 "ovl_socket_export: overlapd sent no descriptor");
        *ret_fd = fd;
        return 0;
}
