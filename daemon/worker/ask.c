/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every ticket that was taken is answered exactly once: by the monitor, or from `cancelled` when it was taken back
 * before its message had left. A full link is not an error: tickets wait in `unsent`, in order, until it can be
 * written. So do reports: the monitor counts connections by them, and one that it never hears of is counted for ever.
 */

#include "daemon/worker/ask.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/time.h"

#define ASK_TICKETS_MAX 8192u
#define ASK_RETRY_NS (10 * NS_PER_MS)

/* A report that waits for room in the link. */
struct ask_delayed {
        struct list link;
        struct link_message message;
        int fd; /* that goes with it, or -1 */
};

static void ask_delayed_free(struct ask_delayed *report) {
        list_unlink(&report->link);
        fd_close(report->fd);
        free(report);
}

int ask_init(struct ask *ask, struct engine *engine, int link_fd, int kind) {
        int r;

        *ask = (struct ask){ .engine = engine };
        list_init(&ask->unsent);
        list_init(&ask->reports);
        list_init(&ask->cancelled);
        r = slots_init(&ask->tickets, ASK_TICKETS_MAX);
        if (r < 0)
                return r;
        engine_file_init(&ask->file, link_fd, kind);
        r = engine->ops->attach(engine, &ask->file);
        if (r < 0)
                return r;
        engine->ops->arm(engine, &ask->file, DIRECTION_IN);
        return 0;
}

void ask_deinit(struct ask *ask) {
        while (ask->reports.next && !list_is_empty(&ask->reports))
                ask_delayed_free(list_entry(ask->reports.next, struct ask_delayed, link));
        slots_deinit(&ask->tickets);
}

/*
 * A link that has room may refuse all the same: the user has as many descriptors in flight as it may, in this process
 * or in another, or memory is short. No event tells the end of that.
 */
static int ask_link_send(struct ask *ask, const struct link_message *message, int fd) {
        int r;

        ask->engine->stats->system_calls++;
        r = link_send(ask->file.fd, message, fd);
        if (r == -ETOOMANYREFS || r == -ENOBUFS || r == -ENOMEM) {
                ask->retry_ns = now_ns() + ASK_RETRY_NS;
                return -EAGAIN;
        }
        return r;
}

static void ask_await_room(struct ask *ask) {
        if (ask->retry_ns > 0)
                return;
        if (!ask->file.armed[DIRECTION_OUT])
                ask->engine->ops->arm(ask->engine, &ask->file, DIRECTION_OUT);
}

/* Returns whether the ticket has nothing more to say for now. */
static bool ask_try(struct ask *ask, struct ticket *ticket) {
        struct link_message cancel = { .kind = LINK_CANCEL, .ticket = ticket->number };

        if (!ticket->is_sent)
                ticket->is_sent = ask_link_send(ask, ticket->message, ticket->fd) == 0;
        else if (ticket->cancel_wanted && ask_link_send(ask, &cancel, -1) == 0)
                ticket->cancel_wanted = false;
        return ticket->is_sent && !ticket->cancel_wanted;
}

static void ask_push(struct ask *ask, struct ticket *ticket) {
        if (list_is_linked(&ticket->link))
                return;
        if (list_is_empty(&ask->unsent) && list_is_empty(&ask->reports) && ask_try(ask, ticket))
                return;
        list_push_back(&ask->unsent, &ticket->link);
        ask_await_room(ask);
}

int ask_send(struct ask *ask, struct ticket *ticket) {
        int r;

        r = slots_add(&ask->tickets, ticket, &ticket->number);
        if (r < 0)
                return -ENOBUFS;
        list_init(&ticket->link);
        ticket->is_sent = false;
        ticket->cancel_wanted = false;
        ticket->message->ticket = ticket->number;
        ask_push(ask, ticket);
        return 0;
}

void ask_cancel(struct ask *ask, struct ticket *ticket) {
        if (ticket->number == 0 || ticket->cancel_wanted)
                return;
        if (!ticket->is_sent) {
                list_unlink(&ticket->link);
                list_push_back(&ask->cancelled, &ticket->link);
                return;
        }
        ticket->cancel_wanted = true;
        ask_push(ask, ticket);
}

void ask_report(struct ask *ask, const struct link_message *message) {
        ask_report_with(ask, message, -1);
}

void ask_report_with(struct ask *ask, const struct link_message *message, int take_fd) {
        _cleanup_fd_ int fd = take_fd;
        struct ask_delayed *report;

        if (list_is_empty(&ask->reports) && ask_link_send(ask, message, fd) != -EAGAIN)
                return;
        report = malloc(sizeof(*report));
        if (!report)
                return;
        report->message = *message;
        report->fd = fd_take(&fd);
        list_init(&report->link);
        list_push_back(&ask->reports, &report->link);
        ask_await_room(ask);
}

/* Returns whether all reports have left. */
static bool ask_flush_reports(struct ask *ask) {
        while (!list_is_empty(&ask->reports)) {
                struct ask_delayed *report = list_entry(ask->reports.next, struct ask_delayed, link);

                if (ask_link_send(ask, &report->message, report->fd) == -EAGAIN)
                        return false;
                ask_delayed_free(report);
        }
        return true;
}

void ask_flush(struct ask *ask) {
        struct list *link;

        ask->retry_ns = 0;
        if (!ask_flush_reports(ask)) {
                ask_await_room(ask);
                return;
        }
        while ((link = list_first(&ask->unsent))) {
                if (!ask_try(ask, list_entry(link, struct ticket, link))) {
                        ask_await_room(ask);
                        return;
                }
                list_unlink(link);
        }
}

static struct ticket *ask_take(struct ask *ask, uint64_t number) {
        struct ticket *ticket = slots_remove(&ask->tickets, number);

        if (ticket) {
                list_unlink(&ticket->link);
                ticket->number = 0;
        }
        return ticket;
}

int ask_receive(struct ask *ask, struct link_message *ret_message, int *ret_fd, struct ticket **ret_ticket) {
        struct list *link = list_first(&ask->cancelled);

        if (link) {
                *ret_message = (struct link_message){ .kind = LINK_ANSWER, .status = -ECANCELED };
                *ret_fd = -1;
                *ret_ticket = ask_take(ask, list_entry(link, struct ticket, link)->number);
                return 1;
        }
        for (;;) {
                _cleanup_fd_ int fd = -1;
                int r;

                ask->engine->stats->system_calls++;
                r = link_receive(ask->file.fd, ret_message, &fd);
                if (r == -EAGAIN)
                        return 0;
                if (r == -EINTR || r == -EBADMSG)
                        continue;
                if (r <= 0) {
                        ask->is_gone = true;
                        return -ECONNRESET;
                }
                *ret_ticket = NULL;
                if (ret_message->kind == LINK_ANSWER)
                        *ret_ticket = ask_take(ask, ret_message->ticket);
                else if (ret_message->kind == LINK_ARMED)
                        *ret_ticket = slots_find(&ask->tickets, ret_message->ticket);
                if (!*ret_ticket && (ret_message->kind == LINK_ANSWER || ret_message->kind == LINK_ARMED))
                        continue;
                *ret_fd = fd_take(&fd);
                return 1;
        }
}
