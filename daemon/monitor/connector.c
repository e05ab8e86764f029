/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connector: what a worker must not do itself, because whoever can make the worker do it would have the network.
 *
 * Invariant: each request is answered exactly once, with the ticket that it came with, and the monitor keeps its
 * descriptor of the worker's socket only until then. What the kernel is given is the private copy that was checked and
 * shown to the policy.
 *
 * Opening, binding and listening end at once, and so does the connect of a datagram socket, which only sets its peer.
 * The connect of a stream has a life:
 *
 *   (none)      -> in progress  by LINK_CONNECT, when the kernel says that it goes on
 *   in progress -> (answered)   by the kernel: made or refused
 *   in progress -> (answered)   by LINK_CANCEL: the kernel is told to forget it, the answer is -ECANCELED
 *   in progress -> (none)       by the worker's death
 *
 * The monitor must not wait, so the socket is non-blocking while it connects; the flag belongs to the open file, which
 * the worker shares, and is put back before the answer leaves. Before a descriptor is closed its lingering is switched
 * off: a worker that was taken over could otherwise make this close, if it is the last one, take as long as it likes.
 *
 * A Unix listener whose backlog is full says neither yes nor no, and no event tells when it has room: such a connect is
 * tried again by the clock, until it is made, refused or cancelled.
 *
 * Rejected: connecting in the worker's ring (its filter would have to allow connect, and with it everything), and a
 * process per connect.
 */

#include "daemon/monitor/connector.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/events.h"
#include "proto/address.h"

#define CONNECTOR_RETRY_NS (10 * NS_PER_MS)

struct connector_connect {
        struct list link;
        struct connector *connector;    /* borrowed */
        struct connector_client client; /* its rulings are held, and its unit and cgroup with them */
        uint64_t ticket;
        struct ovl_address address;
        sd_event_source *source;
        int fd;
        int flags; /* of the open file, as they were */
};

/* What a descriptor is that a worker sent. */
struct connector_kind {
        int family;
        int type;
};

/* How a request ended. */
struct connector_result {
        int status;
        uint32_t reason;
        bool is_about_rule; /* the policy refused it */
        char text[RULINGS_WHY_SIZE];
};

int connector_close(int fd) {
        struct linger none = { 0 };

        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        return fd_close(fd);
}

/* A session may be gone before its connect is: what is kept of it is its own. */
static void connector_keep_client(const struct connector_client *client, struct connector_client *ret_kept) {
        *ret_kept = *client;
        rulings_ref_again(client->rulings);
        ret_kept->unit = client->rulings ? client->rulings->peer.unit : NULL;
        ret_kept->cgroup = client->rulings ? client->rulings->peer.cgroup : NULL;
}

static struct connector_connect *connector_connect_free(struct connector_connect *connect) {
        if (!connect)
                return NULL;
        if (list_is_linked(&connect->link)) {
                list_unlink(&connect->link);
                connect->connector->n_connects--;
        }
        sd_event_source_disable_unref(connect->source);
        connector_close(connect->fd);
        rulings_unref(connect->client.rulings);
        free(connect);
        return NULL;
}
DEFINE_CLEANUP(struct connector_connect *, connector_connect_free)

void connector_init(struct connector *connector, sd_event *event, struct outbox *outbox, struct journal *journal,
                    struct rulings *rulings, unsigned n_connects_max) {
        *connector = (struct connector){
                .event = event,
                .outbox = outbox,
                .journal = journal,
                .rulings = rulings,
                .n_connects_max = n_connects_max,
        };
        list_init(&connector->connects);
}

void connector_deinit(struct connector *connector) {
        if (!connector->connects.next)
                return;
        while (!list_is_empty(&connector->connects))
                connector_connect_free(list_entry(connector->connects.next, struct connector_connect, link));
}

bool connector_wants(uint32_t kind) {
        switch (kind) {
        case LINK_SOCKET:
        case LINK_BIND:
        case LINK_LISTEN:
        case LINK_CONNECT:
        case LINK_CANCEL:
                return true;
        default:
                return false;
        }
}

__attribute__((format(printf, 4, 5))) static void connector_set(struct connector_result *result, int status,
                                                                uint32_t reason, const char *format, ...) {
        va_list arguments;

        result->status = status;
        result->reason = reason;
        va_start(arguments, format);
        vsnprintf(result->text, sizeof(result->text), format, arguments);
        va_end(arguments);
}

/* take_fd: rides with the answer. Taken on success. */
static int connector_answer(struct connector *connector, uint64_t ticket, const struct connector_result *result,
                            int take_fd) {
        struct link_message answer = {
                .kind = LINK_ANSWER,
                .status = result->status,
                .reason = result->reason,
                .ticket = ticket,
        };
        int r;

        strcpy(answer.text, result->text);
        r = outbox_push(connector->outbox, &answer, take_fd, OUTBOX_MAX);
        if (r < 0)
                outbox_fail(connector->outbox);
        return r;
}

struct journal_fields connector_describe(const struct connector_client *client, int error) {
        return (struct journal_fields){
                .message_id = EVENT_REQUEST_REFUSED,
                .session = client->session,
                .has_client = client->is_known,
                .client_pid = client->pid,
                .client_uid = client->uid,
                .client_unit = client->unit,
                .client_cgroup = client->cgroup,
                .has_client_thread = client->asker.has_thread,
                .has_client_op = client->asker.has_op,
                .client_thread = client->asker.thread,
                .client_socket = client->asker.socket,
                .client_op = client->asker.op,
                .error = error,
        };
}

/* What a client has reached, or let in: the lines by which somebody finds out later who it was. */
static void connector_tell(struct connector *connector, const struct connector_client *client, const char *message_id,
                           const struct connector_kind *kind, const struct ovl_address *address) {
        bool is_connect = strcmp(message_id, EVENT_CONNECTED) == 0;
        char text[ADDRESS_TEXT_SIZE];
        struct journal_fields fields = connector_describe(client, 0);

        fields.message_id = message_id;
        fields.protocol = kind->family == AF_UNIX ? "unix" : kind->type == SOCK_STREAM ? "tcp" : "udp";
        address_format(address, text);
        *(is_connect ? &fields.remote : &fields.local) = text;
        journal_write(connector->journal, LOG_NOTICE, &fields,
                      is_connect ? "connected to %s (%s)" : "listens at %s (%s)", text, fields.protocol);
}

static void connector_log(struct connector *connector, const struct connector_client *client,
                          const struct ovl_address *address, const struct connector_result *result) {
        char remote[ADDRESS_TEXT_SIZE];
        struct journal_fields fields = connector_describe(client, result->status);

        fields.remote = address ? address_format(address, remote) : NULL;
        fields.rule = result->is_about_rule ? strchr(result->text, ':') + 2 : NULL;
        if (result->status < 0 && result->status != -ECANCELED)
                journal_write(connector->journal, result->reason == OVL_REASON_DENIED ? LOG_NOTICE : LOG_INFO, &fields,
                              "%s%s%s", result->is_about_rule ? remote : "", result->is_about_rule ? ": " : "",
                              result->text);
}

static bool connector_asks_policy(struct connector *connector, enum ruling_act act, int type,
                                  const struct connector_client *client, const struct ovl_address *address,
                                  struct connector_result *result) {
        struct ruling_question question = { .act = act, .address = address };
        char why[RULINGS_WHY_SIZE];
        bool is_allowed;

        if (address->family == OVL_FAMILY_UNIX)
                question.protocol = RULING_UNIX;
        else
                question.protocol = type == SOCK_DGRAM ? RULING_UDP : RULING_TCP;
        is_allowed = rulings_allow(connector->rulings, client->rulings, &question, why);

        /* The worker knows what the answer was given by before its client does. */
        if (connector->rulings->facts.has_news)
                rulings_tell_facts(connector->rulings, connector->outbox);
        if (is_allowed)
                return true;
        connector_set(result, -EACCES, OVL_REASON_DENIED, "%s", why);
        result->is_about_rule = true;
        return false;
}

/*
 * To bind is half of listening. A port that the kernel chooses, and an abstract name of its own, is what it would give
 * to any socket that connects or sends: whoever may do something may have it. What it then listens on is decided when
 * it does.
 */
static bool connector_may_bind(struct connector *connector, int type, const struct connector_client *client,
                               const struct ovl_address *address, struct connector_result *result) {
        bool is_chosen = address->family == OVL_FAMILY_UNIX ? address->path_len == 0 : address->port == 0;

        if (is_chosen && rulings_has_grant(client->rulings))
                return true;
        return connector_asks_policy(connector, RULING_LISTEN, type, client, address, result);
}

/* --- Checks ----------------------------------------------------------------------------------------------------- */

static const char *connector_family_name(int family) {
        switch (family) {
        case AF_INET:
                return "IPv4";
        case AF_INET6:
                return "IPv6";
        default:
                return "Unix";
        }
}

/* Whether the descriptor is a socket of the kinds that clients may have, and of which: a worker can send anything. */
static int connector_check_fd(int fd, struct connector_kind *ret_kind) {
        struct connector_kind kind;
        socklen_t len = sizeof(int);
        bool is_inet, is_known;
        int protocol;

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &kind.family, &len) < 0)
                return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind.type, &len) < 0)
                return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0)
                return -errno;
        is_inet = kind.family == AF_INET || kind.family == AF_INET6;
        is_known = (is_inet && kind.type == SOCK_STREAM && protocol == IPPROTO_TCP) ||
                   (is_inet && kind.type == SOCK_DGRAM && protocol == IPPROTO_UDP) ||
                   (kind.family == AF_UNIX && (kind.type == SOCK_STREAM || kind.type == SOCK_DGRAM));
        if (!is_known)
                return -EINVAL;
        *ret_kind = kind;
        return 0;
}

/* Gives the kernel's form of an address that belongs to this family of sockets. */
static int connector_check_address(const struct ovl_address *address, int family, struct sockaddr_storage *ret_kernel,
                                   socklen_t *ret_len, struct connector_result *result) {
        struct sockaddr_storage kernel;
        char text[ADDRESS_TEXT_SIZE];
        socklen_t len;
        int r;

        r = address_to_kernel(address, &kernel, &len);
        if (r < 0) {
                connector_set(result, r, OVL_REASON_BAD_ADDRESS, "the address is malformed (family %u): %s",
                              address->family, strerror(-r));
                return r;
        }
        if (kernel.ss_family != family) {
                connector_set(result, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS, "an %s address does not fit an %s socket",
                              connector_family_name(kernel.ss_family), connector_family_name(family));
                return -EAFNOSUPPORT;
        }
        if (address_is_relative(address)) {
                connector_set(result, -EINVAL, OVL_REASON_BAD_ADDRESS,
                              "the path %s is relative, and overlapd shares no working directory with its clients: "
                              "begin it with /, or with a NUL byte for an abstract name",
                              address_format(address, text));
                return -EINVAL;
        }
        *ret_kernel = kernel;
        *ret_len = len;
        return 0;
}

/* Where to bind: an address, or for a Unix socket none at all, and the kernel chooses an abstract name. */
static int connector_check_bind_address(const struct ovl_address *address, int family,
                                        struct sockaddr_storage *ret_kernel, socklen_t *ret_len,
                                        struct connector_result *result) {
        const struct ovl_address unnamed = { .family = OVL_FAMILY_UNIX };

        if (family != AF_UNIX || memcmp(address, &unnamed, sizeof(unnamed)) != 0)
                return connector_check_address(address, family, ret_kernel, ret_len, result);
        *ret_kernel = (struct sockaddr_storage){ .ss_family = AF_UNIX };
        *ret_len = sizeof(ret_kernel->ss_family);
        return 0;
}

/* --- What went wrong, in words ---------------------------------------------------------------------------------- */

static void connector_explain_bind(int status, const char *act, const struct ovl_address *address,
                                   struct connector_result *result) {
        char text[ADDRESS_TEXT_SIZE];

        address_format(address, text);
        switch (-status) {
        case EADDRINUSE:
                if (address->family == OVL_FAMILY_UNIX) {
                        connector_set(result, status, OVL_REASON_NONE,
                                      "%s %s: address in use: a file of that name is removed by nobody but its owner, "
                                      "see who listens with `ss -lxp`",
                                      act, text);
                        break;
                }
                connector_set(result, status, OVL_REASON_NONE,
                              "%s %s: address in use: see who holds it with `ss -ltnp sport = :%u`", act, text,
                              address->port);
                break;
        case EACCES:
                if (address->family == OVL_FAMILY_UNIX) {
                        connector_set(result, status, OVL_REASON_NONE,
                                      "%s %s: permission denied: overlapd may not write to that directory", act, text);
                        break;
                }
                connector_set(result, status, OVL_REASON_NONE,
                              "%s %s: permission denied: ports below 1024 need CAP_NET_BIND_SERVICE for overlapd", act,
                              text);
                break;
        case EADDRNOTAVAIL:
                connector_set(result, status, OVL_REASON_NONE,
                              "%s %s: this machine has no such address: see `ip address`", act, text);
                break;
        case EINVAL:
                connector_set(result, status, OVL_REASON_NONE, "%s %s: invalid: the socket may have an address already",
                              act, text);
                break;
        default:
                connector_set(result, status, OVL_REASON_NONE, "%s %s: %s", act, text, strerror(-status));
        }
}

static void connector_explain_connect(int status, const struct ovl_address *address, struct connector_result *result) {
        uint32_t reason = OVL_REASON_NONE;
        const char *hint = "";
        char text[ADDRESS_TEXT_SIZE];

        address_format(address, text);
        switch (-status) {
        case ECONNREFUSED:
                hint = ": nobody listens there";
                break;
        case ETIMEDOUT:
                hint = ": no answer from there";
                break;
        case EADDRNOTAVAIL:
                hint = ": no local port is free for this destination";
                break;
        case EISCONN:
                reason = OVL_REASON_ALREADY_CONNECTED;
                break;
        case EALREADY:
                reason = OVL_REASON_CONNECT_PENDING;
                break;
        case EPROTOTYPE:
                hint = ": the socket there is of another type";
                break;
        }
        connector_set(result, status, reason, "connect to %s: %s%s", text, strerror(-status), hint);
}

/* --- Requests that end at once ---------------------------------------------------------------------------------- */

/* To have a socket is to have nothing yet: what is done with it is asked about. */
static void connector_open(const struct link_message *message, int *ret_fd, struct connector_result *result) {
        int family = message->body.socket.family, type = message->body.socket.type, fd;

        if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) {
                connector_set(result, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS,
                              "sockets of family %d cannot be opened: only Unix (%d), IPv4 (%d) and IPv6 (%d)", family,
                              AF_UNIX, AF_INET, AF_INET6);
                return;
        }
        if (type != SOCK_STREAM && type != SOCK_DGRAM) {
                connector_set(result, -ESOCKTNOSUPPORT, OVL_REASON_NONE,
                              "sockets of type %d cannot be opened: only streams (%d) and datagrams (%d)", type,
                              SOCK_STREAM, SOCK_DGRAM);
                return;
        }
        fd = socket(family, type | SOCK_CLOEXEC, 0);
        if (fd < 0) {
                connector_set(result, -errno, OVL_REASON_NONE, "open a socket: %s", strerror(errno));
                return;
        }
        *ret_fd = fd;
}

static void connector_bind(struct connector *connector, const struct link_message *message, int fd,
                           const struct connector_kind *kind, const struct connector_client *client,
                           struct connector_result *result) {
        const struct ovl_address *address = &message->body.name.address;
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        r = connector_check_bind_address(address, kind->family, &kernel, &len, result);
        if (r < 0)
                return;
        if (!connector_may_bind(connector, kind->type, client, address, result))
                return;
        if (bind(fd, (struct sockaddr *) &kernel, len) < 0)
                connector_explain_bind(-errno, "bind to", address, result);
}

/* Listening on a socket without an address would bind it to any address and port behind the policy's back. */
static void connector_listen(struct connector *connector, const struct link_message *message, int fd,
                             const struct connector_client *client, struct ovl_address *ret_address,
                             struct connector_result *result) {
        uint32_t backlog = message->body.listen.backlog;
        struct sockaddr_storage kernel;
        socklen_t len = sizeof(kernel);
        int r;

        if (getsockname(fd, (struct sockaddr *) &kernel, &len) < 0)
                r = -errno;
        else
                r = address_from_kernel((struct sockaddr *) &kernel, len, ret_address);
        if (r < 0) {
                connector_set(result, r, OVL_REASON_NONE, "listen: %s", strerror(-r));
                return;
        }
        if (ret_address->family == OVL_FAMILY_UNIX ? ret_address->path_len == 0 : ret_address->port == 0) {
                connector_set(result, -EINVAL, OVL_REASON_OUT_OF_ORDER, "listen: bind the socket to an address first");
                return;
        }
        if (!connector_asks_policy(connector, RULING_LISTEN, SOCK_STREAM, client, ret_address, result))
                return;
        if (listen(fd, backlog > INT32_MAX ? INT32_MAX : (int) backlog) < 0)
                connector_explain_bind(-errno, "listen on", ret_address, result);
}

/* --- Connects --------------------------------------------------------------------------------------------------- */

/* Ends a connect that was in progress, or ended at once: the flags are put back before the worker hears of it. */
static int connector_finish(struct connector_connect *take_connect, const struct connector_result *result) {
        _cleanup_(connector_connect_free) struct connector_connect *connect = take_connect;

        fcntl(connect->fd, F_SETFL, connect->flags);
        connector_log(connect->connector, &connect->client, &connect->address, result);
        if (result->status == 0)
                connector_tell(connect->connector, &connect->client, EVENT_CONNECTED,
                               &(struct connector_kind){
                                       .family = connect->address.family == OVL_FAMILY_UNIX ? AF_UNIX : AF_INET,
                                       .type = SOCK_STREAM,
                               },
                               &connect->address);
        return connector_answer(connect->connector, connect->ticket, result, -1);
}

static int connector_on_retry(sd_event_source *source, uint64_t usec, void *data);

/* Tries again by the clock: the listener has no room. */
static int connector_await_room(struct connector_connect *waiting) {
        uint64_t pause_usec = CONNECTOR_RETRY_NS / 1000;
        int r;

        if (!waiting->source)
                return sd_event_add_time_relative(waiting->connector->event, &waiting->source, CLOCK_MONOTONIC,
                                                  pause_usec, 0, connector_on_retry, waiting);
        r = sd_event_source_set_time_relative(waiting->source, pause_usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(waiting->source, SD_EVENT_ONESHOT);
}

/*
 * Asks the kernel what came of the connect. A second connect(2) is the question that also lets the kernel take the
 * socket for connected; with SO_ERROR alone it would accept one more connect from the client and call it a success.
 *
 * Returns 0 when it still goes on, else 1: the connect is answered and gone.
 */
static int connector_collect(struct connector_connect *collected) {
        struct connector_result result = { 0 };
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        r = address_to_kernel(&collected->address, &kernel, &len);
        if (r >= 0 && connect(collected->fd, (struct sockaddr *) &kernel, len) < 0)
                r = -errno;
        if (r == -EALREADY || r == -EINPROGRESS)
                return 0;
        if (r == -EAGAIN && collected->address.family == OVL_FAMILY_UNIX) {
                r = connector_await_room(collected);
                if (r >= 0)
                        return 0;
        }
        if (r < 0)
                connector_explain_connect(r, &collected->address, &result);
        connector_finish(collected, &result);
        return 1;
}

static int connector_on_connected(sd_event_source *source, int fd, uint32_t events, void *data) {
        connector_collect(data);
        return 0;
}

static int connector_on_retry(sd_event_source *source, uint64_t usec, void *data) {
        connector_collect(data);
        return 0;
}

static struct connector_connect *connector_find(struct connector *connector, uint64_t ticket) {
        list_for_each(link, &connector->connects) {
                struct connector_connect *connect = list_entry(link, struct connector_connect, link);

                if (connect->ticket == ticket)
                        return connect;
        }
        return NULL;
}

static int connector_connect_new(struct connector *connector, const struct link_message *message, int fd,
                                 const struct connector_client *client, struct connector_connect **ret_connect) {
        _cleanup_(connector_connect_free) struct connector_connect *connect = NULL;

        connect = calloc(1, sizeof(*connect));
        if (!connect)
                return -ENOMEM;
        list_init(&connect->link);
        connect->connector = connector;
        connect->ticket = message->ticket;
        connect->address = message->body.name.address;
        connector_keep_client(client, &connect->client);
        connect->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (connect->fd < 0)
                return -errno;
        connect->flags = fcntl(connect->fd, F_GETFL);
        if (connect->flags < 0)
                return -errno;
        *ret_connect = take_ptr(connect);
        return 0;
}

/* Returns 1 when the connect goes on, else 0 and how it ended. */
static int connector_start(struct connector_connect *started, const struct sockaddr_storage *kernel, socklen_t len,
                           struct connector_result *result) {
        struct connector *connector = started->connector;
        int r;

        if (fcntl(started->fd, F_SETFL, started->flags | O_NONBLOCK) < 0) {
                connector_explain_connect(-errno, &started->address, result);
                return 0;
        }
        if (connect(started->fd, (const struct sockaddr *) kernel, len) == 0)
                return 0;
        if (errno == EAGAIN && kernel->ss_family == AF_UNIX) {
                r = connector_await_room(started);
        } else if (errno != EINPROGRESS) {
                connector_explain_connect(-errno, &started->address, result);
                return 0;
        } else {
                r = sd_event_add_io(connector->event, &started->source, started->fd, EPOLLOUT, connector_on_connected,
                                    started);
        }
        if (r < 0) {
                connector_explain_connect(r, &started->address, result);
                return 0;
        }
        list_push_back(&connector->connects, &started->link);
        connector->n_connects++;
        return 1;
}

/* Sets the peer of a datagram socket: nothing that could take any time. */
static int connector_connect_datagram(struct connector *connector, const struct link_message *message, int fd,
                                      int family, const struct connector_client *client) {
        const struct ovl_address *address = &message->body.name.address;
        struct connector_result result = { 0 };
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        r = connector_check_address(address, family, &kernel, &len, &result);
        if (r >= 0 && connector_asks_policy(connector, RULING_CONNECT, SOCK_DGRAM, client, address, &result) &&
            connect(fd, (struct sockaddr *) &kernel, len) < 0)
                connector_explain_connect(-errno, address, &result);
        connector_log(connector, client, address, &result);
        if (result.status == 0)
                connector_tell(connector, client, EVENT_CONNECTED,
                               &(struct connector_kind){ .family = family, .type = SOCK_DGRAM }, address);
        return connector_answer(connector, message->ticket, &result, -1);
}

static int connector_connect(struct connector *connector, const struct link_message *message, int fd, int family,
                             const struct connector_client *client) {
        const struct ovl_address *address = &message->body.name.address;
        struct connector_result result = { 0 };
        struct connector_connect *started = NULL;
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        r = connector_check_address(address, family, &kernel, &len, &result);
        if (r >= 0 && connector_asks_policy(connector, RULING_CONNECT, SOCK_STREAM, client, address, &result)) {
                if (connector->n_connects >= connector->n_connects_max)
                        connector_set(&result, -ENOBUFS, OVL_REASON_QUOTA,
                                      "%u connects are in progress, which is the limit: wait for some to end",
                                      connector->n_connects_max);
                else {
                        r = connector_connect_new(connector, message, fd, client, &started);
                        if (r < 0)
                                connector_explain_connect(r, address, &result);
                }
        }
        if (!started) {
                connector_log(connector, client, address, &result);
                return connector_answer(connector, message->ticket, &result, -1);
        }
        if (connector_start(started, &kernel, len, &result) > 0)
                return 0;
        return connector_finish(started, &result);
}

/* A ticket that names nothing is a connect whose answer is already on its way. */
static int connector_cancel(struct connector *connector, uint64_t ticket) {
        struct connector_connect *cancelled = connector_find(connector, ticket);
        struct sockaddr none = { .sa_family = AF_UNSPEC };
        struct connector_result result = { 0 };
        struct pollfd done = { .events = POLLOUT };

        if (!cancelled)
                return 0;
        done.fd = cancelled->fd;
        if (poll(&done, 1, 0) > 0 && connector_collect(cancelled) > 0)
                return 0;
        connect(cancelled->fd, &none, sizeof(none));
        connector_set(&result, -ECANCELED, OVL_REASON_CANCELLED, "cancelled on request");
        return connector_finish(cancelled, &result);
}

/* --- Dispatch --------------------------------------------------------------------------------------------------- */

static int connector_handle_fd(struct connector *connector, const struct link_message *message, int fd,
                               const struct connector_client *client, const char **ret_problem) {
        struct connector_result result = { 0 };
        struct ovl_address address = { 0 };
        struct connector_kind kind = { 0 };
        int r;

        r = connector_check_fd(fd, &kind);
        if (r < 0) {
                *ret_problem = "a descriptor that is no socket of the kinds that clients have";
                return -EBADMSG;
        }
        if (message->kind == LINK_CONNECT && connector_find(connector, message->ticket)) {
                *ret_problem = "the ticket of a connect that is in progress";
                return -EBADMSG;
        }
        if (message->kind == LINK_CONNECT && kind.type == SOCK_DGRAM)
                return connector_connect_datagram(connector, message, fd, kind.family, client);
        if (message->kind == LINK_CONNECT)
                return connector_connect(connector, message, fd, kind.family, client);
        if (message->kind == LINK_BIND) {
                address = message->body.name.address;
                connector_bind(connector, message, fd, &kind, client, &result);
        } else {
                connector_listen(connector, message, fd, client, &address, &result);
        }
        connector_log(connector, client, &address, &result);
        if (message->kind == LINK_LISTEN && result.status == 0)
                connector_tell(connector, client, EVENT_LISTENING, &kind, &address);
        return connector_answer(connector, message->ticket, &result, -1);
}

int connector_handle(struct connector *connector, const struct link_message *message, int fd,
                     const struct connector_client *client, const char **ret_problem) {
        bool needs_fd = message->kind != LINK_SOCKET && message->kind != LINK_CANCEL;
        struct connector_result result = { 0 };
        _cleanup_fd_ int opened_fd = -1;
        int r;

        if (needs_fd && fd == -EMFILE) {
                connector_set(&result, -EMFILE, OVL_REASON_QUOTA,
                              "overlapd has as many descriptors as it may have: try again, or raise LimitNOFILE");
                connector_log(connector, client, NULL, &result);
                return connector_answer(connector, message->ticket, &result, -1);
        }
        if (needs_fd != (fd >= 0)) {
                *ret_problem = needs_fd ? "a request without its descriptor" : "a descriptor that nobody asked for";
                return -EBADMSG;
        }
        if (message->kind == LINK_CANCEL)
                return connector_cancel(connector, message->ticket);
        if (needs_fd)
                return connector_handle_fd(connector, message, fd, client, ret_problem);
        connector_open(message, &opened_fd, &result);
        connector_log(connector, client, NULL, &result);
        r = connector_answer(connector, message->ticket, &result, opened_fd);
        if (r < 0)
                return r;
        opened_fd = -1;
        return 0;
}
