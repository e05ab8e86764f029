/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The outbox of a worker.
 *
 * Invariant: messages reach the worker in the order in which they were pushed, and a descriptor is closed here exactly
 * once, after it was sent or when it never can be.
 *
 *   empty    -> waiting   by a push that found the link full
 *   waiting  -> empty     by the event loop, when the worker has read enough
 *   any      -> broken    by a send that failed for good; the monitor then learns of the worker's end from the process
 *
 * Rejected: a blocking link (a worker that was taken over could stop the monitor), and a queue without an end.
 */

#include "daemon/monitor/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"

#define OUTBOX_RETRY_US 10000

struct outbox_item {
        struct list link;
        struct link_message message;
        int fd;
};

static struct outbox_item *outbox_item_free(struct outbox_item *item) {
        if (!item)
                return NULL;
        list_unlink(&item->link);
        fd_close(item->fd);
        free(item);
        return NULL;
}

static void outbox_discard(struct outbox *outbox) {
        while (!list_is_empty(&outbox->queue))
                outbox_item_free(list_entry(outbox->queue.next, struct outbox_item, link));
        outbox->n_queued = 0;
}

void outbox_fail(struct outbox *outbox) {
        outbox->is_broken = true;
        outbox_discard(outbox);
        sd_event_source_set_enabled(outbox->writable, SD_EVENT_OFF);
}

/* ETOOMANYREFS: so many descriptors are in flight that the worker has to take some before more can be sent. */
static bool outbox_is_full(int r) {
        return r == -EAGAIN || r == -ENOBUFS || r == -ETOOMANYREFS;
}

static void outbox_lose(struct outbox *outbox, int r) {
        outbox->is_gone = r == -EPIPE || r == -ECONNRESET;
        outbox_fail(outbox);
}

static int outbox_on_later(sd_event_source *source, uint64_t usec, void *data) {
        struct outbox *outbox = data;

        return outbox->is_broken ? 0 : sd_event_source_set_enabled(outbox->writable, SD_EVENT_ON);
}

/*
 * A link that has room refuses while the user has as many descriptors in flight as it may, or memory is short: no event
 * tells the end of that, so it is tried again after a moment.
 */
static int outbox_wait(struct outbox *outbox) {
        int r;

        r = sd_event_source_set_enabled(outbox->writable, SD_EVENT_OFF);
        if (r < 0)
                return r;
        if (!outbox->later)
                return sd_event_add_time_relative(sd_event_source_get_event(outbox->writable), &outbox->later,
                                                  CLOCK_MONOTONIC, OUTBOX_RETRY_US, 0, outbox_on_later, outbox);
        r = sd_event_source_set_time_relative(outbox->later, OUTBOX_RETRY_US);
        return r < 0 ? r : sd_event_source_set_enabled(outbox->later, SD_EVENT_ONESHOT);
}

static int outbox_on_writable(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct outbox *outbox = data;
        int r;

        while (!list_is_empty(&outbox->queue)) {
                struct outbox_item *item = list_entry(outbox->queue.next, struct outbox_item, link);

                r = link_send(outbox->link_fd, &item->message, item->fd);
                if (outbox_is_full(r))
                        return r == -EAGAIN ? 0 : outbox_wait(outbox);
                if (r < 0) {
                        outbox_lose(outbox, r);
                        return 0;
                }
                outbox_item_free(item);
                outbox->n_queued--;
        }
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

int outbox_init(struct outbox *outbox, sd_event *event, int link_fd) {
        int r;

        *outbox = (struct outbox){ .link_fd = fcntl(link_fd, F_DUPFD_CLOEXEC, 3) };
        list_init(&outbox->queue);
        if (outbox->link_fd < 0)
                return -errno;
        r = sd_event_add_io(event, &outbox->writable, outbox->link_fd, EPOLLOUT, outbox_on_writable, outbox);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(outbox->writable, SD_EVENT_OFF);
}

void outbox_deinit(struct outbox *outbox) {
        if (!outbox->queue.next)
                return;
        outbox_discard(outbox);
        outbox->writable = sd_event_source_disable_unref(outbox->writable);
        outbox->later = sd_event_source_disable_unref(outbox->later);
        outbox->link_fd = fd_close(outbox->link_fd);
}

static int outbox_queue(struct outbox *outbox, const struct link_message *message, int take_fd) {
        struct outbox_item *item;
        int r;

        item = malloc(sizeof(*item));
        if (!item)
                return -ENOMEM;
        r = sd_event_source_set_enabled(outbox->writable, SD_EVENT_ON);
        if (r < 0) {
                free(item);
                return r;
        }
        *item = (struct outbox_item){ .message = *message, .fd = take_fd };
        list_init(&item->link);
        list_push_back(&outbox->queue, &item->link);
        outbox->n_queued++;
        return 0;
}

int outbox_push(struct outbox *outbox, const struct link_message *message, int take_fd, unsigned n_max) {
        int r;

        if (outbox->is_broken)
                return -EPIPE;
        if (outbox->n_queued >= n_max)
                return -EAGAIN;
        if (outbox->n_queued > 0)
                return outbox_queue(outbox, message, take_fd);
        r = link_send(outbox->link_fd, message, take_fd);
        if (outbox_is_full(r))
                return outbox_queue(outbox, message, take_fd);
        if (r < 0) {
                outbox_lose(outbox, r);
                return -EPIPE;
        }
        fd_close(take_fd);
        return 0;
}

int outbox_answer(struct outbox *outbox, const struct link_message *answer, int take_fd) {
        int r;

        r = outbox_push(outbox, answer, take_fd, OUTBOX_MAX);
        if (r < 0)
                outbox_fail(outbox);
        return r;
}

/* Returns the descriptor, the caller's, or -errno. */
static int outbox_pack(const void *list, size_t len) {
        _cleanup_fd_ int fd = memfd_create("list", MFD_CLOEXEC);

        if (fd < 0)
                return -errno;
        if (pwrite(fd, list, len, 0) != (ssize_t) len)
                return -EIO;
        return fd_take(&fd);
}

int outbox_answer_with(struct outbox *outbox, const struct link_message *answer, const void *list, size_t len) {
        _cleanup_fd_ int fd = outbox_pack(list, len);
        int r;

        if (fd < 0)
                return fd;
        r = outbox_answer(outbox, answer, fd);
        if (r == 0)
                fd = -1;
        return r;
}

int outbox_refuse(struct outbox *outbox, uint64_t ticket, int status, uint32_t reason) {
        struct link_message answer = { .kind = LINK_ANSWER, .ticket = ticket, .status = status, .reason = reason };

        return outbox_answer(outbox, &answer, -1);
}
