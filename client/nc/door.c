/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way through overlapd: a session, its one thread, the loop and the lent memory. It is opened before anything is
 * read or listened to, so that whoever may not use overlapd hears of it first.
 *
 * Requests are made here synchronously: they are answered by overlapd itself, at once. What depends on others, names
 * and connections, goes through dial.c; only an address of our own, to bind to, is waited for, for without it there is
 * nothing to do.
 */

#include "client/nc/door.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "client/c/overlap.h"
#include "client/nc/report.h"

/* An address to be bound to by all sockets of a run. Returns as door_find(). */
static int door_find_source(struct door *door) {
        const struct options *options = door->options;
        int r;

        if (options->family == AF_UNIX) {
                r = options->source ? address_from_path(options->source, &door->source) : 0;
                if (r < 0)
                        report("-s %s: no path that a Unix socket could have", options->source);
                return r < 0 ? REPORT_USAGE : 0;
        }
        if (options->source)
                return door_find(door, options->source, options->family, options->source_port, &door->source);
        return 0;
}

int door_open(struct door *door, const struct options *options) {
        struct ovl_session_options session = { .path = options->daemon, .name = "overlap-nc" };
        struct ovl_error error;
        int r;

        *door = (struct door){ .options = options };
        r = ovl_session_open(&session, &door->session, &error);
        if (r >= 0)
                r = ovl_thread_open(door->session, &door->thread, &error);
        if (r < 0) {
                report("%s", error.text);
                return r == -EINVAL || r == -ENAMETOOLONG ? REPORT_USAGE : REPORT_LOST;
        }
        loop_init(&door->loop, door->thread);
        pool_init(&door->pool, door->thread);
        return door_find_source(door);
}

void door_close(struct door *door) {
        if (door->thread) {
                ovl_cancel_thread(door->thread, 0);
                pool_deinit(&door->pool);
                loop_deinit(&door->loop);
        }
        door->thread = ovl_thread_close(door->thread);
        door->session = ovl_session_free(door->session);
}

static const char *door_family(int family) {
        switch (family) {
        case AF_INET:
                return "IPv4 ";
        case AF_INET6:
                return "IPv6 ";
        default:
                return "";
        }
}

int door_tell_not_found(struct door *door, const char *host, int family, int status, unsigned reason) {
        char why[256];

        if (status == -ECONNABORTED && loop_is_lost(&door->loop))
                return REPORT_LOST;
        if (status == -ENOENT)
                report("'%s': overlapd's machine knows no such name, or no %saddress of it", host, door_family(family));
        else if (status == -EAGAIN)
                report("'%s': overlapd's machine cannot look names up now: try again later", host);
        else
                report("'%s' cannot be looked up: %s", host, loop_why(&door->loop, status, reason, why, sizeof(why)));
        return REPORT_FAILED;
}

int door_find(struct door *door, const char *host, int family, uint16_t port, struct address *ret_address) {
        int r = ovl_resolve(door->thread, host, family, door->options->type, port, &ret_address->storage, 1, 0, NULL,
                            NULL);

        if (r < 0)
                return door_tell_not_found(door, host, family, r, ovl_thread_error(door->thread)->reason);
        ret_address->len = address_len(ret_address->storage.ss_family);
        return 0;
}

int door_tell_refused(struct door *door, const char *what, const char *at, const struct address *address) {
        const struct ovl_error *error = ovl_thread_error(door->thread);
        char text[ADDRESS_TEXT_SIZE];

        if (error->status == -ECONNABORTED && loop_is_lost(&door->loop))
                return REPORT_LOST;
        address_format(address, text);
        if (strstr(loop_error_text(&door->loop), text))
                report("cannot %s: %s", what, loop_error_text(&door->loop));
        else
                report("cannot %s %s %s: %s", what, at, text, loop_error_text(&door->loop));
        return REPORT_FAILED;
}

void door_tell_ready(struct door *door, const struct address *address) {
        char text[ADDRESS_TEXT_SIZE];

        address_format(address, text);
        if (door->options->is_verbose)
                report("listening at %s", text);
        sd_notifyf(0, "READY=1\nSTATUS=Listening at %s", text);
}

/* Datagrams of a Unix socket without a name could not be answered: an address of nothing but a family asks for one. */
static int door_bind(struct door *door, uint64_t socket, int family) {
        struct address address = door->source;

        if (family == AF_UNIX && !address.len && door->options->type == SOCK_DGRAM)
                address_any(AF_UNIX, 0, &address);
        else if (family != AF_UNIX && !address.len && door->options->source_port)
                address_any(family, door->options->source_port, &address);
        if (!address.len)
                return 0;
        if (family != AF_UNIX && door->options->source_port)
                ovl_setsockopt(door->thread, socket, SOL_SOCKET, SO_REUSEADDR, 1);
        return ovl_bind(door->thread, socket, (struct sockaddr *) &address.storage, address.len);
}

int door_socket(struct door *door, int family, uint64_t *ret_socket) {
        uint64_t socket;
        int r;

        r = ovl_socket_open(door->thread, family, door->options->type, &socket);
        if (r < 0)
                return r;
        /* Whatever the machine's habit is: where both families will do, one socket is to reach both. */
        if (family == AF_INET6 && door->options->family == AF_UNSPEC)
                ovl_setsockopt(door->thread, socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        r = door_bind(door, socket, family);
        if (r < 0) {
                struct ovl_error error = *ovl_thread_error(door->thread);

                ovl_socket_close(door->thread, socket);
                report("cannot use the source: %s", error.text);
                return r;
        }
        *ret_socket = socket;
        return 0;
}
