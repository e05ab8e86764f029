/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_SLOTS_H
#define BASE_SLOTS_H

/*
 * A table of objects that are named by numbers. A number is an index and a generation, so that a number whose object
 * is gone names nothing, also after its place was used again.
 */

#include <stddef.h>
#include <stdint.h>

struct slot {
        void *object; /* borrowed; NULL: the slot is free */
        uint32_t generation;
        uint32_t next_free;
};

struct slots {
        struct slot *all;
        uint32_t n_max;  /* objects that the table can hold */
        uint32_t n_high; /* slots below this were used at least once */
        uint32_t n_used;
        uint32_t first_free;
};

/*
 * n_max: objects that the table may ever hold at once. All memory is reserved here, and touched as it is used.
 *
 * Returns 0 or -ENOMEM.
 */
int slots_init(struct slots *slots, uint32_t n_max);
void slots_deinit(struct slots *slots);

/* Returns 0 and the object's number (never 0), or -ENFILE when n_max objects are there. Never allocates. */
int slots_add(struct slots *slots, void *object, uint64_t *ret_number);

/* Returns the object, or NULL when the number names none. */
void *slots_find(const struct slots *slots, uint64_t number);

/* Returns the object that was removed, or NULL when the number names none. */
void *slots_remove(struct slots *slots, uint64_t number);

/* Walks the table: returns the next object at or after *index and moves the index behind it; NULL at the end. */
void *slots_next(const struct slots *slots, uint32_t *index);

#endif
