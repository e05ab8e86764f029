/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connects. That of a datagram socket ends at once, for it only sets the peer; that of a stream has a life:
 *
 *   (none)      -> in progress  by LINK_CONNECT, when the kernel says that it goes on
 *   in progress -> (answered)   by the kernel: made or refused
 *   in progress -> (answered)   by LINK_CANCEL: the kernel is told to forget it, the answer is -ECANCELED
 *   in progress -> (none)       by the worker's death
 *
 * One to a name has several such attempts, with a lookup before them: see connector-name.c.
 *
 * The monitor must not wait, so the socket is non-blocking while it connects; the flag belongs to the open file, which
 * the worker shares, and is put back before the answer leaves.
 *
 * A Unix listener whose backlog is full says neither yes nor no, and no event tells when it has room: such a connect is
 * tried again by the clock, until it is made, refused or cancelled. It is tried less and less often: thousands of them
 * that somebody has sent to a listener that never takes any must not fill the monitor's time.
 *
 * Shares. Connects that are answered by nobody last for minutes, so a user may have no more of them in progress than
 * are left for others: who is alone gets half. Quotas do not see to that, for what can be in progress at once is few.
 *
 * Rejected: connecting in the worker's ring (its filter would have to allow connect, and with it everything), and a
 * process per connect.
 */

#include "daemon/monitor/connector.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/connector-parts.h"
#include "daemon/monitor/events.h"
#include "proto/address.h"

#define CONNECTOR_RETRY_NS (10 * NS_PER_MS)      /* the first pause; each that follows is twice as long */
#define CONNECTOR_RETRY_MAX_NS (640 * NS_PER_MS) /* the longest */

/* A session may be gone before its connect is: what is kept of it is its own. */
static void connector_keep_client(const struct connector_client *client, struct connector_client *ret_kept) {
        *ret_kept = *client;
        rulings_ref_again(client->rulings);
        ret_kept->unit = client->rulings ? client->rulings->peer.unit : NULL;
        ret_kept->cgroup = client->rulings ? client->rulings->peer.cgroup : NULL;
}

struct connector_connect *connector_connect_free(struct connector_connect *connect) {
        if (!connect)
                return NULL;
        if (list_is_linked(&connect->link)) {
                list_unlink(&connect->link);
                connect->connector->n_connects--;
        }
        connector_name_free(connect->name);
        sd_event_source_disable_unref(connect->source);
        link_close(connect->fd);
        rulings_unref(connect->client.rulings);
        free(connect);
        return NULL;
}

/* The flags are put back before the worker hears of it. The attempts at a name were told of one by one. */
int connector_finish(struct connector_connect *take_connect, const struct connector_result *result) {
        _cleanup_(connector_connect_free) struct connector_connect *connect = take_connect;

        fcntl(connect->fd, F_SETFL, connect->flags);
        if (result->status == 0)
                connector_tell(connect->connector, &connect->client, EVENT_CONNECTED, &connect->kind, &connect->address,
                               connector_name_text(connect->name));
        else if (!connect->name)
                connector_log(connect->connector, &connect->client, &connect->address, NULL, result);
        return connector_answer(connect->connector, connect->ticket, result, -1);
}

static int connector_on_retry(sd_event_source *source, uint64_t usec, void *data);

/* Tries again by the clock: the listener has no room. */
static int connector_await_room(struct connector_connect *waiting) {
        uint64_t pause_usec;
        int r;

        if (waiting->pause_ns == 0)
                waiting->pause_ns = CONNECTOR_RETRY_NS;
        else if (waiting->pause_ns < CONNECTOR_RETRY_MAX_NS)
                waiting->pause_ns *= 2;
        pause_usec = waiting->pause_ns / 1000;
        if (!waiting->source)
                return sd_event_add_time_relative(waiting->connector->event, &waiting->source, CLOCK_MONOTONIC,
                                                  pause_usec, 0, connector_on_retry, waiting);
        r = sd_event_source_set_time_relative(waiting->source, pause_usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(waiting->source, SD_EVENT_ONESHOT);
}

/*
 * A second connect(2) is the question that also lets the kernel take the socket for connected; with SO_ERROR alone it
 * would accept one more connect from the client and call it a success.
 */
int connector_collect(struct connector_connect *collected) {
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
        if (collected->name)
                connector_name_go_on(collected, &result);
        else
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

struct connector_connect *connector_find(struct connector *connector, uint64_t ticket) {
        list_for_each(link, &connector->connects) {
                struct connector_connect *connect = list_entry(link, struct connector_connect, link);

                if (connect->ticket == ticket)
                        return connect;
        }
        return NULL;
}

static unsigned connector_count_of(const struct connector *connector, uid_t uid) {
        unsigned n = 0;

        list_for_each(link, &connector->connects)
                n += list_entry(link, struct connector_connect, link)->client.uid == uid;
        return n;
}

/* Returns 0, or -ENOBUFS and why. */
static int connector_check_room(const struct connector *connector, const struct connector_client *client,
                                struct connector_result *result) {
        unsigned n_left = connector->n_connects_max - connector->n_connects, n;

        if (n_left == 0) {
                connector_set(result, -ENOBUFS, OVL_REASON_QUOTA,
                              "%u connects are in progress, which is the limit: wait for some to end",
                              connector->n_connects_max);
                return -ENOBUFS;
        }
        n = client->is_exempt ? 0 : connector_count_of(connector, client->uid);
        if (n >= n_left) {
                connector_set(
                        result, -ENOBUFS, OVL_REASON_QUOTA,
                        "user %u has %u connects in progress, and no larger share of the %u that there can be, of "
                        "which %u are left for others: wait for some to end, or cancel them",
                        (unsigned) client->uid, n, connector->n_connects_max, n_left);
                return -ENOBUFS;
        }
        return 0;
}

int connector_connect_new(struct connector *connector, const struct link_message *message, int fd,
                          const struct connector_kind *kind, const struct connector_client *client,
                          struct connector_connect **ret_connect, struct connector_result *result) {
        _cleanup_(connector_connect_free) struct connector_connect *connect = NULL;

        if (connector_check_room(connector, client, result) < 0)
                return -ENOBUFS;
        connect = calloc(1, sizeof(*connect));
        if (!connect) {
                connector_set(result, -ENOMEM, OVL_REASON_NONE, "connect: %s", strerror(ENOMEM));
                return -ENOMEM;
        }
        list_init(&connect->link);
        connect->connector = connector;
        connect->ticket = message->ticket;
        connect->kind = *kind;
        connector_keep_client(client, &connect->client);
        connect->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        connect->flags = connect->fd >= 0 ? fcntl(connect->fd, F_GETFL) : -1;
        if (connect->flags < 0) {
                connector_set(result, -errno, OVL_REASON_NONE, "connect: %s", strerror(errno));
                return result->status;
        }
        list_push_back(&connector->connects, &connect->link);
        connector->n_connects++;
        *ret_connect = take_ptr(connect);
        return 0;
}

int connector_start(struct connector_connect *started, const struct sockaddr_storage *kernel, socklen_t len,
                    struct connector_result *result) {
        int r;

        started->source = sd_event_source_disable_unref(started->source);
        started->pause_ns = 0;
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
                r = sd_event_add_io(started->connector->event, &started->source, started->fd, EPOLLOUT,
                                    connector_on_connected, started);
        }
        if (r < 0) {
                connector_explain_connect(r, &started->address, result);
                return 0;
        }
        return 1;
}

/* Sets the peer of a datagram socket: nothing that could take any time. */
static int connector_connect_datagram(struct connector *connector, const struct link_message *message, int fd,
                                      const struct connector_kind *kind, const struct connector_client *client) {
        const struct ovl_address *address = &message->body.name.address;
        struct connector_result result = { 0 };
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        r = connector_check_address(address, kind->family, &kernel, &len, &result);
        if (r >= 0 && connector_asks_policy(connector, RULING_CONNECT, SOCK_DGRAM, client, address, NULL, &result) &&
            connect(fd, (struct sockaddr *) &kernel, len) < 0)
                connector_explain_connect(-errno, address, &result);
        connector_log(connector, client, address, NULL, &result);
        if (result.status == 0)
                connector_tell(connector, client, EVENT_CONNECTED, kind, address, NULL);
        return connector_answer(connector, message->ticket, &result, -1);
}

int connector_connect(struct connector *connector, const struct link_message *message, int fd,
                      const struct connector_kind *kind, const struct connector_client *client) {
        const struct ovl_address *address = &message->body.name.address;
        struct connector_result result = { 0 };
        struct connector_connect *started = NULL;
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        if (kind->type == SOCK_DGRAM)
                return connector_connect_datagram(connector, message, fd, kind, client);
        r = connector_check_address(address, kind->family, &kernel, &len, &result);
        if (r >= 0 && connector_asks_policy(connector, RULING_CONNECT, SOCK_STREAM, client, address, NULL, &result))
                connector_connect_new(connector, message, fd, kind, client, &started, &result);
        if (!started) {
                connector_log(connector, client, address, NULL, &result);
                return connector_answer(connector, message->ticket, &result, -1);
        }
        started->address = *address;
        if (connector_start(started, &kernel, len, &result) > 0)
                return 0;
        return connector_finish(started, &result);
}

void connector_forget(struct connector_connect *forgotten) {
        struct sockaddr none = { .sa_family = AF_UNSPEC };
        socklen_t len = sizeof(int);
        int error;

        forgotten->source = sd_event_source_disable_unref(forgotten->source);
        if (forgotten->kind.type != SOCK_STREAM)
                return;
        connect(forgotten->fd, &none, sizeof(none));
        /* The kernel holds that for a reset, and would tell somebody. */
        getsockopt(forgotten->fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

/* A ticket that names nothing is a connect whose answer is already on its way. */
int connector_cancel(struct connector *connector, uint64_t ticket) {
        struct connector_connect *cancelled = connector_find(connector, ticket);
        struct connector_result result = { 0 };
        struct pollfd done = { .events = POLLOUT };

        if (!cancelled)
                return 0;
        done.fd = cancelled->fd;
        if (!cancelled->name || !connector_name_is_looking(cancelled->name)) {
                if (poll(&done, 1, 0) > 0 && connector_collect(cancelled) > 0)
                        cancelled =
                                connector_find(connector, ticket); /* an attempt that failed is followed by others */
                if (!cancelled)
                        return 0;
                connector_forget(cancelled);
        }
        connector_set(&result, -ECANCELED, OVL_REASON_CANCELLED, "cancelled on request");
        return connector_finish(cancelled, &result);
}
