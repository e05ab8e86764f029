/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session lets others call into its threads in two steps: it registers the numbers of functions that may be called,
 * and it gives a handle of a thread to those that may call. A handle is 16 random bytes; to a session that neither
 * opened it nor was given it, it does not exist.
 *
 *   none -> open     ThreadHandleOpen
 *   open -> dead     the thread ended: holders are told, until the handle is closed
 *   open, dead -> none  ThreadHandleClose, or the session that opened it ended
 *
 * Invariants: a grant is in two lists, its handle's and its holder's, and leaves both when either goes; so nothing
 * points to what is gone. All that a session can make others keep is bounded by its own limits.
 *
 * Handles are found by a hash of their bytes, which no client chooses, and compared in constant time: how long a search
 * takes tells at most the bucket.
 *
 * Rejected: handles that are counted up and encrypted (a key to keep), and a list of holders in each session alone (a
 * session that is given many handles would be slow to search).
 */

#include "daemon/worker/apc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A session that may use a handle of another. */
struct apc_grant {
        struct list of_handle;
        struct list of_party;
        const struct apc_party *party; /* borrowed */
        struct apc_handle *handle;     /* borrowed */
};

static struct apc_grant *apc_grant_free(struct apc_grant *grant) {
        grant->handle->n_grants--;
        list_unlink(&grant->of_handle);
        list_unlink(&grant->of_party);
        free(grant);
        return NULL;
}

void apc_table_init(struct apc_table *table) {
        for (uint32_t i = 0; i < APC_BUCKETS; i++)
                list_init(&table->buckets[i]);
}

/* The bytes are random: any of them are a hash. */
static struct list *apc_bucket(struct apc_table *table, const uint8_t *bytes) {
        uint16_t hash;

        memcpy(&hash, bytes, sizeof(hash));
        return &table->buckets[hash % APC_BUCKETS];
}

void apc_party_init(struct apc_party *party) {
        *party = (struct apc_party){ 0 };
        list_init(&party->handles);
        list_init(&party->grants);
}

void apc_party_deinit(struct apc_party *party) {
        struct list *link;

        while ((link = list_first(&party->handles)))
                apc_close(list_entry(link, struct apc_handle, link));
        while ((link = list_first(&party->grants)))
                apc_grant_free(list_entry(link, struct apc_grant, of_party));
        free(party->functions);
        party->functions = NULL;
        party->n_functions = 0;
}

/* --- Handles ---------------------------------------------------------------------------------------------------- */

int apc_open(struct apc_table *table, struct apc_party *owner, struct thread *thread, struct apc_handle **ret_handle) {
        struct apc_handle *handle;

        if (owner->n_handles >= APC_HANDLES_MAX)
                return -EDQUOT;
        handle = calloc(1, sizeof(*handle));
        if (!handle)
                return -ENOMEM;
        if (getrandom(handle->bytes, sizeof(handle->bytes), 0) != sizeof(handle->bytes)) {
                free(handle);
                return -EIO;
        }
        handle->owner = owner;
        handle->thread = thread;
        list_init(&handle->grants);
        list_push_back(&owner->handles, &handle->link);
        list_push_back(apc_bucket(table, handle->bytes), &handle->bucket);
        owner->n_handles++;
        *ret_handle = handle;
        return 0;
}

struct apc_handle *apc_close(struct apc_handle *handle) {
        struct list *link;

        while ((link = list_first(&handle->grants)))
                apc_grant_free(list_entry(link, struct apc_grant, of_handle));
        list_unlink(&handle->link);
        list_unlink(&handle->bucket);
        handle->owner->n_handles--;
        free(handle);
        return NULL;
}

static bool apc_is_equal(const uint8_t *a, const uint8_t *b) {
        uint8_t difference = 0;

        for (size_t i = 0; i < APC_HANDLE_SIZE; i++)
                difference |= a[i] ^ b[i];
        return difference == 0;
}

static bool apc_is_given(const struct apc_handle *handle, const struct apc_party *party) {
        if (handle->owner == party)
                return true;
        list_for_each(link, &handle->grants)
                if (list_entry(link, struct apc_grant, of_handle)->party == party)
                        return true;
        return false;
}

struct apc_handle *apc_find(struct apc_table *table, const struct apc_party *party, const uint8_t *bytes, size_t len) {
        struct apc_handle *found = NULL;

        if (len != APC_HANDLE_SIZE)
                return NULL;
        list_for_each(link, apc_bucket(table, bytes)) {
                struct apc_handle *handle = list_entry(link, struct apc_handle, bucket);

                if (apc_is_equal(handle->bytes, bytes))
                        found = handle;
        }
        return found && apc_is_given(found, party) ? found : NULL;
}

int apc_give(struct apc_handle *handle, struct apc_party *party) {
        struct apc_grant *grant;

        if (apc_is_given(handle, party))
                return 0;
        if (handle->n_grants >= APC_GRANTS_MAX)
                return -EDQUOT;
        grant = malloc(sizeof(*grant));
        if (!grant)
                return -ENOMEM;
        *grant = (struct apc_grant){ .party = party, .handle = handle };
        list_push_back(&handle->grants, &grant->of_handle);
        list_push_back(&party->grants, &grant->of_party);
        handle->n_grants++;
        return 0;
}

void apc_forget_thread(struct apc_party *party, const struct thread *thread) {
        list_for_each(link, &party->handles) {
                struct apc_handle *handle = list_entry(link, struct apc_handle, link);

                if (handle->thread == thread)
                        handle->thread = NULL;
        }
}

/* --- Functions -------------------------------------------------------------------------------------------------- */

/* Where a number is, or where it would stand. */
static uint32_t apc_find_place(const struct apc_party *party, uint64_t function) {
        uint32_t low = 0, high = party->n_functions;

        while (low < high) {
                uint32_t middle = low + (high - low) / 2;

                if (party->functions[middle] < function)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

bool apc_has_function(const struct apc_party *party, uint64_t function) {
        uint32_t place = apc_find_place(party, function);

        return place < party->n_functions && party->functions[place] == function;
}

int apc_register(struct apc_party *party, uint64_t function) {
        uint32_t place = apc_find_place(party, function);

        if (apc_has_function(party, function))
                return 0;
        if (party->n_functions == APC_FUNCTIONS_MAX)
                return -EDQUOT;
        if (!party->functions)
                party->functions = calloc(APC_FUNCTIONS_MAX, sizeof(*party->functions));
        if (!party->functions)
                return -ENOMEM;
        memmove(&party->functions[place + 1], &party->functions[place],
                (party->n_functions - place) * sizeof(*party->functions));
        party->functions[place] = function;
        party->n_functions++;
        return 0;
}

int apc_unregister(struct apc_party *party, uint64_t function) {
        uint32_t place = apc_find_place(party, function);

        if (!apc_has_function(party, function))
                return -ENOENT;
        party->n_functions--;
        memmove(&party->functions[place], &party->functions[place + 1],
                (party->n_functions - place) * sizeof(*party->functions));
        return 0;
}
