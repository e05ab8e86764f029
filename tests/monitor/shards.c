/* SPDX-License-Identifier: Apache-2.0 */

/* Connections are counted against users, shards keep their worker, and everything goes with the last channel. */

#include "daemon/monitor/shards.h"

#include <errno.h>
#include <string.h>

#include "tests/harness/harness.h"

static struct shards_channel *shards_expect(struct shards *shards, uid_t uid, const char *unit, unsigned worker) {
        struct shards_channel *channel = NULL;

        assert_ok(shards_add(shards, uid, unit, 42, worker, &channel));
        assert_ptr_equal(shards_channel(shards, channel->shard->worker, channel->number), channel);
        return channel;
}

static void shards_expect_empty(struct shards *shards) {
        assert_true(list_is_empty(&shards->users));
        assert_true(list_is_empty(&shards->all));
        assert_int_equal(shards->n_unopened, 0);
        shards_deinit(shards);
}

static void shards_same_user_and_unit_share(void **state) {
        struct shards_channel *a, *b, *c, *d;
        struct shards shards;

        assert_ok(shards_init(&shards));
        a = shards_expect(&shards, 1000, "a.service", 3);
        b = shards_expect(&shards, 1000, "a.service", 5);
        c = shards_expect(&shards, 1000, NULL, 6);
        d = shards_expect(&shards, 1001, "a.service", 7);
        assert_ptr_equal(a->shard, b->shard);
        assert_int_equal(b->shard->worker, 3);
        assert_ptr_not_equal(a->shard, c->shard);
        assert_ptr_not_equal(a->shard, d->shard);
        assert_ptr_equal(a->user, c->user);
        assert_int_equal(shards_count(&shards, 3), 2);
        assert_null(shards_channel(&shards, 5, b->number));
        shards_remove(&shards, a);
        assert_ptr_equal(shards_find(&shards, 1000, "a.service"), b->shard);
        shards_remove(&shards, b);
        assert_null(shards_find(&shards, 1000, "a.service"));
        shards_remove(&shards, c);
        shards_remove(&shards, d);
        shards_expect_empty(&shards);
}

static void shards_limit_unopened(void **state) {
        struct shards_channel *channels[SHARDS_UNOPENED_MAX];
        struct shards shards;
        const char *text;

        assert_ok(shards_init(&shards));
        for (unsigned i = 0; i < SHARDS_UNOPENED_PER_USER; i++) {
                assert_ok(shards_admit(&shards, 1000, &text));
                channels[i] = shards_expect(&shards, 1000, NULL, 0);
        }
        assert_int_equal(shards_admit(&shards, 1000, &text), -EBUSY);
        assert_non_null(strstr(text, "8 connections"));
        assert_ok(shards_admit(&shards, 1001, &text));
        assert_ok(shards_open(&shards, channels[0], 7));
        assert_int_equal(shards_open(&shards, channels[0], 7), -EALREADY);
        assert_ok(shards_admit(&shards, 1000, &text));
        for (unsigned i = SHARDS_UNOPENED_PER_USER; i < SHARDS_UNOPENED_MAX; i++)
                channels[i] = shards_expect(&shards, 0, NULL, 0);
        assert_ok(shards_admit(&shards, 0, &text));
        shards_expect(&shards, 0, NULL, 0);
        assert_int_equal(shards_admit(&shards, 0, &text), -EBUSY);
        assert_non_null(strstr(text, "32 connections"));
        assert_int_equal(shards_remove_worker(&shards, 0), SHARDS_UNOPENED_MAX + 1);
        shards_expect_empty(&shards);
}

static void shards_count_sessions(void **state) {
        struct shards_channel *channels[3], *further;
        struct shards shards;

        assert_ok(shards_init(&shards));
        for (unsigned i = 0; i < 3; i++) {
                channels[i] = shards_expect(&shards, 1000, NULL, 0);
                assert_ok(shards_open(&shards, channels[i], i + 1));
        }
        further = shards_expect(&shards, 1000, NULL, 0);
        assert_ok(shards_open(&shards, further, 1));
        assert_int_equal(further->user->n_sessions, 3);
        assert_ptr_equal(shards_session(&shards, 0, 1), further->session);
        assert_null(shards_session(&shards, 1, 1));
        shards_remove(&shards, channels[0]);
        assert_int_equal(further->user->n_sessions, 3);
        shards_remove(&shards, further);
        assert_null(shards_session(&shards, 0, 1));
        assert_int_equal(channels[1]->user->n_sessions, 2);
        assert_int_equal(shards_remove_worker(&shards, 0), 2);
        shards_expect_empty(&shards);
}

/* By which all of a user come to one worker, and a worker can speak of its own only. */
static void shards_find_users_and_numbers(void **state) {
        struct shards_channel *a, *b;
        struct shards shards;

        assert_ok(shards_init(&shards));
        assert_null(shards_find_of_user(&shards, 1000));
        a = shards_expect(&shards, 1000, "a.service", 3);
        b = shards_expect(&shards, 1001, "a.service", 4);
        assert_ptr_equal(shards_find_of_user(&shards, 1000), a->shard);
        assert_ptr_equal(shards_find_of_user(&shards, 1001), b->shard);
        assert_ptr_equal(shards_number(&shards, 3, a->shard->number), a->shard);
        assert_null(shards_number(&shards, 4, a->shard->number));
        assert_null(shards_number(&shards, 3, 77));
        shards_remove(&shards, a);
        assert_null(shards_find_of_user(&shards, 1000));
        shards_remove(&shards, b);
        shards_expect_empty(&shards);
}

static void shards_go_with_their_worker(void **state) {
        struct shards shards;
        struct shards_channel *stays;
        uint64_t gone;

        assert_ok(shards_init(&shards));
        gone = shards_expect(&shards, 1000, "a.service", 0)->number;
        stays = shards_expect(&shards, 1000, "b.service", 1);
        assert_int_equal(shards_remove_worker(&shards, 0), 1);
        assert_null(shards_channel(&shards, 0, gone));
        assert_ptr_equal(shards_channel(&shards, 1, stays->number), stays);
        shards_deinit(&shards);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "the same user and unit share a shard and its worker", shards_same_user_and_unit_share },
                { "connections that did not open are limited", shards_limit_unopened },
                { "sessions of a user are counted", shards_count_sessions },
                { "users and numbers are found", shards_find_users_and_numbers },
                { "channels go with their worker", shards_go_with_their_worker },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
