/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_HANDLE_H
#define DAEMON_WORKER_HANDLE_H

/* A handle: a session's hold on a socket, under a number of its own. Several may hold the same socket. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/worker/op.h"
#include "daemon/worker/quota.h"
#include "daemon/worker/socket.h"

struct port;
struct session;

struct handle {
        struct list link;        /* in its session: among those that are open, or that are closing */
        struct list in_socket;   /* among those that hold its socket */
        struct list strays;      /* ops posted through it that stand in the queue of another socket */
        struct session *session; /* borrowed: the owner */
        struct socket *socket;   /* held: it goes with its last handle */
        uint64_t number;         /* the id that the client knows; 0: it is closed, or was not told yet */
        uint32_t n_ops;          /* posted through it, or that bring it a connection, and have not ended */
        uint32_t n_posted;       /* of these, that were posted through it */
        uint32_t n_calls;        /* requests of the client about it that are under way */
        struct port *port;       /* borrowed; NULL: none */
        uint64_t port_key;
        struct charge charge;
};

/*
 * Takes over a descriptor as a socket, and opens the first handle to it.
 *
 * fd:     taken on success.
 * charge: for one more socket of the session. Taken on success.
 *
 * Returns 0 and the handle, or -ENFILE.
 */
int handle_open(struct session *session, int *take_fd, int family, int type, enum socket_state state,
                struct charge *charge, struct handle **ret_handle);

/*
 * The same without a number: until handle_reveal() it is one of those that are closing, and goes like them.
 */
int handle_open_hidden(struct session *session, int *take_fd, int family, int type, enum socket_state state,
                       struct handle **ret_handle);

/* Gives a hidden handle a number. charge: for one more socket of the session. Taken. */
void handle_reveal(struct handle *handle, struct charge *charge);

/*
 * All handles of a socket get that of a hidden handle instead, which keeps the old one until it is idle. What is
 * pending on the old one ends.
 */
void handle_replace(struct socket *old, struct handle *hidden, struct list *ended);

/*
 * Opens a further handle to a socket.
 *
 * charge: for one more socket of the session. Taken on success.
 *
 * Returns 0 and the handle, or -ENFILE.
 */
int handle_join(struct session *session, struct socket *socket, struct charge *charge, struct handle **ret_handle);

/* The open handle with this number, or NULL. */
struct handle *handle_find(const struct session *session, uint64_t number);

/*
 * The number is invalid at once. When no other handle of the socket is open, everything that is pending on it ends, and
 * so does an accept that it was prepared for; else it goes on. The handle goes when the last op that was posted through
 * it has ended, and the socket with its last handle.
 */
void handle_close(struct handle *handle);

/*
 * The number is invalid at once; sends that were posted leave, everything else ends with this reason. Then, when the
 * handle has no ops left, the socket can be released. Only of a handle that no other session shares.
 */
void handle_drain(struct handle *handle, unsigned reason);

/* As socket_cancel(), of the ops that were posted through the handle. */
void handle_cancel(struct handle *handle, bool (*matches)(const struct op *op, const void *argument),
                   const void *argument, unsigned reason, uint32_t *cancelled);

/* What was posted through the handle before this FLUSH ends, or begins to. Ops that have ended are appended. */
void handle_flush(struct handle *handle, const struct op *flush, struct list *ended);

/* Takes back what was set for operations here: for whoever has the kernel's socket from here on. */
void handle_restore_socket(struct socket *socket);

/* Whether a handle that was closed has nothing left to wait for. */
bool handle_is_over(const struct handle *handle);

/* Ends a handle that is over; its socket, too, if it was the last. */
void handle_bury(struct handle *handle);

#endif
