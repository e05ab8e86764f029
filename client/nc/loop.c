/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The one loop: a round polls the descriptors of this process together with that of the thread, then runs the
 * completion routines of what has ended at overlapd, then tells of the descriptors, then of the deadlines.
 *
 * Invariant: whoever is told may remove and free anything, also others that this round has not told yet: a source that
 * is removed leaves its place in the array empty, and is not told.
 *
 *   running -> stopped   loop_stop(), by the mode when its work has ended
 *   running -> lost      the library finds that overlapd is gone: all operations have ended by then, with routines. Who
 *                        still has data to write out holds the loop; when nobody does it ends
 *
 * Rejected: epoll, which knows no regular files and would need them treated apart; waiting in the library and exporting
 * descriptors to it, for there is nothing to which it could be told to listen; a thread for each direction.
 */

#include "client/nc/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "client/c/overlap.h"
#include "client/nc/report.h"

void loop_init(struct loop *loop, struct ovl_thread *thread) {
        *loop = (struct loop){ .thread = thread, .now_ns = now_ns() };
        list_init(&loop->sources);
        list_init(&loop->timers);
}

void loop_deinit(struct loop *loop) {
        free(loop->fds);
        free(loop->owners);
}

void source_init(struct source *source, int fd, void (*ready)(struct source *source, short events)) {
        *source = (struct source){ .fd = fd, .ready = ready, .place = SIZE_MAX };
        list_init(&source->link);
}

void timer_init(struct timer *timer, void (*due)(struct timer *timer)) {
        *timer = (struct timer){ .due = due };
        list_init(&timer->link);
}

/* One place more than there are sources: the thread's. */
static int loop_grow(struct loop *loop) {
        size_t size = loop->size ? loop->size * 2 : 16;
        struct source **owners;
        struct pollfd *fds;

        if (loop->n_sources + 1 < loop->size)
                return 0;
        fds = realloc(loop->fds, size * sizeof(*fds));
        if (!fds)
                return -ENOMEM;
        loop->fds = fds;
        owners = realloc(loop->owners, size * sizeof(struct source *));
        if (!owners)
                return -ENOMEM;
        loop->owners = owners;
        loop->size = size;
        return 0;
}

int loop_add(struct loop *loop, struct source *source) {
        int r;

        if (list_is_linked(&source->link))
                return 0;
        loop->n_sources++;
        r = loop_grow(loop);
        if (r < 0) {
                loop->n_sources--;
                return r;
        }
        list_push_back(&loop->sources, &source->link);
        return 0;
}

void loop_remove(struct loop *loop, struct source *source) {
        if (!list_is_linked(&source->link))
                return;
        list_unlink(&source->link);
        loop->n_sources--;
        if (source->place != SIZE_MAX)
                loop->owners[source->place] = NULL;
        source->place = SIZE_MAX;
}

void loop_set(struct loop *loop, struct timer *timer, uint64_t at_ns) {
        timer->at_ns = at_ns;
        if (!list_is_linked(&timer->link))
                list_push_back(&loop->timers, &timer->link);
}

void loop_clear(struct timer *timer) {
        list_unlink(&timer->link);
}

void loop_hold(struct loop *loop) {
        loop->n_held++;
}

void loop_release(struct loop *loop) {
        loop->n_held--;
}

/* The library begins its texts with the name of the call, which is nothing to people. */
const char *loop_error_text(struct loop *loop) {
        const char *text = ovl_thread_error(loop->thread)->text;
        const char *colon = strncmp(text, "ovl_", 4) == 0 ? strstr(text, ": ") : NULL;

        return colon ? colon + 2 : text;
}

const char *loop_why(struct loop *loop, int status, unsigned reason, char *text, size_t size) {
        const char *description = strerrordesc_np(-status);

        if (!description)
                description = "unknown error";
        if (status == -EACCES && reason && ovl_thread_denied(loop->thread) == -EACCES)
                snprintf(text, size, "%s (overlapd: %s)", description, loop_error_text(loop));
        else if (reason)
                snprintf(text, size, "%s (overlapd: %s)", description, ovl_reason_text(reason));
        else
                snprintf(text, size, "%s", description);
        return text;
}

bool loop_is_lost(struct loop *loop) {
        if (!loop->is_lost && ovl_dispatch(loop->thread) < 0) {
                loop->is_lost = true;
                report("%s", loop_error_text(loop));
        }
        return loop->is_lost;
}

void loop_stop(struct loop *loop, int status) {
        if (!loop->is_stopped)
                loop->status = status;
        loop->is_stopped = true;
}

/* Milliseconds until the first deadline, rounded up: a deadline that is told is over. */
static int loop_timeout(struct loop *loop) {
        uint64_t first = UINT64_MAX, now, ms;

        list_for_each(link, &loop->timers)
                if (list_entry(link, struct timer, link)->at_ns < first)
                        first = list_entry(link, struct timer, link)->at_ns;
        if (first == UINT64_MAX)
                return -1;
        now = now_ns();
        if (first <= now)
                return 0;
        ms = (first - now + NS_PER_MS - 1) / NS_PER_MS;
        return ms < INT_MAX ? (int) ms : INT_MAX;
}

/* Returns how many descriptors there are to poll; the first is the thread's, or none. */
static size_t loop_gather(struct loop *loop) {
        size_t n = 1;

        loop->fds[0] = (struct pollfd){ .fd = loop->is_lost ? -1 : ovl_thread_fd(loop->thread), .events = POLLIN };
        loop->owners[0] = NULL;
        list_for_each(link, &loop->sources) {
                struct source *source = list_entry(link, struct source, link);

                if (!source->events && !source->is_watched)
                        continue;
                source->place = n;
                loop->owners[n] = source;
                loop->fds[n++] = (struct pollfd){ .fd = source->fd, .events = source->events };
        }
        return n;
}

static void loop_complete(struct loop *loop) {
        if (ovl_dispatch(loop->thread) < 0)
                loop_is_lost(loop);
        while (ovl_sleep(loop->thread, 0) == OVL_ALERTED)
                ;
}

static void loop_tell_sources(struct loop *loop, size_t n) {
        for (size_t i = 1; i < n; i++) {
                struct source *source = loop->owners[i];

                if (!source)
                        continue;
                source->place = SIZE_MAX;
                if (loop->fds[i].revents)
                        source->ready(source, loop->fds[i].revents);
        }
}

/* Each call may set and clear others, so the search begins anew. */
static void loop_tell_timers(struct loop *loop) {
        struct timer *due;

        do {
                due = NULL;
                list_for_each(link, &loop->timers) {
                        struct timer *timer = list_entry(link, struct timer, link);

                        if (timer->at_ns <= loop->now_ns && (!due || timer->at_ns < due->at_ns))
                                due = timer;
                }
                if (due) {
                        list_unlink(&due->link);
                        due->due(due);
                }
        } while (due);
}

int loop_run(struct loop *loop) {
        bool is_first = true;
        size_t n;

        if (loop_grow(loop) < 0) {
                report("no memory for the loop");
                return REPORT_FAILED;
        }
        while (!loop->is_stopped && (!loop->is_lost || loop->n_held > 0)) {
                n = loop_gather(loop);
                if (poll(loop->fds, n, is_first ? 0 : loop_timeout(loop)) < 0) {
                        for (size_t i = 0; i < n; i++)
                                loop->fds[i].revents = 0;
                }
                loop->now_ns = now_ns();
                if (is_first || loop->fds[0].revents)
                        loop_complete(loop);
                is_first = false;
                loop_tell_sources(loop, n);
                loop_tell_timers(loop);
        }
        return loop->is_lost ? REPORT_LOST : loop->status;
}
