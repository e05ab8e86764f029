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
#include "daemon/worker/datagram.h"
#include "daemon/worker/polls.h"
#include "daemon/worker/session.h"
#include "proto/address.h"
#include "proto/shm.h"

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

/* Resolves one slice and pins its region. */
static int post_take_slice(struct session *session, struct op *op, const struct ovl_slice *slice,
                           struct iovec *ret_part, unsigned *ret_reason) {
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
        if (op->n_parts == 0 && op_receives(op))
                return refuse(-EINVAL, OVL_REASON_BAD_VECTOR, ret_reason);
        return 0;
}

static bool slice_is_empty(const struct ovl_slice *slice) {
        return slice->offset == 0 && slice->len == 0 && slice->region == 0;
}

/* What the entries of an op hold beyond what all do. */
static const struct post_form {
        bool is_known;
        bool has_buffer;
        bool has_address;
        bool has_aux;    /* one address, or nothing */
        bool has_events; /* in `other` */
        uint8_t flags;
        uint32_t messages;
} post_forms[] = {
        [OVL_OP_CONNECT] = { .is_known = true, .has_address = true },
        [OVL_OP_ACCEPT] = { .is_known = true },
        [OVL_OP_RECV] = { .is_known = true,
                          .has_buffer = true,
                          .flags = OVL_ENTRY_VECTOR,
                          .messages = OVL_MESSAGE_PEEK | OVL_MESSAGE_WAITALL },
        [OVL_OP_SEND] = { .is_known = true, .has_buffer = true, .flags = OVL_ENTRY_VECTOR },
        [OVL_OP_RECVFROM] = { .is_known = true,
                              .has_buffer = true,
                              .has_aux = true,
                              .flags = OVL_ENTRY_VECTOR,
                              .messages = OVL_MESSAGE_PEEK },
        [OVL_OP_SENDTO] = { .is_known = true, .has_buffer = true, .has_address = true, .flags = OVL_ENTRY_VECTOR },
        [OVL_OP_POLL] = { .is_known = true, .has_events = true },
};

/* NULL: there is no such operation. */
static const struct post_form *post_form(const struct op *op) {
        if (op->code >= sizeof(post_forms) / sizeof(post_forms[0]) || !post_forms[op->code].is_known)
                return NULL;
        return &post_forms[op->code];
}

/* Whether the address is one that the socket can be given; gives the kernel's form of it. */
static int post_check_address(const struct op *op, const struct ovl_entry *entry, struct sockaddr_storage *ret_kernel,
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
        struct link_message *message = op->scratch;
        struct sockaddr_storage kernel;
        socklen_t len;
        int r;

        _Static_assert(sizeof(*message) <= OP_SCRATCH_SIZE, "the question to the monitor fits the scratch");
        r = post_check_address(op, entry, &kernel, &len, ret_reason);
        if (r < 0)
                return r;
        if (op->code == OVL_OP_CONNECT) {
                *message = (struct link_message){ .kind = LINK_CONNECT };
                message->body.name.session = session->number;
                message->body.name.address = entry->address;
                return 0;
        }
        if (entry->address.family == OVL_FAMILY_UNIX && !session->identity.may_use_unix)
                return refuse(-EACCES, OVL_REASON_DENIED, ret_reason);
        memcpy(datagram_name(op), &kernel, sizeof(kernel));
        op->name_len = len;
        return 0;
}

/* Where the sender's address goes. */
static int post_take_aux(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        struct iovec place;
        int r;

        if (slice_is_empty(&entry->aux))
                return 0;
        if (entry->aux.len != sizeof(struct ovl_address))
                return refuse(-EINVAL, OVL_REASON_BAD_ADDRESS, ret_reason);
        r = post_take_slice(session, op, &entry->aux, &place, ret_reason);
        if (r < 0)
                return r;
        op->aux = place.iov_base;
        return 0;
}

static int post_check_flags(const struct op *op, const struct post_form *form, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        uint32_t messages = form->messages;

        /* There is nothing to wait for behind the one datagram. */
        if (op->socket->type == SOCK_DGRAM)
                messages &= ~(uint32_t) OVL_MESSAGE_WAITALL;
        if ((entry->flags & ~(OVL_ENTRY_WANT_VERDICT | form->flags)) || (entry->op_flags & ~messages))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (entry->op_flags == (OVL_MESSAGE_PEEK | OVL_MESSAGE_WAITALL))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (form->has_events && (entry->other & ~(uint64_t) POLLS_EVENTS))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        return 0;
}

/* The fields that an operation does not use are zero: so that they can get a meaning one day. */
static int post_check_unused(const struct post_form *form, const struct ovl_entry *entry, unsigned *ret_reason) {
        if ((entry->other != 0 && !form->has_events) || (!slice_is_empty(&entry->aux) && !form->has_aux) ||
            (!slice_is_empty(&entry->buffer) && !form->has_buffer) || (entry->n_slots != 1 && !form->has_address))
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        for (size_t i = 0; i < sizeof(entry->reserved); i++)
                if (entry->reserved[i] != 0)
                        return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        return 0;
}

static int post_take_fields(struct session *session, struct op *op, const struct ovl_entry *entry,
                            unsigned *ret_reason) {
        const struct post_form *form = post_form(op);
        int r;

        r = post_check_flags(op, form, entry, ret_reason);
        if (r == 0)
                r = post_check_unused(form, entry, ret_reason);
        if (r < 0)
                return r;
        if (entry->indication > OVL_INDICATE_QUIET)
                return refuse(-EINVAL, OVL_REASON_BAD_INDICATION, ret_reason);
        op->events = (uint32_t) entry->other;
        if (form->has_address)
                r = post_take_address(session, op, entry, ret_reason);
        if (r == 0 && form->has_aux)
                r = post_take_aux(session, op, entry, ret_reason);
        if (r == 0 && form->has_buffer)
                r = post_take_buffers(session, op, entry, ret_reason);
        return r;
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

/* Everything that can refuse an entry. Returns 0 when the op can be given to its socket. */
static int post_check(struct session *session, struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        int r;

        if (!post_form(op))
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_OP, ret_reason);
        op->socket = session_find_socket(session, entry->socket);
        if (!op->socket)
                return refuse(-EBADF, OVL_REASON_UNKNOWN_SOCKET, ret_reason);
        if (session->n_started >= session->n_credits)
                return refuse(-ENOBUFS, OVL_REASON_CREDITS, ret_reason);
        r = post_take_fields(session, op, entry, ret_reason);
        if (r < 0)
                return r;
        if (op->indication == OVL_INDICATE_ROUTINE && op->socket->port)
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
        session_indicate_all(session, &ended);
        return r;
}
