/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_NET_H
#define SIM_NET_H

/* The kernel's sockets, as a simulation: connections that are two pipes, each of which remembers all its bytes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "tests/sim/random.h"

#define NET_BACKLOG_MAX 8u

/* One direction of a connection. */
struct net_pipe {
        uint8_t *log; /* every byte that was ever written */
        size_t size;  /* bytes of memory */
        size_t n_written;
        size_t n_taken; /* of these, read */
        size_t room;    /* bytes that may wait unread */
        bool has_ended; /* the writer writes no more */
        bool is_broken; /* the reader is gone */
};

/* Side 0 made the connection, side 1 accepted it. Pipe n brings bytes to side n. */
struct net_link {
        struct list link;
        unsigned number;
        struct net_pipe pipes[2];
        struct net_end *ends[2]; /* borrowed; NULL: that side is played by the test, or was not accepted yet */
        bool is_queued;          /* waits in the backlog of a listener */
        bool was_reset;
};

/* A descriptor that the daemon has. */
struct net_end {
        struct list link;
        uint64_t cookie;             /* how the kernel names the descriptor's socket */
        struct net_link *connection; /* borrowed; NULL: not connected */
        unsigned side;
        int error; /* reported once, by whatever comes first */
        bool is_listening;
        bool is_closed;                            /* the daemon has given it up */
        struct net_link *backlog[NET_BACKLOG_MAX]; /* borrowed */
        size_t n_backlog;
        uint64_t tag; /* of the entry that accepted it; 0: it was opened */
};

struct net {
        struct list links;
        struct list ends;
        unsigned n_links;
        struct random *random; /* borrowed */
};

void net_init(struct net *net, struct random *random);
void net_deinit(struct net *net);

/* Makes a descriptor that stands for a socket. Returns it; the caller's to close. */
int net_open(struct net *net, struct net_end **ret_end);

/* The end that a descriptor stands for; NULL: it is an ordinary one. */
struct net_end *net_find(const struct net *net, int fd);

/* The end that the accept with this tag made, or NULL. */
struct net_end *net_find_accepted(const struct net *net, uint64_t tag);

/* A connection of which an end is side 0; NULL: the test plays that side, too. */
struct net_link *net_connect(struct net *net, struct net_end *end);

/* Lets a listener have a connection. Returns whether its backlog had room. */
bool net_offer(struct net_end *listener, struct net_link *connection);

/* Takes the oldest connection of the backlog: a new descriptor is its side 1. */
int net_accept(struct net *net, struct net_end *listener, uint64_t tag);

/* Both sides learn that the connection is gone; what was written can still be read. */
void net_reset(struct net_link *connection);

/* The daemon is done with an end. */
void net_close(struct net_end *end);

static inline struct net_pipe *net_in(const struct net_end *end) {
        return end->connection ? &end->connection->pipes[end->side] : NULL;
}

static inline struct net_pipe *net_out(const struct net_end *end) {
        return end->connection ? &end->connection->pipes[!end->side] : NULL;
}

static inline size_t net_pipe_unread(const struct net_pipe *pipe) {
        return pipe->n_written - pipe->n_taken;
}

static inline size_t net_pipe_room(const struct net_pipe *pipe) {
        size_t unread = net_pipe_unread(pipe);

        return pipe->room > unread ? pipe->room - unread : 0;
}

void net_pipe_write(struct net_pipe *pipe, const void *bytes, size_t len);

#endif
