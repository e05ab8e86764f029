/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_INVITATION_H
#define DAEMON_WORKER_INVITATION_H

/* An invitation: one session lets another one join a socket, once. */

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

#define INVITATION_SECRET_SIZE 16u
#define INVITATIONS_MAX 64u /* of one session that were not accepted yet */

struct handle;
struct session;

struct invitation {
        struct list link;                       /* in the session that made it */
        struct handle *handle;                  /* borrowed: to what; the invitation goes when it closes */
        uint64_t guest;                         /* the number of the session that is invited */
        uint8_t secret[INVITATION_SECRET_SIZE]; /* what the protocol calls the ticket */
};

/* Makes an invitation. Returns 0, -EDQUOT when the session has INVITATIONS_MAX of them, -ENOMEM or -EIO. */
int invitation_new(struct handle *handle, const struct session *guest, struct invitation **ret_invitation);

/* Takes NULL. Returns NULL. */
struct invitation *invitation_free(struct invitation *invitation);

/* The invitation of this guest that has this secret, or NULL. */
struct invitation *invitation_find(const struct session *guest, const uint8_t *secret, size_t len);

/* A handle closes: what it was shared by is void. */
void invitation_revoke(const struct handle *handle);

/* A session ends: nobody will accept what others made for it. */
void invitation_forget(const struct session *guest);

#endif
