/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_THREAD_H
#define CLIENT_THREAD_H

/* A thread: who posts operations, with its channel, its queue of completion routines and its latest error. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/polling.h"
#include "client/c/overlap.h"
#include "proto/layout.h"
#include "proto/message.h"

struct blocking;
struct conduit;
struct ovl_port;
struct ovl_session;
struct routine_item;
struct wait;

/* How the operation stands for whose verdict the thread waits. */
enum thread_verdict {
        THREAD_VERDICT_NONE,
        THREAD_VERDICT_REFUSED, /* nothing was indicated */
        THREAD_VERDICT_DONE,    /* ended and indicated */
};

/* A completion routine that is running: the routines of its socket stay queued meanwhile. */
struct thread_running {
        struct thread_running *outer; /* borrowed: the routine in whose wait this one runs */
        uint64_t socket;
};

struct ovl_thread {
        /* Constant. */
        struct ovl_session *session; /* borrowed */
        struct conduit *conduit;     /* one reference */
        uint64_t number;
        pthread_t owner;
        int wake_fd; /* readable: wait_signal() was called */
        int poll_fd; /* readable: the channel or wake_fd is */

        /* Guarded by the session's lock. */
        struct list link; /* in session->threads */
        bool is_signalled;
        bool has_news;             /* something of its own ended, or was queued, since it last dispatched or slept */
        bool is_closing;           /* routines are dropped */
        struct wait *wait;         /* borrowed: the wait that it is in; NULL: none */
        struct blocking *blocking; /* borrowed: the innermost synchronous call that waits; NULL: none */
        struct routine_item *first_routine;
        struct routine_item *last_routine;
        struct list handles;   /* struct apc_handle, that were opened for it. Owned */
        struct ovl_port *port; /* one reference: the port for which this thread counts as running; NULL: none */
        uint64_t taken_from;   /* number of the port from which it took its latest packet; 0: none */
        enum thread_verdict verdict;
        int verdict_status;
        unsigned verdict_reason;

        /* The owner's. */
        struct thread_running *running; /* borrowed: the innermost routine */
        unsigned n_corks;
        struct ovl_error error;
        struct message_arena arena;
        struct polling polling; /* for its lanes */
        uint8_t *payload;       /* level 0: what goes behind the slots of the frame; OVL_FRAME_POST_MAX bytes */
        size_t payload_len;
        size_t out_len; /* bytes of a POST frame that wait for the cork; 0: none */
        uint32_t n_out_slots;
        _Alignas(8) uint8_t out[sizeof(struct ovl_frame_header) + OVL_FRAME_POST_MAX];
};

/*
 * Sends bytes whole; meanwhile completions are taken in. Returns 0, or the thread's error: -ECONNABORTED, or why the
 * descriptor cannot be passed, and then nothing was sent.
 */
int thread_send(struct ovl_thread *thread, const void *bytes, size_t len, int with_fd, const char *call);

/* Describes that the session is gone. Returns -ECONNABORTED. */
int thread_gone(struct ovl_thread *thread, const char *call);

#endif
