/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control messages are cold: they may allocate, and what they may not do themselves they ask of the monitor.
 *
 * A request is answered at once, or becomes a call: it waits for the monitor (`asked`), or for the end of ops
 * (`waiting`). A call outlives its peer; its reply is then dropped. Calls that wait for ops do not point into them:
 * what they wait for is looked up anew at the end of each turn, so that an op needs to know nothing of them.
 */

#include "daemon/worker/control.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/session.h"
#include "proto/address.h"
#include "proto/overlapd.pb-c.h"

#define CONTROL_STRIKES_MAX 3u
#define CONTROL_STRIKES_WINDOW (10 * NS_PER_S)
#define CONTROL_TEXT_SIZE 400

enum call_kind {
        CALL_OPEN,
        CALL_BIND,
        CALL_LISTEN,
        CALL_REGION_REMOVE,
        CALL_CLOSE,
        CALL_CANCEL,
};

enum match_kind {
        MATCH_ALL,
        MATCH_TAG,
        MATCH_THREAD,
};

/* The ops that a cancel is for: those that were there when it came. */
struct match {
        enum match_kind kind;
        uint64_t value;
        uint64_t serial;
};

struct call {
        struct list link;
        enum call_kind kind;
        struct peer *peer; /* borrowed; NULL: nobody waits for the reply */
        struct session *session;
        uint32_t id;
        struct ticket ticket;
        struct link_message message;
        uint64_t socket_number;
        struct socket *socket; /* borrowed; of a close or cancel, which the socket outlives */
        struct region *region; /* borrowed */
        struct charge charge;
        struct match match;
        uint32_t n_cancelled;
};

/* What a serving function works on. */
struct serve {
        struct control *control;
        struct peer *peer;
        struct session *session;
        const struct ovl_frame_header *header;
        const Overlapd__Request *request;
};

void control_init(struct control *control, struct resources *resources, const char *engine_reason) {
        control->resources = resources;
        control->engine_reason = engine_reason;
        list_init(&control->asked);
        list_init(&control->waiting);
        message_arena_init(&control->arena);
}

static struct call *call_free(struct call *call) {
        if (!call)
                return NULL;
        if (call->session)
                call->session->n_calls--;
        charge_release(&call->charge);
        list_unlink(&call->link);
        fd_close(call->ticket.fd);
        free(call);
        return NULL;
}

void control_deinit(struct control *control) {
        struct list *link;

        while ((link = list_first(&control->asked)))
                call_free(list_entry(link, struct call, link));
        while ((link = list_first(&control->waiting)))
                call_free(list_entry(link, struct call, link));
}

/* --- Replies ---------------------------------------------------------------------------------------------------- */

static void control_mark_publish(struct control *control, struct peer *peer) {
        if (!list_is_linked(&peer->publish))
                list_push_back(&control->resources->publish, &peer->publish);
}

static void control_send(struct control *control, struct peer *peer, Overlapd__FromDaemon *message) {
        void *frame;
        ssize_t len;

        len = message_pack_frame(&message->base, 0, &frame);
        if (len < 0 || peer_push_frame(peer, frame, (size_t) len) < 0) {
                peer_die(peer, "out of memory for a reply");
                return;
        }
        control_mark_publish(control, peer);
}

static void control_send_reply(struct control *control, struct peer *peer, Overlapd__Reply *reply) {
        Overlapd__FromDaemon message = OVERLAPD__FROM_DAEMON__INIT;

        if (!peer)
                return;
        message.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        message.reply = reply;
        control_send(control, peer, &message);
}

/* The reply that says nothing but how it went. */
__attribute__((format(printf, 6, 7))) static void control_reply(struct control *control, struct peer *peer, uint32_t id,
                                                                int status, unsigned reason, const char *format, ...) {
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        char text[CONTROL_TEXT_SIZE];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        reply.id = id;
        reply.status = status;
        reply.reason = reason;
        reply.text = text;
        control_send_reply(control, peer, &reply);
}

#define serve_refuse(serve, status, reason, ...)                                                                       \
        control_reply((serve)->control, (serve)->peer, (serve)->request->id, status, reason, __VA_ARGS__)

static void serve_ok(struct serve *serve) {
        control_reply(serve->control, serve->peer, serve->request->id, 0, 0, "%s", "");
}

static void serve_send(struct serve *serve, Overlapd__Reply *reply) {
        reply->id = serve->request->id;
        control_send_reply(serve->control, serve->peer, reply);
}

void control_kick(struct control *control, struct peer *peer, int status, unsigned reason, const char *text) {
        Overlapd__FromDaemon message = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;

        notice.status = status;
        notice.reason = reason;
        notice.text = (char *) text;
        notice.closing = true;
        message.what_case = OVERLAPD__FROM_DAEMON__WHAT_NOTICE;
        message.notice = &notice;
        control_send(control, peer, &message);
        peer_publish_replies(peer);
        if (peer->session)
                session_kick(peer->session, text);
        peer_die(peer, text);
}

/* --- Calls ------------------------------------------------------------------------------------------------------ */

static struct call *call_new(struct serve *serve, enum call_kind kind) {
        struct call *call = calloc(1, sizeof(*call));

        if (!call) {
                serve_refuse(serve, -ENOMEM, OVL_REASON_NONE, "overlapd is out of memory: try again later");
                return NULL;
        }
        call->kind = kind;
        call->peer = serve->peer;
        call->session = serve->session;
        call->id = serve->request->id;
        call->ticket.fd = -1;
        call->session->n_calls++;
        list_init(&call->link);
        call->message.body.socket.session = serve->session->number;
        return call;
}

/* Asks the monitor. call: taken. */
static void call_ask(struct serve *serve, struct call *call, enum link_kind kind, int fd) {
        call->message.kind = kind;
        call->ticket.owner = TICKET_CALL;
        call->ticket.message = &call->message;
        /* The socket may be closed before the question has left. */
        call->ticket.fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
        if (ask_send(&serve->control->resources->ask, &call->ticket) < 0) {
                serve_refuse(serve, -ENOBUFS, OVL_REASON_QUOTA, "too many requests are under way: try again later");
                call_free(call);
                return;
        }
        list_push_back(&serve->control->asked, &call->link);
}

static void call_wait(struct serve *serve, struct call *call) {
        list_push_back(&serve->control->waiting, &call->link);
}

static bool list_has_id(const struct list *calls, const struct peer *peer, uint32_t id) {
        list_for_each(link, calls) {
                struct call *call = list_entry(link, struct call, link);

                if (call->peer == peer && call->id == id)
                        return true;
        }
        return false;
}

void control_forget_peer(struct control *control, struct peer *peer) {
        list_for_each(link, &control->asked) {
                struct call *call = list_entry(link, struct call, link);

                if (call->peer == peer)
                        call->peer = NULL;
        }
        list_for_each(link, &control->waiting) {
                struct call *call = list_entry(link, struct call, link);

                if (call->peer == peer)
                        call->peer = NULL;
        }
}

static struct socket *serve_socket(struct serve *serve, uint64_t number) {
        struct socket *socket = session_find_socket(serve->session, number);

        if (!socket)
                serve_refuse(serve, -EBADF, OVL_REASON_UNKNOWN_SOCKET,
                             "no socket of this session has the id %#llx: it was closed, or never opened",
                             (unsigned long long) number);
        return socket;
}

/* --- Sessions --------------------------------------------------------------------------------------------------- */

/* Returns whether the client can be served, or tells it why not. */
static bool serve_check_hello(struct serve *serve, const Overlapd__Hello *hello) {
        if (hello->version_min > OVL_PROTOCOL_MAX || hello->version_max < OVL_PROTOCOL_MIN ||
            hello->version_min > hello->version_max) {
                serve_refuse(serve, -EPROTONOSUPPORT, OVL_REASON_VERSION,
                             "the client speaks protocol versions %u to %u, overlapd %s speaks %u to %u: upgrade the "
                             "older one",
                             hello->version_min, hello->version_max, OVERLAPD_VERSION, OVL_PROTOCOL_MIN,
                             OVL_PROTOCOL_MAX);
                return false;
        }
        if (hello->level < 1) {
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_VERSION,
                             "level %u was asked for; overlapd %s serves level 1 (buffers in shared memory)",
                             hello->level, OVERLAPD_VERSION);
                return false;
        }
        return true;
}

static void serve_hello_reply(struct serve *serve, const Overlapd__Hello *hello) {
        Overlapd__HelloReply hello_reply = OVERLAPD__HELLO_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct session *session = serve->session;
        struct resources *resources = serve->control->resources;

        hello_reply.version = hello->version_max < OVL_PROTOCOL_MAX ? hello->version_max : OVL_PROTOCOL_MAX;
        hello_reply.level = 1;
        hello_reply.session = session->number;
        hello_reply.secret = (ProtobufCBinaryData){ .len = SESSION_SECRET_SIZE, .data = session->secret };
        hello_reply.credits = session->n_credits;
        hello_reply.regions = SESSION_REGIONS_MAX;
        hello_reply.region_bytes = session->region_bytes.limit;
        hello_reply.sockets = (uint32_t) session->n_sockets.limit;
        hello_reply.engine = (char *) resources->engine->ops->name;
        hello_reply.engine_reason = (char *) serve->control->engine_reason;
        reply.what_case = OVERLAPD__REPLY__WHAT_HELLO;
        reply.hello = &hello_reply;
        serve_send(serve, &reply);
}

static void serve_hello(struct serve *serve) {
        const Overlapd__Hello *hello = serve->request->hello;
        struct session *session;
        int r;

        if (serve->session) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "a second hello on one connection: open another connection instead");
                return;
        }
        if (!serve_check_hello(serve, hello)) {
                peer_publish_replies(serve->peer);
                peer_die(serve->peer, "no protocol version or level in common");
                return;
        }
        r = session_new(serve->control->resources, &serve->peer->identity, hello->credits, &session);
        if (r == 0) {
                r = session_add_thread(session, serve->peer, hello->thread, hello->tid);
                if (r < 0)
                        session_free(session);
        }
        if (r < 0) {
                serve_refuse(serve, r, OVL_REASON_NONE, "overlapd cannot open a session: %s", strerror(-r));
                return;
        }
        serve->session = session;
        serve_hello_reply(serve, hello);
}

/* In constant time: what differs must not show in how long it took. */
static bool secret_is_equal(const uint8_t *secret, const ProtobufCBinaryData *presented) {
        uint8_t difference = 0;

        if (presented->len != SESSION_SECRET_SIZE)
                return false;
        for (size_t i = 0; i < SESSION_SECRET_SIZE; i++)
                difference |= secret[i] ^ presented->data[i];
        return difference == 0;
}

/* A session of the same shard, by its number and secret. That a session exists at all is not told. */
static struct session *control_find_session(struct control *control, const struct peer *peer,
                                            const Overlapd__Attach *attach) {
        list_for_each(link, &control->resources->sessions) {
                struct session *session = list_entry(link, struct session, link);

                if (session->number == attach->session && session->identity.shard == peer->identity.shard &&
                    session->identity.uid == peer->identity.uid && !session->is_ending &&
                    secret_is_equal(session->secret, &attach->secret))
                        return session;
        }
        return NULL;
}

static void serve_attach(struct serve *serve) {
        const Overlapd__Attach *attach = serve->request->attach;
        struct session *session;
        int r = -EINVAL;

        if (serve->session) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "this connection belongs to a session already: open another connection instead");
                return;
        }
        session = control_find_session(serve->control, serve->peer, attach);
        if (!session) {
                control_kick(serve->control, serve->peer, -EACCES, OVL_REASON_DENIED,
                             "no session of this user and unit has this number and secret");
                return;
        }
        if (session->n_peers >= SESSION_PEERS_MAX) {
                control_kick(serve->control, serve->peer, -EDQUOT, OVL_REASON_QUOTA,
                             "the session has as many threads and ports as are allowed");
                return;
        }
        if (attach->what_case == OVERLAPD__ATTACH__WHAT_THREAD)
                r = session_add_thread(session, serve->peer, attach->thread, attach->tid);
        else if (attach->what_case == OVERLAPD__ATTACH__WHAT_PORT)
                r = session_add_port(session, serve->peer, attach->port);
        if (r < 0) {
                serve_refuse(serve, r, r == -EEXIST ? OVL_REASON_DUPLICATE : OVL_REASON_BAD_FRAME,
                             "the thread or port cannot be attached: %s", strerror(-r));
                return;
        }
        serve->session = session;
        serve_ok(serve);
}

/* --- Regions ---------------------------------------------------------------------------------------------------- */

static void serve_region_add(struct serve *serve) {
        Overlapd__RegionAddReply region_reply = OVERLAPD__REGION_ADD_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        int fd = peer_claim_fd(serve->peer);
        const char *problem = NULL;
        uint32_t index = 0;
        int r;

        while (index < SESSION_REGIONS_MAX && serve->session->regions[index].data)
                index++;
        if (index == SESSION_REGIONS_MAX) {
                serve_refuse(serve, -EDQUOT, OVL_REASON_QUOTA, "the session has %u regions already: remove one first",
                             SESSION_REGIONS_MAX);
        } else {
                r = region_init(&serve->session->regions[index], fd, serve->request->region_add->size,
                                &serve->session->region_bytes, &problem);
                if (r < 0) {
                        serve_refuse(serve, r, r == -EDQUOT ? OVL_REASON_QUOTA : OVL_REASON_BAD_MEMORY,
                                     "this descriptor is not accepted as a region of %llu bytes: %s",
                                     (unsigned long long) serve->request->region_add->size,
                                     problem ? problem : strerror(-r));
                } else {
                        region_reply.region = index + 1;
                        reply.what_case = OVERLAPD__REPLY__WHAT_REGION_ADD;
                        reply.region_add = &region_reply;
                        serve_send(serve, &reply);
                }
        }
        reaper_close(serve->control->resources->reaper, fd);
}

static void serve_region_remove(struct serve *serve) {
        uint32_t number = serve->request->region_remove->region;
        struct region *region = NULL;
        struct call *call;

        if (number >= 1 && number <= SESSION_REGIONS_MAX)
                region = &serve->session->regions[number - 1];
        if (!region || !region->data || region->is_leaving) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_REGION,
                             "no region of this session has the number %u: it was removed, or never added", number);
                return;
        }
        call = call_new(serve, CALL_REGION_REMOVE);
        if (!call)
                return;
        region->is_leaving = true;
        call->region = region;
        call_wait(serve, call);
}

/* --- Sockets ---------------------------------------------------------------------------------------------------- */

static void serve_socket_open(struct serve *serve) {
        const Overlapd__SocketOpen *open = serve->request->socket_open;
        int family = 0;
        struct call *call;

        if (open->family == OVERLAPD__FAMILY__FAMILY_INET)
                family = AF_INET;
        else if (open->family == OVERLAPD__FAMILY__FAMILY_INET6)
                family = AF_INET6;
        if (family == 0 || open->type != OVERLAPD__TYPE__TYPE_STREAM) {
                serve_refuse(serve, -EAFNOSUPPORT, OVL_REASON_OP_NOT_FOR_SOCKET,
                             "family %d with type %d is not served: this version has streams over IPv4 (2) and IPv6 "
                             "(10)",
                             open->family, open->type);
                return;
        }
        call = call_new(serve, CALL_OPEN);
        if (!call)
                return;
        if (charge_take(&call->charge, &serve->session->n_sockets, 1) < 0) {
                serve_refuse(serve, -EDQUOT, OVL_REASON_QUOTA,
                             "the session has %llu sockets already, or accepts that will make them: close some",
                             (unsigned long long) serve->session->n_sockets.limit);
                call_free(call);
                return;
        }
        call->message.body.socket.family = family;
        call->message.body.socket.type = SOCK_STREAM;
        call_ask(serve, call, LINK_SOCKET, -1);
}

/* Returns 0, or replies and returns -EINVAL. */
static int serve_address(struct serve *serve, const struct socket *socket, const Overlapd__Address *from,
                         struct ovl_address *ret_address) {
        struct ovl_address address = { 0 };
        size_t host_len = socket->family == AF_INET ? 4 : 16;

        if (!from || from->family != socket->family || from->host.len != host_len || from->port > UINT16_MAX) {
                serve_refuse(serve, -EINVAL, OVL_REASON_BAD_ADDRESS,
                             "the address does not fit a socket of family %d: family %d, %zu bytes of host, port %u",
                             socket->family, from ? from->family : 0, from ? from->host.len : 0, from ? from->port : 0);
                return -EINVAL;
        }
        address.family = (uint8_t) from->family;
        address.port = (uint16_t) from->port;
        address.scope_id = from->scope_id;
        memcpy(address.host, from->host.data, host_len);
        *ret_address = address;
        return 0;
}

static bool serve_check_open(struct serve *serve, const struct socket *socket) {
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

static void serve_socket_bind(struct serve *serve) {
        const Overlapd__SocketBind *bind = serve->request->socket_bind;
        struct socket *socket = serve_socket(serve, bind->socket);
        struct ovl_address address;
        struct call *call;

        if (!socket || !serve_check_open(serve, socket) || serve_address(serve, socket, bind->address, &address) < 0)
                return;
        call = call_new(serve, CALL_BIND);
        if (!call)
                return;
        call->socket_number = socket->number;
        call->message.body.name.address = address;
        call_ask(serve, call, LINK_BIND, socket->file.fd);
}

static void serve_socket_listen(struct serve *serve) {
        const Overlapd__SocketListen *listen = serve->request->socket_listen;
        struct socket *socket = serve_socket(serve, listen->socket);
        struct call *call;

        if (!socket)
                return;
        if (socket->state != SOCKET_LISTENING && !serve_check_open(serve, socket))
                return;
        call = call_new(serve, CALL_LISTEN);
        if (!call)
                return;
        call->socket_number = socket->number;
        call->message.body.listen.backlog = listen->backlog;
        call_ask(serve, call, LINK_LISTEN, socket->file.fd);
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

static void serve_socket_name(struct serve *serve) {
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

/* The options that clients may use: all take an int. */
static const struct option {
        Overlapd__Option option;
        int family; /* 0: any */
        int level;
        int name;
        bool is_read_only;
} options[] = {
        { OVERLAPD__OPTION__OPTION_REUSE_ADDRESS, 0, SOL_SOCKET, SO_REUSEADDR, false },
        { OVERLAPD__OPTION__OPTION_REUSE_PORT, 0, SOL_SOCKET, SO_REUSEPORT, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE, 0, SOL_SOCKET, SO_KEEPALIVE, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE_IDLE, 0, IPPROTO_TCP, TCP_KEEPIDLE, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE_INTERVAL, 0, IPPROTO_TCP, TCP_KEEPINTVL, false },
        { OVERLAPD__OPTION__OPTION_KEEP_ALIVE_COUNT, 0, IPPROTO_TCP, TCP_KEEPCNT, false },
        { OVERLAPD__OPTION__OPTION_NO_DELAY, 0, IPPROTO_TCP, TCP_NODELAY, false },
        { OVERLAPD__OPTION__OPTION_CORK, 0, IPPROTO_TCP, TCP_CORK, false },
        { OVERLAPD__OPTION__OPTION_QUICK_ACK, 0, IPPROTO_TCP, TCP_QUICKACK, false },
        { OVERLAPD__OPTION__OPTION_USER_TIMEOUT, 0, IPPROTO_TCP, TCP_USER_TIMEOUT, false },
        { OVERLAPD__OPTION__OPTION_SEND_BUFFER, 0, SOL_SOCKET, SO_SNDBUF, false },
        { OVERLAPD__OPTION__OPTION_RECEIVE_BUFFER, 0, SOL_SOCKET, SO_RCVBUF, false },
        { OVERLAPD__OPTION__OPTION_OOB_INLINE, 0, SOL_SOCKET, SO_OOBINLINE, false },
        { OVERLAPD__OPTION__OPTION_V6_ONLY, AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, false },
        { OVERLAPD__OPTION__OPTION_TRAFFIC_CLASS, AF_INET, IPPROTO_IP, IP_TOS, false },
        { OVERLAPD__OPTION__OPTION_TRAFFIC_CLASS, AF_INET6, IPPROTO_IPV6, IPV6_TCLASS, false },
        { OVERLAPD__OPTION__OPTION_ERROR, 0, SOL_SOCKET, SO_ERROR, true },
};

static const struct option *serve_option(struct serve *serve, const struct socket *socket, Overlapd__Option wanted,
                                         bool is_set) {
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
                const struct option *option = &options[i];

                if (option->option != wanted || (option->family != 0 && option->family != socket->family))
                        continue;
                if (is_set && option->is_read_only)
                        break;
                return option;
        }
        serve_refuse(serve, -ENOPROTOOPT, OVL_REASON_UNKNOWN_OPTION,
                     "option %d is not one that clients may %s on a socket of family %d", wanted,
                     is_set ? "set" : "read", socket->family);
        return NULL;
}

static void serve_socket_option_set(struct serve *serve) {
        const Overlapd__SocketOptionSet *set = serve->request->socket_option_set;
        struct socket *socket = serve_socket(serve, set->socket);
        const struct option *option;
        int value = (int) set->value;

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
        if (setsockopt(socket->file.fd, option->level, option->name, &value, sizeof(value)) < 0) {
                int error = errno;

                serve_refuse(serve, -error, OVL_REASON_NONE, "option %d cannot be set to %d: %s", set->option, value,
                             strerror(error));
                return;
        }
        serve_ok(serve);
}

static void serve_socket_option_get(struct serve *serve) {
        const Overlapd__SocketOptionGet *get = serve->request->socket_option_get;
        Overlapd__SocketOptionReply option_reply = OVERLAPD__SOCKET_OPTION_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct socket *socket = serve_socket(serve, get->socket);
        const struct option *option;
        int value = 0;
        socklen_t len = sizeof(value);

        if (!socket)
                return;
        option = serve_option(serve, socket, get->option, false);
        if (!option)
                return;
        if (getsockopt(socket->file.fd, option->level, option->name, &value, &len) < 0) {
                int error = errno;

                serve_refuse(serve, -error, OVL_REASON_NONE, "option %d cannot be read: %s", get->option,
                             strerror(error));
                return;
        }
        option_reply.value = value;
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_OPTION;
        reply.socket_option = &option_reply;
        serve_send(serve, &reply);
}

static void serve_socket_shutdown(struct serve *serve) {
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

static void serve_socket_close(struct serve *serve) {
        struct socket *socket = serve_socket(serve, serve->request->socket_close->socket);
        struct call *call;

        if (!socket)
                return;
        call = call_new(serve, CALL_CLOSE);
        if (!call)
                return;
        call->socket = socket;
        session_close_socket(serve->session, socket, OVL_REASON_CLOSED);
        call_wait(serve, call);
}

static void serve_port_associate(struct serve *serve) {
        const Overlapd__PortAssociate *associate = serve->request->port_associate;
        struct socket *socket = serve_socket(serve, associate->socket);
        struct port *port;

        if (!socket)
                return;
        port = session_find_port(serve->session, associate->port);
        if (!port) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_PORT, "no port of this session has the number %llu",
                             (unsigned long long) associate->port);
                return;
        }
        if (socket->port) {
                serve_refuse(serve, -EEXIST, OVL_REASON_HAS_PORT,
                             "the socket is associated with port %llu already: an association is for life",
                             (unsigned long long) socket->port->number);
                return;
        }
        socket->port = port;
        socket->port_key = associate->key;
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

static bool socket_has_match(const struct socket *socket, const struct match *match) {
        for (int direction = DIRECTION_IN; direction <= DIRECTION_OUT; direction++) {
                list_for_each(link, &socket->queues[direction].ops) {
                        if (op_matches(list_entry(link, struct op, link), match))
                                return true;
                }
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

static void serve_cancel(struct serve *serve) {
        const Overlapd__Cancel *cancel = serve->request->cancel;
        struct socket *socket = serve_socket(serve, cancel->socket);
        struct match match;
        struct call *call;

        if (!socket)
                return;
        if (cancel_match(cancel, serve->control->resources->op_serial, &match) < 0) {
                serve_refuse(serve, -EINVAL, OVL_REASON_BAD_FRAME,
                             "the cancel says neither a tag, nor a thread, nor all");
                return;
        }
        if (!socket_has_match(socket, &match)) {
                serve_refuse(serve, -ENOENT, OVL_REASON_NOT_FOUND,
                             "no operation that is pending on this socket matches: it has ended already");
                return;
        }
        call = call_new(serve, CALL_CANCEL);
        if (!call)
                return;
        call->socket = socket;
        call->match = match;
        session_cancel(socket, op_matches, &match, OVL_REASON_CANCELLED, &call->n_cancelled);
        call_wait(serve, call);
}

static void serve_status(struct serve *serve) {
        const struct stats *stats = &serve->control->resources->stats;
        Overlapd__StatusReply status_reply = OVERLAPD__STATUS_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        status_reply.engine = (char *) serve->control->resources->engine->ops->name;
        status_reply.engine_reason = (char *) serve->control->engine_reason;
        status_reply.worker_pid = (uint32_t) getpid();
        status_reply.turns = stats->turns;
        status_reply.wakeups = stats->wakeups;
        status_reply.system_calls = stats->system_calls;
        status_reply.entries = stats->entries;
        status_reply.records = stats->records;
        status_reply.bytes_received = stats->bytes_received;
        status_reply.bytes_sent = stats->bytes_sent;
        status_reply.sessions = stats->n_sessions;
        status_reply.sockets = stats->n_sockets;
        status_reply.ops_in_flight = stats->n_ops;
        status_reply.merged_ops = stats->merged_ops;
        reply.what_case = OVERLAPD__REPLY__WHAT_STATUS_REPORT;
        reply.status_report = &status_reply;
        serve_send(serve, &reply);
}

/* --- Serving ---------------------------------------------------------------------------------------------------- */

static void serve_request(struct serve *serve) {
        static const struct {
                void (*function)(struct serve *serve);
                uint8_t n_fds;
        } requests[] = {
                [OVERLAPD__REQUEST__WHAT_HELLO] = { serve_hello, 0 },
                [OVERLAPD__REQUEST__WHAT_ATTACH] = { serve_attach, 0 },
                [OVERLAPD__REQUEST__WHAT_REGION_ADD] = { serve_region_add, 1 },
                [OVERLAPD__REQUEST__WHAT_REGION_REMOVE] = { serve_region_remove, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_OPEN] = { serve_socket_open, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_BIND] = { serve_socket_bind, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN] = { serve_socket_listen, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_NAME] = { serve_socket_name, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_SET] = { serve_socket_option_set, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_GET] = { serve_socket_option_get, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_SHUTDOWN] = { serve_socket_shutdown, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE] = { serve_socket_close, 0 },
                [OVERLAPD__REQUEST__WHAT_PORT_ASSOCIATE] = { serve_port_associate, 0 },
                [OVERLAPD__REQUEST__WHAT_CANCEL] = { serve_cancel, 0 },
                [OVERLAPD__REQUEST__WHAT_STATUS] = { serve_status, 0 },
        };
        unsigned what = serve->request->what_case;
        bool is_first = what == OVERLAPD__REQUEST__WHAT_HELLO || what == OVERLAPD__REQUEST__WHAT_ATTACH;

        if (!serve->session && !is_first) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "the first message of a connection must be a hello or an attach");
                return;
        }
        if (what >= sizeof(requests) / sizeof(requests[0]) || !requests[what].function) {
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_UNKNOWN_OP,
                             "overlapd %s does not know this request: compare the protocol versions", OVERLAPD_VERSION);
                return;
        }
        if (serve->header->n_fds != requests[what].n_fds) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_BAD_FRAME,
                             "a request came with another number of descriptors than it takes");
                return;
        }
        if (serve->session && (list_has_id(&serve->control->asked, serve->peer, serve->request->id) ||
                               list_has_id(&serve->control->waiting, serve->peer, serve->request->id))) {
                serve_refuse(serve, -EINVAL, OVL_REASON_DUPLICATE,
                             "the request id %u is in use: a request with it has not been answered",
                             serve->request->id);
                return;
        }
        requests[what].function(serve);
}

/* A malformed message: refused twice, the third within ten seconds ends the session. */
static void control_strike(struct control *control, struct peer *peer, const char *problem) {
        uint64_t now = now_ns();

        if (peer->n_strikes == 0 || now - peer->strikes_since > CONTROL_STRIKES_WINDOW) {
                peer->n_strikes = 0;
                peer->strikes_since = now;
        }
        if (++peer->n_strikes >= CONTROL_STRIKES_MAX || !peer->session)
                control_kick(control, peer, -EPROTO, OVL_REASON_BAD_FRAME, problem);
        else
                control_reply(control, peer, 0, -EPROTO, OVL_REASON_BAD_FRAME, "a malformed message: %s", problem);
}

void control_serve(struct control *control, struct peer *peer, const struct ovl_frame_header *header,
                   const uint8_t *body) {
        ProtobufCMessage *message = NULL;
        const char *problem = NULL;
        struct serve serve = { .control = control, .peer = peer, .session = peer->session, .header = header };
        int r;

        if (header->body_len == 0)
                r = -EPROTO;
        else
                r = message_unpack(&control->arena, &overlapd__request__descriptor, body, header->body_len, &message,
                                   &problem);
        if (r < 0) {
                for (unsigned i = 0; i < header->n_fds; i++)
                        reaper_close(control->resources->reaper, peer_claim_fd(peer));
                control_strike(control, peer, problem ? problem : "it is empty");
                return;
        }
        serve.request = (const Overlapd__Request *) message;
        serve_request(&serve);
}

/* --- Ends of calls ---------------------------------------------------------------------------------------------- */

static void control_finish_open(struct control *control, struct call *call, int *fd) {
        Overlapd__SocketOpenReply open_reply = OVERLAPD__SOCKET_OPEN_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct socket *socket;
        int r;

        if (call->session->is_ending)
                return;
        r = session_add_socket(call->session, fd, call->message.body.socket.family, call->message.body.socket.type,
                               SOCKET_OPEN, &call->charge, &socket);
        if (r < 0) {
                control_reply(control, call->peer, call->id, r, OVL_REASON_QUOTA,
                              "overlapd has as many sockets as it can hold: raise LimitNOFILE");
                return;
        }
        open_reply.socket = socket->number;
        reply.id = call->id;
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_OPEN;
        reply.socket_open = &open_reply;
        control_send_reply(control, call->peer, &reply);
}

void control_answer(struct control *control, struct ticket *ticket, const struct link_message *answer, int take_fd) {
        struct call *call = list_entry(ticket, struct call, ticket);
        _cleanup_fd_ int fd = take_fd;
        struct socket *socket;

        if (call->kind == CALL_OPEN && answer->status == 0 && fd >= 0) {
                control_finish_open(control, call, &fd);
        } else {
                if (call->kind == CALL_LISTEN && answer->status == 0) {
                        socket = session_find_socket(call->session, call->socket_number);
                        if (socket)
                                socket->state = SOCKET_LISTENING;
                }
                control_reply(control, call->peer, call->id, answer->status, answer->reason, "%s", answer->text);
        }
        call_free(call);
}

static void control_reply_cancel(struct control *control, struct call *call) {
        Overlapd__CancelReply cancel_reply = OVERLAPD__CANCEL_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        cancel_reply.cancelled = call->n_cancelled;
        reply.id = call->id;
        reply.what_case = OVERLAPD__REPLY__WHAT_CANCEL;
        reply.cancel = &cancel_reply;
        control_send_reply(control, call->peer, &reply);
}

/* Replies if what the call waits for has come about; returns whether it has. */
static bool call_settle(struct control *control, struct call *call) {
        switch (call->kind) {
        case CALL_REGION_REMOVE:
                if (call->region->n_loans > 0)
                        return false;
                region_deinit(call->region);
                control_reply(control, call->peer, call->id, 0, 0, "%s", "");
                return true;
        case CALL_CLOSE:
                if (call->socket->n_ops > 0)
                        return false;
                control_reply(control, call->peer, call->id, 0, 0, "%s", "");
                return true;
        default:
                if (socket_has_match(call->socket, &call->match))
                        return false;
                control_reply_cancel(control, call);
                return true;
        }
}

void control_settle(struct control *control) {
        list_for_each_safe(link, &control->waiting) {
                struct call *call = list_entry(link, struct call, link);

                if (call_settle(control, call))
                        call_free(call);
        }
}
