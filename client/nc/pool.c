/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The memory that is lent to overlapd. A session has few regions and each costs a system call or two, so a region holds
 * the pieces of several connections; but the first one holds a single piece, for most runs have one connection.
 *
 * Invariant: memory is bounded, by POOL_REGIONS; who finds none waits until a connection gives its piece back.
 *
 * Rejected: giving regions back when they are empty (a server that was busy once will be so again), and buffers that
 * grow with the speed of a connection: half a MiB for each keeps a 10 Gbit/s line busy over loopback and LAN.
 */

#include "client/nc/pool.h"

#include <errno.h>

#include "client/c/overlap.h"

void pool_init(struct pool *pool, struct ovl_thread *thread) {
        *pool = (struct pool){ .thread = thread };
}

void pool_deinit(struct pool *pool) {
        for (unsigned i = 0; i < pool->n_regions; i++)
                ovl_region_close(pool->thread, pool->regions[i].region);
        pool->n_regions = 0;
}

static void *pool_piece(const struct pool_region *region, unsigned i) {
        return (char *) ovl_region_data(region->region) + (size_t) i * POOL_PIECE_SIZE;
}

static int pool_grow(struct pool *pool) {
        struct pool_region *region = &pool->regions[pool->n_regions];
        unsigned n_pieces = pool->n_regions == 0 ? 1 : POOL_PER_REGION;
        int r;

        if (pool->n_regions == POOL_REGIONS)
                return -ENOBUFS;
        r = ovl_region_open(pool->thread, (size_t) n_pieces * POOL_PIECE_SIZE, &region->region);
        if (r < 0)
                return r;
        region->n_pieces = n_pieces;
        pool->n_regions++;
        return 0;
}

int pool_reserve(struct pool *pool, unsigned n) {
        unsigned n_pieces = 0;
        int r;

        for (unsigned i = 0; i < pool->n_regions; i++)
                n_pieces += pool->regions[i].n_pieces;
        while (n_pieces < n) {
                r = pool_grow(pool);
                if (r < 0)
                        return r;
                n_pieces += pool->regions[pool->n_regions - 1].n_pieces;
        }
        return 0;
}

int pool_take(struct pool *pool, void **ret_piece) {
        int r;

        for (unsigned i = 0;; i++) {
                struct pool_region *region = &pool->regions[i];

                if (i == pool->n_regions) {
                        r = pool_grow(pool);
                        if (r < 0)
                                return r;
                }
                for (unsigned j = 0; j < region->n_pieces; j++) {
                        if (!region->is_taken[j]) {
                                region->is_taken[j] = true;
                                *ret_piece = pool_piece(region, j);
                                return 0;
                        }
                }
        }
}

void pool_give(struct pool *pool, void *piece) {
        for (unsigned i = 0; i < pool->n_regions; i++)
                for (unsigned j = 0; j < pool->regions[i].n_pieces; j++)
                        if (pool_piece(&pool->regions[i], j) == piece)
                                pool->regions[i].is_taken[j] = false;
}
