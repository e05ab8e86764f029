/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_PATTERN_H
#define LEDGER_PATTERN_H

/*
 * What the bytes of a stream are: a function of the stream and of the offset, so that any byte that is lost, doubled,
 * swapped or of another stream shows. The first eight bytes are the stream's number itself: so a receiver learns whose
 * bytes it reads.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t pattern_word(uint64_t stream, uint64_t index) {
        uint64_t x = stream * UINT64_C(0x9e3779b97f4a7c15) + index * UINT64_C(0xd1342543de82ef95);

        if (index == 0)
                return stream;
        x = (x ^ (x >> 32)) * UINT64_C(0xff51afd7ed558ccd);
        x = (x ^ (x >> 29)) * UINT64_C(0xc4ceb9fe1a85ec53);
        return x ^ (x >> 32);
}

/*
 * Datagrams have patterns of their own: their first eight bytes name the connection that sent them, and which of its
 * datagrams they are. The connection's number has at most 43 bits.
 */
#define PATTERN_SERIAL_BITS 20
#define PATTERN_SERIAL_MASK ((UINT64_C(1) << PATTERN_SERIAL_BITS) - 1)
#define PATTERN_DATAGRAM (UINT64_C(1) << 63)

static inline uint64_t pattern_datagram(uint64_t conn, uint64_t serial) {
        return PATTERN_DATAGRAM | conn << PATTERN_SERIAL_BITS | (serial & PATTERN_SERIAL_MASK);
}

static inline void pattern_fill(uint64_t stream, uint64_t offset, void *to, size_t len) {
        uint8_t *place = to;

        while (len > 0) {
                uint64_t word = pattern_word(stream, offset / 8);
                size_t skip = offset % 8, n = len < 8 - skip ? len : 8 - skip;

                memcpy(place, (uint8_t *) &word + skip, n);
                place += n;
                offset += n;
                len -= n;
        }
}

#define PATTERN_HASH_START UINT64_C(0xcbf29ce484222325)

/* Goes on with a hash in which every byte's place counts; pieces may be cut anywhere. */
static inline uint64_t pattern_hash(uint64_t hash, const void *bytes, size_t len) {
        const uint8_t *byte = bytes;

        for (size_t i = 0; i < len; i++)
                hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
        return hash;
}

#endif
