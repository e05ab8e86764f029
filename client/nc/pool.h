/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_POOL_H
#define CLIENT_NC_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct ovl_region;
struct ovl_thread;

#define POOL_PIECE_SIZE (8 * 65536u)
#define POOL_PER_REGION 8u
#define POOL_REGIONS 16u

struct pool_region {
        struct ovl_region *region;
        unsigned n_pieces;
        bool is_taken[POOL_PER_REGION];
};

/* Memory that is lent to overlapd, in pieces of one size. */
struct pool {
        struct ovl_thread *thread; /* borrowed */
        struct pool_region regions[POOL_REGIONS];
        unsigned n_regions;
};

void pool_init(struct pool *pool, struct ovl_thread *thread);

/* Takes the regions back from overlapd. All pieces were given back. */
void pool_deinit(struct pool *pool);

/*
 * Takes a piece of POOL_PIECE_SIZE bytes.
 *
 * Returns 0 and the piece; -ENOBUFS when there are as many as there may be; or what ovl_region_open() returns.
 */
int pool_take(struct pool *pool, void **ret_piece);

/*
 * Sees to it that so many pieces can be taken at the same time.
 *
 * Returns as pool_take().
 */
int pool_reserve(struct pool *pool, unsigned n);

/* Gives a piece back; NULL is fine. */
void pool_give(struct pool *pool, void *piece);

#endif
