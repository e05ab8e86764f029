/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The frame of a thread's entries. It leaves with the call that filled it or, under a cork, when it is full or the last
 * cork is drawn; with a lane the entries are in memory that the daemon sees, and what leaves is the doorbell.
 *
 * Invariant: an entry and its payload are in one frame, and a frame is never longer than POST_LEN_MAX.
 */

#include "client/c/post-frame.h"

#include <errno.h>
#include <string.h>

#include "base/time.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/lane.h"
#include "client/c/payload.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"
#include "proto/frame.h"
#include "proto/layout.h"

#define POST_LEN_MAX 129024u /* bytes of one frame: 126 KiB */
#define POST_ROOM_NS (UINT64_C(1000) * 1000)

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

void post_append(struct ovl_thread *thread, const struct ovl_entry *entry) {
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
void post_make_room(struct ovl_thread *thread, const char *call) {
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
void post_append_inline(struct ovl_thread *thread, const struct post *post, uint64_t len) {
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
