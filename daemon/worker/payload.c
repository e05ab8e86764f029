/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where inline bytes are between their frame and the kernel. What is sent is copied out of its frame at once, so that
 * the inbox is free for the next one; what is received waits here until the frame of its record has left.
 *
 * Pieces of one size, chained by number: an op takes as many as its bytes need, a send that is continued over several
 * entries fills the piece that it has before it takes another, and no op ever needs more than OVL_SLICES_MAX of them.
 * So a chain is an array of buffers like any other, and neighbouring ops share a request whether their bytes lie here
 * or in a region.
 *
 * Invariant: a piece is free, or in exactly one chain; nothing is allocated for an op.
 *
 * Rejected: a place of full length for each credit (most operations are small), and reading straight into the frame of
 * the records (the frame is packed when there is room to send it, and then the bytes must be there already).
 */

#include "daemon/worker/payload.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

_Static_assert(OVL_INLINE_OP_LEN_MAX <= OVL_SLICES_MAX * OVL_INLINE_PIECE, "the longest op fits its buffers");

int payload_pool_init(struct payload_pool *pool, uint32_t n_pieces) {
        void *memory = mmap(NULL, (size_t) n_pieces * OVL_INLINE_PIECE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (memory == MAP_FAILED)
                return -ENOMEM;
        *pool = (struct payload_pool){
                .memory = memory,
                .next = calloc(n_pieces, sizeof(*pool->next)),
                .n_pieces = n_pieces,
        };
        if (pool->next)
                return 0;
        payload_pool_deinit(pool);
        return -ENOMEM;
}

void payload_pool_deinit(struct payload_pool *pool) {
        if (pool->memory)
                munmap(pool->memory, (size_t) pool->n_pieces * OVL_INLINE_PIECE);
        free(pool->next);
        *pool = (struct payload_pool){ 0 };
}

static uint8_t *pool_piece(const struct payload_pool *pool, uint32_t number) {
        return pool->memory + (size_t) (number - 1) * OVL_INLINE_PIECE;
}

/* A free piece: there is one. */
static uint32_t pool_take(struct payload_pool *pool) {
        uint32_t number = pool->free;

        if (number != 0)
                pool->free = pool->next[number - 1];
        else
                number = ++pool->n_high;
        pool->next[number - 1] = 0;
        pool->n_used++;
        return number;
}

/* Bytes that the last piece of a chain has left. */
static size_t payload_room(const struct payload *payload) {
        return payload->first == 0 ? 0 : (OVL_INLINE_PIECE - payload->len % OVL_INLINE_PIECE) % OVL_INLINE_PIECE;
}

static void payload_extend(struct payload *payload) {
        uint32_t number = pool_take(payload->pool);

        if (payload->first == 0)
                payload->first = number;
        else
                payload->pool->next[payload->last - 1] = number;
        payload->last = number;
}

int payload_append(struct payload *payload, struct payload_pool *pool, const void *bytes, size_t len) {
        const uint8_t *from = bytes;
        size_t room = payload_room(payload);
        size_t needed = len > room ? (len - room + OVL_INLINE_PIECE - 1) / OVL_INLINE_PIECE : 0;

        if (needed > pool->n_pieces - pool->n_used)
                return -ENOBUFS;
        payload->pool = pool;
        while (len > 0) {
                size_t step;

                if (payload_room(payload) == 0)
                        payload_extend(payload);
                room = OVL_INLINE_PIECE - payload->len % OVL_INLINE_PIECE;
                step = len < room ? len : room;
                if (from) {
                        memcpy(pool_piece(pool, payload->last) + payload->len % OVL_INLINE_PIECE, from, step);
                        from += step;
                }
                payload->len += (uint32_t) step;
                len -= step;
        }
        return 0;
}

uint32_t payload_parts(const struct payload *payload, struct iovec *ret_parts) {
        uint32_t number = payload->first;
        size_t left = payload->len;
        uint32_t n = 0;

        ret_parts[0] = (struct iovec){ 0 };
        for (; left > 0; number = payload->pool->next[number - 1]) {
                size_t step = left < OVL_INLINE_PIECE ? left : OVL_INLINE_PIECE;

                assert(n < OVL_SLICES_MAX);
                ret_parts[n++] = (struct iovec){ pool_piece(payload->pool, number), step };
                left -= step;
        }
        return n > 0 ? n : 1;
}

void payload_copy(const struct payload *payload, void *to, size_t len) {
        uint32_t number = payload->first;
        uint8_t *at = to;

        assert(len <= payload->len);
        for (; len > 0; number = payload->pool->next[number - 1]) {
                size_t step = len < OVL_INLINE_PIECE ? len : OVL_INLINE_PIECE;

                memcpy(at, pool_piece(payload->pool, number), step);
                at += step;
                len -= step;
        }
}

void payload_put(struct payload *payload, size_t offset, const void *bytes, size_t len) {
        uint32_t number = payload->first;
        const uint8_t *from = bytes;

        assert(offset + len <= payload->len);
        for (; offset >= OVL_INLINE_PIECE; offset -= OVL_INLINE_PIECE)
                number = payload->pool->next[number - 1];
        while (len > 0) {
                size_t step = len < OVL_INLINE_PIECE - offset ? len : OVL_INLINE_PIECE - offset;

                memcpy(pool_piece(payload->pool, number) + offset, from, step);
                number = payload->pool->next[number - 1];
                offset = 0;
                from += step;
                len -= step;
        }
}

void payload_release(struct payload *payload) {
        struct payload_pool *pool = payload->pool;
        uint32_t number = payload->first;

        while (number != 0) {
                uint32_t next = pool->next[number - 1];

                pool->next[number - 1] = pool->free;
                pool->free = number;
                pool->n_used--;
                number = next;
        }
        *payload = (struct payload){ 0 };
}
