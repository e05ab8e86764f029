/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlap-nc -z: connects to one port after the other, and says what it found.
 *
 * A stream is found when it can be connected. Datagrams have no such sign: an empty one is sent, and the port counts as
 * found unless its host says within the time (-w, or a second) that nobody is there. That is all that can be known of
 * UDP: a firewall that throws the datagram away looks like a server that does not answer.
 *
 *   dialling -> waiting   a datagram socket: sent, and nobody knows yet
 *   waiting -> dialling   refused, answered, or the time is over; then comes the next port
 */

#include "client/nc/probe.h"

#include <errno.h>

#include "base/time.h"
#include "client/nc/report.h"

static void probe_dialled(struct dial *dial, int status);

static void probe_next(struct probe *probe) {
        if (probe->port < probe->door->options->last_port) {
                probe->port++;
                dial_start(&probe->dial, probe->door, probe->port, probe_dialled);
        } else {
                loop_stop(&probe->door->loop, probe->was_found ? REPORT_DONE : REPORT_FAILED);
        }
}

/* What was found of a port: `closed` is 0, or why nobody is there. */
static void probe_tell(struct probe *probe, int closed, unsigned reason, const char *doubt) {
        const struct options *options = probe->door->options;
        bool is_range = options->port != options->last_port;
        char text[ADDRESS_TEXT_SIZE], why[256];

        address_format(&probe->dial.address, text);
        if (!closed)
                probe->was_found = true;
        if (!closed && (options->is_verbose || is_range))
                report("%s is open%s", text, doubt);
        else if (closed && (options->is_verbose || !is_range))
                report("%s is closed: %s", text, loop_why(&probe->door->loop, closed, reason, why, sizeof(why)));
}

static void probe_answered(struct ovl_thread *thread, struct ovl_overlapped *op) {
        struct probe *probe = op->user;
        bool is_silent = op->status == -ECANCELED;
        bool is_answer = op->status >= 0 || op->flags & OVL_TRUNCATED;

        loop_clear(&probe->timer);
        pool_give(&probe->door->pool, probe->piece);
        if (op->status == -ECONNABORTED && loop_is_lost(&probe->door->loop))
                return;
        ovl_socket_close(thread, probe->dial.socket);
        probe_tell(probe, is_answer || is_silent ? 0 : op->status, op->reason, is_silent ? ", or does not answer" : "");
        probe_next(probe);
}

static void probe_late(struct timer *timer) {
        struct probe *probe = list_entry(timer, struct probe, timer);

        ovl_cancel(probe->door->thread, probe->dial.socket, &probe->answer);
}

/* Returns 0 when the answer is waited for, or -errno. */
static int probe_ask(struct probe *probe) {
        struct door *door = probe->door;
        uint64_t timeout = door->options->timeout_ns == OVL_INFINITE ? NS_PER_S : door->options->timeout_ns;
        struct ovl_buffer buffer = { .len = 1 };
        int r;

        r = pool_take(&door->pool, &probe->piece);
        if (r < 0)
                return r;
        buffer.data = probe->piece;
        probe->answer.user = probe;
        r = ovl_send(door->thread, probe->dial.socket, NULL, 0, 0, NULL, NULL);
        if (r >= 0)
                r = ovl_recv(door->thread, probe->dial.socket, &buffer, 1, 0, &probe->answer, probe_answered);
        if (r < 0) {
                pool_give(&door->pool, probe->piece);
                return r;
        }
        loop_set(&door->loop, &probe->timer, door->loop.now_ns + timeout);
        return 0;
}

static void probe_dialled(struct dial *dial, int status) {
        struct probe *probe = list_entry(dial, struct probe, dial);

        if (status == REPORT_LOST || status == REPORT_USAGE) {
                loop_stop(&probe->door->loop, status);
        } else if (status != REPORT_DONE) {
                probe_next(probe);
        } else if (probe->door->options->type == SOCK_DGRAM) {
                if (probe_ask(probe) < 0)
                        loop_stop(&probe->door->loop, door_tell_refused(probe->door, "probe", "at", &dial->address));
        } else {
                ovl_socket_close(probe->door->thread, dial->socket);
                probe_tell(probe, 0, 0, "");
                probe_next(probe);
        }
}

void probe_start(struct probe *probe, struct door *door) {
        *probe = (struct probe){ .door = door, .port = door->options->port };
        timer_init(&probe->timer, probe_late);
        dial_start(&probe->dial, door, probe->port, probe_dialled);
}
