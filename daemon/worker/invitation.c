/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sharing. The session that has a socket makes an invitation for one other session and hands the secret over by
 * whatever way the two processes have; the other one presents it once.
 *
 *   made -> accepted   the guest joins the socket
 *   made -> void       the handle that it was made from closes, or either session ends
 *
 * The secret alone is worth nothing: it is looked for among the invitations of the session that presents it. Secrets
 * are compared without telling, by the time it takes, how far they agree.
 *
 * Rejected: inviting a process (a session is what has a number and an owner), and invitations that outlive the handle
 * (a closed socket must be closed).
 */

#include "daemon/worker/invitation.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "daemon/worker/session.h"

int invitation_new(struct handle *handle, const struct session *guest, struct invitation **ret_invitation) {
        _cleanup_free_ struct invitation *invitation = NULL;
        struct session *host = handle->session;

        if (host->n_invitations >= INVITATIONS_MAX)
                return -EDQUOT;
        invitation = calloc(1, sizeof(*invitation));
        if (!invitation)
                return -ENOMEM;
        if (getrandom(invitation->secret, sizeof(invitation->secret), 0) != sizeof(invitation->secret))
                return -EIO;
        invitation->handle = handle;
        invitation->guest = guest->number;
        list_init(&invitation->link);
        list_push_back(&host->invitations, &invitation->link);
        host->n_invitations++;
        *ret_invitation = take_ptr(invitation);
        return 0;
}

struct invitation *invitation_free(struct invitation *invitation) {
        if (!invitation)
                return NULL;
        invitation->handle->session->n_invitations--;
        list_unlink(&invitation->link);
        free(invitation);
        return NULL;
}

struct invitation *invitation_find(const struct session *guest, const uint8_t *secret, size_t len) {
        if (len != INVITATION_SECRET_SIZE)
                return NULL;
        list_for_each(in_worker, &guest->resources->sessions) {
                struct session *host = list_entry(in_worker, struct session, link);

                list_for_each(link, &host->invitations) {
                        struct invitation *invitation = list_entry(link, struct invitation, link);

                        if (invitation->guest == guest->number && session_secret_is_equal(invitation->secret, secret))
                                return invitation;
                }
        }
        return NULL;
}

void invitation_revoke(const struct handle *handle) {
        list_for_each_safe(link, &handle->session->invitations) {
                struct invitation *invitation = list_entry(link, struct invitation, link);

                if (invitation->handle == handle)
                        invitation_free(invitation);
        }
}

void invitation_forget(const struct session *guest) {
        list_for_each(in_worker, &guest->resources->sessions) {
                struct session *host = list_entry(in_worker, struct session, link);

                list_for_each_safe(link, &host->invitations) {
                        struct invitation *invitation = list_entry(link, struct invitation, link);

                        if (invitation->guest == guest->number)
                                invitation_free(invitation);
                }
        }
}
