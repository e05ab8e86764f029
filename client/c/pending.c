/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the library knows of an operation between its entry and its record. The table has as many places as the session
 * has credits and is allocated once, when the session opens; a free place is a credit.
 *
 * A tag is an index and a generation (base/slots.h). The daemon only returns it, but a daemon that lies can return
 * anything: an old tag, one that was never given, one twice. Each of these finds nothing here, and whoever asked ends
 * the session.
 *
 *   free -> in flight   ovl_recv() and its kin, before the entry is sent
 *   in flight -> free   the record, the loss of the daemon, or a post whose entry could not be sent
 *
 * Rejected: the pointer of the overlapped structure as the tag (the daemon could make the library write anywhere), and
 * a hash table (it would have to grow between a post and its entry).
 */

#include "client/c/pending.h"

#include <errno.h>
#include <stdlib.h>

int pending_init(struct pending_table *table, uint32_t n_max) {
        struct pending_table new_table = { 0 };
        int r;

        /* Untouched pages of a large table cost nothing: calloc() maps them. */
        new_table.all = calloc(n_max, sizeof(*new_table.all));
        if (!new_table.all)
                return -ENOMEM;
        r = slots_init(&new_table.slots, n_max);
        if (r < 0) {
                free(new_table.all);
                return r;
        }
        *table = new_table;
        return 0;
}

void pending_deinit(struct pending_table *table) {
        struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(table, &index)))
                free(pending->heir);
        slots_deinit(&table->slots);
        free(table->all);
        table->all = NULL;
}

static struct pending *pending_at(const struct pending_table *table, uint64_t tag) {
        return &table->all[(uint32_t) tag - 1];
}

struct pending *pending_add(struct pending_table *table) {
        struct pending *pending;
        uint64_t tag;
        int r;

        r = slots_add(&table->slots, table->all, &tag);
        if (r < 0)
                return NULL;
        pending = pending_at(table, tag);
        *pending = (struct pending){ .tag = tag };
        return pending;
}

struct pending *pending_find(const struct pending_table *table, uint64_t tag) {
        return slots_find(&table->slots, tag) ? pending_at(table, tag) : NULL;
}

void pending_stray(struct pending_table *table, struct pending *pending) {
        table->n_strays += !pending->is_stray;
        pending->is_stray = true;
}

void pending_remove(struct pending_table *table, struct pending *pending) {
        table->n_strays -= pending->is_stray;
        slots_remove(&table->slots, pending->tag);
        free(pending->heir);
        *pending = (struct pending){ 0 };
}

struct pending *pending_next(const struct pending_table *table, uint32_t *index) {
        while (*index < table->slots.n_high) {
                struct pending *pending = &table->all[(*index)++];

                if (pending->tag)
                        return pending;
        }
        return NULL;
}
