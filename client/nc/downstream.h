/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_DOWNSTREAM_H
#define CLIENT_NC_DOWNSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "client/c/overlap.h"
#include "client/nc/address.h"
#include "client/nc/local.h"
#include "client/nc/loop.h"

#define DOWNSTREAM_SLOTS 4u

enum downstream_state {
        DOWNSTREAM_FREE,
        DOWNSTREAM_POSTED,
        DOWNSTREAM_FULL, /* its operation has ended; what it brought is to be written */
};

struct downstream_slot {
        struct ovl_overlapped op;
        struct address from; /* of a datagram */
        char *data;
        size_t at, len; /* bytes that were written, and that there are */
        enum downstream_state state;
};

/* From a socket to an output of this process. */
struct downstream {
        struct loop *loop;    /* borrowed */
        struct local *output; /* borrowed */
        struct address *peer; /* borrowed; filled with who sent; NULL: the socket has a peer, or is a stream */
        bool is_of_all;       /* datagrams are taken from everybody, not only from the first who sent */
        bool is_datagram;
        uint64_t socket;
        size_t slot_size;
        struct source source;
        struct downstream_slot slots[DOWNSTREAM_SLOTS];
        unsigned head; /* the slot that was posted first */
        unsigned n_pending;
        unsigned n_full;
        uint64_t n_bytes; /* that were received */
        bool is_ended;    /* nothing more comes: the end of the stream, or an error */
        bool is_dropped;  /* nobody reads the output: what comes is thrown away */
        int status;       /* why it ended early: -errno */
        unsigned reason;
        const char *failed; /* at what */
        void (*moved)(void *user);
        void *user;
};

/*
 * Makes it ready to start.
 *
 * data:  DOWNSTREAM_SLOTS * slot_size bytes of a region. Lent until nothing is pending.
 * moved: called whenever anything has changed, last of all: it may free this.
 */
void downstream_init(struct downstream *downstream, struct loop *loop, struct local *output, char *data,
                     size_t slot_size, void (*moved)(void *user), void *user);

/* Posts the receives. What cannot be done is in `status`. */
void downstream_start(struct downstream *downstream);

/* Receives no more; what has come is still written. */
void downstream_end(struct downstream *downstream);

/* Writes no more, and watches nothing. What is pending ends when the socket is closed. */
void downstream_stop(struct downstream *downstream);

/* Whether all that came was written, or dropped, and no more comes. */
bool downstream_is_done(const struct downstream *downstream);

#endif
