/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_PAYLOAD_H
#define DAEMON_WORKER_PAYLOAD_H

/* Payload: bytes of an op that travel in frames, and where the daemon keeps them meanwhile. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/layout.h"

/* The pieces of a session. All that it will ever have is reserved when the session is made. */
struct payload_pool {
        uint8_t *memory; /* a mapping of n_pieces times OVL_INLINE_PIECE bytes, touched as it is used */
        uint32_t *next;  /* by piece: the number of the one behind it in its chain; 0: none. Number n is at n - 1 */
        uint32_t n_pieces;
        uint32_t n_high; /* pieces below this were used at least once */
        uint32_t n_used; /* that belong to an op */
        uint32_t free;   /* the number of the first free one that was used before; 0: none */
};

/* A chain of pieces: full ones, and one that may not be. Embedded in its op. */
struct payload {
        struct payload_pool *pool; /* borrowed; NULL: the op has no payload */
        uint32_t first;            /* numbers of pieces; 0: none */
        uint32_t last;
        uint32_t len;  /* bytes that the chain holds or has room for */
        uint16_t lost; /* enum ovl_reason: why there is none although there should be; 0: there is all */
};

/* Returns 0 or -ENOMEM. */
int payload_pool_init(struct payload_pool *pool, uint32_t n_pieces);
void payload_pool_deinit(struct payload_pool *pool);

/*
 * Makes the chain longer by `len` bytes. Never allocates.
 *
 * bytes: what to put there; NULL: nothing yet.
 *
 * Returns 0, or -ENOBUFS when too few pieces are free: the chain is then as it was.
 */
int payload_append(struct payload *payload, struct payload_pool *pool, const void *bytes, size_t len);

/* Gives the bytes of a chain as parts, at most OVL_SLICES_MAX. Returns how many: 1 at least, which may be empty. */
uint32_t payload_parts(const struct payload *payload, struct iovec *ret_parts);

/* Copies the first `len` bytes of a chain, which has so many. */
void payload_copy(const struct payload *payload, void *to, size_t len);

/* Writes into a chain, `offset` bytes from its start. It is long enough. */
void payload_put(struct payload *payload, size_t offset, const void *bytes, size_t len);

/* Gives the pieces back. */
void payload_release(struct payload *payload);

#endif
