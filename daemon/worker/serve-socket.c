/* SPDX-License-Identifier: Apache-2.0 */

/* The requests about one socket, and about the operations on it. */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/time.h"
#include "daemon/worker/acks.h"
#include "daemon/worker/items.h"
#include "daemon/worker/serve.h"
#include "daemon/worker/unbuffered.h"
#include "proto/address.h"

struct handle *serve_handle(struct serve *serve, uint64_t number) {
        struct handle *handle = handle_find(serve->session, number);

        if (!handle)
                serve_refuse(serve, -EBADF, OVL_REASON_UNKNOWN_SOCKET,
                             "no socket of this session has the id %#llx: it was closed, or never opened",
                             (unsigned long long) number);
        return handle;
}

static struct socket *serve_socket(struct serve *serve, uint64_t number) {
        struct handle *handle = serve_handle(serve, number);

        return handle ? handle->socket : NULL;
}

/* --- Sockets ---------------------------------------------------------------------------------------------------- */

/* The kernel's number of a family or type; 0: there is none. */
static int serve_family(Overlapd__Family family) {
        switch (family) {
        case OVERLAPD__FAMILY__FAMILY_UNIX:
                return AF_UNIX;
        case OVERLAPD__FAMILY__FAMILY_INET:
                return AF_INET;
        case OVERLAPD__FAMILY__FAMILY_INET6:
                return AF_INET6;
        default:
                return 0;
        }
}

static int serve_type(Overlapd__Type type) {
        switch (type) {
        case OVERLAPD__TYPE__TYPE_STREAM:
                return SOCK_STREAM;
        case OVERLAPD__TYPE__TYPE_DATAGRAM:
                return SOCK_DGRAM;
        default:
                return 0;
        }
}

void serve_socket_open(struct serve *serve) {
        const Overlapd__SocketOpen *open = serve->request->socket_open;
        int family = serve_family(open->family), type = serve_type(open->type);
        struct quota_refusal refusal;
        struct call *call;

        if (family == 0 || type == 0) {
                serve_refuse(serve, -EAFNOSUPPORT, OVL_REASON_OP_NOT_FOR_SOCKET,
                             "family %d with type %d is not served: there are streams (1) and datagrams (2) of Unix "
                             "(1), IPv4 (2) and IPv6 (10)",
                             open->family, open->type);
                return;
        }
        call = call_new(serve, CALL_OPEN, NULL);
        if (!call)
                return;
        if (charge_take(&call->charge, &serve->session->quota, LIMIT_SOCKETS, 1, &refusal) < 0) {
                serve_refuse_quota(serve, &refusal);
                call_free(call);
                return;
        }
        call->message.body.socket.family = family;
        call->message.body.socket.type = type;
        call->is_non_overlapped = open->non_overlapped;
        call_ask(serve, call, LINK_SOCKET, -1);
}

/* Whether the host of an address can be one of a socket of this family; that of a Unix socket may be empty. */
static bool serve_host_fits(int family, size_t len) {
        switch (family) {
        case AF_INET:
                return len == sizeof(struct in_addr);
        case AF_INET6:
                return len == sizeof(struct in6_addr);
        default:
                return len <= sizeof(((struct ovl_address *) 0)->host);
        }
}

/* Returns 0, or replies and returns -EINVAL. What a path may be is the monitor's to say. */
static int serve_address(struct serve *serve, const struct socket *socket, const Overlapd__Address *from,
                         struct ovl_address *ret_address) {
        struct ovl_address address = { 0 };

        if (!from || from->family != socket->family || !serve_host_fits(socket->family, from->host.len) ||
            from->port > UINT16_MAX) {
                serve_refuse(serve, -EINVAL, OVL_REASON_BAD_ADDRESS,
                             "the address does not fit a socket of family %d: family %d, %zu bytes of host, port %u",
                             socket->family, from ? from->family : 0, from ? from->host.len : 0, from ? from->port : 0);
                return -EINVAL;
        }
        address.family = (uint8_t) from->family;
        address.path_len = socket->family == AF_UNIX ? (uint8_t) from->host.len : 0;
        address.port = (uint16_t) from->port;
        address.scope_id = from->scope_id;
        if (from->host.len > 0)
                memcpy(address.host, from->host.data, from->host.len);
        *ret_address = address;
        return 0;
}

static bool serve_check_open(struct serve *serve, const struct socket *socket) {
        if (socket->accept) {
                serve_refuse(
                        serve, -EINVAL, OVL_REASON_PREPARED,
                        "the socket is prepared for an accept: it waits for its connection, and does nothing else");
                return false;
        }
        if (socket->state == SOCKET_OPEN)
                return true;
        serve_refuse(serve, -EINVAL,
                     socket->state == SOCKET_LISTENING ? OVL_REASON_LISTENING : OVL_REASON_ALREADY_CONNECTED,
                     "the socket is %s already",
                     socket->state == SOCKET_LISTENING    ? "listening"
                     : socket->state == SOCKET_CONNECTING ? "connecting"
                                                          : "connected");
        return false;
}

void serve_socket_bind(struct serve *serve) {
        const Overlapd__SocketBind *bind = serve->request->socket_bind;
        struct handle *handle = serve_handle(serve, bind->socket);
        struct ovl_address address;
        struct call *call;

        if (!handle || !serve_check_open(serve, handle->socket) ||
            serve_address(serve, handle->socket, bind->address, &address) < 0)
                return;
        call = call_new(serve, CALL_BIND, handle);
        if (!call)
                return;
        call->message.body.name.address = address;
        call_ask(serve, call, LINK_BIND, handle->socket->file.fd);
}

void serve_socket_listen(struct serve *serve) {
        const Overlapd__SocketListen *listen = serve->request->socket_listen;
        struct handle *handle = serve_handle(serve, listen->socket);
        struct quota_refusal refusal;
        struct call *call;

        if (!handle)
                return;
        if (handle->socket->type != SOCK_STREAM) {
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET,
                             "a datagram socket does not listen: bind it, and receive");
                return;
        }
        if (handle->socket->state != SOCKET_LISTENING && !serve_check_open(serve, handle->socket))
                return;
        call = call_new(serve, CALL_LISTEN, handle);
        if (!call)
                return;
        /* The unit pays: whoever of it has the socket. */
        if (!handle->socket->listener.quota &&
            charge_take(&call->charge, &serve->session->unit->quota, LIMIT_LISTENERS, 1, &refusal) < 0) {
                serve_refuse_quota(serve, &refusal);
                call_free(call);
                return;
        }
        call->message.body.listen.backlog = listen->backlog;
        call_ask(serve, call, LINK_LISTEN, handle->socket->file.fd);
}

static void serve_name(struct serve *serve, const struct ovl_address *name) {
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        Overlapd__SocketNameReply name_reply = OVERLAPD__SOCKET_NAME_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        address.family = name->family;
        address.port = name->port;
        address.scope_id = name->scope_id;
        address.host.len = name->family == OVL_FAMILY_INET ? 4 : name->family == OVL_FAMILY_INET6 ? 16 : name->path_len;
        address.host.data = (uint8_t *) name->host;
        name_reply.address = &address;
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_NAME;
        reply.socket_name = &name_reply;
        serve_send(serve, &reply);
}

void serve_socket_name(struct serve *serve) {
        const Overlapd__SocketName *wish = serve->request->socket_name;
        struct socket *socket = serve_socket(serve, wish->socket);
        struct sockaddr_storage kernel = { 0 };
        socklen_t len = sizeof(kernel);
        struct ovl_address name;
        int r;

        if (!socket)
                return;
        r = wish->peer ? getpeername(socket->file.fd, (struct sockaddr *) &kernel, &len)
                       : getsockname(socket->file.fd, (struct sockaddr *) &kernel, &len);
        r = r < 0 ? -errno : address_from_kernel((struct sockaddr *) &kernel, len, &name);
        if (r < 0) {
                serve_refuse(serve, r, r == -ENOTCONN ? OVL_REASON_NOT_CONNECTED : OVL_REASON_NONE,
                             "the socket has no %s address: %s", wish->peer ? "peer" : "local", strerror(-r));
                return;
        }
        serve_name(serve, &name);
}

#define OPTION_OWN (-1)
#define OPTION_NOT_CONNECTED UINT32_MAX

struct option;

/* A receive buffer of no bytes is ours; of a datagram socket the kernel's stays as it is. */
static int option_write_receive_buffer(const struct option *option, struct socket *socket, int value) {
        int r = unbuffered_set(socket, value == 0);

        if (r < 0 || (value == 0 && socket_is_datagram(socket)))
                return r;
        return setsockopt(socket->file.fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* A send buffer of no bytes is ours, on TCP: the kernel's stays as it is. */
static int option_write_send_buffer(const struct option *option, struct socket *socket, int value) {
        bool is_tcp = socket->type == SOCK_STREAM && socket->family != AF_UNIX;

        if (is_tcp && value == 0) {
                acks_set(socket, true);
                return 0;
        }
        if (setsockopt(socket->file.fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) < 0)
                return -errno;
        acks_set(socket, false);
        return 0;
}

static int option_read_send_buffer(const struct option *option, struct socket *socket, int64_t *ret_value) {
        socklen_t len = sizeof(int);
        int value = 0;

        if (getsockopt(socket->file.fd, SOL_SOCKET, SO_SNDBUF, &value, &len) < 0)
                return -errno;
        *ret_value = socket->awaits_acks ? 0 : value;
        return 0;
}

static int option_read_receive_buffer(const struct option *option, struct socket *socket, int64_t *ret_value) {
        socklen_t len = sizeof(int);
        int value = 0;

        if (getsockopt(socket->file.fd, SOL_SOCKET, SO_RCVBUF, &value, &len) < 0)
                return -errno;
        *ret_value = socket->is_unbuffered ? 0 : value;
        return 0;
}

/* Reading it takes the error away, and a refusal with it. */
static int option_read_error(const struct option *option, struct socket *socket, int64_t *ret_value) {
        socklen_t len = sizeof(int);
        int value = 0;

        if (refusals_look(socket))
                value = -refusals_tell(socket);
        else if (getsockopt(socket->file.fd, SOL_SOCKET, SO_ERROR, &value, &len) < 0)
                return -errno;
        *ret_value = value;
        return 0;
}

/* Seconds. A socket that is prepared for an accept tells whether its connection is there, before it has it. */
static int option_read_connect_time(const struct option *option, struct socket *socket, int64_t *ret_value) {
        if (socket->accept && socket->accept->into)
                socket = socket->accept->into->socket;
        *ret_value = socket->state == SOCKET_CONNECTED ? (int64_t) ((now_ns() - socket->connected_at) / NS_PER_S)
                                                       : OPTION_NOT_CONNECTED;
        return 0;
}

static int option_write_recv_refusal(const struct option *option, struct socket *socket, int value) {
        return refusals_set(socket, value != 0);
}

static int option_read_recv_refusal(const struct option *option, struct socket *socket, int64_t *ret_value) {
        *ret_value = socket->refusals.is_told;
        return 0;
}

static int option_write_item(const struct option *option, struct socket *socket, int value);
static int option_read_item(const struct option *option, struct socket *socket, int64_t *ret_value);

/*
 * The options that clients may use: all take an int. Those that the kernel would accept and ignore, or refuse with
 * words that mean something else, are not for the socket.
 */
static const struct option {
        Overlapd__Option option;
        const char *name_text;
        int family; /* 0: IPv4 and IPv6; -1: any */
        int type;   /* 0: any */
        int level;  /* OPTION_OWN: it is none of the kernel's */
        int name;   /* of one that tells what comes with datagrams: enum items_wanted */
        bool is_read_only;
        /* NULL: as the kernel's. Both return 0 or -errno. */
        int (*write)(const struct option *option, struct socket *socket, int value);
        int (*read)(const struct option *option, struct socket *socket, int64_t *ret_value);
} options[] = {
        { OVERLAPD__OPTION__OPTION_REUSE_ADDRESS, "REUSE_ADDRESS", 0, 0, SOL_SOCKET, SO_REUSEADDR, false },
        { OVERLAPD__OPTION__OPTION_REUSE_PORT, "REUSE_PORT", 0, 0, SOL_SOCKET, SO_REUSEPORT, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE, "KEEP_ALIVE", 0, SOCK_STREAM, SOL_SOCKET, SO_KEEPALIVE, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE_IDLE, "KEEP_ALIVE_IDLE", 0, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPIDLE,
          false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE_INTERVAL, "KEEP_ALIVE_INTERVAL", 0, SOCK_STREAM, IPPROTO_TCP,
          TCP_KEEPINTVL, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE_COUNT, "KEEP_ALIVE_COUNT", 0, SOCK_STREAM, IPPROTO_TCP, TCP_KEEPCNT,
          false },
        { OVERLAPD__OPTION__OPTION_NO_DELAY, "NO_DELAY", 0, SOCK_STREAM, IPPROTO_TCP, TCP_NODELAY, false },
        { OVERLAPD__OPTION__OPTION_CORK, "CORK", 0, SOCK_STREAM, IPPROTO_TCP, TCP_CORK, false },
        { OVERLAPD__OPTION__OPTION_QUICK_ACK, "QUICK_ACK", 0, SOCK_STREAM, IPPROTO_TCP, TCP_QUICKACK, false },
        { OVERLAPD__OPTION__OPTION_USER_TIMEOUT, "USER_TIMEOUT", 0, SOCK_STREAM, IPPROTO_TCP, TCP_USER_TIMEOUT, false },
        { OVERLAPD__OPTION__OPTION_SEND_BUFFER, "SEND_BUFFER", -1, 0, SOL_SOCKET, SO_SNDBUF, false,
          option_write_send_buffer, option_read_send_buffer },
        { OVERLAPD__OPTION__OPTION_RECEIVE_BUFFER, "RECEIVE_BUFFER", -1, 0, SOL_SOCKET, SO_RCVBUF, false,
          option_write_receive_buffer, option_read_receive_buffer },
        { OVERLAPD__OPTION__OPTION_OOB_INLINE, "OOB_INLINE", 0, SOCK_STREAM, SOL_SOCKET, SO_OOBINLINE, false },
        { OVERLAPD__OPTION__OPTION_V6_ONLY, "V6_ONLY", AF_INET6, 0, IPPROTO_IPV6, IPV6_V6ONLY, false },
        { OVERLAPD__OPTION__OPTION_TRAFFIC_CLASS, "TRAFFIC_CLASS", AF_INET, 0, IPPROTO_IP, IP_TOS, false },
        { OVERLAPD__OPTION__OPTION_TRAFFIC_CLASS, "TRAFFIC_CLASS", AF_INET6, 0, IPPROTO_IPV6, IPV6_TCLASS, false },
        { OVERLAPD__OPTION__OPTION_BROADCAST, "BROADCAST", 0, SOCK_DGRAM, SOL_SOCKET, SO_BROADCAST, false },
        { OVERLAPD__OPTION__OPTION_HOPS, "HOPS", AF_INET, 0, IPPROTO_IP, IP_TTL, false },
        { OVERLAPD__OPTION__OPTION_HOPS, "HOPS", AF_INET6, 0, IPPROTO_IPV6, IPV6_UNICAST_HOPS, false },
        { OVERLAPD__OPTION__OPTION_MULTICAST_HOPS, "MULTICAST_HOPS", AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MULTICAST_TTL,
          false },
        { OVERLAPD__OPTION__OPTION_MULTICAST_HOPS, "MULTICAST_HOPS", AF_INET6, SOCK_DGRAM, IPPROTO_IPV6,
          IPV6_MULTICAST_HOPS, false },
        { OVERLAPD__OPTION__OPTION_MULTICAST_LOOP, "MULTICAST_LOOP", AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_MULTICAST_LOOP,
          false },
        { OVERLAPD__OPTION__OPTION_MULTICAST_LOOP, "MULTICAST_LOOP", AF_INET6, SOCK_DGRAM, IPPROTO_IPV6,
          IPV6_MULTICAST_LOOP, false },
        { OVERLAPD__OPTION__OPTION_ERROR, "ERROR", -1, 0, SOL_SOCKET, SO_ERROR, true, NULL, option_read_error },
        { OVERLAPD__OPTION__OPTION_CONNECT_TIME, "CONNECT_TIME", -1, SOCK_STREAM, OPTION_OWN, 0, true, NULL,
          option_read_connect_time },
        { OVERLAPD__OPTION__OPTION_RECV_PACKET_INFO, "RECV_PACKET_INFO", 0, SOCK_DGRAM, OPTION_OWN, ITEMS_PACKET_INFO,
          false, option_write_item, option_read_item },
        { OVERLAPD__OPTION__OPTION_RECV_HOP_LIMIT, "RECV_HOP_LIMIT", 0, SOCK_DGRAM, OPTION_OWN, ITEMS_HOP_LIMIT, false,
          option_write_item, option_read_item },
        { OVERLAPD__OPTION__OPTION_RECV_TRAFFIC_CLASS, "RECV_TRAFFIC_CLASS", 0, SOCK_DGRAM, OPTION_OWN,
          ITEMS_TRAFFIC_CLASS, false, option_write_item, option_read_item },
        { OVERLAPD__OPTION__OPTION_RECV_REFUSAL, "RECV_REFUSAL", 0, SOCK_DGRAM, OPTION_OWN, 0, false,
          option_write_recv_refusal, option_read_recv_refusal },
};

static int option_write_item(const struct option *option, struct socket *socket, int value) {
        return items_set(socket, (enum items_wanted) option->name, value != 0);
}

static int option_read_item(const struct option *option, struct socket *socket, int64_t *ret_value) {
        *ret_value = (socket->items & option->name) != 0;
        return 0;
}

static bool option_fits(const struct option *option, const struct socket *socket) {
        bool has_family = option->family == -1 || option->family == socket->family ||
                          (option->family == 0 && socket->family != AF_UNIX);

        return has_family && (option->type == 0 || option->type == socket->type);
}

static const char *serve_socket_text(const struct socket *socket) {
        bool is_stream = socket->type == SOCK_STREAM;

        switch (socket->family) {
        case AF_INET:
                return is_stream ? "TCP over IPv4" : "UDP over IPv4";
        case AF_INET6:
                return is_stream ? "TCP over IPv6" : "UDP over IPv6";
        default:
                return is_stream ? "Unix streams" : "Unix datagrams";
        }
}

/* Returns NULL when it has refused. */
static const struct option *serve_option(struct serve *serve, const struct socket *socket, Overlapd__Option wanted,
                                         bool is_set) {
        const char *name = NULL;

        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
                const struct option *option = &options[i];

                if (option->option != wanted || (is_set && option->is_read_only))
                        continue;
                if (option_fits(option, socket))
                        return option;
                name = option->name_text;
        }
        if (name)
                serve_refuse(serve, -ENOPROTOOPT, OVL_REASON_OP_NOT_FOR_SOCKET,
                             "option %d (%s) means nothing to a socket of %s", wanted, name, serve_socket_text(socket));
        else
                serve_refuse(serve, -ENOPROTOOPT, OVL_REASON_UNKNOWN_OPTION, "option %d is not one that clients may %s",
                             wanted, is_set ? "set" : "read");
        return NULL;
}

/* Returns 0 or -errno. */
static int serve_write_option(const struct option *option, struct socket *socket, int value) {
        if (option->write)
                return option->write(option, socket, value);
        return setsockopt(socket->file.fd, option->level, option->name, &value, sizeof(value)) < 0 ? -errno : 0;
}

void serve_socket_option_set(struct serve *serve) {
        const Overlapd__SocketOptionSet *set = serve->request->socket_option_set;
        struct socket *socket = serve_socket(serve, set->socket);
        const struct option *option;
        int value = (int) set->value;
        int r;

        if (!socket)
                return;
        option = serve_option(serve, socket, set->option, true);
        if (!option)
                return;
        if (set->value != value) {
                serve_refuse(serve, -EINVAL, OVL_REASON_NONE, "the value %lld of option %d does not fit an int",
                             (long long) set->value, set->option);
                return;
        }
        r = serve_write_option(option, socket, value);
        if (r < 0)
                serve_refuse(serve, r, OVL_REASON_NONE, "option %d cannot be set to %d: %s", set->option, value,
                             strerror(-r));
        else
                serve_ok(serve);
}

/* Returns 0 or -errno. */
static int serve_read_option(const struct option *option, struct socket *socket, int64_t *ret_value) {
        socklen_t len = sizeof(int);
        int value = 0;

        if (option->read)
                return option->read(option, socket, ret_value);
        if (getsockopt(socket->file.fd, option->level, option->name, &value, &len) < 0)
                return -errno;
        *ret_value = value;
        return 0;
}

void serve_socket_option_get(struct serve *serve) {
        const Overlapd__SocketOptionGet *get = serve->request->socket_option_get;
        Overlapd__SocketOptionReply option_reply = OVERLAPD__SOCKET_OPTION_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct socket *socket = serve_socket(serve, get->socket);
        const struct option *option;
        int r;

        if (!socket)
                return;
        option = serve_option(serve, socket, get->option, false);
        if (!option)
                return;
        r = serve_read_option(option, socket, &option_reply.value);
        if (r < 0) {
                serve_refuse(serve, r, OVL_REASON_NONE, "option %d cannot be read: %s", get->option, strerror(-r));
                return;
        }
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_OPTION;
        reply.socket_option = &option_reply;
        serve_send(serve, &reply);
}

void serve_socket_shutdown(struct serve *serve) {
        const Overlapd__SocketShutdown *wish = serve->request->socket_shutdown;
        struct socket *socket = serve_socket(serve, wish->socket);
        int r = 0;

        if (!socket)
                return;
        if (wish->direction < OVERLAPD__DIRECTION__DIRECTION_RECEIVE ||
            wish->direction > OVERLAPD__DIRECTION__DIRECTION_BOTH) {
                serve_refuse(serve, -EINVAL, OVL_REASON_NONE, "direction %d is none of receive (1), send (2), both (3)",
                             wish->direction);
                return;
        }
        if (wish->direction != OVERLAPD__DIRECTION__DIRECTION_SEND)
                r = socket_shut_receive(socket);
        if (r == 0 && wish->direction != OVERLAPD__DIRECTION__DIRECTION_RECEIVE)
                r = socket_shut_send(socket);
        if (r < 0)
                serve_refuse(serve, r, OVL_REASON_NOT_CONNECTED, "the socket is not connected: nothing to shut down");
        else
                serve_ok(serve);
}

void serve_socket_close(struct serve *serve) {
        struct handle *handle = serve_handle(serve, serve->request->socket_close->socket);
        struct call *call;

        if (!handle)
                return;
        call = call_new(serve, CALL_CLOSE, handle);
        if (!call)
                return;
        handle_close(handle);
        call_wait(serve, call);
}

void serve_port_associate(struct serve *serve) {
        const Overlapd__PortAssociate *associate = serve->request->port_associate;
        struct handle *handle = serve_handle(serve, associate->socket);
        struct port *port;

        if (!handle)
                return;
        if (handle->socket->is_non_overlapped) {
                serve_refuse(serve, -EINVAL, OVL_REASON_NOT_OVERLAPPED,
                             "the socket, or its listener, was opened as one that is not overlapped: it has no port");
                return;
        }
        port = session_find_port(serve->session, associate->port);
        if (!port) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_PORT, "no port of this session has the number %llu",
                             (unsigned long long) associate->port);
                return;
        }
        if (handle->port) {
                serve_refuse(serve, -EEXIST, OVL_REASON_HAS_PORT,
                             "the socket is associated with port %llu already: an association is for life",
                             (unsigned long long) handle->port->number);
                return;
        }
        handle->port = port;
        handle->port_key = associate->key;
        serve_ok(serve);
}

/* --- Operations ------------------------------------------------------------------------------------------------- */

static bool op_matches(const struct op *op, const void *argument) {
        const struct match *match = argument;

        if (op->serial > match->serial)
                return false;
        switch (match->kind) {
        case MATCH_TAG:
                return op->tag == match->value;
        case MATCH_THREAD:
                return op->thread == match->value;
        case MATCH_ALL:
                break;
        }
        return true;
}

static bool handle_has_match_among(const struct handle *handle, const struct list *ops, const struct match *match) {
        list_for_each(link, ops) {
                const struct op *op = list_entry(link, struct op, link);

                if (op->handle == handle && op_matches(op, match))
                        return true;
        }
        return false;
}

bool handle_has_match(const struct handle *handle, const struct match *match) {
        const struct socket *socket = handle->socket;
        const struct list *all[] = { &socket->polls, &socket->ioctls, &socket->flushes };

        for (size_t i = 0; i < SOCKET_QUEUES; i++)
                if (handle_has_match_among(handle, &socket->queues[i].ops, match))
                        return true;
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
                if (handle_has_match_among(handle, all[i], match))
                        return true;
        list_for_each(link, &handle->strays) {
                if (op_matches(list_entry(link, struct op, stray), match))
                        return true;
        }
        return false;
}

static int cancel_match(const Overlapd__Cancel *cancel, uint64_t serial, struct match *ret_match) {
        struct match match = { .kind = MATCH_ALL, .serial = serial };

        switch (cancel->which_case) {
        case OVERLAPD__CANCEL__WHICH_TAG:
                match.kind = MATCH_TAG;
                match.value = cancel->tag;
                break;
        case OVERLAPD__CANCEL__WHICH_THREAD:
                match.kind = MATCH_THREAD;
                match.value = cancel->thread;
                break;
        case OVERLAPD__CANCEL__WHICH_ALL:
                break;
        default:
                return -EINVAL;
        }
        *ret_match = match;
        return 0;
}

static bool handles_have_match(const struct list *handles, const struct match *match) {
        list_for_each(link, handles) {
                if (handle_has_match(list_entry(link, struct handle, link), match))
                        return true;
        }
        return false;
}

bool session_has_match(const struct session *session, const struct match *match) {
        list_for_each(link, &session->resolving) {
                if (op_matches(list_entry(link, struct op, link), match))
                        return true;
        }
        return handles_have_match(&session->handles, match) || handles_have_match(&session->closing, match);
}

/* Asks for the end of what matches: of one handle, or, where that is NULL, of the whole session. */
static void serve_cancel_matches(struct serve *serve, struct handle *handle, const struct match *match) {
        struct call *call;

        if (handle ? !handle_has_match(handle, match) : !session_has_match(serve->session, match)) {
                serve_refuse(serve, -ENOENT, OVL_REASON_NOT_FOUND,
                             "no operation that is pending %s matches: it has ended already",
                             handle ? "on this socket" : "in this session");
                return;
        }
        call = call_new(serve, CALL_CANCEL, handle);
        if (!call)
                return;
        call->match = *match;
        if (handle)
                handle_cancel(handle, op_matches, match, OVL_REASON_CANCELLED, &call->n_cancelled);
        else
                session_cancel(serve->session, op_matches, match, OVL_REASON_CANCELLED, &call->n_cancelled);
        call_wait(serve, call);
}

void serve_cancel(struct serve *serve) {
        const Overlapd__Cancel *cancel = serve->request->cancel;
        struct handle *handle = NULL;
        struct match match;

        if (cancel->socket != 0) {
                handle = serve_handle(serve, cancel->socket);
                if (!handle)
                        return;
        }
        if (cancel_match(cancel, serve->control->resources->op_serial, &match) < 0) {
                serve_refuse(serve, -EINVAL, OVL_REASON_BAD_FRAME,
                             "the cancel says neither a tag, nor a thread, nor all");
                return;
        }
        serve_cancel_matches(serve, handle, &match);
}
