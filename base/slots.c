/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A number is (generation << 32 | index + 1). Generations start at 1 and grow with each removal; free slots form a
 * last-in first-out chain through next_free. The table is one anonymous mapping of its full size, so that adding never
 * allocates and an empty table costs no memory: growing with realloc() was rejected, because the accept of a connection
 * would then allocate between an entry and its record.
 */

#include "base/slots.h"

#include <errno.h>
#include <sys/mman.h>

#define SLOTS_NONE UINT32_MAX

int slots_init(struct slots *slots, uint32_t n_max) {
        void *all = mmap(NULL, n_max * sizeof(struct slot), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (all == MAP_FAILED)
                return -ENOMEM;
        *slots = (struct slots){ .all = all, .n_max = n_max, .first_free = SLOTS_NONE };
        return 0;
}

void slots_deinit(struct slots *slots) {
        if (slots->all)
                munmap(slots->all, slots->n_max * sizeof(struct slot));
        *slots = (struct slots){ .first_free = SLOTS_NONE };
}

int slots_add(struct slots *slots, void *object, uint64_t *ret_number) {
        struct slot *slot;
        uint32_t index;

        if (slots->first_free != SLOTS_NONE) {
                index = slots->first_free;
                slot = &slots->all[index];
                slots->first_free = slot->next_free;
        } else {
                if (slots->n_high >= slots->n_max)
                        return -ENFILE;
                index = slots->n_high++;
                slot = &slots->all[index];
                slot->generation = 1;
        }
        slot->object = object;
        slots->n_used++;
        *ret_number = ((uint64_t) slot->generation << 32) | (index + 1);
        return 0;
}

static struct slot *slots_at(const struct slots *slots, uint64_t number) {
        uint32_t index = (uint32_t) number - 1;

        if (index >= slots->n_high)
                return NULL;
        if (!slots->all[index].object || slots->all[index].generation != number >> 32)
                return NULL;
        return &slots->all[index];
}

void *slots_find(const struct slots *slots, uint64_t number) {
        struct slot *slot = slots_at(slots, number);

        return slot ? slot->object : NULL;
}

void *slots_remove(struct slots *slots, uint64_t number) {
        struct slot *slot = slots_at(slots, number);
        void *object;

        if (!slot)
                return NULL;
        object = slot->object;
        slot->object = NULL;
        slot->generation++;
        slot->next_free = slots->first_free;
        slots->first_free = (uint32_t) (slot - slots->all);
        slots->n_used--;
        return object;
}

void *slots_next(const struct slots *slots, uint32_t *index) {
        while (*index < slots->n_high) {
                void *object = slots->all[(*index)++].object;

                if (object)
                        return object;
        }
        return NULL;
}
