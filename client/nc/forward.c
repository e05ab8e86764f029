/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlap-nc --local WHERE HOST PORT: for programs that can only connect to a local socket, such as the clients of a
 * database. Whoever comes to WHERE, in our own namespace, is connected to HOST PORT through overlapd.
 *
 * Invariant: both ends of every connection are passed on, each for itself; no connection has more than one piece of the
 * pool in flight; and there are no more than the pool has pieces: while all are taken nobody is accepted, and whoever
 * comes waits in the kernel's queue. The same where descriptors or memory are used up: then it serves fewer from then
 * on.
 *
 *   a connection: accepted -> dialling -> relaying -> freed    the host is reached; both directions have ended
 *                             dialling -> freed                it is not: the local connection is closed
 *
 * The file of a Unix socket is for its own user alone, for whoever can connect to it uses the network in our name. One
 * that somebody left behind is replaced only if nobody listens there. At the end it is removed, if it is still ours.
 *
 * Rejected: handing the local connection itself to overlapd (it takes Unix sockets only of its own user, and could then
 * see the program's other ends), and a port on all addresses: in a namespace with a network that would be an open door.
 */

#include "client/nc/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/nc/report.h"

#define FORWARD_MAX (1 + (POOL_REGIONS - 1) * POOL_PER_REGION)
#define FORWARD_INLINE_MAX 24u                                  /* at the level "inline" all operations share 16 MiB */
#define FORWARD_CREDITS (UPSTREAM_SLOTS + DOWNSTREAM_SLOTS + 1) /* of one connection */

struct forward_connection {
        struct list link;
        struct forward *forward;
        struct local input, output;
        struct dial dial;
        struct relay relay;
};

static void forward_watch(struct forward *forward) {
        bool has_room = forward->n_connections < forward->max_connections;

        forward->listener.events = has_room ? POLLIN : 0;
}

static void forward_free(struct forward_connection *connection) {
        struct forward *forward = connection->forward;

        list_unlink(&connection->link);
        local_close(&connection->output);
        local_close(&connection->input);
        forward->n_connections--;
        forward_watch(forward);
        free(connection);
}

static void forward_ended(struct relay *relay) {
        forward_free(list_entry(relay, struct forward_connection, relay));
}

static void forward_dialled(struct dial *dial, int status) {
        struct forward_connection *connection = list_entry(dial, struct forward_connection, dial);
        struct door *door = connection->forward->door;
        const struct relay_manner manner = {
                .is_shut = true,
                .timeout_ns = door->options->timeout_ns,
                .quit_ns = OVL_INFINITE,
        };
        char text[ADDRESS_TEXT_SIZE];

        if (status == REPORT_DONE && door->options->is_verbose)
                report("connected to %s", address_format(&dial->address, text));
        if (status == REPORT_DONE &&
            relay_start(&connection->relay, &door->loop, &door->pool, &manner, &connection->input, &connection->output,
                        dial->socket, forward_ended) < 0) {
                door_tell_refused(door, "lend memory", "for", &dial->address);
                ovl_socket_close(door->thread, dial->socket);
                status = REPORT_FAILED;
        }
        if (status != REPORT_DONE)
                forward_free(connection);
}

/* Nobody can be accepted for want of something, which comes back when a connection ends. */
static void forward_postpone(struct forward *forward, const char *why) {
        if (forward->n_connections == 0) {
                report("cannot accept local connections: %s", why);
                loop_stop(&forward->door->loop, REPORT_FAILED);
                return;
        }
        report("cannot serve more than %u connections at a time, others wait: %s", forward->n_connections, why);
        forward->max_connections = forward->n_connections;
        forward_watch(forward);
}

static void forward_accept(struct source *source, short events) {
        struct forward *forward = list_entry(source, struct forward, listener);
        struct forward_connection *connection;
        _cleanup_fd_ int fd = -1;

        if (pool_reserve(&forward->door->pool, forward->n_connections + 1) < 0) {
                if (!loop_is_lost(&forward->door->loop))
                        forward_postpone(forward, loop_error_text(&forward->door->loop));
                return;
        }
        fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        forward_postpone(forward, strerrordesc_np(errno));
                return;
        }
        connection = calloc(1, sizeof(*connection));
        if (!connection) {
                report("no memory for a connection: it is closed");
                return;
        }
        connection->forward = forward;
        list_init(&connection->link);
        list_push_back(&forward->connections, &connection->link);
        local_open_connection(&connection->input, &connection->output, fd_take(&fd));
        forward->n_connections++;
        forward_watch(forward);
        dial_start(&connection->dial, forward->door, forward->door->options->port, forward_dialled);
}

static void forward_signal(struct source *source, short events) {
        struct forward *forward = list_entry(source, struct forward, signals);

        loop_stop(&forward->door->loop, REPORT_DONE);
}

static int forward_watch_signals(struct forward *forward) {
        sigset_t signals;
        int fd;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        source_init(&forward->signals, fd, forward_signal);
        forward->signals.events = POLLIN;
        return loop_add(&forward->door->loop, &forward->signals);
}

/* A path, or a port of 127.0.0.1. Returns 0 or -EINVAL. */
static int forward_find(struct forward *forward, const char *where) {
        struct sockaddr_in *inet = (struct sockaddr_in *) &forward->address.storage;
        char *end;
        unsigned long port;

        if (strchr(where, '/') || where[0] == '@')
                return address_from_path(where, &forward->address) < 0 ? -EINVAL : 0;
        port = strtoul(where, &end, 10);
        if (where[0] < '0' || where[0] > '9' || *end || port > UINT16_MAX)
                return -EINVAL;
        address_any(AF_INET, (uint16_t) port, &forward->address);
        inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return 0;
}

/* Removes the file of a Unix socket at which nobody listens. */
static void forward_remove_stale(const struct address *address) {
        const struct sockaddr_un *name = (const struct sockaddr_un *) &address->storage;
        _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct stat about;

        if (fd < 0 || name->sun_path[0] == '\0' || lstat(name->sun_path, &about) < 0 || !S_ISSOCK(about.st_mode))
                return;
        if (connect(fd, (const struct sockaddr *) name, address->len) < 0 && errno == ECONNREFUSED)
                unlink(name->sun_path);
}

static int forward_listen(struct forward *forward) {
        const struct sockaddr_un *name = (const struct sockaddr_un *) &forward->address.storage;
        int family = forward->address.storage.ss_family, r, one = 1;
        _cleanup_fd_ int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct stat about;
        mode_t mask;

        if (fd < 0)
                return -errno;
        if (family == AF_UNIX)
                forward_remove_stale(&forward->address);
        else
                setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        mask = umask(0177);
        r = bind(fd, (struct sockaddr *) &forward->address.storage, forward->address.len) < 0 ? -errno : 0;
        umask(mask);
        if (r < 0)
                return r;
        if (family == AF_UNIX && name->sun_path[0] && lstat(name->sun_path, &about) == 0) {
                forward->device = about.st_dev;
                forward->inode = about.st_ino;
                forward->is_made = true;
        }
        forward->address.len = sizeof(forward->address.storage);
        if (listen(fd, 128) < 0 ||
            getsockname(fd, (struct sockaddr *) &forward->address.storage, &forward->address.len) < 0)
                return -errno;
        source_init(&forward->listener, fd_take(&fd), forward_accept);
        forward_watch(forward);
        return loop_add(&forward->door->loop, &forward->listener);
}

static unsigned forward_count(const struct door *door) {
        struct ovl_session_info info;
        unsigned max;

        ovl_session_info(door->session, &info);
        max = info.credits / FORWARD_CREDITS;
        if (info.level == 0 && max > FORWARD_INLINE_MAX)
                max = FORWARD_INLINE_MAX;
        if (info.sockets < max)
                max = info.sockets;
        return max < 1 ? 1 : max < FORWARD_MAX ? max : FORWARD_MAX;
}

int forward_start(struct forward *forward, struct door *door) {
        const char *where = door->options->local;
        char text[ADDRESS_TEXT_SIZE];
        int r;

        *forward = (struct forward){ .door = door, .max_connections = forward_count(door) };
        list_init(&forward->connections);
        source_init(&forward->listener, -1, forward_accept);
        source_init(&forward->signals, -1, forward_signal);
        if (forward_find(forward, where) < 0) {
                report("--local %s: must be a port from 0 to 65535, or the path of a Unix socket: with a slash, and of "
                       "at most 107 bytes",
                       where);
                return REPORT_USAGE;
        }
        r = forward_watch_signals(forward);
        if (r >= 0)
                r = forward_listen(forward);
        if (r < 0) {
                report("cannot listen at %s: %s%s", address_format(&forward->address, text), strerrordesc_np(-r),
                       r == -EADDRINUSE ? ": somebody listens there, or a file that is no socket is in its place" : "");
                return REPORT_FAILED;
        }
        door_tell_ready(door, &forward->address);
        return 0;
}

void forward_stop(struct forward *forward) {
        const struct sockaddr_un *name = (const struct sockaddr_un *) &forward->address.storage;
        struct stat about;

        if (forward->is_made && lstat(name->sun_path, &about) == 0 && about.st_dev == forward->device &&
            about.st_ino == forward->inode)
                unlink(name->sun_path);
        list_for_each_safe(link, &forward->connections)
                forward_free(list_entry(link, struct forward_connection, link));
        fd_close(forward->listener.fd);
        fd_close(forward->signals.fd);
}
