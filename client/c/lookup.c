/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A question to the daemon needs a place in shared memory for itself and for the answer, which nobody else uses until
 * the record has come. The places lie in regions of the library's own that no caller's buffer can lie in; most programs
 * never have more than one such region. A list of interfaces may be longer than all else, and has regions of its own.
 *
 * Invariant: a place is in a list of free ones, or belongs to one operation in flight. What the daemon wrote is copied
 * out once, and the copy is checked.
 */

#include "client/c/lookup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/error.h"
#include "client/c/region.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "proto/address.h"
#include "proto/shm.h"

#define LOOKUP_ROOM (OVL_RESOLVE_ADDRESSES_MAX * sizeof(struct ovl_address)) /* bytes of an answer */
#define LOOKUP_BIG_ROOM (OVL_INTERFACES_MAX * sizeof(struct ovl_interface))
#define LOOKUP_QUESTION_SIZE 320u /* bytes of a question */
#define LOOKUP_PLACES 8u          /* of one arena; of a big one there is one */

_Static_assert(OVL_RESOLVE_NAME_MAX + 1 + OVL_SERVICE_NAME_MAX <= LOOKUP_QUESTION_SIZE, "a place holds a name");
_Static_assert(LOOKUP_ROOM % 8 == 0 && LOOKUP_BIG_ROOM % 8 == 0, "places and questions are aligned");

struct lookup_arena {
        struct list link;          /* in session->lookup_arenas */
        struct ovl_region *region; /* owned; in no list: no caller's buffer lies in it */
        size_t room;               /* of each place, before the question */
        struct lookup lookups[LOOKUP_PLACES];
};

/* Bytes of a row, as the daemon writes it and as the caller gets it. */
static const struct {
        size_t wire;
        size_t given;
} lookup_rows[] = {
        [LOOKUP_NOTHING] = { 1, 1 },
        [LOOKUP_ADDRESSES] = { sizeof(struct ovl_address), sizeof(struct sockaddr_storage) },
        [LOOKUP_INTERFACES] = { sizeof(struct ovl_interface), sizeof(struct ovl_interface_info) },
};

static struct lookup_arena *lookup_arena_free(struct lookup_arena *arena) {
        if (!arena)
                return NULL;
        region_free(arena->region);
        free(arena);
        return NULL;
}
DEFINE_CLEANUP(struct lookup_arena *, lookup_arena_free)

/* The list of free places of a size. */
static struct list *lookup_free_places(struct ovl_session *session, bool is_big) {
        return is_big ? &session->big_lookups : &session->lookups;
}

static int lookup_grow(struct ovl_thread *thread, const char *call, bool is_big) {
        _cleanup_(lookup_arena_free) struct lookup_arena *arena = calloc(1, sizeof(*arena));
        struct ovl_session *session = thread->session;
        size_t n = is_big ? 1 : LOOKUP_PLACES;
        size_t place_size;
        int r;

        if (!arena)
                return error_set(&thread->error, -ENOMEM, 0, "%s: no memory", call);
        list_init(&arena->link);
        arena->room = is_big ? LOOKUP_BIG_ROOM : LOOKUP_ROOM;
        place_size = arena->room + LOOKUP_QUESTION_SIZE;
        r = region_open(thread, n * place_size, call, &arena->region);
        if (r < 0)
                return r;
        session_lock(session);
        for (size_t i = 0; i < n; i++) {
                struct lookup *lookup = &arena->lookups[i];

                lookup->session = session;
                lookup->arena = arena;
                lookup->offset = i * place_size;
                lookup->place = arena->region->data + lookup->offset;
                list_push_back(lookup_free_places(session, is_big), &lookup->link);
        }
        list_push_back(&session->lookup_arenas, &arena->link);
        session_unlock(session);
        arena = NULL;
        return 0;
}

int lookup_take(struct ovl_thread *thread, const char *call, enum lookup_kind kind, size_t n_rows,
                struct lookup **ret_lookup) {
        bool is_big = n_rows * lookup_rows[kind].wire > LOOKUP_ROOM;
        struct lookup *lookup;
        struct list *link;
        int r;

        for (;;) {
                session_lock(thread->session);
                link = list_pop_front(lookup_free_places(thread->session, is_big));
                session_unlock(thread->session);
                if (link)
                        break;
                r = lookup_grow(thread, call, is_big);
                if (r < 0)
                        return r;
        }
        lookup = list_entry(link, struct lookup, link);
        lookup->kind = kind;
        lookup->n_rows = n_rows;
        *ret_lookup = lookup;
        return 0;
}

void lookup_prepare(struct lookup *lookup, const void *question, size_t len, void *rows, struct ovl_entry *entry) {
        uint32_t region = lookup->arena->region->number;

        lookup->rows = rows;
        lookup->question_len = len;
        if (lookup->n_rows > 0)
                entry->aux = (struct ovl_slice){
                        .offset = lookup->offset,
                        .len = (uint32_t) (lookup->n_rows * lookup_rows[lookup->kind].wire),
                        .region = region,
                };
        if (len == 0)
                return;
        memcpy(lookup->place + lookup->arena->room, question, len);
        entry->buffer = (struct ovl_slice){
                .offset = lookup->offset + lookup->arena->room,
                .len = (uint32_t) len,
                .region = region,
        };
}

void lookup_make_inline(struct lookup *lookup, struct ovl_entry *entry, struct ovl_buffer *ret_question) {
        *ret_question = (struct ovl_buffer){ lookup->place + lookup->arena->room, lookup->question_len };
        entry->buffer = (struct ovl_slice){ .len = (uint32_t) lookup->question_len };
        entry->aux = (struct ovl_slice){ .len = entry->aux.len };
}

void lookup_fill(struct lookup *lookup, const uint8_t *payload, uint64_t len) {
        memcpy(lookup->place, payload, len);
}

/* Copies a row out of shared memory, once. len: a multiple of 4. */
static void lookup_copy(const struct lookup *lookup, size_t at, void *to, size_t len) {
        uint64_t words[sizeof(struct ovl_interface) / sizeof(uint64_t) + 2];
        size_t before = at % sizeof(words[0]);

        shm_copy(words, lookup->place + at - before, (before + len + 7) / 8 * 8);
        memcpy(to, (const uint8_t *) words + before, len);
}

static int lookup_collect_address(struct lookup *lookup, size_t i) {
        struct sockaddr_storage *given = lookup->rows;
        struct ovl_address address;
        socklen_t len;

        lookup_copy(lookup, i * sizeof(address), &address, sizeof(address));
        return address_to_kernel(&address, &given[i], &len);
}

static int lookup_collect_interface(struct lookup *lookup, size_t i) {
        struct ovl_interface_info *given = lookup->rows;
        struct ovl_interface interface;
        socklen_t len;

        lookup_copy(lookup, i * sizeof(interface), &interface, sizeof(interface));
        if (memchr(interface.name, '\0', sizeof(interface.name)) == NULL)
                return -EPROTO;
        given[i] = (struct ovl_interface_info){
                .index = interface.index,
                .flags = interface.flags,
                .prefix_len = interface.prefix_len,
        };
        memcpy(given[i].name, interface.name, sizeof(interface.name));
        return address_to_kernel(&interface.address, &given[i].address, &len);
}

int lookup_collect(struct lookup *lookup, uint64_t bytes, uint64_t *ret_bytes) {
        size_t n = bytes / lookup_rows[lookup->kind].wire;
        int r;

        if (bytes % lookup_rows[lookup->kind].wire != 0 || n > lookup->n_rows)
                return -EPROTO;
        for (size_t i = 0; i < n; i++) {
                r = lookup->kind == LOOKUP_ADDRESSES ? lookup_collect_address(lookup, i)
                                                     : lookup_collect_interface(lookup, i);
                if (r < 0)
                        return -EPROTO;
        }
        *ret_bytes = n * lookup_rows[lookup->kind].given;
        return (int) n;
}

void lookup_release(struct lookup *lookup) {
        list_push_front(lookup_free_places(lookup->session, lookup->arena->room > LOOKUP_ROOM), &lookup->link);
}

void lookup_free_all(struct ovl_session *session) {
        struct list *link;

        while ((link = list_pop_front(&session->lookup_arenas)))
                lookup_arena_free(list_entry(link, struct lookup_arena, link));
}
