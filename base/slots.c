/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A number is (generation << 32 | index + 1). Generations start at 1 and grow with each removal; free slots form a
 * last-in first-out chain through next_free. The table doubles as it grows and never shrinks: its owner is a session or
 * a worker, which ends.
 */

#include "base/slots.h"

#include <errno.h>
#include <stdlib.h>

#define SLOTS_NONE UINT32_MAX
#define SLOTS_AT_FIRST 16u

void slots_init(struct slots *slots, uint32_t n_max) {
        *slots = (struct slots){ .n_max = n_max, .first_free = SLOTS_NONE };
}

void slots_deinit(struct slots *slots) {
        free(slots->all);
        *slots = (struct slots){ .first_free = SLOTS_NONE };
}

static int slots_grow(struct slots *slots) {
        uint32_t n = slots->n_all ? slots->n_all * 2 : SLOTS_AT_FIRST;
        struct slot *all;

        if (slots->n_all >= slots->n_max)
                return -ENFILE;
        if (n > slots->n_max)
                n = slots->n_max;
        all = realloc(slots->all, n * sizeof(*all));
        if (!all)
                return -ENOMEM;
        for (uint32_t i = n; i-- > slots->n_all;) {
                all[i] = (struct slot){ .generation = 1, .next_free = slots->first_free };
                slots->first_free = i;
        }
        slots->all = all;
        slots->n_all = n;
        return 0;
}

int slots_add(struct slots *slots, void *object, uint64_t *ret_number) {
        struct slot *slot;
        uint32_t index;
        int r;

        if (slots->first_free == SLOTS_NONE) {
                r = slots_grow(slots);
                if (r < 0)
                        return r;
        }
        index = slots->first_free;
        slot = &slots->all[index];
        slots->first_free = slot->next_free;
        slot->object = object;
        slots->n_used++;
        *ret_number = ((uint64_t) slot->generation << 32) | (index + 1);
        return 0;
}

static struct slot *slots_at(const struct slots *slots, uint64_t number) {
        uint32_t index = (uint32_t) number - 1;

        if (index >= slots->n_all)
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
        while (*index < slots->n_all) {
                void *object = slots->all[(*index)++].object;

                if (object)
                        return object;
        }
        return NULL;
}
