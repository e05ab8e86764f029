/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlap-nc -l: binds at overlapd, and moves what whoever comes sends to standard output, and standard input there.
 *
 *   listening -> serving   a connection; without -k the listener is closed, so that others are refused and not left
 *                          waiting for somebody who never looks
 *   serving -> listening   with -k, when the connection has ended. One at a time: there is one standard input
 *   serving -> ended       without -k
 *
 * A datagram socket has no connections: it serves at once. Without -k the first who sends is the peer, and others are
 * not heard; with -k everybody is heard, and standard input goes to whoever sent last.
 */

#include "client/nc/serve.h"

#include <errno.h>

#include "client/nc/report.h"

static void serve_accept(struct serve *serve);

static void serve_ended(struct relay *relay) {
        struct serve *serve = list_entry(relay, struct serve, relay);
        bool is_unheard = relay->is_unheard && serve->output->fd >= 0 && relay->status == 0;
        bool has_next = serve->door->options->is_kept && serve->door->options->type == SOCK_STREAM;

        /* A connection that broke was told of; the next one is another. What goes nowhere is not worth waiting for. */
        if (has_next && !serve->door->loop.is_lost && !is_unheard)
                serve_accept(serve);
        else
                loop_stop(relay->loop, connect_exit(relay));
}

/* Returns 0, or an exit status after it was said what is wrong. */
static int serve_relay(struct serve *serve, uint64_t socket) {
        struct door *door = serve->door;
        struct relay_manner manner;

        connect_manner(door->options, serve->input, &manner);
        if (relay_start(&serve->relay, &door->loop, &door->pool, &manner, serve->input, serve->output, socket,
                        serve_ended) < 0)
                return door_tell_refused(door, "lend memory", "at", &serve->address);
        return 0;
}

static void serve_tell_peer(struct serve *serve, uint64_t socket) {
        struct address peer = { .len = sizeof(peer.storage) };
        char text[ADDRESS_TEXT_SIZE];

        if (!serve->door->options->is_verbose)
                return;
        if (ovl_getpeername(serve->door->thread, socket, (struct sockaddr *) &peer.storage, &peer.len) < 0)
                peer.len = 0;
        report("connection from %s", address_format(&peer, text));
}

static void serve_accepted(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct serve *serve = op->user;
        char text[ADDRESS_TEXT_SIZE], why[256];
        int r;

        if (op->status == -ECONNABORTED && !loop_is_lost(&serve->door->loop)) {
                serve_accept(serve); /* whoever came has gone again */
                return;
        }
        if (op->status < 0) {
                if (op->status != -ECONNABORTED)
                        report("cannot accept at %s: %s", address_format(&serve->address, text),
                               loop_why(&serve->door->loop, op->status, op->reason, why, sizeof(why)));
                loop_stop(&serve->door->loop, REPORT_FAILED);
                return;
        }
        if (!serve->door->options->is_kept) {
                ovl_socket_close(thread, serve->socket);
                serve->socket = 0;
        }
        serve_tell_peer(serve, op->value);
        r = serve_relay(serve, op->value);
        if (r != 0)
                loop_stop(&serve->door->loop, r);
}

static void serve_accept(struct serve *serve) {
        struct door *door = serve->door;

        serve->accept.user = serve;
        if (ovl_accept(door->thread, serve->socket, 0, &serve->accept, serve_accepted) < 0)
                loop_stop(&door->loop, door_tell_refused(door, "accept", "at", &serve->address));
}

/* Where to wait. Returns 0, or an exit status after it was said what is wrong. */
static int serve_find(struct serve *serve) {
        const struct options *options = serve->door->options;
        int family = options->family == AF_UNSPEC ? AF_INET : options->family;

        if (options->family == AF_UNIX) {
                if (address_from_path(options->host, &serve->address) >= 0)
                        return 0;
                report("'%s': no path that a Unix socket could have", options->host);
                return REPORT_USAGE;
        }
        if (options->host)
                return door_find(serve->door, options->host, options->family, options->port, &serve->address);
        address_any(family, options->port, &serve->address);
        return 0;
}

static int serve_bind(struct serve *serve) {
        const struct options *options = serve->door->options;
        struct ovl_thread *thread = serve->door->thread;
        int family = serve->address.storage.ss_family;
        struct address bound = { .len = sizeof(bound.storage) };
        int r;

        r = ovl_socket_open(thread, family, options->type, &serve->socket);
        if (r >= 0 && family != AF_UNIX && options->type == SOCK_STREAM)
                r = ovl_setsockopt(thread, serve->socket, SOL_SOCKET, SO_REUSEADDR, 1);
        if (r >= 0)
                r = ovl_bind(thread, serve->socket, (struct sockaddr *) &serve->address.storage, serve->address.len);
        if (r >= 0 && options->type == SOCK_STREAM)
                r = ovl_listen(thread, serve->socket, options->is_kept ? 128 : 1);
        if (r >= 0)
                r = ovl_getsockname(thread, serve->socket, (struct sockaddr *) &bound.storage, &bound.len);
        if (r >= 0)
                serve->address = bound;
        return r;
}

int serve_start(struct serve *serve, struct door *door, struct local *input, struct local *output) {
        int r;

        *serve = (struct serve){ .door = door, .input = input, .output = output };
        r = serve_find(serve);
        if (r != 0)
                return r;
        if (serve_bind(serve) < 0)
                return door_tell_refused(door, "listen", "at", &serve->address);
        door_tell_ready(door, &serve->address);
        if (door->options->type == SOCK_DGRAM)
                return serve_relay(serve, serve->socket);
        serve_accept(serve);
        return 0;
}
