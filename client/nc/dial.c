/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reaches a host by its name, or a Unix socket by its path, with one operation: overlapd knows what the name stands
 * for, and tries one address after the other.
 *
 *   trying -> ended   connected, refused, or the time is over
 *   trying -> ended   overlapd is lost
 *
 * Invariant: `ended` comes from the loop, never from within a call of the owner, and only when no operation is pending:
 * the structure is free then.
 *
 * The time of a name is overlapd's to keep, for it shares it out among the addresses. A path that takes too long is
 * given up by closing its socket, which ends the operation.
 *
 * A name may have addresses of both families, and a socket of IPv6 reaches those of IPv4, too. So this is what it gets,
 * unless IPv4 is all that it can be; and where the kernel has no IPv6, too.
 *
 * Rejected: looking the name up first and connecting then, which needs to know, and to be allowed, what the name stands
 * for, and that may change in between.
 */

#include "client/nc/dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "client/nc/report.h"

static void dial_finish(struct dial *dial, int status) {
        loop_clear(&dial->timer);
        dial->ended(dial, status);
}

/* What is to be reached, as it was asked for. */
static const char *dial_format(const struct dial *dial, char text[DIAL_TEXT_SIZE]) {
        const char *host = dial->door->options->host;

        if (dial->door->options->family == AF_UNIX)
                return address_format(&dial->address, text);
        snprintf(text, DIAL_TEXT_SIZE, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, dial->port);
        return text;
}

/* Says why it was not reached. Returns the exit status. */
static int dial_tell(struct dial *dial, int status, unsigned reason) {
        const struct options *options = dial->door->options;
        char why[256], text[DIAL_TEXT_SIZE];

        if (status == -ECONNABORTED && loop_is_lost(&dial->door->loop))
                return REPORT_LOST;
        /* These are about the name: no connect ends so. */
        if (options->family != AF_UNIX && (status == -ENOENT || status == -EAGAIN || status == -EIO))
                return door_tell_not_found(dial->door, options->host, options->family, status, reason);
        /* Several ports: what fails is seen only by those who asked for it. */
        if (options->is_verbose || options->port == options->last_port)
                report("cannot connect to %s: %s", dial_format(dial, text),
                       loop_why(&dial->door->loop, status, reason, why, sizeof(why)));
        return REPORT_FAILED;
}

/* The address that was reached, of all that the name may stand for. */
static void dial_take_address(struct dial *dial) {
        struct address *address = &dial->address;

        if (dial->door->options->family == AF_UNIX)
                return;
        address->len = sizeof(address->storage);
        if (ovl_getpeername(dial->door->thread, dial->socket, (struct sockaddr *) &address->storage, &address->len) < 0)
                address->len = 0;
        address_unmap(address);
}

static void dial_connected(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct dial *dial = op->user;
        int status = dial->is_late && op->status == -ECANCELED ? -ETIMEDOUT : op->status;

        loop_clear(&dial->timer);
        if (status >= 0 && !dial->is_late) {
                dial_take_address(dial);
                dial_finish(dial, REPORT_DONE);
                return;
        }
        if (!dial->is_late)
                ovl_socket_close(thread, dial->socket);
        dial_finish(dial, dial_tell(dial, status < 0 ? status : -ETIMEDOUT, op->reason));
}

static void dial_late(struct timer *timer) {
        struct dial *dial = list_entry(timer, struct dial, timer);

        dial->is_late = true;
        ovl_socket_close(dial->door->thread, dial->socket);
}

/* Returns 0 when an operation is pending, or -errno. */
static int dial_path(struct dial *dial) {
        struct door *door = dial->door;
        int r;

        r = ovl_connect(door->thread, dial->socket, (struct sockaddr *) &dial->address.storage, dial->address.len, 0,
                        &dial->op, dial_connected);
        if (r >= 0 && door->options->timeout_ns != OVL_INFINITE)
                loop_set(&door->loop, &dial->timer, door->loop.now_ns + door->options->timeout_ns);
        return r;
}

/* Likewise. */
static int dial_name(struct dial *dial) {
        const struct options *options = dial->door->options;
        uint64_t timeout_ms = options->timeout_ns == OVL_INFINITE ? 0 : options->timeout_ns / NS_PER_MS;
        char service[8];

        snprintf(service, sizeof(service), "%u", dial->port);
        return ovl_connect_name(dial->door->thread, dial->socket, options->host, service,
                                timeout_ms > UINT32_MAX ? UINT32_MAX : (uint32_t) timeout_ms, 0, &dial->op,
                                dial_connected);
}

/* Opens a socket for what the host may be. Returns 0 or -errno. */
static int dial_socket(struct dial *dial) {
        struct door *door = dial->door;
        int family = door->options->family, r;
        struct in_addr inet;

        if (family != AF_UNSPEC)
                return door_socket(door, family, &dial->socket);
        if (door->source.len)
                return door_socket(door, door->source.storage.ss_family, &dial->socket);
        if (inet_pton(AF_INET, door->options->host, &inet) == 1)
                return door_socket(door, AF_INET, &dial->socket);
        r = door_socket(door, AF_INET6, &dial->socket);
        if (r == -EAFNOSUPPORT)
                return door_socket(door, AF_INET, &dial->socket);
        return r;
}

static void dial_begin(struct timer *timer) {
        struct dial *dial = list_entry(timer, struct dial, timer);
        const struct options *options = dial->door->options;
        unsigned reason = 0;
        int r;

        timer->due = dial_late;
        if (options->family == AF_UNIX && address_from_path(options->host, &dial->address) < 0) {
                report("'%s': no path that a Unix socket could have", options->host);
                dial_finish(dial, REPORT_USAGE);
                return;
        }
        r = dial_socket(dial);
        if (r >= 0) {
                dial->op.user = dial;
                r = options->family == AF_UNIX ? dial_path(dial) : dial_name(dial);
                if (r >= 0)
                        return;
                reason = ovl_thread_error(dial->door->thread)->reason;
                ovl_socket_close(dial->door->thread, dial->socket);
        }
        dial_finish(dial, dial_tell(dial, r, reason));
}

void dial_start(struct dial *dial, struct door *door, uint16_t port, void (*ended)(struct dial *dial, int status)) {
        *dial = (struct dial){ .door = door, .port = port, .ended = ended };
        timer_init(&dial->timer, dial_begin);
        loop_set(&door->loop, &dial->timer, door->loop.now_ns);
}
