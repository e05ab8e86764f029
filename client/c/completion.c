/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How an operation ends. A record arrives, is checked against what the library remembers of the operation, and becomes
 * its result and its one indication.
 *
 *   in flight -> queued   a record, or the loss of the daemon; the operation has a routine or goes to a port
 *   in flight -> idle     the same; the operation is indicated by its status alone, or was refused to a call that waits
 *                         for the verdict and returns the error itself
 *   queued -> idle        the routine is about to run (thread.c), or the packet was taken (port.c)
 *
 * Invariants: an operation is indicated exactly once. The status is written last, with release order, and after that an
 * operation without routine and port is not touched: its owner may use it again at once. A record that does not fit
 * (an unknown tag, another thread, another kind of operation, more bytes than were lent, a port that is none) never has
 * an effect; the caller ends the session. What is indicated in which order: result, status, event, routine or packet.
 *
 * Rejected: forgiving what can be explained (a doubled record, a late one): the next forged record would be believed.
 */

#include "client/c/completion.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/apc.h"
#include "client/c/association.h"
#include "client/c/conduit.h"
#include "client/c/event.h"
#include "client/c/lookup.h"
#include "client/c/payload.h"
#include "client/c/port.h"
#include "client/c/routine.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/vector.h"
#include "client/c/wait.h"
#include "proto/address.h"

#define COMPLETION_ERRNO_MAX 4095

/* What the flags of a record say of the result. The others are about the record itself. */
#define COMPLETION_FLAGS                                                                                               \
        (OVL_RECORD_TRUNCATED | OVL_RECORD_CONTROL_TRUNCATED | OVL_RECORD_PARTIAL | OVL_RECORD_INDETERMINATE)

/* How an operation ended. */
struct completion_end {
        uint64_t bytes;
        uint64_t value;
        int32_t status;
        uint16_t flags;
        uint16_t reason;
        const uint8_t *payload; /* what was received inline; borrowed */
        socklen_t from_len;     /* of the sender's address; 0: there is none */
        struct ovl_port *port;  /* borrowed: where the packet goes; NULL: to no port */
        uint64_t key;
};

static void completion_store(struct ovl_overlapped *overlapped, int32_t status) {
        /* Pairs with the acquire load of ovl_result(). */
        __atomic_store_n(&overlapped->status, status, __ATOMIC_RELEASE);
}

static void completion_fill_packet(struct completion_packet *packet, struct ovl_overlapped *overlapped,
                                   const struct completion_end *end) {
        *packet = (struct completion_packet){
                .packet = {
                        .key = end->key,
                        .overlapped = overlapped,
                        .bytes = end->bytes,
                        .status = end->status,
                },
        };
}

/*
 * Whether the call itself tells the end, and the program wants no packet then. The call waits for its verdict under the
 * same lock: it returns 0 if and only if the record is taken in as long as it waits.
 */
static bool completion_skips_packet(const struct ovl_session *session, const struct pending *op,
                                    const struct completion_end *end) {
        const struct association *association;

        if (!op->wants_verdict || end->status != 0)
                return false;
        association = association_find(&session->associations, op->socket);
        return association && association->skips_done;
}

/* Tells whoever is concerned that an operation ended which is indicated by its status alone. */
static void completion_wake(struct ovl_session *session, const struct pending *op, const struct ovl_thread *by) {
        if (op->is_waited)
                wait_signal_ended(session, op->overlapped, by);
        if (!op->thread)
                return;
        op->thread->has_news = true;
        wait_signal(op->thread, by);
}

static void completion_indicate(struct ovl_session *session, const struct pending *op, const struct completion_end *end,
                                struct ovl_thread *by) {
        struct ovl_overlapped *overlapped = op->overlapped;
        struct completion_private *private = completion_private(overlapped);
        bool has_routine = op->indication == OVL_INDICATE_ROUTINE && op->thread && !op->thread->is_closing;
        struct ovl_port *port = end->port && !end->port->is_closed ? end->port : NULL;

        if (port && completion_skips_packet(session, op, end))
                port = NULL;
        overlapped->bytes = end->bytes;
        overlapped->value = end->value;
        overlapped->flags = end->flags & COMPLETION_FLAGS;
        overlapped->reason = end->reason;
        private->state = has_routine || port ? COMPLETION_QUEUED : COMPLETION_IDLE;
        if (port)
                completion_fill_packet(&private->packet, overlapped, end);
        completion_store(overlapped, end->status);
        if (op->event)
                event_set(op->event, by);
        if (has_routine)
                routine_push(op->thread, &private->routine.item, by);
        else if (port)
                port_push(port, &private->packet);
        completion_wake(session, op, by);
}

/* The socket that an accept made goes about synchronous calls as its listener does. */
static void completion_inherit(struct ovl_session *session, struct pending *pending, const struct completion_end *end) {
        if (!pending->heir || end->status != 0)
                return;
        pending->heir->socket = end->value;
        pending->heir->manner = association_manner(&session->associations, pending->socket);
        association_add(&session->associations, take_ptr(pending->heir));
}

static void completion_end(struct ovl_session *session, struct pending *pending, const struct completion_end *end,
                           struct ovl_thread *by) {
        const struct pending op = *pending;

        if (op.is_lent) {
                payload_scatter(session, &op, end->payload, end->bytes);
                if (payload_return(session, &op))
                        wait_signal_all(session, by);
        }
        if (op.vector)
                vector_release(op.vector, op.vector_slot);
        if (op.lookup)
                lookup_release(op.lookup);
        completion_inherit(session, pending, end);
        pending_remove(&session->pending, pending);
        if (op.wants_verdict && (end->flags & OVL_RECORD_REFUSED)) {
                if (op.event)
                        event_end(op.event, &op);
                op.thread->verdict = THREAD_VERDICT_REFUSED;
                op.thread->verdict_status = end->status;
                op.thread->verdict_reason = end->reason;
                completion_private(op.overlapped)->state = COMPLETION_IDLE;
                completion_store(op.overlapped, end->status);
                completion_wake(session, &op, by);
                return;
        }
        if (op.wants_verdict)
                op.thread->verdict = THREAD_VERDICT_DONE;
        if (op.from)
                *op.from_len = end->from_len;
        completion_indicate(session, &op, end, by);
        if (op.event)
                event_end(op.event, &op);
}

/* The port that gets the packet of an operation whose record does not say so. */
static void completion_find_port(const struct ovl_session *session, const struct pending *pending,
                                 struct completion_end *end) {
        struct association *association;

        if (pending->indication != OVL_INDICATE_PLAIN)
                return;
        association = association_find(&session->associations, pending->socket);
        if (!association)
                return;
        end->port = association->port;
        end->key = association->key;
}

/* Whether the record brings what was asked for beside the bytes: of a datagram that was cut, too. */
static bool completion_has_aux(const struct pending *pending, const struct ovl_record *record) {
        return pending->aux_len > 0 &&
               (record->status == 0 || (record->flags & (OVL_RECORD_TRUNCATED | OVL_RECORD_CONTROL_TRUNCATED)));
}

/* How much must have come with the record. */
static uint64_t completion_payload_len(const struct pending *pending, const struct ovl_record *record) {
        if (!pending->is_inline || (record->flags & OVL_RECORD_REFUSED))
                return 0;
        if (pending->lookup)
                return record->bytes;
        if (!pending->is_lent)
                return 0;
        return record->bytes + (completion_has_aux(pending, record) ? pending->aux_len : 0);
}

/* Returns NULL, or what is wrong with the record. */
static const char *completion_check(const struct conduit *conduit, const struct ovl_record *record,
                                    const struct pending *pending) {
        bool to_port = record->flags & OVL_RECORD_PORT;

        if (!pending)
                return "a record for an operation that is not in flight";
        if (record->thread != pending->thread_number)
                return "a record with a thread that did not post the operation";
        if (record->op != pending->op || record->indication != pending->indication)
                return "a record for another kind of operation";
        if (record->status > 0 || record->status < -COMPLETION_ERRNO_MAX || record->status == -EINPROGRESS)
                return "a record with a status that is none";
        if (record->status == 0 && (record->flags & OVL_RECORD_REFUSED))
                return "a record of a refusal without an error";
        if ((record->flags & OVL_RECORD_REFUSED) &&
            (record->bytes > 0 || (record->flags & (OVL_RECORD_TRUNCATED | OVL_RECORD_CONTROL_TRUNCATED))))
                return "a record of a refusal that moved bytes";
        if (record->bytes > pending->bytes_max)
                return "a record of more bytes than were lent";
        if (record->payload_len != completion_payload_len(pending, record))
                return "a record whose payload is not what was received inline";
        if (record->reserved != 0)
                return "a record with a reserved field that is not zero";
        /* The first channel also brings what was under way to a port that was closed meanwhile. */
        if (to_port != !!conduit->port && !(to_port && conduit == conduit->session->first))
                return "a record in the wrong channel";
        if (to_port && record->indication != OVL_INDICATE_PLAIN)
                return "a packet for an operation that asked for none";
        if (!to_port && conduit->number != record->thread && conduit != conduit->session->first)
                return "a record in another thread's channel";
        return NULL;
}

/* An address of family 0 is none. Returns whether it is one, or none. */
static bool completion_tell_address(const struct ovl_address *address, struct sockaddr_storage *ret_kernel,
                                    socklen_t *ret_len) {
        if (address->family != OVL_FAMILY_NONE)
                return address_to_kernel(address, ret_kernel, ret_len) == 0;
        *ret_len = 0;
        return true;
}

/*
 * Tells the caller all that a datagram has beside its bytes; its items may be anything, and are its reader's to check.
 * Returns NULL, or what is wrong with it.
 */
static const char *completion_tell_message(const struct pending *pending, const struct ovl_record *record,
                                           const struct ovl_message *message) {
        struct ovl_received *received = pending->received;

        if (message->control_len > pending->aux_len - sizeof(*message) || message->reserved != 0)
                return "a record of a message whose header is malformed";
        if (!completion_tell_address(&message->address, &received->address, &received->address_len))
                return "a record of a message whose sender has a malformed address";
        received->flags = message->flags;
        received->bytes = record->bytes;
        received->control_len = message->control_len;
        if (message->control_len > 0)
                memcpy(pending->control, message + 1, message->control_len);
        return NULL;
}

/*
 * Tells the caller who sent the datagram, or between whom the connection is. What the daemon can write is read once,
 * then checked. Returns NULL, or what is wrong with it.
 */
static const char *completion_tell_aux(const struct pending *pending, const struct ovl_record *record,
                                       const uint8_t *payload, socklen_t *ret_len) {
        union {
                uint64_t words[VECTOR_AUX_SIZE / sizeof(uint64_t)];
                struct ovl_address names[2];
                struct ovl_message message;
        } aux = { 0 };
        struct ovl_accepted *accepted = pending->accepted;

        if (!completion_has_aux(pending, record))
                return NULL;
        if (pending->is_lent)
                memcpy(&aux, payload + record->bytes, pending->aux_len);
        else
                vector_get_aux(pending->vector, pending->vector_slot, aux.words);
        if (pending->received)
                return completion_tell_message(pending, record, &aux.message);
        if (pending->from && !completion_tell_address(&aux.names[0], pending->from, ret_len))
                return "a record of a datagram whose sender has a malformed address";
        if (accepted && (!completion_tell_address(&aux.names[0], &accepted->local, &accepted->local_len) ||
                         !completion_tell_address(&aux.names[1], &accepted->remote, &accepted->remote_len)))
                return "a record of a connection with a malformed address";
        return NULL;
}

/* Tells the caller of a question what was found. Returns NULL, or what is wrong with it. */
static const char *completion_tell_answer(const struct pending *pending, struct completion_end *end) {
        int n;

        if (!pending->lookup)
                return NULL;
        if (end->status == 0 && end->payload)
                lookup_fill(pending->lookup, end->payload, end->bytes);
        n = lookup_collect(pending->lookup, end->status == 0 ? end->bytes : 0, &end->bytes);
        if (n < 0)
                return "a record of an answer that is malformed";
        if (pending->op == OVL_OP_RESOLVE && (end->value > OVL_RESOLVE_ADDRESSES_MAX || (uint64_t) n > end->value))
                return "a record of a name with malformed addresses";
        return NULL;
}

static const char *completion_take_end(struct conduit *conduit, const struct ovl_record *record, const uint8_t *payload,
                                       struct ovl_thread *by) {
        struct ovl_session *session = conduit->session;
        struct pending *pending = pending_find(&session->pending, record->tag);
        struct completion_end end = {
                .bytes = record->bytes,
                .value = record->value,
                .status = record->status,
                .flags = record->flags,
                .reason = record->reason,
                .payload = pending && pending->is_inline ? payload : NULL,
        };
        const char *problem;

        problem = completion_check(conduit, record, pending);
        if (!problem)
                problem = completion_tell_aux(pending, record, payload, &end.from_len);
        if (!problem)
                problem = completion_tell_answer(pending, &end);
        if (problem)
                return problem;
        if (record->flags & OVL_RECORD_PORT) {
                end.port = conduit->port; /* none on the first channel */
                end.key = record->key;
        } else if (record->flags & OVL_RECORD_REFUSED) {
                completion_find_port(session, pending, &end);
        }
        completion_end(session, pending, &end, by);
        return NULL;
}

static const char *completion_take_settled(struct conduit *conduit, const struct ovl_record *record,
                                           struct ovl_thread *by) {
        if (conduit->port || record->value < conduit->n_settled || record->value > conduit->n_posted)
                return "a count of settled entries that cannot be";
        conduit->n_settled = record->value;
        if (conduit->thread)
                wait_signal(conduit->thread, by);
        return NULL;
}

int completion_take(struct conduit *conduit, const struct ovl_record *record, const uint8_t *payload,
                    struct ovl_thread *by, const char **ret_problem) {
        const char *problem;

        /* What a later version adds is not for this one. */
        if (record->kind > OVL_RECORD_WAITING)
                return 0;
        switch (record->kind) {
        case OVL_RECORD_COMPLETION:
                problem = completion_take_end(conduit, record, payload, by);
                break;
        case OVL_RECORD_SETTLED:
                problem = completion_take_settled(conduit, record, by);
                break;
        case OVL_RECORD_APC:
                problem = apc_take(conduit, record, by);
                break;
        case OVL_RECORD_WAITING:
                /* The bell: it has done its work by making the connection readable. */
                problem = conduit->lane ? NULL : "a bell, and there is no lane";
                break;
        default:
                problem = "a kind of record that was not asked for";
                break;
        }
        if (!problem)
                return 0;
        *ret_problem = problem;
        return -EPROTO;
}

void completion_abort_all(struct ovl_session *session, struct ovl_thread *by) {
        struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(&session->pending, &index))) {
                struct completion_end end = {
                        .status = -ECONNABORTED,
                        .flags = OVL_RECORD_INDETERMINATE,
                        .reason = OVL_REASON_DAEMON_GONE,
                };

                completion_find_port(session, pending, &end);
                completion_end(session, pending, &end, by);
        }
}
