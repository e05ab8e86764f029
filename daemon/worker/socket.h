/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_SOCKET_H
#define DAEMON_WORKER_SOCKET_H

/* A socket: one kernel socket, and the order of the operations on it. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/list.h"
#include "daemon/worker/ask.h"
#include "daemon/worker/engine.h"
#include "daemon/worker/op.h"
#include "daemon/worker/quota.h"
#include "daemon/worker/refusals.h"

enum socket_state {
        SOCKET_OPEN,       /* neither connected nor listening; perhaps bound */
        SOCKET_CONNECTING, /* the monitor was asked */
        SOCKET_CONNECTED,
        SOCKET_LISTENING,
};

/* The ops of one direction, in posting order. */
struct queue {
        struct list ops;
        struct op *active; /* borrowed: the first op, while a request of it is in flight */
        bool is_shut;      /* no further op is taken */
        bool has_failed;   /* an op of this direction has reported the error of the connection */
        uint64_t retry_at; /* ns: the first op is not started before; 0: at once */
};

/* Beside a queue for each direction. */
enum {
        QUEUE_URGENT = DIRECTION_OUT + 1, /* receives of urgent data wait for nobody's ordinary receive */
        QUEUE_SENT,                       /* sends that have left, and whose peer has not acknowledged them (acks.c) */
        SOCKET_QUEUES,
};

struct socket {
        struct list link;  /* among those that are free */
        struct list retry; /* among those that start an op again later */
        struct engine_file file;
        struct engine *engine; /* borrowed */
        struct ask *ask;       /* borrowed */
        struct list handles;   /* that hold it */
        uint32_t n_handles;
        uint32_t n_open; /* of these, that are not closing */
        int family;
        int type;
        enum socket_state state;
        struct queue queues[SOCKET_QUEUES]; /* by direction, and QUEUE_URGENT */
        struct list polls;                  /* all in flight */
        struct list ioctls;                 /* that the monitor was asked */
        struct list flushes;                /* that wait for the ends of what was posted before them */
        uint32_t n_ops;                     /* in the queues and lists */
        int error;                          /* the connection is broken: what everything ends with; 0: it is not */
        bool has_name; /* a datagram socket: it has an address, or an op that was taken will give it one */
        struct refusals refusals;
        uint8_t items;          /* enum items_wanted, as bits: what its client wants to be told of datagrams */
        struct op *accept;      /* borrowed: whose connection will take the place of this socket; NULL: none */
        uint64_t connected_at;  /* ns: a stream: since when it is connected */
        uint64_t n_receives;    /* ops that ever stood in the queue of receives */
        bool is_unbuffered;     /* it, or its listener, has a receive buffer of no bytes, by its client's wish */
        bool is_deaf;           /* it loses what comes, because no receive is posted */
        bool awaits_acks;       /* it, or its listener, has a send buffer of no bytes, by its client's wish */
        uint64_t acks_pause;    /* ns: until it is asked again what was acknowledged */
        bool is_closing;        /* no handle is open any more */
        bool is_foreign;        /* it, or its listener, was adopted: closing it may take as long as a client likes */
        bool is_non_overlapped; /* it, or its listener, was opened so: it has no port */
        uint64_t bytes_received;
        uint64_t bytes_sent;
        struct charge listener; /* it listens */
};

/*
 * Embeds a kernel socket.
 *
 * fd: taken on success.
 *
 * Returns 0, or -ENFILE when the engine can take no more.
 */
int socket_init(struct socket *socket, struct engine *engine, struct ask *ask, int *take_fd, int family, int type,
                enum socket_state state);

/* Closes the kernel socket, unless it was released. Nothing is in flight. */
void socket_deinit(struct socket *socket);

/* Lets go of the kernel socket, of which nothing is in flight. Returns its descriptor, which is the caller's. */
int socket_release(struct socket *socket);

/* Whether it has an address, or will have one when what was posted is done. */
bool socket_has_name(const struct socket *socket);

/* Whether an option of SOL_SOCKET is on. */
bool socket_has_option(const struct socket *socket, int option);

/* Whether an op can start in the socket's present state. Returns 0, or -errno and the reason. */
int socket_check(const struct socket *socket, const struct op *op, unsigned *ret_reason);

/*
 * Takes an op, which was checked, and starts it when its turn comes.
 *
 * ended: ops that have ended are appended to it, here and below, in the order of their records.
 */
void socket_post(struct socket *socket, struct op *op, struct list *ended);

/* The request of an op ended with this result. An op that leaves with a descriptor is among the ended, and has not. */
void socket_finish(struct socket *socket, struct op *op, int32_t result, unsigned reason, struct list *ended);

/* A piece of the file of an op was read, for which the op waited. */
void socket_read(struct socket *socket, struct op *op, struct list *ended);

/*
 * Asks for the end of the ops for which `matches` returns true (NULL: of all). Those that are queued end at once, those
 * that are in flight when the engine or the monitor says so.
 *
 * reason:    what their records will say; an op that is already being ended keeps its first reason.
 * cancelled: remembered in each such op, for whoever counts them. NULL if nobody does.
 */
void socket_cancel(struct socket *socket, bool (*matches)(const struct op *op, const void *argument),
                   const void *argument, unsigned reason, uint32_t *cancelled, struct list *ended);

/* No more sends: the end of the stream leaves after those that are queued. Returns 0 or -ENOTCONN. */
int socket_shut_send(struct socket *socket);

/* No more receives are taken; those that are pending go on. Returns 0 or -ENOTCONN. */
int socket_shut_receive(struct socket *socket);

/* Starts what waited for `retry_at`. */
void socket_retry(struct socket *socket, uint64_t now, struct list *ended);

/* An accept that waited for room for its socket is started, if its turn has come. */
void socket_resume(struct socket *socket, struct op *op, struct list *ended);

/* When it wants to be retried, or UINT64_MAX. */
uint64_t socket_retry_at(const struct socket *socket);

static inline bool socket_is_datagram(const struct socket *socket) {
        return socket->type == SOCK_DGRAM;
}

static inline bool socket_is_unix_datagram(const struct socket *socket) {
        return socket_is_datagram(socket) && socket->family == AF_UNIX;
}

static inline bool socket_is_inet_datagram(const struct socket *socket) {
        return socket_is_datagram(socket) && socket->family != AF_UNIX;
}

/* The queue in which an op waits for its turn. */
static inline struct queue *socket_queue(struct socket *socket, const struct op *op) {
        return &socket->queues[op_is_urgent(op) ? QUEUE_URGENT : op_form(op)->direction];
}

/* Whether nothing is queued or in flight. */
static inline bool socket_is_idle(const struct socket *socket) {
        return socket->n_ops == 0 && socket->file.n_in_flight == 0;
}

#endif
