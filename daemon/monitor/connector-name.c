/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A connect to a name is one operation of the monitor, so that a client which may reach a name need not know, nor be
 * trusted with, what it stands for:
 *
 *   (none)     -> looking up  by LINK_CONNECT_NAME, if the policy lets the client have the name resolved
 *   (none)     -> trying      likewise, of an address as one writes it
 *   looking up -> trying      by the resolver
 *   trying     -> trying      the kernel refused the attempt, or it took too long, and there is another address
 *   trying     -> (answered)  the connection is made, or no address is left
 *   any        -> (answered)  by LINK_CANCEL, by the time that the client gave it, or because the name was not found
 *
 * Invariant: the policy is asked about each address just before the kernel is given that very address, together with
 * the name that was asked for. Between the two nobody resolves again, so it makes no difference what a name server says
 * to whom and when; and a name that turns out to be something near (ruling_is_near()) opens nothing by being a name.
 *
 * What the policy refuses is no attempt: the next address is tried, and only a connect for which all were refused ends
 * as refused. Otherwise the last attempt says how it ended.
 *
 * All attempts are made with the one kernel socket that the client has: it is bound and has the options that the client
 * gave it, stands in the worker's ring, and may be shared. Linux puts a stream whose connect failed back to where it
 * was, and connect(2) with AF_UNSPEC does it for one that was given up; only a port that it chose by
 * itself it chooses anew. Rejected: a fresh socket for each attempt, which would have to get all of that again.
 *
 * An attempt that is not the last has CONNECTOR_ATTEMPT_NS, or, where the client gave the whole a time, its share of
 * what is left. The last one has all that is left, and without a time of the client's as long as the kernel tries.
 *
 * Rejected: several attempts at once, which would need several sockets, and are unkind to those who read the logs of a
 * firewall.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/connector-parts.h"
#include "daemon/monitor/names.h"
#include "proto/address.h"
#include "proto/reason.h"

#define CONNECTOR_ATTEMPT_NS (10 * NS_PER_S)

struct connector_name {
        struct connector_connect *connect; /* borrowed: the owner */
        bool is_address;                   /* it is none: the client wrote an address */
        char text[OVL_RESOLVE_NAME_MAX + 1];
        uint16_t port;
        uint64_t deadline_ns;                                    /* 0: none */
        sd_event_source *timer;                                  /* of the lookup, or of the present attempt */
        struct ovl_address addresses[OVL_RESOLVE_ADDRESSES_MAX]; /* in the order of the resolver */
        uint32_t n_addresses;                                    /* 0: they are not known yet */
        uint32_t n_tried;                                        /* of these, also those that were refused */
        bool has_attempted;                                      /* the kernel was given one */
        struct connector_result result;                          /* how it ends if nothing better comes */
};

struct connector_name *connector_name_free(struct connector_name *name) {
        if (!name)
                return NULL;
        names_give_up(name->connect->connector->names, name);
        sd_event_source_disable_unref(name->timer);
        free(name);
        return NULL;
}

const char *connector_name_text(const struct connector_name *name) {
        return name && !name->is_address ? name->text : NULL;
}

bool connector_name_is_looking(const struct connector_name *name) {
        return name->n_addresses == 0;
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

/* The client is told which address was refused: it does not know what the name stands for. */
static int connector_name_finish(struct connector_name *name) {
        struct connector_result result = name->result;
        char address[ADDRESS_TEXT_SIZE];
        size_t len = strlen(result.text);

        if (result.is_about_rule && name->n_addresses > 0 && !name->is_address)
                snprintf(result.text + len, sizeof(result.text) - len, " (%.100s is %s)", name->text,
                         connector_format(&name->connect->address, address));
        return connector_finish(name->connect, &result);
}

/* Tells the journal, and keeps it as the end of the connect, unless something of more weight is known. */
static void connector_name_note(struct connector_name *name, const struct ovl_address *address,
                                const struct connector_result *result) {
        struct connector_connect *connect = name->connect;

        connector_log(connect->connector, &connect->client, address, connector_name_text(name), result);
        if (!result->is_about_rule || !name->has_attempted)
                name->result = *result;
}

/* What the resolver says, in words. */
static int connector_name_fail(struct connector_name *name, int status, uint32_t reason) {
        struct connector_result result = { 0 };
        const char *why = reason != OVL_REASON_NONE ? reason_text(reason) : strerror(-status);

        connector_set(&result, status, reason, "connect to %.200s: %s", name->text, why);
        connector_name_note(name, NULL, &result);
        return connector_name_finish(name);
}

/* --- Time ------------------------------------------------------------------------------------------------------- */

static int connector_name_on_late(sd_event_source *source, uint64_t usec, void *data) {
        struct connector_name *name = data;
        struct connector_connect *late = name->connect;
        struct pollfd done = { .fd = late->fd, .events = POLLOUT };
        struct connector_result result = { 0 };
        char text[ADDRESS_TEXT_SIZE];

        if (connector_name_is_looking(name)) {
                connector_set(&result, -ETIMEDOUT, OVL_REASON_NONE,
                              "connect to %.200s: %s: the name was not found in time", name->text, strerror(ETIMEDOUT));
                connector_name_note(name, NULL, &result);
                connector_name_finish(name);
                return 0;
        }
        /* It may have come to an end by now. */
        if (poll(&done, 1, 0) > 0 && connector_collect(late) > 0)
                return 0;
        connector_set(&result, -ETIMEDOUT, OVL_REASON_NONE, "connect to %s: %s: no answer from there in time",
                      connector_format(&late->address, text), strerror(ETIMEDOUT));
        connector_name_go_on(late, &result);
        return 0;
}

/* Sets the timer of the whole, or of an attempt. Returns 0 or -errno. */
static int connector_name_limit(struct connector_name *name, uint64_t until_ns) {
        uint64_t now = now_ns(), left_ns = until_ns > now ? until_ns - now : 0;

        name->timer = sd_event_source_disable_unref(name->timer);
        if (until_ns == 0)
                return 0;
        return sd_event_add_time_relative(name->connect->connector->event, &name->timer, CLOCK_MONOTONIC,
                                          left_ns / 1000, 1, connector_name_on_late, name);
}

/* How long an attempt may take that is not the last. Test builds: OVL_TEST_ATTEMPT_MS. */
static uint64_t connector_name_attempt_ns(void) {
#ifdef OVL_TEST_HOOKS
        const char *ms = getenv("OVL_TEST_ATTEMPT_MS");

        if (ms)
                return strtoull(ms, NULL, 10) * NS_PER_MS;
#endif
        return CONNECTOR_ATTEMPT_NS;
}

/* Until when the attempt that is about to be made may take. 0: as long as the kernel likes. */
static uint64_t connector_name_attempt_until(const struct connector_name *name) {
        uint32_t n_left = name->n_addresses - name->n_tried; /* after this one */
        uint64_t now = now_ns(), share_ns = connector_name_attempt_ns();

        if (n_left == 0)
                return name->deadline_ns;
        if (name->deadline_ns > 0 && name->deadline_ns < now + share_ns * (n_left + 1))
                share_ns = name->deadline_ns > now ? (name->deadline_ns - now) / (n_left + 1) : 0;
        return now + share_ns;
}

/* --- Attempts --------------------------------------------------------------------------------------------------- */

/* Tries one address. Returns 1 when that goes on, else 0 and how it ended. */
static int connector_name_try(struct connector_name *name, const struct ovl_address *address,
                              struct connector_result *result) {
        struct connector_connect *connect = name->connect;
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        connect->address = *address;
        if (connector_check_address(address, connect->kind.family, &kernel, &len, result) < 0 ||
            !connector_asks_policy(connect->connector, RULING_CONNECT, connect->kind.type, &connect->client, address,
                                   connector_name_text(name), result))
                return 0;
        name->has_attempted = true;
        r = connector_name_limit(name, connector_name_attempt_until(name));
        if (r < 0) {
                connector_explain_connect(r, address, result);
                return 0;
        }
        return connector_start(connect, &kernel, len, result);
}

static int connector_name_next(struct connector_name *name) {
        while (name->n_tried < name->n_addresses) {
                const struct ovl_address *address = &name->addresses[name->n_tried++];
                struct connector_result result = { 0 };

                if (connector_name_try(name, address, &result) > 0)
                        return 0;
                if (result.status == 0)
                        return connector_finish(name->connect, &result);
                connector_name_note(name, address, &result);
                if (name->deadline_ns > 0 && now_ns() >= name->deadline_ns)
                        break;
        }
        return connector_name_finish(name);
}

int connector_name_go_on(struct connector_connect *ended, const struct connector_result *result) {
        struct connector_name *name = ended->name;

        if (result->status == 0)
                return connector_finish(ended, result);
        connector_forget(ended);
        connector_name_note(name, &ended->address, result);
        if (name->deadline_ns > 0 && now_ns() >= name->deadline_ns)
                return connector_name_finish(name);
        return connector_name_next(name);
}

/* --- Names ------------------------------------------------------------------------------------------------------ */

/* An IPv6 socket that is not for IPv6 alone reaches IPv4, too, by addresses that say so. */
static struct ovl_address connector_name_fit(const struct ovl_address *address, int family) {
        struct ovl_address mapped = { .family = OVL_FAMILY_INET6, .port = address->port };

        if (family != AF_INET6 || address->family != OVL_FAMILY_INET)
                return *address;
        memset(mapped.host + 10, 0xff, 2);
        memcpy(mapped.host + 12, address->host, 4);
        return mapped;
}

static int connector_name_take(struct connector_name *name, const struct ovl_address *addresses, uint32_t n) {
        for (uint32_t i = 0; i < n && i < OVL_RESOLVE_ADDRESSES_MAX; i++)
                name->addresses[name->n_addresses++] = connector_name_fit(&addresses[i], name->connect->kind.family);
        return connector_name_next(name);
}

static void connector_name_on_found(void *data, const struct resolver_answer *answer) {
        struct connector_name *name = data;

        if (answer->status < 0)
                connector_name_fail(name, answer->status, answer->reason);
        else
                connector_name_take(name, answer->addresses, answer->n_addresses);
}

static void connector_name_describe_query(const struct link_message *message, const struct connector_kind *kind, int fd,
                                          struct resolver_query *ret_query) {
        int is_only = 1;
        socklen_t len = sizeof(is_only);

        *ret_query = (struct resolver_query){
                .port = message->body.by_name.port,
                .family = kind->family == AF_INET ? OVL_FAMILY_INET : OVL_FAMILY_INET6,
                .type = (uint8_t) kind->type,
        };
        if (kind->family == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &is_only, &len) == 0 && !is_only)
                ret_query->family = 0;
        snprintf(ret_query->name, sizeof(ret_query->name), "%.*s", (int) sizeof(ret_query->name) - 1, message->text);
        snprintf(ret_query->service, sizeof(ret_query->service), "%s", message->body.by_name.service);
}

/* The connect may be gone when this returns. */
static int connector_name_look_up(struct connector_name *name, const struct resolver_query *query) {
        struct connector_result result = { .status = -EACCES, .reason = OVL_REASON_DENIED, .is_about_rule = true };
        struct connector_connect *connect = name->connect;
        struct ovl_address address;
        int r;

        r = names_look_up(connect->connector->names, query, &connect->client, &address, result.text,
                          connector_name_on_found, name);
        if (r == 0)
                return 0;
        if (r > 0)
                return connector_name_take(name, &address, 1);
        if (r == -EACCES) {
                /* It was told. */
                name->result = result;
                return connector_name_finish(name);
        }
        return connector_name_fail(name, r,
                                   r == -ENOENT    ? OVL_REASON_NAME_NOT_FOUND
                                   : r == -ENOBUFS ? OVL_REASON_QUOTA
                                                   : OVL_REASON_NONE);
}

int connector_connect_name(struct connector *connector, const struct link_message *message, int fd,
                           const struct connector_kind *kind, const struct connector_client *client) {
        struct connector_connect *connect;
        struct connector_result result = { 0 };
        struct resolver_query query;
        struct connector_name *name;
        uint8_t host[16];
        int r;

        r = connector_connect_new(connector, message, fd, kind, client, &connect, &result);
        if (r < 0) {
                connector_log(connector, client, NULL, message->text, &result);
                return connector_answer(connector, message->ticket, &result, -1);
        }
        name = connect->name = calloc(1, sizeof(*name));
        if (!name) {
                connector_set(&result, -ENOMEM, OVL_REASON_NONE, "connect to a name: %s", strerror(ENOMEM));
                return connector_finish(connect, &result);
        }
        name->connect = connect;
        names_normalize(message->text, name->text);
        name->is_address = inet_pton(AF_INET, name->text, host) == 1 || inet_pton(AF_INET6, name->text, host) == 1;
        if (message->body.by_name.timeout_ms > 0)
                name->deadline_ns = now_ns() + message->body.by_name.timeout_ms * NS_PER_MS;
        r = connector_name_limit(name, name->deadline_ns);
        if (r < 0)
                return connector_name_fail(name, r, OVL_REASON_NONE);
        connector_name_describe_query(message, kind, fd, &query);
        return connector_name_look_up(name, &query);
}
