/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_EVENT_H
#define CLIENT_EVENT_H

/* Events, and waits for them. All functions: under the session's lock. */

#include <stdbool.h>
#include <stdint.h>

struct conduit;
struct ovl_session;
struct ovl_thread;
struct pending;

struct ovl_event {
        struct ovl_session *session; /* borrowed; constant */
        bool is_manual;              /* constant: stays set until it is reset */

        /* Guarded by the session's lock. */
        unsigned n_refs;
        bool is_set;
        uint64_t generation; /* counts the signals */
        int fd;              /* readable while the event is set; -1: it was not exported */
        unsigned n_waits;    /* waits that name it */

        /* The operations in flight that will set it, and the ways by which their records may come. */
        unsigned n_ops;
        unsigned n_plain_ops; /* of these, that may go to a port */
        uint64_t poster;      /* number of the thread that posted them */
        bool has_posters;     /* several threads did */
};

/* Sets the event: whoever waits for it and is satisfied by it returns. by: who calls, and need not be woken; or NULL.
 */
void event_set(struct ovl_event *event, const struct ovl_thread *by);

/* An operation is about to start that will set the event: resets it. The operation has a reference from here on. */
void event_start(struct ovl_event *event, const struct pending *pending);

/* That operation is over. The reference is given up. */
void event_end(struct ovl_event *event, const struct pending *pending);

/* Whether a record that sets the event may come on this channel. */
bool event_comes_by(const struct ovl_event *event, const struct conduit *conduit);

/* Whether such a record may come on another channel than this thread's. */
bool event_is_foreign(const struct ovl_event *event, const struct ovl_thread *thread);

#endif
