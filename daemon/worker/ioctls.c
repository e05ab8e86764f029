/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ioctls. They take nothing from the stream and stand in no order: each is on its own from the instant it was posted.
 *
 *   FREE -> ENDED     the socket itself knows: its options are set, or its counters read, when the entry is taken
 *   FREE -> ACTIVE    the monitor is asked, or a FLUSH waits for the ends of what it has discarded
 *   ACTIVE -> ENDED   the monitor answered: at once, at the change that it was asked for, or because of a cancel; the
 *                     last op before a FLUSH is a record
 *
 * Invariant: one in `ioctls` has a ticket, one in `flushes` has ops before it that have not ended.
 *
 * An op that waits for a change is armed when the monitor says that it looks. No verdict is given before that: whoever
 * is told that it is pending may change an address at once, and must see it.
 *
 * A FLUSH ends after everything that it discards, and so it cannot be held back by a cancel: one that is cancelled says
 * so at once, and what it has begun goes on.
 */

#include "daemon/worker/ioctls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define IOCTLS_ROWS 16u /* of a list, that are read at a time */

static void ioctls_end(struct socket *socket, struct op *op, int status, unsigned reason, uint64_t bytes,
                       struct list *ended) {
        list_unlink(&op->link);
        socket->n_ops--;
        op_end(op, status, reason, bytes);
        list_push_back(ended, &op->link);
}

/* --- What the socket knows -------------------------------------------------------------------------------------- */

static int ioctls_set(struct socket *socket, int level, int option, uint32_t value) {
        int word = (int) value;

        socket->engine->stats->system_calls++;
        return setsockopt(socket->file.fd, level, option, &word, sizeof(word)) < 0 ? -errno : 0;
}

/* The values were checked with the entry. The kernel counts in seconds: it never probes earlier than asked. */
static int ioctls_keep_alive(struct socket *socket, const struct op *op) {
        const struct ovl_keep_alive *values = op->scratch;
        int r = 0;

        if (values->is_on)
                r = ioctls_set(socket, IPPROTO_TCP, TCP_KEEPIDLE, (values->idle_ms + 999) / 1000);
        if (values->is_on && r == 0)
                r = ioctls_set(socket, IPPROTO_TCP, TCP_KEEPINTVL, (values->interval_ms + 999) / 1000);
        return r < 0 ? r : ioctls_set(socket, SOL_SOCKET, SO_KEEPALIVE, values->is_on);
}

static int ioctls_get(struct socket *socket, struct op *op, unsigned long request) {
        int value = 0;

        socket->engine->stats->system_calls++;
        if (ioctl(socket->file.fd, request, &value) < 0)
                return -errno;
        op->value = (uint32_t) value;
        return 0;
}

/* Returns the status, or 1 when the socket is not the one to ask. */
static int ioctls_act(struct socket *socket, struct op *op) {
        switch (op->ioctl) {
        case OVL_IOCTL_KEEP_ALIVE_VALUES:
                return ioctls_keep_alive(socket, op);
        case OVL_IOCTL_BYTES_TO_READ:
                return ioctls_get(socket, op, FIONREAD);
        case OVL_IOCTL_AT_MARK:
                return ioctls_get(socket, op, SIOCATMARK);
        default:
                return 1;
        }
}

/* --- What the monitor knows ------------------------------------------------------------------------------------- */

static void ioctls_ask(struct socket *socket, struct op *op, struct list *ended) {
        int r;

        op->ticket.owner = TICKET_LOOK;
        op->ticket.message = op_question(op);
        op->ticket.message->asker = op_asker(op);
        op->ticket.fd = -1;
        list_push_back(&socket->ioctls, &op->link);
        socket->n_ops++;
        r = ask_send(socket->ask, &op->ticket);
        if (r < 0)
                ioctls_end(socket, op, r, OVL_REASON_QUOTA, 0, ended);
        else
                op->is_arming =
                        op->ioctl == OVL_IOCTL_ADDRESS_LIST_CHANGE || op->ioctl == OVL_IOCTL_ROUTING_INTERFACE_CHANGE;
}

/* What is written was given room when the entry was taken. */
static void ioctls_put(struct op *op, size_t at, const void *bytes, size_t len) {
        if (op->payload.pool)
                payload_put(&op->payload, at, bytes, len);
        else
                memcpy((uint8_t *) op->one.iov_base + at, bytes, len);
}

/* Reads so many bytes. Returns whether there were. */
static bool ioctls_read(int fd, void *to, size_t len) {
        ssize_t n;

        while (len > 0) {
                n = read(fd, to, len);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                to = (uint8_t *) to + n;
                len -= (size_t) n;
        }
        return true;
}

/* Returns the status. */
static int ioctls_store_list(struct op *op, uint32_t n, int fd) {
        struct ovl_interface rows[IOCTLS_ROWS];

        for (uint32_t i = 0; i < n; i += IOCTLS_ROWS) {
                size_t len = (n - i < IOCTLS_ROWS ? n - i : IOCTLS_ROWS) * sizeof(rows[0]);

                if (!ioctls_read(fd, rows, len))
                        return -EIO;
                ioctls_put(op, i * sizeof(rows[0]), rows, len);
        }
        return 0;
}

static void ioctls_finish_list(struct socket *socket, struct op *op, uint32_t n, int fd, struct list *ended) {
        uint64_t len = n * sizeof(struct ovl_interface);
        int r;

        if (n > OVL_INTERFACES_MAX || fd < 0) {
                ioctls_end(socket, op, -EIO, OVL_REASON_NONE, 0, ended);
                return;
        }
        op->value = n;
        if (len > op->len) {
                ioctls_end(socket, op, -ERANGE, OVL_REASON_OUTPUT_TOO_SMALL, 0, ended);
                return;
        }
        r = ioctls_store_list(op, n, fd);
        ioctls_end(socket, op, r, OVL_REASON_NONE, r < 0 ? 0 : len, ended);
}

void ioctls_answer(struct op *op, const struct link_message *answer, int fd, struct list *ended) {
        struct socket *socket = op->socket;

        if (answer->status < 0) {
                bool is_cancelled = answer->status == -ECANCELED;

                /* It was to wait for a change, and never did. */
                if (op->is_arming && !is_cancelled)
                        op->record_flags |= OVL_RECORD_REFUSED;
                ioctls_end(socket, op, answer->status, is_cancelled ? op->cancel : answer->reason, 0, ended);
        } else if (op->ioctl == OVL_IOCTL_INTERFACE_LIST) {
                ioctls_finish_list(socket, op, answer->body.seen.n_interfaces, fd, ended);
        } else if (op->ioctl == OVL_IOCTL_ROUTING_INTERFACE_QUERY) {
                op->value = answer->body.seen.index;
                ioctls_put(op, 0, &answer->body.seen.address, sizeof(answer->body.seen.address));
                ioctls_end(socket, op, 0, OVL_REASON_NONE, sizeof(answer->body.seen.address), ended);
        } else {
                ioctls_end(socket, op, 0, OVL_REASON_NONE, 0, ended);
        }
}

/* --- Flushing --------------------------------------------------------------------------------------------------- */

/* What was posted before it has been cancelled: see handle_flush(). */
static void ioctls_flush(struct socket *socket, struct op *flush, struct list *ended) {
        list_push_back(&socket->flushes, &flush->link);
        socket->n_ops++;
        if (flush->n_before == 0)
                ioctls_end(socket, flush, 0, OVL_REASON_NONE, 0, ended);
}

void ioctls_pass(struct socket *socket, const struct handle *handle, uint64_t serial, struct list *ended) {
        list_for_each_safe(link, &socket->flushes) {
                struct op *flush = list_entry(link, struct op, link);

                if (flush->handle == handle && serial < flush->serial && --flush->n_before == 0)
                        ioctls_end(socket, flush, 0, OVL_REASON_NONE, 0, ended);
        }
}

/* --- Begin and end ---------------------------------------------------------------------------------------------- */

void ioctls_start(struct socket *socket, struct op *op, struct list *ended) {
        int r;

        op->state = OP_ACTIVE;
        if (op->ioctl == OVL_IOCTL_FLUSH) {
                ioctls_flush(socket, op, ended);
                return;
        }
        r = ioctls_act(socket, op);
        if (r > 0) {
                ioctls_ask(socket, op, ended);
                return;
        }
        op_end(op, r, OVL_REASON_NONE, 0);
        list_push_back(ended, &op->link);
}

void ioctls_cancel(struct socket *socket, bool (*matches)(const struct op *op, const void *argument),
                   const void *argument, unsigned reason, uint32_t *cancelled, struct list *ended) {
        list_for_each(link, &socket->ioctls) {
                struct op *op = list_entry(link, struct op, link);

                if (op->cancel != 0 || (matches && !matches(op, argument)))
                        continue;
                op->cancel = (uint16_t) reason;
                op->cancelled = cancelled;
                ask_cancel(socket->ask, &op->ticket);
        }
        list_for_each_safe(link, &socket->flushes) {
                struct op *flush = list_entry(link, struct op, link);

                if (matches && !matches(flush, argument))
                        continue;
                flush->cancelled = cancelled;
                ioctls_end(socket, flush, -ECANCELED, reason, 0, ended);
        }
}
