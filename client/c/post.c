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

#include <assert.h>
#include <errno.h>
#include <poll.h>
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
#include "client/c/lane.h"
#include "client/c/lookup.h"
#include "client/c/payload.h"
#include "client/c/pending.h"
#include "client/c/region.h"
#include "client/c/session.h"
#include "client/c/socket.h"
#include "client/c/thread.h"
#include "client/c/transmit.h"
#include "client/c/vector.h"
#include "client/c/wait.h"
#include "proto/frame.h"
#include "proto/reason.h"
#include "proto/text.h"

#define POST_LEN_MAX 129024u               /* bytes of one frame: 126 KiB */
#define POST_SPIN_NS (20 * UINT64_C(1000)) /* a daemon that is awake answers within this; a wake-up costs more */
#define POST_ROOM_NS (UINT64_C(1000) * 1000)
#define POST_FLAGS (OVL_WANT_VERDICT | OVL_QUIET)
#define POST_FLAGS_IN (OVL_PEEK | OVL_PUSH_IMMEDIATE | OVL_DONTWAIT | OVL_PARTIAL)
#define POST_FLAGS_OUT (OVL_DONTROUTE | OVL_DONTWAIT)

/* A posting call. */
struct post {
        const char *call;
        const struct ovl_buffer *buffers; /* borrowed */
        size_t n_buffers;
        unsigned flags;
        unsigned flags_known; /* those that go into the entry */
        struct ovl_overlapped *overlapped;
        void (*routine)(struct ovl_thread *thread, struct ovl_overlapped *overlapped);
        struct sockaddr_storage *from;   /* borrowed: of a receive that asks for the sender */
        socklen_t *from_len;             /* borrowed */
        struct ovl_accepted *accepted;   /* borrowed: of an accept that asks for both ends */
        struct ovl_received *received;   /* borrowed: of a receive that asks for all that a datagram has */
        const void *control;             /* borrowed: items that are sent; NULL */
        size_t aux_len;                  /* bytes of these, or that come beside those of the buffers */
        struct lookup *lookup;           /* of a question: taken once the operation is in flight */
        struct ovl_buffer question;      /* level 0: what goes along of it */
        const struct transmit *transmit; /* borrowed: of an operation that sends a file; it has no buffers then */
        bool needs_structure;            /* it is never synchronous for want of one */
        uint64_t *ret_value;             /* borrowed: of a synchronous call that gives one; NULL */
        struct ovl_entry entry;
        bool is_gathered; /* level 0: bytes go along, and the entry is appended with them */
        uint64_t len;     /* bytes of all buffers */
};

/* --- Frames ----------------------------------------------------------------------------------------------------- */

/* Bytes of the body of the frame that is being filled. */
static size_t post_body_len(const struct ovl_thread *thread) {
        size_t len =
                thread->out_len ? thread->out_len - sizeof(struct ovl_frame_header) : sizeof(struct ovl_post_header);

        return len + thread->payload_len;
}

int post_flush(struct ovl_thread *thread, const char *call) {
        struct ovl_post_header header = { .n_slots = thread->n_out_slots };
        struct lane *lane = thread->conduit->lane;
        size_t len = thread->out_len;

        if (lane && lane_announce(lane))
                conduit_ring(thread->conduit, thread);
        if (len == 0)
                return 0;
        memcpy(thread->out + sizeof(struct ovl_frame_header), &header, sizeof(header));
        if (thread->payload_len > 0)
                memcpy(thread->out + len, thread->payload, thread->payload_len);
        len += thread->payload_len;
        frame_pack_header(thread->out, OVL_FRAME_POST, (uint32_t) (len - sizeof(struct ovl_frame_header)), 0);
        thread->out_len = 0;
        thread->n_out_slots = 0;
        thread->payload_len = 0;
        return thread_send(thread, thread->out, len, -1, call);
}

static void post_append(struct ovl_thread *thread, const struct ovl_entry *entry) {
        size_t len = entry->n_slots * OVL_SLOT_SIZE;

        if (thread->conduit->lane) {
                lane_post(thread->conduit->lane, entry);
                return;
        }
        if (thread->out_len == 0)
                thread->out_len = sizeof(struct ovl_frame_header) + sizeof(struct ovl_post_header);
        memcpy(thread->out + thread->out_len, entry, len);
        thread->out_len += len;
        thread->n_out_slots += entry->n_slots;
}

/*
 * Waits for room in the lane. The daemon empties it as long as it has operations to spare, and that may need that
 * completions are taken: so they are, of all channels. It does not say when there is room, and need not be asked often.
 */
static void post_await_room(struct ovl_thread *thread) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread, .wants_all = true };

        session_lock(session);
        wait_begin(&wait);
        while (lane_room(thread->conduit->lane) < OVL_ENTRY_SLOTS_MAX && !session->is_gone)
                wait_round(&wait, now_ns() + POST_ROOM_NS);
        wait_end(&wait);
        session_unlock(session);
}

/* Makes room for an entry. */
static void post_make_room(struct ovl_thread *thread, const char *call) {
        struct lane *lane = thread->conduit->lane;

        if (lane) {
                if (lane_room(lane) >= OVL_ENTRY_SLOTS_MAX)
                        return;
                post_flush(thread, call);
                post_await_room(thread);
        } else if (post_body_len(thread) + sizeof(struct ovl_entry) > POST_LEN_MAX) {
                post_flush(thread, call);
        }
}

/* Level 0: the bytes of a send go along, in as many entries as they need. */
static void post_append_inline(struct ovl_thread *thread, const struct post *post, uint64_t len) {
        struct ovl_entry entry = post->entry;
        uint64_t at = 0;

        do {
                size_t step = len - at < OVL_INLINE_LEN_MAX ? (size_t) (len - at) : OVL_INLINE_LEN_MAX;

                if (post_body_len(thread) + entry.n_slots * OVL_SLOT_SIZE + step + post->aux_len > OVL_FRAME_POST_MAX)
                        post_flush(thread, post->call);
                entry.buffer = (struct ovl_slice){ .len = (uint32_t) step };
                entry.flags = post->entry.flags | (at + step < len ? OVL_ENTRY_MORE : 0);
                payload_gather(post->buffers, at, step, thread->payload + thread->payload_len);
                thread->payload_len += step;
                if (post->control) {
                        memcpy(thread->payload + thread->payload_len, post->control, post->aux_len);
                        thread->payload_len += post->aux_len;
                }
                post_append(thread, &entry);
                at += step;
        } while (at < len);
}

OVL_API void ovl_cork(struct ovl_thread *thread) {
        thread->n_corks++;
}

OVL_API int ovl_uncork(struct ovl_thread *thread) {
        if (thread->n_corks == 0)
                return error_set(&thread->error, -EINVAL, 0, "ovl_uncork: the thread is not corked");
        if (--thread->n_corks > 0)
                return 0;
        return post_flush(thread, "ovl_uncork");
}

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
        return r;
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

static struct manner post_manner(struct ovl_thread *thread, const struct post *post) {
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
        return error_set(&thread->error, status, post->overlapped->reason, "%s: socket 0x%llx: %s (%s)", post->call,
                         (unsigned long long) post->entry.socket, why, strerrordesc_np(-status) ?: "an unknown error");
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
static int post_block(struct ovl_thread *thread, struct post *post, const struct manner *manner) {
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

static int post_submit(struct ovl_thread *thread, struct post *post) {
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

/* --- The calls -------------------------------------------------------------------------------------------------- */

/* The same with a lookup, which is given back when the operation did not start. */
static int post_submit_lookup(struct ovl_thread *thread, struct post *post) {
        int r = post_submit(thread, post);

        if (!post->lookup)
                return r;
        session_lock(thread->session);
        lookup_release(post->lookup);
        session_unlock(thread->session);
        return r;
}

OVL_API int ovl_recv(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped,
                     void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_recv",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_IN | OVL_OOB | OVL_WAITALL,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_RECV },
        };

        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recv: no buffer: a receive that only waits for data has one of 0 bytes");
        return post_submit(thread, &post);
}

OVL_API int ovl_send(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped,
                     void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_send",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_OUT | OVL_OOB | OVL_PARTIAL,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_SEND },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_recvfrom(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                         unsigned flags, struct sockaddr_storage *from, socklen_t *from_len,
                         struct ovl_overlapped *overlapped,
                         void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_recvfrom",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_IN,
                .overlapped = overlapped,
                .routine = routine,
                .from = from,
                .from_len = from_len,
                .aux_len = from ? sizeof(struct ovl_address) : 0,
                .entry = { .socket = socket, .op = OVL_OP_RECVFROM },
        };

        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recvfrom: no buffer: one of 0 bytes takes a datagram, too");
        if (!from != !from_len)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recvfrom: room for an address without room for its length, or the other way "
                                 "round: give both or neither");
        return post_submit(thread, &post);
}

OVL_API int ovl_transmit_file(struct ovl_thread *thread, uint64_t socket, uint64_t file, uint64_t offset, uint64_t len,
                              const struct ovl_buffer *head, const struct ovl_buffer *tail, unsigned flags,
                              struct ovl_overlapped *overlapped,
                              void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        const struct ovl_part parts[] = {
                { .data = head ? head->data : NULL, .len = head ? head->len : 0 },
                { .data = tail ? tail->data : NULL, .len = tail ? tail->len : 0 },
        };
        const struct transmit transmit = {
                .parts = parts,
                .n_parts = tail ? 2 : head != NULL,
                .has_range = true,
                .len = len,
        };
        struct post post = {
                .call = "ovl_transmit_file",
                .flags = flags,
                .flags_known = OVL_DISCONNECT | OVL_REUSE,
                .overlapped = overlapped,
                .routine = routine,
                .transmit = &transmit,
                .entry = { .socket = socket,
                           .op = OVL_OP_TRANSMIT_FILE,
                           .other = file,
                           .aux = { .offset = offset, .len = (uint32_t) len } },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_transmit_packets(struct ovl_thread *thread, uint64_t socket, uint64_t file,
                                 const struct ovl_part *parts, size_t n, unsigned flags,
                                 struct ovl_overlapped *overlapped,
                                 void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        const struct transmit transmit = { .parts = parts, .n_parts = n };
        struct post post = {
                .call = "ovl_transmit_packets",
                .flags = flags,
                .flags_known = OVL_DISCONNECT | OVL_REUSE,
                .overlapped = overlapped,
                .routine = routine,
                .transmit = &transmit,
                .entry = { .socket = socket, .op = OVL_OP_TRANSMIT_PACKETS, .other = file },
        };

        return post_submit(thread, &post);
}

/* Puts the address into the entry of an operation that has one. */
static int post_address(struct ovl_thread *thread, struct post *post, const struct sockaddr *address, socklen_t len,
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

OVL_API int ovl_sendto(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                       unsigned flags, const struct sockaddr *address, socklen_t len, struct ovl_overlapped *overlapped,
                       void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_sendto",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_OUT,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_SENDTO },
        };
        int r;

        r = post_address(thread, &post, address, len, "send to");
        return r < 0 ? r : post_submit(thread, &post);
}

static_assert((int) OVL_TRUNCATED == OVL_RECEIVED_TRUNCATED &&
                      (int) OVL_CONTROL_TRUNCATED == OVL_RECEIVED_CONTROL_TRUNCATED &&
                      (int) OVL_BROADCAST == OVL_RECEIVED_BROADCAST && (int) OVL_MULTICAST == OVL_RECEIVED_MULTICAST,
              "flags are the same on the wire");

OVL_API int ovl_recvmsg(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                        struct ovl_received *received, unsigned flags, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_recvmsg",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = OVL_PEEK,
                .overlapped = overlapped,
                .routine = routine,
                .received = received,
                .entry = { .socket = socket, .op = OVL_OP_RECVMSG },
        };

        if (!received || (!received->control && received->control_len > 0))
                return error_set(&thread->error, -EFAULT, OVL_REASON_BAD_MESSAGE, "ovl_recvmsg: no place for %s",
                                 received ? "control items" : "what the datagram has");
        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0,
                                 "ovl_recvmsg: no buffer: one of 0 bytes takes a datagram, too");
        /* There is room for all items that can come. */
        post.aux_len = sizeof(struct ovl_message) + received->control_len;
        if (post.aux_len > VECTOR_AUX_SIZE)
                post.aux_len = VECTOR_AUX_SIZE;
        return post_submit(thread, &post);
}

OVL_API int ovl_sendmsg(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                        unsigned flags, const struct sockaddr *address, socklen_t len, const void *control,
                        size_t control_len, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_sendmsg",
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = POST_FLAGS_OUT,
                .overlapped = overlapped,
                .routine = routine,
                .control = control_len > 0 ? control : NULL,
                .aux_len = control_len,
                .entry = { .socket = socket, .op = OVL_OP_SENDMSG },
        };
        int r;

        if (!control && control_len > 0)
                return error_set(&thread->error, -EFAULT, OVL_REASON_BAD_CONTROL, "ovl_sendmsg: %zu bytes at NULL",
                                 control_len);
        if (control_len > OVL_CONTROL_LEN_MAX)
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_CONTROL,
                                 "ovl_sendmsg: %zu bytes of control items, and a message has at most %u", control_len,
                                 OVL_CONTROL_LEN_MAX);
        r = address ? post_address(thread, &post, address, len, "send to") : 0;
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_connect(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                        unsigned flags, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_connect",
                .needs_structure = true,
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_CONNECT },
        };
        int r;

        r = post_address(thread, &post, address, len, "connect to");
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_connect_send(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                             const struct ovl_buffer *buffers, size_t n, unsigned flags,
                             struct ovl_overlapped *overlapped,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_connect_send",
                .needs_structure = true,
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_CONNECT },
        };
        int r;

        r = post_address(thread, &post, address, len, "connect to");
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_disconnect(struct ovl_thread *thread, uint64_t socket, unsigned flags,
                           struct ovl_overlapped *overlapped,
                           void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_disconnect",
                .flags = flags,
                .flags_known = OVL_REUSE,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_DISCONNECT },
        };

        return post_submit(thread, &post);
}

static_assert(OVL_REUSE == (int) OVL_TRANSMIT_REUSE && OVL_DISCONNECT == (int) OVL_TRANSMIT_DISCONNECT,
              "flags are the same on the wire");

OVL_API int ovl_connect_sync(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address,
                             socklen_t len) {
        struct post post = {
                .call = "ovl_connect_sync",
                .entry = { .socket = socket, .op = OVL_OP_CONNECT },
        };
        struct manner manner;
        int r;

        r = post_address(thread, &post, address, len, "connect to");
        if (r < 0)
                return r;
        manner = post_manner(thread, &post);
        if (manner.is_nonblocking)
                return error_set(
                        &thread->error, -EOPNOTSUPP, 0,
                        "ovl_connect_sync: the socket is in non-blocking mode, and a connect that is cancelled "
                        "is none: ovl_connect() does not block");
        return post_block(thread, &post, &manner);
}

static_assert(POLLIN == OVL_POLL_IN && POLLPRI == OVL_POLL_PRIORITY && POLLOUT == OVL_POLL_OUT &&
                      POLLERR == OVL_POLL_ERROR && POLLHUP == OVL_POLL_HUP,
              "events are the same on the wire");

OVL_API int ovl_poll(struct ovl_thread *thread, uint64_t socket, unsigned events, unsigned flags,
                     struct ovl_overlapped *overlapped, void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_poll",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_POLL, .other = events },
        };

        if (events & ~(unsigned) (POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP))
                return error_set(&thread->error, -EINVAL, OVL_REASON_UNKNOWN_FLAGS,
                                 "ovl_poll: 0x%x are no events that can be waited for: POLLIN, POLLPRI and POLLOUT are",
                                 events & ~(unsigned) (POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP));
        return post_submit(thread, &post);
}

OVL_API int ovl_accept(struct ovl_thread *thread, uint64_t listener, unsigned flags, struct ovl_overlapped *overlapped,
                       void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_accept",
                .needs_structure = true,
                .flags = flags,
                .flags_known = OVL_DONTWAIT,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = listener, .op = OVL_OP_ACCEPT },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_accept_sync(struct ovl_thread *thread, uint64_t listener, uint64_t *ret_socket) {
        struct post post = {
                .call = "ovl_accept_sync",
                .ret_value = ret_socket,
                .entry = { .socket = listener, .op = OVL_OP_ACCEPT },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_accept_into(struct ovl_thread *thread, uint64_t listener, uint64_t prepared,
                            const struct ovl_buffer *buffers, size_t n, struct ovl_accepted *accepted, unsigned flags,
                            struct ovl_overlapped *overlapped,
                            void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_accept_into",
                .needs_structure = true,
                .buffers = buffers,
                .n_buffers = n,
                .flags = flags,
                .flags_known = OVL_DONTWAIT,
                .overlapped = overlapped,
                .routine = routine,
                .accepted = accepted,
                .aux_len = accepted ? 2 * sizeof(struct ovl_address) : 0,
                .entry = { .socket = listener, .op = OVL_OP_ACCEPT, .other = prepared },
        };

        return post_submit(thread, &post);
}

static int post_check_resolve(struct ovl_thread *thread, const char *name, int family, int type, size_t n) {
        if (!text_is_host_name(name, strlen(name)))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_NAME,
                                 "ovl_resolve: '%.64s' (%zu bytes) is no host name or address", name, strlen(name));
        if (family != AF_UNSPEC && family != AF_INET && family != AF_INET6)
                return error_set(&thread->error, -EAFNOSUPPORT, 0,
                                 "ovl_resolve: family %d is none of AF_UNSPEC, AF_INET and AF_INET6", family);
        if (type != 0 && type != SOCK_STREAM && type != SOCK_DGRAM)
                return error_set(&thread->error, -ESOCKTNOSUPPORT, 0,
                                 "ovl_resolve: type %d is none of 0, SOCK_STREAM and SOCK_DGRAM", type);
        if (n == 0)
                return error_set(&thread->error, -EINVAL, 0, "ovl_resolve: no room for an address");
        return 0;
}

OVL_API int ovl_resolve(struct ovl_thread *thread, const char *name, int family, int type, uint16_t port,
                        struct sockaddr_storage *addresses, size_t n, unsigned flags, struct ovl_overlapped *overlapped,
                        void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_resolve",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .op = OVL_OP_RESOLVE, .other = OVL_RESOLVE(family, type, port) },
        };
        int r;

        r = post_check_resolve(thread, name, family, type, n);
        if (r < 0)
                return r;
        if (n > OVL_RESOLVE_ADDRESSES_MAX)
                n = OVL_RESOLVE_ADDRESSES_MAX;
        r = lookup_take(thread, post.call, LOOKUP_ADDRESSES, n, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, name, strlen(name), addresses, &post.entry);
        return post_submit_lookup(thread, &post);
}

/* --- Ioctls ----------------------------------------------------------------------------------------------------- */

static_assert((int) OVL_ADDRESS_LIST_CHANGE == OVL_IOCTL_ADDRESS_LIST_CHANGE &&
                      (int) OVL_BYTES_TO_READ == OVL_IOCTL_BYTES_TO_READ && (int) OVL_AT_MARK == OVL_IOCTL_AT_MARK &&
                      (int) OVL_FLUSH == OVL_IOCTL_FLUSH,
              "codes are the same on the wire");

OVL_API int ovl_ioctl(struct ovl_thread *thread, uint64_t socket, uint32_t code, unsigned flags,
                      struct ovl_overlapped *overlapped,
                      void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_ioctl",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = code },
        };

        return post_submit(thread, &post);
}

OVL_API int ovl_keep_alive(struct ovl_thread *thread, uint64_t socket, int on, uint32_t idle_ms, uint32_t interval_ms,
                           unsigned flags, struct ovl_overlapped *overlapped,
                           void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        const struct ovl_keep_alive values = { .is_on = on != 0, .idle_ms = idle_ms, .interval_ms = interval_ms };
        struct post post = {
                .call = "ovl_keep_alive",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_KEEP_ALIVE_VALUES },
        };
        int r;

        if (on && (idle_ms == 0 || idle_ms > OVL_KEEP_ALIVE_MS_MAX || interval_ms == 0 ||
                   interval_ms > OVL_KEEP_ALIVE_MS_MAX))
                return error_set(&thread->error, -EINVAL, OVL_REASON_BAD_INPUT,
                                 "ovl_keep_alive: %u ms of silence and %u ms between probes: each is 1 to %u", idle_ms,
                                 interval_ms, OVL_KEEP_ALIVE_MS_MAX);
        r = lookup_take(thread, post.call, LOOKUP_NOTHING, 0, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, &values, sizeof(values), NULL, &post.entry);
        return post_submit_lookup(thread, &post);
}

OVL_API int ovl_route_change(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                             unsigned flags, struct ovl_overlapped *overlapped,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_route_change",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_ROUTING_INTERFACE_CHANGE },
        };
        int r;

        r = post_address(thread, &post, address, len, "watch the route to");
        return r < 0 ? r : post_submit(thread, &post);
}

OVL_API int ovl_route_query(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                            struct sockaddr_storage *source, unsigned flags, struct ovl_overlapped *overlapped,
                            void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_route_query",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_ROUTING_INTERFACE_QUERY },
        };
        int r;

        if (!source)
                return error_set(&thread->error, -EFAULT, OVL_REASON_OUTPUT_TOO_SMALL,
                                 "ovl_route_query: no room for the address");
        r = post_address(thread, &post, address, len, "find the route to");
        if (r == 0)
                r = lookup_take(thread, post.call, LOOKUP_ADDRESSES, 1, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, NULL, 0, source, &post.entry);
        return post_submit_lookup(thread, &post);
}

static_assert((int) OVL_INTERFACE_IS_UP == OVL_INTERFACE_UP &&
                      (int) OVL_INTERFACE_HAS_BROADCAST == OVL_INTERFACE_BROADCAST &&
                      (int) OVL_INTERFACE_IS_LOOPBACK == OVL_INTERFACE_LOOPBACK &&
                      (int) OVL_INTERFACE_IS_POINT_TO_POINT == OVL_INTERFACE_POINT_TO_POINT &&
                      (int) OVL_INTERFACE_HAS_MULTICAST == OVL_INTERFACE_MULTICAST,
              "flags are the same on the wire");

OVL_API int ovl_interface_list(struct ovl_thread *thread, uint64_t socket, struct ovl_interface_info *interfaces,
                               size_t n, unsigned flags, struct ovl_overlapped *overlapped,
                               void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct post post = {
                .call = "ovl_interface_list",
                .flags = flags,
                .overlapped = overlapped,
                .routine = routine,
                .entry = { .socket = socket, .op = OVL_OP_IOCTL, .other = OVL_IOCTL_INTERFACE_LIST },
        };
        int r;

        if (!interfaces || n == 0)
                return error_set(&thread->error, -EFAULT, OVL_REASON_OUTPUT_TOO_SMALL,
                                 "ovl_interface_list: no room for an interface");
        if (n > OVL_INTERFACES_MAX)
                n = OVL_INTERFACES_MAX;
        r = lookup_take(thread, post.call, LOOKUP_INTERFACES, n, &post.lookup);
        if (r < 0)
                return r;
        lookup_prepare(post.lookup, NULL, 0, interfaces, &post.entry);
        return post_submit_lookup(thread, &post);
}
