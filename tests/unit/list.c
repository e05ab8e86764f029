/* SPDX-License-Identifier: Apache-2.0 */

/* Lists keep the order in which elements were put in, and unlinking is always safe. */

#include "base/list.h"

#include <string.h>

#include "tests/harness/harness.h"

struct letter {
        char name;
        struct list link;
};

/* Compares the elements of a list, both ways round, with a text. */
static void assert_spells(const struct list *list, const char *text) {
        const struct list *link = list;
        size_t len = strlen(text);

        for (size_t i = 0; i < len; i++) {
                link = link->next;
                assert_ptr_not_equal(link, list);
                assert_int_equal(list_entry(link, struct letter, link)->name, text[i]);
        }
        assert_ptr_equal(link->next, list);
        for (size_t i = len; i-- > 0; link = link->previous)
                assert_int_equal(list_entry(link, struct letter, link)->name, text[i]);
        assert_ptr_equal(link, list);
        assert_int_equal(list_is_empty(list), len == 0);
}

static void list_make(struct list *list, struct letter *letters, const char *text) {
        list_init(list);
        for (size_t i = 0; text[i]; i++) {
                letters[i].name = text[i];
                list_init(&letters[i].link);
                list_push_back(list, &letters[i].link);
        }
}

static void list_keeps_order(void **state) {
        struct letter letters[3], first = { .name = 'x' };
        struct list list;

        list_make(&list, letters, "abc");
        assert_spells(&list, "abc");
        list_push_front(&list, &first.link);
        assert_spells(&list, "xabc");
        assert_ptr_equal(list_pop_front(&list), &first.link);
        assert_spells(&list, "abc");
}

static void list_empty_is_empty(void **state) {
        struct list list;

        list_init(&list);
        assert_spells(&list, "");
        assert_null(list_first(&list));
        assert_null(list_pop_front(&list));
}

static void list_unlink_is_always_safe(void **state) {
        struct letter letters[3];
        struct list list;

        list_make(&list, letters, "abc");
        list_unlink(&letters[1].link);
        assert_spells(&list, "ac");
        assert_false(list_is_linked(&letters[1].link));
        list_unlink(&letters[1].link);
        assert_spells(&list, "ac");
        list_unlink(&letters[0].link);
        list_unlink(&letters[2].link);
        assert_spells(&list, "");
}

static void list_insert_in_the_middle(void **state) {
        struct letter letters[2], middle = { .name = 'x' };
        struct list list;

        list_make(&list, letters, "ab");
        list_insert_before(&letters[1].link, &middle.link);
        assert_spells(&list, "axb");
}

static void list_splice_moves_all(void **state) {
        struct letter left[2], right[2];
        struct list a, b;

        list_make(&a, left, "ab");
        list_make(&b, right, "cd");
        list_splice_back(&a, &b);
        assert_spells(&a, "abcd");
        assert_spells(&b, "");
        list_splice_back(&a, &b);
        assert_spells(&a, "abcd");
        list_splice_back(&b, &a);
        assert_spells(&b, "abcd");
        assert_spells(&a, "");
}

static void list_walk_may_unlink(void **state) {
        struct letter letters[4];
        struct list list;
        size_t n = 0;

        list_make(&list, letters, "abcd");
        list_for_each(link, &list)
                n++;
        assert_int_equal(n, 4);
        list_for_each_safe(link, &list) {
                if (list_entry(link, struct letter, link)->name % 2 == 0)
                        list_unlink(link);
        }
        assert_spells(&list, "ac");
        list_for_each_safe(link, &list)
                list_unlink(link);
        assert_spells(&list, "");
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "keeps-order", list_keeps_order },
                { "empty-is-empty", list_empty_is_empty },
                { "unlink-is-always-safe", list_unlink_is_always_safe },
                { "insert-in-the-middle", list_insert_in_the_middle },
                { "splice-moves-all", list_splice_moves_all },
                { "walk-may-unlink", list_walk_may_unlink },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
