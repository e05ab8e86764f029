/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_TRANSMIT_H
#define DAEMON_WORKER_TRANSMIT_H

/* Transmits: ops that send memory and parts of a file, in one order. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct file;
struct files;
struct op;
struct piece;

/*
 * What such an op has besides its parts. A part of a file is one whose base is an offset. Bit n of the masks is part n
 * of the scratch; the parts that are left are from op->parts on.
 */
struct transmit {
        struct file *file;   /* borrowed, pinned; NULL: none */
        struct piece *piece; /* in which its file is read, or was */
        struct list waits;   /* among those that wait for a piece of the file */
        uint64_t file_parts;
        uint64_t open_parts;  /* of those: to the end of the file, wherever that is */
        uint64_t packet_ends; /* parts that are the last of their packet */
        uint8_t rest[32];     /* bytes that the socket had no room for, and that are kept until it has */
        uint32_t n_rest;
        bool is_stalled;  /* the socket had no room for what comes next, which is memory */
        bool is_datagram; /* each packet is a datagram */
        bool is_measured; /* it is known where open parts end, and that the file has what the others need */
};

/* All parts were taken from the entry. */
void transmit_init(struct op *op);

/* Whether all of it was sent. */
bool transmit_is_done(const struct op *op);

/* Has as many pieces read as may be, for those whose turn it is. */
void transmit_serve(struct files *files);

/*
 * Prepares the next request of an op, or has its file read.
 *
 * Returns 1 when the request is prepared, 0 when the op waits for its file, or -errno and the reason when it ends here.
 */
int transmit_start(struct op *op, unsigned *ret_reason);

/*
 * Its piece was read: prepares the request that sends it.
 *
 * Returns 1 when it is prepared, 0 when nothing came of it that could be sent: transmit_start() goes on; or -errno and
 * the reason when the op ends here.
 */
int transmit_read(struct op *op, unsigned *ret_reason);

/* Whether the op, which is active, waits for its file: nothing of it is in flight. */
bool transmit_waits(const struct op *op);

/* Whether the request must not wait: a stalled peer would keep the piece. */
bool transmit_is_urgent(const struct op *op);

/* Whether bytes follow those of the request, on the same stream. */
bool transmit_goes_on(const struct op *op);

/*
 * Its request ended with this result. The bytes that it moved leave the parts.
 *
 * Returns the result; 0 where a stream had no room, which is no failure.
 */
int32_t transmit_finish(struct op *op, int32_t result);

/* The op ends, or begins anew: gives back its piece and its place among those that wait. */
void transmit_stop(struct op *op);

#endif
