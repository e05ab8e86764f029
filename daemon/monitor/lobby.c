/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The lobby. Two kinds of honest clients come at the wrong instant: a program whose threads all connect at once, before
 * the worker has reported that the first of them are open; and one whose worker died, before the next one is ready.
 * Refusing them would be an error that only happens sometimes, the worst kind.
 *
 * Invariant: who waits is served in the order of coming as soon as it is possible, or refused after LOBBY_WAIT_MS; one
 * user can take only half of the places.
 *
 *   (none)  -> waiting  by the monitor, instead of a refusal
 *   waiting -> served   by the monitor, after any event that may have made room
 *   waiting -> refused  by the monitor's timer
 *
 * Rejected: leaving connections in the kernel's queue until there is room, where one user's crowd blocks everybody.
 */

#include "daemon/monitor/lobby.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/time.h"

void lobby_init(struct lobby *lobby) {
        *lobby = (struct lobby){ 0 };
        list_init(&lobby->guests);
}

void lobby_deinit(struct lobby *lobby) {
        if (!lobby->guests.next)
                return;
        while (!list_is_empty(&lobby->guests))
                lobby_leave(lobby, list_entry(lobby->guests.next, struct lobby_guest, link));
}

unsigned lobby_count(const struct lobby *lobby, uid_t uid) {
        unsigned n = 0;

        list_for_each(link, &lobby->guests)
                n += list_entry(link, struct lobby_guest, link)->peer.uid == uid;
        return n;
}

int lobby_enter(struct lobby *lobby, struct listener_peer *take_peer) {
        struct lobby_guest *guest;

        if (lobby->n_guests >= LOBBY_MAX || lobby_count(lobby, take_peer->uid) >= LOBBY_PER_USER)
                return -EBUSY;
        guest = malloc(sizeof(*guest));
        if (!guest)
                return -ENOMEM;
        *guest = (struct lobby_guest){ .peer = *take_peer, .deadline_ns = now_ns() + LOBBY_WAIT_MS * NS_PER_MS };
        *take_peer = (struct listener_peer){ .fd = -1 };
        list_init(&guest->link);
        list_push_back(&lobby->guests, &guest->link);
        lobby->n_guests++;
        return 0;
}

void lobby_leave(struct lobby *lobby, struct lobby_guest *guest) {
        list_unlink(&guest->link);
        lobby->n_guests--;
        listener_peer_deinit(&guest->peer);
        free(guest);
}

uint64_t lobby_deadline_ns(const struct lobby *lobby) {
        const struct list *first = list_first(&lobby->guests);

        return first ? list_entry(first, struct lobby_guest, link)->deadline_ns : 0;
}
