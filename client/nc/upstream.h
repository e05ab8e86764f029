/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_UPSTREAM_H
#define CLIENT_NC_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "client/c/overlap.h"
#include "client/nc/address.h"
#include "client/nc/local.h"
#include "client/nc/loop.h"

#define UPSTREAM_SLOTS 4u

struct upstream;

struct upstream_slot {
        struct ovl_overlapped op;
        char *data;
        bool is_busy;
};

/* From an input of this process to a socket. */
struct upstream {
        struct loop *loop;          /* borrowed */
        struct local *input;        /* borrowed */
        const struct address *peer; /* borrowed; datagrams go there once it is known; NULL: the socket has a peer */
        uint64_t socket;
        size_t max; /* bytes that are read at once: of a datagram */
        struct source source;
        struct upstream_slot slots[UPSTREAM_SLOTS];
        unsigned n_pending;
        uint64_t n_bytes; /* that were read */
        bool is_ended;    /* the input has ended, or is not wanted */
        int status;       /* why it ended early: -errno */
        unsigned reason;
        const char *failed; /* at what */
        bool is_peer_gone;  /* that is why: it may have said something before it went */
        void (*moved)(void *user);
        void *user;
};

/*
 * Makes it ready to start.
 *
 * data:  UPSTREAM_SLOTS * slot_size bytes of a region. Lent until nothing is pending.
 * moved: called whenever anything has changed, last of all: it may free this.
 */
void upstream_init(struct upstream *upstream, struct loop *loop, struct local *input, char *data, size_t slot_size,
                   void (*moved)(void *user), void *user);

/* Begins, or goes on when a peer is known: watches the input while there is room. */
void upstream_start(struct upstream *upstream);

/* Reads no more. What is pending ends by itself. */
void upstream_stop(struct upstream *upstream);

/* Whether all that was read has been sent, and no more comes. */
bool upstream_is_done(const struct upstream *upstream);

#endif
