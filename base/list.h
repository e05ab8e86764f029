/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * An intrusive, circular, doubly linked list. A head and an element are the same type; an element that is in no list
 * points to itself, so that unlinking is always safe.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *next;
        struct list *previous;
};

#define list_entry(link, type, member) ((type *) ((char *) (link) -offsetof(type, member)))

static inline void list_init(struct list *list) {
        list->next = list;
        list->previous = list;
}

static inline bool list_is_empty(const struct list *list) {
        return list->next == list;
}

/* Whether an element is in a list. */
static inline bool list_is_linked(const struct list *link) {
        return link->next != link;
}

static inline void list_insert_before(struct list *where, struct list *link) {
        link->next = where;
        link->previous = where->previous;
        where->previous->next = link;
        where->previous = link;
}

static inline void list_push_back(struct list *list, struct list *link) {
        list_insert_before(list, link);
}

static inline void list_push_front(struct list *list, struct list *link) {
        list_insert_before(list->next, link);
}

static inline void list_unlink(struct list *link) {
        link->next->previous = link->previous;
        link->previous->next = link->next;
        list_init(link);
}

static inline struct list *list_first(const struct list *list) {
        return list_is_empty(list) ? NULL : list->next;
}

static inline struct list *list_pop_front(struct list *list) {
        struct list *link = list_first(list);

        if (link)
                list_unlink(link);
        return link;
}

/* Moves all elements of `from` to the end of `to`. */
static inline void list_splice_back(struct list *to, struct list *from) {
        if (list_is_empty(from))
                return;
        from->next->previous = to->previous;
        to->previous->next = from->next;
        from->previous->next = to;
        to->previous = from->previous;
        list_init(from);
}

#define list_for_each(element, head)                                                                                   \
        for (struct list *element = (head)->next; element != (head); element = element->next)

/* The element may be unlinked, others may not. */
#define list_for_each_safe(element, head)                                                                              \
        for (struct list *element = (head)->next, *element##_next = element->next; element != (head);                  \
             element = element##_next, element##_next = element->next)

#endif
