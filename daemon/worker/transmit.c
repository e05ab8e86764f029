/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A transmit stands in the queue as one op, and is sent by many requests, one after the other:
 *
 *   start -> memory    what comes next is memory, and much of it: a request like that of any send
 *   start -> waits     what comes next is of the file: a piece of it is read, by a thread, when a piece is free
 *   waits -> piece     it was read: a request that must not wait, of the piece and of little memory before and behind
 *   piece -> start     all of it left
 *   piece -> rest      the socket had no room for all: the piece is given back, but for a few bytes
 *   rest -> start      these have left, by a request that waits: there is room again
 *   any -> over        all was sent; or a failure, of the socket or the file; or a cancel
 *
 * Pieces are few and everybody's, so none is ever held while a peer does not read: what had no room is read a second
 * time, which costs a copy out of the page cache. Rejected: a piece that stays with its op until it was sent (as many
 * peers as there are pieces, reading nothing, would stop all others), and a poll until there is room (on io_uring it
 * ends at once when the peer has ended its sending, which the peer of a transmit often has).
 *
 * The file is measured with its first piece, before the head leaves: what is too short, or too long, is refused whole.
 * A file that shrinks after that ends the op where it ends.
 *
 * On a datagram socket each packet is a request of its own, and all of its file is in one piece.
 */

#include "daemon/worker/transmit.h"

#include <errno.h>
#include <string.h>

#include "daemon/worker/file.h"
#include "daemon/worker/op.h"

#define TRANSMIT_JOIN_MAX 65536u /* bytes of memory that go with a piece */

_Static_assert(OVL_SLICES_MAX == 64, "there is a bit for each part");

static uint64_t part_bit(const struct op *op, const struct iovec *part) {
        return UINT64_C(1) << (part - (const struct iovec *) op->scratch);
}

static bool part_is_of_file(const struct op *op, const struct iovec *part) {
        return op->transmit.file_parts & part_bit(op, part);
}

static bool part_is_open(const struct op *op, const struct iovec *part) {
        return op->transmit.open_parts & part_bit(op, part);
}

static bool part_ends_packet(const struct op *op, const struct iovec *part) {
        return op->transmit.packet_ends & part_bit(op, part);
}

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

/* --- Parts ------------------------------------------------------------------------------------------------------ */

static void op_drop_part(struct op *op) {
        op->parts++;
        op->n_parts--;
}

/* On a stream, parts of nothing are nothing. */
static void op_skip(struct op *op) {
        while (!op->transmit.is_datagram && op->n_parts > 0 && op->parts->iov_len == 0 && !part_is_open(op, op->parts))
                op_drop_part(op);
}

/* These bytes were sent. */
static void op_advance_stream(struct op *op, uint64_t bytes) {
        while (bytes > 0) {
                size_t step = bytes < op->parts->iov_len ? (size_t) bytes : op->parts->iov_len;

                op->parts->iov_base = (uint8_t *) op->parts->iov_base + step; /* of a file: its offset */
                op->parts->iov_len -= step;
                bytes -= step;
                op_skip(op);
        }
}

static void op_advance_packet(struct op *op) {
        bool was_last;

        do {
                was_last = part_ends_packet(op, op->parts);
                op_drop_part(op);
        } while (op->n_parts > 0 && !was_last);
}

/* Parts of memory from the next one on that can be sent together. */
static uint32_t op_n_memory(const struct op *op) {
        uint32_t n = 0;

        while (n < op->n_parts && !part_is_of_file(op, &op->parts[n])) {
                n++;
                if (op->transmit.is_datagram && part_ends_packet(op, &op->parts[n - 1]))
                        break;
        }
        return n;
}

/* Whether a part of the file is among what can be sent next, or must be known before anything is. */
static bool op_needs_file(const struct op *op) {
        uint32_t n = op_n_memory(op);
        uint64_t len = 0;

        if (!op->transmit.is_measured && op->transmit.file_parts != 0)
                return true;
        for (uint32_t i = 0; i < n; i++)
                len += op->parts[i].iov_len;
        if (op->transmit.is_datagram && n > 0 && part_ends_packet(op, &op->parts[n - 1]))
                return false;
        return n < op->n_parts && (op->transmit.is_datagram || len <= TRANSMIT_JOIN_MAX);
}

void transmit_init(struct op *op) {
        list_init(&op->transmit.waits);
        op_skip(op);
}

bool transmit_is_done(const struct op *op) {
        return op->n_parts == 0;
}

/* --- Reading ---------------------------------------------------------------------------------------------------- */

/* Describes to a reader what can be sent together, as far as there is room for it. */
static void transmit_describe(const struct op *op, struct piece *piece) {
        const struct transmit *transmit = &op->transmit;
        uint64_t room = READER_PIECE_SIZE;
        uint64_t memory = 0;
        uint32_t n = 0;
        bool is_last = false;

        piece->file_parts = 0;
        for (; n < op->n_parts && !is_last; n++) {
                const struct iovec *part = &op->parts[n];

                piece->parts[n] = *part;
                is_last = transmit->is_datagram && part_ends_packet(op, part);
                if (part_is_of_file(op, part)) {
                        if (part_is_open(op, part) || part->iov_len > room) {
                                piece->parts[n].iov_len = room;
                                is_last = true;
                        }
                        piece->offsets[n] = (uintptr_t) part->iov_base;
                        piece->file_parts |= UINT64_C(1) << n;
                        room -= piece->parts[n].iov_len;
                } else {
                        memory += part->iov_len;
                        if (!transmit->is_datagram && memory > TRANSMIT_JOIN_MAX)
                                break;
                }
        }
        /* Memory alone needs no piece, and a packet must be known whole. */
        if (piece->file_parts == 0 || (transmit->is_datagram && !transmit->is_measured)) {
                piece->file_parts = 0;
                n = 0;
        }
        piece->n_parts = n;
}

void transmit_serve(struct files *files) {
        struct list *waits;
        struct piece *piece;

        while ((piece = files_next(files, &waits))) {
                if (waits) {
                        struct op *op = list_entry(waits, struct op, transmit.waits);

                        piece->op = op;
                        op->transmit.piece = piece;
                        transmit_describe(op, piece);
                        if (!op->transmit.is_measured)
                                piece->job = PIECE_MEASURES;
                }
                reader_start(piece);
        }
}

/* It is known how long the file is: parts end where it ends, or it has what they need. */
static int transmit_measure(struct op *op, uint64_t size, unsigned *ret_reason) {
        op->len = 0;
        for (uint32_t i = 0; i < op->n_parts; i++) {
                struct iovec *part = &op->parts[i];
                uint64_t offset = (uintptr_t) part->iov_base;

                if (part_is_open(op, part))
                        part->iov_len = offset < size ? size - offset : 0;
                else if (part_is_of_file(op, part) && (offset > size || part->iov_len > size - offset))
                        return refuse(-ENODATA, OVL_REASON_FILE_TOO_SHORT, ret_reason);
                if (part->iov_len > OVL_TRANSMIT_LEN_MAX - op->len)
                        return refuse(-EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, ret_reason);
                op->len += part->iov_len;
        }
        op->transmit.open_parts = 0;
        op->transmit.is_measured = true;
        return 0;
}

/* What was read is what was asked for; a file that has grown meanwhile is sent as it was measured. */
static int transmit_compare(const struct op *op, struct piece *piece, uint64_t *ret_len, unsigned *ret_reason) {
        uint64_t room = READER_PIECE_SIZE;
        uint64_t len = 0;

        for (uint32_t i = 0; i < piece->n_parts; i++) {
                struct iovec *part = &piece->parts[i];

                if (piece->file_parts & UINT64_C(1) << i) {
                        uint64_t expected = op->parts[i].iov_len < room ? op->parts[i].iov_len : room;

                        if (part->iov_len < expected)
                                return refuse(-ENODATA, OVL_REASON_FILE_TOO_SHORT, ret_reason);
                        part->iov_len = expected;
                        room -= expected;
                }
                len += part->iov_len;
        }
        *ret_len = len;
        return 0;
}

static int transmit_check_piece(struct op *op, struct piece *piece, uint64_t *ret_len, unsigned *ret_reason) {
        int r;

        if (piece->result < 0)
                return refuse(-EIO, OVL_REASON_FILE_UNREADABLE, ret_reason);
        if (piece->job == PIECE_MEASURES) {
                r = transmit_measure(op, piece->size, ret_reason);
                if (r < 0)
                        return r;
        }
        return transmit_compare(op, piece, ret_len, ret_reason);
}

int transmit_read(struct op *op, unsigned *ret_reason) {
        struct piece *piece = op->transmit.piece;
        uint64_t len;
        int r;

        r = transmit_check_piece(op, piece, &len, ret_reason);
        if (r == 0 && piece->n_parts > 0 && (len > 0 || op->transmit.is_datagram)) {
                op->request.parts = piece->parts;
                op->request.n_parts = piece->n_parts;
                return 1;
        }
        transmit_stop(op);
        op_skip(op);
        return r;
}

bool transmit_waits(const struct op *op) {
        const struct piece *piece = op->transmit.piece;

        return op_transmits(op) && (list_is_linked(&op->transmit.waits) || (piece && piece->state == PIECE_READING));
}

void transmit_stop(struct op *op) {
        struct piece *piece = op->transmit.piece;

        list_unlink(&op->transmit.waits);
        op->transmit.piece = NULL;
        if (piece && piece->state == PIECE_READING)
                piece->op = NULL;
        else if (piece)
                file_release(piece);
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

/* Whether all of the file that the next packet needs has a place in one piece. */
static bool packet_fits(const struct op *op) {
        uint64_t len = 0;

        for (uint32_t i = 0; i < op->n_parts; i++) {
                if (part_is_of_file(op, &op->parts[i]))
                        len += op->parts[i].iov_len;
                if (part_ends_packet(op, &op->parts[i]))
                        break;
        }
        return len <= READER_PIECE_SIZE;
}

int transmit_start(struct op *op, unsigned *ret_reason) {
        struct transmit *transmit = &op->transmit;
        struct request *request = &op->request;

        if (transmit->n_rest > 0) {
                request->parts = &op->one;
                request->n_parts = 1;
                return 1;
        }
        if (!transmit->is_stalled && op_needs_file(op)) {
                if (transmit->is_datagram && !packet_fits(op))
                        return refuse(-EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, ret_reason);
                file_await(transmit->file, &transmit->waits);
                transmit_serve(transmit->file->files);
                return 0;
        }
        transmit->is_stalled = false;
        request->parts = op->parts;
        request->n_parts = op_n_memory(op);
        return 1;
}

bool transmit_is_urgent(const struct op *op) {
        return op->transmit.piece;
}

bool transmit_goes_on(const struct op *op) {
        uint64_t len = 0;

        if (op->transmit.is_datagram)
                return false;
        for (uint32_t i = 0; i < op->request.n_parts; i++)
                len += op->request.parts[i].iov_len;
        return op->done + len < op->len;
}

/* The socket had no room behind these bytes of the piece: keeps a few of those that follow, to wait with. */
static void transmit_keep_rest(struct op *op, const struct piece *piece, uint64_t sent) {
        uint32_t i = 0;

        while (i < piece->n_parts && sent >= piece->parts[i].iov_len)
                sent -= piece->parts[i++].iov_len;
        if (i == piece->n_parts)
                return;
        if (piece->file_parts & UINT64_C(1) << i) {
                size_t left = piece->parts[i].iov_len - (size_t) sent;

                op->one.iov_base = op->transmit.rest;
                op->one.iov_len = left < sizeof(op->transmit.rest) ? left : sizeof(op->transmit.rest);
                op->transmit.n_rest = (uint32_t) op->one.iov_len;
                memcpy(op->one.iov_base, (uint8_t *) piece->parts[i].iov_base + sent, op->one.iov_len);
        } else {
                op->transmit.is_stalled = true;
        }
}

static void transmit_send_rest(struct op *op, uint32_t bytes) {
        op->one.iov_base = (uint8_t *) op->one.iov_base + bytes;
        op->one.iov_len -= bytes;
        op->transmit.n_rest -= bytes;
}

int32_t transmit_finish(struct op *op, int32_t result) {
        struct transmit *transmit = &op->transmit;

        if (result == -EAGAIN && transmit->piece && !transmit->is_datagram)
                result = 0;
        if (result >= 0 && transmit->is_datagram) {
                op_advance_packet(op);
        } else if (result >= 0) {
                if (transmit->piece)
                        transmit_keep_rest(op, transmit->piece, (uint32_t) result);
                else if (transmit->n_rest > 0)
                        transmit_send_rest(op, (uint32_t) result);
                op_advance_stream(op, (uint32_t) result);
        }
        if (result > 0)
                op->done += (uint32_t) result;
        transmit_stop(op);
        return result;
}
