/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connector: what a worker must not do itself, because whoever can make the worker do it would have the network.
 *
 * Invariant: each request is answered exactly once, with the ticket that it came with, and the monitor keeps its
 * descriptor of the worker's socket only until then. What the kernel is given is the private copy that was checked and
 * shown to the policy.
 *
 * Opening, binding and listening end at once; connects are in connector-connect.c.
 */

#include "daemon/monitor/connector.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "daemon/monitor/connector-parts.h"
#include "daemon/monitor/events.h"
#include "proto/address.h"
#include "proto/text.h"

void connector_init(struct connector *connector, sd_event *event, struct outbox *outbox, struct journal *journal,
                    struct rulings *rulings, struct names *names, unsigned n_connects_max) {
        *connector = (struct connector){
                .event = event,
                .outbox = outbox,
                .journal = journal,
                .rulings = rulings,
                .names = names,
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
        case LINK_CONNECT_NAME:
        case LINK_CANCEL:
                return true;
        default:
                return false;
        }
}

void connector_set(struct connector_result *result, int status, uint32_t reason, const char *format, ...) {
        va_list arguments;

        result->status = status;
        result->reason = reason;
        va_start(arguments, format);
        vsnprintf(result->text, sizeof(result->text), format, arguments);
        va_end(arguments);
}

int connector_answer(struct connector *connector, uint64_t ticket, const struct connector_result *result, int take_fd) {
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

const char *connector_format(const struct ovl_address *address, char text[ADDRESS_TEXT_SIZE]) {
        static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
        struct ovl_address inner = { .family = OVL_FAMILY_INET, .port = address->port };

        if (address->family != OVL_FAMILY_INET6 || memcmp(address->host, mapped, sizeof(mapped)) != 0)
                return address_format(address, text);
        memcpy(inner.host, address->host + sizeof(mapped), 4);
        return address_format(&inner, text);
}

void connector_tell(struct connector *connector, const struct connector_client *client, const char *message_id,
                    const struct connector_kind *kind, const struct ovl_address *address, const char *name) {
        bool is_connect = strcmp(message_id, EVENT_CONNECTED) == 0;
        char text[ADDRESS_TEXT_SIZE];
        struct journal_fields fields = connector_describe(client, 0);

        fields.message_id = message_id;
        fields.protocol = kind->family == AF_UNIX ? "unix" : kind->type == SOCK_STREAM ? "tcp" : "udp";
        fields.remote_name = name;
        connector_format(address, text);
        *(is_connect ? &fields.remote : &fields.local) = text;
        journal_write(connector->journal, LOG_NOTICE, &fields,
                      is_connect ? "connected to %s (%s)%s%s" : "listens at %s (%s)%s%s", text, fields.protocol,
                      name ? " for " : "", name ? name : "");
}

/* What the policy refuses is told by a line that begins with what was asked for: the text has just the rule. */
void connector_log(struct connector *connector, const struct connector_client *client,
                   const struct ovl_address *address, const char *name, const struct connector_result *result) {
        struct journal_fields fields = connector_describe(client, result->status);
        char remote[ADDRESS_TEXT_SIZE] = "";

        if (result->status >= 0 || result->status == -ECANCELED)
                return;
        fields.remote = address ? connector_format(address, remote) : NULL;
        fields.remote_name = name;
        if (!result->is_about_rule) {
                journal_write(connector->journal, result->reason == OVL_REASON_DENIED ? LOG_NOTICE : LOG_INFO, &fields,
                              "%s", result->text);
                return;
        }
        fields.rule = strchr(result->text, ':') + 2;
        journal_write(connector->journal, LOG_NOTICE, &fields, "%s%s%s: %s", remote, name ? " for " : "",
                      name ? name : "", result->text);
}

bool connector_asks_policy(struct connector *connector, enum ruling_act act, int type,
                           const struct connector_client *client, const struct ovl_address *address, const char *name,
                           struct connector_result *result) {
        struct ruling_question question = { .act = act, .address = address, .name = name };
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
        return connector_asks_policy(connector, RULING_LISTEN, type, client, address, NULL, result);
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

int connector_check_address(const struct ovl_address *address, int family, struct sockaddr_storage *ret_kernel,
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

void connector_explain_connect(int status, const struct ovl_address *address, struct connector_result *result) {
        uint32_t reason = OVL_REASON_NONE;
        const char *hint = "";
        char text[ADDRESS_TEXT_SIZE];

        connector_format(address, text);
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
        if (!connector_asks_policy(connector, RULING_LISTEN, SOCK_STREAM, client, ret_address, NULL, result))
                return;
        if (listen(fd, backlog > INT32_MAX ? INT32_MAX : (int) backlog) < 0)
                connector_explain_bind(-errno, "listen on", ret_address, result);
}

/* --- Dispatch --------------------------------------------------------------------------------------------------- */

/* A port or a service, and not both. */
static bool connector_is_name(const struct link_message *message) {
        const char *service = message->body.by_name.service;
        size_t service_len = strnlen(service, sizeof(message->body.by_name.service));

        return text_is_host_name(message->text, strlen(message->text)) &&
               (message->body.by_name.port != 0 ? service_len == 0 : text_is_service_name(service, service_len));
}

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
        if (message->kind == LINK_CONNECT || message->kind == LINK_CONNECT_NAME) {
                if (connector_find(connector, message->ticket)) {
                        *ret_problem = "the ticket of a connect that is in progress";
                        return -EBADMSG;
                }
                if (message->kind == LINK_CONNECT)
                        return connector_connect(connector, message, fd, &kind, client);
                if (!connector_is_name(message) || kind.family == AF_UNIX) {
                        *ret_problem = "a name that is none";
                        return -EBADMSG;
                }
                return connector_connect_name(connector, message, fd, &kind, client);
        }
        if (message->kind == LINK_BIND) {
                address = message->body.name.address;
                connector_bind(connector, message, fd, &kind, client, &result);
        } else {
                connector_listen(connector, message, fd, client, &address, &result);
        }
        connector_log(connector, client, &address, NULL, &result);
        if (message->kind == LINK_LISTEN && result.status == 0)
                connector_tell(connector, client, EVENT_LISTENING, &kind, &address, NULL);
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
                connector_log(connector, client, NULL, NULL, &result);
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
        connector_log(connector, client, NULL, NULL, &result);
        r = connector_answer(connector, message->ticket, &result, opened_fd);
        if (r < 0)
                return r;
        opened_fd = -1;
        return 0;
}
