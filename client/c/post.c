/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Posting. A call becomes an entry: its buffers become slices of regions, its overlapped structure becomes a tag, and
 * the entry goes into a POST frame, which leaves at once or, under a cork, with others.
 *
 *   called -> refused     something is wrong that the library can see: the call's error, nothing was sent
 *   called -> in flight   the entry is in the frame, and the operation in the session's table
 *   in flight -> refused, done or pending
 *                         only when the caller asked for the verdict: the daemon counts the entries of this channel
 *                         that it has settled, and sends the count behind the records of these entries
 *
 * Invariants: what was captured is captured before the call returns; the entry is never larger than its frame; an entry
 * that is in the table is sent, or the session is gone and the table was emptied with one indication each. So a frame
 * that cannot be sent is no error of the call: the operation has then ended, and was indicated, like all others.
 *
 * Rejected: waiting for every verdict (a round trip for each post), and a queue of entries behind the frame (the socket
 * is the queue; a full one is waited for, and records are taken in meanwhile).
 */

#include "client/c/post.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/c/association.h"
#include "client/c/blocking.h"
#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/event.h"
#include "client/c/lookup.h"
#include "client/c/payload.h"
#include "client/c/pending.h"
#include "client/c/post-frame.h"
#include "client/c/region.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/socket.h"
#include "client/c/thread.h"
#include "client/c/transmit.h"
#include "client/c/vector.h"
#include "client/c/wait.h"
#include "proto/reason.h"

#define POST_SPIN_NS (20 * UINT64_C(1000)) /* a daemon that is awake answers within this; a wake-up costs more */
#define POST_FLAGS (OVL_WANT_VERDICT | OVL_QUIET)

/* --- Checks ----------------------------------------------------------------------------------------------------- */

static int post_check(struct ovl_thread *thread, const struct post *post) {
        uint64_t len = 0;

        if (post->flags & ~(POST_FLAGS | post->flags_known))
                return error_set(&thread->error, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, "%s: unknown flags 0x%x",
                                 post->call, post->flags & ~(POST_FLAGS | post->flags_known));
        if (post->n_buffers > OVL_SLICES_MAX)
                return error_set(&thread->error, -EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS,
                                 "%s: %zu buffers, and an operation takes at most %u: join some", post->call,
                                 post->n_buffers, OVL_SLICES_MAX);
        for (size_t i = 0; i < post->n_buffers; i++) {
                len += post->buffers[i].len < OVL_SLICE_LEN_MAX ? post->buffers[i].len : OVL_SLICE_LEN_MAX + 1;
                if (len > OVL_SLICE_LEN_MAX)
                        return error_set(&thread->error, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG,
                                         "%s: more than 1 GiB (buffer %zu alone: %zu bytes): split the operation",
                                         post->call, i, post->buffers[i].len);
        }
        return post->transmit ? transmit_check(thread, post->transmit, post->call) : 0;
}

/* What only the shared state can tell. Under the lock. */
static int post_check_state(struct ovl_thread *thread, const struct post *post) {
        struct ovl_session *session = thread->session;
        const struct completion_private *private = completion_private(post->overlapped);
        const struct association *association;
        const struct pending *pending;

        if (session->is_gone)
                return session_gone(session, &thread->error, post->call);
        pending = private->state == COMPLETION_IN_FLIGHT ? pending_find(&session->pending, private->tag) : NULL;
        if ((pending && pending->overlapped == post->overlapped) || private->state == COMPLETION_QUEUED)
                return error_set(&thread->error, -EBUSY, 0,
                                 "%s: the overlapped structure belongs to an operation that was not yet indicated",
                                 post->call);
        if (!post->routine && post->overlapped->event && post->overlapped->event->session != session)
                return error_set(&thread->error, -EINVAL, 0,
                                 "%s: the event of the overlapped structure belongs to another session: an operation "
                                 "takes one of its own",
                                 post->call);
        if (!post->routine)
                return 0;
        association = association_find(&session->associations, post->entry.socket);
        if (!association || !association->port)
                return 0;
        return error_set(&thread->error, -EINVAL, OVL_REASON_ROUTINE_ON_PORT, "%s: %s", post->call,
                         reason_text(OVL_REASON_ROUTINE_ON_PORT));
}

/* --- Entries ---------------------------------------------------------------------------------------------------- */

/* Gives the slices of all buffers that are not empty. Under the lock. */
static int post_slice(struct ovl_thread *thread, const struct post *post, struct ovl_slice *slices, size_t *ret_n,
                      uint64_t *ret_len) {
        uint64_t len = 0;
        size_t n = 0;
        int r;

        for (size_t i = 0; i < post->n_buffers; i++) {
                const struct ovl_buffer *buffer = &post->buffers[i];

                if (buffer->len == 0)
                        continue;
                r = region_find_slice(thread->session, buffer, &slices[n++]);
                if (r < 0)
                        return error_set(&thread->error, r, OVL_REASON_OUTSIDE_REGION,
                                         "%s: buffer %zu (%zu bytes at %p) lies in no region of the session: take "
                                         "buffers from ovl_region_data()",
                                         post->call, i, buffer->len, buffer->data);
                len += buffer->len;
        }
        *ret_n = n;
        *ret_len = len;
        return 0;
}

/* A socket that is accepted inherits how synchronous calls go on its listener. Under the lock. */
static int post_prepare_heir(struct ovl_thread *thread, const struct post *post, struct association **ret_heir) {
        struct manner manner = association_manner(&thread->session->associations, post->entry.socket);

        if (post->entry.op != OVL_OP_ACCEPT || post->entry.other != 0 || manner_is_plain(&manner))
                return 0;
        *ret_heir = association_new(0);
        if (!*ret_heir)
                return error_set(&thread->error, -ENOMEM, 0, "%s: no memory", post->call);
        return 0;
}

/* Fills in what is in flight. Under the lock. */
static void post_start(struct ovl_thread *thread, struct post *post, struct pending *pending) {
        struct completion_private *private = completion_private(post->overlapped);
        struct ovl_entry *entry = &post->entry;

        entry->tag = pending->tag;
        pending->overlapped = post->overlapped;
        pending->thread = thread;
        pending->thread_number = thread->number;
        pending->socket = entry->socket;
        pending->op = entry->op;
        pending->indication = entry->indication;
        /* With a routine the event is the program's own affair. */
        pending->event = post->routine ? NULL : post->overlapped->event;
        pending->lookup = take_ptr(post->lookup);
        pending->wants_verdict = post->flags & OVL_WANT_VERDICT;
        *private = (struct completion_private){
                .routine = { .routine = post->routine, .item.socket = entry->socket },
                .tag = pending->tag,
                .state = COMPLETION_IN_FLIGHT,
        };
        __atomic_store_n(&post->overlapped->status, -EINPROGRESS, __ATOMIC_RELEASE);
        if (pending->event)
                event_start(pending->event, pending);
        thread->verdict = THREAD_VERDICT_NONE;
        thread->conduit->n_posted++;
        if (!post->is_gathered)
                post_append(thread, entry);
}

/* Level 0: remembers where the bytes belong that will come, and tells the daemon only how many. */
static void post_make_inline(struct ovl_session *session, struct post *post, struct pending *pending) {
        struct ovl_entry *entry = &post->entry;

        pending->slice = entry->buffer;
        entry->buffer = (struct ovl_slice){ 0 };
        entry->flags &= (uint8_t) ~OVL_ENTRY_VECTOR;
        pending->is_inline = true;
        if (post->lookup) {
                lookup_make_inline(post->lookup, entry, &post->question);
                entry->flags |= OVL_ENTRY_INLINE;
                post->buffers = &post->question;
                post->len = post->question.len;
                post->is_gathered = true;
        } else if (entry->op == OVL_OP_SEND || entry->op == OVL_OP_SENDTO || entry->op == OVL_OP_SENDMSG ||
                   (entry->op == OVL_OP_CONNECT && pending->bytes_max > 0)) {
                entry->flags |= OVL_ENTRY_INLINE;
                post->is_gathered = true;
        } else if (entry->op == OVL_OP_RECV || entry->op == OVL_OP_RECVFROM || entry->op == OVL_OP_RECVMSG ||
                   (entry->op == OVL_OP_ACCEPT && (pending->bytes_max > 0 || post->aux_len > 0))) {
                entry->flags |= OVL_ENTRY_INLINE;
                if (pending->bytes_max > OVL_INLINE_LEN_MAX)
                        pending->bytes_max = OVL_INLINE_LEN_MAX;
                entry->buffer.len = (uint32_t) pending->bytes_max;
                pending->is_lent = true;
                payload_lend(session, pending);
        }
}

/* What level 0 cannot do, the limits of one operation there. */
static int post_check_inline(struct ovl_thread *thread, const struct post *post, uint64_t len) {
        if (thread->session->info.level > 0)
                return 0;
        if (post->entry.op == OVL_OP_SEND && len > OVL_INLINE_OP_LEN_MAX)
                return error_set(&thread->error, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG,
                                 "%s: %llu bytes, and at the level inline a send has at most %u: split it, or use the "
                                 "level shared",
                                 post->call, (unsigned long long) len, OVL_INLINE_OP_LEN_MAX);
        if (post->entry.op == OVL_OP_CONNECT && len > OVL_INLINE_LEN_MAX)
                return error_set(
                        &thread->error, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG,
                        "%s: %llu bytes, and at the level inline a connect sends at most %u: send the rest when "
                        "it is connected",
                        post->call, (unsigned long long) len, OVL_INLINE_LEN_MAX);
        if ((post->entry.op == OVL_OP_SENDTO || post->entry.op == OVL_OP_SENDMSG) && len > OVL_INLINE_LEN_MAX)
                return error_set(&thread->error, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG,
                                 "%s: %llu bytes, and no datagram is longer than %u", post->call,
                                 (unsigned long long) len, OVL_INLINE_LEN_MAX);
        if (post->entry.op == OVL_OP_RECV && (post->flags & OVL_WAITALL) && len > OVL_INLINE_LEN_MAX)
                return error_set(&thread->error, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG,
                                 "%s: %llu bytes, and at the level inline a receive that waits for all has at most %u: "
                                 "split it, or use the level shared",
                                 post->call, (unsigned long long) len, OVL_INLINE_LEN_MAX);
        return 0;
}

static int post_describe_transmit(struct ovl_thread *thread, const struct post *post, union transmit_array *array,
                                  size_t *ret_n, uint64_t *ret_len) {
        int r;

        r = transmit_describe(thread, post->transmit, post->call, array, ret_len);
        if (r < 0)
                return r;
        *ret_n = (size_t) r;
        return 0;
}

/* Makes the operation. Returns 0, -EAGAIN when vector_grow() is due, or another -errno. Under the lock. */
static int post_make(struct ovl_thread *thread, struct post *post) {
        struct ovl_session *session = thread->session;
        _cleanup_free_ struct association *heir = NULL;
        union transmit_array array;
        struct ovl_slice *slices = array.slices;
        struct vector_arena *arena = NULL;
        struct pending *pending;
        uint32_t slot = 0;
        uint64_t len = 0;
        size_t n = 0;
        int r;

        r = post_check_state(thread, post);
        if (r < 0)
                return r;
        r = post->transmit ? post_describe_transmit(thread, post, &array, &n, &len)
                           : post_slice(thread, post, slices, &n, &len);
        if (r == 0)
                r = post_check_inline(thread, post, len);
        if (r == 0)
                r = post_prepare_heir(thread, post, &heir);
        if (r < 0)
                return r;
        post->len = len;
        /* At level 0 what is in aux goes along, and needs no place. */
        if (n > 1 || (n > 0 && post->transmit) || (post->aux_len > 0 && session->info.level > 0)) {
                r = vector_take(session, &arena, &slot);
                if (r < 0)
                        return r;
        }
        if (n == 1 && !post->transmit) {
                post->entry.buffer = slices[0];
        } else if (n > 0) {
                vector_put_slices(arena, slot, slices, n, &post->entry.buffer);
                post->entry.flags |= OVL_ENTRY_VECTOR;
        }
        if (post->aux_len > 0 && session->info.level > 0)
                vector_put_aux(arena, slot, post->control, post->aux_len, &post->entry.aux);
        else if (post->aux_len > 0)
                post->entry.aux.len = (uint32_t) post->aux_len;
        pending = pending_add(&session->pending);
        if (!pending) {
                if (arena)
                        vector_release(arena, slot);
                return error_set(&thread->error, -ENOBUFS, OVL_REASON_CREDITS,
                                 "%s: %u operations are in flight, as many as the session has credits: wait for "
                                 "completions, or ask for more credits",
                                 post->call, session->info.credits);
        }
        pending->vector = arena;
        pending->vector_slot = slot;
        pending->bytes_max = post->lookup ? post->entry.aux.len : len;
        pending->from = post->from;
        pending->from_len = post->from_len;
        pending->accepted = post->accepted;
        pending->received = post->received;
        pending->control = post->received ? post->received->control : NULL;
        pending->aux_len = post->control ? 0 : (uint32_t) post->aux_len;
        pending->is_gathered = n > 1;
        pending->heir = take_ptr(heir);
        if (session->info.level == 0)
                post_make_inline(session, post, pending);
        post_start(thread, post, pending);
        return 0;
}

/* --- Verdicts --------------------------------------------------------------------------------------------------- */

/* Whether it is known how the entry stands. Under the lock. */
static bool post_is_settled(const struct ovl_thread *thread, uint64_t ordinal) {
        return thread->verdict != THREAD_VERDICT_NONE || thread->conduit->n_settled >= ordinal ||
               thread->session->is_gone;
}

static void post_await_settled(struct ovl_thread *thread, uint64_t ordinal) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread, .has_looked = true };
        uint64_t spin_end = now_ns() + POST_SPIN_NS;

        session_lock(session);
        while (!post_is_settled(thread, ordinal) && now_ns() < spin_end) {
                session_unlock(session);
                conduit_look(thread->conduit, thread);
                session_lock(session);
        }
        wait_begin(&wait);
        while (!post_is_settled(thread, ordinal))
                wait_round(&wait, OVL_INFINITE);
        wait_end(&wait);
        session_unlock(session);
}

/* What was refused by the policy is told with its rule, for which the daemon is asked. Returns the status. */
static int post_explain_denied(struct ovl_thread *thread, const char *call, int status) {
        const struct ovl_error error = thread->error;

        if (status != -EACCES || error.reason != OVL_REASON_DENIED)
                return status;
        if (request_denied(thread, call) != -EACCES)
                thread->error = error;
        return status;
}

/* Waits for the verdict. Returns 0 (done and indicated), OVL_PENDING, or the refusal. */
static int post_await(struct ovl_thread *thread, const struct post *post, uint64_t ordinal) {
        struct ovl_session *session = thread->session;
        struct pending *pending;
        int r;

        post_await_settled(thread, ordinal);
        /* A record for a port was sent before the count, but comes another way. */
        if (post->entry.indication == OVL_INDICATE_PLAIN)
                conduit_take_in_all(session, true, thread);
        session_lock(session);
        switch (thread->verdict) {
        case THREAD_VERDICT_DONE:
                r = 0;
                break;
        case THREAD_VERDICT_REFUSED:
                r = error_set(&thread->error, thread->verdict_status, thread->verdict_reason,
                              "%s: overlapd refused it for socket 0x%llx: %s (%s)", post->call,
                              (unsigned long long) post->entry.socket, reason_text(thread->verdict_reason),
                              strerrordesc_np(-thread->verdict_status) ?: "an unknown error");
                break;
        default:
                pending = pending_find(&session->pending, post->entry.tag);
                if (pending)
                        pending->wants_verdict = false;
                r = OVL_PENDING;
                break;
        }
        session_unlock(session);
        return r < 0 ? post_explain_denied(thread, post->call, r) : r;
}

/* --- The way of a post ------------------------------------------------------------------------------------------ */

static void post_indication(struct post *post) {
        if (post->routine)
                post->entry.indication = OVL_INDICATE_ROUTINE;
        else if (post->flags & OVL_QUIET)
                post->entry.indication = OVL_INDICATE_QUIET;
        else
                post->entry.indication = OVL_INDICATE_PLAIN;
}

/* Returns 0 (done and indicated), OVL_PENDING, or the refusal. */
static int post_enter(struct ovl_thread *thread, struct post *post) {
        bool wants_verdict = post->flags & OVL_WANT_VERDICT;
        uint64_t ordinal;
        int r;

        r = post_check(thread, post);
        if (r < 0)
                return r;
        post_make_room(thread, post->call);
        post_indication(post);
        post->entry.op_flags = post->flags & post->flags_known;
        post->entry.flags = wants_verdict ? OVL_ENTRY_WANT_VERDICT : 0;
        if (post->entry.n_slots == 0)
                post->entry.n_slots = 1;
        do {
                session_lock(thread->session);
                r = post_make(thread, post);
                ordinal = thread->conduit->n_posted;
                session_unlock(thread->session);
                if (r == -EAGAIN) {
                        r = vector_grow(thread, post->call);
                        if (r < 0)
                                return r;
                        r = -EAGAIN;
                }
        } while (r == -EAGAIN);
        if (r < 0)
                return r;
        if (post->is_gathered)
                post_append_inline(thread, post, post->len);
        if (thread->n_corks == 0 || wants_verdict)
                post_flush(thread, post->call);
        return wants_verdict ? post_await(thread, post, ordinal) : OVL_PENDING;
}

/* --- Synchronous calls ------------------------------------------------------------------------------------------ */

struct manner post_manner(struct ovl_thread *thread, const struct post *post) {
        struct manner manner;

        session_lock(thread->session);
        manner = association_manner(&thread->session->associations, post->entry.socket);
        session_unlock(thread->session);
        return manner;
}

/* What a synchronous call that failed says. */
static int post_explain(struct ovl_thread *thread, const struct post *post, int status) {
        const char *why;

        if (status == -EAGAIN)
                why = "the socket is in non-blocking mode, and this cannot be done at once";
        else if (status == -ETIMEDOUT)
                why = "it was not done within the socket's timeout, and was cancelled";
        else
                why = reason_text(post->overlapped->reason);
        error_set(&thread->error, status, post->overlapped->reason, "%s: socket 0x%llx: %s (%s)", post->call,
                  (unsigned long long) post->entry.socket, why, strerrordesc_np(-status) ?: "an unknown error");
        return post_explain_denied(thread, post->call, status);
}

/* The operation has ended. What was moved before a cancel counts: it is not lost. */
static int post_outcome(struct ovl_thread *thread, const struct post *post, int cancelled_for) {
        const struct ovl_overlapped *overlapped = post->overlapped;
        int status = ovl_result(overlapped);

        if (status == -ECANCELED && overlapped->bytes > 0)
                status = 0;
        if (status == -ECANCELED && cancelled_for < 0)
                status = cancelled_for;
        if (status < 0)
                return post_explain(thread, post, status);
        if (post->ret_value)
                *post->ret_value = overlapped->value;
        if (post->entry.op == OVL_OP_POLL || post->entry.op == OVL_OP_RESOLVE || post->entry.op == OVL_OP_IOCTL)
                return (int) overlapped->value;
        return (int) overlapped->bytes;
}

/* Without a structure of the caller's the socket's mode and timeouts count, and the result is what the call returns. */
int post_block(struct ovl_thread *thread, struct post *post, const struct manner *manner) {
        bool is_anonymous = !post->overlapped;
        uint64_t timeout_ns = is_anonymous ? blocking_timeout(manner, &post->entry) : OVL_INFINITE;
        struct ovl_overlapped own = { 0 };
        int r;

        if (is_anonymous)
                post->overlapped = &own;
        post->routine = NULL;
        post->flags |= OVL_WANT_VERDICT | OVL_QUIET;
        r = post_enter(thread, post);
        if (r < 0)
                return r;
        if (r == OVL_PENDING)
                r = blocking_await(thread, post->entry.socket, post->overlapped, timeout_ns);
        if (!is_anonymous)
                return ovl_result(post->overlapped) < 0 ? post_explain(thread, post, ovl_result(post->overlapped)) : 0;
        return post_outcome(thread, post, r == -ETIMEDOUT && manner->is_nonblocking ? -EAGAIN : r);
}

int post_submit(struct ovl_thread *thread, struct post *post) {
        const uint32_t *n_non_overlapped = &thread->session->associations.n_non_overlapped;
        struct manner manner;

        if (!post->overlapped && post->needs_structure)
                return error_set(&thread->error, -EINVAL, 0,
                                 "%s: no overlapped structure: ovl_accept_sync() and ovl_connect_sync() do without",
                                 post->call);
        if (post->overlapped && __atomic_load_n(n_non_overlapped, __ATOMIC_RELAXED) == 0)
                return post_enter(thread, post);
        manner = post_manner(thread, post);
        if (post->overlapped && !manner.is_non_overlapped)
                return post_enter(thread, post);
        return post_block(thread, post, &manner);
}

/* The same with a lookup, which is given back when the operation did not start. */
int post_submit_lookup(struct ovl_thread *thread, struct post *post) {
        int r = post_submit(thread, post);

        if (!post->lookup)
                return r;
        session_lock(thread->session);
        lookup_release(post->lookup);
        session_unlock(thread->session);
        return r;
}

/* Puts the address into the entry of an operation that has one. */
int post_address(struct ovl_thread *thread, struct post *post, const struct sockaddr *address, socklen_t len,
                 const char *purpose) {
        struct ovl_entry *entry = &post->entry;
        int r;

        r = socket_pack_address(thread, address, len, post->call, purpose, &entry->address);
        if (r < 0)
                return r;
        if (entry->address.family == OVL_FAMILY_UNIX && entry->address.path_len == 0)
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_ADDRESS,
                                 "%s: a Unix address without a path or name is nobody's", post->call);
        entry->n_slots = entry->address.family == OVL_FAMILY_UNIX ? 3 : 2;
        return 0;
}
