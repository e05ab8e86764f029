/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way down: an entry is copied out of its frame once, the copy is checked, becomes an op, and the op goes to its
 * socket. Each entry that is consumed becomes exactly one op, also one that is refused: the op is its record.
 *
 * The order of the checks is that of the questions a client would ask: is there such an operation, such a socket, room
 * for one more, are the fields right, is the memory mine, is the socket in a state for it. Nothing is charged for good
 * before all of them were passed.
 */

#include "daemon/worker/post.h"

#include <errno.h>
#include <string.h>

#include "base/killpoint.h"
#include "daemon/worker/resolve.h"
#include "daemon/worker/session.h"
#include "proto/shm.h"

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

int post_take_slice(struct session *session, struct op *op, const struct ovl_slice *slice, struct iovec *ret_part,
                    unsigned *ret_reason) {
        struct region *region;
        uint64_t bit;

        if (slice->len > OVL_SLICE_LEN_MAX)
                return refuse(-EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, ret_reason);
        if (slice->region == 0 || slice->region > SESSION_REGIONS_MAX)
                return refuse(-EFAULT, OVL_REASON_UNKNOWN_REGION, ret_reason);
        region = &session->regions[slice->region - 1];
        if (!region->data || region->is_leaving)
                return refuse(-EFAULT, OVL_REASON_UNKNOWN_REGION, ret_reason);
        if (!region_resolve(region, slice->offset, slice->len, ret_part))
                return refuse(-EFAULT, OVL_REASON_OUTSIDE_REGION, ret_reason);
        bit = UINT64_C(1) << (slice->region - 1);
        if (!(op->regions & bit)) {
                op->regions |= bit;
                region->n_loans++;
        }
        return 0;
}

/* The array of slices is in memory that the client may change at any instant: it is copied, then checked. */
static int post_take_vector(struct session *session, struct op *op, const struct ovl_slice *vector,
                            unsigned *ret_reason) {
        struct ovl_slice slices[OVL_SLICES_MAX];
        struct iovec *parts = op->scratch;
        struct iovec place;
        uint32_t n = vector->len / sizeof(*slices);
        int r;

        if (vector->len % sizeof(*slices) != 0 || vector->offset % sizeof(uint64_t) != 0)
                return refuse(-EINVAL, OVL_REASON_BAD_VECTOR, ret_reason);
        if (n > OVL_SLICES_MAX)
                return refuse(-EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS, ret_reason);
        r = post_take_slice(session, op, vector, &place, ret_reason);
        if (r < 0)
                return r;
        shm_copy(slices, place.iov_base, vector->len);
        for (uint32_t i = 0; i < n; i++) {
                r = post_take_slice(session, op, &slices[i], &parts[i], ret_reason);
                if (r < 0)
                        return r;
                op->len += parts[i].iov_len;
        }
        if (op->len > OVL_SLICE_LEN_MAX)
                return refuse(-EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG, ret_reason);
        op->parts = parts;
        op->n_parts = n;
        return 0;
}

static int post_take_buffers(struct session *session, struct op *op, const struct ovl_entry *entry,
                             unsigned *ret_reason) {
        int r;

        op->parts = &op->one;
        op->n_parts = 1;
        if (entry->flags & OVL_ENTRY_VECTOR) {
                r = post_take_vector(session, op, &entry->buffer, ret_reason);
                if (r < 0)
                        return r;
        } else if (entry->buffer.region != 0 || entry->buffer.len != 0 || entry->buffer.offset != 0) {
                r = post_take_slice(session, op, &entry->buffer, &op->one, ret_reason);
                if (r < 0)
                        return r;
                op->len = op->one.iov_len;
        }
        if (op->n_parts == 0 && op->code == OVL_OP_RECV)
                return refuse(-EINVAL, OVL_REASON_BAD_VECTOR, ret_reason);
        return 0;
}

static bool slice_is_empty(const struct ovl_slice *slice) {
        return slice->offset == 0 && slice->len == 0 && slice->region == 0;
}

static int post_take_connect(struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        struct link_message *message = op->scratch;
        uint32_t n_slots_needed = entry->address.family == OVL_FAMILY_UNIX ? 3 : 2;

        _Static_assert(sizeof(*message) <= OP_SCRATCH_SIZE, "the question to the monitor fits the scratch");
        if (entry->n_slots != n_slots_needed || entry->address.family != op->socket->family)
                return refuse(-EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS, ret_reason);
        *message = (struct link_message){ .kind = LINK_CONNECT };
        message->body.name.session = op->session->number;
        message->body.name.address = entry->address;
        return 0;
}

/* The fields that an operation does not use are zero: so that they can get a meaning one day. */
static int post_take_fields(struct session *session, struct op *op, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        const uint8_t flags =
                OVL_ENTRY_WANT_VERDICT | (op->code == OVL_OP_RECV || op->code == OVL_OP_SEND ? OVL_ENTRY_VECTOR : 0);
        const uint32_t messages = op->code == OVL_OP_RECV ? OVL_MESSAGE_PEEK | OVL_MESSAGE_WAITALL : 0;

        if ((entry->flags & ~flags) || (entry->op_flags & ~messages))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (entry->op_flags == (OVL_MESSAGE_PEEK | OVL_MESSAGE_WAITALL))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (entry->other != 0 || !slice_is_empty(&entry->aux))
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (entry->indication > OVL_INDICATE_QUIET)
                return refuse(-EINVAL, OVL_REASON_BAD_INDICATION, ret_reason);
        if (op->code == OVL_OP_CONNECT)
                return slice_is_empty(&entry->buffer) ? post_take_connect(op, entry, ret_reason)
                                                      : refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (entry->n_slots != 1)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (op->code == OVL_OP_ACCEPT)
                return slice_is_empty(&entry->buffer) ? 0 : refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        return post_take_buffers(session, op, entry, ret_reason);
}

static int post_check_code(const struct op *op, unsigned *ret_reason) {
        switch (op->code) {
        case OVL_OP_CONNECT:
        case OVL_OP_ACCEPT:
        case OVL_OP_RECV:
        case OVL_OP_SEND:
        case OVL_OP_RESOLVE:
                return 0;
        default:
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_OP, ret_reason);
        }
}

/* An accept pays for the socket that it will make. */
static int post_charge_accept(struct session *session, struct op *op, unsigned *ret_reason) {
        struct charge charge;

        if (op->code != OVL_OP_ACCEPT)
                return 0;
        if (charge_take(&charge, &session->n_sockets, 1) < 0)
                return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
        op->holds_socket_charge = true;
        return 0;
}

static int post_check_resolve(struct session *session, struct op *op, const struct ovl_entry *entry,
                              unsigned *ret_reason) {
        if (entry->socket != 0)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (session->n_started >= session->n_credits)
                return refuse(-ENOBUFS, OVL_REASON_CREDITS, ret_reason);
        return resolve_take(op, entry, ret_reason);
}

/* Everything that can refuse an entry. Returns 0 when the op can be given to its socket. */
static int post_check(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        int r;

        r = post_check_code(op, ret_reason);
        if (r < 0)
                return r;
        if (op->code == OVL_OP_RESOLVE)
                return post_check_resolve(session, op, entry, ret_reason);
        op->handle = handle_find(session, entry->socket);
        if (!op->handle)
                return refuse(-EBADF, OVL_REASON_UNKNOWN_SOCKET, ret_reason);
        op->socket = op->handle->socket;
        if (session->n_started >= session->n_credits)
                return refuse(-ENOBUFS, OVL_REASON_CREDITS, ret_reason);
        r = post_take_fields(session, op, entry, ret_reason);
        if (r < 0)
                return r;
        if (op->indication == OVL_INDICATE_ROUTINE && op->handle->port)
                return refuse(-EINVAL, OVL_REASON_ROUTINE_ON_PORT, ret_reason);
        r = socket_check(op->socket, op, ret_reason);
        if (r < 0)
                return r;
        return post_charge_accept(session, op, ret_reason);
}

/* One entry becomes one op. Returns 1, or 0 when there is no free op. */
static int post_entry(struct session *session, struct peer *peer, const struct ovl_entry *entry, struct list *ended) {
        struct op *op = session_take_op(session);
        unsigned reason = OVL_REASON_NONE;
        int r;

        if (!op)
                return 0;
        op->peer = peer;
        op->thread = peer->thread ? peer->thread->number : 0;
        op->serial = ++session->resources->op_serial;
        op->turn = session->resources->turn;
        op->tag = entry->tag;
        op->key = entry->socket;
        op->code = entry->op;
        op->indication = entry->indication;
        op->message_flags = entry->op_flags;
        session->resources->stats.entries++;
        peer->n_entries++;
        r = post_check(session, op, entry, &reason);
        if (r < 0) {
                op_end(op, r, reason, 0);
                op->record_flags |= OVL_RECORD_REFUSED;
                list_push_back(ended, &op->link);
                return 1;
        }
        op->has_credit = true;
        session->n_started++;
        KILLPOINT("session-post");
        if (!op->handle) {
                resolve_start(op, ended);
                return 1;
        }
        op->handle->n_ops++;
        socket_post(op->socket, op, ended);
        return 1;
}

/* Copies the slots of the entry that begins at `slots`, once. Returns how many those are, or -EPROTO. */
static int post_copy_entry(const uint8_t *slots, size_t n_left, struct ovl_entry *ret_entry) {
        struct ovl_entry entry = { 0 };

        memcpy(&entry, slots, OVL_SLOT_SIZE);
        if (entry.n_slots == 0 || entry.n_slots > OVL_ENTRY_SLOTS_MAX || entry.n_slots > n_left)
                return -EPROTO;
        memcpy((uint8_t *) &entry + OVL_SLOT_SIZE, slots + OVL_SLOT_SIZE, (entry.n_slots - 1) * OVL_SLOT_SIZE);
        *ret_entry = entry;
        return entry.n_slots;
}

static int post_check_frame(const uint8_t *body, size_t len, size_t *ret_n_slots, const char **ret_problem) {
        struct ovl_post_header header;

        if (len < sizeof(header)) {
                *ret_problem = "a POST frame is shorter than its header";
                return -EPROTO;
        }
        memcpy(&header, body, sizeof(header));
        if (header.reserved != 0 || header.n_slots == 0 ||
            (uint64_t) header.n_slots * OVL_SLOT_SIZE != len - sizeof(header)) {
                *ret_problem = "the number of slots of a POST frame does not fit its length";
                return -EPROTO;
        }
        *ret_n_slots = header.n_slots;
        return 0;
}

static void post_want_verdict(struct session *session, struct peer *peer) {
        peer->n_wished = peer->n_entries;
        if (list_is_linked(&peer->settle))
                return;
        peer->settle_turn = session->resources->turn;
        list_push_back(&session->resources->settle, &peer->settle);
}

int post_serve_frame(struct session *session, struct peer *peer, const uint8_t *body, size_t len, size_t *n_done,
                     const char **ret_problem) {
        const uint8_t *slots = body + sizeof(struct ovl_post_header);
        struct ovl_entry entry;
        struct list ended;
        size_t n_slots;
        int r;

        r = post_check_frame(body, len, &n_slots, ret_problem);
        if (r < 0)
                return r;
        list_init(&ended);
        r = 1;
        while (*n_done < n_slots) {
                int n = post_copy_entry(slots + *n_done * OVL_SLOT_SIZE, n_slots - *n_done, &entry);

                if (n < 0) {
                        *ret_problem = "an entry has no slots, more than three, or ends beyond its frame";
                        r = n;
                        break;
                }
                r = post_entry(session, peer, &entry, &ended);
                if (r == 0) {
                        session->is_held = true;
                        break;
                }
                *n_done += (size_t) n;
                if (entry.flags & OVL_ENTRY_WANT_VERDICT)
                        post_want_verdict(session, peer);
        }
        session_indicate_all(&ended);
        return r;
}
