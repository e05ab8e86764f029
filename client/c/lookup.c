/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A name that is resolved needs a place in shared memory for itself and for the addresses, which nobody else uses until
 * the record has come. The places lie in regions of the library's own that no caller's buffer can lie in; most programs
 * never have more than one such region.
 *
 * Invariant: a place is in the list of free ones, or belongs to one operation in flight. What the daemon wrote is
 * copied out once, and the copy is checked.
 */

#include "client/c/lookup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/error.h"
#include "client/c/region.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "proto/address.h"
#include "proto/shm.h"

#define LOOKUP_ADDRESSES_SIZE (OVL_RESOLVE_ADDRESSES_MAX * sizeof(struct ovl_address))
#define LOOKUP_PLACE_SIZE 8192u
#define LOOKUP_PLACES 8u /* of one arena */

_Static_assert(LOOKUP_ADDRESSES_SIZE + OVL_RESOLVE_NAME_MAX <= LOOKUP_PLACE_SIZE, "a place holds addresses and a name");

struct lookup_arena {
        struct list link;          /* in session->lookup_arenas */
        struct ovl_region *region; /* owned; in no list: no caller's buffer lies in it */
        struct lookup lookups[LOOKUP_PLACES];
};

static struct lookup_arena *lookup_arena_free(struct lookup_arena *arena) {
        if (!arena)
                return NULL;
        region_free(arena->region);
        free(arena);
        return NULL;
}
DEFINE_CLEANUP(struct lookup_arena *, lookup_arena_free)

static int lookup_grow(struct ovl_thread *thread, const char *call) {
        _cleanup_(lookup_arena_free) struct lookup_arena *arena = calloc(1, sizeof(*arena));
        struct ovl_session *session = thread->session;
        int r;

        if (!arena)
                return error_set(&thread->error, -ENOMEM, 0, "%s: no memory", call);
        list_init(&arena->link);
        r = region_open(thread, (size_t) LOOKUP_PLACES * LOOKUP_PLACE_SIZE, call, &arena->region);
        if (r < 0)
                return r;
        session_lock(session);
        for (size_t i = 0; i < LOOKUP_PLACES; i++) {
                struct lookup *lookup = &arena->lookups[i];

                lookup->session = session;
                lookup->arena = arena;
                lookup->offset = i * LOOKUP_PLACE_SIZE;
                lookup->place = arena->region->data + lookup->offset;
                list_push_back(&session->lookups, &lookup->link);
        }
        list_push_back(&session->lookup_arenas, &arena->link);
        session_unlock(session);
        arena = NULL;
        return 0;
}

int lookup_take(struct ovl_thread *thread, const char *call, struct lookup **ret_lookup) {
        struct list *link;
        int r;

        for (;;) {
                session_lock(thread->session);
                link = list_pop_front(&thread->session->lookups);
                session_unlock(thread->session);
                if (link)
                        break;
                r = lookup_grow(thread, call);
                if (r < 0)
                        return r;
        }
        *ret_lookup = list_entry(link, struct lookup, link);
        return 0;
}

void lookup_prepare(struct lookup *lookup, const char *name, size_t name_len, struct sockaddr_storage *addresses,
                    size_t n_addresses, struct ovl_entry *entry) {
        lookup->addresses = addresses;
        lookup->n_addresses = n_addresses;
        lookup->name_len = name_len;
        memcpy(lookup->place + LOOKUP_ADDRESSES_SIZE, name, name_len);
        entry->aux = (struct ovl_slice){
                .offset = lookup->offset,
                .len = (uint32_t) (n_addresses * sizeof(struct ovl_address)),
                .region = lookup->arena->region->number,
        };
        entry->buffer = (struct ovl_slice){
                .offset = lookup->offset + LOOKUP_ADDRESSES_SIZE,
                .len = (uint32_t) name_len,
                .region = lookup->arena->region->number,
        };
}

void lookup_make_inline(struct lookup *lookup, struct ovl_entry *entry, struct ovl_buffer *ret_name) {
        *ret_name = (struct ovl_buffer){ lookup->place + LOOKUP_ADDRESSES_SIZE, lookup->name_len };
        entry->buffer = (struct ovl_slice){ .len = (uint32_t) lookup->name_len };
        entry->aux = (struct ovl_slice){ .len = entry->aux.len };
}

void lookup_fill(struct lookup *lookup, const uint8_t *payload, uint64_t len) {
        memcpy(lookup->place, payload, len);
}

int lookup_collect(struct lookup *lookup, uint64_t bytes) {
        struct ovl_address addresses[OVL_RESOLVE_ADDRESSES_MAX];
        size_t n = bytes / sizeof(addresses[0]);

        if (bytes % sizeof(addresses[0]) != 0 || n > lookup->n_addresses)
                return -EPROTO;
        for (size_t i = 0; i < n; i++) {
                uint64_t words[sizeof(addresses[0]) / sizeof(uint64_t) + 2];
                size_t at = i * sizeof(addresses[0]), before = at % sizeof(words[0]);

                shm_copy(words, lookup->place + at - before, sizeof(words));
                memcpy(&addresses[i], (const uint8_t *) words + before, sizeof(addresses[0]));
        }
        for (size_t i = 0; i < n; i++) {
                socklen_t len;

                if (address_to_kernel(&addresses[i], &lookup->addresses[i], &len) < 0)
                        return -EPROTO;
        }
        return (int) n;
}

void lookup_release(struct lookup *lookup) {
        list_push_front(&lookup->session->lookups, &lookup->link);
}

void lookup_free_all(struct ovl_session *session) {
        struct list *link;

        while ((link = list_pop_front(&session->lookup_arenas)))
                lookup_arena_free(list_entry(link, struct lookup_arena, link));
}
