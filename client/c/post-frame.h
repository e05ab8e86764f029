/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_POST_FRAME_H
#define CLIENT_POST_FRAME_H

/* Entries on their way: gathered into frames, or in a lane. Everything here is called by the thread's owner. */

#include "client/c/post.h"

/* Makes room for an entry, without its payload. */
void post_make_room(struct ovl_thread *thread, const char *call);

/* Puts an entry there for which room was made. Under the session's lock, unless it is gathered. */
void post_append(struct ovl_thread *thread, const struct ovl_entry *entry);

/* Level 0: the first `len` bytes of a post go along, in as many entries as they need. */
void post_append_inline(struct ovl_thread *thread, const struct post *post, uint64_t len);

/* Sends the posts that were gathered. Returns 0, or -ECONNABORTED and the thread's error. */
int post_flush(struct ovl_thread *thread, const char *call);

#endif
