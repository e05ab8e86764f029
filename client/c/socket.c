/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets: what is asked of the daemon one request at a time. The library keeps nothing of a socket but what the
 * session associates with it (association.c): the id is the socket.
 *
 * Invariant: what the program gave is checked where the wire form could not hold it; everything else is the daemon's
 * to refuse, in its own words, so that a client and its administrator read the same.
 *
 * Rejected: a handle structure for each socket (an accept would have to allocate one when its record arrives, and ids
 * may be handed from thread to thread as they are).
 */

#include "client/c/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "client/c/association.h"
#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/pending.h"
#include "client/c/post-frame.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"
#include "proto/address.h"

/* --- Opening and closing ---------------------------------------------------------------------------------------- */

void socket_keep(struct ovl_thread *thread, uint64_t socket, bool is_non_overlapped,
                 struct association **take_association) {
        struct association *association;

        if (!is_non_overlapped)
                return;
        association = take_ptr(*take_association);
        association->socket = socket;
        association->manner.is_non_overlapped = true;
        session_lock(thread->session);
        association_add(&thread->session->associations, association);
        session_unlock(thread->session);
}

OVL_API int ovl_socket_open(struct ovl_thread *thread, int family, int type, uint64_t *ret_socket) {
        _cleanup_free_ struct association *new_association = NULL;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen socket_open = OVERLAPD__SOCKET_OPEN__INIT;
        bool is_non_overlapped = type & OVL_NON_OVERLAPPED;
        Overlapd__Reply *reply;
        int r;

        type &= ~OVL_NON_OVERLAPPED;

        if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
                return error_set(&thread->error, -EAFNOSUPPORT, 0,
                                 "ovl_socket_open: family %d is none of AF_INET, AF_INET6 and AF_UNIX", family);
        if (type != SOCK_STREAM && type != SOCK_DGRAM)
                return error_set(&thread->error, -ESOCKTNOSUPPORT, 0,
                                 "ovl_socket_open: type %d is neither SOCK_STREAM nor SOCK_DGRAM", type);
        socket_open.family = family == AF_INET    ? OVERLAPD__FAMILY__FAMILY_INET
                             : family == AF_INET6 ? OVERLAPD__FAMILY__FAMILY_INET6
                                                  : OVERLAPD__FAMILY__FAMILY_UNIX;
        socket_open.type = type == SOCK_STREAM ? OVERLAPD__TYPE__TYPE_STREAM : OVERLAPD__TYPE__TYPE_DATAGRAM;
        socket_open.non_overlapped = is_non_overlapped;
        new_association = association_new(0);
        if (!new_association)
                return error_set(&thread->error, -ENOMEM, 0, "ovl_socket_open: no memory");
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &socket_open;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_SOCKET_OPEN, "ovl_socket_open", &reply);
        if (r < 0)
                return r;
        *ret_socket = reply->socket_open->socket;
        socket_keep(thread, *ret_socket, is_non_overlapped, &new_association);
        return 0;
}

OVL_API int ovl_socket_close(struct ovl_thread *thread, uint64_t socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketClose socket_close = OVERLAPD__SOCKET_CLOSE__INIT;
        Overlapd__Reply *reply;
        int r;

        socket_close.socket = socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
        request.socket_close = &socket_close;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_socket_close", &reply);
        if (r < 0)
                return r;
        session_lock(thread->session);
        association_close_socket(&thread->session->associations, socket);
        session_unlock(thread->session);
        return 0;
}

OVL_API int ovl_listen(struct ovl_thread *thread, uint64_t socket, int backlog) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketListen socket_listen = OVERLAPD__SOCKET_LISTEN__INIT;
        Overlapd__Reply *reply;

        socket_listen.socket = socket;
        socket_listen.backlog = backlog >= 0 ? (uint32_t) backlog : SOMAXCONN; /* as the kernel reads it */
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &socket_listen;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_listen", &reply);
}

OVL_API int ovl_shutdown(struct ovl_thread *thread, uint64_t socket, int how) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketShutdown socket_shutdown = OVERLAPD__SOCKET_SHUTDOWN__INIT;
        Overlapd__Reply *reply;

        if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_shutdown: %d is none of SHUT_RD, SHUT_WR and SHUT_RDWR", how);
        socket_shutdown.socket = socket;
        socket_shutdown.direction = how == SHUT_RD   ? OVERLAPD__DIRECTION__DIRECTION_RECEIVE
                                    : how == SHUT_WR ? OVERLAPD__DIRECTION__DIRECTION_SEND
                                                     : OVERLAPD__DIRECTION__DIRECTION_BOTH;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_SHUTDOWN;
        request.socket_shutdown = &socket_shutdown;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_shutdown", &reply);
}

/* --- Names ------------------------------------------------------------------------------------------------------ */

/* The bytes of host that count. */
static size_t socket_host_len(const struct ovl_address *address) {
        switch (address->family) {
        case OVL_FAMILY_INET:
                return sizeof(struct in_addr);
        case OVL_FAMILY_INET6:
                return sizeof(struct in6_addr);
        default:
                return address->path_len;
        }
}

/* Whether the bytes can be an address: as many as its family needs. */
static bool socket_is_address(const struct sockaddr *address, socklen_t len) {
        if (!address || len < sizeof(address->sa_family))
                return false;
        switch (address->sa_family) {
        case AF_INET:
                return len >= sizeof(struct sockaddr_in);
        case AF_INET6:
                return len >= sizeof(struct sockaddr_in6);
        case AF_UNIX:
                return len <= sizeof(struct sockaddr_un);
        default:
                return false;
        }
}

int socket_pack_address(struct ovl_thread *thread, const struct sockaddr *address, socklen_t len, const char *call,
                        const char *purpose, struct ovl_address *ret_address) {
        char text[ADDRESS_TEXT_SIZE];
        int r;

        r = socket_is_address(address, len) ? address_from_kernel(address, len, ret_address) : -EINVAL;
        if (r < 0)
                return error_set(&thread->error, r, OVL_REASON_BAD_ADDRESS,
                                 "%s: not an address to %s (%u bytes, family %d)", call, purpose, len,
                                 address && len >= sizeof(sa_family_t) ? address->sa_family : -1);
        if (address_is_relative(ret_address))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_ADDRESS,
                                 "%s: the path %s is relative, and overlapd has a working directory of its own: begin "
                                 "it with /, or with a NUL byte for an abstract name",
                                 call, address_format(ret_address, text));
        return 0;
}

OVL_API int ovl_bind(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketBind socket_bind = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__Address to = OVERLAPD__ADDRESS__INIT;
        struct ovl_address wire;
        Overlapd__Reply *reply;
        int r;

        r = socket_pack_address(thread, address, len, "ovl_bind", "bind to", &wire);
        if (r < 0)
                return r;
        to.family = (Overlapd__Family) wire.family;
        to.port = wire.port;
        to.scope_id = wire.scope_id;
        to.host = (ProtobufCBinaryData){ .len = socket_host_len(&wire), .data = wire.host };
        socket_bind.socket = socket;
        socket_bind.address = &to;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &socket_bind;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_bind", &reply);
}

/* Returns 0, or -EPROTO when the daemon's address is none. */
static int socket_unpack_address(const Overlapd__Address *from, struct sockaddr_storage *ret_kernel,
                                 socklen_t *ret_len) {
        struct ovl_address wire = { 0 };
        int r;

        if (!from || from->host.len > sizeof(wire.host) || from->port > UINT16_MAX || from->family < 0 ||
            from->family > UINT8_MAX)
                return -EPROTO;
        wire.family = (uint8_t) from->family;
        wire.port = (uint16_t) from->port;
        wire.scope_id = from->scope_id;
        if (from->host.len > 0)
                memcpy(wire.host, from->host.data, from->host.len);
        if (wire.family == OVL_FAMILY_UNIX)
                wire.path_len = (uint8_t) from->host.len;
        else if (from->host.len != 0 && from->host.len != socket_host_len(&wire))
                return -EPROTO;
        if (wire.family == OVL_FAMILY_UNIX && wire.path_len == 0) {
                *ret_kernel = (struct sockaddr_storage){ .ss_family = AF_UNIX };
                *ret_len = sizeof(ret_kernel->ss_family);
                return 0;
        }
        r = address_to_kernel(&wire, ret_kernel, ret_len);
        return r < 0 ? -EPROTO : 0;
}

static int socket_name(struct ovl_thread *thread, uint64_t socket, bool peer, struct sockaddr *address, socklen_t *len,
                       const char *call) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketName name = OVERLAPD__SOCKET_NAME__INIT;
        struct sockaddr_storage kernel;
        socklen_t kernel_len;
        Overlapd__Reply *reply;
        int r;

        name.socket = socket;
        name.peer = peer;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_NAME;
        request.socket_name = &name;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_SOCKET_NAME, call, &reply);
        if (r < 0)
                return r;
        r = socket_unpack_address(reply->socket_name->address, &kernel, &kernel_len);
        if (r < 0)
                return error_set(&thread->error, r, OVL_REASON_BAD_FRAME, "%s: overlapd sent a malformed address",
                                 call);
        memcpy(address, &kernel, *len < kernel_len ? *len : kernel_len);
        *len = kernel_len;
        return 0;
}

OVL_API int ovl_getsockname(struct ovl_thread *thread, uint64_t socket, struct sockaddr *address, socklen_t *len) {
        return socket_name(thread, socket, false, address, len, "ovl_getsockname");
}

OVL_API int ovl_getpeername(struct ovl_thread *thread, uint64_t socket, struct sockaddr *address, socklen_t *len) {
        return socket_name(thread, socket, true, address, len, "ovl_getpeername");
}

int socket_probe(struct ovl_thread *thread, uint64_t socket, const char *call) {
        struct sockaddr_storage name;
        socklen_t len = sizeof(name);

        return socket_name(thread, socket, false, (struct sockaddr *) &name, &len, call);
}

/* --- Options ---------------------------------------------------------------------------------------------------- */

static Overlapd__Option socket_option(int level, int option) {
        static const struct {
                int level;
                int option;
                Overlapd__Option wire;
        } options[] = {
                { SOL_SOCKET, SO_REUSEADDR, OVERLAPD__OPTION__OPTION_REUSE_ADDRESS },
                { SOL_SOCKET, SO_REUSEPORT, OVERLAPD__OPTION__OPTION_REUSE_PORT },
                { SOL_SOCKET, SO_KEEPALIVE, OVERLAPD__OPTION__OPTION_KEEP_ALIVE },
                { SOL_SOCKET, SO_SNDBUF, OVERLAPD__OPTION__OPTION_SEND_BUFFER },
                { SOL_SOCKET, SO_RCVBUF, OVERLAPD__OPTION__OPTION_RECEIVE_BUFFER },
                { SOL_SOCKET, SO_OOBINLINE, OVERLAPD__OPTION__OPTION_OOB_INLINE },
                { SOL_SOCKET, SO_ERROR, OVERLAPD__OPTION__OPTION_ERROR },
                { SOL_SOCKET, SO_BROADCAST, OVERLAPD__OPTION__OPTION_BROADCAST },
                { IPPROTO_TCP, TCP_NODELAY, OVERLAPD__OPTION__OPTION_NO_DELAY },
                { IPPROTO_TCP, TCP_CORK, OVERLAPD__OPTION__OPTION_CORK },
                { IPPROTO_TCP, TCP_QUICKACK, OVERLAPD__OPTION__OPTION_QUICK_ACK },
                { IPPROTO_TCP, TCP_KEEPIDLE, OVERLAPD__OPTION__OPTION_KEEP_ALIVE_IDLE },
                { IPPROTO_TCP, TCP_KEEPINTVL, OVERLAPD__OPTION__OPTION_KEEP_ALIVE_INTERVAL },
                { IPPROTO_TCP, TCP_KEEPCNT, OVERLAPD__OPTION__OPTION_KEEP_ALIVE_COUNT },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, OVERLAPD__OPTION__OPTION_USER_TIMEOUT },
                { IPPROTO_IPV6, IPV6_V6ONLY, OVERLAPD__OPTION__OPTION_V6_ONLY },
                { IPPROTO_IP, IP_TOS, OVERLAPD__OPTION__OPTION_TRAFFIC_CLASS },
                { IPPROTO_IPV6, IPV6_TCLASS, OVERLAPD__OPTION__OPTION_TRAFFIC_CLASS },
                { IPPROTO_IP, IP_TTL, OVERLAPD__OPTION__OPTION_HOPS },
                { IPPROTO_IPV6, IPV6_UNICAST_HOPS, OVERLAPD__OPTION__OPTION_HOPS },
                { IPPROTO_IP, IP_MULTICAST_TTL, OVERLAPD__OPTION__OPTION_MULTICAST_HOPS },
                { IPPROTO_IPV6, IPV6_MULTICAST_HOPS, OVERLAPD__OPTION__OPTION_MULTICAST_HOPS },
                { IPPROTO_IP, IP_MULTICAST_LOOP, OVERLAPD__OPTION__OPTION_MULTICAST_LOOP },
                { IPPROTO_IP, IP_PKTINFO, OVERLAPD__OPTION__OPTION_RECV_PACKET_INFO },
                { IPPROTO_IPV6, IPV6_RECVPKTINFO, OVERLAPD__OPTION__OPTION_RECV_PACKET_INFO },
                { IPPROTO_IP, IP_RECVTTL, OVERLAPD__OPTION__OPTION_RECV_HOP_LIMIT },
                { IPPROTO_IPV6, IPV6_RECVHOPLIMIT, OVERLAPD__OPTION__OPTION_RECV_HOP_LIMIT },
                { IPPROTO_IP, IP_RECVTOS, OVERLAPD__OPTION__OPTION_RECV_TRAFFIC_CLASS },
                { IPPROTO_IPV6, IPV6_RECVTCLASS, OVERLAPD__OPTION__OPTION_RECV_TRAFFIC_CLASS },
                { IPPROTO_IP, IP_RECVERR, OVERLAPD__OPTION__OPTION_RECV_REFUSAL },
                { IPPROTO_IPV6, IPV6_RECVERR, OVERLAPD__OPTION__OPTION_RECV_REFUSAL },
                { IPPROTO_IPV6, IPV6_MULTICAST_LOOP, OVERLAPD__OPTION__OPTION_MULTICAST_LOOP },
        };

        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
                if (options[i].level == level && options[i].option == option)
                        return options[i].wire;
        return OVERLAPD__OPTION__OPTION_NONE;
}

static int socket_option_unknown(struct ovl_thread *thread, int level, int option, const char *call) {
        return error_set(&thread->error, -ENOPROTOOPT, OVL_REASON_UNKNOWN_OPTION,
                         "%s: option %d of level %d is not one that sockets of overlapd have", call, option, level);
}

OVL_API int ovl_setsockopt(struct ovl_thread *thread, uint64_t socket, int level, int option, int value) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOptionSet set = OVERLAPD__SOCKET_OPTION_SET__INIT;
        Overlapd__Reply *reply;

        set.option = socket_option(level, option);
        if (set.option == OVERLAPD__OPTION__OPTION_NONE)
                return socket_option_unknown(thread, level, option, "ovl_setsockopt");
        set.socket = socket;
        set.value = value;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_SET;
        request.socket_option_set = &set;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_setsockopt", &reply);
}

OVL_API int ovl_getsockopt(struct ovl_thread *thread, uint64_t socket, int level, int option, int *ret_value) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOptionGet get = OVERLAPD__SOCKET_OPTION_GET__INIT;
        Overlapd__Reply *reply;
        int r;

        get.option = socket_option(level, option);
        if (get.option == OVERLAPD__OPTION__OPTION_NONE)
                return socket_option_unknown(thread, level, option, "ovl_getsockopt");
        get.socket = socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_GET;
        request.socket_option_get = &get;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_SOCKET_OPTION, "ovl_getsockopt", &reply);
        if (r < 0)
                return r;
        *ret_value = (int) reply->socket_option->value;
        return 0;
}

OVL_API int ovl_connect_time(struct ovl_thread *thread, uint64_t socket, uint32_t *ret_seconds) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOptionGet get = OVERLAPD__SOCKET_OPTION_GET__INIT;
        Overlapd__Reply *reply;
        int r;

        get.option = OVERLAPD__OPTION__OPTION_CONNECT_TIME;
        get.socket = socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_GET;
        request.socket_option_get = &get;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_SOCKET_OPTION, "ovl_connect_time", &reply);
        if (r < 0)
                return r;
        *ret_seconds = (uint32_t) reply->socket_option->value;
        return 0;
}

/* --- Cancelling ------------------------------------------------------------------------------------------------- */

/* Finds the tag of an operation in flight. Returns 0, or -ENOENT. */
static int socket_find_tag(struct ovl_thread *thread, uint64_t socket, const struct ovl_overlapped *overlapped,
                           uint64_t *ret_tag) {
        struct ovl_session *session = thread->session;
        const struct pending *pending;
        int r = -ENOENT;

        session_lock(session);
        pending = completion_private(overlapped)->state == COMPLETION_IN_FLIGHT
                          ? pending_find(&session->pending, completion_private(overlapped)->tag)
                          : NULL;
        if (pending && pending->overlapped == overlapped && (socket == 0 || pending->socket == socket)) {
                *ret_tag = pending->tag;
                r = 0;
        }
        session_unlock(session);
        if (r < 0)
                error_set(&thread->error, r, OVL_REASON_NOT_FOUND,
                          "ovl_cancel: the operation is not in flight on this socket: it is already done");
        return r;
}

/* Waits until an operation that the daemon has ended is ended here as well: its record may come another way. */
static void socket_wait_ended(struct ovl_thread *thread, uint64_t tag) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread, .wants_all = true };
        struct pending *pending;

        session_lock(session);
        pending = pending_find(&session->pending, tag);
        if (pending) {
                pending->is_waited = true;
                wait.overlapped = pending->overlapped;
        }
        wait_begin(&wait);
        while (pending_find(&session->pending, tag))
                wait_round(&wait, OVL_INFINITE);
        wait_end(&wait);
        session_unlock(session);
}

static bool socket_has_pending(const struct ovl_thread *thread, uint64_t socket) {
        const struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(&thread->session->pending, &index)))
                if (pending->thread == thread && (socket == 0 || pending->socket == socket))
                        return true;
        return false;
}

/* The same for what the thread posted on a socket, or on all. It posts nothing meanwhile. */
static void socket_wait_thread_ended(struct ovl_thread *thread, uint64_t socket) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread, .wants_ports = true };

        session_lock(session);
        wait_begin(&wait);
        while (!session->is_gone && socket_has_pending(thread, socket))
                wait_round(&wait, OVL_INFINITE);
        wait_end(&wait);
        session_unlock(session);
}

/* Asks for the end of what matches, and takes in what has ended. Returns how many ended because of it, or -errno. */
static int socket_cancel(struct ovl_thread *thread, Overlapd__Cancel *cancel, const char *call) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Reply *reply;
        int r, n;

        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = cancel;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_CANCEL, call, &reply);
        n = r < 0 ? 0 : reply->cancel->cancelled < INT32_MAX ? (int) reply->cancel->cancelled : INT32_MAX;
        conduit_take_in_all(thread->session, false, thread);
        return r < 0 ? r : n;
}

OVL_API int ovl_cancel_thread(struct ovl_thread *thread, uint64_t socket) {
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
        int n;

        cancel.socket = socket;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_THREAD;
        cancel.thread = thread->number;
        n = socket_cancel(thread, &cancel, "ovl_cancel_thread");
        if (n == -ENOENT)
                return 0;
        /* Also what came to its end by itself meanwhile has ended when this returns. */
        if (n >= 0)
                socket_wait_thread_ended(thread, socket);
        return n;
}

OVL_API int ovl_cancel(struct ovl_thread *thread, uint64_t socket, struct ovl_overlapped *overlapped) {
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
        int r, n;

        r = post_flush(thread, "ovl_cancel");
        if (r < 0)
                return r;
        cancel.socket = socket;
        if (overlapped) {
                cancel.which_case = OVERLAPD__CANCEL__WHICH_TAG;
                r = socket_find_tag(thread, socket, overlapped, &cancel.tag);
                if (r < 0)
                        return r;
        } else {
                cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
                cancel.all = true;
        }
        n = socket_cancel(thread, &cancel, "ovl_cancel");
        /* Also one that came to its end by itself meanwhile has ended when this returns. */
        if (n >= 0 && overlapped)
                socket_wait_ended(thread, cancel.tag);
        return n;
}
