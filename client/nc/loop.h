/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_LOOP_H
#define CLIENT_NC_LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct ovl_thread;

/* A descriptor of this process that is watched. Embedded in whoever waits for it. */
struct source {
        struct list link;
        size_t place; /* in the loop's array, while it polls; SIZE_MAX: none */
        int fd;
        short events;    /* POLLIN, POLLOUT; 0 with is_watched: only that the other side is gone */
        bool is_watched; /* also without events */
        void (*ready)(struct source *source, short events);
};

/* A deadline. Embedded in whoever waits for it. */
struct timer {
        struct list link;
        uint64_t at_ns;
        void (*due)(struct timer *timer);
};

struct loop {
        struct ovl_thread *thread; /* borrowed */
        struct list sources;
        struct list timers;
        struct pollfd *fds;
        struct source **owners; /* of fds; NULL where a source was removed meanwhile */
        size_t n_sources;
        size_t size;     /* of both arrays */
        uint64_t now_ns; /* when this round began */
        unsigned n_held;
        bool is_lost; /* overlapd is gone, which was said */
        bool is_stopped;
        int status; /* exit status */
};

/* thread: borrowed for the life of the loop. */
void loop_init(struct loop *loop, struct ovl_thread *thread);
void loop_deinit(struct loop *loop);

/* Watches a descriptor until loop_remove(). Returns 0 or -ENOMEM. */
int loop_add(struct loop *loop, struct source *source);

/* Watches it no more; one that is not watched is fine. */
void loop_remove(struct loop *loop, struct source *source);

/* Sets or moves a deadline; clears it. One that is due is clear when it is told. */
void loop_set(struct loop *loop, struct timer *timer, uint64_t at_ns);
void loop_clear(struct timer *timer);

/* Makes what is embedded known to be in no list. */
void source_init(struct source *source, int fd, void (*ready)(struct source *source, short events));
void timer_init(struct timer *timer, void (*due)(struct timer *timer));

/* While anything holds the loop it goes on although overlapd is lost: there is something to write out. */
void loop_hold(struct loop *loop);
void loop_release(struct loop *loop);

/* Whether overlapd is gone; says so the first time. */
bool loop_is_lost(struct loop *loop);

/* Why the last call on the thread failed, without the name of the call. */
const char *loop_error_text(struct loop *loop);

/*
 * Says in words why an operation failed; of one that the policy refused, by which rule.
 *
 * status: -errno, as the operation ended.
 * reason: of its record, finer than the status; 0: none.
 *
 * Returns text, which is filled.
 */
const char *loop_why(struct loop *loop, int status, unsigned reason, char *text, size_t size);

/* Ends loop_run() with an exit status; the first one counts. */
void loop_stop(struct loop *loop, int status);

/* Runs until somebody stops it or overlapd is lost. Returns the exit status. */
int loop_run(struct loop *loop);

#endif
