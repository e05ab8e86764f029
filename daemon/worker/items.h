/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ITEMS_H
#define DAEMON_WORKER_ITEMS_H

/* Control items: what a datagram has beside its bytes and its address, as clients write and read it. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/worker/op.h"
#include "proto/layout.h"

struct socket;

/* What a socket is to tell of the datagrams that it receives, as bits. */
enum items_wanted {
        ITEMS_PACKET_INFO = 0x01,
        ITEMS_HOP_LIMIT = 0x02,
        ITEMS_TRAFFIC_CLASS = 0x04,
};

/* Of a socket that was opened here: whom a datagram was sent to is known of each. */
void items_start(struct socket *socket);

/* Leaves the kernel's socket as its client has asked for it. */
void items_stop(struct socket *socket);

/* Whether one item is told from here on. Returns 0 or -errno. */
int items_set(struct socket *socket, enum items_wanted item, bool is_wanted);

/*
 * Makes control data of the kernel's of the items of an op that sends; they go to the place of its control data.
 *
 * items: `len` bytes of private memory, aligned to 8.
 *
 * Returns 0, or -EINVAL where they are malformed or not for the op's socket.
 */
int items_to_kernel(struct op *op, const uint8_t *items, uint32_t len);

/*
 * Tells what the kernel has said of a datagram that was received: fills in flags and control_len of the header, and
 * puts items behind it, as far as there is room.
 *
 * message: the header, and `size` bytes behind it.
 */
void items_from_kernel(const struct op *op, struct ovl_message *message, uint32_t size);

#endif
