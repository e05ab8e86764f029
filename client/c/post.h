/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_POST_H
#define CLIENT_POST_H

/* Posting: from a call to an entry on its way. */

#include "client/c/overlap.h"

/* Sends the posts that were gathered. Returns 0, or -ECONNABORTED and the thread's error. By the thread's owner. */
int post_flush(struct ovl_thread *thread, const char *call);

#endif
