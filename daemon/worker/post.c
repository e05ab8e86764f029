/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way down: an entry is copied out of its frame once, the copy is checked, becomes an op, and the op goes to its
 * socket. Each entry that is consumed becomes exactly one op, also one that is refused: the op is its record.
 *
 * The order of the checks is that of the questions a client would ask: is there such an operation, such a socket, room
 * for one more, are the fields right, is the memory mine, is the socket in a state for it. Nothing is charged for good
 * before all of them were passed.
 *
 * A send that is too long for one entry comes in several, which are one op:
 *
 *   -> continued             its first entry has the flag MORE: the connection gathers the payload
 *   continued -> continued   the next entry of the channel goes on with it
 *   continued -> posted      ... and is its last: only now it takes an op, is checked, counted, refused or started
 *   continued -> dropped     the connection ends before that: the entry was never taken
 *
 * Rejected: an op from its first piece on. Connections that have begun a send could then use up the ops of their
 * session, which would be held until one is free: none ever would be, because the rest of the sends is held, too.
 */

#include "daemon/worker/post.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/killpoint.h"
#include "base/time.h"
#include "daemon/worker/datagram.h"
#include "daemon/worker/polls.h"
#include "daemon/worker/resolve.h"
#include "daemon/worker/session.h"
#include "daemon/worker/succession.h"
#include "proto/address.h"
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

/* Keeps what came along, or the place for what is to come. A send that is too long is refused at its end. */
static void post_keep_payload(struct session *session, struct payload *payload, const uint8_t *bytes, uint32_t len) {
        unsigned lost = OVL_REASON_NONE;

        if (payload->lost != OVL_REASON_NONE)
                return;
        if (len > OVL_INLINE_LEN_MAX || payload->len + len > OVL_INLINE_OP_LEN_MAX)
                lost = OVL_REASON_BUFFER_TOO_LONG;
        else if (payload_append(payload, &session->payloads, bytes, len) < 0)
                lost = OVL_REASON_QUOTA;
        if (lost == OVL_REASON_NONE)
                return;
        payload_release(payload);
        payload->lost = (uint16_t) lost;
}

/* What is sent was kept when its entry came; what is received gets its place now. */
static int post_take_inline(struct session *session, struct op *op, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        if (entry->buffer.region != 0 || entry->buffer.offset != 0)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (op_form(op)->receives)
                post_keep_payload(session, &op->payload, NULL, entry->buffer.len);
        if (op->payload.lost != OVL_REASON_NONE)
                return refuse(op->payload.lost == OVL_REASON_QUOTA ? -ENOBUFS : -EMSGSIZE, op->payload.lost,
                              ret_reason);
        if (op->payload.len > OVL_INLINE_PIECE)
                op->parts = op->scratch;
        op->n_parts = payload_parts(&op->payload, op->parts);
        op->len = op->payload.len;
        return 0;
}

static int post_take_buffers(struct session *session, struct op *op, const struct ovl_entry *entry,
                             unsigned *ret_reason) {
        int r;

        op->parts = &op->one;
        op->n_parts = 1;
        if (entry->flags & OVL_ENTRY_INLINE)
                return post_take_inline(session, op, entry, ret_reason);
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
        if (op->n_parts == 0 && op_receives(op))
                return refuse(-EINVAL, OVL_REASON_BAD_VECTOR, ret_reason);
        return 0;
}

static bool slice_is_empty(const struct ovl_slice *slice) {
        return slice->offset == 0 && slice->len == 0 && slice->region == 0;
}

int post_check_address(const struct op *op, const struct ovl_entry *entry, struct sockaddr_storage *ret_kernel,
                       socklen_t *ret_len, unsigned *ret_reason) {
        uint32_t n_slots_needed = entry->address.family == OVL_FAMILY_UNIX ? 3 : 2;

        if (entry->n_slots != n_slots_needed || entry->address.family != op->socket->family)
                return refuse(-EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS, ret_reason);
        if (address_is_relative(&entry->address) || address_to_kernel(&entry->address, ret_kernel, ret_len) < 0)
                return refuse(-EINVAL, OVL_REASON_BAD_ADDRESS, ret_reason);
        return 0;
}

/* A connect asks the monitor; a send goes to the kernel, so what the policy has to say of it is said here. */
static int post_take_address(struct session *session, struct op *op, const struct ovl_entry *entry,
                             unsigned *ret_reason) {
        const struct link_asker asker = op_asker(op);
        struct link_message *message = op_question(op);
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        r = post_check_address(op, entry, &kernel, &len, ret_reason);
        if (r < 0)
                return r;
        if (op->code == OVL_OP_CONNECT) {
                *message = (struct link_message){ .kind = LINK_CONNECT };
                message->body.name.session = session->number;
                message->body.name.address = entry->address;
                return 0;
        }
        if (!rules_allow_send(session->rules, &session->resources->ask, session->number, &asker, &entry->address,
                              session->denied))
                return refuse(-EACCES, OVL_REASON_DENIED, ret_reason);
        memcpy(datagram_name(op), &kernel, sizeof(kernel));
        op->name_len = len;
        return 0;
}

/* Behind the place of what is received, which was taken before. */
static int post_take_inline_aux(struct session *session, struct op *op, const struct ovl_entry *entry,
                                unsigned *ret_reason) {
        if (entry->aux.region != 0 || entry->aux.offset != 0)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (payload_append(&op->payload, &session->payloads, NULL, entry->aux.len) < 0)
                return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
        return 0;
}

int post_take_place(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        struct iovec place;
        int r;

        op->wants_sender = true;
        if (entry->flags & OVL_ENTRY_INLINE)
                return post_take_inline_aux(session, op, entry, ret_reason);
        r = post_take_slice(session, op, &entry->aux, &place, ret_reason);
        if (r < 0)
                return r;
        op->aux = place.iov_base;
        return 0;
}

/* Where addresses go. */
static int post_take_aux(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        if (slice_is_empty(&entry->aux))
                return 0;
        if (entry->aux.len != op_form(op)->n_addresses * sizeof(struct ovl_address))
                return refuse(-EINVAL, OVL_REASON_BAD_ADDRESS, ret_reason);
        return post_take_place(session, op, entry, ret_reason);
}

/* To wait for all is to wait, and to take all. */
#define POST_NOT_WITH_WAITALL (OVL_MESSAGE_OOB | OVL_MESSAGE_PEEK | OVL_MESSAGE_DONTWAIT | OVL_MESSAGE_PARTIAL)

/* Hints that nothing here acts on: bytes are never held back, and streams have no messages of which there were parts.
 */
#define POST_HINTS (OVL_MESSAGE_PUSH_IMMEDIATE | OVL_MESSAGE_PARTIAL)

static int post_check_flags(const struct op *op, const struct op_form *form, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        uint32_t messages = form->messages | (op->socket->type == SOCK_STREAM ? form->stream_messages : 0);

        if (op->socket->family == AF_UNIX)
                messages &= ~(uint32_t) OVL_MESSAGE_OOB;
        if ((entry->flags & ~(OVL_ENTRY_WANT_VERDICT | form->flags)) || (entry->op_flags & ~messages))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if ((entry->flags & OVL_ENTRY_INLINE) && ((entry->flags & OVL_ENTRY_VECTOR) || op->peer->lane))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if ((entry->op_flags & OVL_MESSAGE_WAITALL) && (entry->op_flags & POST_NOT_WITH_WAITALL))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        /* What was accepted cannot be given back. */
        if (form->has_prepared && entry->op_flags != 0 && !slice_is_empty(&entry->buffer))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (form->transmits && entry->op_flags != 0 &&
            (socket_is_datagram(op->socket) || !(entry->op_flags & OVL_TRANSMIT_DISCONNECT)))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (form->has_events && (entry->other & ~(uint64_t) POLLS_EVENTS))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        return 0;
}

/* The fields that an operation does not use are zero: so that they can get a meaning one day. */
static int post_check_unused(const struct op_form *form, const struct ovl_entry *entry, unsigned *ret_reason) {
        if ((entry->other != 0 && !form->has_events && !form->has_prepared && !form->transmits) ||
            (!slice_is_empty(&entry->aux) && form->n_addresses == 0 && !form->has_message && !form->transmits) ||
            (!slice_is_empty(&entry->buffer) && !form->has_buffer && !form->transmits) ||
            (entry->n_slots != 1 && !form->has_address))
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        for (size_t i = 0; i < sizeof(entry->reserved); i++)
                if (entry->reserved[i] != 0)
                        return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        return 0;
}

/* What the op does beyond what all of its kind do. */
static void post_add_steps(struct op *op, const struct op_form *form) {
        if (form->may_transfer && op->len > 0)
                op->steps |= STEP_TRANSFER;
        if (form->transmits && (op->message_flags & OVL_TRANSMIT_DISCONNECT))
                op->steps |= STEP_SHUT;
        if ((op->steps & STEP_SHUT) && (op->message_flags & OVL_TRANSMIT_REUSE)) {
                op->steps |= STEP_RENEW;
                succession_ask(op);
        }
}

static int post_take_fields(struct session *session, struct op *op, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        const struct op_form *form = op_form(op);
        int r;

        r = post_check_flags(op, form, entry, ret_reason);
        if (r == 0)
                r = post_check_unused(form, entry, ret_reason);
        if (r < 0)
                return r;
        if (entry->indication > OVL_INDICATE_QUIET)
                return refuse(-EINVAL, OVL_REASON_BAD_INDICATION, ret_reason);
        op->events = (uint32_t) entry->other;
        op->message_flags = form->transmits ? entry->op_flags : entry->op_flags & ~(uint32_t) POST_HINTS;
        if (form->has_address && !(form->may_lack_address && entry->n_slots == 1))
                r = post_take_address(session, op, entry, ret_reason);
        if (r == 0 && form->has_buffer)
                r = post_take_buffers(session, op, entry, ret_reason);
        if (r == 0 && form->n_addresses > 0)
                r = post_take_aux(session, op, entry, ret_reason);
        if (r == 0 && form->has_message)
                r = post_take_message(session, op, entry, ret_reason);
        if (r == 0 && form->transmits)
                r = post_take_transmit(session, op, entry, ret_reason);
        post_add_steps(op, form);
        return r;
}

uint64_t post_payload_len(const struct ovl_entry *entry) {
        const struct op_form *form = op_form_of(entry->op);

        if (!(form->sends || form->has_payload) || !(form->flags & entry->flags & OVL_ENTRY_INLINE))
                return 0;
        return (uint64_t) entry->buffer.len + (form->has_message ? entry->aux.len : 0);
}

/* Whether the entry is the first piece of a longer send. With MORE, anything else is refused. */
static bool post_is_continued(const struct ovl_entry *entry) {
        return entry->op == OVL_OP_SEND && (entry->flags & OVL_ENTRY_INLINE) && (entry->flags & OVL_ENTRY_MORE);
}

/* A socket that the client has prepared for an accept is the accept's from here on. */
static int post_take_prepared(struct session *session, struct op *op, uint64_t number, unsigned *ret_reason) {
        struct handle *prepared = handle_find(session, number);
        struct socket *socket;

        if (!prepared)
                return refuse(-EBADF, OVL_REASON_UNKNOWN_SOCKET, ret_reason);
        socket = prepared->socket;
        if (socket->accept)
                return refuse(-EINVAL, OVL_REASON_PREPARED, ret_reason);
        if (socket->type != op->socket->type || socket->family != op->socket->family || socket->state != SOCKET_OPEN ||
            socket_has_name(socket))
                return refuse(-EINVAL, OVL_REASON_NOT_NEW, ret_reason);
        socket->accept = op;
        op->prepared = prepared;
        prepared->n_ops++;
        return 0;
}

/*
 * An accept has a socket for its connection, or pays for the one that it will make. What the session has too many of
 * itself it is told; what others of its user have is waited for, with the connections in the listener's backlog.
 */
static int post_charge_accept(struct session *session, struct op *op, uint64_t prepared, unsigned *ret_reason) {
        struct quota_refusal refusal;

        if (op->code != OVL_OP_ACCEPT)
                return 0;
        if (prepared != 0)
                return post_take_prepared(session, op, prepared, ret_reason);
        if (quota_take(&session->quota, LIMIT_SOCKETS, 1, &refusal) == 0) {
                op->holds_socket_charge = true;
                return 0;
        }
        if (refusal.quota->level == LIMIT_SESSION || op_must_not_wait(op))
                return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
        op->is_unpaid = true;
        list_push_back(&session->unit->user->unpaid, &op->unpaid);
        return 0;
}

/* Whether the monitor has work with it, which is one for all: it connects, looks up, or looks at addresses and routes.
 */
static bool post_asks(const struct op *op) {
        return op_step(op) == STEP_CONNECT || op->code == OVL_OP_RESOLVE ||
               (op->code == OVL_OP_IOCTL && post_ioctl_is_look(op));
}

/* Last of all: what is refused for something else has cost nothing. */
static int post_pace(struct session *session, const struct op *op, unsigned *ret_reason) {
        if (!post_asks(op) || session->unit->user->is_exempt ||
            quota_pace(session->unit, NULL, LIMIT_RATE_CONNECTS, now_ns()) == 0)
                return 0;
        return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
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

        if (!op_form(op)->is_known)
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_OP, ret_reason);
        if (op->code == OVL_OP_RESOLVE) {
                r = post_check_resolve(session, op, entry, ret_reason);
                return r < 0 ? r : post_pace(session, op, ret_reason);
        }
        op->handle = handle_find(session, entry->socket);
        if (!op->handle)
                return refuse(-EBADF, OVL_REASON_UNKNOWN_SOCKET, ret_reason);
        op->socket = op->handle->socket;
        if (session->n_started >= session->n_credits)
                return refuse(-ENOBUFS, OVL_REASON_CREDITS, ret_reason);
        if (op->code == OVL_OP_IOCTL)
                r = post_take_ioctl(session, op, entry, ret_reason);
        else if (op->code == OVL_OP_CONNECT_NAME)
                r = post_take_name(session, op, entry, ret_reason);
        else
                r = post_take_fields(session, op, entry, ret_reason);
        if (r < 0)
                return r;
        if (op->indication == OVL_INDICATE_ROUTINE && op->handle->port)
                return refuse(-EINVAL, OVL_REASON_ROUTINE_ON_PORT, ret_reason);
        r = socket_check(op->socket, op, ret_reason);
        if (r < 0)
                return r;
        r = post_pace(session, op, ret_reason);
        if (r < 0)
                return r;
        return post_charge_accept(session, op, entry->other, ret_reason);
}

static void post_want_verdict(struct session *session, struct peer *peer) {
        peer->n_wished = peer->n_entries;
        session_settle(session, peer);
}

/* The whole entry is there: it is refused, or the op is given to its socket. */
static void post_finish(struct session *session, struct peer *peer, struct op *op, const struct ovl_entry *entry,
                        struct list *ended) {
        unsigned reason = OVL_REASON_NONE;
        int r;

        op->serial = ++session->resources->op_serial;
        op->turn = session->resources->turn;
        session->resources->stats.entries++;
        session->totals.n_entries++;
        peer->n_entries++;
        r = post_check(session, op, entry, &reason);
        if (r < 0) {
                op_end(op, r, reason, 0);
                op->record_flags |= OVL_RECORD_REFUSED;
                list_push_back(ended, &op->link);
        } else {
                op->has_credit = true;
                session->n_started++;
                r = quota_take(&session->quota, LIMIT_OPS, 1, NULL);
                assert(r == 0);
                KILLPOINT("session-post");
                if (op->handle) {
                        op->handle->n_ops++;
                        op->n_before = op->handle->n_posted++;
                        if (op->ioctl == OVL_IOCTL_FLUSH)
                                handle_flush(op->handle, op, ended);
                        socket_post(op->socket, op, ended);
                        peer->n_arming += op->is_arming;
                } else {
                        resolve_start(op, ended);
                }
        }
        if (entry->flags & OVL_ENTRY_WANT_VERDICT)
                post_want_verdict(session, peer);
}

static struct op *post_begin(struct session *session, struct peer *peer, const struct ovl_entry *entry) {
        struct op *op = session_may_start(session) ? session_take_op(session) : NULL;

        if (!op)
                return NULL;
        op->peer = peer;
        op->thread = peer->thread ? peer->thread->number : 0;
        op->has_thread = peer->thread;
        op->tag = entry->tag;
        op->key = entry->socket;
        op->code = entry->op;
        op->indication = entry->indication;
        op->steps = op_form(op)->steps;
        return op;
}

/* Whether the entry is the next piece of the send that the opening began. */
static bool post_continues(const struct ovl_entry *opening, const struct ovl_entry *entry) {
        return entry->tag == opening->tag && entry->socket == opening->socket && entry->op == opening->op &&
               entry->indication == opening->indication && entry->n_slots == opening->n_slots &&
               (entry->flags & OVL_ENTRY_INLINE);
}

/* What is wrong with a further piece is wrong with the whole, and said at the end. */
static void post_join_piece(struct ovl_entry *opening, const struct ovl_entry *entry) {
        opening->op_flags |= entry->op_flags;
        opening->buffer.offset |= entry->buffer.offset;
        opening->buffer.region |= entry->buffer.region;
        opening->other |= entry->other;
        opening->aux.offset |= entry->aux.offset;
        opening->flags |= entry->flags & (uint8_t) ~OVL_ENTRY_MORE;
}

/* Takes a piece of a send that comes in several. Returns 1, or 0 when it is the last and the session has no free op. */
static int post_gather(struct session *session, struct peer *peer, const struct ovl_entry *entry,
                       const uint8_t *payload, struct list *ended) {
        bool is_last = !(entry->flags & OVL_ENTRY_MORE);
        struct op *op = is_last ? post_begin(session, peer, entry) : NULL;

        if (is_last && !op)
                return 0;
        if (peer->is_continuing) {
                post_join_piece(&peer->opening, entry);
        } else {
                peer->is_continuing = true;
                peer->opening = *entry;
                peer->opening.flags &= (uint8_t) ~OVL_ENTRY_MORE;
        }
        post_keep_payload(session, &peer->gathered, payload, entry->buffer.len);
        if (!is_last)
                return 1;
        op->payload = peer->gathered;
        peer->gathered = (struct payload){ 0 };
        peer->is_continuing = false;
        post_finish(session, peer, op, &peer->opening, ended);
        return 1;
}

int post_entry(struct session *session, struct peer *peer, const struct ovl_entry *entry, const uint8_t *payload,
               struct list *ended, const char **ret_problem) {
        struct op *op;

        if (peer->is_continuing && (!payload || !post_continues(&peer->opening, entry))) {
                *ret_problem = "a send with the flag MORE is not continued by the next entry";
                return -EPROTO;
        }
        if (payload && (peer->is_continuing || post_is_continued(entry)))
                return post_gather(session, peer, entry, payload, ended);
        op = post_begin(session, peer, entry);
        if (!op)
                return 0;
        if (payload && post_payload_len(entry) > 0)
                post_keep_payload(session, &op->payload, payload, entry->buffer.len);
        if (payload && post_payload_len(entry) > entry->buffer.len)
                post_keep_items(op, payload + entry->buffer.len, entry->aux.len);
        post_finish(session, peer, op, entry, ended);
        return 1;
}
