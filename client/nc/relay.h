/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_RELAY_H
#define CLIENT_NC_RELAY_H

#include "client/nc/downstream.h"
#include "client/nc/options.h"
#include "client/nc/pool.h"
#include "client/nc/upstream.h"

/* How a relay behaves at its ends. */
struct relay_manner {
        bool is_datagram;
        bool is_of_all;      /* datagrams: of everybody */
        bool has_peer;       /* datagrams: the socket is connected */
        bool is_shut;        /* the end of the input ends the sending */
        bool ends_with_peer; /* and the end of the stream ends it all, unless the input has something right now */
        bool is_kept;        /* the output is used again: it sees no end */
        uint64_t timeout_ns; /* OVL_INFINITE: none */
        uint64_t quit_ns;    /* after the end of the input; OVL_INFINITE: never */
};

/* Both directions of one connection, or of one datagram socket. */
struct relay {
        struct loop *loop; /* borrowed */
        struct pool *pool; /* borrowed */
        struct relay_manner manner;
        struct local *input, *output; /* borrowed */
        struct address peer;          /* of datagrams; len 0: nobody sent yet */
        void *piece;
        uint64_t socket;
        struct upstream up;
        struct downstream down;
        struct timer begin, idle, quit;
        uint64_t active_ns;
        bool is_up_done, is_down_done;
        bool is_closing;
        bool is_unheard; /* nobody read the output any more */
        int status;      /* 0 or -errno */
        void (*ended)(struct relay *relay);
};

/*
 * Starts.
 *
 * take_socket: taken on success.
 * ended:       called once, later, last of all: it may free the relay. `status` says how.
 *
 * Returns 0, -ENOBUFS (no memory is left to lend: try again when another relay has ended) or -errno.
 */
int relay_start(struct relay *relay, struct loop *loop, struct pool *pool, const struct relay_manner *manner,
                struct local *input, struct local *output, uint64_t take_socket, void (*ended)(struct relay *relay));

/* Ends it early: `ended` is called when nothing is pending any more. */
void relay_close(struct relay *relay, int status);

#endif
