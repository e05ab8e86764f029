/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_PAYLOAD_H
#define CLIENT_PAYLOAD_H

/* Level 0: the bytes of operations on their way between the program's buffers and frames. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/c/overlap.h"

struct ovl_session;
struct ovl_thread;
struct pending;

/* Copies `len` bytes of a run of buffers, from the offset on. */
void payload_gather(const struct ovl_buffer *buffers, uint64_t offset, size_t len, uint8_t *to);

/*
 * Notes that an operation will be written into its buffers: their regions stay until payload_return(), which returns
 * whether somebody may have waited for that. Under the session's lock.
 */
void payload_lend(struct ovl_session *session, const struct pending *pending);
bool payload_return(struct ovl_session *session, const struct pending *pending);

/* Copies what was received, not more than was lent, into the buffers of an operation. Under the session's lock. */
void payload_scatter(struct ovl_session *session, const struct pending *pending, const uint8_t *bytes, size_t len);

#endif
