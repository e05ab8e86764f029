/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reaches a host: looks its name up, then tries one address after the other, each for as long as -w allows.
 *
 *   looking up -> trying   overlapd's machine has found addresses
 *   trying -> trying       the address was refused or took too long, and there is another
 *   trying -> ended        connected, or no address is left
 *   any -> ended           overlapd is lost
 *
 * Invariant: `ended` comes from the loop, never from within a call of the owner, and only when no operation is pending:
 * the structure is free then.
 *
 * An address that takes too long is given up by closing its socket, which ends the operation: one way for all ends.
 *
 * Rejected: trying several addresses at once, which is kind to browsers and unkind to those who read the logs of a
 * firewall.
 */

#include "client/nc/dial.h"

#include <errno.h>
#include <string.h>

#include "client/nc/report.h"

static void dial_next(struct dial *dial);

static void dial_finish(struct dial *dial, int status) {
        loop_clear(&dial->timer);
        dial->ended(dial, status);
}

/* Says why the address was not reached. Returns the exit status. */
static int dial_tell(struct dial *dial, int status, unsigned reason) {
        const struct options *options = dial->door->options;
        char why[256], text[ADDRESS_TEXT_SIZE];

        if (status == -ECONNABORTED && loop_is_lost(&dial->door->loop))
                return REPORT_LOST;
        /* Several ports or addresses: what fails is seen only by those who asked for it. */
        if (options->is_verbose || (dial->next >= dial->n_found && options->port == options->last_port))
                report("cannot connect to %s: %s", address_format(&dial->address, text),
                       loop_why(&dial->door->loop, status, reason, why, sizeof(why)));
        return REPORT_FAILED;
}

static void dial_connected(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct dial *dial = op->user;
        int status = dial->is_late && op->status == -ECANCELED ? -ETIMEDOUT : op->status;
        int r;

        loop_clear(&dial->timer);
        if (status >= 0 && !dial->is_late) {
                dial_finish(dial, REPORT_DONE);
        } else {
                if (!dial->is_late)
                        ovl_socket_close(thread, dial->socket);
                r = dial_tell(dial, status < 0 ? status : -ETIMEDOUT, op->reason);
                if (r == REPORT_LOST)
                        dial_finish(dial, r);
                else
                        dial_next(dial);
        }
}

static void dial_late(struct timer *timer) {
        struct dial *dial = list_entry(timer, struct dial, timer);

        dial->is_late = true;
        if (dial->n_found > 0)
                ovl_socket_close(dial->door->thread, dial->socket);
        else
                ovl_cancel(dial->door->thread, 0, &dial->op);
}

/* What is pending may take so long. */
static void dial_limit(struct dial *dial) {
        struct loop *loop = &dial->door->loop;

        if (dial->door->options->timeout_ns != OVL_INFINITE)
                loop_set(loop, &dial->timer, loop->now_ns + dial->door->options->timeout_ns);
}

/* Returns 0 when an operation is pending, or -errno: nothing is. */
static int dial_try(struct dial *dial) {
        struct door *door = dial->door;
        int r;

        r = door_socket(door, dial->address.storage.ss_family, &dial->socket);
        if (r < 0)
                return r;
        dial->op.user = dial;
        dial->is_late = false;
        r = ovl_connect(door->thread, dial->socket, (struct sockaddr *) &dial->address.storage, dial->address.len, 0,
                        &dial->op, dial_connected);
        if (r < 0) {
                ovl_socket_close(door->thread, dial->socket);
                return r;
        }
        dial_limit(dial);
        return 0;
}

static void dial_next(struct dial *dial) {
        int r;

        while (dial->next < dial->n_found) {
                dial->address.storage = dial->found[dial->next++];
                if (dial->address.storage.ss_family != AF_UNIX)
                        dial->address.len = address_len(dial->address.storage.ss_family);
                r = dial_try(dial);
                if (r >= 0)
                        return;
                if (dial_tell(dial, r, 0) == REPORT_LOST) {
                        dial_finish(dial, REPORT_LOST);
                        return;
                }
        }
        dial_finish(dial, REPORT_FAILED);
}

static void dial_found(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct dial *dial = op->user;
        const struct options *options = dial->door->options;

        loop_clear(&dial->timer);
        if (op->status < 0) {
                dial_finish(dial, door_tell_not_found(dial->door, options->host, options->family,
                                                      dial->is_late ? -ETIMEDOUT : op->status, op->reason));
        } else {
                dial->n_found = (unsigned) op->value;
                dial_next(dial);
        }
}

static void dial_look_up(struct dial *dial) {
        const struct options *options = dial->door->options;
        int r;

        dial->op.user = dial;
        r = ovl_resolve(dial->door->thread, options->host, options->family, options->type, dial->port, dial->found,
                        DIAL_ADDRESSES, 0, &dial->op, dial_found);
        if (r < 0)
                dial_finish(dial, door_tell_not_found(dial->door, options->host, options->family, r, 0));
        else
                dial_limit(dial);
}

static void dial_begin(struct timer *timer) {
        struct dial *dial = list_entry(timer, struct dial, timer);
        const char *path = dial->door->options->host;
        int r;

        timer->due = dial_late;
        if (dial->door->options->family != AF_UNIX) {
                dial_look_up(dial);
        } else {
                r = address_from_path(path, &dial->address);
                if (r < 0) {
                        report("'%s': no path that a Unix socket could have", path);
                        dial_finish(dial, REPORT_USAGE);
                        return;
                }
                dial->found[0] = dial->address.storage;
                dial->n_found = 1;
                dial_next(dial);
        }
}

void dial_start(struct dial *dial, struct door *door, uint16_t port, void (*ended)(struct dial *dial, int status)) {
        *dial = (struct dial){ .door = door, .port = port, .ended = ended };
        timer_init(&dial->timer, dial_begin);
        loop_set(&door->loop, &dial->timer, door->loop.now_ns);
}
