/* SPDX-License-Identifier: Apache-2.0 */

/* The requests by which a socket moves: to a further session, and in and out of the daemon. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "daemon/worker/invitation.h"
#include "daemon/worker/serve.h"

/* --- Between sessions ------------------------------------------------------------------------------------------- */

void serve_socket_share(struct serve *serve) {
        const Overlapd__SocketShare *share = serve->request->socket_share;
        Overlapd__SocketShareReply share_reply = OVERLAPD__SOCKET_SHARE_REPLY__INIT;
        struct handle *handle = serve_handle(serve, share->socket);
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct invitation *invitation;
        struct session *guest;
        int r;

        if (!handle)
                return;
        guest = serve_partner(serve, share->session);
        if (!guest)
                return;
        r = invitation_new(handle, guest, &invitation);
        if (r < 0) {
                serve_refuse(serve, r, r == -EDQUOT ? OVL_REASON_QUOTA : OVL_REASON_NONE,
                             r == -EDQUOT ? "%u tickets of this session were not used yet, which is the limit: close "
                                            "the sockets that nobody joins"
                                          : "overlapd cannot make a ticket (of at most %u): try again later",
                             INVITATIONS_MAX);
                return;
        }
        share_reply.ticket = (ProtobufCBinaryData){ .len = INVITATION_SECRET_SIZE, .data = invitation->secret };
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_SHARE;
        reply.socket_share = &share_reply;
        serve_send(serve, &reply);
}

/* The reply that says what came. */
static void serve_taken(struct serve *serve, const struct handle *handle) {
        Overlapd__SocketTakenReply taken = OVERLAPD__SOCKET_TAKEN_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        taken.socket = handle->number;
        taken.family = (Overlapd__Family) handle->socket->family;
        taken.type = (Overlapd__Type) handle->socket->type;
        taken.listens = handle->socket->state == SOCKET_LISTENING;
        taken.non_overlapped = handle->socket->is_non_overlapped;
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_TAKEN;
        reply.socket_taken = &taken;
        serve_send(serve, &reply);
}

static void serve_daemon_is_full(struct serve *serve, int status) {
        serve_refuse(serve, status, OVL_REASON_QUOTA, "overlapd has as many sockets as it can hold: raise LimitNOFILE");
}

void serve_socket_join(struct serve *serve) {
        const ProtobufCBinaryData *ticket = &serve->request->socket_join->ticket;
        struct invitation *invitation = invitation_find(serve->session, ticket->data, ticket->len);
        cleanup(charge_release) struct charge charge = { 0 };
        struct quota_refusal refusal;
        struct handle *handle;
        int r;

        if (!invitation) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_TICKET,
                             "no socket is shared with this session under this ticket (%zu bytes): it was used, or its "
                             "socket is closed, or it was made for another session",
                             ticket->len);
                return;
        }
        if (charge_take(&charge, &serve->session->quota, LIMIT_SOCKETS, 1, &refusal) < 0) {
                serve_refuse_quota(serve, &refusal);
                return;
        }
        r = handle_join(serve->session, invitation->handle->socket, &charge, &handle);
        if (r < 0) {
                serve_daemon_is_full(serve, r);
                return;
        }
        invitation_free(invitation);
        serve_taken(serve, handle);
}

/* --- In: adopting ----------------------------------------------------------------------------------------------- */

/* What a descriptor is, as far as one can ask. */
struct adoption {
        int family;
        int type;
        enum socket_state state;
        const char *problem; /* why it is not accepted, for a person */
};

static int adoption_ask(int fd, int name) {
        socklen_t len = sizeof(int);
        int value;

        return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -errno : value;
}

static int adoption_refuse(struct adoption *adoption, const char *problem) {
        adoption->problem = problem;
        return -EBADFD;
}

/* Of a descriptor that is no socket: only by questions that never wait for the file that it may be. */
static const char *adoption_name_file(int fd) {
        int flags = fcntl(fd, F_GETFL);

        if (flags >= 0 && (flags & O_PATH))
                return "it was opened with O_PATH: such a descriptor cannot do anything";
        if (fcntl(fd, F_GETPIPE_SZ) >= 0)
                return "it is a pipe, not a socket";
        if (fcntl(fd, F_GET_SEALS) >= 0)
                return "it is memory, not a socket: lend it with RegionAdd";
        return "it is a file, not a socket";
}

static int adoption_check_protocol(struct adoption *adoption, int protocol) {
        bool is_inet = adoption->family == AF_INET || adoption->family == AF_INET6;

        if (adoption->family != AF_UNIX && !is_inet)
                return adoption_refuse(adoption, "it is a socket of another family than Unix, IPv4 and IPv6");
        if (adoption->type != SOCK_STREAM && adoption->type != SOCK_DGRAM)
                return adoption_refuse(adoption, "it is a socket of another type than stream and datagram");
        if (is_inet && protocol != (adoption->type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP))
                return adoption_refuse(adoption, "it is an IP socket of another protocol than TCP and UDP");
        return 0;
}

/* A connection to the daemon itself would keep its session for ever, once the daemon holds both of its ends. */
static bool adoption_is_channel(int fd, const struct peer *peer) {
        struct sockaddr_storage theirs = { 0 }, ours = { 0 };
        socklen_t their_len = sizeof(theirs), our_len = sizeof(ours);

        if (getpeername(fd, (struct sockaddr *) &theirs, &their_len) < 0 ||
            getsockname(peer->file.fd, (struct sockaddr *) &ours, &our_len) < 0)
                return false;
        return their_len == our_len && our_len > sizeof(sa_family_t) && memcmp(&theirs, &ours, our_len) == 0;
}

/* Asks for the state; of a TCP socket that has no peer the kernel knows more than getpeername(2) says. */
static int adoption_check_state(struct adoption *adoption, int fd) {
        struct sockaddr_storage name;
        socklen_t len = sizeof(name);
        struct tcp_info info;

        if (adoption_ask(fd, SO_ACCEPTCONN) > 0) {
                adoption->state = SOCKET_LISTENING;
                return 0;
        }
        if (getpeername(fd, (struct sockaddr *) &name, &len) == 0) {
                adoption->state = SOCKET_CONNECTED;
                return 0;
        }
        adoption->state = SOCKET_OPEN;
        len = sizeof(info);
        if (adoption->family != AF_UNIX && adoption->type == SOCK_STREAM &&
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state != TCP_CLOSE)
                return adoption_refuse(adoption, "it is connecting: wait until it is connected, or has failed");
        return 0;
}

/* Whether the socket has an address of its own: a datagram socket without one receives nothing. */
static bool adoption_has_name(int fd) {
        struct sockaddr_storage name = { 0 };
        socklen_t len = sizeof(name);

        if (getsockname(fd, (struct sockaddr *) &name, &len) < 0)
                return false;
        if (name.ss_family == AF_UNIX)
                return len > sizeof(name.ss_family);
        /* sin_port and sin6_port lie at the same place. */
        return ((const struct sockaddr_in *) &name)->sin_port != 0;
}

/* Returns 0; -EBADFD and the problem; or -EACCES where Unix sockets are not for this user. */
static int adoption_check(struct adoption *adoption, int fd, const struct peer *peer) {
        int protocol, r;

        adoption->family = adoption_ask(fd, SO_DOMAIN);
        if (adoption->family < 0)
                return adoption_refuse(adoption, adoption_name_file(fd));
        adoption->type = adoption_ask(fd, SO_TYPE);
        protocol = adoption_ask(fd, SO_PROTOCOL);
        r = adoption_check_protocol(adoption, protocol);
        if (r < 0)
                return r;
        if (adoption->family == AF_UNIX && !peer->session->identity.may_bring_unix)
                return -EACCES;
        if (adoption->family == AF_UNIX && adoption_is_channel(fd, peer))
                return adoption_refuse(adoption, "it is a connection to overlapd");
        return adoption_check_state(adoption, fd);
}

void serve_socket_adopt(struct serve *serve) {
        cleanup(charge_release) struct charge charge = { 0 }, listener = { 0 };
        int fd = peer_claim_fd(serve->peer);
        struct adoption adoption = { 0 };
        struct quota_refusal refusal;
        struct handle *handle;
        int r;

        r = adoption_check(&adoption, fd, serve->peer);
        if (r == -EACCES) {
                serve_refuse(serve, r, OVL_REASON_DENIED,
                             "this is a Unix socket, and overlapd adopts those of its own user only: run a daemon of "
                             "your own, with overlapd --private");
        } else if (r < 0) {
                serve_refuse(serve, r, OVL_REASON_BAD_DESCRIPTOR, "this descriptor cannot be adopted: %s",
                             adoption.problem);
        } else if (charge_take(&charge, &serve->session->quota, LIMIT_SOCKETS, 1, &refusal) < 0 ||
                   (adoption.state == SOCKET_LISTENING &&
                    charge_take(&listener, &serve->session->unit->quota, LIMIT_LISTENERS, 1, &refusal) < 0)) {
                serve_refuse_quota(serve, &refusal);
        } else {
                r = handle_open(serve->session, &fd, adoption.family, adoption.type, adoption.state, &charge, &handle);
                if (r < 0) {
                        serve_daemon_is_full(serve, r);
                } else {
                        handle->socket->listener = charge_move(&listener);
                        handle->socket->is_foreign = true;
                        handle->socket->file.is_shared = true;
                        handle->socket->has_name = adoption_has_name(handle->socket->file.fd);
                        serve_taken(serve, handle);
                }
        }
        peer_drop_fd(serve->peer, fd);
}

/* --- Out: exporting --------------------------------------------------------------------------------------------- */

void serve_socket_export(struct serve *serve) {
        struct handle *handle = serve_handle(serve, serve->request->socket_export->socket);
        char why[RULING_TEXT_SIZE];
        struct call *call;

        if (!handle)
                return;
        if (!rules_allow_export(serve->session->rules, why)) {
                serve_refuse(serve, -EACCES, OVL_REASON_DENIED, "the policy does not allow this: %s", why);
                return;
        }
        if (handle->socket->accept) {
                serve_refuse(serve, -EBUSY, OVL_REASON_PREPARED,
                             "the socket is prepared for an accept: cancel that first");
                return;
        }
        if (handle->socket->n_handles > 1) {
                serve_refuse(serve, -EBUSY, OVL_REASON_OUT_OF_ORDER,
                             "%u sessions use this socket, or have operations on it that have not ended: the others "
                             "must close it first, and end them",
                             handle->socket->n_handles);
                return;
        }
        call = call_new(serve, CALL_EXPORT, handle);
        if (!call)
                return;
        handle_drain(handle, OVL_REASON_EXPORTED);
        call_wait(serve, call);
}

bool call_settle_export(struct control *control, struct call *call) {
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct socket *socket = call->handle->socket;
        int fd, flags;

        if (call->handle->n_ops > 0 || !socket_is_idle(socket))
                return false;
        if (!call->peer)
                return true;
        handle_restore_socket(socket);
        fd = socket_release(socket);
        flags = fcntl(fd, F_GETFL);
        if (flags >= 0)
                fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        if (socket->family == AF_UNIX)
                channel_allow_fds(fd, 1);
        reply.id = call->id;
        control_send_reply_fd(control, call->peer, &reply, fd);
        return true;
}
