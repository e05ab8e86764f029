/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_POST_H
#define DAEMON_WORKER_POST_H

/* Posts: the way of a client's entries to ops. */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "daemon/worker/op.h"

struct list;
struct ovl_entry;
struct peer;
struct session;

/* Bytes of payload that come along with an entry in its frame, also with one that will be refused. */
uint64_t post_payload_len(const struct ovl_entry *entry);

/*
 * Takes one entry, which becomes one op: the record of its refusal, or an op of its socket.
 *
 * entry:   a private copy.
 * payload: the bytes that came along, in memory that the client cannot reach; NULL: from a lane, where there are none.
 * ended:   ops that have ended are appended to it; for session_indicate_all().
 *
 * Returns 1; 0 when the session has no free op (the entry was not taken); -EPROTO and a static text when it is not the
 * continuation that must come in this place.
 */
int post_entry(struct session *session, struct peer *peer, const struct ovl_entry *entry, const uint8_t *payload,
               struct list *ended, const char **ret_problem);

/*
 * Serves one POST frame, from where it stopped the last time (peer->n_slots_done).
 *
 * body, len: of the frame, in memory that the client cannot reach.
 *
 * Returns 1 when all was served; 0 when the session has no free op, and is held until one is free again; -EPROTO and a
 * static text when the frame is malformed.
 */
int post_serve_frame(struct session *session, struct peer *peer, const uint8_t *body, size_t len,
                     const char **ret_problem);

/*
 * Serves entries of the peer's lane.
 *
 * max: how many at most.
 *
 * Returns how many were served, -EAGAIN when the session has no free op (and is held), or -EPROTO and a static text.
 */
int post_serve_lane(struct session *session, struct peer *peer, unsigned max, const char **ret_problem);

/* Resolves one slice of an entry and pins its region. Returns 0, or -errno and the reason. */
int post_take_slice(struct session *session, struct op *op, const struct ovl_slice *slice, struct iovec *ret_part,
                    unsigned *ret_reason);

/* Takes the place that `aux` names, which is behind that of the buffers where it is inline. Returns likewise. */
int post_take_place(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason);

/* Takes what a message has in `aux`: a place for what comes, or items that are sent. Returns likewise. */
int post_take_message(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason);

/* Inline: keeps the items that came along with an entry, until they are taken. What is too long is cut here. */
void post_keep_items(struct op *op, const uint8_t *items, uint32_t len);

/* Takes the fields of a transmit that other ops do not have, or read as something else. Returns likewise. */
int post_take_transmit(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason);

/*
 * Whether the address of an entry is one that the op's socket can be given; gives the kernel's form of it. Returns 0,
 * or -errno and the reason.
 */
int post_check_address(const struct op *op, const struct ovl_entry *entry, struct sockaddr_storage *ret_kernel,
                       socklen_t *ret_len, unsigned *ret_reason);

/* Checks the entry of a connect to a name, and takes the name. Returns likewise. */
int post_take_name(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason);

/* Whether the ioctl that was taken is answered by the monitor. */
bool post_ioctl_is_look(const struct op *op);

/* Checks the entry of an ioctl and takes what it names. Returns 0, or -errno and the reason. */
int post_take_ioctl(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason);

#endif
